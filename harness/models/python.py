"""A model of the user's own, made by a function that is named by its import."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from harness.errors import NotApplicable, UserError, one_line
from harness.models.exported import Program
from harness.models.preprocessing import preprocessing, read_names
from harness.models.state import existing_file, load_weights, ready
from harness.models.training import reproducible
from harness.registry import import_object, model
from harness.sources import LoadedModel


@model(imports=("factory", "preprocess"))
def python(
    *,
    factory: str | None = None,
    options: Any = None,
    weights: str | None = None,
    preprocess: str | None = None,
    size: int | None = None,
    mean: Any = None,
    std: Any = None,
    classes: str | None = None,
    seed: int = 0,
) -> LoadedModel:
    """The model that a function of one's own makes, ``package.module:function``, with weights of a file beside it.

    ``factory`` is called with ``options``, a mapping of one's own (``+model.options.depth=3`` on the command line), and
    gives a ``torch.nn.Module`` from float batches to logits, or a ``harness.sources.LoadedModel``. What it draws at
    random starts at ``seed``. ``weights`` is a file that fits it: ``.safetensors``, or a state dict saved with
    ``torch.save``, of which nothing is executed. ``preprocess`` makes inputs of a data set's items: ``imagenet``
    (shorter side to 256, the middle 224 pixels, the usual mean and deviation) or ``plain`` (0 to 1), with ``size``,
    ``mean`` and ``std`` of one's own, a number or one per channel; or ``package.module:function``; None where the data
    set gives tensors. ``classes`` is a text file with the name of one output a line.

    The module is frozen and put into eval mode, and its modules are made to work out of place. The source files of
    ``factory`` and ``preprocess`` count in the identity of its code, those that they import do not. UserError, in one
    line, for an import that fails, a factory that raises or gives something else, and weights that do not fit.
    """
    if not factory:
        raise UserError("model=python needs model.factory=package.module:function, which makes the model")
    loaded = _made(factory, import_object(factory), options, seed)
    if weights:
        load_weights(loaded.module, existing_file(weights, "weights=FILE, a state dict"), factory)
    function, value_range = preprocessing(preprocess, size, mean, std)
    if function is not None:
        loaded = replace(loaded, preprocess=function, value_range=value_range)
    return replace(loaded, module=ready(loaded.module), classes=read_names(classes) or loaded.classes)


def _made(name: str, factory: Callable[..., Any], options: Any, seed: int) -> LoadedModel:
    """What the factory gives, as a LoadedModel."""
    if not callable(factory):
        raise UserError(f"factory {name} is a {type(factory).__name__}, expected a function that makes the model")
    if not isinstance(options, Mapping | None):
        raise UserError(f"options are {options!r}, expected a mapping, such as +model.options.depth=3")
    try:
        with reproducible(seed):
            made = factory(**(options or {}))
    except (UserError, NotApplicable):
        raise
    except Exception as error:  # whatever the user's own code does
        raise UserError(f"factory {name} called with {dict(options or {})} raised {one_line(error)}") from error
    loaded = made if isinstance(made, LoadedModel) else LoadedModel(made)
    if not isinstance(loaded.module, nn.Module):
        came = type(loaded.module).__name__
        raise UserError(f"factory {name} gave a {came}, expected a torch.nn.Module or a harness.sources.LoadedModel")
    if isinstance(loaded.module, torch.jit.ScriptModule):
        return replace(loaded, module=Program(loaded.module))
    return loaded
