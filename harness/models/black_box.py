"""Any function on NumPy arrays as a model, and fitted estimators of scikit-learn and of libraries like it.

Such a model has outputs and nothing else: no gradients, no layers and no weights. Explainers and metrics that only call
the model work on it; all others say that they are not applicable.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import NotApplicable, UserError, one_line
from harness.sources import LoadedModel

NO_MISTAKE = (UserError, NotApplicable, MemoryError, torch.OutOfMemoryError)  # raised by a function on purpose


class BlackBox(nn.Module):
    """A function on NumPy arrays, such as an estimator's ``predict_proba`` or a call of a web service, as a module.

    The function is called with an array (N, ...) in the dtype of the inputs (float32 for bfloat16, which NumPy lacks)
    that it may change, and with carried inputs as arrays by keyword. It returns N rows of floats, (N,) or (N, K), as an
    array, a tensor, a table or nested lists. Whole numbers are refused: they could be class indices, which no score
    follows from, or counts. With ``columns``, the names of the D columns of inputs (N, D), the function gets a pandas
    DataFrame in place of the array.

    The module has no parameters and is always in eval mode. A copy calls the same function. The buffer ``fingerprint``
    (16,) uint8 is a hash of the function with what it is bound to, so that two fitted estimators are told apart as two
    sets of weights are; there is none for a function that cannot be hashed, such as a lambda.
    """

    def __init__(self, function: Callable[..., Any], columns: tuple[str, ...] | None = None) -> None:
        super().__init__()
        if not callable(function):
            raise UserError(f"the black box is a {type(function).__name__}, expected a function on NumPy arrays")
        self.function, self.columns = function, columns
        self.register_buffer("fingerprint", _fingerprint(function))
        self.eval()

    def train(self, mode: bool = True) -> "BlackBox":
        """The module in eval mode, the only mode it has."""
        return super().train(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "BlackBox":
        copied = BlackBox.__new__(BlackBox)
        memo[id(self)] = copied
        nn.Module.__init__(copied)
        copied.function, copied.columns = self.function, self.columns
        copied.register_buffer("fingerprint", None if self.fingerprint is None else self.fingerprint.clone())
        return copied.eval()

    def forward(self, inputs: Tensor, **carried: Tensor) -> Tensor:
        """The function's results (N,) or (N, K), float, on the inputs' device; UserError where it raises an error."""
        given = _writable_array(inputs) if self.columns is None else _table(inputs, self.columns)
        try:
            result = self.function(given, **{name: _writable_array(each) for name, each in carried.items()})
        except NO_MISTAKE:
            raise
        except Exception as error:  # somebody else's code can raise anything
            raise UserError(
                f"the function {_name(self.function)} raised {one_line(error)[:300]} for an array {given.shape}"
            ) from error
        return _scores(result, len(inputs), _name(self.function)).to(inputs.device)


def loaded_model(model: Any) -> LoadedModel:
    """A model as the engine takes it: from a ``LoadedModel``, a module, a fitted estimator, or a function on arrays."""
    if isinstance(model, LoadedModel):
        return model if isinstance(model.module, nn.Module) else replace(model, module=BlackBox(model.module))
    if isinstance(model, nn.Module):
        return LoadedModel(model)
    if hasattr(model, "predict"):
        return estimator_model(model)
    if callable(model) and not isinstance(model, type):
        return LoadedModel(BlackBox(model))
    raise UserError(
        f"model is a {type(model).__name__}, expected a torch.nn.Module, a fitted estimator, or a function on arrays"
    )


def estimator_model(estimator: Any) -> LoadedModel:
    """A fitted estimator of scikit-learn, XGBoost, LightGBM or the like, for inputs (N, D).

    A classifier (``predict_proba``, ``classes_``) has the task ``probabilities``, one column per class, named by
    ``classes_``; a regressor has the task ``regression``. Which output is meant of anything else is not certain:
    UserError, as for an estimator that is not fitted. An estimator that was fitted on named columns gets them by name,
    in the order in which it saw them.
    """
    kind = _estimator_kind(estimator)
    names = getattr(estimator, "feature_names_in_", None)
    box = partial(BlackBox, columns=None if names is None else tuple(map(str, names)))
    if kind == "regressor":
        return LoadedModel(box(estimator.predict), task="regression")
    classes = getattr(estimator, "classes_", None)
    if kind == "classifier" and classes is None:
        raise UserError(f"the {type(estimator).__name__} has no classes_, expected a fitted classifier: call fit first")
    if np.ndim(classes) == 1 and hasattr(estimator, "predict_proba") and not isinstance(classes, list):
        return LoadedModel(box(estimator.predict_proba), task="probabilities", classes=tuple(map(str, classes)))
    raise UserError(
        f"which output of a {type(estimator).__name__} is meant is not certain: expected a classifier with "
        "predict_proba for one label, or a regressor; give the function itself, such as "
        "BlackBox(estimator.decision_function), and say what it returns with task="
    )


def _estimator_kind(estimator: Any) -> str | None:
    """``classifier``, ``regressor``, ... as the estimator itself says, in its tags or as before them; else None."""
    tags = getattr(estimator, "__sklearn_tags__", None)
    return tags().estimator_type if callable(tags) else getattr(estimator, "_estimator_type", None)


def _writable_array(inputs: Tensor) -> np.ndarray:
    """A contiguous copy of a tensor, which the function may change."""
    inputs = inputs.detach().cpu()
    return np.array((inputs.float() if inputs.dtype == torch.bfloat16 else inputs).numpy(), order="C")


def _table(inputs: Tensor, columns: tuple[str, ...]) -> Any:
    import pandas as pd  # takes long

    if inputs.dim() != 2 or inputs.shape[1] != len(columns):
        raise UserError(
            f"inputs are {tuple(inputs.shape)}, expected (N, {len(columns)}): the model was fitted on the columns "
            f"{', '.join(columns[:5])}{', ...' if len(columns) > 5 else ''}"
        )
    return pd.DataFrame(_writable_array(inputs), columns=list(columns))


def _scores(result: Any, rows: int, name: str) -> Tensor:
    """The function's result as a float tensor (N,) or (N, K); UserError where it is something else."""
    expected = f"expected floats ({rows},) or ({rows}, outputs)"
    try:
        values = np.asarray(result.detach().cpu() if isinstance(result, Tensor) else result)
    except Exception as error:  # ragged lists, and objects that cannot be arrays
        raise UserError(
            f"the function {name} returned a {type(result).__name__} that is no array, {expected}"
        ) from error
    if values.dtype.kind in "iub":
        raise UserError(
            f"the function {name} returned {values.dtype} {values.shape}: class indices have no score to explain; "
            f"{expected}, such as predict_proba gives; return counts and the like as floats"
        )
    if values.dtype.kind != "f" or values.ndim not in (1, 2) or len(values) != rows or isinstance(result, Mapping):
        raise UserError(f"the function {name} returned {values.dtype} {values.shape} for {rows} rows, {expected}")
    return torch.from_numpy(np.array(values, dtype=np.result_type(values.dtype, np.float32), order="C"))


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or type(function).__name__


def _fingerprint(function: Callable[..., Any]) -> Tensor | None:
    """A hash (16,) uint8 of a function and of the object it is a method of; None if it cannot be hashed."""
    import joblib  # comes with scikit-learn; its hashes are the same in every process, which those of pickles are not

    try:
        return torch.tensor(list(bytes.fromhex(joblib.hash(function))), dtype=torch.uint8)
    except Exception:  # whatever the objects raise when they are pickled
        return None
