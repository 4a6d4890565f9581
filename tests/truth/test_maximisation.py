"""Activation maximisation where the best input is known."""

import pytest
import torch
from torch import nn

from harness.errors import NotApplicable, UserError
from harness.views.maximisation import Ascent, maximise


def linear(*shape, outputs=3):
    """A linear model of inputs of this shape, in eval mode, and its weights (outputs, *shape)."""
    size = torch.Size(shape).numel()
    module = nn.Sequential(nn.Flatten(), nn.Linear(size, outputs)).eval()
    return module, module[1].weight.detach().view(outputs, *shape)


def of_each(module):
    """Output i for input i."""
    return lambda inputs: module(inputs).diagonal()


@pytest.mark.parametrize("shape", [(7,), (2, 5), (3, 4, 4)])
@pytest.mark.parametrize("radius", [1.0, 5.0])
def test_the_best_input_of_a_linear_model_in_a_ball_lies_along_its_weights(shape, radius, seed):
    module, weight = linear(*shape)
    found, reached = maximise(of_each(module), shape, 3, Ascent(radius=radius), module=module, seed=seed)
    best = radius * weight / weight.flatten(1).norm(dim=1).view(-1, *[1] * len(shape))
    assert torch.allclose(found, best, atol=2e-3 * radius)
    assert torch.allclose(reached, radius * weight.flatten(1).norm(dim=1) + module[1].bias, rtol=1e-3, atol=1e-3)


def test_within_a_range_of_values_it_is_a_corner(seed):
    module, weight = linear(6)
    low, high = torch.full((6,), -1.0), torch.full((6,), 2.0)
    found, _ = maximise(
        of_each(module), (6,), 3, Ascent(rate=0.5, steps=400), module=module, seed=seed, value_range=(low, high)
    )
    telling = weight.abs() > 0.05 * weight.abs().amax(1, keepdim=True)
    assert torch.allclose(found[telling], torch.where(weight > 0, high, low)[telling], atol=1e-5)
    assert (found >= low).all() and (found <= high).all()


def test_an_l2_penalty_keeps_it_at_the_weights_over_the_penalty(seed):
    module, weight = linear(5)
    found, _ = maximise(of_each(module), (5,), 3, Ascent(l2=0.5, steps=800, rate=0.2), module=module, seed=seed)
    assert torch.allclose(found, weight / 0.5, atol=0.02)


def test_total_variation_and_blur_make_it_smooth(seed):
    module, _ = linear(1, 12, 12)
    rough = {}
    for name, ascent in (
        ("plain", Ascent(radius=3.0)),
        ("variation", Ascent(radius=3.0, variation=0.2)),
        ("blur", Ascent(radius=3.0, blur=1.0)),
    ):
        found, _ = maximise(of_each(module), (1, 12, 12), 3, ascent, module=module, seed=seed, axes=(2, 3))
        rough[name] = (found.diff(dim=2).abs().mean() + found.diff(dim=3).abs().mean()) / found.abs().mean()
    assert rough["variation"] < 0.8 * rough["plain"] and rough["blur"] < rough["plain"]


def test_what_looks_at_one_place_alone_is_found_as_far_around_it_as_jitter_goes(seed):
    class Corner(nn.Module):
        def forward(self, inputs):
            return inputs[:, 0, 0, :1]

    spread = {}
    for jitter in (0, 1):
        found, _ = maximise(
            lambda inputs: Corner()(inputs)[:, 0],
            (1, 8, 8),
            1,
            Ascent(jitter=jitter, radius=5.0),
            module=Corner(),
            seed=seed,
            axes=(2, 3),
        )
        spread[jitter] = int((found > 0.6).sum())
    assert spread[0] == 1 and 5 < spread[1] <= 9  # and no further than it is moved


def test_blurring_keeps_the_mean_of_a_constant_input_and_spreads_a_point(seed):
    from harness.views.maximisation import _blurred

    flat = torch.full((1, 2, 9, 9), 0.7)
    assert torch.allclose(_blurred(flat, 1.3, (2, 3)), flat)
    point = torch.zeros(1, 1, 21, 21)
    point[0, 0, 10, 10] = 1
    blurred = _blurred(point, 1.0, (2, 3))
    from scipy.ndimage import gaussian_filter

    assert torch.allclose(blurred[0, 0].sum(), torch.tensor(1.0))
    assert torch.allclose(
        blurred[0, 0], torch.from_numpy(gaussian_filter(point[0, 0].numpy(), 1.0, truncate=3.0)), atol=1e-6
    )


def test_the_same_seed_finds_the_same_and_another_starts_elsewhere(seed):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2)).eval()
    find = lambda start: maximise(of_each(module), (6,), 2, Ascent(steps=3, jitter=1), module=module, seed=start)[0]
    assert torch.equal(find(seed), find(seed)) and not torch.equal(find(seed), find(seed + 1))


def test_the_model_and_the_random_state_are_left_as_they_were(seed):
    module, _ = linear(4)
    state, before = torch.get_rng_state(), [weight.clone() for weight in module.parameters()]
    maximise(of_each(module), (4,), 3, Ascent(steps=2), module=module)
    assert torch.equal(state, torch.get_rng_state())
    assert all(
        w.requires_grad and w.grad is None and torch.equal(w, b)
        for w, b in zip(module.parameters(), before, strict=True)
    )


def test_a_model_without_a_gradient_is_not_applicable():
    class Step(nn.Module):
        def forward(self, inputs):
            return (inputs > 0).float()

    with pytest.raises(NotApplicable, match="no gradient of the model reaches its input"):
        maximise(lambda inputs: Step()(inputs)[:, 0], (3,), 1, Ascent(), module=Step())
    with pytest.raises(NotApplicable, match="the gradient of the model is zero"):
        maximise(lambda inputs: 0 * inputs[:, 0], (3,), 1, Ascent(), module=Step())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "ascent.steps is 0, expected a whole number from 1"),
        ({"rate": -1}, "ascent.rate is -1, expected a number from 0"),
        ({"jitter": 0.5}, "ascent.jitter is 0.5, expected a whole number from 0"),
        ({"radius": 0.0}, "ascent.radius is 0.0, expected a number from"),
    ],
)
def test_a_wrong_setting_is_one_line(options, words):
    with pytest.raises(UserError, match=words):
        Ascent(**options)
