"""Sensitivity and local Lipschitz constants of explainers whose response to noise is known."""

import pytest
import torch

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from harness.metrics._neighbours import Noise, surroundings
from harness.randomness import normal
from metric_worlds import SHAPES, Additive, Interacting, draw, explaining, generator, gradient, on, samples, scores

pytestmark = pytest.mark.usefixtures("seed")
SENSITIVITIES = ("max_sensitivity", "avg_sensitivity")
ROBUSTNESS = (*SENSITIVITIES, "local_lipschitz")
RANGE = {"value_range": (-2.0, 3.0)}


def ratio(model, inputs, function, *, metric="max_sensitivity", options=None, **more):
    attributions = function(model, inputs.clone(), torch.zeros(len(inputs), dtype=torch.long))
    return scores(metric, model, inputs, attributions, by=explaining(function, model), options=options, **more)


class Spy:
    """An explainer that keeps the inputs it is asked about after the first time, which is for the maps to be scored."""

    def __init__(self, function):
        self.function, self.seen = function, []

    def __call__(self, model, inputs, targets):
        self.seen.append(inputs.detach().clone())
        return self.function(model, inputs, targets)

    def perturbed(self, inputs, draws):
        """(N, draws, ...), sample by sample."""
        return torch.cat(self.seen[1:]).unflatten(0, (len(inputs), draws))


def itself(model, inputs, targets):
    return inputs


@pytest.mark.parametrize("kind", SHAPES)
def test_an_explainer_that_returns_its_input_shows_the_noise(kind, seed):
    inputs, range_ = draw(SHAPES[kind], seed), (-2.0, 3.0)
    options = {"radius": 0.1, "absolute": True, "draws": 200}
    found = ratio(Interacting(SHAPES[kind]), inputs, itself, options=options, value_range=range_).values
    d = inputs[0].numel()
    assert (found <= 0.5 * d**0.5).all()  # every element is moved by at most 0.1 * 5
    assert (found > 0.5 * (d / 3) ** 0.5 * 0.999).all()  # the root mean square; the largest of 200 lies above
    relative = ratio(
        Interacting(SHAPES[kind]), inputs, itself, options={**options, "absolute": False}, value_range=range_
    )
    torch.testing.assert_close(relative.values, found / inputs.flatten(1).norm(dim=1).double(), rtol=1e-6, atol=0)


def test_the_noise_is_proportional_to_the_radius_and_fills_the_cube(seed):
    inputs = draw((2000,), seed, 1)
    seen = []

    def spy(model, inputs, targets):
        seen.append(inputs)
        return inputs

    options = {"radius": 0.3, "draws": 5}
    ratio(Interacting((2000,)), inputs, spy, options=options, value_range=(0.0, 2.0))
    noise = torch.cat(seen[1:]) - inputs
    assert noise.shape == (5, 2000) and noise.abs().max() <= 0.6 + 1e-6
    assert noise.mean().abs() < 5 * 0.6 / 3**0.5 / 10000**0.5
    assert noise.var().item() == pytest.approx(0.6**2 / 3, rel=0.06)
    assert noise.unique(dim=0).shape[0] == 5


def test_without_a_declared_range_each_samples_own_counts(seed):
    inputs = draw((1, 6, 5), seed) * torch.tensor([1.0, 10, 100]).view(3, 1, 1, 1)
    found = ratio(Interacting((1, 6, 5)), inputs, itself, options={"absolute": True, "draws": 50}).values
    width = (inputs.flatten(1).amax(1) - inputs.flatten(1).amin(1)).double()
    assert ((found / width > 0.02 * (30 / 3) ** 0.5 * 0.8) & (found / width <= 0.02 * 30**0.5)).all()


def test_a_constant_explanation_does_not_change_and_a_zero_one_has_no_score(seed):
    inputs = draw((1, 6, 5), seed)
    assert ratio(Interacting((1, 6, 5)), inputs, lambda m, x, t: torch.ones_like(x)).values.tolist() == [0, 0, 0]
    found = ratio(Interacting((1, 6, 5)), inputs, lambda m, x, t: torch.zeros_like(x))
    assert found.values.isnan().all() and "0 throughout" in found.reason
    broken = scores(
        "max_sensitivity",
        Interacting((1, 6, 5)),
        inputs,
        inputs,
        by=explaining(lambda m, x, t: torch.full_like(x, float("nan")), Interacting((1, 6, 5))),
        options={"absolute": True},
    )
    assert broken.values.isnan().all() and broken.reason


