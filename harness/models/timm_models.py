"""The image classifiers of timm, with published, local or random weights."""

from difflib import get_close_matches
from functools import partial
from typing import Any

from PIL import Image
from torch import Tensor, nn

from harness.checks import first_line
from harness.errors import UserError, one_line
from harness.models.preprocessing import Preprocess, black_and_white, read_names
from harness.models.state import existing_file, load_weights, needed, ready, weights_alone
from harness.models.training import reproducible
from harness.registry import model
from harness.sources import LoadedModel

PRETRAINED = "pretrained"


@model()
def timm(
    *,
    architecture: str = "resnet18",
    weights: str | None = None,
    outputs: int | None = None,
    size: int | None = None,
    classes: str | None = None,
    seed: int = 0,
) -> LoadedModel:
    """An image classifier of timm by its name, with published weights, those of a file, or random ones.

    ``architecture`` is a name of ``timm.list_models()``, with the tag of its published weights if there are several
    (``resnet18.a1_in1k``). ``weights`` is ``pretrained`` (timm downloads the published ones once), the path of a state
    dict (``.safetensors``, or saved with ``torch.save``; nothing in it is executed), or None for random weights drawn
    from ``seed``. ``outputs`` is their number where it is not that of the published weights, ``size`` that of the
    image for architectures made for one size. Images are prepared as timm's configuration of the architecture says.
    ``classes`` is a text file with the name of one output a line. UserError where timm is not installed
    (``pip install 'harness[timm]'``), and for unknown names, weights that cannot be downloaded or do not fit.
    """
    library = needed("timm", "model=timm", "harness[timm]")
    _check_name(library, architecture)
    made: dict[str, Any] = {} if outputs is None else {"num_classes": outputs}
    sized = {} if size is None else {"img_size": size}
    if weights == PRETRAINED:
        module = _download(library, architecture, made | sized)
    else:
        module = _build(library, architecture, made, sized, seed)
    if weights and weights != PRETRAINED:
        file = existing_file(weights, f"weights={PRETRAINED}, or weights=FILE, a state dict")
        load_weights(module, file, architecture)
    preprocess = _transform(library, module, size)
    return LoadedModel(ready(module), preprocess, black_and_white(preprocess), read_names(classes))


def _check_name(library: Any, architecture: str) -> None:
    if not library.is_model(architecture):
        names = library.list_models()
        close = get_close_matches(architecture, names, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise UserError(
            f"unknown timm architecture {architecture!r}: {hint}timm.list_models() names all {len(names):,}"
        )


def _download(library: Any, architecture: str, config: dict[str, Any]) -> nn.Module:
    try:
        with weights_alone():
            return library.create_model(architecture, pretrained=True, **config)
    except Exception as error:  # of the network, of either hub's library, or of the tag
        raise UserError(
            f"could not load published weights of {architecture} ({first_line(error)}); go online once, or give "
            "weights=FILE, a state dict"
        ) from error


def _build(library: Any, architecture: str, config: dict[str, Any], sized: dict[str, Any], seed: int) -> nn.Module:
    try:
        with reproducible(seed):
            return library.create_model(architecture, pretrained=False, **config, **sized)
    except TypeError:  # networks of convolutions alone take images of any size, and no such argument
        if not sized:
            raise
        return _build(library, architecture, config, {}, seed)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(f"timm cannot make {architecture}: {one_line(error)[:200]}") from error


def _transform(library: Any, module: nn.Module, size: int | None) -> Preprocess:
    """The model's own preprocessing: resized, cut out and scaled as its data configuration says."""
    given = {} if size is None else {"img_size": size}
    config = library.data.resolve_data_config(given, model=module)
    return partial(_prepare, library.data.create_transform(**config, is_training=False), config["input_size"][0])


def _prepare(transform: Any, channels: int, image: Image.Image) -> Tensor:
    return transform(image.convert("L" if channels == 1 else "RGB"))
