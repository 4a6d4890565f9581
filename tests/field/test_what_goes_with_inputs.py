"""What goes along with inputs is taken in the forms in which people have it, and never for something else."""

import pytest
import torch
from torch import nn

import harness
from harness.errors import UserError
from harness.registry import MODELS
from small_nets import SHAPES, inputs_of, small_net

BESIDE = {  # fields of harness.Data with one entry per unit, for tokens, and a metric that reads each
    "train": (torch.rand(5, *SHAPES["tokens"]), "deletion", {"baseline": "train_mean"}),
    "masks": (torch.arange(18).expand(2, 18) % 3 == 0, "pointing_game", {}),
    "truth": (torch.arange(36.0).view(2, 18), "truth_correlation", {}),
    "segments": (torch.arange(18).expand(2, 18) // 3, "deletion", {"granularity": "segment", "segments": "given"}),
    "present": (torch.arange(18).expand(2, 18) < torch.tensor([[18], [12]]), "sparseness", {}),
}


@pytest.mark.parametrize("field", BESIDE)
def test_numpy_arrays_beside_the_inputs_count_as_tensors(field):
    values, metric, options = BESIDE[field]
    model, inputs, maps = small_net("tokens"), inputs_of("tokens"), torch.arange(18.0).expand(2, 18) ** 2
    score = lambda values, maps: harness.score(
        metric, model, harness.Data(inputs, 0, modality="tokens", labels=[0, 0], **{field: values}), maps, **options
    )
    if field == "present":
        maps = maps * values
    assert torch.equal(score(values, maps), score(values.numpy(), maps.numpy()))
    assert not torch.equal(score(values, maps), score(values, maps.flip(1)))


class Halves(nn.Module):
    """A detector that finds in each image the left half and the right half, with the scores of their means."""

    def forward(self, images):
        boxes = torch.tensor([[0.0, 0, 4, 8], [4.0, 0, 8, 8]])
        halves = [torch.stack([image[:, :, :4].mean(), image[:, :, 4:].mean()]) for image in images]
        return [{"boxes": boxes, "labels": torch.tensor([1, 1]), "scores": scores} for scores in halves]


def test_a_box_that_the_user_names_is_explained_though_the_detector_takes_images_alone():
    detector, images = Halves().eval(), torch.rand(2, 3, 8, 8)
    boxes = {"box": torch.tensor([[4.0, 0, 8, 8]] * 2), "label": torch.tensor([1, 1])}
    data = harness.Data(images, task="detection", carried=boxes)
    maps = harness.explain("gradient", detector, data)
    right = torch.zeros(2, 3, 8, 8)
    right[..., 4:] = 1 / 96  # the score of the right half is the mean of its 96 numbers
    assert torch.allclose(maps, right)
    assert harness.score("completeness", detector, data, images * right, baseline="zero").max() < 1e-6
    assert set(harness.evaluate(detector, data, explainers="gradient", metrics="srg")["status"]) == {"ok"}


def test_a_float_mask_beside_token_ids_is_not_taken_for_the_explained_input():
    inputs = {"input_ids": torch.randint(9, (2, 5)), "attention_mask": torch.ones(2, 5)}
    with pytest.raises(UserError, match="say which one is explained.*explained='input_ids'"):
        harness.explain("saliency", nn.Embedding(9, 3).eval(), inputs, 0)


@pytest.mark.parametrize("modality", ["table", "image"])
def test_positions_that_are_no_units_are_those_of_tokens(modality):
    inputs = inputs_of(modality)
    present = torch.ones(2, *inputs.shape[2:] or inputs.shape[1:], dtype=torch.bool)
    with pytest.raises(UserError, match=f"series .N, C, T. .* the modality is {modality}; give a mask"):
        harness.explain("saliency", small_net(modality), inputs, 0, modality=modality, present=present)


def test_a_model_has_no_option_of_the_name_of_a_setting_of_every_model():
    def mine(*, task="text"):
        """A model with an option that would never reach it."""

    with pytest.raises(UserError, match="the option 'task', a setting of every model"):
        MODELS.resolve(mine)


@pytest.mark.parametrize("name", ["logic_net", "gaussian_function", "causal_function"])
def test_planted_functions_say_that_their_outputs_are_numbers_though_these_are_0_and_1(name):
    assert MODELS[name].function().task == "regression"
