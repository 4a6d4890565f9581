"""Learned masks find what a model looks at, and take the steps of their papers' loops."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

import harness
from explainer_worlds import linear_net, model, near, small_cnn
from harness.errors import UserError
from harness.explainers._learned_masks import area_loss
from harness.explainers.dyna_mask import operator_of
from harness.explainers.extremal_perturbation import SmoothMasks, blurring
from harness.explainers.extrmask import BidirectionalGRU
from harness.randomness import sample_keys

SHARE = 0.125
WHERE = (slice(None), 0, slice(10, 20))  # an eighth of two channels of 40 steps
TARGETS = torch.tensor([1, 1, 1])


def block():
    """A model that looks at ten steps of the first channel, and series that are high there."""
    x = torch.randn(3, 2, 40)
    x[WHERE] += 1.5
    return model(lambda x: x[WHERE].mean(1)[:, None] * torch.tensor([-4.0, 4.0])), series(x)


def series(x, **about):
    return harness.Data(x, TARGETS[: len(x)], modality="series", **{"task": "classes", **about})


def sorted_loss(masks, shown):
    """The area loss as the papers write it; its gradient depends on the order that a sort leaves ties in."""
    reference = torch.arange(masks.shape[1]) >= masks.shape[1] - shown
    return (masks.sort(1).values - reference.double()).square().mean(1)


def slope(loss, masks):
    leaf = masks.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf).sum(), leaf)[0]


def test_the_area_loss_has_the_slope_of_the_sorted_one_and_at_ties_its_mean_over_all_orders(seed):
    masks = torch.stack([torch.randperm(30) for _ in range(4)]).double() / 29
    assert near(slope(lambda m: area_loss(m, torch.full((4,), 7)), masks), slope(lambda m: sorted_loss(m, 7), masks))
    tied = torch.tensor([[0.4, 0.9, 0.4, 0.1, 0.4]]).double()
    orders = [torch.tensor([order]) for order in itertools.permutations(range(5))]
    nudged = [slope(lambda m: sorted_loss(m, 3), tied + 1e-9 * order) for order in orders]
    assert near(slope(lambda m: area_loss(m, torch.tensor([3])), tied), torch.stack(nudged).mean(0), 1e-6)


@pytest.mark.parametrize(("size", "sigma"), [((10, 13), 4.0), ((6, 5), 1.1)])
def test_a_smooth_mask_is_the_smooth_maximum_of_kernels_around_the_lattice(size, sigma, seed):
    shapes = SmoothMasks(size, sigma, torch.zeros(1).double())
    step, radius = max(1, round(sigma / 3)), shapes.radius
    numbers = torch.rand(2, 1, *shapes.lattice).double()
    found = shapes(numbers)
    for row, y, x in itertools.product(range(2), range(size[0]), range(size[1])):
        values = []
        for i, j in itertools.product(range(-radius, radius + 1), repeat=2):
            at = y // step + i, x // step + j
            inside = all(0 <= place < side for place, side in zip(at, shapes.lattice, strict=True))
            apart = np.hypot(y - step * at[0], x - step * at[1])
            values.append(inside and np.exp(-2 * max(apart / sigma - 0.5, 0) ** 2) * float(numbers[row, 0][at]))
        weights = np.exp(20 * np.array(values))
        assert abs(float(found[row, y, x]) - (weights * values).sum() / weights.sum()) < 1e-9


def test_pixels_are_blurred_the_more_the_smaller_their_mask(seed):
    image = torch.rand(1, 2, 24, 20).double()
    perturb = blurring(image)
    blurred = [
        np.stack([gaussian_filter(each, 20 / 224 * 20 * (1 - level / 7), mode="constant") for each in image[0].numpy()])
        for level in range(8)
    ]
    for level in (0, 2, 6, 7):
        assert near(perturb(torch.full((1, 1, 24, 20), level / 7).double())[0, 0], torch.tensor(blurred[level]), 1e-6)
    between = perturb(torch.full((1, 1, 24, 20), 2.25 / 7).double())[0, 0]
    assert near(between, torch.tensor(0.75 * blurred[2] + 0.25 * blurred[3]), 1e-6)


@pytest.mark.parametrize("keep", [True, False])
def test_an_extremal_perturbation_finds_the_patch_and_has_the_area_that_is_asked_for(keep, seed):
    net, weights = linear_net((1, 20, 20), 2)
    top, left = torch.randint(1, 14, (2,)).tolist()
    weights.zero_()[1, 0, top : top + 5, left : left + 5] = 1.0
    found = harness.explain(
        "extremal_perturbation",
        net,
        torch.ones(1, 1, 20, 20),
        torch.tensor([1]),
        areas=0.05,
        baseline="zero",
        keep=keep,
    )[0, 0]
    inside = found[top : top + 5, left : left + 5]
    assert inside.sum() > 0.7 * found.sum() and inside[2, 2] > 0.95
    assert abs(float(found.mean()) - 0.05) < 0.02  # edges are smooth


@pytest.mark.parametrize(("mirrored", "baseline"), [(True, "zero"), (False, "zero"), (False, None)])
def test_an_extremal_perturbation_takes_the_steps_of_the_released_loop_and_sums_its_masks(mirrored, baseline, seed):
    net, x, targets = small_cnn().double(), torch.rand(2, 3, 12, 9).double(), torch.tensor([0, 2])
    with torch.no_grad():
        net[-1].weight.mul_(100)
    areas, expected = (0.2, 0.5), torch.zeros(2, 12, 9).double()
    shapes = SmoothMasks((12, 9), 0.3 * 9, x)
    for n, area in itertools.product(range(2), areas):
        numbers = torch.ones(1, 1, *shapes.lattice).double().requires_grad_()
        optimiser = torch.optim.SGD([numbers], lr=0.01, momentum=0.9, dampening=0.9)
        for step in range(6):
            mask = shapes(numbers)
            seen = mask * x[n] if baseline else blurring(x[n : n + 1])(mask[None])[0, 0]
            image = seen.view(1, 3, 12, 9)
            score = net(image.flip(-1) if mirrored and step % 2 == 0 else image)[0, targets[n]]
            area_weight = 300 * 1.0035**step
            loss = -score + area_weight * area_loss(mask.flatten(1), torch.tensor([np.ceil(area * 108)])).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            numbers.data.clamp_(0, 1)
        expected[n] += shapes(numbers)[0].detach()
    options = {"areas": areas, "steps": 6, "width": 0.3, "mirrored": mirrored, "baseline": baseline}
    found = harness.explain("extremal_perturbation", net, x, targets, **options)[:, 0]
    assert near(found, expected)
    if baseline:  # the weakest blurs change nothing in so small an image
        assert not near(harness.explain("extremal_perturbation", net, x, targets + 1, **options)[:, 0], expected, 1e-3)


@pytest.mark.parametrize("name", ["gaussian_blur", "moving_average"])
def test_a_dynamic_perturbation_averages_in_time(name, seed):
    x, masks = torch.randn(1, 2, 7).double(), torch.rand(1, 1, 2, 7).double()
    found = operator_of(name, 2.0, 2)(x)(masks)[0, 0]
    for channel, t in itertools.product(range(2), range(7)):
        own, m = x[0, channel].numpy(), float(masks[0, 0, channel, t])
        apart = np.abs(np.arange(7) - t)
        if name == "gaussian_blur":
            weights = np.exp(-(apart**2) / (2 * (2 * (1 - m)) ** 2))
            expected = (weights * own).sum() / weights.sum()
        else:
            expected = m * own[t] + (1 - m) * own[apart <= 2].mean()
        assert abs(float(found[channel, t]) - expected) < 1e-5
    assert near(operator_of(name, 2.0, 2)(x)(torch.ones_like(masks))[0, 0], x[0], 1e-9)


def small_series_net():
    """Two classes whose logits bend, and two series."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 2)).double().eval()
    with torch.no_grad():
        net[-1].weight.mul_(5)
    return net, torch.randn(2, 2, 8).double()


