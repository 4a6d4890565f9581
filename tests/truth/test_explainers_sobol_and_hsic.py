"""Sobol and HSIC attribution: closed forms, slow twins, and 0 for what a model does not use."""

import math

import pytest
import torch
from scipy.stats import qmc
from torch import nn

import harness
from explainer_worlds import model, near, smooth_net
from harness.api import samples_of
from harness.explainers.sobol_and_hsic import independence_criterion, jansen, sobol_pairs
from harness.registry import EXPLAINERS

BOTH = ("sobol_attribution", "hsic_attribution")


def of_masks(function, width):
    """Attributions of a model that sees the masks themselves: the input is 1, what is removed 0."""
    net = model(lambda x: torch.stack([function(x), 0 * x[:, 0]], 1))

    def explain(name, **options):
        data = harness.Data(torch.ones(1, width), torch.tensor([0]), task="classes")
        return harness.explain(name, net, data, baseline="zero", **options)[0]

    return explain


def ishigami(masks):
    """Ishigami and Homma 1990, with a = 7 and b = 0.1, of three uniform numbers in -pi..pi; a fourth is not used."""
    x = math.pi * (2 * masks - 1)
    return torch.sin(x[:, 0]) + 7 * torch.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * torch.sin(x[:, 0])


def test_total_order_indices_of_ishigamis_function_are_those_in_the_literature(seed):
    found = of_masks(ishigami, 4)("sobol_attribution", samples=4096)
    assert near(found, torch.tensor([0.5576, 0.4424, 0.2437, 0.0]), 0.03)
    assert found[3] == 0, "what is not used changes nothing"


def test_indices_of_an_additive_function_are_the_shares_of_its_variance_and_those_of_a_product_overlap(seed):
    weights = torch.tensor([1.0, -2.0, 3.0, 0.0, 0.5])
    shares = weights**2 / (weights**2).sum()
    assert near(of_masks(lambda m: m @ weights, 5)("sobol_attribution", samples=2048), shares, 0.03)
    # Of m1 m2 the variance is 1/9 - 1/16, and that of the mean over one mask 1/48.
    both = 1 - (1 / 48) / (1 / 9 - 1 / 16)
    assert near(of_masks(lambda m: m.prod(1), 2)("sobol_attribution", samples=2048), torch.tensor([both, both]), 0.03)


def test_masks_are_sobols_sequence_shifted_for_each_sample(seed):
    keys = torch.randint(2**62, (3,))
    found = sobol_pairs(keys, 16, 5)
    theirs = torch.from_numpy(qmc.Sobol(10, scramble=False).random(16)).float().view(16, 2, 5)
    shift = (found - theirs) % 1
    apart = (shift - shift[:, :1]).abs()
    assert float(torch.minimum(apart, 1 - apart).max()) < 1e-6 and found.min() >= 0 and found.max() < 1
    assert not near(shift[0], shift[1], 0.01)
    every = found[:, :, 0].sort(1).values.diff(dim=1)
    assert near(every, torch.full_like(every, 1 / 16), 1e-4), "each number is spread evenly"


def test_indices_are_those_of_a_loop_over_masks_of_which_one_number_is_exchanged(seed):
    net, x, r, targets = smooth_net(4), torch.randn(2, 4), torch.randn(4), torch.tensor([2, 0])
    found = harness.explain("sobol_attribution", net, x, targets, samples=8, baseline=r, score="probability")
    pairs = sobol_pairs(samples_of(net, x, targets).stream("sobol masks"), 8, 4)
    for row in range(2):
        f = lambda m, row=row: net(m * x[row] + (1 - m) * r).softmax(1)[:, targets[row]].detach().double()
        first, second = pairs[row].unbind(1)
        for column in range(4):
            exchanged = first.clone()
            exchanged[:, column] = second[:, column]
            index = ((f(first) - f(exchanged)) ** 2).sum() / (2 * 8 * f(first).var())
            assert float(found[row, column]) == pytest.approx(float(index), rel=1e-3)


