"""``quantus.<Name>``: the metrics of Quantus in their own conventions, whatever they compute (``docs/quantus.md``).

They are named and resolved without importing Quantus, which happens when the first of them scores. None is iterated
over with the harness's own metrics.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.batch import Batch, Scores
from harness.checks import class_count
from harness.errors import NotApplicable, UserError, one_line, unknown
from harness.metrics._quantus_shims import at_home, load_quantus, quantus_version
from harness.metrics._quantus_table import KINDS, TABLE, Line
from harness.metrics._randomised import explainer_on
from harness.metrics._similarity import with_reason
from harness.registry import METRICS, Metric
from harness.samples import Samples

# The modules of quantus.functions in which an option that names a function is looked up, in this order.
FUNCTIONS = ("similarity_func", "norm_func", "perturb_func", "normalise_func", "discretise_func", "complexity_func")
NAMING = (*FUNCTIONS, "norm_numerator", "norm_denominator")


def quantus_metrics() -> tuple[str, ...]:
    """The names of all metrics of the bridge."""
    return tuple(f"quantus.{name}" for name in sorted(TABLE))


@cache
def quantus_entry(name: str) -> Metric:
    """The entry of ``quantus.<Name>``, without importing Quantus; UserError where it is not installed."""
    short = name.partition(".")[2]
    if short not in TABLE:
        raise unknown("metric", name, quantus_metrics())
    line, (major, minor, *patch) = TABLE[short], quantus_version()
    kind = next(kind for kind, lines in KINDS.items() if short in lines)
    return Metric(
        name,
        _scorer(short, line),
        MappingProxyType(dict(line.options)),
        better=line.better,
        unit=line.unit,
        version=10_000 * major + 100 * minor + sum(patch),
        kind=kind,
        needs=line.needs,
    )


def _scorer(name: str, line: Line) -> Callable[..., Scores]:
    def score(batch: Batch, **options: Any) -> Scores:
        return _score(name, line, batch, options)

    score.__name__ = score.__qualname__ = name
    score.__doc__ = _docstring(name, line)
    return score


def _docstring(name: str, line: Line) -> str:
    said = [("NaN where ", line.nan), ("Known to fail on ", line.fails)]
    return f"""{name} as Quantus 0.6 computes it, named after {line.source}; what it computes may be something else.

    Value: {line.value}. Options and their defaults are Quantus's own; an option that takes a function takes its name.
    It may depend on the batch: maps are normalised by the largest value of all, unless ``normalise=False``.
    {" ".join(f"{start}{text}." for start, text in said if text)}
    """


def _score(name: str, line: Line, batch: Batch, options: Mapping[str, Any]) -> Scores:
    if name == "Focus":
        raise NotApplicable("needs mosaics of four images and explanations of them, which the bridge does not make")
    batch.samples.need(*line.modalities)
    if "masks" in line.needs and batch.masks is None:
        raise NotApplicable("needs masks of where the object is; the data has none")
    if "explainer" in line.needs:
        batch.need_explainer()
    if name == "RandomLogit" or options["softmax"]:
        _check_classes(batch, options)
    load_quantus()
    with at_home(batch.samples):
        try:
            found = _call(name, line, batch, options)
        except (NotApplicable, UserError):
            raise
        except Exception as error:
            known = f" (known to fail on {line.fails})" if line.fails else ""
            raise RuntimeError(f"Quantus's {name} failed{known}: {one_line(error)}") from error
    return _per_sample(name, found, line, len(batch))


def _check_classes(batch: Batch, options: Mapping[str, Any]) -> None:
    """Refuse classes that the model does not have, and the softmax of a single output, which is always 1.

    On a GPU, to ask for a class that is not there ends the process's use of it.
    """
    classes = class_count(batch.samples.predictor.logits(batch.inputs[:1]))
    if options["softmax"] and classes == 1:
        raise NotApplicable("a model with a single output has no class probability; use softmax=False")
    given = options.get("num_classes", classes)
    if given > classes:
        raise UserError(f"num_classes is {given} (1000 is Quantus's default), expected at most the model's {classes}")


def _call(name: str, line: Line, batch: Batch, options: Mapping[str, Any]) -> Any:
    """What Quantus returns for the batch, all of it in one of its own batches."""
    softmax, given = options["softmax"], {key: value for key, value in options.items() if key != "softmax"}
    metric = getattr(load_quantus(), name)(
        **{key: _function(key, value) for key, value in given.items()},
        return_aggregate=False,
        disable_warnings=True,
        display_progressbar=False,
    )
    if name == "ROAD":  # which would average over the samples here, and keep its first batch only
        metric.custom_postprocess = lambda **data: None
    maps = _maps(batch, line)
    more = {"s_batch": _array(batch.units.expand(batch.masks))} if "masks" in line.needs else {}
    return metric(
        model=batch.samples.predictor.module,
        x_batch=_array(batch.inputs),
        y_batch=_array(batch.targets),
        a_batch=_array(maps),
        channel_first=True,
        explain_func=_explainer(batch),
        softmax=softmax,
        device=str(batch.inputs.device),
        batch_size=len(batch),
        **more,
    )


def _maps(batch: Batch, line: Line) -> Tensor:
    """The attributions as the metric takes them: one for each number of a table, or of channels together."""
    if not batch.units.grouped:
        return batch.units.expand(batch.attributions) if line.one_channel else batch.raw
    if batch.raw.shape != batch.inputs.shape:
        raise NotApplicable("Quantus needs an attribution for every number, this explainer gives one for each column")
    return batch.raw


def _array(values: Tensor) -> np.ndarray:
    """A copy of its own as numpy has it: some metrics write into what they are given."""
    return values.detach().cpu().numpy().copy()


def _function(option: str, value: Any) -> Any:
    """The function of Quantus that an option names; other values as they are."""
    if option not in NAMING or not isinstance(value, str):
        return value
    modules = [importlib.import_module(f"quantus.functions.{module}") for module in FUNCTIONS]
    known = {
        each: function
        for module in reversed(modules)
        for each, function in vars(module).items()
        if getattr(function, "__module__", None) == module.__name__ and callable(function)
    }
    if value not in known:
        raise unknown(option, value, known)
    return known[value]


def _explainer(batch: Batch) -> Callable[..., np.ndarray]:
    """The batch's explainer as Quantus calls one, on any model: on arrays, with targets of its own."""

    def explain(model: nn.Module, inputs: Any, targets: Any, **handed_in: Any) -> np.ndarray:
        live = batch.samples.live()
        live = live.with_inputs(
            torch.as_tensor(inputs).to(batch.inputs), torch.arange(len(inputs), device=batch.inputs.device)
        )
        targets = torch.as_tensor(targets).to(batch.targets)
        return _array(
            _explained_by(batch, replace(live, targets=targets, predictor=replace(live.predictor, module=model)))
        )

    return explain


def _explained_by(batch: Batch, samples: Samples) -> Tensor:
    """Raw attributions for the samples, of the model in their predictor; what is prepared is so for that model."""
    if samples.predictor.module is batch.samples.predictor.module:
        return batch.explain(samples)
    return explainer_on(batch, samples)(samples)


def _per_sample(name: str, found: Any, line: Line, count: int) -> Scores:
    """One number per sample: the mean over a sample's curve or layers, if it has such, which are its curve."""
    rows = np.stack([*found.values()], 1) if isinstance(found, Mapping) else np.asarray(found)
    if name == "SensitivityN":  # one number per step for the whole batch
        rows = np.tile(rows, (count, 1))
    if rows.size == 0 or rows.size % count:
        raise RuntimeError(f"Quantus's {name} returned {rows.shape} for {count} samples")
    table = torch.from_numpy(rows.astype(np.float64)).reshape(count, -1)
    curves = table if table.shape[1] > 1 else None
    reason = f"Quantus gives no number: {line.nan or 'it divides by zero'}"
    values = table.mean(1)
    return with_reason(values.masked_fill(values.isinf(), float("nan")), reason, curves=curves)


METRICS.bridge("quantus", quantus_metrics, quantus_entry)