@pytest.mark.parametrize("keep", [True, False])
def test_dyna_mask_takes_the_steps_of_the_released_loop(keep, seed):
    net, x = small_series_net()
    expected = torch.empty_like(x)
    for n in range(2):
        mask = torch.full((1, 2, 8), 0.5).double().requires_grad_()
        optimiser = torch.optim.SGD([mask], lr=0.1, momentum=0.9)
        for step in range(9):
            perturbed = operator_of("moving_average", 2.0, 2)(x[n : n + 1])(mask[None] if keep else 1 - mask[None])[0]
            error = -net(perturbed).log_softmax(1)[0, 1] * (1 if keep else -1)
            area = area_loss(mask.flatten(1), torch.tensor([4])).sum()
            loss = error + 0.5 * 100 ** (step / 9) * area + 2.0 * (mask[..., 1:] - mask[..., :-1]).abs().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            mask.data.clamp_(0, 1)
        expected[n] = mask.detach()[0]
    options = {"areas": 0.25, "steps": 9, "keep": keep, "change_weight": 2.0, "operator": "moving_average"}
    assert near(harness.explain("dyna_mask", net, series(x), **options), expected)


def test_extrmask_takes_the_steps_of_the_released_loop(seed):
    net, x = small_series_net()
    expected = torch.empty_like(x)
    for n in range(2):
        mask, learned = torch.full((2, 8), 0.5).double().requires_grad_(), torch.zeros(2, 8).double().requires_grad_()
        optimiser = torch.optim.Adam([mask, learned], lr=0.01)
        spread = x[n].square().mean(1, keepdim=True).sqrt()
        for _ in range(20):
            error = -net((mask * x[n] + (1 - mask) * spread * learned)[None]).log_softmax(1)[0, 1]
            loss = error + (0.5 * mask + 0.2 * learned.abs()).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        expected[n] = mask.detach()
    weights = {"mask_weight": 0.5, "perturbation_weight": 0.2}
    found = harness.explain("extrmask", net, series(x), steps=20, network="tensor", baseline="zero", **weights)
    assert near(found, expected)


