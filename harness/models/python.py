"""A model of the user's own, made by a function that the user names."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from harness.errors import NotApplicable, UserError, one_line
from harness.models.black_box import loaded_model
from harness.models.exported import Program
from harness.models.preprocessing import PREPROCESSING, PreprocessingOptions, output_names, preprocessing
from harness.models.state import existing_file, load_weights, ready
from harness.models.training import reproducible
from harness.option_types import Seed
from harness.options import import_object
from harness.registry import model
from harness.sources import LoadedModel


@model(imports=("factory", "preprocess"))
def python(
    *,
    factory: str | None = None,
    options: Mapping[str, Any] | None = None,
    weights: str | None = None,
    prepared: PreprocessingOptions = PREPROCESSING,
    seed: Seed = 0,
) -> LoadedModel:
    """The model that a function of your own makes, ``package.module:function``, with weights from a file.

    ``factory`` is called with the mapping ``options`` (``+model.options.depth=3`` on the command line) and returns a
    ``torch.nn.Module``, a fitted estimator, a function on NumPy arrays, or a ``harness.LoadedModel``. Its random
    numbers start at ``seed``. ``weights`` is a file that fits the module: ``.safetensors``, or a state dict saved with
    ``torch.save``; nothing in it is executed. ``PreprocessingOptions`` describes ``preprocess``, ``size``, ``mean``,
    ``std`` and ``classes``.

    The module is frozen and put into eval mode, and operations in place are switched off. The source files of
    ``factory`` and ``preprocess`` are part of the identity of the model's code; files that they import are not.
    UserError for an import that fails, a factory that raises an error or returns something else, and weights that do
    not fit.
    """
    if not factory:
        raise UserError("model=python needs model.factory=package.module:function, which makes the model")
    loaded = _loaded_from(factory, import_object(factory), options, seed)
    if weights:
        load_weights(loaded.module, existing_file(weights, "weights=FILE, a state dict"), factory)
    function, value_range = preprocessing(prepared)
    if function is not None:
        loaded = replace(loaded, preprocess=function, value_range=value_range)
    return replace(loaded, module=ready(loaded.module), classes=output_names(prepared.classes) or loaded.classes)


def _loaded_from(name: str, factory: Callable[..., Any], options: Any, seed: int) -> LoadedModel:
    """What the factory returns, as a LoadedModel."""
    if not callable(factory):
        raise UserError(f"factory {name} is a {type(factory).__name__}, expected a function that makes the model")
    try:
        with reproducible(seed):
            product = factory(**(options or {}))
    except (UserError, NotApplicable):
        raise
    except Exception as error:  # the user's code can raise anything
        raise UserError(f"factory {name} called with {dict(options or {})} raised {one_line(error)}") from error
    try:
        loaded = loaded_model(product)
    except UserError as error:
        raise UserError(f"factory {name}: {error}") from None
    if isinstance(loaded.module, torch.jit.ScriptModule):
        return replace(loaded, module=Program(loaded.module))
    return loaded
