"""Variants of the small models, whose explanations are compared with what the variation does to their accuracy."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from harness.errors import NotApplicable, UserError, unknown
from harness.models.distilled import distil
from harness.models.training import RECIPES, Recipe, reproducible, trained
from harness.registry import MODELS, model
from harness.sources import LoadedModel

FITTING_EPOCHS = 100  # in which networks as small as ours learn random labels by heart
DEPTH = 6  # of a distilled tree

# Each kind: the level it has by itself, None where it has none.
LEVELS = {
    "none": None,
    "pruned": 0.9,
    "l1": 3e-4,
    "l2": 1e-2,
    "shallow": None,
    "distilled_tree": DEPTH,
    "randomised": None,
    "random_labels": None,
    "adversarial": 0.1,
}


def _code(options: Mapping[str, Any]) -> list[Callable[..., Any]]:
    """The code of the model that is varied: a change there makes its variants stale."""
    len(MODELS)  # has every model's module loaded, and so its recipe known
    recipe = RECIPES.get(options["of"])
    return [] if recipe is None else [recipe.build, recipe.load_split]


@model(code=_code)
def variant(
    *, of: str = "digits_cnn", kind: str = "none", level: float | None = None, seed: int = 0, epochs: int | None = None
) -> LoadedModel:
    """A small trained model changed in one respect: pruned, regularised, shallow, distilled, randomised or hardened.

    ``of`` is a model that is trained here (digits_cnn, cancer_mlp, ...), ``seed`` and ``epochs`` (None: its own) are of
    its training, ``level`` None is the kind's own. ``kind`` is

    - ``none``: the model itself.
    - ``pruned``: the share ``level`` (0.9) of all weights of more than one axis, the smallest in magnitude over all
      layers, set to zero, biases kept and nothing trained again (Han et al. 2015, 1506.02626). 0 is the model bit for
      bit, 1 has constant outputs.
    - ``l1``, ``l2``: trained with ``level`` (3e-4, 1e-2) times the sum of magnitudes, or half of that of squares, of
      all weights in the loss. l1 leaves far more weights near zero.
    - ``shallow``: the smaller network that the model has for this, trained alike; of models that have one.
    - ``distilled_tree``: a regression tree of ``level`` (6) decisions fitted to the model's outputs for its training
      inputs (Craven and Shavlik 1996). Gradients are zero, and so is what they explain.
    - ``randomised``: the weights before training (Adebayo et al. 2018, 1810.03292).
    - ``random_labels``: trained on permuted labels, for 100 epochs and without decay unless ``epochs`` is given, until
      it has them by heart (Zhang et al. 2017, 1611.03530); at chance on the test part.
    - ``adversarial``: trained on inputs moved by ``level`` (0.1) along the sign of the loss's gradient (FGSM:
      Goodfellow et al. 2015, 1412.6572); more of its answers survive such a move.

    UserError for a model that is not trained here, an unknown kind, and a level out of range. NotApplicable where
    a model has no smaller network.
    """
    recipe = _recipe(of)
    level = _level(kind, level)
    loaded = _loaded(of, recipe, seed, epochs)
    if kind == "none":
        return loaded
    return replace(loaded, module=_make(kind, recipe, loaded.module, level, seed, epochs))


def _loaded(of: str, recipe: Recipe, seed: int, epochs: int | None) -> LoadedModel:
    """The model itself; what is trained for several data sets, and is no model by its own name, comes bare."""
    if of not in MODELS:
        return LoadedModel(trained(recipe, seed=seed, epochs=epochs))
    loaded = MODELS[of].function(seed=seed, **({} if epochs is None else {"epochs": epochs}))
    if loaded.module.state_dict().keys() != _untrained(recipe, seed).state_dict().keys():
        raise NotApplicable(f"{of} is more than the network that is trained: no variant can stand in its place")
    return loaded


def _recipe(of: str) -> Recipe:
    len(MODELS)  # has every model's module loaded, and so its recipe known
    if of not in RECIPES:
        raise unknown("model of which there are variants", of, RECIPES)
    return RECIPES[of]


def _level(kind: str, level: float | None) -> float | None:
    """The level that is meant, checked against what the kind takes."""
    if kind not in LEVELS:
        raise unknown("kind of variant", kind, LEVELS)
    if level is None:
        return LEVELS[kind]
    if LEVELS[kind] is None:
        raise UserError(f"level is {level!r}, expected none: a variant of kind {kind} has no level")
    if kind == "distilled_tree" and not (level >= 1 and float(level).is_integer()):
        raise UserError(f"level is {level!r}, expected a whole number of decisions from 1")
    if not level >= 0 or (kind == "pruned" and level > 1):
        raise UserError(f"level is {level!r}, expected {'a share from 0 to 1' if kind == 'pruned' else 'at least 0'}")
    return level


def _make(
    kind: str, recipe: Recipe, module: nn.Module, level: float | None, seed: int, epochs: int | None
) -> nn.Module:
    changed = replace(recipe, name=f"{recipe.name}_{kind}")
    makers: dict[str, Callable[[], nn.Module]] = {
        "pruned": lambda: prune(module, level),
        "l1": lambda: trained(replace(changed, l1=level), seed=seed, epochs=epochs),
        "l2": lambda: trained(replace(changed, decay=level), seed=seed, epochs=epochs),
        "shallow": lambda: trained(replace(changed, build=_shallow(recipe)), seed=seed, epochs=epochs),
        "distilled_tree": lambda: _tree(recipe, module, int(level), seed),
        "randomised": lambda: _untrained(recipe, seed),
        "random_labels": lambda: trained(
            replace(changed, shuffled=True, decay=0.0), seed=seed, epochs=epochs or FITTING_EPOCHS
        ),
        "adversarial": lambda: trained(replace(changed, adversarial=level), seed=seed, epochs=epochs),
    }
    return makers[kind]().requires_grad_(False).eval()


def prune(module: nn.Module, share: float) -> nn.Module:
    """A copy of a module with a share of its weights set to zero, the smallest in magnitude over all layers.

    Weights are the parameters with more than one axis: biases and scales stay.
    """
    pruned = deepcopy(module)
    weights = [weight.data for weight in pruned.parameters() if weight.dim() > 1]
    sizes = torch.cat([weight.abs().flatten() for weight in weights])
    removed = torch.zeros_like(sizes, dtype=torch.bool)
    removed[sizes.argsort(stable=True)[: round(share * len(sizes))]] = True
    for weight, part in zip(weights, removed.split([weight.numel() for weight in weights]), strict=True):
        weight[part.view_as(weight)] = 0
    return pruned


def _shallow(recipe: Recipe) -> Callable[[], nn.Module]:
    if recipe.shallow is None:
        raise NotApplicable(f"{recipe.name} has no smaller network")
    return recipe.shallow


def _tree(recipe: Recipe, module: nn.Module, depth: int, seed: int) -> nn.Module:
    return distil(module, recipe.load_split()["train"][0], depth=depth, seed=seed)


def _untrained(recipe: Recipe, seed: int) -> nn.Module:
    with reproducible(seed):
        return recipe.build()