def test_the_network_of_extrmask_is_torchs_recurrent_one_for_each_sample(seed):
    x = torch.randn(3, 2, 6)
    nets = BidirectionalGRU(sample_keys(x), x)
    found = nets()
    for n in range(3):
        gru, out = nn.GRU(2, 2, batch_first=True, bidirectional=True), nn.Linear(4, 2)
        entering, recurrent, bias, recurrent_bias, weight, out_bias = (each[n].detach() for each in nets.parameters)
        for way, end in enumerate(("", "_reverse")):
            for name, value in zip(
                ("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
                (entering, recurrent, bias, recurrent_bias),
                strict=True,
            ):
                getattr(gru, f"{name}_l0{end}").data = value[way]
        out.weight.data, out.bias.data = weight.T, out_bias
        assert near(found[n], out(gru(x[n : n + 1].mT)[0])[0].T)
    assert not near(nets.parameters[0][0], nets.parameters[0][1], 1e-2)


@pytest.mark.parametrize("name", ["dyna_mask", "extrmask"])
def test_a_mask_of_a_series_finds_the_block_that_a_model_looks_at(name, seed):
    net, data = block()
    options = {"areas": SHARE, "steps": 300, "operator": "moving_average", "half_window": 40, "keep": False}
    found = harness.explain(
        name, net, data, **(options if name == "dyna_mask" else {"steps": 200, "network": "tensor"})
    )
    assert (found[WHERE].sum(1) > 0.75 * found.sum((1, 2))).all()
    if name == "dyna_mask":
        assert (found.mean((1, 2)) - SHARE).abs().max() < 0.01


def test_dyna_mask_is_that_of_the_smallest_area_that_suffices(seed):
    """The logit is that of the input where the three steps, a quarter of the series, are kept."""
    net = model(lambda x: 0.5 * x[:, 0, 2:5].sum(1, keepdim=True))
    x = torch.full((1, 1, 12), 0.01)
    x[..., 2:5] = 1.0
    data = harness.Data(x, modality="series", task="regression")
    options = {"operator": "moving_average", "half_window": 12, "change_weight": 0.0}
    found = harness.explain("dyna_mask", net, data, areas=(0.75, 0.08, 0.25, 0.5), **options)
    assert near(found, (x == 1).float(), 0.02)
    anything = harness.explain("dyna_mask", net, data, areas=(0.5, 0.08), tolerance=1e6, **options)
    assert anything.sum() < 1.5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("extremal_perturbation", {"areas": (0.1, 1.0)}, r"areas of .* is \(0.1, 1\)"),
        ("extremal_perturbation", {"steps": 0}, "steps (of .* )?is 0"),
        ("dyna_mask", {"areas": 0}, r"areas of .* is \(0,\)"),
        ("dyna_mask", {"operator": "blur"}, "operator of dyna_mask is 'blur', expected"),
        ("dyna_mask", {"half_window": -1}, "half_window (of .* )?is -1"),
        ("extrmask", {"network": "lstm"}, "network of extrmask is 'lstm', expected gru or tensor"),
        ("extrmask", {"mask_weight": -1.0}, "mask_weight (of .* )?is -1.0"),
    ],
)
def test_what_makes_no_mask_is_told(name, options, message):
    if name == "extremal_perturbation":
        net, data = small_cnn(), harness.Data(torch.rand(1, 3, 8, 8), TARGETS[:1])
    else:
        net, data = nn.Sequential(nn.Flatten(), nn.Linear(8, 3)).eval(), series(torch.rand(1, 2, 4))
    with pytest.raises(UserError, match=message):
        harness.explain(name, net, data, **options)
