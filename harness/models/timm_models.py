"""The image classifiers of timm, with published, local or random weights."""

from difflib import get_close_matches
from functools import partial
from typing import Any

from PIL import Image
from torch import Tensor, nn

from harness.checks import first_line
from harness.errors import UserError, one_line
from harness.models.preprocessing import Preprocess, black_and_white, output_names
from harness.models.state import existing_file, load_weights, needed, ready, weights_alone
from harness.models.training import reproducible
from harness.option_types import Seed, Size
from harness.registry import model
from harness.sources import LoadedModel

PRETRAINED = "pretrained"


@model()
def timm(
    *,
    architecture: str = "resnet18",
    weights: str | None = None,
    outputs: Size | None = None,
    size: Size | None = None,
    classes: str | None = None,
    seed: Seed = 0,
) -> LoadedModel:
    """An image classifier of timm by its name, with published weights, those of a file, or random ones.

    ``architecture`` is a name in ``timm.list_models()``, with the tag of its published weights if there are several
    (``resnet18.a1_in1k``). ``weights`` is ``pretrained`` for published weights, which timm downloads once; the path of
    a state dict (``.safetensors``, or saved with ``torch.save``; nothing in it is executed); or None for random weights
    drawn from ``seed``. ``outputs`` is the number of outputs; None is that of the published weights. ``size`` is the
    side of the images in pixels, for architectures with a fixed size. Images are preprocessed by timm's configuration
    of the architecture. ``classes`` is a text file with the name of one output a line. UserError where timm is not
    installed (``pip install 'harness[timm]'``), for unknown names, and for weights that cannot be downloaded or do not
    fit.
    """
    library = needed("timm", "model=timm", "harness[timm]")
    _check_name(library, architecture)
    config: dict[str, Any] = {} if outputs is None else {"num_classes": outputs}
    sized = {} if size is None else {"img_size": size}
    if weights == PRETRAINED:
        module = _pretrained_timm(library, architecture, config | sized)
    else:
        module = _random_timm(library, architecture, config, sized, seed)
    if weights and weights != PRETRAINED:
        file = existing_file(weights, f"weights={PRETRAINED}, or weights=FILE, a state dict")
        load_weights(module, file, architecture)
    preprocess = _timm_transform(library, module, size)
    return LoadedModel(ready(module), preprocess, black_and_white(preprocess), output_names(classes))


def _check_name(library: Any, architecture: str) -> None:
    if not library.is_model(architecture):
        names = library.list_models()
        close = get_close_matches(architecture, names, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise UserError(
            f"unknown timm architecture {architecture!r}: {hint}timm.list_models() names all {len(names):,}"
        )


def _pretrained_timm(library: Any, architecture: str, config: dict[str, Any]) -> nn.Module:
    try:
        with weights_alone():
            return library.create_model(architecture, pretrained=True, **config)
    except Exception as error:  # of the network, of the library that downloads, or of the tag
        raise UserError(
            f"could not load published weights of {architecture} ({first_line(error)}); go online once, or give "
            "weights=FILE, a state dict"
        ) from error


def _random_timm(
    library: Any, architecture: str, config: dict[str, Any], sized: dict[str, Any], seed: int
) -> nn.Module:
    try:
        with reproducible(seed):
            return library.create_model(architecture, pretrained=False, **config, **sized)
    except TypeError:  # networks of convolutions take images of any size and have no such argument
        if not sized:
            raise
        return _random_timm(library, architecture, config, {}, seed)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(f"timm cannot make {architecture}: {one_line(error)[:200]}") from error


def _timm_transform(library: Any, module: nn.Module, size: int | None) -> Preprocess:
    """The preprocessing of timm's data configuration of the model: resize, crop and standardise."""
    sized = {} if size is None else {"img_size": size}
    config = library.data.resolve_data_config(sized, model=module)
    return partial(
        _transformed_image, library.data.create_transform(**config, is_training=False), config["input_size"][0]
    )


def _transformed_image(transform: Any, channels: int, image: Image.Image) -> Tensor:
    return transform(image.convert("L" if channels == 1 else "RGB"))
