"""Maps of the target and of another class: which classes are drawn, and what their maps have in common."""

import pytest
import scipy.stats
import torch
from torch import nn

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from harness.metrics._similarity import ssim
from harness.metrics.random_logit import other_classes
from metric_worlds import draw, explaining, gradient, on, samples, scores

pytestmark = pytest.mark.usefixtures("seed")


def linear(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), classes)).eval()


def batch_of(model, inputs, function=gradient, targets=None):
    by, made = explaining(function, model), samples(model, inputs, targets)
    return make_batch(made, by(made), by)


def measured(model, inputs, function=gradient, targets=None, **options):
    return on("random_logit", batch_of(model, inputs, function, targets), **options)


def test_the_similarity_is_that_of_the_weights_of_two_classes_of_a_linear_model():
    model, targets = linear((9,), 2), torch.tensor([0, 1, 1])
    weight = model[1].weight.detach().double()
    expected = scipy.stats.spearmanr(*weight).statistic
    found = measured(model, draw((9,), 0), targets=targets)
    torch.testing.assert_close(found.values, torch.full((3,), expected, dtype=torch.float64), rtol=0, atol=1e-12)
    sizes = scipy.stats.spearmanr(*weight.abs()).statistic
    found = measured(model, draw((9,), 0), targets=targets, similarity="spearman_abs")
    torch.testing.assert_close(found.values, torch.full((3,), sizes, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("draws", [1, 2, 4, 9])
def test_it_is_the_mean_over_different_classes_none_of_which_is_the_target(draws):
    model, inputs, targets = linear((1, 5, 4), 5), torch.randn(6, 1, 5, 4), torch.randint(5, (6,))
    chosen = other_classes(batch_of(model, inputs, targets=targets), "uniform", draws)
    assert chosen.shape == (6, min(draws, 4))
    assert all(
        len({*row.tolist(), int(target)}) == min(draws, 4) + 1 for row, target in zip(chosen, targets, strict=True)
    )
    weight = model[1].weight.detach().double()
    expected = torch.tensor(
        [
            [scipy.stats.spearmanr(weight[target], weight[other]).statistic for other in row]
            for row, target in zip(chosen.tolist(), targets.tolist(), strict=True)
        ]
    )
    found = measured(model, inputs, targets=targets, draws=draws)
    torch.testing.assert_close(found.curves, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.values, expected.mean(1), rtol=0, atol=1e-12)


def test_every_other_class_is_drawn_equally_often():
    model, targets = linear((3,), 4), torch.randint(4, (2000,))
    batch = batch_of(model, torch.randn(2000, 3), targets=targets)
    for draw_ in other_classes(batch, "uniform", 2).unbind(1):
        counts = torch.zeros(4, 4).index_put_((targets, draw_), torch.ones(2000), accumulate=True)
        assert (counts.diagonal() == 0).all()
        shares = counts / counts.sum(1, keepdim=True)
        off = shares[~torch.eye(4, dtype=torch.bool)]
        assert ((off - 1 / 3).abs() < 5 * (2 / 9 / 400) ** 0.5).all()


def test_the_runner_up_has_the_highest_output_beside_the_target():
    model, inputs, targets = linear((6,), 5), torch.randn(20, 6), torch.randint(5, (20,))
    chosen = other_classes(batch_of(model, inputs, targets=targets), "runner_up", 3)
    for row, target, other in zip(model(inputs).tolist(), targets.tolist(), chosen[:, 0].tolist(), strict=True):
        assert other != target
        assert row[other] == max(value for place, value in enumerate(row) if place != target)
    assert measured(model, inputs, targets=targets, other="runner_up").curves.shape == (20, 1)


@pytest.mark.parametrize("similarity", ["spearman", "spearman_abs", "ssim"])
def test_a_map_that_ignores_the_class_is_found_out(similarity):
    noise = torch.randn(2, 1, 12, 12)
    inputs = torch.randn(2, 1, 12, 12)
    of_sample = lambda m, x, t: noise[[int((x[i] - inputs[1]).abs().sum() == 0) for i in range(len(x))]]
    found = measured(linear((1, 12, 12), 4), inputs, of_sample, similarity=similarity)
    torch.testing.assert_close(found.values, torch.ones(2, dtype=torch.float64))


def test_ssim_is_the_larger_one_of_the_map_and_its_negative():
    maps = torch.randn(2, 1, 9, 9)
    model, inputs, targets = linear((1, 9, 9), 2), torch.randn(2, 1, 9, 9), torch.tensor([0, 0])
    opposite = lambda m, x, t: maps[:1].expand(len(x), -1, -1, -1) * (1 - 2 * t.view(-1, 1, 1, 1))
    found = measured(model, inputs, opposite, targets, similarity="ssim")
    torch.testing.assert_close(found.values, torch.ones(2, dtype=torch.float64))
    found = measured(model, inputs, opposite, targets)
    torch.testing.assert_close(found.values, -torch.ones(2, dtype=torch.float64))
    other = lambda m, x, t: maps[t]
    found = measured(model, inputs, other, targets, similarity="ssim")
    first, second = maps[:1, 0], maps[1:, 0]
    expected = max(ssim(first, second).item(), ssim(first, -second).item())
    assert found.values.tolist() == pytest.approx([expected, expected])


def test_all_similarities_cost_one_call_of_the_explainer_for_all_classes():
    model, calls = linear((1, 6, 6), 5), []
    batch = batch_of(model, torch.randn(2, 1, 6, 6), lambda m, x, t: (calls.append(len(x)), gradient(m, x, t))[1])
    for similarity in ("spearman", "spearman_abs", "ssim"):
        on("random_logit", batch, similarity=similarity)
    assert calls == [2, 2 * 3]


@pytest.mark.parametrize("other", ["uniform", "runner_up"])
@pytest.mark.parametrize("shape", [(3, 7, 5), (8,), (6, 4)])
def test_a_sample_alone_scores_as_in_company_and_in_any_order(shape, other):
    model, inputs, targets = linear(shape, 6), torch.randn(5, *shape), torch.randint(6, (5,))
    together = measured(model, inputs, targets=targets, other=other).curves
    order = torch.randperm(5)
    torch.testing.assert_close(
        measured(model, inputs[order], targets=targets[order], other=other).curves, together[order]
    )
    torch.testing.assert_close(measured(model, inputs[3:4], targets=targets[3:4], other=other).curves, together[3:4])


def test_a_constant_map_has_no_similarity_and_says_so():
    function = lambda m, x, t: gradient(m, x, t) * (t != 2).view(-1, 1)
    model, targets = linear((7,), 3), torch.tensor([2, 0, 1])
    found = measured(model, torch.randn(3, 7), function, targets, draws=1)
    others = other_classes(batch_of(model, torch.randn(3, 7), targets=targets), "uniform", 1)
    assert found.values.isnan()[0] and "constant" in found.reason and len(others) == 3
    found = measured(model, torch.randn(3, 7), function, targets, draws=2)
    assert found.values.isnan().all()  # both other classes of each are met, of which one has no map


def test_what_cannot_be_asked_is_said():
    model, inputs = linear((7,), 3), torch.randn(3, 7)
    with pytest.raises(NotApplicable, match="single output"):
        measured(linear((7,), 1), inputs)
    with pytest.raises(NotApplicable):
        measured(model, inputs, similarity="ssim")
    with pytest.raises(NotApplicable):
        scores("random_logit", model, inputs, inputs)
    for options in ({"other": "second"}, {"draws": 0}, {"similarity": "hog"}):
        with pytest.raises(UserError):
            measured(model, inputs, **options)
