"""Gradients added up along paths, on functions whose integrals are known and against slow twins."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import harness
from axes import told
from explainer_worlds import explain, explain_in, linear_net, model, near, small_cnn, smooth_net
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.facts import Facts
from harness.registry import EXPLAINERS

COMPLETE = ["integrated_gradients", "guided_ig", "idgi"]
EXPECTED = {"baseline": "train_sample", "samples": 50}


def none_of(count):
    return torch.zeros(count, dtype=torch.long)


def facts_of(name, net, x, targets, **options):
    """Attributions, and what was told of them."""
    entry, train = EXPLAINERS[name], options.pop("train", None)
    explaining, samples = (
        Explaining(entry, entry.complete(options), net),
        samples_of(net, told(x, targets), train=train),
    )
    samples.facts = Facts()
    explaining.prepare(samples)
    return explaining.explain(samples), samples.facts


def quadratic(width):
    """x A x + b x with a symmetric A: from r to x, integrated gradients are (x - r) (A (x + r) + b)."""
    a, b = torch.randn(width, width, dtype=torch.float64), torch.randn(width, dtype=torch.float64)
    a = a + a.T
    return model(lambda x: (x @ a * x).sum(1) + x @ b), lambda x, r: (x - r) * ((x + r) @ a + b)


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
def test_a_sum_of_squares_tells_the_schemes_of_integration_apart(steps, seed):
    x, net = torch.randn(4, 6), model(lambda inputs: (inputs**2).sum(1))
    share = {"riemann_left": 1 - 1 / steps, "riemann_right": 1 + 1 / steps, "riemann_middle": 1, "gausslegendre": 1}
    for method, factor in share.items():
        found = explain("integrated_gradients", net, x, none_of(4), steps=steps, method=method)
        assert near(found, factor * x**2), method


@pytest.mark.parametrize(("method", "steps"), [("gausslegendre", 1), ("gausslegendre", 9), ("riemann_middle", 1)])
def test_the_integral_of_a_quadratic_is_exact(method, steps, seed):
    (net, integral), x, r = quadratic(5), torch.randn(4, 5).double(), torch.randn(5).double()
    found = explain("integrated_gradients", net, x, none_of(4), baseline=r, steps=steps, method=method)
    assert near(found, integral(x, r))


@pytest.mark.parametrize("name", ["input_x_gradient", *COMPLETE])
def test_on_a_bias_free_relu_net_the_path_from_zero_has_one_gradient(name, seed):
    net = nn.Sequential(nn.Linear(8, 20, bias=False), nn.ReLU(), nn.Linear(20, 3, bias=False)).eval()
    x, targets, options = torch.randn(5, 8), torch.tensor([0, 1, 2, 0, 1]), {"steps": 10} if name in COMPLETE else {}
    found, f = explain(name, net, x, targets, **options), net(x).detach().gather(1, targets[:, None])
    if name == "integrated_gradients":
        left = explain(name, net, x, targets, steps=10, method="riemann_left")
        assert near(left, 0.9 * found)  # the gradient at zero itself is zero
    if name == "idgi":
        assert near(found.sum(1), 0.9 * f[:, 0])  # and so the first step's change has nobody to go to
        slope = torch.autograd.grad(net(x.requires_grad_()).gather(1, targets[:, None]).sum(), x)[0]
        assert near(found, 0.9 * f * slope**2 / (slope**2).sum(1, keepdim=True))
    elif name != "guided_ig":  # whose path leaves the straight line
        assert near(found, explain("input_x_gradient", net, x, targets))
        assert near(found.sum(1), f[:, 0])


@pytest.mark.parametrize("shape", [(6,), (4, 5), (2, 5, 6)])
@pytest.mark.parametrize("baseline", ["zero", "train_mean", "train_sample", "uniform_noise", "gaussian_noise"])
@pytest.mark.parametrize("name", COMPLETE)
def test_the_sum_is_what_the_baseline_lacks_on_every_kind_of_input(name, shape, baseline, seed):
    net = nn.Sequential(nn.Flatten(), smooth_net(torch.Size(shape).numel())).eval()
    x, targets, train = torch.randn(4, *shape), torch.tensor([0, 1, 2, 0]), torch.randn(9, *shape)
    samples = samples_of(net, told(x, targets), train=train)
    lost = (net(x) - net(samples.baseline(baseline))).detach().gather(1, targets[:, None])[:, 0].double()
    steps = 200 if name == "guided_ig" else 50
    found, facts = facts_of(name, net, x, targets, train=train, baseline=baseline, steps=steps)
    assert found.shape == x.shape
    sums = found.flatten(1).double().sum(1)
    assert near(sums, lost, 0.1 if name == "guided_ig" else 1e-4)
    if name == "idgi":  # it meets both ends on its way; of the others the audit tells it
        reported = facts.per_sample["completeness_error"][0]
        assert torch.allclose(
            reported, (sums - lost).abs() / lost.abs(), rtol=1e-3, atol=1e-5 * float(1 / lost.abs().min())
        )


def test_the_midpoint_rules_error_falls_with_the_square_of_the_steps_and_gauss_legendres_faster(seed):
    net, x, targets = smooth_net(6, dtype=torch.float64), torch.randn(16, 6, dtype=torch.float64), none_of(16)
    lost = (net(x) - net(torch.zeros_like(x)))[:, 0].detach()

    def error(steps, method):
        found = explain("integrated_gradients", net, x, targets, steps=steps, method=method).double()
        return float((found.sum(1) - lost).abs().mean())

    assert 2.8 < error(4, "riemann_middle") / error(8, "riemann_middle") < 5.6
    assert 1.6 < error(20, "riemann_left") / error(40, "riemann_left") < 2.5
    assert error(12, "gausslegendre") < error(40, "riemann_middle") / 5


@pytest.mark.parametrize("rows", [1, 3, 8, 1000])
def test_idgi_is_its_slow_twin_and_sums_exactly_whatever_the_chunk(rows, seed):
    net, x, targets, r = small_cnn(), torch.randn(3, 3, 7, 7), torch.tensor([0, 3, 1]), torch.randn(3, 7, 7)
    found = explain_in(2, rows, "idgi", net, x, targets, steps=6, baseline=r)
    by_hand = torch.zeros_like(x)
    for row in range(3):
        points = [(r + j / 6 * (x[row] - r)).requires_grad_() for j in range(7)]
        logits = [net(point[None])[0, targets[row]] for point in points]
        for j in range(6):
            squares = torch.autograd.grad(logits[j], points[j], retain_graph=True)[0] ** 2
            by_hand[row] += (squares / squares.sum() * (logits[j + 1] - logits[j])).detach()
    assert near(found, by_hand, 1e-4)  # of differences of logits
    lost = (net(x) - net(r[None])).detach().gather(1, targets[:, None])[:, 0]
    assert near(found.flatten(1).sum(1), lost, rounding=1e-6)


@pytest.mark.parametrize("name", COMPLETE)
@pytest.mark.parametrize(("modality", "shape"), [("image", (3, 4, 4)), ("series", (2, 6)), ("tokens", (4, 3))])
def test_numbers_without_a_scale_of_their_own_take_part(name, modality, shape, seed):
    """Of an image of one colour, or a constant channel of a series, the range is 0."""
    x, w = torch.full((2, *shape), 0.4), torch.rand(shape) + 0.5
    if modality == "series":
        x[:, 1] = torch.linspace(0, 1, 6)
    data = harness.Data(x, none_of(2), modality=modality, task="regression")
    found = harness.explain(name, model(lambda z: (z * w).flatten(1).sum(1)), data, baseline="zero", steps=10)
    assert near(found.flatten(1).sum(1), (x * w).flatten(1).sum(1))
    assert (found[x != 0] != 0).all()


def test_idgi_shares_the_change_of_a_linear_model_by_squared_weights(seed):
    net, weights = linear_net((6,))
    x, targets, r = torch.randn(4, 6), torch.tensor([0, 2, 1, 1]), torch.randn(6)
    w = weights[targets]
    lost = ((x - r) * w).sum(1, keepdim=True)
    assert near(explain("idgi", net, x, targets, baseline=r, steps=7), lost * w**2 / (w**2).sum(1, keepdim=True), 1e-4)


def test_tiny_gradients_are_shared_by_as_large_ones_are(seed):
    """Squares of 1e-25 are 0 in single precision."""
    w, x = torch.randn(6), torch.rand(2, 6)
    small, large = (
        explain("idgi", model(lambda z, scale=scale: z @ w * scale), x, none_of(2), steps=3) for scale in (1e-25, 1.0)
    )
    assert near(small.double() * 1e25, large, 1e-4)


def slow_guided(net, target, x, r, steps, fraction, max_dist):
    """Algorithm 1 of 2106.09788 for one sample, number by number of steps, in float64; and the path's points."""
    x, r = x.double().numpy().ravel(), r.double().numpy().ravel()
    at, answer, path = r.copy(), np.zeros_like(x), [r.copy()]
    whole = np.abs(x - r).sum()
    for step in range(1, steps + 1):
        point = torch.from_numpy(at)[None].requires_grad_()
        slope = torch.autograd.grad(net(point)[0, target], point)[0].numpy()[0]
        alpha = step / steps
        lowest, highest = r + max(alpha - max_dist, 0) * (x - r), r + min(alpha + max_dist, 1) * (x - r)
        wanted, old = whole * (1 - alpha), at.copy()
        share = np.divide(at - r, x - r, out=np.full_like(x, np.inf), where=x != r)
        at[share < max(alpha - max_dist, 0) - 1e-12] = lowest[share < max(alpha - max_dist, 0) - 1e-12]
        while np.abs(x - at).sum() - wanted > 1e-9 * whole:
            ranks = np.where(at == highest, np.inf, np.abs(slope))
            chosen = (ranks <= np.quantile(ranks, fraction, method="lower")) & np.isfinite(ranks)
            room = np.abs(at - highest)[chosen].sum()
            gamma = (np.abs(x - at).sum() - wanted) / room
            at[chosen] = highest[chosen] if gamma > 1 else (at + gamma * (highest - at))[chosen]
        answer += (at - old) * slope
        path.append(at.copy())
    return torch.from_numpy(answer), np.stack(path)


