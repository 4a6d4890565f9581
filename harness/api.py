"""The interface for notebooks: explain, score and evaluate on the user's own module and tensors."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from harness.batch import Batch
from harness.checks import (
    check_fillers,
    check_finite,
    check_groups,
    check_inputs,
    check_like_inputs,
    check_masks,
    check_model,
    check_seed,
    check_targets,
    check_train_labels,
    check_truth,
    check_unit_names,
    class_count,
    device_of,
)
from harness.engine.block import measure_block
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.engine.selection import Job, choose_several
from harness.engine.stage import Protocol, first_outputs, precision, set_stage
from harness.engine.tuning import tune
from harness.errors import UserError
from harness.guards import guarded
from harness.jobs.plan import Plan
from harness.jobs.recorders import FrameRecorder
from harness.jobs.runner import run_plan
from harness.predictor import Predictor, default_chunk
from harness.registry import EXPLAINERS, METRICS, Entry
from harness.samples import Samples
from harness.sources import Data, LoadedModel
from harness.units import Units


def explain(
    explainer: str | Callable[..., Tensor],
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    seed: int = 0,
    modality: str | None = None,
    train: Tensor | None = None,
    train_labels: Tensor | None = None,
    segments: str | Tensor | None = None,
    value_range: tuple[Any, Any] | None = None,
    truth: Tensor | None = None,
    columns: Sequence[int] | None = None,
    fillers: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> Tensor:
    """Attributions (inputs' shape, or one channel) of ``model``'s outputs for ``targets`` (N,).

    ``explainer`` is a registered name or ``f(model, inputs, targets, *, options)``; ``options`` are its own. ``train``
    holds training inputs for baselines and global methods that need them, ``train_labels`` their labels, ``segments``
    names the segments or gives them, (N, *units). ``value_range`` is the lowest and highest value an input can have;
    without it each sample's own range counts. ``truth`` (N, *units) is the known right attribution, which the explainer
    ``oracle`` gives; ``columns`` says which column each number of a table (N, D) belongs to, where one is several;
    ``fillers`` (``pad``, ``mask`` -> (D,)) what a removed token of a text (N, T, D) becomes by these baselines.
    Raises ValueError on wrong input and NotApplicable where the explainer cannot serve this model or data.
    """
    entry = EXPLAINERS.resolve(explainer)
    given, options = _segments(entry, segments, options)
    options = entry.complete(options)
    samples = samples_of(
        model,
        inputs,
        targets,
        seed=seed,
        modality=modality,
        train=train,
        train_labels=train_labels,
        segments=given,
        value_range=value_range,
        truth=truth,
        columns=columns,
        fillers=fillers,
    )
    explaining = Explaining(entry, options, model)
    with guarded(model):
        explaining.prepare(samples)
        return check_finite(explaining(samples))


def score(
    metric: str | Callable[..., Any],
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    explainer: str | Callable[..., Tensor] | None = None,
    explainer_options: dict[str, Any] | None = None,
    masks: Tensor | None = None,
    segments: str | Tensor | None = None,
    seed: int = 0,
    modality: str | None = None,
    labels: Tensor | None = None,
    train: Tensor | None = None,
    train_labels: Tensor | None = None,
    value_range: tuple[Any, Any] | None = None,
    truth: Tensor | None = None,
    columns: Sequence[int] | None = None,
    fillers: Mapping[str, Tensor] | None = None,
    reduction: str = "sum",
    **options: Any,
) -> Tensor:
    """The metric's score (N,) of given attributions, NaN where it is undefined.

    ``explainer`` (with ``explainer_options``) is needed by metrics that explain again, and by those that ask for its
    capabilities. ``labels`` (N,) are what the data says the samples are, where that is not ``targets``.
    ``value_range`` is the lowest and highest value an input can have; without it each sample's own range counts.
    ``truth`` (N, *units) is the known right attribution, for metrics that compare with it; ``columns`` says which
    column each number of a table (N, D) belongs to, where one is several; ``fillers`` (``pad``, ``mask`` -> (D,)) what
    a removed token of a text (N, T, D) becomes by these baselines. ``reduction`` is how channels become one number per
    unit; ``none`` makes every number a unit.
    """
    entry = METRICS.resolve(metric)
    given, options = _segments(entry, segments, options)
    options = entry.complete(options)
    samples = samples_of(
        model,
        inputs,
        targets,
        seed=seed,
        modality=modality,
        train=train,
        train_labels=train_labels,
        segments=given,
        masks=masks,
        labels=labels,
        value_range=value_range,
        elements=reduction == "none",
        truth=truth,
        columns=columns,
        fillers=fillers,
    )
    explaining = None
    if explainer is not None:
        chosen = EXPLAINERS.resolve(explainer)
        explaining = Explaining(chosen, chosen.complete(explainer_options or {}), model)
        explaining.prepare(samples)
    with guarded(model):
        return score_batch(entry, options, make_batch(samples, attributions, explaining, reduction)).values


def samples_of(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    seed: int = 0,
    modality: str | None = None,
    train: Tensor | None = None,
    train_labels: Tensor | None = None,
    segments: Tensor | None = None,
    masks: Tensor | None = None,
    labels: Tensor | None = None,
    truth: Tensor | None = None,
    columns: Sequence[int] | None = None,
    value_range: tuple[Any, Any] | None = None,
    elements: bool = False,
    fillers: Mapping[str, Tensor] | None = None,
    predictor: Predictor | None = None,
) -> Samples:
    """Checked tensors as ``Samples``; raises ValueError with one line on what is wrong."""
    check_model(model)
    check_seed(seed)
    inputs = check_inputs(inputs).detach()
    with torch.inference_mode(False):
        inputs = inputs.clone() if inputs.is_inference() else inputs  # no gradient is ever taken of such a tensor
    units = Units.of(inputs, modality, elements, columns)
    predictor = predictor or Predictor(model, chunk=default_chunk(inputs))
    classes = class_count(first_outputs(predictor, inputs[:1]))
    targets = check_targets(targets, len(inputs), classes).to(inputs.device)
    masks, truth = check_masks(masks, len(inputs), units.shape), check_truth(truth, len(inputs), units)
    return Samples(
        inputs,
        targets,
        predictor,
        units=units,
        seed=seed,
        labels=targets if labels is None else check_targets(labels, len(inputs), classes, "labels").to(inputs.device),
        train=check_like_inputs(train, inputs, "train"),
        train_labels=check_train_labels(train_labels, train),
        value_range=value_range,
        masks=None if masks is None else masks.to(inputs.device),
        truth=None if truth is None else truth.to(inputs.device),
        fillers=check_fillers(fillers, inputs),
        given_segments=_per_sample(segments, inputs, units),
    )


def _per_sample(segments: Tensor | None, inputs: Tensor, units: Units) -> Tensor | None:
    """Segments (N, *units), from one map for all or one per sample."""
    if segments is None:
        return None
    if tuple(segments.shape) not in (units.shape, (len(inputs), *units.shape)):
        raise UserError(
            f"segments have shape {tuple(segments.shape)}, expected {units.shape} or {(len(inputs), *units.shape)}"
        )
    return segments.to(inputs.device).expand(len(inputs), *units.shape)


def _segments(
    entry: Entry, segments: str | Tensor | None, options: dict[str, Any]
) -> tuple[Tensor | None, dict[str, Any]]:
    """Segments that were handed in, if any, and the options with the name of the segments, if it was given.

    Segments handed in are not refused by a metric that has no use for them: the explainer it calls again may have.
    """
    if segments is not None and not isinstance(segments, Tensor | str):
        raise UserError(f"segments are {segments!r}, expected a name like grid:7 or a tensor (N, *units)")
    given = segments if isinstance(segments, Tensor) else None
    if segments is None or (given is not None and "segments" not in entry.options):
        return given, options
    return given, {**options, "segments": segments if given is None else "given"}


def make_batch(samples: Samples, attributions: Any, explaining: Explaining | None, reduction: str = "sum") -> Batch:
    """A batch of samples with checked attributions, reduced to one number per unit."""
    if not isinstance(attributions, Tensor) or len(attributions) != len(samples):
        came = tuple(attributions.shape) if isinstance(attributions, Tensor) else type(attributions).__name__
        raise UserError(f"attributions are {came}, expected a tensor with one map for each of {len(samples)} inputs")
    raw = check_finite(samples.units.check(attributions.detach().float().to(samples.inputs.device)))
    reduced = check_finite(samples.units.reduce(raw, reduction))
    if explaining is None:
        return Batch(samples, reduced, raw, reduction=reduction)
    return Batch(samples, reduced, raw, explaining.entry, explaining.options, explaining, reduction=reduction)


def evaluate(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    explainers: Any,
    metrics: Any,
    masks: Tensor | None = None,
    truth: Tensor | None = None,
    segments: Tensor | None = None,
    train: Tensor | None = None,
    train_labels: Tensor | None = None,
    unit_names: Sequence[str] | None = None,
    columns: Sequence[int] | None = None,
    groups: Mapping[str, Sequence[Any]] | None = None,
    value_range: tuple[Any, Any] | None = None,
    fillers: Mapping[str, Tensor] | None = None,
    modality: str | None = None,
    ids: Sequence[str] | None = None,
    tuned: bool = False,
    **protocol: Any,
) -> pd.DataFrame:
    """Score several explainers by several metrics on your own model and tensors: one row per sample and metric.

    ``explainers`` and ``metrics`` are names, functions, a list of these, or a mapping of labels to options (with
    ``name``, a name or a function, where the label is not it). ``protocol`` are the settings of
    ``harness.engine.stage.Protocol`` but the target. ``truth`` (N, *units) is the known right attribution, ``segments``
    (N or none, *units) what ``segments=given`` means; ``columns`` says which column each number of a table (N, D)
    belongs to, where one is several, and ``unit_names`` what the columns are called; ``fillers`` (``pad``, ``mask`` ->
    (D,)) what a removed token of a text (N, T, D) becomes by these baselines. ``groups`` divide the samples, name ->
    one group per sample, for ``harness.results.subgroups``. ``tuned`` first spends seconds to find the fastest equal form of the
    model. A cell that failed or does not apply has rows too: value NaN, with its ``status`` and ``error``.
    """
    inputs = check_inputs(inputs)
    names = [str(number) for number in range(len(inputs))] if ids is None else [str(each) for each in ids]
    modality = modality or Units.of(inputs).modality
    if "target" in protocol:
        raise UserError("evaluate explains the given targets; leave out target=")
    if len(names) != len(inputs):
        raise UserError(f"ids are {len(names)}, expected one for each of {len(inputs)} inputs")
    units, fillers = Units.of(inputs, modality, columns=columns), check_fillers(fillers, inputs)
    train, masks = check_like_inputs(train, inputs, "train"), check_masks(masks, len(inputs), units.shape)
    labels = check_targets(targets, len(inputs)).cpu()
    data = Data(
        names,
        inputs,
        labels,
        modality,
        value_range,
        train=train,
        masks=masks,
        truth=check_truth(truth, len(inputs), units),
        segments=_per_sample(segments, inputs, units),
        columns=units.columns,
        train_labels=check_train_labels(train_labels, train),
        unit_names=check_unit_names(unit_names, units),
        groups=check_groups(groups, len(inputs)),
    )
    settings = Protocol.of({**protocol, "target": "label"})
    device = device_of(check_model(model), inputs.device)
    # Grid of jobs first: a misspelt name must not wait for the model.
    jobs = [Job(e, m) for e in choose_several(EXPLAINERS, explainers) for m in choose_several(METRICS, metrics)]
    recorder = FrameRecorder()
    with precision(settings.dtype):
        stage = set_stage(LoadedModel(model, fillers=fillers), data, settings, device)
        if tuned:
            tune(stage.predictor, stage.first())
        recorder.stage = stage
        measure_block(stage, jobs, recorder, alone=True)
    return recorder.frame()


def run(config: Mapping[str, Any]) -> Path:
    """Do what one job of ``harness run`` does, from a plain nested mapping; gives the run directory.

    ``config`` has the sections of the command line: model, dataset, explainer, metric, and optionally protocol, runtime
    and run: ``{"model": "digits_cnn", "dataset": "digits", "explainer": ["saliency"], "metric": {"srg": {"steps":
    16}}}``.
    """
    plan = Plan.of(config)
    run_plan(plan)
    return plan.directory
