"""The classification networks of torchvision, with published, local or random weights.

torchvision is imported inside the functions: it takes a second, and a broken installation must not break other models.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from harness.checks import first_line
from harness.errors import UserError, unknown
from harness.models.preprocessing import black_and_white
from harness.models.state import load_weights, ready, weights_alone
from harness.models.training import reproducible
from harness.option_types import Seed, Size
from harness.places import user_path
from harness.registry import model
from harness.sources import LoadedModel

# The published weights of these networks expect them to change the normalisation of their inputs, which torchvision
# switches on only when it downloads the weights itself. Their auxiliary heads are used only in training.
RENORMALISING = {"googlenet", "inception_v3"}
AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")


@model(name="torchvision")
def torchvision_classifier(
    *,
    architecture: str = "resnet18",
    weights: str | None = None,
    transforms: str | None = None,
    classes: Size | None = None,
    seed: Seed = 0,
) -> LoadedModel:
    """A classification network of torchvision by its name, with published weights, those of a file, or random ones.

    ``architecture`` is a name in ``torchvision.models.list_models()``. ``weights`` is the name of published weights,
    such as ``IMAGENET1K_V1`` or ``DEFAULT``, which torchvision downloads once; the path of a state dict saved with
    ``torch.save``, of which nothing is executed; or None for random weights drawn from ``seed``. ``classes`` is the
    number of outputs of a network without published weights; None is torchvision's 1,000. ``transforms`` names the
    published weights whose preprocessing is used; None are those of ``weights``, or DEFAULT where these are not
    published. Operations in place are switched off, which changes no output. UserError for unknown names, weights that
    cannot be downloaded, and files that do not fit.
    """
    published = _published(architecture)
    named = weights if weights in published else None
    preset = _weights_named(published, transforms or named or "DEFAULT", f"transforms of {architecture}").transforms()
    if named:
        _refuse_classes(classes, weights)
        module = _published_network(architecture, published[named])
    else:
        module = _random_network(architecture, classes, preset, seed)
    if weights and not named:
        heads = AUXILIARY_HEADS if architecture in RENORMALISING else ()
        load_weights(module, _weights_file(weights, published), architecture, lambda key: not key.startswith(heads))
    names = tuple(published[named].meta["categories"]) if named else None
    preprocess = partial(_preset_image, preset)
    return LoadedModel(ready(module), preprocess, black_and_white(preprocess), names)


def _published(architecture: str) -> Mapping[str, Any]:
    """The published weights of an architecture by name, DEFAULT included."""
    from torchvision import models

    architectures = models.list_models(module=models)
    if architecture not in architectures:
        raise unknown("torchvision architecture", architecture, architectures)
    return models.get_model_weights(architecture).__members__


def _weights_named(published: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in published:
        raise unknown(kind, name, published)
    return published[name]


def _refuse_classes(classes: int | None, weights: str) -> None:
    if classes is not None:
        raise UserError(f"classes is {classes}, expected none: published weights {weights} fix the outputs")


def _published_network(architecture: str, weights: Any) -> nn.Module:
    """The network as torchvision makes it with published weights."""
    from torchvision import models

    try:
        with weights_alone():
            return models.get_model(architecture, weights=weights, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, UnpicklingError) as error:
        file = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
        raise UserError(
            f"could not load {weights} ({first_line(error)}); go online once, or put {weights.url} at {file}, "
            "or give weights=FILE, a state dict saved with torch.save"
        ) from error


def _random_network(architecture: str, classes: int | None, preset: Any, seed: int) -> nn.Module:
    """The network with random weights."""
    from torchvision import models

    config: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if architecture in RENORMALISING:
        config.update(transform_input=True, aux_logits=False, init_weights=False)
    if architecture.startswith("vit_"):  # position embeddings are for one image size
        config["image_size"] = preset.crop_size[0]
    with reproducible(seed):
        return models.get_model(architecture, weights=None, **config)


def _weights_file(weights: str, published: Mapping[str, Any]) -> Path:
    path = user_path(weights)
    if not path.is_file():
        raise UserError(f"weights {weights!r} is neither a file nor one of {', '.join(published)}")
    return path


def _preset_image(preset: Callable[[Image.Image], Tensor], image: Image.Image) -> Tensor:
    return preset(image.convert("RGB"))