@pytest.mark.parametrize(("fraction", "max_dist"), [(0.25, 0.02), (0.1, 0.3), (0.6, 1.0), (0.0, 0.1), (1.0, 0.05)])
def test_guided_ig_is_its_slow_twin(fraction, max_dist, seed):
    net, x, targets = smooth_net(12, dtype=torch.float64), torch.randn(4, 12).double(), torch.tensor([0, 2, 1, 1])
    r = torch.randn(12).double()
    r[3] = x[1, 3]  # a number that has nowhere to go
    options = {"steps": 9, "fraction": fraction, "max_dist": max_dist}
    found = explain("guided_ig", net, x, targets, baseline=r, **options)
    for row in range(4):
        assert near(found[row], slow_guided(net, targets[row], x[row], r, **options)[0])


def test_guided_ig_never_turns_back_stays_near_the_line_and_goes_equally_far_each_step(seed):
    inner, points = smooth_net(12, dtype=torch.float64), []
    x, r, max_dist, steps = torch.randn(3, 12).double(), torch.randn(12).double(), 0.15, 8
    net = model(lambda z: (points.append(z.detach().clone()), inner(z))[1])
    explain("guided_ig", net, x, none_of(3), baseline=r, max_dist=max_dist, steps=steps)
    path = torch.stack([p for p in points if len(p) == 3][-steps:])
    share = (path - r) / (x - r)
    line = torch.arange(steps)[:, None, None] / steps
    assert (share.diff(dim=0) > -1e-12).all() and (share.diff(dim=0) > 1e-9).any()
    assert ((share - line).abs() < max_dist + 1e-9).all() and (share - line).abs().max() > max_dist / 2
    travelled = (path - r).abs().sum(2) / (x - r).abs().sum(1)
    assert near(travelled, line[..., 0].expand(steps, 3), 1e-8)