def test_a_stochastic_explainer_with_a_seed_is_not_charged_for_its_own_noise(seed):
    def noisy(model, inputs, targets, *, context=None):
        return normal(context.stream("noise"), *inputs.shape[1:])

    model, inputs = Interacting((1, 6, 5)), draw((1, 6, 5), seed)
    by = explaining(noisy, model, stochastic=True)
    attributions = by(samples(model, inputs))
    assert scores("max_sensitivity", model, inputs, attributions, by=by).values.tolist() == [0, 0, 0]


@pytest.mark.parametrize("metric", ROBUSTNESS)
@pytest.mark.parametrize("kind", SHAPES)
def test_the_change_equals_a_loop_over_perturbed_inputs(kind, metric, seed):
    model, inputs = Interacting(SHAPES[kind], generator(seed)), draw(SHAPES[kind], seed)
    spy, targets = Spy(gradient), torch.zeros(1, dtype=torch.long)
    found = ratio(model, inputs, spy, metric=metric, options={"draws": 6}, **RANGE).values
    perturbed = spy.perturbed(inputs, 6)
    for i in range(3):
        own = gradient(model, inputs[i : i + 1].clone(), targets).double()
        changes = torch.stack(
            [(gradient(model, perturbed[i, m : m + 1].clone(), targets).double() - own).norm() for m in range(6)]
        )
        steps = (perturbed[i].double() - inputs[i].double()).flatten(1).norm(dim=1)
        expected = {
            "max_sensitivity": changes.max() / own.norm(),
            "avg_sensitivity": changes.mean() / own.norm(),
            "local_lipschitz": (changes / steps).max(),
        }[metric]
        assert found[i].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_mean_and_the_largest_are_of_the_same_draws(seed):
    model, inputs = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed)
    one, other = (ratio(model, inputs, gradient, metric=m, options={"draws": 1}).values for m in SENSITIVITIES)
    assert torch.equal(one, other)
    largest, mean = (ratio(model, inputs, gradient, metric=m, options={"draws": 20}).values for m in SENSITIVITIES)
    assert (mean < largest).all() and (mean > 0).all()


def test_the_mean_change_of_an_explainer_that_returns_its_input_is_the_mean_length_of_the_noise(seed):
    inputs, d = draw((2000,), seed), 2000
    options = {"radius": 0.1, "draws": 20, "absolute": True}
    found = ratio(Interacting((2000,)), inputs, itself, metric="avg_sensitivity", options=options, value_range=(0, 2))
    torch.testing.assert_close(found.values, torch.full((3,), 0.2 * (d / 3) ** 0.5).double(), rtol=0.02, atol=0)


@pytest.mark.parametrize("distribution", ["gaussian", "uniform"])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_constant_of_a_map_proportional_to_the_input_is_the_factor(kind, distribution, seed):
    model, inputs, factor = Interacting(SHAPES[kind]), draw(SHAPES[kind], seed), float(draw((1,), seed, 1).exp())
    options = {"distribution": distribution, "draws": 5}
    found = ratio(model, inputs, lambda m, x, t: -factor * x, metric="local_lipschitz", options=options, **RANGE)
    torch.testing.assert_close(found.values, torch.full((3,), factor).double(), rtol=1e-4, atol=0)
    options["relative"] = True  # the factor does not count any more
    found = ratio(model, inputs, lambda m, x, t: -factor * x, metric="local_lipschitz", options=options, **RANGE)
    expected = 1 / inputs.flatten(1).double().square().mean(1).sqrt()
    torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=0)


