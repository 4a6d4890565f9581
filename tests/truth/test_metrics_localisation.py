"""Localisation: closed forms, chance, ties, margins, every kind of unit, and what has no score."""

import itertools

import pytest
import torch

import harness
from harness.errors import NotApplicable, UserError
from harness.metrics._masks import filled, grown
from harness.registry import METRICS
from metric_worlds import SHAPES, Constant, scores

pytestmark = pytest.mark.usefixtures("seed")

FAMILY = ("pointing_game", "relevance_mass", "relevance_rank", "top_k_intersection", "localization_auc")
BY_ORDER = [name for name in FAMILY if name != "relevance_mass"]
UNITS = {"grey": (6, 5), "colour": (6, 5), "table": (7,), "tokens": (5,)}
CHANNEL = {"grey": 1, "colour": 1, "tokens": 2}


def masks_of(shape, count=3):
    """Random masks, none of them empty or full."""
    masks = torch.rand(count, *shape) < 0.4
    masks.flatten(1)[:, 0], masks.flatten(1)[:, -1] = True, False
    return masks


def localised(name, attributions, masks, **options):
    """Scores of maps over (N, H, W) or (N, D)."""
    maps = attributions[:, None] if attributions.dim() == 3 else attributions
    options = {"margin": 0.0, **options} if name == "pointing_game" else options
    return scores(name, Constant(), torch.randn_like(maps), maps, masks=masks, options=options)


def test_every_metric_here_is_of_the_kind_localisation_and_higher_is_better():
    for name in FAMILY:
        assert METRICS[name].kind == "localisation" and METRICS[name].direction({}) == "higher"


@pytest.mark.parametrize("name", FAMILY)
def test_the_mask_itself_has_the_full_score_and_its_opposite_has_none(name):
    masks = masks_of((6, 5))
    options = {"top_share": 1 / 30} if name == "top_k_intersection" else {}
    assert localised(name, masks.float(), masks, **options).values.tolist() == [1, 1, 1]
    found = localised(name, 1 - masks.float(), masks, **options).values
    # Off the object lie fewer or more units than on it: the rank must fill up with some that are on it.
    least = (2 * masks.flatten(1).sum(1) - 30).clamp(min=0) / masks.flatten(1).sum(1).double()
    torch.testing.assert_close(found, least if name == "relevance_rank" else torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("name", FAMILY)
def test_a_constant_map_scores_what_chance_does(name):
    masks = masks_of((6, 5))
    found = localised(name, torch.full((3, 6, 5), 0.7), masks)
    covered = masks.flatten(1).double().mean(1)
    chance = torch.full_like(covered, 0.5) if name == "localization_auc" else covered
    torch.testing.assert_close(found.values, chance, rtol=1e-12, atol=1e-12)
    if found.tied is not None:
        assert found.tied.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["pointing_game", "relevance_rank", "top_k_intersection", "localization_auc"])
def test_maps_drawn_at_random_score_chance_on_average(name):
    masks = masks_of((6, 5), 1).expand(4000, 6, 5)
    values = localised(name, torch.randn(4000, 6, 5), masks, **({"top_share": 0.2} if "top" in name else {})).values
    chance = 0.5 if name == "localization_auc" else masks[0].double().mean().item()
    assert abs(values.mean().item() - chance) < 5 * values.std().item() / 4000**0.5


def test_the_mass_on_the_object_is_a_share_of_the_positive_part_or_of_all_sizes():
    maps, masks = torch.randn(3, 6, 5), masks_of((6, 5))
    for sign, part in (("pos", maps.double().clamp(min=0)), ("abs", maps.double().abs())):
        expected = torch.stack([values[mask].sum() / values.sum() for values, mask in zip(part, masks, strict=True)])
        found = localised("relevance_mass", maps, masks, sign=sign).values
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
        assert ((found >= 0) & (found <= 1)).all()
    assert torch.equal(
        localised("relevance_mass", maps, masks).values, localised("relevance_mass", maps, masks, sign="pos").values
    )
    assert localised("relevance_mass", -maps.abs(), masks, sign="abs").values.isfinite().all()


def test_rank_and_intersection_count_the_highest_units_on_the_object():
    maps, masks = torch.randn(3, 6, 5), masks_of((6, 5))
    for i in range(3):
        order = sorted(range(30), key=lambda unit: -maps[i].flatten()[unit])
        on, area = masks[i].flatten(), int(masks[i].sum())
        hits = lambda count: sum(bool(on[unit]) for unit in order[:count]) / count  # noqa: B023
        assert localised("relevance_rank", maps, masks).values[i].item() == pytest.approx(hits(area), abs=1e-12)
        for share, k in ((0.01, 1), (0.1, 3), (0.25, 8), (0.5, 15), (1.0, 30)):
            found = localised("top_k_intersection", maps, masks, top_share=share).values[i].item()
            assert found == pytest.approx(hits(k), abs=1e-12)
        assert localised("pointing_game", maps, masks).values[i].item() == on[order[0]]


