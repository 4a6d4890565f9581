"""AGI, MFABA, Blur IG and XRAI beside the loops of their authors' code, one sample and one step after the other."""

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import morphology, segmentation, transform
from torch import nn

import harness
from explainer_worlds import linear_net, near, small_cnn
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.explainers.adversarial import evenly_spaced_others
from harness.explainers.blur_ig import blur_matrices
from harness.explainers.xrai import by_regions
from harness.facts import Facts
from harness.registry import EXPLAINERS

UNIT = (0.0, 1.0)


def net_and_images(count=4):
    """A net whose classes lie close together, images from 0 to 1, and the classes that it predicts."""
    net, x = small_cnn().double(), torch.rand(count, 3, 8, 6).double()
    with torch.no_grad():
        net[-1].weight.mul_(30)
        net[-1].bias.copy_(-(net(x) - net[-1].bias).mean(0))
    return net, x, net(x).argmax(1)


def explain(name, net, x, targets, **options):
    return harness.explain(name, net, harness.Data(x, targets, value_range=UNIT), **options).double()


class Beside(torch.nn.Module):
    """A net whose outputs are NaN for all inputs but those that it knows."""

    def __init__(self, net, known):
        super().__init__()
        self.net, self.known = net, known

    def forward(self, x):
        outputs = self.net(x).clone()
        other = ~(x.detach().flatten(1)[:, None] == self.known.flatten(1)).all(2).any(1)
        outputs[other] = outputs[other] * torch.nan
        return outputs


@pytest.mark.parametrize("name", ["agi", "mfaba"])
def test_a_path_to_outputs_that_are_not_numbers_makes_no_map_whichever_class_is_explained(name):
    net, x, targets = net_and_images()
    assert len(targets.unique()) > 1 and 0 in targets
    with pytest.raises(ValueError, match="attributions of 4 of 4 samples hold NaN"):
        explain(name, Beside(net, x).eval(), x, targets)


def facts_of(name, net, x, targets, **options):
    entry, samples = EXPLAINERS[name], samples_of(net, x, targets)
    samples.facts, explaining = Facts(), Explaining(entry, entry.complete(options), net)
    explaining(samples)
    return samples.facts


def slope(net, x, column):
    """The predicted class of one image, and the gradient of the probability of a class."""
    leaf = x.clone().requires_grad_()
    shares = net(leaf[None]).softmax(1)[0]
    return int(shares.argmax()), torch.autograd.grad(shares[column], leaf)[0]


@pytest.mark.parametrize("restart", [True, False])
def test_agi_is_the_sum_over_other_classes_of_what_each_step_takes_from_the_target(restart, seed):
    net, x, targets = net_and_images()
    expected, steps = torch.zeros_like(x), 0
    for n in range(len(x)):
        for other in range(4):
            if other == targets[n]:
                continue
            point = x[n]
            for _ in range(6):
                predicted, climb = slope(net, point, other)
                if predicted == other:
                    break
                origin = x[n] if restart else point
                moved = (origin + 0.02 * climb.sign()).clamp(0, 1)
                expected[n] -= slope(net, point, targets[n])[1] * (moved - origin)
                point, steps = moved, steps + 1
    assert near(explain("agi", net, x, targets, step_size=0.02, steps=6, restart=restart), expected)
    assert 4 < steps < 72, "some paths are cut short by their class"


@pytest.mark.parametrize("columns", [2, 3, 10, 15, 16, 17, 30, 100, 1000])
def test_agi_takes_up_to_15_other_classes_evenly_spaced_among_all(columns):
    targets = torch.tensor([0, columns // 2, columns - 1])
    for target, row in zip(targets.tolist(), evenly_spaced_others(targets, columns, 15).tolist(), strict=True):
        others = [number for number in range(columns) if number != target]
        places = [others.index(number) for number in row]  # the target is none of them
        assert len(row) == min(15, columns - 1)
        assert places[0] == 0 and (len(row) == 1 or places[-1] == columns - 2)
        gaps = [after - before for before, after in itertools.pairwise(places)]
        assert not gaps or (min(gaps) > 0 and max(gaps) - min(gaps) <= 1)


@pytest.mark.parametrize("path", ["sign", "gradient"])
def test_mfaba_is_minus_gradient_times_step_until_the_class_changes(path, seed):
    net, x, targets = net_and_images()
    epsilon, reach, crossed = 0.02, 0.1, []
    expected = torch.zeros_like(x)
    for n in range(len(x)):
        point = x[n]
        for _ in range(12):
            down = slope(net, point, targets[n])[1]
            if path == "sign":
                moved = (x[n] + (point - epsilon * down.sign() - x[n]).clamp(-reach, reach)).clamp(0, 1)
            else:
                moved = (point - 100 * epsilon / 20 * down / down.norm()).clamp(0, 1)
            expected[n] -= down * (moved - point)
            point = moved
            if slope(net, point, targets[n])[0] != targets[n]:
                break
        crossed.append(slope(net, point, targets[n])[0] != targets[n])
    options = {"step_rule": path, "steps": 12, "reach": reach, "step_size": epsilon if path == "sign" else epsilon / 20}
    assert near(explain("mfaba", net, x, targets, **options), expected)
    assert any(crossed)


@pytest.mark.parametrize("name", ["agi", "mfaba"])
def test_an_adversarial_path_needs_classes(name, seed):
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 1)).eval(), torch.rand(2, 3, 2, 2)
    with pytest.raises(harness.NotApplicable, match="needs classes, the model's task is regression"):
        harness.explain(name, net, harness.Data(x, torch.zeros(2, dtype=torch.long), task="regression"))


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0, 2.7, 50.0])
def test_a_blur_is_scipys(sigma, seed):
    values = torch.randn(17).double()
    expected = ndimage.gaussian_filter(values.numpy(), sigma, mode="constant") if sigma else values.numpy()
    assert near(
        blur_matrices(17, torch.tensor([sigma], dtype=torch.float64))[0] @ values, torch.from_numpy(expected), 1e-10
    )


