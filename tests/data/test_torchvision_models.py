"""torchvision's networks with random weights, weights of a file, and published weights without a network connection."""

import os
import pickle
from urllib.error import URLError

import pytest
import torch
from PIL import Image

from harness.errors import UserError
from named_options import model_named

torchvision = model_named("torchvision")

SEED = int(os.environ["HARNESS_TEST_SEED"]) % 10_000


@pytest.fixture(autouse=True)
def seeded():
    """Random inputs are new in every session; a failing test shows their seed."""
    print(f"seed {SEED}")
    torch.manual_seed(SEED)


def refusal(**options):
    with pytest.raises(UserError) as caught:
        torchvision(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def local(tmp_path):
    """A file with the weights of a random ResNet-18 of seven outputs, and the network."""
    module = torchvision(classes=7, seed=SEED).module
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    return str(tmp_path / "weights.pt"), module


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty download folder of torch, and no network."""

    def no_network(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_random_weights_depend_on_the_seed_alone():
    inputs, state = torch.randn(2, 3, 64, 64), torch.get_rng_state()
    first, again, other = (torchvision(seed=number).module(inputs) for number in (SEED, SEED, SEED + 1))
    assert torch.equal(first, again) and not torch.equal(first, other) and first.shape == (2, 1000)
    assert torch.equal(state, torch.get_rng_state())


def test_weights_of_a_file_give_the_outputs_they_were_saved_with(local):
    path, module = local
    inputs = torch.randn(2, 3, 64, 64)
    assert torch.equal(torchvision(weights=path, classes=7, seed=SEED + 1).module(inputs), module(inputs))


def test_weights_that_do_not_fit_are_one_line(local, tmp_path):
    path, _ = local
    assert "do not fit resnet18" in refusal(weights=path) and "size mismatch for fc" in refusal(weights=path)
    assert "do not fit resnet34" in refusal(weights=path, architecture="resnet34", classes=7)


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_file_that_would_run_code_is_refused_and_nothing_runs(tmp_path):
    for file, write in (("torch.pt", torch.save), ("plain.pkl", lambda it, path: path.write_bytes(pickle.dumps(it)))):
        write({"fc.weight": Bomb(tmp_path / "went off")}, tmp_path / file)
        assert "cannot be read" in refusal(weights=str(tmp_path / file))
    assert not (tmp_path / "went off").exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"model": {"fc.weight": torch.zeros(2)}, "epoch": 3}])
def test_a_file_that_holds_no_state_dict_is_one_line(content, tmp_path):
    torch.save(content, tmp_path / "other.pt")
    assert "expected a state dict" in refusal(weights=str(tmp_path / "other.pt"))


def test_misspelt_names_are_answered_with_the_nearest():
    assert "did you mean 'resnet18'" in refusal(architecture="resnet_18")
    assert "neither a file nor one of IMAGENET1K_V1" in refusal(weights="IMAGENET_V1")
    assert "did you mean 'IMAGENET1K_V1'" in refusal(transforms="IMAGENET1K_V11")
    assert "unknown torchvision architecture" in refusal(architecture="fasterrcnn_resnet50_fpn")


def test_published_weights_fix_the_number_of_outputs():
    assert "classes is 10" in refusal(weights="DEFAULT", classes=10)


def test_offline_the_error_says_how_to_give_the_weights(hub):
    message = refusal(weights="IMAGENET1K_V1")
    for part in ("no route to host", "weights=FILE", ".pth", str(hub)):
        assert part in message


def test_published_weights_are_loaded_from_torchs_download_folder_with_names_and_transforms(hub):
    from torchvision.models import ResNet18_Weights

    source = torchvision(seed=SEED).module
    torch.save(source.state_dict(), hub / ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    loaded = torchvision(weights="IMAGENET1K_V1")
    inputs = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded.module(inputs), source(inputs))
    assert loaded.classes == tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def test_a_download_that_would_run_code_is_refused(hub):
    from torchvision.models import ResNet18_Weights

    torch.save({"fc.weight": Bomb(hub / "went off")}, hub / ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    assert "could not load" in refusal(weights="DEFAULT")
    assert not (hub / "went off").exists() and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_white_and_black_images_become_the_ends_of_the_value_range():
    loaded = torchvision()
    for colour, bound in zip(("black", "white"), loaded.value_range, strict=True):
        tensor = loaded.preprocess(Image.new("L", (300, 260), colour))
        assert tensor.shape == (3, 224, 224) and bound.shape == (3, 1, 1)
        assert torch.allclose(tensor, bound.expand_as(tensor), atol=1e-6)


def test_another_preprocessing_can_be_chosen_by_the_name_of_its_weights():
    image = Image.effect_noise((400, 300), 64)
    names = (None, "IMAGENET1K_V2", "IMAGENET1K_V1")
    default, second, first = (torchvision(architecture="resnet50", transforms=name).preprocess(image) for name in names)
    assert torch.equal(default, second) and default.shape == first.shape and not torch.equal(default, first)


def test_nothing_works_in_place_requires_gradients_or_trains():
    module = torchvision(architecture="mobilenet_v2").module
    assert not any(getattr(part, "inplace", False) or part.training for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("architecture", ["googlenet", "inception_v3"])
def test_networks_that_renormalise_are_built_to_fit_published_weights_with_or_without_auxiliary_heads(
    architecture, tmp_path
):
    from torchvision import models

    options = {"transform_input": True, "init_weights": False, "num_classes": 5}
    for heads in (True, False):
        official = models.get_model(architecture, weights=None, aux_logits=heads, **options).eval()
        torch.save(official.state_dict(), tmp_path / "weights.pt")
        inputs = torch.randn(1, 3, 96, 96)
        loaded = torchvision(architecture=architecture, weights=str(tmp_path / "weights.pt"), classes=5)
        assert torch.equal(loaded.module(inputs), official(inputs))
