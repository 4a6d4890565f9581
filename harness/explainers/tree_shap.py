"""TreeSHAP as the library shap computes it: Shapley values of a fitted ensemble of trees, from the trees themselves."""

from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import NotApplicable, UserError, one_line
from harness.explainers._gradients import tell_completeness
from harness.models.black_box import BlackBox
from harness.option_types import Count
from harness.registry import explainer
from harness.removal.background import Background
from harness.samples import Samples

MISSED = 1e-3  # of the outputs' range: the trees of some libraries compute in float32


@explainer(
    access="forward",
    modalities=("table",),
    complete_to="background",
    cost="background + 1 F",
    source="shap",
)
def tree_shap(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, background: Count = 100
) -> Tensor:
    """TreeSHAP as the library shap gives it: the Shapley values of an ensemble of trees, computed from its branches
    (Lundberg et al. 2020, 10.1038/s42256-019-0138-9; interventional).

    Inputs' shape; the units of the explained output, a probability for classifiers. A removed column takes its values
    in ``background`` training inputs, or all where there are no more, the same for all samples and under all seeds;
    the sum is f(x) less the mean of f over them. Where a probability is no sum over trees, as of boosted classifiers,
    whose trees add up to the log-odds, the values are not exact: shap shares the change of the probability from each
    background row in proportion to the Shapley values of the log-odds. Not applicable to other models than a fitted
    estimator of trees that shap knows (scikit-learn, XGBoost, LightGBM, CatBoost), without training inputs, and where
    shap's values do not add up to the explained output. shap must be installed: ``pip install 'harness[shap]'``.

    Example: a tree of two splits gives x1 and x2 both above 0 the number 3, and all else 0. At (1, 1) with the only
    training input (-1, -1), which has 0, both columns are needed: 3 is shared equally.

    >>> from sklearn.tree import DecisionTreeRegressor
    >>> corners = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    >>> tree = DecisionTreeRegressor().fit(corners.numpy(), [0, 0, 0, 3])
    >>> harness.explain("tree_shap", tree, corners[3:], target, train=corners[:1])
    tensor([[1.5000, 1.5000]])
    """
    rows = Background(background).inputs(context)
    values = _of_outputs(_shap(), _estimator(model), inputs, rows)
    outputs, mean = context.model_outputs(), context.predictor.logits(rows).double().mean(0)
    values = _canonical(values, outputs.view(len(inputs), -1).shape[1])
    every = torch.arange(len(inputs), device=inputs.device)
    chosen = torch.from_numpy(values).to(inputs.device)[every, :, targets]
    change = outputs.view(len(inputs), -1).double()[every, targets] - mean.view(-1)[targets]
    if (chosen.sum(1) - change).abs().max() > MISSED * outputs.abs().max():
        raise NotApplicable("shap's values of this estimator do not add up to the explained output")
    tell_completeness(context, chosen, change)
    return chosen.to(inputs)


def _estimator(model: nn.Module) -> Any:
    """The fitted estimator whose method the model calls; NotApplicable where it calls something else."""
    boxes = [module for module in model.modules() if isinstance(module, BlackBox)]
    estimator = getattr(boxes[0].function, "__self__", None) if len(boxes) == 1 else None
    if not hasattr(estimator, "predict"):
        raise NotApplicable("the model is no fitted estimator of trees, such as a random forest of scikit-learn")
    return estimator


def _of_outputs(shap: ModuleType, estimator: Any, inputs: Tensor, rows: Tensor) -> np.ndarray:
    """shap's values (N, D, K) or (N, D) of the estimator's probabilities, or of its number."""
    kind = "probability" if hasattr(estimator, "predict_proba") else "raw"
    as_array = lambda values: values.detach().double().cpu().numpy()
    try:
        trees = shap.TreeExplainer(estimator, as_array(rows), feature_perturbation="interventional", model_output=kind)
        return np.asarray(trees.shap_values(as_array(inputs), check_additivity=False))
    except Exception as error:  # shap has errors of its own for each kind of estimator, most of them plain Exceptions
        raise NotApplicable(f"shap: {one_line(error)[:200]}") from error


def _canonical(values: np.ndarray, outputs: int) -> np.ndarray:
    """The values (N, D, outputs): where shap gives those of class 1 alone, class 0 has their opposites."""
    if values.ndim == 2:
        values = np.stack([-values, values] if outputs == 2 else [values], -1)
    if values.shape[-1] != outputs:
        raise NotApplicable(f"shap gives the values of {values.shape[-1]} outputs, the model has {outputs}")
    return values


@lru_cache
def _shap() -> ModuleType:
    try:
        import shap  # takes seconds
    except ImportError:
        raise UserError("tree_shap needs shap, which is not installed; pip install 'harness[shap]'") from None
    return shap