def test_the_criterion_is_the_trace_of_the_centred_kernels(seed):
    masks, scores = torch.rand(2, 20, 3) < 0.5, torch.randn(2, 20, dtype=torch.float64)
    found, h = independence_criterion(masks, scores), torch.eye(20).double() - 1 / 20
    for row in range(2):
        apart = scores[row][:, None] - scores[row]
        width = apart.abs()[torch.triu_indices(20, 20, 1).unbind()].median()
        output = torch.exp(-(apart**2) / (2 * width**2))
        for column in range(3):
            m = masks[row, :, column].double()
            own = 0.5 - (m[:, None] - m) ** 2
            assert float(found[row, column]) == pytest.approx(float(torch.trace(own @ h @ output @ h)) / 19**2)


def test_over_all_masks_the_criterion_is_0_for_what_is_not_used_and_equal_for_what_is_used_alike(seed):
    masks = (torch.arange(32)[:, None] >> torch.arange(5)) % 2 == 1
    shown = masks.double()
    scores = (shown[:, 0] - shown[:, 1]).abs() + 2 * shown[:, 3]
    found = independence_criterion(masks[None], scores[None])[0]
    assert found[[2, 4]].abs().max() < 1e-12 and found[3] > 0.01
    # One of two numbers of an exclusive or says nothing of the score, alone: HSIC of single segments does not see it.
    assert found[[0, 1]].abs().max() < 1e-12


def test_hsic_finds_what_is_used_and_does_not_depend_on_the_scores_unit_and_origin(seed):
    weights = torch.tensor([1.0, -2.0, 0.0, 4.0, 0.0, 0.0])
    found = of_masks(lambda m: m @ weights, 6)("hsic_attribution", samples=2000)
    assert found.argsort(descending=True)[:3].tolist() == [3, 1, 0]
    assert found[[2, 4, 5]].max() < found[3] / 50
    moved = of_masks(lambda m: 10 * (m @ weights) - 70, 6)("hsic_attribution", samples=2000)
    assert near(moved, found, 1e-3)


def test_each_segment_is_shown_in_exactly_half_of_the_masks(seed):
    seen = []
    net = model(lambda x: seen.append(x) or x @ torch.ones(5, 2))
    harness.explain("hsic_attribution", net, torch.ones(1, 5), torch.tensor([0]), samples=40, baseline="zero")
    masks = torch.cat(seen)[-40:]
    assert masks.sum(0).tolist() == [20.0] * 5
    assert len(masks.unique(dim=0)) > 16, "segments come and go by themselves"


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_score_that_is_not_finite_makes_no_finite_map_of_its_sample_alone(wrong, seed):
    masks, scores, replaced = torch.rand(3, 20, 4) > 0.5, torch.rand(3, 20).double(), torch.rand(3, 4, 20).double()
    right = independence_criterion(masks, scores), jansen(scores, replaced)
    some, others = scores.clone(), replaced.clone()
    some[1, 7] = others[1, 2, 3] = wrong
    for found in (independence_criterion(masks, some), jansen(some, replaced), jansen(scores, others)):
        assert found[1].isnan().all()
        assert any(torch.equal(found[[0, 2]], each[[0, 2]]) for each in right)


@pytest.mark.parametrize("name", BOTH)
def test_where_the_score_does_not_vary_all_values_are_0(name, seed):
    assert (of_masks(lambda m: 0 * m[:, 0] + 3, 4)(name, samples=16) == 0).all()
    assert (jansen(torch.ones(1, 8), torch.ones(1, 3, 8)) == 0).all()


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("modality", "shape", "parts"),
    [
        ("image", (1, 24, 24), 64),
        ("table", (70,), 70),
        ("tokens", (10, 3), 10),
        ("series", (2, 130), 64),
        ("volume", (1, 8, 8, 8), 64),
    ],
)
def test_every_kind_of_input_is_cut_into_64_parts_and_a_table_into_its_columns(name, modality, shape, parts, seed):
    net = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 2)).eval()
    data = harness.Data(torch.rand(1, *shape), torch.tensor([1]), modality=modality)
    found = harness.explain(name, net, data, samples=16, baseline="zero")
    assert 0.7 * parts <= len(found.flatten().unique()) <= parts and found.min() >= 0


def test_mistakes_are_told_in_one_line(seed):
    explain = of_masks(lambda m: m.sum(1), 3)
    with pytest.raises(ValueError, match="samples (of .* )?is 1"):
        explain("sobol_attribution", samples=1)
    with pytest.raises(ValueError, match="samples (of .* )?is 2"):
        explain("hsic_attribution", samples=2)
    assert not any(EXPLAINERS[name].signed for name in BOTH)
