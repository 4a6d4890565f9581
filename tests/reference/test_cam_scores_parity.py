"""Average drop and increase equal torchcam's, on maps of the image's own size, which it does not resize."""

import os
from functools import partial

import pytest
import torch
from torch import nn
from torchcam.methods import GradCAM
from torchcam.metrics import ClassificationMetric

import harness

SEED = int(os.environ["HARNESS_TEST_SEED"])


def test_average_drop_and_increase_are_torchcams():
    torch.manual_seed(SEED)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()
    inputs = torch.randn(16, 3, 12, 12)
    targets = model(inputs).argmax(1)
    with GradCAM(model, "2") as extractor:
        theirs = ClassificationMetric(extractor, partial(torch.softmax, dim=-1))
        kept, maps = [], []
        for image, target in zip(inputs, targets.tolist(), strict=True):
            map_ = extractor(target, model(image[None]))[0]
            if map_.isfinite().all() and map_.amax() > map_.amin():
                kept.append(image)
                maps.append(map_[0])
                theirs.update(image[None], target)
    kept, maps = torch.stack(kept), torch.stack(maps)
    assert len(kept) > 4
    expected = theirs.summary()
    for name, key in (("average_drop", "avg_drop"), ("average_increase", "conf_increase")):
        found = harness.score(name, model, kept, model(kept).argmax(1), maps).mean().item()
        assert found == pytest.approx(expected[key], abs=1e-6)
