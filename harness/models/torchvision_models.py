"""The classification networks of torchvision, with published, local or random weights.

torchvision is imported inside the functions: it takes a second, and who uses other models need not have it in order.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from harness.checks import first_line
from harness.errors import UserError, one_line, unknown
from harness.models.training import reproducible
from harness.registry import model
from harness.sources import LoadedModel

# Their published weights expect the networks to change the normalisation inside, which torchvision does only on its own
# download; their auxiliary heads serve training alone.
RENORMALISING = {"googlenet", "inception_v3"}
AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")


@model()
def torchvision(
    *, architecture: str = "resnet18", weights: str | None = None, transforms: str | None = None,
    classes: int | None = None, seed: int = 0,
) -> LoadedModel:  # fmt: skip
    """A classification network of torchvision by its name, with published weights, those of a file, or random ones.

    ``weights`` is a name such as ``IMAGENET1K_V1`` or ``DEFAULT`` (torchvision downloads them once), the path of a
    state dict saved with ``torch.save``, or None for random weights drawn from ``seed``. Files are read as weights
    alone: nothing in them is executed. ``classes`` is the number of outputs where ``weights`` is no published name;
    None is torchvision's 1,000. ``transforms`` names the published weights whose preprocessing is used; None are those
    of ``weights``, or DEFAULT where they are not published. Modules are made to work out of place, which changes no
    output. UserError for unknown names, weights that cannot be downloaded, and files that do not fit.
    """
    published = _published(architecture)
    named = weights if weights in published else None
    preset = _named(published, transforms or named or "DEFAULT", f"transforms of {architecture}").transforms()
    if named:
        _refuse_classes(classes, weights)
        module = _download(architecture, published[named])
    else:
        module = _build(architecture, classes, preset, seed)
    if weights and not named:
        _load(module, _existing(weights, published), architecture)
    names = tuple(published[named].meta["categories"]) if named else None
    return LoadedModel(_frozen(module), partial(_preprocess, preset), _value_range(preset), names)


def _published(architecture: str) -> Mapping[str, Any]:
    """The published weights of an architecture by name, DEFAULT among them."""
    from torchvision import models

    architectures = models.list_models(module=models)
    if architecture not in architectures:
        raise unknown("torchvision architecture", architecture, architectures)
    return models.get_model_weights(architecture).__members__


def _named(published: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in published:
        raise unknown(kind, name, published)
    return published[name]


def _refuse_classes(classes: int | None, weights: str) -> None:
    if classes is not None:
        raise UserError(f"classes is {classes}, expected none: published weights {weights} fix the outputs")


def _download(architecture: str, weights: Any) -> nn.Module:
    """The network as torchvision makes it with published weights."""
    from torchvision import models

    try:
        with _weights_alone():
            return models.get_model(architecture, weights=weights, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, UnpicklingError) as error:
        file = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
        raise UserError(
            f"could not load {weights} ({first_line(error)}); go online once, or put {weights.url} at {file}, "
            "or give weights=FILE, a state dict saved with torch.save"
        ) from error


@contextmanager
def _weights_alone() -> Iterator[None]:
    """torchvision's own download allows any pickle; this makes torch.load refuse all but weights."""
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
        if before is not None:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


def _build(architecture: str, classes: int | None, preset: Any, seed: int) -> nn.Module:
    """The network with random weights."""
    from torchvision import models

    config: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if architecture in RENORMALISING:
        config.update(transform_input=True, aux_logits=False, init_weights=False)
    if architecture.startswith("vit_"):  # position embeddings are made for one size of image
        config["image_size"] = preset.crop_size[0]
    with reproducible(seed):
        return models.get_model(architecture, weights=None, **config)


def _existing(weights: str, published: Mapping[str, Any]) -> Path:
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"weights {weights!r} is neither a file nor one of {', '.join(published)}")
    return path


def _load(module: nn.Module, path: Path, architecture: str) -> None:
    """Fill the network with the weights of a file."""
    state = _read_state(path)
    if architecture in RENORMALISING:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(AUXILIARY_HEADS)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"weights {path} do not fit {architecture}: {' '.join(str(error).split())[:300]}") from error


def _read_state(path: Path) -> dict[str, Tensor]:
    expected = "expected a state dict saved with torch.save(model.state_dict(), file)"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file that is no such thing provokes
        raise UserError(f"weights {path} cannot be read: {one_line(error)[:200]}; {expected}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"weights {path} hold a {type(state).__name__} with other things than tensors, {expected}")
    return state


def _frozen(module: nn.Module) -> nn.Module:
    for part in module.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # hook-based explainers need what came before the activation
    return module.requires_grad_(False).eval()


def _preprocess(preset: Callable[[Image.Image], Tensor], image: Image.Image) -> Tensor:
    return preset(image.convert("RGB"))


def _value_range(preset: Any) -> tuple[Tensor, Tensor]:
    """What black and white become, (3, 1, 1) each."""
    mean, deviation = (torch.tensor(values).view(-1, 1, 1) for values in (preset.mean, preset.std))
    return (0 - mean) / deviation, (1 - mean) / deviation