def test_blur_ig_is_the_released_sum(seed):
    net, x, targets = small_cnn().double(), torch.rand(2, 3, 8, 6).double(), torch.tensor([2, 0])
    blurred = lambda image, sigma: (
        ndimage.gaussian_filter(image, [0, sigma, sigma], mode="constant") if sigma else image
    )
    expected = torch.zeros_like(x)
    for n in range(2):
        for step in range(7):
            sigma = step * 3.0 / 7
            now = torch.from_numpy(blurred(x[n].numpy(), sigma)).requires_grad_()
            change = (torch.from_numpy(blurred(x[n].numpy(), sigma + 0.01)) - now.detach()) / 0.01
            gradient = torch.autograd.grad(net(now[None])[0, targets[n]], now)[0]
            expected[n] -= 3.0 / 7 * change * gradient
    assert near(harness.explain("blur_ig", net, x, targets, steps=7, max_sigma=3.0), expected)


def test_blur_ig_of_a_linear_model_is_its_weight_times_what_the_blur_takes(seed):
    net, weight = linear_net((3, 8, 6))
    x, targets = torch.rand(2, 3, 8, 6), torch.tensor([2, 0])
    rows, columns = (blur_matrices(size, torch.tensor([5.0]).double())[0].float() for size in (8, 6))
    expected = weight[targets] * (x - rows @ x @ columns.T)
    errors = []
    for steps in (50, 400):
        found = harness.explain("blur_ig", net, x, targets, steps=steps, max_sigma=5.0)
        errors.append(float((found - expected).abs().max() / expected.abs().max()))
        told = facts_of("blur_ig", net, x, targets, steps=steps, max_sigma=5.0).per_sample["completeness_error"][0]
        assert told.isfinite().all()
    assert errors[1] < 0.02 and errors[1] < errors[0] / 4


def slow_xrai(numbers, masks, least):
    """The released greedy loop, in which every mask is looked at again in every round."""
    answer, covered, left = np.full(numbers.shape, -np.inf), np.zeros(numbers.shape, bool), dict(enumerate(masks))
    while True:
        left = {key: mask for key, mask in left.items() if (mask & ~covered).sum() >= least}
        if not left:
            break
        gains = {key: numbers[mask & ~covered].mean() for key, mask in left.items()}
        best = max(gains, key=gains.get)
        answer[left[best] & ~covered] = gains[best]
        covered |= left.pop(best)
    answer[np.isinf(answer)] = numbers[np.isinf(answer)].mean() if np.isinf(answer).any() else 0
    return answer


def test_xrai_adds_the_region_with_the_largest_gain_density_first(seed):
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(100, 70))
    masks = rng.random((40, 7, 7)).repeat(100 // 7 + 1, 1).repeat(10, 2)[:, :100, :70] < 0.1
    expected = slow_xrai(numbers, masks, max(1, round(50 * 7000 / 224**2)))
    found = by_regions(numbers, masks.reshape(40, -1))
    assert np.allclose(found, expected) and len(np.unique(found)) > 20


def test_xrai_is_the_released_one_on_an_image_of_its_size(seed):
    net = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 28 * 28, 3)).eval()
    blobs = nn.functional.interpolate(torch.randn(1, 3, 4, 4), (224, 224), mode="nearest")
    x = blobs + 0.3 * nn.functional.interpolate(torch.randn(1, 3, 9, 9), (224, 224), mode="bilinear")
    found = harness.explain("xrai", net, x, torch.tensor([1]), steps=8)[0, 0]

    numbers = 0
    for end in (x.min(), x.max()):
        start, gradients = torch.full_like(x, float(end)), 0
        for step in range(8):
            point = (start + (x - start) * (step + 0.5) / 8).requires_grad_()
            gradients += torch.autograd.grad(net(point)[0, 1], point)[0] / 8
        numbers += ((x - start) * gradients / 2)[0]
    image = x[0].permute(1, 2, 0).double().numpy()
    image = 2 * (image - image.min()) / (image.max() - image.min()) - 1
    image = transform.resize(image, (224, 224), order=3, mode="constant", preserve_range=True, anti_aliasing=True)
    masks = []
    for scale in (50, 100, 150, 250, 500, 1200):
        labels = segmentation.felzenszwalb(image, scale=scale, sigma=0.8, min_size=150)
        masks += [morphology.dilation(labels == at, footprint=morphology.disk(5)) for at in range(labels.max() + 1)]
    expected = slow_xrai(numbers.amax(0).double().numpy(), masks, 50)
    assert near(found, torch.from_numpy(expected), 1e-4) and len(found.unique()) > 4
