"""Variants of the small models, to compare how a change affects accuracy and explanations."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from harness.errors import NotApplicable, UserError, unknown
from harness.models.distilled import distil
from harness.models.training import RECIPES, TrainingOptions, TrainingRecipe, trained, untrained
from harness.option_types import NotNegative
from harness.registry import MODELS, model
from harness.sources import LoadedModel

FITTING_EPOCHS = 100  # enough for these small networks to fit random labels
TREE_DEPTH = 6  # of a distilled tree
VARIANT_TRAINING = TrainingOptions()

# Kind -> its default level, None where it has no level.
LEVELS = {
    "none": None,
    "pruned": 0.9,
    "l1": 3e-4,
    "l2": 1e-2,
    "shallow": None,
    "distilled_tree": TREE_DEPTH,
    "randomised": None,
    "random_labels": None,
    "adversarial": 0.1,
}


def _code_of_original(options: Mapping[str, Any]) -> list[Callable[..., Any]]:
    """The code of the original model, so that a change there makes its variants stale."""
    len(MODELS)  # loads the module of every model, and so its recipe
    recipe = RECIPES.get(options["of"])
    return [] if recipe is None else [recipe.build, recipe.load_split]


@model(code=_code_of_original, renamed={"kind": "change"})
def variant(
    *,
    of: str = "digits_cnn",
    change: Literal[
        "none", "pruned", "l1", "l2", "shallow", "distilled_tree", "randomised", "random_labels", "adversarial"
    ] = "none",
    level: NotNegative | None = None,
    training: TrainingOptions = VARIANT_TRAINING,
) -> LoadedModel:
    """A small trained model with one change: pruned, regularised, shallow, distilled, randomised or hardened.

    ``of`` is a model that is trained here (digits_cnn, cancer_mlp, ...). ``seed`` and ``epochs`` are those of its
    training, described in ``TrainingOptions``. ``level`` None is the default in brackets. ``change`` is

    - ``none``: the model itself.
    - ``pruned``: the share ``level`` (0.9) of all weights in tensors with more than one axis is set to zero, the
      smallest in magnitude over all layers. Biases stay, and nothing is trained again (Han et al. 2015, 1506.02626).
      With 0 it is the model bit for bit, with 1 its outputs are constant.
    - ``l1``, ``l2``: the model is trained with a penalty in the loss: ``level`` (3e-4, 1e-2) times the sum of the
      magnitudes of all weights, or half the sum of their squares. l1 leaves far more weights near zero.
    - ``shallow``: a smaller network, trained in the same way; only for models that have one.
    - ``distilled_tree``: a regression tree of depth ``level`` (6), fitted to the model's outputs for its training
      inputs (Craven and Shavlik 1996). Its gradients are zero, and so are explanations from gradients.
    - ``randomised``: the weights before training (Adebayo et al. 2018, 1810.03292).
    - ``random_labels``: the model is trained on permuted labels without weight decay, for 100 epochs unless ``epochs``
      is given, until it fits them (Zhang et al. 2017, 1611.03530). On the test part it is as good as chance.
    - ``adversarial``: the model is trained on inputs moved by ``level`` (0.1) along the sign of the loss's gradient
      (FGSM: Goodfellow et al. 2015, 1412.6572), so that such a move changes fewer of its predictions.

    UserError for a model that is not trained here, an unknown change, and a level out of range. NotApplicable where
    the model has no smaller network.
    """
    recipe = _recipe_of(of)
    level = _checked_level(change, level)
    original = _original_model(of, recipe, training)
    if change == "none":
        return original
    return replace(original, module=_varied_module(change, recipe, original.module, level, training))


def _original_model(of: str, recipe: TrainingRecipe, training: TrainingOptions) -> LoadedModel:
    """The registered model ``of``; a recipe without a registered model gives its network alone."""
    if of not in MODELS:
        return LoadedModel(trained(recipe, training))
    entry = MODELS[of]
    epochs = {} if training.epochs is None else {"epochs": training.epochs}
    loaded = entry.function(**entry.keywords(entry.complete({"seed": training.seed, **epochs})))
    if loaded.module.state_dict().keys() != untrained(recipe, seed=training.seed).state_dict().keys():
        raise NotApplicable(f"{of} is more than the network that is trained, so that no variant can replace it")
    return loaded


def _recipe_of(of: str) -> TrainingRecipe:
    len(MODELS)  # loads the module of every model, and so its recipe
    if of not in RECIPES:
        raise unknown("model of which there are variants", of, RECIPES)
    return RECIPES[of]


def _checked_level(kind: str, level: float | None) -> float | None:
    """The level, or the default of the kind for None; UserError where the kind does not allow it."""
    if level is None:
        return LEVELS[kind]
    if LEVELS[kind] is None:
        raise UserError(f"level is {level!r}, expected none: a variant of kind {kind} has no level")
    if kind == "distilled_tree" and not (level >= 1 and float(level).is_integer()):
        raise UserError(f"level is {level!r}, expected a whole number of decisions from 1")
    if kind == "pruned" and level > 1:
        raise UserError(f"level is {level!r}, expected a share from 0 to 1")
    return level


def _varied_module(
    kind: str, recipe: TrainingRecipe, module: nn.Module, level: float | None, training: TrainingOptions
) -> nn.Module:
    changed = replace(recipe, name=f"{recipe.name}_{kind}")
    fitting = replace(training, epochs=training.epochs or FITTING_EPOCHS)
    makers: dict[str, Callable[[], nn.Module]] = {
        "pruned": lambda: prune(module, level),
        "l1": lambda: trained(replace(changed, l1=level), training),
        "l2": lambda: trained(replace(changed, decay=level), training),
        "shallow": lambda: trained(replace(changed, build=_shallow_network(recipe)), training),
        "distilled_tree": lambda: _distilled_tree(recipe, module, int(level), training.seed),
        "randomised": lambda: untrained(recipe, seed=training.seed),
        "random_labels": lambda: trained(replace(changed, shuffled=True, decay=0.0), fitting),
        "adversarial": lambda: trained(replace(changed, adversarial=level), training),
    }
    return makers[kind]().requires_grad_(False).eval()


def prune(module: nn.Module, share: float) -> nn.Module:
    """A copy of a module with a share of its weights set to zero, the smallest in magnitude over all layers.

    Weights here are the parameters with more than one axis; biases and scales stay.
    """
    pruned = deepcopy(module)
    weights = [weight.data for weight in pruned.parameters() if weight.dim() > 1]
    sizes = torch.cat([weight.abs().flatten() for weight in weights])
    removed = torch.zeros_like(sizes, dtype=torch.bool)
    removed[sizes.argsort(stable=True)[: round(share * len(sizes))]] = True
    for weight, part in zip(weights, removed.split([weight.numel() for weight in weights]), strict=True):
        weight[part.view_as(weight)] = 0
    return pruned


def _shallow_network(recipe: TrainingRecipe) -> Callable[[], nn.Module]:
    if recipe.shallow is None:
        raise NotApplicable(f"{recipe.name} has no smaller network")
    return recipe.shallow


def _distilled_tree(recipe: TrainingRecipe, module: nn.Module, depth: int, seed: int) -> nn.Module:
    return distil(module, recipe.load_split()["train"][0], depth=depth, seed=seed)
