"""ROAD's imputation against Quantus's, and against the forward passes of a small net."""

import numpy as np
import pytest
import torch

from bounds import Work, ready, small_cnn
from harness.predictor import Predictor
from harness.removal.noisy_linear import fill_linearly

PERCENTS = (10, 20, 30, 40, 50, 70, 90)


def smooth(shape, side):
    """Random values that vary over some pixels, as images and maps do."""
    coarse = torch.randn(*shape[:2], shape[2] // side, shape[3] // side, generator=torch.Generator().manual_seed(side))
    return torch.nn.functional.interpolate(coarse, shape[2:], mode="bicubic")


@pytest.mark.parametrize(("map_", "side"), [("a smooth map", 16), ("a map of single pixels", 1)])
def test_imputing_an_image_for_all_percents_takes_less_time_than_in_quantus(map_, side, measure, figure, device):
    perturb = pytest.importorskip("quantus.functions.perturb_func")
    image, order = smooth((1, 3, 224, 224), 8), smooth((1, 1, 224, 224), side).flatten().argsort(descending=True)
    gone = [order[: 224 * 224 * percent // 100].sort().values for percent in PERCENTS]
    removed = torch.stack([torch.zeros(224 * 224, dtype=torch.bool).index_fill(0, each, True) for each in gone])
    images, masks = image.expand(7, -1, -1, -1).to(device), removed.view(7, 1, 224, 224).to(device)
    indices, array = [each.numpy() for each in gone], image[0].double().numpy()

    def theirs():
        return [perturb.noisy_linear_imputation(array, each, noise=0.0) for each in indices]

    gap = np.abs(fill_linearly(images, masks).cpu().numpy() - np.stack(theirs())).max()
    ours, quantus_time = measure(lambda: fill_linearly(images, masks), theirs, rounds=3)
    figure(
        f"noisy linear imputation, 3 x 224 px, {map_}, largest gap {gap:.0e}: Quantus's time / ours",
        quantus_time / ours,
        ">= 15",
    )


def test_the_same_road_curve_takes_less_time_than_in_quantus(measure, figure, device):
    quantus = pytest.importorskip("quantus")
    model = ready(small_cnn(), device)
    work = Work(model, (1, 28, 28), 64, device)
    inputs, maps = work.inputs.cpu().numpy(), work.attributions[:, None].cpu().numpy()
    metric = quantus.ROAD(percentages=list(PERCENTS), normalise=False, disable_warnings=True)

    def theirs():
        metric(
            model=model,
            x_batch=inputs.copy(),
            y_batch=work.targets.cpu().numpy(),
            a_batch=maps.copy(),
            device=str(device),
            batch_size=64,
        )

    ours, quantus_time = measure(work.scoring(Predictor(model, chunk=64), "road"), theirs, rounds=3)
    figure("road, small CNN, 28 px: Quantus's time / ours", quantus_time / ours, ">= 15")