def test_no_map_puts_more_units_on_an_object_than_it_has():
    masks = torch.zeros(1, 6, 5, dtype=torch.bool)
    masks[0, 2, 1:4] = True
    assert localised("top_k_intersection", masks.float(), masks, top_share=0.5).values.item() == pytest.approx(3 / 15)
    assert localised("relevance_rank", masks.float(), masks).values.item() == 1


@pytest.mark.parametrize("name", BY_ORDER)
def test_ties_score_the_mean_over_every_order_of_the_equal_units(name):
    maps, masks = torch.randint(0, 3, (2, 7)).float(), masks_of((7,), 2)
    found = localised(name, maps, masks, **({"top_share": 0.45} if name == "top_k_intersection" else {}))
    lots = torch.tensor(list(itertools.permutations(range(7))))
    for i in range(2):
        strict = maps[i] + 0.01 * lots  # every order of the equal ones, equally often
        every = localised(
            name, strict, masks[i].expand(len(lots), 7), **({"top_share": 0.45} if name == "top_k_intersection" else {})
        )
        assert found.values[i].item() == pytest.approx(every.values.mean().item(), abs=1e-12)
        assert not every.tied.any()


def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order():
    maps, masks = torch.randint(-2, 3, (3, 6, 5)).float(), masks_of((6, 5))
    found = localised("localization_auc", maps, masks).values
    for i in range(3):
        on, off = maps[i][masks[i]], maps[i][~masks[i]]
        won = (on[:, None] > off).double() + 0.5 * (on[:, None] == off)
        assert found[i].item() == pytest.approx(won.mean().item(), abs=1e-12)


@pytest.mark.parametrize("name", BY_ORDER)
def test_only_the_order_of_the_attributions_counts(name):
    maps, masks = torch.rand(3, 30).argsort(1).view(3, 6, 5) / 4 - 3, masks_of((6, 5))
    reference = localised(name, maps, masks).values
    for changed in (4 * maps, maps.exp(), 8 * maps + 2, maps**3):
        assert torch.equal(localised(name, changed, masks).values, reference)


