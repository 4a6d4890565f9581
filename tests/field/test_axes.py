"""What the axes of an input mean is certain, or the user is asked in one line that says what to type."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

import harness
from harness.errors import UserError
from harness.modalities import AXES, MODALITIES, OTHER_WORDS
from harness.registry import DATASETS, EXPLAINERS
from harness.units import CHANNEL_AXIS, Units

TARGETS = torch.tensor([0, 1])
DATA_FILES = sorted(Path(harness.__file__).parent.parent.joinpath("datasets").glob("*.py"))


def net_for(shape):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 3)).eval()


def refusal(call):
    with pytest.raises(UserError) as refused:
        call()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def ways_in(inputs, data=None):
    """Every public function that takes inputs, as calls."""
    net, given = net_for(inputs.shape[1:]), (inputs, TARGETS) if data is None else (data,)
    return {
        "explain": lambda: harness.explain("occlusion", net, *given),
        "score": lambda: harness.score("deletion", net, *given, inputs, steps=4, baseline="zero"),
        "evaluate": lambda: harness.evaluate(net, *given, explainers="gradient", metrics="deletion"),
    }


ASKED = {
    (28, 28): ("tokens (N, T, D)", "series (N, C, T)", "images", 'modality="tokens"', "inputs.unsqueeze(1)"),
    (2, 6, 8, 8): ("volumes", "(N, C, D, H, W)", 'modality="volume"', 'modality="other"'),
    (2, 2, 2, 2, 2): ('modality="other"',),
    (9, 8, 3): ("channels last", "inputs.permute(0, 3, 1, 2)", 'modality="image"'),
}


@pytest.mark.parametrize("shape", ASKED, ids=str)
@pytest.mark.parametrize("way", ["explain", "score", "evaluate"])
def test_a_shape_with_several_meanings_is_refused_with_each_and_what_to_type(way, shape):
    said = refusal(ways_in(torch.rand(2, *shape))[way])
    for words in ASKED[shape]:
        assert words in said


@pytest.mark.parametrize("shape", ASKED, ids=str)
def test_a_map_with_a_value_for_every_number_is_the_same_under_each_reading(shape):
    inputs = torch.rand(2, *shape)
    found = harness.explain("gradient", net_for(shape), inputs, TARGETS)
    assert torch.equal(found, harness.explain("gradient", net_for(shape), inputs, TARGETS, modality="other"))


@pytest.mark.parametrize(
    ("shape", "modality"),
    [
        ((6, 8), "tokens"),
        ((6, 8), "series"),
        ((6, 8), "other"),
        ((2, 4, 5, 6), "volume"),
        ((2, 4, 5, 6), "other"),
        ((9, 8, 3), "image"),
        ((3, 8, 8), "image"),
        ((7,), "table"),
    ],
)
@pytest.mark.parametrize("way", ["explain", "score", "evaluate"])
def test_what_is_told_is_taken(way, shape, modality):
    inputs = torch.rand(2, *shape)
    ways_in(inputs, harness.Data(inputs, TARGETS, modality=modality))[way]()


def test_images_without_channels_score_as_images_once_they_have_an_axis_for_them():
    flat = torch.rand(2, 12, 12)
    net, image = net_for((12, 12)), flat.unsqueeze(1)
    maps = harness.explain("gradient", net, image, TARGETS)
    expected = harness.score("deletion", net, harness.Data(image, TARGETS, modality="image"), maps, steps=8)
    assert torch.equal(harness.score("deletion", net, image, TARGETS, maps, steps=8), expected)


@pytest.mark.parametrize("meant", OTHER_WORDS)
def test_other_words_for_a_modality_are_refused_with_the_word_that_is_known(meant):
    for word in (*OTHER_WORDS[meant], OTHER_WORDS[meant][0].upper()):
        data = harness.Data(torch.rand(2, 3, 8, 8), TARGETS, modality=word)
        assert f"did you mean '{meant}'" in refusal(ways_in(data.inputs, data)["evaluate"])


@pytest.mark.parametrize("word", ["imgae", "", "none", "tokenz", 3])
def test_words_that_are_none_are_refused_with_all_that_are_known(word):
    said = refusal(lambda: Units.of(torch.rand(2, 3, 8, 8), word))
    assert all(name in said for name in MODALITIES)


@pytest.mark.parametrize("modality", AXES)
@pytest.mark.parametrize("axes", [2, 3, 4, 5, 6])
def test_a_modality_takes_inputs_with_its_own_axes_and_no_others(modality, axes):
    inputs = torch.rand(2, *[3] * (axes - 1))
    if axes == len(AXES[modality]):
        units, channel = Units.of(inputs, modality), CHANNEL_AXIS[modality]
        assert len(units.shape) == axes - 1 - (channel is not None) and units.modality == modality
    else:
        said = refusal(lambda: Units.of(inputs, modality))
        assert f"modality={modality}" in said and ", ".join(AXES[modality]) in said


def test_every_capability_names_modalities_that_exist():
    for entry in EXPLAINERS.values():
        assert set(entry.modalities) <= set(MODALITIES), entry.name
    for entry in DATASETS.values():
        assert entry.modality in (*MODALITIES, "any"), entry.name


@pytest.mark.parametrize("path", DATA_FILES, ids=lambda path: path.stem)
def test_every_data_set_of_the_project_says_what_its_inputs_are(path):
    made = [
        call
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Data"
    ]
    for call in made:
        assert "modality" in [keyword.arg for keyword in call.keywords], f"{path.name}:{call.lineno}"
