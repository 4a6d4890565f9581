"""Networks of torchvision as papers use them: with their preprocessing, and with weights from the user's folder."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from harness.errors import UserError, one_line
from harness.models.preprocessing import black_and_white
from harness.models.torchvision_models import torchvision_classifier
from harness.sources import LoadedModel

Sized = Literal["stretched", "cropped", "cropped from 256"]
SIDE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WEIGHTS_FOLDER = "weights"  # in the user's folder: files of weights under the names that torchvision gives them
IN_FOLDER = "data:"  # an option that begins with it names a file in the user's folder
# What names of weights may begin with where a network was trained inside other modules.
WRAPPERS = ("module.", "model.")


def sized_classifier(
    *,
    architecture: str = "resnet50",
    weights: str | None = "IMAGENET1K_V1",
    sized: Sized = "cropped from 256",
    seed: int = 0,
) -> LoadedModel:
    """A network of torchvision that sees images as a paper's code shows them.

    ``sized``: ``stretched`` to 224 x 224 pixels; ``cropped``: the shorter side becomes 224 and the middle is cut out;
    ``cropped from 256``: the same from 256. ``weights`` is a name, a file or None, as for the model ``torchvision``.
    """
    try:
        loaded = torchvision_classifier(
            architecture=architecture, weights=weights, transforms="IMAGENET1K_V1", seed=seed
        )
    except UserError as error:
        reason, found, _ = str(error).partition("; go online once")
        if not found:
            raise
        url = published_urls(architecture)[weights]
        raise UserError(
            f"{reason}; go online once, or put {url} into the folder {WEIGHTS_FOLDER} of data=FOLDER"
        ) from error
    preprocess = partial(sized_input, sized)
    return replace(loaded, preprocess=preprocess, value_range=black_and_white(preprocess))


def fine_tuned_classifier(
    *, architecture: str = "resnet50", path: str = "", sized: Sized = "cropped from 256"
) -> LoadedModel:
    """A network of torchvision with the weights of a training checkpoint, ``{"state_dict": ...}`` or the state itself.

    Nothing in the file is executed. UserError for a file that cannot be read or does not fit.
    """
    loaded = sized_classifier(architecture=architecture, weights=None, sized=sized)
    try:
        loaded.module.load_state_dict(_state_in_checkpoint(path))
    except RuntimeError as error:
        raise UserError(f"weights {path} do not fit {architecture}: {one_line(error)[:300]}") from error
    return loaded


def sized_input(sized: str, image: Image.Image) -> Tensor:
    """An image as input (3, 224, 224), standardised by the usual mean and deviation of ImageNet."""
    from torchvision.transforms import functional as F  # imported here: it takes a second

    image = image.convert("RGB")
    if sized == "stretched":
        image = F.resize(image, [SIDE, SIDE])
    else:
        image = F.center_crop(F.resize(image, [256 if sized == "cropped from 256" else SIDE]), [SIDE, SIDE])
    return F.normalize(F.to_tensor(image), list(MEAN), list(DEVIATION))


def with_files_of_user(model: str | Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """A model's name and options with the files of the user's folder that they name, each checked.

    A text ``data:FILE`` becomes the path of that file, which has to exist. Published weights are taken from the file in
    ``weights`` that has torchvision's own name, if there is one: then no network is needed.
    """
    options = {"name": model} if isinstance(model, str) else dict(model)
    if folder is None:
        return options
    for name, value in options.items():
        if isinstance(value, str) and value.startswith(IN_FOLDER):
            options[name] = str(_needed_file(folder, value.removeprefix(IN_FOLDER)))
    if options.get("weights"):
        file = _published_file(options["architecture"], options["weights"], folder)
        options["weights"] = str(file or options["weights"])
    return options


def published_urls(architecture: str) -> dict[str, str]:
    """Where torchvision has its published weights of a network: name -> address."""
    from torchvision import models  # imported here: it takes a second

    return {name: each.url for name, each in models.get_model_weights(architecture).__members__.items()}


def _needed_file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise UserError(f"{folder / name} is not there; expected the weights that the paper's authors link")
    return folder / name


def _published_file(architecture: str, weights: str, folder: Path) -> Path | None:
    """The user's file of published weights, or None; UserError where its content is not what its name says."""
    url = published_urls(architecture).get(weights)
    if url is None:
        return None
    file = folder / WEIGHTS_FOLDER / url.rpartition("/")[2]
    if not file.is_file():
        return None
    expected = file.stem.rpartition("-")[2]  # torchvision's names end with the beginning of the content's SHA-256
    with open(file, "rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()[: len(expected)]
    if found != expected:
        raise UserError(f"{file} is not torchvision's file of that name: its SHA-256 begins with {found}")
    return file


def _state_in_checkpoint(path: str) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch can raise anything on a file of another kind
        raise UserError(f"weights {path} cannot be read: {one_line(error)[:200]}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"weights {path} hold no state of a network, expected a checkpoint with state_dict")
    return {_own_name(name): value for name, value in state.items()}


def _own_name(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name