def test_sampling_stays_below_the_true_constant_and_nears_it_in_two_dimensions(seed):
    matrix = draw((2,), seed, 2).double()
    found = ratio(
        Interacting((2,)),
        draw((2,), seed),
        lambda m, x, t: x.double() @ matrix,
        metric="local_lipschitz",
        options={"draws": 200},
        value_range=(-1.0, 1.0),
    ).values
    largest = torch.linalg.matrix_norm(matrix, 2)
    assert (found <= largest * (1 + 1e-4)).all() and (found > 0.99 * largest).all()


def test_gaussian_noise_has_the_radius_for_its_deviation(seed):
    inputs, spy = draw((2000,), seed, 1), Spy(itself)
    options = {"radius": 0.3, "draws": 5}
    ratio(Interacting((2000,)), inputs, spy, metric="local_lipschitz", options=options, value_range=(-1.0, 1.0))
    noise = spy.perturbed(inputs, 5)[0] - inputs
    assert noise.mean().abs() < 5 * 0.6 / 10000**0.5
    assert noise.std().item() == pytest.approx(0.6, rel=0.05)
    assert (noise.abs() > 1.2).double().mean().item() == pytest.approx(0.0455, rel=0.3)  # two deviations: tails
    assert noise.unique(dim=0).shape[0] == 5


@pytest.mark.parametrize("metric", ROBUSTNESS)
@pytest.mark.parametrize("kind", SHAPES)
def test_beside_the_score_stand_the_share_of_kept_classes_and_the_change_of_the_output(kind, metric, seed):
    model, inputs, spy = Interacting(SHAPES[kind], generator(seed)), draw(SHAPES[kind], seed, 6), Spy(gradient)
    found = ratio(model, inputs, spy, metric=metric, options={"draws": 12, "radius": 0.3}, **RANGE)
    with torch.no_grad():
        before, after = model(inputs).double(), model(spy.perturbed(inputs, 12).flatten(0, 1)).double()
    after = after.unflatten(0, (6, 12))
    kept = (after.argmax(2) == before.argmax(1, keepdim=True)).double().mean(1)
    change = ((after - before[:, None]).norm(dim=2) / before.norm(dim=1, keepdim=True)).mean(1)
    torch.testing.assert_close(found.curves, torch.stack([kept, change], 1), rtol=1e-5, atol=1e-7)


def test_no_draw_is_left_out_for_changing_the_class(seed):
    shape = (1, 6, 5)
    near = Additive(shape, generator=generator(seed)).requires_grad_(False)
    inputs = draw(shape, seed)
    near.b = -(inputs[0] * near.w).sum()  # the first sample lies on the boundary
    found = ratio(near, inputs, itself, options={"absolute": True, "draws": 40})
    assert 0 < found.curves[0, 0] < 1 and found.values.isfinite().all()
    same = ratio(Interacting(shape), inputs, itself, options={"absolute": True, "draws": 40})
    assert torch.equal(found.values, same.values)  # another model, the same noise


def test_metrics_under_the_same_noise_explain_again_only_once(seed):
    model, inputs, spy = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed), Spy(gradient)
    found = samples(model, inputs)
    maps = gradient(model, inputs.clone(), found.targets)
    options = {"draws": 7, "radius": 0.05}
    for explainer in (1, 2):
        batch = make_batch(found, maps, explaining(spy, model))
        on("max_sensitivity", batch, **options)
        asked, passed = sum(map(len, spy.seen)), found.predictor.forwards
        assert asked == 21 * explainer and passed == 3 * 8  # which no explainer has a say in
        on("avg_sensitivity", batch, absolute=True, **options)
        on("local_lipschitz", batch, distribution="uniform", **options)
        on("relative_input_stability", batch, distribution="uniform", **options)
        on("relative_output_stability", batch, distribution="uniform", log10=True, **options)
        assert (sum(map(len, spy.seen)), found.predictor.forwards) == (asked, passed)
    on("local_lipschitz", batch, **options)
    assert sum(map(len, spy.seen)) == asked + 21


def test_fewer_draws_are_the_first_of_more(seed):
    found = samples(Interacting((3, 6, 5)), draw((3, 6, 5), seed))
    for distribution in ("uniform", "gaussian"):
        few, many = (surroundings(found, Noise(0.1, draws, distribution)).inputs.plain for draws in (4, 9))
        torch.testing.assert_close(few, many[:, :4])


