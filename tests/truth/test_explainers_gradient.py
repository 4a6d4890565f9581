"""Gradients, as they are and under noise, on functions whose answer is known; and how they are computed."""

import warnings

import pytest
import torch
from torch import nn

import harness
from explainer_worlds import explain, explain_in, linear_net, model, near, small_cnn
from harness.api import samples_of
from harness.explainers import _gradients
from harness.predictor import Predictor
from harness.randomness import element, normal

NOISY = ["smoothgrad", "smoothgrad_squared", "vargrad"]
FEW = {
    "gradient": {},
    "saliency": {},
    "input_x_gradient": {},
    **{name: {"samples": 5} for name in NOISY},
    "integrated_gradients": {"steps": 5},
    "guided_ig": {"steps": 5},
    "idgi": {"steps": 5},
    "expected_gradients": {"samples": 5, "baseline": "uniform_noise"},
    "gradient_x_weight": {},
}
PLAIN = [name for name in FEW if name != "gradient_x_weight"]


def none_of(count):
    return torch.zeros(count, dtype=torch.long)


def test_smoothgrad_is_the_gradient_of_the_function_blurred_by_the_noise(seed):
    """E (x + e)^3 differentiates to 3 x^2 + 3 sigma^2, with sigma the noise times the sample's own range."""
    x, net, draws = torch.randn(3, 4) * torch.tensor([[0.5], [1.0], [3.0]]), model(lambda z: (z**3).sum(1)), 4000
    sigma = 0.3 * (x.amax(1) - x.amin(1))[:, None]
    found = explain("smoothgrad", net, x, none_of(3), samples=draws, noise=0.3)
    spread = (36 * x**2 * sigma**2 + 18 * sigma**4).sqrt()  # of 3 (x + e)^2
    assert ((found - 3 * x**2 - 3 * sigma**2).abs() < 5.5 * spread / draws**0.5).all()


@pytest.mark.parametrize("name", NOISY)
def test_on_a_cubic_the_moments_of_the_noisy_gradient_are_known(name, seed):
    """The gradient 3 (x + e)^2 = 3 (x^2 + 2 x e + e^2) has mean 3 (x^2 + s^2) and variance 36 x^2 s^2 + 18 s^4."""
    x, net, draws = (
        torch.randn(3, 4).double() * torch.tensor([[0.5], [1.0], [3.0]]),
        model(lambda z: (z**3).sum(1)),
        3000,
    )
    sigma = 0.3 * (x.amax(1) - x.amin(1))[:, None]
    mean, variance = 3 * (x**2 + sigma**2), 36 * x**2 * sigma**2 + 18 * sigma**4
    expected = {"smoothgrad": mean, "smoothgrad_squared": variance + mean**2, "vargrad": variance}[name]
    runs = torch.stack(
        [explain_in(16, 300, name, net, x, none_of(3), seed=run, samples=draws, noise=0.3) for run in range(12)]
    ).double()
    error = runs.std(0) / len(runs) ** 0.5
    assert (error < expected / 20).all(), "too few draws to tell"
    assert ((runs.mean(0) - expected).abs() < 9 * error).all()  # Student's t of 11 degrees: p < 1e-5 for 12 numbers


@pytest.mark.parametrize("rows", [1, 4, 7, 1000])
def test_mean_mean_square_and_variance_are_those_of_the_same_draws_however_many_at_once(rows, seed):
    net, x, targets = small_cnn(), torch.randn(2, 3, 6, 6), torch.tensor([0, 3])
    keys = samples_of(net, x, targets).stream("smoothgrad noise")
    slopes = torch.empty(2, 5, *x.shape[1:])
    for row in range(2):
        for draw in range(5):
            drawn = normal(element(keys[row : row + 1], torch.tensor([draw])), 3, 6, 6)
            noisy = (x[row] + 0.15 * (x[row].max() - x[row].min()) * drawn).requires_grad_()
            slopes[row, draw] = torch.autograd.grad(net(noisy)[0, targets[row]], noisy)[0][0]
    by_hand = [slopes.mean(1), (slopes**2).mean(1), slopes.var(1, correction=0)]
    for name, expected in zip(NOISY, by_hand, strict=True):
        assert near(explain_in(16, rows, name, net, x, targets, samples=5), expected), name


def test_a_small_variance_survives_a_large_mean(seed):
    """Of gradients near 1e4 that vary by about 1: the difference of their mean squares would be rounding alone."""
    x, shift = torch.randn(3, 4), 1e4
    net = model(lambda z: (shift * z + z**2 / 2).sum(1))
    found = explain("vargrad", net, x, none_of(3), samples=400, noise=0.5)
    variance = (0.5 * (x.amax(1) - x.amin(1))[:, None]) ** 2
    assert ((found / variance - 1).abs() < 0.5).all()


def test_linear_models_have_the_same_gradient_everywhere(seed):
    net, weights = linear_net((2, 4, 5))
    x, targets = torch.randn(3, 2, 4, 5), torch.tensor([2, 0, 1])
    assert near(explain("smoothgrad_squared", net, x, targets, samples=4), weights[targets] ** 2)
    assert explain("vargrad", net, x, targets, samples=4).abs().max() < 1e-12


@pytest.mark.parametrize("name", PLAIN)
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
            harness.explain(name, net, torch.randn(2, 4), torch.tensor([0, 1]), train=torch.randn(3, 4), **FEW[name])


