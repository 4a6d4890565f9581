"""Correlations over random subsets, on functions whose contributions are known."""

import itertools
import os

import numpy as np
import pytest
import torch
from torch import nn

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from harness.metrics import _sets
from harness.metrics._groups import Grouping, make_groups
from harness.metrics._sets import draw_sets, pack, set_sums, unpack
from harness.metrics._similarity import pearson
from metric_worlds import SHAPES, Additive, Constant, Interacting, draw, generator, on, samples, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])
METRICS = ("sensitivity_n", "faithfulness_correlation")
ZERO = {"baseline": "zero"}


@pytest.fixture(params=[SEED, 1], ids=lambda seed: f"seed={seed}")
def seed(request):
    return request.param


def world(kind, seed, count=3):
    model = Additive(SHAPES[kind], g=torch.sin, generator=generator(seed))
    inputs = draw(SHAPES[kind], seed, count)
    return model, inputs, model.contributions(inputs, torch.zeros_like(inputs))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("metric", METRICS)
def test_true_contributions_correlate_perfectly_at_every_size_and_reversed_ones_perfectly_wrong(metric, kind, seed):
    model, inputs, contributions = world(kind, seed)
    for sign in (1, -1):
        found = scores(metric, model, inputs, sign * contributions, options=ZERO)
        curve = found.values[:, None] if found.curves is None else found.curves
        torch.testing.assert_close(curve, torch.full_like(curve, sign), rtol=0, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_a_positive_factor_and_a_constant_added_to_every_unit_change_nothing(metric, seed):
    model, inputs = Interacting((1, 6, 5), generator(seed)), draw((1, 6, 5), seed)
    attributions = draw((1, 6, 5), seed + 1)
    reference = scores(metric, model, inputs, attributions).values
    assert reference.abs().max() < 0.999
    for changed in (3 * attributions, 0.5 * attributions + 2):
        torch.testing.assert_close(scores(metric, model, inputs, changed).values, reference, rtol=0, atol=1e-6)
    torch.testing.assert_close(scores(metric, model, inputs, -attributions).values, -reference, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", range(1, 6))
def test_over_all_subsets_of_one_size_the_correlation_is_that_of_attributions_and_contributions(
    size, seed, monkeypatch
):
    model, inputs = Additive((6,), g=torch.sin, generator=generator(seed)), draw((6,), seed)
    attributions = draw((6,), seed + 1)
    every = torch.zeros(0, 6, dtype=torch.bool)
    for chosen in itertools.combinations(range(6), size):
        every = torch.cat([every, torch.zeros(1, 6, dtype=torch.bool).index_fill(1, torch.tensor(chosen), True)])
    monkeypatch.setattr("harness.metrics.subsets.draw_sets", lambda *a: pack(every).expand(3, -1, -1))
    options = {**ZERO, "share": size / 6, "draws": len(every)}
    found = scores("faithfulness_correlation", model, inputs, attributions, options=options).values
    expected = pearson(attributions, model.contributions(inputs, torch.zeros_like(inputs)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_random_subsets_approach_the_correlation_over_all_of_them(seed):
    model, inputs = Additive((12,), g=torch.sin, generator=generator(seed)), draw((12,), seed, 40)
    attributions = draw((12,), seed + 1, 40)
    truth = pearson(attributions, model.contributions(inputs, torch.zeros_like(inputs)))
    found = scores("faithfulness_correlation", model, inputs, attributions, options={**ZERO, "draws": 400}).values
    error = found - truth
    assert error.abs().max() < 5 / 400**0.5
    assert error.mean().abs() < 4 / (400 * 40) ** 0.5


def test_attributions_unrelated_to_the_model_have_mean_zero_and_the_spread_of_few_subsets(seed):
    model, inputs = Additive((1, 8, 8), generator=generator(seed)), draw((1, 8, 8), seed, 500)
    unrelated = draw((1, 8, 8), seed + 1, 500)
    found = scores("faithfulness_correlation", model, inputs, unrelated, options={**ZERO, "draws": 10}).values
    assert found.mean().abs() < 4 * 0.36 / 500**0.5
    # 1 / sqrt(9) of the subsets and 1 / sqrt(63) of the units, in squares, with the sd's own error of 3 %.
    assert found.std() == pytest.approx((1 / 9 + 1 / 63) ** 0.5, rel=0.15)


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_to_correlate_is_not_a_number_and_says_why(metric, seed):
    inputs, attributions = draw((1, 6, 5), seed), draw((1, 6, 5), seed + 1)
    for model, given in ((Constant(), attributions), (Interacting((1, 6, 5)), torch.full_like(inputs, 0.1))):
        found = scores(metric, model, inputs, given)
        assert found.values.isnan().all() and "does not vary" in found.reason
    mixed = torch.cat([attributions[:2], torch.zeros(1, 1, 6, 5)])
    found = scores(metric, Interacting((1, 6, 5)), inputs, mixed)
    assert found.values.isnan().tolist() == [False, False, True]
    with pytest.raises(NotApplicable):
        scores(metric, nn.Linear(1, 2), torch.ones(2, 1), torch.ones(2, 1), options=ZERO)


@pytest.mark.parametrize("granularity", ["unit", "patch", "segment"])
@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_the_batched_correlation_equals_a_loop_over_subsets(kind, granularity, seed):
    model, inputs = Interacting(SHAPES[kind], generator(seed)), draw(SHAPES[kind], seed)
    attributions, subsets = draw(SHAPES[kind], seed + 1), 20
    labels = torch.stack([torch.randint(0, k, (6, 5), generator=generator(seed + k)) for k in (5, 8, 12)])
    options = {
        "granularity": granularity,
        "patch": 2,
        "segments": "given",
        "sizes": 3,
        "draws": subsets,
        "baseline": "blur",
    }
    found = scores("sensitivity_n", model, inputs, attributions, options=options, segments=labels, chunk=7)
    made = samples(model, inputs, segments=labels)
    parts = make_groups(made, Grouping(granularity, 2, "given"))
    for i in range(3):
        own = torch.arange(30).view(6, 5) if parts.labels is None else parts.labels[i]
        present = own.unique().tolist()
        sizes = [round((0.8 * len(present)) ** (step / 2)) for step in range(3)]
        for s, size in enumerate(sizes):
            drawn = draw_sets(
                made,
                parts,
                f"subsets {s}",
                subsets,
                torch.tensor([round((0.8 * n) ** (s / 2)) for n in parts.totals.tolist()]),
            )
            chosen = unpack(drawn, parts.sizes.shape[1])[i]
            assert (chosen.sum(1) == size).all() and not chosen[:, ~parts.present[i]].any()
            expected = _correlation_by_hand(model, made, attributions[i], own, chosen, i)
            assert found.curves[i, s].item() == pytest.approx(expected, abs=1e-6)


def _correlation_by_hand(model, made, attribution, labels, chosen, i):
    sums, drops = [], []
    for subset in chosen:
        gone = subset[labels]
        x = torch.where(gone, made.baseline("blur")[i], made.inputs[i])
        drops.append((model(made.inputs[i][None]).double() - model(x[None]).double())[0, 0].item())
        sums.append(attribution[:, gone].double().sum().item())
    return np.corrcoef(sums, drops)[0, 1]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_packed_sets_come_back_and_sum_up(count, seed, monkeypatch):
    sets = torch.rand(3, 11, count, generator=generator(seed)) < 0.4
    values = torch.randn(3, count, generator=generator(seed + 1))
    assert torch.equal(unpack(pack(sets), count), sets)
    expected = torch.einsum("nmg,ng->nm", sets.double(), values.double())
    for look_ups in (50, _sets.LOOK_UPS):
        monkeypatch.setattr(_sets, "LOOK_UPS", look_ups)
        torch.testing.assert_close(set_sums(values, pack(sets)), expected, rtol=1e-12, atol=1e-12)


def test_subsets_are_uniform_and_do_not_depend_on_how_the_work_is_cut(seed, monkeypatch):
    made = samples(Interacting((1, 6, 5)), draw((1, 6, 5), seed, 4))
    units, sizes = make_groups(made, Grouping()), torch.full((4,), 7)
    whole = draw_sets(made, units, "test", 2000, sizes)
    share = unpack(whole, 30).double().mean(1)
    assert (share - 7 / 30).abs().max() < 5 * (7 / 30 * 23 / 30 / 2000) ** 0.5
    monkeypatch.setitem(_sets.CHUNK, "cpu", 100)
    assert torch.equal(draw_sets(made, units, "test", 2000, sizes), whole)


def test_the_model_is_asked_once_for_all_explainers_scores_and_repeated_sizes():
    made = samples(Interacting((1, 8, 8)), draw((1, 8, 8), 0, 3))
    for explainer in range(3):
        batch = make_batch(made, draw((1, 8, 8), explainer, 3), None)
        curve = on("sensitivity_n", batch, draws=20).curves
        on("sensitivity_n", batch, draws=20, score="probability")
        on("faithfulness_correlation", batch, draws=30)
    # The ten log-spaced sizes up to 51 of 64 units are 1, 2, 2, 4, ...: nine different ones.
    assert curve.shape == (3, 9)
    assert made.predictor.forwards == 3 * (9 * 20 + 30)


def test_few_units_leave_fewer_sizes_and_never_all_units():
    assert scores("sensitivity_n", Interacting((4,)), draw((4,), 0), draw((4,), 1), options=ZERO).curves.shape == (3, 3)
    for metric, share in itertools.product(METRICS, (0, 1, 1.5)):
        name = "share" if metric == "faithfulness_correlation" else "largest_share"
        with pytest.raises(UserError, match=f"share (of .* )?is {share}"):
            scores(metric, Interacting((4,)), draw((4,), 0), draw((4,), 1), options={**ZERO, name: share})
    for metric, subsets in itertools.product(METRICS, (-1, 0, 1)):
        with pytest.raises(UserError, match="draws"):
            scores(metric, Interacting((4,)), draw((4,), 0), draw((4,), 1), options={**ZERO, "draws": subsets})
    both = scores("sensitivity_n", Interacting((2,)), draw((2,), 0), draw((2,), 1), options=ZERO)
    assert both.curves.shape == (3, 1) and both.values.isfinite().all()


def test_training_means_can_be_the_baseline_as_in_the_paper(seed):
    model, inputs, train = Additive((5,), generator=generator(seed)), draw((5,), seed), draw((5,), seed + 1, 50)
    contributions = model.contributions(inputs, train.mean(0))
    options = {"baseline": "train_mean", "share": 0.4}
    found = scores("faithfulness_correlation", model, inputs, contributions, train=train, options=options).values
    torch.testing.assert_close(found, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-5)


UNEQUAL = torch.tensor([0] * 11 + [1] * 3 + [2] * 7 + [3] * 4 + [4] * 5).view(6, 5)
ON_SEGMENTS = {"sizes": 3, "draws": 40, "segments": "given"}


def test_seg_sensitivity_n_is_sensitivity_n_of_segments_and_shares_its_evaluations(seed):
    made = samples(Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed), segments=UNEQUAL)
    batch = make_batch(made, draw((3, 6, 5), seed + 1), None)
    reference = on("sensitivity_n", batch, **ON_SEGMENTS, granularity="segment", patch=3)
    evaluations = made.predictor.forwards
    found = on("seg_sensitivity_n", batch, **ON_SEGMENTS)
    assert torch.equal(found.curves, reference.curves) and found.values.abs().max() < 0.9999
    assert made.predictor.forwards == evaluations == 3 * found.curves.shape[1] * 40


def test_a_segments_mean_is_the_sum_of_attributions_divided_by_its_size(seed):
    model, inputs, maps = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed), draw((3, 6, 5), seed + 1)
    shared = maps / UNEQUAL.flatten().bincount()[UNEQUAL]
    mean, of_shares, of_sums = (
        scores(
            "seg_sensitivity_n", model, inputs, given, options=ON_SEGMENTS | {"segment_reduce": how}, segments=UNEQUAL
        ).curves
        for given, how in ((maps, "mean"), (shared, "sum"), (maps, "sum"))
    )
    torch.testing.assert_close(mean, of_shares, rtol=0, atol=1e-5)
    assert (mean - of_sums).abs().max() > 1e-3
    equal = {"sizes": 3, "draws": 20, "segments": "patch:3"}
    model, inputs, maps = Interacting((6, 6), generator(seed)), draw((6, 6), seed), draw((6, 6), seed + 1)
    alike = [
        scores("seg_sensitivity_n", model, inputs[:, None], maps[:, None], options=equal | {"segment_reduce": how})
        for how in ("mean", "sum")
    ]
    torch.testing.assert_close(alike[0].values, alike[1].values, rtol=0, atol=1e-9)


def test_true_contributions_of_unequal_segments_correlate_perfectly_as_sums_and_not_as_means(seed):
    model, inputs, contributions = world("colour", seed)
    for how, sign in itertools.product(("sum", "mean"), (1, -1)):
        options = ON_SEGMENTS | {"segment_reduce": how} | ZERO
        curve = scores("seg_sensitivity_n", model, inputs, sign * contributions, options=options, segments=UNEQUAL)
        gap = (curve.curves - sign).abs().max()
        assert gap < 1e-4 if how == "sum" else gap > 1e-3


@pytest.mark.parametrize("metric", ["sensitivity_n", "seg_sensitivity_n"])
def test_a_size_that_rounding_repeats_counts_once(metric, seed):
    """Samples of 3, 4 and 10 segments; of ten sizes up to 80 % most are rounded to one that is there already."""
    model, inputs = Interacting((1, 6, 5), generator(seed)), draw((1, 6, 5), seed)
    labels = torch.arange(30).view(1, 6, 5) // torch.tensor([10, 8, 3]).view(3, 1, 1)
    options = {"draws": 50, "segments": "given"} | ({"granularity": "segment"} if metric == "sensitivity_n" else {})
    found = scores(metric, model, inputs, draw((1, 6, 5), seed + 1), options=options, segments=labels)
    for i, total in enumerate((3, 4, 10)):
        sizes = [round((0.8 * total) ** (step / 9)) for step in range(10)]
        first = [sizes.index(size) for size in sizes]
        assert len(set(sizes)) == {3: 2, 4: 3, 10: 7}[total]
        assert torch.equal(found.curves[i], found.curves[i, first])
        assert found.values[i].item() == pytest.approx(found.curves[i, sorted(set(first))].mean().item(), abs=1e-12)


def test_segments_cannot_be_reduced_by_anything_else(seed):
    with pytest.raises(UserError, match="segment_reduce"):
        scores(
            "seg_sensitivity_n",
            Constant(),
            draw((1, 6, 5), seed),
            draw((1, 6, 5), 1),
            options=ON_SEGMENTS | {"segment_reduce": "max"},
            segments=UNEQUAL,
        )
    with pytest.raises(NotApplicable):
        scores("seg_sensitivity_n", Interacting((7,)), draw((7,), seed), draw((7,), 1), options={"segments": "slic:9"})


@pytest.mark.parametrize("metric", METRICS)
def test_what_moves_the_output_by_rounding_alone_does_not_move_it(metric, seed):
    class Rounding(nn.Module):
        def forward(self, x):
            f = 1000 + 1e-4 * torch.tanh(x.double().flatten(1).sum(1))
            return torch.stack([f, torch.zeros_like(f)], 1).float()

    inputs = draw((1, 6, 5), seed)
    found = scores(metric, Rounding(), inputs, draw((1, 6, 5), seed + 1), options=ZERO)
    assert found.values.isnan().all() and found.reason
