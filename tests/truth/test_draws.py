"""Successive draws are independent: uncorrelated along a sample's draws and between samples, not merely unequal."""

import os

import pytest
import torch
from torch import nn

import harness
from axes import told
from harness.randomness import seed_torch
from metric_worlds import draw

SEED = int(os.environ["HARNESS_TEST_SEED"])
COUNT = 3


@pytest.fixture(params=[SEED, 1], ids=lambda seed: f"seed={seed}")
def seed(request):
    return request.param


class Recording(nn.Module):
    """A model with three classes that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        flat = x.flatten(1)
        return torch.stack([flat.mean(1), flat.square().mean(1), flat.std(1)], 1)

    def perturbed(self, inputs, draws):
        """What it was given beside the inputs themselves: (N, draws, elements), sample by sample."""
        seen = torch.cat(self.seen)
        seen = seen[~(seen[:, None] == inputs[None]).flatten(2).all(2).any(1)]
        assert len(seen) == len(inputs) * draws
        return seen.view(len(inputs), draws, -1)


def plain(shape, seed):
    """Inputs of a constant value each, so that a mask shows as itself once divided by it."""
    values = 1 + torch.rand(COUNT, generator=torch.Generator().manual_seed(seed))
    return values.view(-1, *[1] * len(shape)).expand(COUNT, *shape).contiguous()


def check_uncorrelated(drawn):
    """Draws (N, draws, L) of a sample and of its neighbour are uncorrelated, in values and sizes, however shifted.

    Shifted, because a stream that moves on too little gives the last draw again a few places further; in sizes, because
    normal numbers that share one of their two uniforms are dependent without being correlated.
    """
    values = _unit(drawn.double())
    values, sizes = (torch.fft.rfft(each) for each in (values, _unit(values.abs())))
    limit = 7 / drawn.shape[2] ** 0.5  # thousands of shifts of hundreds of pairs
    pairs = {
        "successive draws": (lambda d: d[:, 1:], lambda d: d[:, :-1]),
        "first draw": (lambda d: d[:, 1:], lambda d: d[:, :1]),
        "samples": (lambda d: d[1:], lambda d: d[:-1]),
        "the neighbour's last draw": (lambda d: d[1:, 1:], lambda d: d[:-1, :-1]),
        "the neighbour's next draw": (lambda d: d[1:, :-1], lambda d: d[:-1, 1:]),
    }
    for what, (one, other) in pairs.items():
        for first, second in ((values, values), (values, sizes), (sizes, values)):
            shifted = torch.fft.irfft(one(first) * other(second).conj(), n=drawn.shape[2])
            assert shifted.abs().max() < limit, what


def _unit(values):
    values = values - values.mean(2, keepdim=True)
    return values / values.norm(dim=2, keepdim=True).clamp(min=1e-9)


@pytest.mark.parametrize("shape", [(3, 24, 24), (1500,)], ids=["image", "table"])
def test_the_noise_of_max_sensitivity(shape, seed):
    seen, inputs, draws = [], draw(shape, seed, COUNT), 25

    def recording(model, inputs, targets):
        seen.append(inputs.detach().clone())
        return inputs

    harness.score(
        "max_sensitivity",
        Recording().eval(),
        harness.Data(inputs, torch.zeros(COUNT, dtype=torch.long), value_range=(-2.0, 2.0)),
        inputs.clone(),
        explainer=recording,
        draws=draws,
        radius=0.1,
    )
    rows = torch.cat(seen)[1:]  # first, the first sample's map is compared with the one that is given
    noise = rows.view(COUNT, draws, -1) - inputs.flatten(1)[:, None]
    assert noise.abs().max() <= 0.4 + 1e-5
    check_uncorrelated(noise)


@pytest.mark.parametrize("shape", [(3, 48, 48), (80, 80)], ids=["image", "tokens"])
def test_the_gaussian_noise_of_infidelity(shape, seed):
    model, inputs, draws = Recording().eval(), draw(shape, seed, COUNT), 30
    harness.score(
        "infidelity",
        model,
        told(inputs, torch.zeros(COUNT, dtype=torch.long)),
        torch.ones_like(inputs),
        perturbation="gaussian",
        convention="local",
        samples=draws,
    )
    check_uncorrelated(model.perturbed(inputs, draws) - inputs.flatten(1)[:, None])


@pytest.mark.parametrize("shape", [(1, 80, 80), (1500,)], ids=["image", "table"])
def test_the_random_subsets_of_infidelity(shape, seed):
    model, inputs, draws = Recording().eval(), plain(shape, seed), 60  # more than are drawn in one go
    harness.score(
        "infidelity",
        model,
        inputs,
        torch.zeros(COUNT, dtype=torch.long),
        torch.ones_like(inputs),
        perturbation="subset",
        baseline="zero",
        samples=draws,
    )
    removed = model.perturbed(inputs, draws) == 0
    assert abs(removed.double().mean() - 0.5) < 5 * 0.5 / removed.numel() ** 0.5
    check_uncorrelated(removed)


def test_the_places_of_infidelitys_squares(seed):
    model, inputs, draws = Recording().eval(), plain((1, 16, 16), seed), 2000
    harness.score(
        "infidelity",
        model,
        inputs,
        torch.zeros(COUNT, dtype=torch.long),
        torch.ones_like(inputs),
        perturbation="square",
        baseline="zero",
        largest=3,
        samples=draws,
    )
    removed = (model.perturbed(inputs, draws) == 0).view(COUNT, draws, 16, 16).double()
    assert set(removed.sum((2, 3)).unique().tolist()) == {1, 4, 9}
    for along in (3, 2):  # the middle of the square, across and down, draw after draw
        middle = (removed.sum(5 - along) * torch.arange(16)).sum(2) / removed.sum((2, 3))
        check_uncorrelated(torch.stack([middle[:, ::2], middle[:, 1::2]], 1))


def test_the_masks_of_rise(seed):
    model, inputs, draws = Recording().eval(), plain((1, 64, 64), seed), 20
    harness.explain("rise", model, inputs, torch.zeros(COUNT, dtype=torch.long), samples=draws, cells=64, score="logit")
    masks = model.perturbed(inputs, draws).view(COUNT, draws, 64, 64) / inputs[:, :, :1, :1]
    assert masks.min() >= 0 and masks.max() <= 1 + 1e-5
    # With cells of one pixel, pixels two apart hold different coins.
    check_uncorrelated(masks[..., ::2, ::2].flatten(2))


@pytest.mark.parametrize("granularity", ["unit", "segment"])
def test_the_subsets_of_sensitivity_n_of_one_size_and_of_successive_sizes(granularity, seed):
    model, inputs, sizes, subsets = Recording().eval(), plain((1, 40, 40), seed), 12, 8
    labels = torch.stack([torch.arange(1600) % count for count in (1600, 1500, 1550)]).view(COUNT, 40, 40)
    harness.score(
        "sensitivity_n",
        model,
        inputs,
        torch.zeros(COUNT, dtype=torch.long),
        torch.ones(COUNT, 1, 40, 40),
        baseline="zero",
        sizes=sizes,
        subsets=subsets,
        granularity=granularity,
        segments=labels if granularity == "segment" else "grid:3",
    )
    removed = (model.perturbed(inputs, sizes * subsets) == 0).view(COUNT, sizes, subsets, -1)[..., :1500]
    share = removed.double().mean(-1)
    assert share[:, -1].min() > 0.75 and share[:, -1].max() < 0.85
    check_uncorrelated(removed[:, -1])
    check_uncorrelated(removed[:, -2])
    # Successive sizes must not grow out of each other: the same draw of four sizes.
    check_uncorrelated(removed[:, -4:, 0])
    check_uncorrelated(removed[:, -4:, 1])


def test_the_subsets_of_one_size_that_are_drawn_in_several_goes(seed):
    model, inputs, subsets = Recording().eval(), plain((1, 80, 80), seed), 60
    harness.score(
        "sensitivity_n",
        model,
        inputs,
        torch.zeros(COUNT, dtype=torch.long),
        torch.ones(COUNT, 1, 80, 80),
        baseline="zero",
        sizes=2,
        share=0.5,
        subsets=subsets,
    )
    removed = (model.perturbed(inputs, 2 * subsets) == 0)[:, subsets:]
    assert (removed.sum(2) == 3200).all()
    check_uncorrelated(removed)


@pytest.mark.parametrize("number", [0, 7, 2**63, 2**64 - 1])
@pytest.mark.parametrize("there", [False, True], ids=["no accelerator", "an accelerator"])
def test_generators_are_seeded_as_torch_seeds_them(number, there, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: there)
    torch.manual_seed(number)
    expected = torch.get_rng_state(), torch.rand(3)
    torch.rand(5)
    seed_torch(number)
    assert torch.equal(torch.get_rng_state(), expected[0]) and torch.equal(torch.rand(3), expected[1])
