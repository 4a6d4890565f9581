"""``quantus.<Name>``: the metrics of Quantus as Quantus computes them (``docs/quantus.md``).

Their names and options are known without importing Quantus, which happens when the first of them scores. They are not
among the harness's own metrics, over which ``METRICS`` iterates.
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
from harness.errors import NotApplicable, UserError, one_line, unknown
from harness.metrics._outputs import output_count
from harness.metrics._quantus_line import QUANTUS_TYPES, QuantusMetric
from harness.metrics._quantus_shims import load_quantus, quantus_environment, quantus_version
from harness.metrics._quantus_table import CHECKS, QUANTUS_KINDS, TABLE
from harness.metrics._randomised import explainer_on
from harness.metrics._similarity import with_reason
from harness.option_kinds import kind_of
from harness.registry import METRICS, Metric
from harness.samples import Samples

# The modules of quantus.functions in which an option that names a function is looked up, in this order.
FUNCTION_MODULES = (
    "similarity_func",
    "norm_func",
    "perturb_func",
    "normalise_func",
    "discretise_func",
    "complexity_func",
)
NAMING = (*FUNCTION_MODULES, "norm_numerator", "norm_denominator")


def quantus_metrics() -> tuple[str, ...]:
    """The names of all metrics of the bridge."""
    return tuple(f"quantus.{name}" for name in sorted(TABLE))


@cache
def quantus_entry(name: str) -> Metric:
    """The entry of ``quantus.<Name>``, without importing Quantus; UserError where it is not installed."""
    short = name.partition(".")[2]
    if short not in TABLE:
        raise unknown("metric", name, quantus_metrics())
    facts, (major, minor, *patch) = TABLE[short], quantus_version()
    family = next(kind for kind, lines in QUANTUS_KINDS.items() if short in lines)
    return Metric(
        name,
        _scorer(short, facts),
        MappingProxyType(dict(facts.options)),
        {option: kind_of(QUANTUS_TYPES.get(option), default) for option, default in facts.options.items()},
        better=facts.better,
        unit=facts.unit,
        version=10_000 * major + 100 * minor + sum(patch),
        kind="check" if short in CHECKS else family,
        needs=facts.needs,
    )


def _scorer(name: str, facts: QuantusMetric) -> Callable[..., Scores]:
    def score(batch: Batch, **options: Any) -> Scores:
        return _quantus_scores(name, facts, batch, options)

    score.__name__ = score.__qualname__ = name
    score.__doc__ = _docstring(name, facts)
    return score


def _docstring(name: str, facts: QuantusMetric) -> str:
    limits = [("NaN where ", facts.nan), ("Known to fail on ", facts.fails)]
    return f"""{name} as Quantus 0.6 computes it, which may differ from its source, {facts.source}.

    Value: {facts.value}. Options and their defaults are Quantus's own; where an option takes a function, give its name.
    The value may depend on the batch: maps are divided by the largest value of all maps, unless ``normalise=False``.
    {" ".join(f"{start}{text}." for start, text in limits if text)}
    """


def _quantus_scores(name: str, facts: QuantusMetric, batch: Batch, options: Mapping[str, Any]) -> Scores:
    if name == "Focus":
        raise NotApplicable("needs mosaics of four images and explanations of them, which the bridge does not make")
    batch.samples.need(*facts.modalities)
    if "masks" in facts.needs and batch.masks is None:
        raise NotApplicable("needs masks of where the object is; the data has none")
    if "explainer" in facts.needs:
        batch.need_explainer()
    if name == "RandomLogit" or options["softmax"]:
        _check_classes(batch, options)
    load_quantus()
    with quantus_environment(batch.samples):
        try:
            returned = _call_quantus(name, facts, batch, options)
        except (NotApplicable, UserError):
            raise
        except Exception as error:
            known = f" (known to fail on {facts.fails})" if facts.fails else ""
            raise RuntimeError(f"Quantus's {name} failed{known}: {one_line(error)}") from error
    return _one_per_sample(name, returned, facts, len(batch))


def _check_classes(batch: Batch, options: Mapping[str, Any]) -> None:
    """Raise on classes that the model does not have, and on the softmax of a single output, which is always 1.

    On a GPU, an index of a class that does not exist makes the GPU unusable for the rest of the process.
    """
    classes = output_count(batch.samples)
    if options["softmax"] and classes == 1:
        raise NotApplicable("a model with a single output has no class probability; use softmax=False")
    wanted = options.get("num_classes", classes)
    if wanted > classes:
        raise UserError(f"num_classes is {wanted} (1000 is Quantus's default), expected at most the model's {classes}")


def _call_quantus(name: str, facts: QuantusMetric, batch: Batch, options: Mapping[str, Any]) -> Any:
    """What Quantus returns for the batch, all of it in one of its own batches."""
    arguments = {key: _named_function(key, value) for key, value in options.items() if key != "softmax"}
    metric = getattr(load_quantus(), name)(
        **arguments,
        return_aggregate=False,
        disable_warnings=True,
        display_progressbar=False,
    )
    if name == "ROAD":  # which averages over the samples in this step, and only keeps its first batch
        metric.custom_postprocess = lambda **data: None
    maps = _maps_for_quantus(batch, facts)
    more = {"s_batch": _to_numpy(batch.units.expand(batch.masks))} if "masks" in facts.needs else {}
    return metric(
        model=batch.samples.predictor.module,
        x_batch=_to_numpy(batch.inputs),
        y_batch=_to_numpy(batch.targets),
        a_batch=_to_numpy(maps),
        channel_first=True,
        explain_func=_explain_func(batch),
        softmax=options["softmax"],
        device=str(batch.inputs.device),
        batch_size=len(batch),
        **more,
    )


def _maps_for_quantus(batch: Batch, facts: QuantusMetric) -> Tensor:
    """The attributions in the shape that the metric takes."""
    if not batch.units.grouped:
        return batch.units.expand(batch.attributions) if facts.one_channel else batch.raw
    if batch.raw.shape != batch.inputs.shape:
        raise NotApplicable("Quantus needs an attribution for every number, this explainer gives one for each column")
    return batch.raw


def _to_numpy(values: Tensor) -> np.ndarray:
    """A copy as a numpy array: some metrics write into their arguments."""
    return values.detach().cpu().numpy().copy()


def _named_function(option: str, value: Any) -> Any:
    """The function of Quantus that an option names; other values as they are."""
    if option not in NAMING or not isinstance(value, str):
        return value
    modules = [importlib.import_module(f"quantus.functions.{module}") for module in FUNCTION_MODULES]
    known = {
        each: function
        for module in reversed(modules)
        for each, function in vars(module).items()
        if getattr(function, "__module__", None) == module.__name__ and callable(function)
    }
    if value not in known:
        raise unknown(option, value, known)
    return known[value]


def _explain_func(batch: Batch) -> Callable[..., np.ndarray]:
    """The batch's explainer as a function that Quantus can call, on any model, with arrays and other targets."""

    def explain(model: nn.Module, inputs: Any, targets: Any, **handed_in: Any) -> np.ndarray:
        live = batch.samples.live()
        every = torch.arange(len(inputs), device=batch.inputs.device)
        live = live.with_inputs(torch.as_tensor(inputs).to(batch.inputs), every)
        targets = torch.as_tensor(targets).to(batch.targets)
        on_model = replace(live, targets=targets, predictor=replace(live.predictor, module=model))
        return _to_numpy(_explained_by(batch, on_model))

    return explain


def _explained_by(batch: Batch, samples: Samples) -> Tensor:
    """Raw attributions for the samples, on the model in their predictor; preparation is repeated for another model."""
    if samples.predictor.module is batch.samples.predictor.module:
        return batch.explain(samples)
    return explainer_on(batch, samples)(samples)


def _one_per_sample(name: str, returned: Any, facts: QuantusMetric, count: int) -> Scores:
    """One number per sample: the mean of the numbers that Quantus returns for it, which become its curve if several."""
    rows = np.stack([*returned.values()], 1) if isinstance(returned, Mapping) else np.asarray(returned)
    if name == "SensitivityN":  # one number per step for the whole batch
        rows = np.tile(rows, (count, 1))
    if rows.size == 0 or rows.size % count:
        raise RuntimeError(f"Quantus's {name} returned {rows.shape} for {count} samples")
    table = torch.from_numpy(rows.astype(np.float64)).reshape(count, -1)
    curves = table if table.shape[1] > 1 else None
    reason = f"Quantus gives no number: {facts.nan or 'it divides by zero'}"
    values = table.mean(1)
    return with_reason(values.masked_fill(values.isinf(), float("nan")), reason, curves=curves)


METRICS.bridge("quantus", quantus_metrics, quantus_entry)