def test_guided_ig_that_may_not_leave_the_line_is_the_left_sum_on_it(seed):
    net, x, targets = small_cnn(), torch.randn(3, 3, 7, 7), torch.tensor([0, 3, 1])
    line = explain("integrated_gradients", net, x, targets, steps=6, method="riemann_left")
    assert near(explain("guided_ig", net, x, targets, steps=6, max_dist=0.0), line)
    assert not near(explain("guided_ig", net, x, targets, steps=6), line, 1e-3)


def test_guided_ig_moves_equal_gradients_together_and_an_input_that_is_the_baseline_not_at_all(seed):
    x = torch.rand(3, 8)
    x[1] = 0
    net = model(lambda z: z.sum(1) ** 2)  # all gradients are equal: the path is the line
    found = explain("guided_ig", net, x, none_of(3), steps=5, max_dist=1.0)
    assert near(found, 0.8 * x * x.sum(1, keepdim=True))
    assert not found[1].any()


def test_expected_gradients_on_a_quadratic_tend_to_the_mean_integral_over_the_training_inputs(seed):
    (net, integral), x = quadratic(4), torch.randn(2, 4).double()
    train = torch.randn(5, 4).double() + 1
    expected = torch.stack([integral(x, r) for r in train]).mean(0)
    runs = torch.stack(
        [
            harness.explain("expected_gradients", net, x, none_of(2), train=train, samples=100, seed=run)
            for run in range(20)
        ]
    ).double()
    error = runs.std(0) / math.sqrt(20)
    assert (error < expected.abs().max() / 10).all(), "too few draws to tell"
    assert ((runs.mean(0) - expected).abs() < 8 * error).all()


def test_expected_gradients_on_a_linear_model_are_the_weights_times_the_mean_distance_of_its_draws(seed):
    net, weights = linear_net((2, 4, 5))
    x, targets = torch.randn(3, 2, 4, 5), torch.tensor([2, 0, 1])
    for baseline in ("train_sample", "uniform_noise", "gaussian_noise"):
        train = torch.randn(6, 2, 4, 5)
        samples = samples_of(net, x, targets, train=train)
        drawn = torch.stack([samples.baseline(baseline, draw) for draw in range(7)]).mean(0)
        found = harness.explain("expected_gradients", net, x, targets, train=train, baseline=baseline, samples=7)
        assert near(found, (x - drawn) * weights[targets]), baseline


