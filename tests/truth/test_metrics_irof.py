"""IROF on functions whose areas can be written down, and its relation to deletion."""

import pytest
import torch

from harness.api import make_batch
from harness.errors import NotApplicable
from metric_worlds import Additive, Constant, Interacting, draw, generator, on, samples, scores

pytestmark = pytest.mark.usefixtures("seed")


def blocks(height, width, side):
    """Labels of blocks of ``side`` pixels a side."""
    return (torch.arange(height) // side)[:, None] * -(-width // side) + torch.arange(width) // side


def positive(seed, shape=(1, 6, 6)):
    """An additive model with positive outputs, inputs, contributions against zero."""
    model, inputs = Additive(shape, g=torch.abs, generator=generator(seed)), draw(shape, seed + 1)
    model.w.data.abs_()
    return model, inputs, model.contributions(inputs, torch.zeros_like(inputs))


GIVEN = {"segments": "given", "baseline": "zero", "score": "logit"}


def test_the_area_over_an_additive_functions_curve_follows_from_its_contributions(seed):
    model, inputs, parts = positive(seed)
    labels, maps = blocks(6, 6, 2), draw((1, 6, 6), seed + 2)
    found = scores("irof", model, inputs, maps, options=GIVEN, segments=labels.expand(3, 6, 6))
    sums = torch.stack([parts[:, 0, labels == k].sum(1) for k in range(9)], 1).double()
    means = torch.stack([maps[:, 0, labels == k].mean(1) for k in range(9)], 1)
    order, whole = means.argsort(1, descending=True), model(inputs)[:, :1].detach().double()
    heights = torch.cat([whole, whole - sums.gather(1, order).cumsum(1)], 1)
    expected = 1 - torch.trapezoid(heights / whole, dx=1 / 9, dim=1)
    torch.testing.assert_close(found.values, expected, atol=1e-5, rtol=1e-5)
    plain = scores("irof", model, inputs, maps, options={**GIVEN, "normalised": False}, segments=labels.expand(3, 6, 6))
    torch.testing.assert_close(plain.values, expected * whole[:, 0], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found.curves * whole, plain.curves, atol=1e-4, rtol=1e-5)


def test_segments_go_in_the_order_of_their_mean_and_not_of_their_sum():
    model = Additive((1, 1, 4))
    model.w.data, model.b = torch.tensor([1.0, 1, 1, 7]).view(1, 1, 4), 0.0
    labels, maps = torch.tensor([[[0, 0, 0, 1]]]), torch.tensor([1.0, 1, 1, 2]).view(1, 1, 1, 4)
    found = scores("irof", model, torch.ones(1, 1, 1, 4), maps, options=GIVEN, segments=labels)
    # Two segments, and an odd number of points where samples may differ: 1, 0.3 and 0 at shares 0, 1/2 and 1.
    assert found.values.item() == pytest.approx(1 - (1.3 / 4 + 0.3 / 4), abs=1e-6)


def test_a_model_that_does_not_react_loses_nothing(seed):
    inputs = draw((1, 6, 6), seed)
    for normalised in (True, False):
        options = {"segments": "grid:3", "normalised": normalised}
        found = scores("irof", Constant(), inputs, draw((1, 6, 6), seed + 1), options=options)
        torch.testing.assert_close(found.values, torch.zeros(3, dtype=torch.float64), atol=1e-7, rtol=0)


def test_the_right_map_loses_most(seed):
    model, inputs, parts = positive(seed)
    options = {**GIVEN, "segments": "grid:3"}
    right, wrong, other = (
        scores("irof", model, inputs, maps, options=options).values for maps in (parts, -parts, draw((1, 6, 6), seed))
    )
    assert (right >= other - 1e-6).all() and (other >= wrong - 1e-6).all() and (right > wrong).all()
    assert (right <= 1).all()


def test_a_share_of_nothing_is_no_number_and_the_area_is(seed):
    model, inputs = Additive((1, 6, 6), generator=generator(seed)), draw((1, 6, 6), seed)
    model.b -= float(model(inputs[:1]).detach()[0, 0]) + 1  # f(x) is -1 for the first
    levels = model(inputs)[:, 0]
    found = scores("irof", model, inputs, draw((1, 6, 6), seed + 1), options={**GIVEN, "segments": "grid:3"})
    assert found.values.isnan().tolist() == (levels <= 0).tolist() and found.values[0].isnan()
    assert "not positive" in found.reason
    options = {**GIVEN, "segments": "grid:3", "normalised": False}
    assert scores("irof", model, inputs, draw((1, 6, 6), seed + 1), options=options).values.isfinite().all()


def test_a_probability_of_zero_is_one_of_these(seed):
    model, inputs = Additive((1, 6, 6)), torch.ones(1, 1, 6, 6)
    model.w.data.fill_(-100.0)
    found = scores("irof", model, inputs, draw((1, 6, 6), seed, 1), options={"segments": "grid:3"})
    assert found.values.isnan().all() and "not positive" in found.reason


def test_a_single_segment_has_no_order_and_the_others_do(seed):
    labels = torch.stack([blocks(6, 6, 2), torch.zeros(6, 6, dtype=torch.long), blocks(6, 6, 3)])
    model, inputs = Interacting((1, 6, 6), generator(seed)), draw((1, 6, 6), seed)
    options = {"segments": "given"}
    maps = draw((1, 6, 6), seed + 1)
    found = scores("irof", model, inputs, maps, options=options, segments=labels)
    assert found.values.isnan().tolist() == [False, True, False] and "single segment" in found.reason
    for i in (0, 2):
        part = slice(i, i + 1)
        alone = scores("irof", model, inputs[part], maps[part], options=options, segments=labels[part])
        torch.testing.assert_close(alone.values, found.values[part], rtol=1e-6, atol=1e-7)


def test_it_is_deletions_area_and_costs_no_further_passes(seed):
    model, inputs = Interacting((3, 9, 8), generator(seed)), draw((3, 9, 8), seed)
    made = samples(model, inputs)
    batch = make_batch(made, draw((3, 9, 8), seed + 1), None)
    options = {"granularity": "segment", "segments": "grid:3", "steps": 9}
    deletion = on("deletion", batch, **options)
    spent = made.predictor.forwards
    plain, share = (on("irof", batch, **options, normalised=each) for each in (False, True))
    assert made.predictor.forwards == spent > 0
    torch.testing.assert_close(plain.values, deletion.curves[:, 0] - deletion.values)
    torch.testing.assert_close(share.values, 1 - deletion.values / deletion.curves[:, 0])


@pytest.mark.parametrize("metric", ["irof", "deletion", "insertion", "srg", "aopc", "abpc", "selectivity"])
def test_where_every_sample_is_one_segment_there_is_no_order_to_score(metric, seed):
    model, inputs, parts = positive(seed)
    options = GIVEN | ({} if metric == "irof" else {"granularity": "segment"})
    found = scores(metric, model, inputs, parts, options=options, segments=torch.zeros(6, 6).long())
    assert found.values.isnan().all() and "single segment" in found.reason


def test_its_superpixels_need_images(seed):
    with pytest.raises(NotApplicable, match="slic"):
        scores("irof", Interacting((7,)), draw((7,), seed), draw((7,), seed), options={"segments": "slic:100"})


@pytest.mark.parametrize("shape", [(7,), (9, 4)], ids=["table", "tokens"])
def test_its_segments_are_single_units_where_there_are_no_superpixels(shape, seed):
    world = Interacting(shape), draw(shape, seed), draw(shape, seed + 1)
    default, units = (scores("irof", *world, options=o | {"baseline": "zero"}) for o in ({}, {"granularity": "unit"}))
    torch.testing.assert_close(default.values, units.values)
    assert default.values.isfinite().all()
