"""Max-sensitivity of explainers whose response to noise is known."""

import pytest
import torch

from harness.errors import NotApplicable
from harness.randomness import normal
from metric_worlds import SHAPES, Interacting, draw, explaining, generator, gradient, samples, scores

SEED = torch.seed() % 2**31


@pytest.fixture(params=[SEED, 1], ids=lambda seed: f"seed={seed}")
def seed(request):
    return request.param


def ratio(model, inputs, function, *, options=None, **more):
    attributions = function(model, inputs.clone(), torch.zeros(len(inputs), dtype=torch.long))
    return scores(
        "max_sensitivity", model, inputs, attributions, by=explaining(function, model), options=options, **more
    )


def itself(model, inputs, targets):
    return inputs


@pytest.mark.parametrize("kind", SHAPES)
def test_an_explainer_that_returns_its_input_shows_the_noise(kind, seed):
    inputs, range_ = draw(SHAPES[kind], seed), (-2.0, 3.0)
    options = {"radius": 0.1, "absolute": True, "samples": 200}
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

    options = {"radius": 0.3, "samples": 5}
    ratio(Interacting((2000,)), inputs, spy, options=options, value_range=(0.0, 2.0))
    noise = torch.cat(seen[1:]) - inputs
    assert noise.shape == (5, 2000) and noise.abs().max() <= 0.6 + 1e-6
    assert noise.mean().abs() < 5 * 0.6 / 3**0.5 / 10000**0.5
    assert noise.var().item() == pytest.approx(0.6**2 / 3, rel=0.06)
    assert noise.unique(dim=0).shape[0] == 5


def test_without_a_declared_range_each_samples_own_counts(seed):
    inputs = draw((1, 6, 5), seed) * torch.tensor([1.0, 10, 100]).view(3, 1, 1, 1)
    found = ratio(Interacting((1, 6, 5)), inputs, itself, options={"absolute": True, "samples": 50}).values
    width = (inputs.flatten(1).amax(1) - inputs.flatten(1).amin(1)).double()
    assert ((found / width > 0.02 * (30 / 3) ** 0.5 * 0.8) & (found / width <= 0.02 * 30**0.5)).all()


def test_a_constant_explanation_does_not_change_and_a_zero_one_has_no_score(seed):
    inputs = draw((1, 6, 5), seed)
    assert ratio(Interacting((1, 6, 5)), inputs, lambda m, x, t: torch.ones_like(x)).values.tolist() == [0, 0, 0]
    found = ratio(Interacting((1, 6, 5)), inputs, lambda m, x, t: torch.zeros_like(x))
    assert found.values.isnan().all() and "0 throughout" in found.reason
    broken = scores(
        "max_sensitivity", Interacting((1, 6, 5)), inputs, inputs,
        by=explaining(lambda m, x, t: torch.full_like(x, float("nan")), None), options={"absolute": True},
    )  # fmt: skip
    assert broken.values.isnan().all() and broken.reason


def test_a_stochastic_explainer_with_a_seed_is_not_charged_for_its_own_noise(seed):
    def noisy(model, inputs, targets, *, context=None):
        return normal(context.stream("noise"), *inputs.shape[1:])

    model, inputs = Interacting((1, 6, 5)), draw((1, 6, 5), seed)
    by = explaining(noisy, model, stochastic=True)
    attributions = by(samples(model, inputs))
    assert scores("max_sensitivity", model, inputs, attributions, by=by).values.tolist() == [0, 0, 0]


def test_the_largest_change_equals_a_loop_over_perturbed_inputs(seed):
    model, inputs = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed)
    seen = []

    def spy(model, inputs, targets):
        seen.append(inputs.detach().clone())
        return gradient(model, inputs, targets)

    found = ratio(model, inputs, spy, options={"samples": 6}).values
    perturbed = torch.cat(seen[1:]).view(3, 6, 3, 6, 5)
    for i in range(3):
        own = gradient(model, inputs[i : i + 1].clone(), torch.zeros(1, dtype=torch.long)).double()
        changes = [
            (gradient(model, perturbed[i, m : m + 1].clone(), torch.zeros(1, dtype=torch.long)).double() - own).norm()
            for m in range(6)
        ]
        assert found[i].item() == pytest.approx((max(changes) / own.norm()).item(), rel=1e-5)


def test_attributions_without_an_explainer_cannot_be_made_again():
    with pytest.raises(NotApplicable):
        scores("max_sensitivity", Interacting((4,)), draw((4,), 0), draw((4,), 1))