def test_expected_gradients_places_are_one_in_each_part_of_the_line(seed):
    points, x, train = [], torch.full((2, 3), 2.0) + torch.rand(2, 3), torch.ones(1, 3)
    net = model(lambda z: (points.append(z.detach().clone()), z.sum(1))[1])
    explain_train = {"train": train, "samples": 8}
    harness.explain("expected_gradients", net, x, none_of(2), **explain_train)
    points = torch.cat([p for p in points if len(p) != 1])[-16:].view(2, 8, 3)
    share = (points - 1) / (x - 1)[:, None]
    assert near(share, share[..., :1].expand(2, 8, 3), 1e-4)
    assert torch.equal((share[..., 0] * 8).floor().long(), torch.arange(8).expand(2, 8))
    assert not near(share[0], share[1], 1e-3)


def test_gradient_shap_is_expected_gradients_at_noisy_inputs(seed):
    """On a linear model noise e adds w e: no bias, and the variance of its mean."""
    net, weights = linear_net((4,))
    x, targets, train = torch.randn(1, 4), torch.tensor([1]), torch.zeros(1, 4)
    exact = x * weights[1]
    assert near(harness.explain("expected_gradients", net, x, targets, train=train, samples=5), exact)
    runs = torch.cat(
        [
            harness.explain("expected_gradients", net, x, targets, train=train, samples=16, noise=0.5, seed=run)
            for run in range(60)
        ]
    )
    sigma = weights[1].abs() * 0.5 * (x.max() - x.min()) / 4
    assert ((runs.std(0) / sigma - 1).abs() < 0.5).all()
    assert ((runs.mean(0) - exact[0]).abs() < 5.5 * sigma / math.sqrt(60)).all()


@pytest.mark.parametrize("name", [*COMPLETE, "expected_gradients"])
def test_chunks_and_batches_do_not_matter(name, seed):
    net, x, targets = small_cnn(), torch.randn(4, 3, 9, 9), torch.tensor([0, 3, 1, 1])
    count = {"samples": 7} if name == "expected_gradients" else {"steps": 7}
    together = explain_in(4, 1000, name, net, x, targets, baseline="uniform_noise", **count)
    for batch_size, chunk in ((1, 1), (2, 3), (4, 5), (3, 16)):
        found = explain_in(batch_size, chunk, name, net, x, targets, baseline="uniform_noise", **count)
        assert near(found, together, 3e-4 if name == "guided_ig" else 1e-5, rounding=1e-6), (batch_size, chunk)


def test_without_training_inputs_there_is_nothing_to_expect(seed):
    net, _ = linear_net((4,))
    with pytest.raises(harness.NotApplicable, match="training inputs"):
        explain("expected_gradients", net, torch.randn(2, 4), none_of(2))


def test_wrong_options_are_told_in_one_line(seed):
    net, _ = linear_net((4,))
    wrong = [
        ("integrated_gradients", {"method": "riemann_middel"}, "method (of .* )?is 'riemann_middel'"),
        ("integrated_gradients", {"method": "riemann_trapezoid"}, "method (of .* )?is 'riemann_trapezoid'"),
        *[(name, {"steps": 0}, "steps (of .* )?is 0") for name in COMPLETE],
        ("guided_ig", {"fraction": 1.5}, "fraction (of .* )?is 1.5"),
        ("guided_ig", {"max_dist": -0.1}, "max_dist (of .* )?is -0.1"),
        ("expected_gradients", {"samples": 0}, "samples (of .* )?is 0"),
        ("expected_gradients", {"baseline": "zero"}, "baseline of .* is 'zero', expected one of uniform_noise"),
        ("expected_gradients", {"noise": -1.0, "baseline": "uniform_noise"}, "noise (of .* )?is -1.0"),
    ]
    for name, options, message in wrong:
        with pytest.raises(ValueError, match=message):
            harness.explain(name, net, torch.randn(2, 4), torch.tensor([0, 1]), **options)


def test_guided_ig_ends_where_rounding_or_nan_gradients_leave_nothing_to_move(seed):
    near_start = torch.full((2, 4), 3.0, dtype=torch.float64) + 1e-15
    net, start = smooth_net(4, dtype=torch.float64), torch.full((4,), 3.0, dtype=torch.float64)
    found = explain("guided_ig", net, near_start, none_of(2), baseline=start, max_dist=0.0)
    assert found.isfinite().all()
    broken = model(lambda x: x.sqrt().sum(1) * 0 + x.sum(1))  # infinity times 0 at the baseline
    assert explain("guided_ig", broken, torch.rand(2, 8), none_of(2)).isnan().any()
