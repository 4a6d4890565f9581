"""Gradients and their integrals, on functions whose answer is known."""

import warnings

import pytest
import torch
from torch import nn

import harness
from explainer_worlds import explain, linear_net, model, near, seed, small_cnn, smooth_net  # noqa: F401
from harness.api import samples_of
from harness.predictor import Predictor

GRADIENTS = ["gradient", "saliency", "input_x_gradient", "integrated_gradients", "smoothgrad"]


def none_of(count):
    return torch.zeros(count, dtype=torch.long)


@pytest.mark.parametrize("steps", [2, 5, 40])
def test_a_sum_of_squares_tells_the_schemes_of_integration_apart(steps, seed):  # noqa: F811
    x, net = torch.randn(4, 6), model(lambda inputs: (inputs**2).sum(1))
    share = {"riemann_left": 1 - 1 / steps, "riemann_right": 1 + 1 / steps, "riemann_middle": 1, "gausslegendre": 1}
    for method, factor in share.items():
        found = explain("integrated_gradients", net, x, none_of(4), steps=steps, method=method)
        assert near(found, factor * x**2), method


def test_on_a_bias_free_relu_net_input_x_gradient_is_complete_and_is_the_integral_from_zero(seed):  # noqa: F811
    net = nn.Sequential(nn.Linear(8, 20, bias=False), nn.ReLU(), nn.Linear(20, 3, bias=False)).eval()
    x, targets = torch.randn(5, 8), torch.tensor([0, 1, 2, 0, 1])
    product = explain("input_x_gradient", net, x, targets)
    assert near(product.sum(1), net(x).detach().gather(1, targets[:, None])[:, 0])
    assert near(explain("integrated_gradients", net, x, targets, steps=3), product)
    left = explain("integrated_gradients", net, x, targets, steps=10, method="riemann_left")
    assert near(left, 0.9 * product)  # the gradient at zero itself is zero


@pytest.mark.parametrize("shape", [(6,), (4, 5), (2, 5, 6)])
@pytest.mark.parametrize("baseline", ["zero", "train_mean", "train_sample", "uniform_noise", "gaussian_noise"])
def test_the_integral_is_what_the_baseline_lacks_on_every_kind_of_input(shape, baseline, seed):  # noqa: F811
    net = nn.Sequential(nn.Flatten(), smooth_net(torch.Size(shape).numel())).eval()
    x, targets, train = torch.randn(4, *shape), torch.tensor([0, 1, 2, 0]), torch.randn(9, *shape)
    samples = samples_of(net, x, targets, train=train)
    lost = net(x) - net(samples.baseline(baseline))
    found = harness.explain("integrated_gradients", net, x, targets, train=train, baseline=baseline)
    assert found.shape == x.shape
    assert near(found.flatten(1).sum(1), lost.detach().gather(1, targets[:, None])[:, 0], 1e-4)


def test_the_midpoint_rules_error_falls_with_the_square_of_the_steps_and_gauss_legendres_faster(seed):  # noqa: F811
    net, x, targets = smooth_net(6, dtype=torch.float64), torch.randn(16, 6, dtype=torch.float64), none_of(16)
    lost = (net(x) - net(torch.zeros_like(x)))[:, 0].detach()

    def error(steps, method):
        found = explain("integrated_gradients", net, x, targets, steps=steps, method=method).double()
        return float((found.sum(1) - lost).abs().mean())

    assert 2.8 < error(4, "riemann_middle") / error(8, "riemann_middle") < 5.6
    assert 1.6 < error(20, "riemann_left") / error(40, "riemann_left") < 2.5
    assert error(12, "gausslegendre") < error(40, "riemann_middle") / 5


def test_smoothgrad_is_the_gradient_of_the_function_blurred_by_the_noise(seed):  # noqa: F811
    """E (x + e)^3 differentiates to 3 x^2 + 3 sigma^2, with sigma the noise times the sample's own range."""
    x, net, draws = torch.randn(3, 4) * torch.tensor([[0.5], [1.0], [3.0]]), model(lambda z: (z**3).sum(1)), 4000
    sigma = 0.3 * (x.amax(1) - x.amin(1))[:, None]
    found = explain("smoothgrad", net, x, none_of(3), samples=draws, noise=0.3)
    spread = (36 * x**2 * sigma**2 + 18 * sigma**4).sqrt()  # of 3 (x + e)^2
    assert ((found - 3 * x**2 - 3 * sigma**2).abs() < 5.5 * spread / draws**0.5).all()


@pytest.mark.parametrize("rows", [1, 4, 7, 1000])
def test_smoothgrad_is_the_mean_over_its_draws_however_many_are_made_at_once(rows, seed):  # noqa: F811
    net, x, targets = small_cnn(), torch.randn(2, 3, 6, 6), torch.tensor([0, 3])
    samples = samples_of(net, x, targets, predictor=Predictor(net, chunk=rows))
    from harness.explainers.gradient import smoothgrad
    from harness.randomness import element, normal

    found = smoothgrad(net, x.clone(), targets, context=samples, prepared=4, samples=5)
    by_hand = torch.zeros_like(x)
    for row in range(2):
        for draw in range(5):
            key = element(samples.stream("smoothgrad noise")[row : row + 1], torch.tensor([draw]))
            noisy = x[row] + 0.15 * (x[row].max() - x[row].min()) * normal(key, 3, 6, 6)[0]
            noisy = noisy[None].requires_grad_()
            by_hand[row] += torch.autograd.grad(net(noisy)[0, targets[row]], noisy)[0][0] / 5
    assert near(found, by_hand)


@pytest.mark.parametrize("name", GRADIENTS)
def test_models_through_which_no_gradient_passes_are_not_applicable(name):
    class Detached(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs.detach())

    class Quiet(nn.Linear):
        @torch.no_grad()
        def forward(self, inputs):
            return super().forward(inputs)

    for net in (Detached(4, 2).eval(), Quiet(4, 2).eval()):
        with pytest.raises(harness.NotApplicable, match="no gradient"):
            harness.explain(name, net, torch.randn(2, 4), torch.tensor([0, 1]))


@pytest.mark.parametrize("name", GRADIENTS)
def test_frozen_weights_and_a_callers_no_grad_change_nothing(name, seed):  # noqa: F811
    net, x, targets = small_cnn(), torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2])
    before = harness.explain(name, net, x, targets)
    net.requires_grad_(False)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(harness.explain(name, net, x, targets), before)


def test_wrong_options_are_told_in_one_line(seed):  # noqa: F811
    net, _ = linear_net((4,))
    wrong = {
        "unknown method 'riemann_middel': did you mean 'riemann_middle'": {"method": "riemann_middel"},
        "unknown method 'riemann_trapezoid'": {"method": "riemann_trapezoid"},
        "steps is 0, expected a whole number of at least 1": {"steps": 0},
        "steps is 1, expected a whole number of at least 2": {"steps": 1, "method": "riemann_left"},
    }
    for message, options in wrong.items():
        with pytest.raises(ValueError, match=message):
            harness.explain("integrated_gradients", net, torch.randn(2, 4), torch.tensor([0, 1]), **options)
    with pytest.raises(ValueError, match="noise is -1.0, expected a number of at least 0"):
        harness.explain("smoothgrad", net, torch.randn(2, 4), torch.tensor([0, 1]), noise=-1.0)
