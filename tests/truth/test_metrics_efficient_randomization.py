"""Efficient and smooth randomisation: entropies by scipy, closed forms, and what noise each model meets."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from harness.metrics.efficient_randomization import histogram_entropy
from metric_worlds import InDouble, draw, explaining, gradient, on, samples, scores

pytestmark = pytest.mark.usefixtures("seed")
EFFICIENT, SMOOTH = "efficient_parameter_randomization", "smooth_parameter_randomization"
SHAPE = (2, 12, 11)


def network(shape=SHAPE):
    model = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 10), nn.Tanh(), nn.Linear(10, 3))
    return model.eval()


def measured(metric, model, inputs, function=gradient, **options):
    more = {name: options.pop(name) for name in ("value_range",) if name in options}
    by, made = explaining(function, model), samples(model, inputs, **more)
    return on(metric, make_batch(made, by(made), by), **options)


def entropy(values, bins):
    return scipy.stats.entropy(np.histogram(values.double().flatten().numpy(), bins=bins)[0])


@pytest.mark.parametrize("bins", [2, 7, 100])
@pytest.mark.parametrize("shape", [(9, 13), (50,), (1,), (2, 3, 4)])
def test_the_entropy_of_a_histogram_is_scipys(shape, bins):
    for maps in (torch.randn(4, *shape), torch.randint(-3, 4, (4, *shape)).float(), torch.rand(4, *shape) ** 5):
        expected = torch.tensor([entropy(each, bins) for each in maps])
        torch.testing.assert_close(histogram_entropy(maps, bins), expected, rtol=0, atol=1e-12)


def test_entropy_does_not_see_scale_or_shift_and_is_at_most_that_of_even_bins():
    maps = torch.randn(5, 200).double()
    # Powers of two round nothing, so no value can cross the edge of a bin.
    assert torch.equal(histogram_entropy(maps, 100), histogram_entropy(maps / 8, 100))
    even = histogram_entropy(torch.arange(100).repeat(2)[None] + 0.5, 100)
    assert even.item() == pytest.approx(np.log(100)) and (histogram_entropy(maps, 100) < even).all()
    two = torch.tensor([[0.0] * 30 + [1.0] * 10])
    assert histogram_entropy(two, 100).item() == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))


def test_a_map_that_ignores_the_model_rises_by_nothing():
    noise = draw(SHAPE, 1)
    found = measured(EFFICIENT, network(), torch.randn(3, *SHAPE), lambda m, x, t: noise)
    assert (found.values == 0).all() and (found.curves == 0).all() and found.curves.shape == (3, 3)


def test_the_rise_is_relative_to_the_models_own_map():
    before, after = draw((1, 12, 11), 1), draw((1, 12, 11), 2) ** 3
    model = network((1, 12, 11))
    own = model[3].weight.detach().clone()
    function = lambda m, x, t: before if torch.equal(m[3].weight, own) else after
    found = measured(EFFICIENT, model, torch.randn(3, 1, 12, 11), function)
    first, second = (torch.tensor([entropy(each, 100) for each in maps]) for maps in (before, after))
    torch.testing.assert_close(found.values, (second - first) / first, rtol=0, atol=1e-12)


def test_seeds_are_averaged_or_their_median_taken():
    model, inputs = network(), torch.randn(4, *SHAPE)
    each = torch.cat(
        [measured(EFFICIENT, model, inputs, weight_seed=k, weight_seeds=1).curves for k in (2, 3, 4, 5, 6)], 1
    )
    for how, expected in (("mean", each.mean(1)), ("median", each.median(1).values)):
        found = measured(EFFICIENT, model, inputs, weight_seed=2, weight_seeds=5, over_seeds=how)
        torch.testing.assert_close(found.curves, each)
        torch.testing.assert_close(found.values, expected)


def test_all_weights_are_random_at_once():
    model, seen = network(), []
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def spy(model, inputs, targets):
        seen.append({name for name, tensor in model.state_dict().items() if not torch.equal(tensor, own[name])})
        return gradient(model, inputs, targets)

    measured(EFFICIENT, model, torch.randn(3, *SHAPE), spy)
    assert seen == [set()] + [set(own)] * 3
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())


def test_a_map_without_entropy_cannot_rise():
    model, maps = network(), torch.randn(3, *SHAPE)
    maps[1] = 2.5
    found = measured(EFFICIENT, model, torch.randn(3, *SHAPE), lambda m, x, t: maps)
    assert found.values.isnan().tolist() == [False, True, False] and "entropy" in found.reason


@pytest.mark.parametrize("mode", ["cascading", "bottom_up", "independent"])
@pytest.mark.parametrize("similarity", ["spearman", "ssim", "hog"])
def test_without_noise_the_smooth_test_is_the_plain_one(mode, similarity):
    model, inputs = network(), torch.randn(3, *SHAPE)
    options = {"mode": mode, "similarity": similarity, "stages": 0, "weight_seed": 3}
    smooth = measured(SMOOTH, model, inputs, noise=0.0, draws=4, **options)
    plain = measured("parameter_randomization", model, inputs, **options)
    # Sums of four equal maps may round, which swaps nearly equal ranks.
    torch.testing.assert_close(smooth.curves, plain.curves, rtol=0, atol=3e-3)


def test_every_model_meets_the_same_noise_of_the_given_spread():
    model, inputs, seen = network(), torch.randn(3, *SHAPE), []
    record = lambda m, x, t: (seen.append(x.detach().clone()), x)[1]
    found = measured(SMOOTH, model, inputs, record, draws=40, noise=0.3, value_range=(-1.0, 4.0), stages=2)
    torch.testing.assert_close(found.curves, torch.ones(3, 2, dtype=torch.float64))
    before, first, second = torch.cat(seen)[3:].view(3, 120, *SHAPE)  # after the plain explanation of the 3 samples
    assert torch.equal(before, first) and torch.equal(before, second)
    noise = before.view(3, 40, *SHAPE) - inputs[:, None]
    count = noise[0].numel()
    assert noise.std().item() == pytest.approx(0.3 * 5, rel=5 / (2 * 3 * count) ** 0.5)
    assert abs(noise.mean().item()) < 5 * 1.5 / (3 * count) ** 0.5
    # Draws that shared random numbers would not be equal, but their sizes would have to do with each other.
    earlier, later = noise[:, :-1].flatten().square(), noise[:, 1:].flatten().square()
    assert abs(torch.corrcoef(torch.stack([earlier, later]))[0, 1].item()) < 5 / len(later) ** 0.5
    assert len(noise.flatten(2).view(120, -1)[:, 0].unique()) == 120


def test_maps_are_averaged_over_the_noisy_inputs():
    model, inputs, seen = network((1, 6, 5)), torch.randn(2, 1, 6, 5), []
    own = model[3].weight.detach().clone()

    def function(model, inputs, targets):
        if torch.equal(model[3].weight, own):
            seen.append(inputs.detach().clone() ** 3)
            return inputs.detach() ** 3
        return 0 * inputs.detach() + torch.arange(30.0).view(1, 6, 5)

    found = measured(SMOOTH, model, inputs, function, draws=9, similarity="spearman")
    mean = torch.cat(seen)[2:].view(2, 9, 30).double().mean(1)
    expected = [scipy.stats.spearmanr(each, np.arange(30)).statistic for each in mean.numpy()]
    torch.testing.assert_close(found.values, torch.tensor(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(9,), (6, 4), (1, 7, 9)])
def test_a_sample_alone_scores_as_in_company(shape):
    wrapped, inputs = InDouble(network(shape)).eval(), torch.randn(5, *shape)
    for metric, options in ((EFFICIENT, {}), (SMOOTH, {"draws": 70, "similarity": "spearman"})):
        options = {**options, "value_range": (-2.0, 2.0)}
        together = measured(metric, wrapped, inputs, **options).curves
        alone = torch.cat([measured(metric, wrapped, one[None], **options).curves for one in inputs])
        torch.testing.assert_close(alone, together, rtol=0, atol=0.05 if metric == EFFICIENT else 3e-3)


def test_the_chance_of_smooth_maps_is_that_of_the_maps_that_the_smooth_test_compares():
    """Without noise it is the plain one; with noise no map is explained twice for both."""
    model, inputs, calls = network(), draw(SHAPE, 1), []

    def counted(*arguments):
        calls.append(len(arguments[1]))
        return gradient(*arguments)

    still, plain = ({"similarity": "ssim", "draws": count, "noise": 0.0, "stages": 2} for count in (2, 0))
    of_both = [measured("chance_similarity", model, inputs, value_range=(-2.0, 2.0), **each) for each in (still, plain)]
    torch.testing.assert_close(of_both[0].curves, of_both[1].curves, rtol=0, atol=1e-5)
    by, made = explaining(counted, model), samples(model, inputs, value_range=(-2.0, 2.0))
    batch, options = make_batch(made, by(made), by), {"similarity": "ssim", "draws": 3, "noise": 0.5, "stages": 1}
    smooth, before = on(SMOOTH, batch, **options), len(calls)
    chance = on("chance_similarity", batch, **options)
    assert len(calls) == before and not torch.allclose(chance.values, smooth.values)
    unlike = measured("chance_similarity", model, inputs, value_range=(-2.0, 2.0), **{**options, "draws": 0})
    assert not torch.allclose(chance.values, unlike.values)


def test_what_cannot_be_asked_is_said():
    model, inputs = network(), torch.randn(3, *SHAPE)
    for metric, options in (
        (EFFICIENT, {"bins": 1}),
        (EFFICIENT, {"over_seeds": "max"}),
        (EFFICIENT, {"weight_seeds": 0}),
        (SMOOTH, {"draws": 0}),
        (SMOOTH, {"noise": -0.1}),
        (SMOOTH, {"similarity": "cosine"}),
        (SMOOTH, {"mode": "both"}),
    ):
        with pytest.raises(UserError):
            measured(metric, model, inputs, **options)
    for metric in (EFFICIENT, SMOOTH):
        with pytest.raises(NotApplicable):
            scores(metric, model, inputs, inputs)
    with pytest.raises(NotApplicable, match="SSIM"):
        measured(SMOOTH, network((9,)), torch.randn(3, 9))