def test_mass_does_not_depend_on_the_scale():
    maps, masks = torch.randn(3, 6, 5), masks_of((6, 5))
    reference = localised("relevance_mass", maps, masks).values
    torch.testing.assert_close(localised("relevance_mass", 1e-20 * maps, masks).values, reference, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", FAMILY)
def test_units_of_every_kind_are_scored_as_their_channels_sum(name, kind):
    maps, masks = torch.randn(3, *SHAPES[kind]), masks_of(UNITS[kind])
    summed = maps.sum(CHANNEL[kind]) if kind in CHANNEL else maps
    options = {"margin": 0.0} if name == "pointing_game" else {}
    found = scores(name, Constant(), torch.randn_like(maps), maps, masks=masks, options=options).values
    flat = localised(name, summed.flatten(1), masks.flatten(1)).values
    torch.testing.assert_close(found, flat, rtol=1e-6, atol=1e-9, equal_nan=True)  # a few tokens may all be negative


@pytest.mark.parametrize("name", FAMILY)
def test_masks_of_pixels_hold_for_every_channel_where_each_number_is_a_unit(name):
    inputs, maps, pixels = torch.randn(3, 3, 6, 5), torch.randn(3, 3, 6, 5), masks_of((6, 5))
    frame = harness.evaluate(
        Constant().eval(),
        inputs,
        torch.zeros(3, dtype=torch.long),
        masks=pixels,
        reduction="none",
        explainers={"mine": {"name": lambda model, x, targets: maps[: len(x)]}},
        metrics={name: {"margin": 0.0} if name == "pointing_game" else {}},
    )
    assert (frame.status == "ok").all(), frame.error.unique()
    expected = localised(name, maps.flatten(1), pixels[:, None].expand_as(maps).flatten(1)).values
    torch.testing.assert_close(
        torch.tensor(frame.value.tolist(), dtype=torch.float64), expected, rtol=1e-6, atol=1e-9, equal_nan=True
    )


def near(mask, reach):
    """By the definition: every unit whose distance to a masked one is less than the reach."""
    places = torch.cartesian_prod(*[torch.arange(length) for length in mask.shape]).view(-1, mask.dim()).double()
    marked = places[mask.flatten()]
    return (torch.cdist(places, marked) < reach - 1e-9).any(1).view(mask.shape) | mask


@pytest.mark.parametrize("shape", [(9, 7), (4, 11), (1, 6), (12,), (1,)], ids=str)
@pytest.mark.parametrize("reach", [0.5, 1.0, 1.01, 2**0.5, 2.5, 3.0, 5.0, 40.0])
def test_a_margin_is_all_that_is_less_than_its_reach_away(shape, reach):
    masks = torch.rand(4, *shape) < 0.15
    masks[0] = False
    for mask, found in zip(masks, grown(masks, reach), strict=True):
        expected = near(mask, reach) if mask.any() else mask
        assert torch.equal(found, expected)


def test_the_published_margin_of_15_pixels_is_that_of_an_image_of_224():
    masks = torch.zeros(4, 224, 230, dtype=torch.bool)
    masks[:, 100, 100] = True
    maps = torch.zeros(4, 224, 230)
    for row, (down, right) in enumerate([(0, 14), (0, 15), (9, 12), (10, 11)]):  # distances 14, 15, 15, 14.87
        maps[row, 100 + down, 100 + right] = 1
    assert localised("pointing_game", maps, masks, margin=15.0).values.tolist() == [1, 0, 0, 1]
    default = scores("pointing_game", Constant(), torch.randn(4, 1, 224, 230), maps[:, None], masks=masks)
    assert default.values.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("shape", [(28, 35), (40,)], ids=str)
def test_the_margin_scales_with_the_shorter_side(shape):
    masks = torch.zeros(1, *shape, dtype=torch.bool)
    masks.flatten(1)[:, 17] = True
    place = torch.arange(torch.Size(shape).numel())
    maps = torch.eye(len(place)).view(-1, *shape)
    inputs = maps[:, None] if len(shape) == 2 else maps[:, :, None].expand(-1, -1, 2)  # an image, or tokens
    found = scores(
        "pointing_game",
        Constant(),
        torch.randn(inputs.shape),
        inputs,
        masks=masks.expand(len(place), *shape),
        options={"margin": 30.0},
    )
    expected = near(masks[0], 30.0 * min(shape) / 224)
    assert torch.equal(found.values.bool().view(shape), expected)
    assert 1 < expected.sum() < len(place)


def test_a_random_point_hits_as_often_as_the_grown_mask_is_large():
    masks, point = masks_of((16, 16), 1) & (torch.rand(1, 16, 16) < 0.2), torch.eye(256).view(256, 16, 16)
    masks[0, 3, 4] = True
    values = localised("pointing_game", point, masks.expand(256, 16, 16), margin=21.0).values
    assert values.mean().item() == pytest.approx(near(masks[0], 1.5).double().mean().item())


@pytest.mark.parametrize("name", FAMILY)
def test_an_empty_mask_leaves_nothing_to_find_and_the_other_samples_keep_their_scores(name):
    maps, masks = torch.randn(3, 6, 5), masks_of((6, 5))
    reference = localised(name, maps, masks).values
    masks[1] = False
    found = localised(name, maps, masks)
    assert found.values.isnan().tolist() == [False, True, False] and "mask is empty" in found.reason
    assert torch.equal(found.values[[0, 2]], reference[[0, 2]])


def test_a_full_mask_has_nothing_to_detect_and_holds_everything_else():
    maps, full = torch.randn(3, 6, 5), torch.ones(3, 6, 5, dtype=torch.bool)
    found = localised("localization_auc", maps, full)
    assert found.values.isnan().all() and "full" in found.reason
    for name in FAMILY[:-1]:
        torch.testing.assert_close(localised(name, maps, full).values, torch.ones(3, dtype=torch.float64))


def test_a_map_without_positive_parts_has_no_mass():
    maps, masks = torch.randn(3, 6, 5), masks_of((6, 5))
    maps[0], maps[2] = -maps[0].abs(), 0
    found = localised("relevance_mass", maps, masks)
    assert found.values.isnan().tolist() == [True, False, True] and "no attribution is positive" in found.reason
    by_size = localised("relevance_mass", maps, masks, sign="abs")
    assert by_size.values.isnan().tolist() == [False, False, True] and "0 throughout" in by_size.reason


@pytest.mark.parametrize("name", FAMILY)
def test_without_masks_nothing_can_be_localised(name):
    with pytest.raises(NotApplicable, match="masks"):
        localised(name, torch.randn(3, 6, 5), None)


def test_columns_of_a_table_and_channels_have_no_distance():
    maps, masks = torch.randn(3, 7), masks_of((7,))
    with pytest.raises(NotApplicable, match="margin=0"):
        localised("pointing_game", maps, masks, margin=15.0)
    with pytest.raises(NotApplicable, match="margin=0"):
        scores(
            "pointing_game",
            Constant(),
            torch.randn(3, 2, 6, 5),
            torch.randn(3, 2, 6, 5),
            reduction="none",
            masks=torch.ones(3, 2, 6, 5),
        )
    assert localised("pointing_game", maps, masks, margin=0.0).values.isfinite().all()


def test_options_that_mean_nothing_are_refused():
    maps, masks = torch.randn(3, 6, 5), masks_of((6, 5))
    for name, wrong in (
        ("pointing_game", {"margin": -1.0}),
        ("pointing_game", {"margin": float("nan")}),
        ("relevance_mass", {"sign": "neg"}),
        ("top_k_intersection", {"top_share": 0.0}),
        ("top_k_intersection", {"top_share": 1.5}),
    ):
        with pytest.raises(UserError, match="expected|available"):
            localised(name, maps, masks, **wrong)


@pytest.mark.parametrize("name", FAMILY)
def test_a_sample_is_localised_alone_as_in_company_and_nothing_is_changed(name):
    maps, masks, inputs = torch.randint(-3, 4, (5, 1, 12, 9)).float(), masks_of((12, 9), 5), torch.randn(5, 1, 12, 9)
    before = maps.clone(), masks.clone()
    options = {"margin": 40.0} if name == "pointing_game" else {}
    whole = scores(name, Constant(), inputs, maps, masks=masks, options=options)
    for rows in ([3], [4, 0, 2], [1, 1]):
        part = scores(name, Constant(), inputs[rows], maps[rows], masks=masks[rows], options=options)
        assert torch.equal(part.values, whole.values[rows])
        assert whole.tied is None or torch.equal(part.tied, whole.tied[rows])
    assert torch.equal(maps, before[0]) and torch.equal(masks, before[1])


@pytest.mark.parametrize("name", FAMILY)
def test_a_map_that_points_at_the_object_beats_a_random_one_and_that_beats_one_that_points_away(name):
    masks = torch.zeros(40, 8, 8, dtype=torch.bool)
    for mask in masks:
        top, left = torch.randint(0, 5, (2,)).tolist()
        mask[top : top + 4, left : left + 4] = True
    noise = torch.randn(40, 8, 8)
    good, random, bad = (
        localised(name, maps, masks, **({"top_share": 0.2} if "top" in name else {})).values.mean()
        for maps in (noise + 3 * masks, noise, noise - 3 * masks)
    )
    assert good > random > bad


def test_boxes_fill_the_units_that_they_touch():
    masks = filled([[(1, 2, 4, 3)], [], [(0, 0, 1, 1), (3.5, 2.2, 99, 3.1)]], (5, 6))
    expected = torch.zeros(3, 5, 6, dtype=torch.bool)
    expected[0, 2:3, 1:4] = True
    expected[2, 0, 0] = True
    expected[2, 2:4, 3:6] = True
    assert torch.equal(masks, expected)
    assert filled([[(2, 4)], [(-3, 1)]], (5,)).tolist() == [
        [False, False, True, True, False],
        [True, False, False, False, False],
    ]


@pytest.mark.parametrize("box", [(1, 2, 3), (4, 1, 4, 3), (1, 3, 2, 2), (1, 2, 3, 4, 5, 6)], ids=str)
def test_a_box_without_extent_or_of_another_length_is_refused(box):
    with pytest.raises(UserError, match="left, top, right, bottom"):
        filled([[box]], (5, 6))


def test_the_masks_of_a_data_set_reach_the_metric_through_the_front_door():
    inputs, maps, masks = torch.randn(3, 1, 6, 5), torch.randn(3, 1, 6, 5), masks_of((6, 5))
    targets = torch.zeros(3, dtype=torch.long)
    found = harness.score("relevance_rank", Constant().eval(), inputs, targets, maps, masks=masks)
    assert torch.equal(found, localised("relevance_rank", maps[:, 0], masks).values)


def test_tied_is_the_share_of_the_highest_places_that_equal_units_compete_for():
    maps, masks = (
        torch.tensor([[5.0, 3, 3, 3, 1, 0, 0]]),
        torch.tensor([[True, True, True, False, False, False, False]]),
    )
    assert localised("pointing_game", maps, masks).tied.tolist() == [0]
    assert localised("relevance_rank", maps, masks).tied.tolist() == pytest.approx([2 / 3])
    assert localised("top_k_intersection", maps, masks, top_share=4 / 7).tied.tolist() == [0]
    assert localised("top_k_intersection", maps, masks, top_share=6 / 7).tied.tolist() == pytest.approx([1 / 6])
    assert localised("localization_auc", maps, masks).tied.tolist() == pytest.approx([5 / 7])