@pytest.mark.parametrize("name", FEW)
def test_frozen_weights_and_a_callers_no_grad_change_nothing(name, seed):
    net, x, targets = small_cnn(), torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2])
    before = harness.explain(name, net, x, targets, **FEW[name])
    net.requires_grad_(False)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(harness.explain(name, net, x, targets, **FEW[name]), before)


class Watched(nn.Module):
    """A model that notes of each pass its rows and whether its weights required gradients, and may run out of
    memory."""

    def __init__(self, net, most=10**9):
        super().__init__()
        self.net, self.most, self.rows, self.wanting = net, most, [], []

    def forward(self, inputs):
        if torch.is_grad_enabled():
            self.rows.append(len(inputs))
            self.wanting.append(any(parameter.requires_grad for parameter in self.parameters()))
            if len(inputs) > self.most:
                raise torch.OutOfMemoryError("no room")
        return self.net(inputs)


@pytest.mark.parametrize("name", PLAIN)
def test_weights_ask_for_no_gradients_meanwhile_and_get_their_wish_and_their_gradients_back(name, seed):
    net = Watched(small_cnn()).eval()
    net.net[0].bias.requires_grad_(False)
    net.net[0].weight.grad = torch.ones_like(net.net[0].weight)
    before = [(parameter.requires_grad, parameter.grad) for parameter in net.parameters()]
    harness.explain(name, net, torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2]), **FEW[name])
    after = [(parameter.requires_grad, parameter.grad) for parameter in net.parameters()]
    assert net.wanting and not any(net.wanting)
    assert all(a[0] == b[0] and a[1] is b[1] for a, b in zip(after, before, strict=True))
    assert (net.net[0].weight.grad == 1).all()


def test_weights_get_their_wish_back_after_an_exception_too(seed):
    net = Watched(small_cnn(), most=0).eval()
    samples = samples_of(net, torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2]))
    with pytest.raises(MemoryError, match="does not hold one forward and backward pass of one input"):
        _gradients.gradients_at(net, samples, samples.targets, samples.inputs)
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("name", PLAIN)
def test_where_memory_runs_out_the_chunk_is_halved_until_it_does_not_and_stays_so(name, seed):
    x, targets, cnn = torch.randn(7, 3, 8, 8), torch.tensor([0, 1, 2, 3, 0, 1, 2]), small_cnn()
    expected = explain_in(16, 1000, name, cnn, x, targets, **FEW[name])
    net = Watched(cnn, most=3).eval()
    for first in (True, False):
        net.rows.clear()
        found = explain_in(16, 1000, name, net, x, targets, **FEW[name])
        assert near(found, expected, 3e-4 if name == "guided_ig" else 1e-5, rounding=1e-6)
        failed, fitted = ([rows for rows in net.rows if (rows > 3) == fails] for fails in (True, False))
        assert first == bool(failed) and max(fitted) <= 3
        assert not first or max(fitted) == failed[-1] // 2
        assert all(after <= before // 2 for before, after in zip(failed, failed[1:], strict=False))


def visited(net, count, draws, chunk):
    """The pairs of sample and draw in the order in which ``visit`` hands over their gradients."""
    samples = samples_of(net, torch.randn(count, 2), none_of(count), predictor=Predictor(net, chunk=chunk))
    pairs = []

    def use(sample, draw, gradients, logits):
        assert gradients.shape == (len(sample), len(draw), 2) and logits.shape == (len(sample), len(draw))
        pairs.extend((int(s), int(d)) for s in sample for d in draw)

    _gradients.visit(net, samples, samples.targets, draws, lambda s, d: samples.inputs[s], use)
    return pairs


def test_points_are_numbered_by_sample_and_draw_in_blocks_no_larger_than_asked(seed):
    """Every pair once, a sample's draws in order, whatever the sizes."""
    for count, draws, chunk in ((1, 1, 1), (5, 1, 3), (3, 7, 2), (4, 3, 7), (2, 10, 9), (6, 2, 100)):
        net = Watched(nn.Linear(2, 3)).eval()
        net.rows = []
        pairs = visited(net, count, draws, chunk)
        assert sorted(pairs) == [(s, d) for s in range(count) for d in range(draws)]
        assert all([d for s, d in pairs if s == sample] == list(range(draws)) for sample in range(count))
        assert max(net.rows) <= chunk


@pytest.mark.parametrize("name", FEW)
def test_a_model_that_begins_in_place_is_explained_like_its_twin(name, seed):
    x, targets, convolution = torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2]), nn.Conv2d(3, 4, 3)

    class Begins(nn.Module):
        def __init__(self, in_place):
            super().__init__()
            self.in_place, self.convolution = in_place, convolution

        def forward(self, inputs):
            moved = inputs.mul_(2.0) if self.in_place else inputs * 2.0
            return self.convolution(moved).relu().mean((2, 3))

    pair = [harness.explain(name, Begins(in_place).eval(), x, targets, **FEW[name]) for in_place in (True, False)]
    assert torch.equal(*pair) and pair[0].abs().max() > 0


@pytest.mark.parametrize("name", NOISY)
def test_wrong_options_are_told_in_one_line(name, seed):
    net, _ = linear_net((4,))
    for message, options in {
        "noise (of .* )?is -1.0": {"noise": -1.0},
        f"samples of {name} is 0, expected a whole number from {1 + (name == 'vargrad')}": {"samples": 0},
    }.items():
        with pytest.raises(ValueError, match=message):
            harness.explain(name, net, torch.randn(2, 4), torch.tensor([0, 1]), **options)