@pytest.mark.parametrize("metric", ROBUSTNESS)
def test_a_sample_alone_scores_as_in_company_and_in_chunks(metric, seed):
    model, inputs = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed, 4)
    options = {"draws": 7}
    whole = ratio(model, inputs, gradient, metric=metric, options=options)
    for rows, chunk in (([2], 3), ([3, 0], 1)):
        part = ratio(model, inputs[rows], gradient, metric=metric, options=options, chunk=chunk)
        torch.testing.assert_close(part.values, whole.values[rows], rtol=1e-5, atol=0)
        torch.testing.assert_close(part.curves, whole.curves[rows], rtol=1e-5, atol=1e-9)


def test_the_steepest_draw_of_a_zero_map_has_no_relative_size(seed):
    inputs, silent = draw((1, 6, 5), seed), lambda m, x, t: torch.zeros_like(x)
    plain = ratio(Interacting((1, 6, 5)), inputs, silent, metric="local_lipschitz")
    assert plain.values.tolist() == [0, 0, 0]
    found = ratio(Interacting((1, 6, 5)), inputs, silent, metric="local_lipschitz", options={"relative": True})
    assert found.values.isnan().all() and "0 throughout" in found.reason


@pytest.mark.parametrize("metric", ROBUSTNESS)
def test_noise_that_rounding_swallows_has_tried_nothing(metric, seed):
    inputs = 1e4 + draw((1, 6, 5), seed).abs()  # so far from 0 that float32 has no number between it and its neighbours
    found = ratio(
        Interacting((1, 6, 5)), inputs, itself, metric=metric, options={"radius": 1e-5}, value_range=(0.0, 1.0)
    )
    assert found.values.isnan().all() and "range" in found.reason


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("metric", ROBUSTNESS)
def test_explanations_that_are_not_finite_under_noise_have_no_score(metric, value, seed):
    inputs = draw((1, 6, 5), seed)
    broken = lambda m, x, t: x if any(torch.equal(x[0], own) for own in inputs) else torch.full_like(x, value)
    found = ratio(Interacting((1, 6, 5)), inputs, broken, metric=metric)
    assert found.values.isnan().all() and "not finite" in found.reason


def test_draws_that_rounding_swallows_leave_the_others_their_say(seed):
    inputs, options = torch.full((1, 1), 128.0), {"radius": 1e-5, "draws": 100}  # half the draws round back to 128
    found = samples(Interacting((1,)), inputs, value_range=(0.0, 1.0))
    moved = surroundings(found, Noise(1e-5, 100, "gaussian")).inputs.plain
    assert (moved == 0).any() and (moved > 0).any()
    constant = ratio(
        Interacting((1,)),
        inputs,
        lambda m, x, t: 8 * x,
        metric="local_lipschitz",
        options=options,
        value_range=(0.0, 1.0),
    )
    assert constant.values.tolist() == [8.0]


def test_a_model_with_a_single_output_has_no_class_to_change(seed):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(30, 1))
    found = ratio(model, draw((1, 6, 5), seed), itself, options={"radius": 5.0})
    assert found.curves[:, 0].tolist() == [1, 1, 1] and (found.curves[:, 1] > 0).all()


def test_a_misspelt_distribution_is_told_which_there_are():
    with pytest.raises(UserError, match="did you mean 'gaussian'"):
        ratio(Interacting((4,)), draw((4,), 0), itself, metric="local_lipschitz", options={"distribution": "gausian"})


@pytest.mark.parametrize("metric", ROBUSTNESS)
def test_maps_of_another_shape_than_the_explainers_own_are_refused(metric):
    model, inputs = Interacting((3, 6, 5)), draw((3, 6, 5), 0)
    with pytest.raises(UserError, match="as the explainer gives them"):
        scores(metric, model, inputs, draw((1, 6, 5), 1), by=explaining(gradient, model))


@pytest.mark.parametrize("metric", ROBUSTNESS)
def test_attributions_without_an_explainer_cannot_be_made_again(metric):
    with pytest.raises(NotApplicable):
        scores(metric, Interacting((4,)), draw((4,), 0), draw((4,), 1))
