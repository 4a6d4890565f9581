"""The interface for notebooks: explain, interactions, score and evaluate on the user's own module and data.

All of them use the code of a run: ``Data`` -> ``Stage`` -> ``Samples``. ``harness.Data`` describes what may accompany
inputs and targets; every function accepts it in place of ``inputs, targets``.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.checks import check_finite, check_model, device_of
from harness.engine.block import measure_block
from harness.engine.clean_outputs import clean_outputs
from harness.engine.explain import Explaining
from harness.engine.interactions import Interactions, interactions_of
from harness.engine.present_units import units_of_maps
from harness.engine.protocol import Protocol, precision
from harness.engine.same_map import say_if_another_map
from harness.engine.score import score_groups
from harness.engine.selection import Cell, Chosen, choose_several
from harness.engine.stage import Stage, set_stage
from harness.errors import UserError
from harness.facts import Facts
from harness.guards import guarded
from harness.jobs.blocks import run_block
from harness.jobs.lease import lease
from harness.jobs.parts import whole_of
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.recorders import FrameRecorder
from harness.messages import heard_by, say, warn_caller
from harness.models.black_box import loaded_model
from harness.predictor import Predictor
from harness.registry import EXPLAINERS, METRICS, Entry, Metric
from harness.samples import Samples
from harness.sources import Data

if TYPE_CHECKING:
    from harness.choosing.choice import Choice


def explain(
    explainer: str | Callable[..., Tensor],
    model: Any,
    inputs: Tensor | Data,
    targets: Tensor | None = None,
    *,
    train: Tensor | None = None,
    segments: str | Tensor | None = None,
    seed: int = 0,
    facts: Facts | None = None,
    **options: Any,
) -> Tensor:
    """Attributions (inputs' shape, or one channel) of ``model``'s outputs for ``targets`` (N,).

    ``explainer`` is a registered name or ``f(model, inputs, targets, *, options)``; ``options`` are its options.
    ``model`` is a module in eval mode, a fitted estimator, a function on NumPy arrays, or ``harness.LoadedModel``.
    ``inputs`` (N, ...) are a float tensor or an array, token ids, several inputs as a tuple or dict, or
    ``harness.Data``, which holds the targets and everything else; its fields are keywords here too
    (``task="regression"``). ``train`` holds training inputs, for the baselines and global methods that need them.
    ``segments`` is a name (``grid:7``) or a tensor (N, *units). ``facts`` (``harness.Facts()``) collects further
    facts, such as rules in words. Raises ValueError on wrong input, and NotApplicable if the explainer does not work
    for this model or data.
    """
    with heard_by(warn_caller):
        stage, explaining = _stage_and_explaining(explainer, model, inputs, targets, train, segments, seed, options)
        samples = replace(_all_samples(stage), facts=facts)
        with guarded(stage.module):
            explaining.prepare(samples)
            maps = explaining(samples)
            if explaining.refusal is not None:
                raise explaining.refusal
            return check_finite(maps)


def interactions(
    model: Any,
    inputs: Tensor | Data,
    targets: Tensor | None = None,
    *,
    explainer: str | Callable[..., Tensor] = "shapley_interactions",
    train: Tensor | None = None,
    segments: str | Tensor | None = None,
    seed: int = 0,
    **options: Any,
) -> Interactions:
    """Interactions of pairs of units, as matrices (N, K, K) with names: how two units act together.

    ``explainer`` is one that computes them, ``shapley_interactions`` or ``integrated_hessians``; the other arguments
    are those of ``explain``. ``harness.engine.interactions.Interactions`` describes the result, which prints the
    strongest pairs. Raises ValueError also for an explainer that computes attributions alone.
    """
    with heard_by(warn_caller):
        stage, explaining = _stage_and_explaining(explainer, model, inputs, targets, train, segments, seed, options)
        samples = _all_samples(stage)
        with guarded(stage.module):
            explaining.prepare(samples)
            return interactions_of(stage, samples, explaining)


def score(
    metric: str | Callable[..., Any],
    model: Any,
    inputs: Tensor | Data,
    targets: Tensor | None = None,
    attributions: Tensor | None = None,
    *,
    explainer: str | Callable[..., Tensor] | None = None,
    explainer_options: dict[str, Any] | None = None,
    train: Tensor | None = None,
    masks: Tensor | None = None,
    segments: str | Tensor | None = None,
    reduction: str = "sum",
    seed: int = 0,
    **options: Any,
) -> Tensor:
    """The metric's scores (N,) of given attributions, float64 on the CPU; NaN where a score is undefined.

    ``model`` and ``inputs`` are as in ``explain``; so are the fields of ``harness.Data`` as keywords. A score that the
    model's task does not have follows the task. Call it as ``score(metric, model, inputs, targets, attributions)`` or,
    with ``harness.Data``, as ``score(metric, model, data, attributions)``. Give ``explainer`` (with
    ``explainer_options``) to metrics that compute further attributions or read the explainer's capabilities: the first
    sample is then explained again, and a warning says if its attribution is another one or cannot be made. Another
    warning says if the model's outputs are random. ``train`` holds training inputs. ``masks`` (N, *units) are True on
    the object. ``segments`` is a name or a tensor (N, *units). ``reduction`` is how the channels of a unit become one
    number; with ``none`` every number is a unit. Raises ValueError on wrong input, and NotApplicable if the metric does
    not work for this model or data.
    """
    if isinstance(inputs, Data) and attributions is None:
        targets, attributions = None, targets
    entry = METRICS.resolve(metric)
    own, parts = _separated(entry, options)
    options = entry.complete(_own_options(entry, segments, own))
    data = _combined_data(inputs, targets, train=train, masks=masks, segments=segments, **parts)
    with heard_by(warn_caller):
        stage = _stage(model, data, seed=seed, reduction=reduction)
        stage.task.check_score(own)
        samples, explaining = _all_samples(stage), None
        with guarded(stage.module):
            if explainer is not None:
                chosen = EXPLAINERS.resolve(explainer)
                explaining = Explaining(chosen, chosen.complete(explainer_options or {}), stage.module)
                explaining.prepare(samples)
            return _scores_of_maps(stage, entry, options, samples, attributions, explaining).values


def evaluate(
    model: Any,
    inputs: Tensor | Data,
    targets: Tensor | None = None,
    *,
    explainers: Any,
    metrics: Any,
    train: Tensor | None = None,
    masks: Tensor | None = None,
    segments: Tensor | None = None,
    tuned: bool = False,
    **protocol: Any,
) -> pd.DataFrame:
    """Score several explainers by several metrics on your own model and data: one row per sample and metric.

    ``model`` and ``inputs`` are as in ``explain``. ``explainers`` and ``metrics`` are each a name, a function, a list
    of these, or a mapping of labels to options. In a mapping, the option ``name`` (a name or a function) says which
    item is meant if the label is not its name. ``protocol`` are the settings of ``harness.engine.protocol.Protocol``
    except ``target``, and fields of ``harness.Data``. ``segments``, (N, *units) or (*units), are used by items with the
    option ``segments=given``. ``tuned=True`` scores on a faster form of the model with equal outputs, as a run
    does. A cell that failed or is not applicable has rows too: their value is NaN, and ``status`` and ``error`` say
    why. Timings are valid unless another run uses the device at the same time.
    """
    if isinstance(segments, str):
        raise UserError(f"segments are {segments!r}, expected a tensor; a name is an option of an item")
    parts = {name: value for name, value in protocol.items() if name in _DATA_ONLY}
    protocol = {name: value for name, value in protocol.items() if name not in parts}
    data = _combined_data(inputs, targets, train=train, masks=masks, segments=segments, **parts)
    if "target" in protocol:
        raise UserError("evaluate explains the given targets; leave out target=")
    settings = Protocol.of({**protocol, "target": "given"}).without_rounds()
    # The cells come first: a misspelt name is reported before any work is done.
    cells = [Cell(e, m) for e in choose_several(EXPLAINERS, explainers) for m in choose_several(METRICS, metrics)]
    recorder = FrameRecorder()
    loaded = loaded_model(model)
    device = device_of(check_model(loaded.module), _device_of(data))
    with heard_by(warn_caller), precision(settings.dtype), lease(device, "share", lambda line: None) as alone:
        recorder.stage = stage = set_stage(loaded, data, settings, device)
        stage.make_ready(tuned=tuned)
        measure_block(stage, cells, recorder, alone=alone)
    return recorder.frame()


# What further inputs have in common with those that were judged.
_SHARED = ("modality", "task", "train", "train_labels", "unit_names", "value_range", "columns", "fillers")


def choose(
    model: Any,
    inputs: Tensor | Data,
    targets: Tensor | None = None,
    *,
    budget: str | int | None = None,
    purpose: str | None = None,
    max_seconds_per_sample: float | None = None,
    candidates: Any = "all",
    metric: Any = None,
    alpha: float = 0.05,
    tune: bool = True,
    quiet: bool = True,
    **more: Any,
) -> "Choice":
    """Which explainer to use for a model and data, with a guarantee: ``print`` the result, see ``Choice``.

    ``model`` and ``inputs`` are as in ``explain``. ``candidates`` are ``all`` registered explainers, or those that
    ``evaluate`` takes as ``explainers``; controls are added. ``budget`` is a time (``"2m"``) or a number of model
    evaluations; None for all samples. ``metric`` replaces SRG under several baselines, the score by which explainers
    are judged. ``harness.choosing.settings.Settings`` describes the other settings. ``more`` are fields of
    ``harness.Data`` and settings of the protocol. The answer misses the best candidate with a probability of at most
    ``alpha``; docs/choosing.md describes the method. Raises ValueError on wrong input, fewer than 20 samples, and a
    budget that is too small to say anything.
    """
    # Its statistics take half a second to import, which nobody else needs.
    from harness.choosing.candidates import CONTROLS, registered_names, with_controls
    from harness.choosing.choose import Choosing
    from harness.choosing.measuring import InMemory, Measuring
    from harness.choosing.settings import Budget, Settings

    settings = Settings(budget, purpose, max_seconds_per_sample, alpha, tune)
    parts = {name: value for name, value in more.items() if name in _DATA_ONLY or name in ("train", "segments")}
    protocol = {name: value for name, value in more.items() if name not in parts}
    data = _combined_data(inputs, targets, **parts)
    target = "predicted" if data.targets is None else "given"
    protocol = Protocol.of({"target": target, **protocol}).without_rounds()
    names = registered_names() if isinstance(candidates, str) and candidates == "all" else candidates
    explainers = with_controls(choose_several(EXPLAINERS, names), choose_several(EXPLAINERS, list(CONTROLS)))
    given = None if metric is None else _single_metric(metric)
    loaded = loaded_model(model)
    device = device_of(check_model(loaded.module), _device_of(data))
    progress = Progress(quiet)
    with heard_by(warn_caller if quiet else progress.say), precision(protocol.dtype):
        with lease(device, "share", lambda line: None) as alone:
            stage = set_stage(loaded, data, protocol, device)
            stage.make_ready()
            measuring = Measuring(stage, InMemory(), Budget.of(budget), alone)
            choice = Choosing(measuring, explainers, settings, progress.say, given).choose()
    choice.maps = lambda chosen, x, y: explain(
        chosen.entry.function, model, _like_those_judged(data, stage, x, y), **chosen.options
    )
    return choice


def run(config: Mapping[str, Any]) -> Path:
    """Do what one job of ``harness run`` does, from a plain nested mapping; returns the run directory.

    ``config`` has the sections of the command line: model, dataset, explainer and metric, and optionally protocol,
    runtime and run. Example: ``{"model": "digits_cnn", "dataset": "digits", "explainer": ["saliency"], "metric":
    {"srg": {"steps": 16}}}``.
    """
    plan = Plan.of(config)
    run_block(plan)
    return whole_of(plan).directory


def _single_metric(metric: Any) -> Chosen:
    """The one metric by which the user wants to judge."""
    chosen = choose_several(METRICS, metric)
    if len(chosen) != 1:
        raise UserError(f"metric names {len(chosen)} metrics, expected one: explainers are judged by one score")
    return chosen[0]


def _like_those_judged(judged: Data, stage: Stage, inputs: Tensor | Data, targets: Tensor | None) -> Data:
    """Further inputs as data: of the task and with the training inputs of those that were judged.

    Without targets the predicted class is explained, if that is what was judged; else UserError.
    """
    given = inputs if isinstance(inputs, Data) else Data(inputs, **{name: getattr(judged, name) for name in _SHARED})
    if judged.carried and not given.carried:
        raise UserError(f"inputs came without {', '.join(judged.carried)}; give harness.Data(inputs, carried={{...}})")
    if targets is None and given.targets is None:
        if stage.protocol.target != "predicted":
            raise UserError(
                "targets are missing: the choice was about given ones; give choice.explain(inputs, targets)"
            )
        several = stage.output_count > 1
        carried = {name: values.to(stage.device) for name, values in given.carried.items()}
        outputs = clean_outputs(stage.predictor, given.inputs.to(stage.device), carried) if several else None
        targets = outputs.argmax(1) if several else torch.zeros(len(given.inputs), dtype=torch.long)
    return given if targets is None else replace(given, targets=targets)


def samples_of(
    model: Any,
    inputs: Tensor | Data,
    targets: Tensor | None = None,
    *,
    seed: int = 0,
    elements: bool = False,
    predictor: Predictor | None = None,
    **more: Any,
) -> Samples:
    """The ``Samples`` that an explainer gets as ``context``, for calling its function directly.

    With ``elements`` every number of an input is a unit. ``predictor`` replaces the one that would be made. ``more``
    are further fields of ``harness.Data``.
    """
    data = _combined_data(inputs, targets, **more)
    stage = _stage(model, data, seed=seed, reduction="none" if elements else "sum")
    samples = _all_samples(stage)
    return samples if predictor is None else replace(samples, predictor=predictor)


def _stage_and_explaining(
    explainer: str | Callable[..., Tensor],
    model: Any,
    inputs: Tensor | Data,
    targets: Tensor | None,
    train: Tensor | None,
    segments: str | Tensor | None,
    seed: int,
    options: dict[str, Any],
) -> tuple[Stage, Explaining]:
    """The stage of model and data, and the explainer with its options; ``options`` may also hold fields of the data."""
    entry = EXPLAINERS.resolve(explainer)
    own, parts = _separated(entry, options)
    options = entry.complete(_own_options(entry, segments, own))
    data = _combined_data(inputs, targets, train=train, segments=segments, **parts)
    stage = _stage(model, data, undecided=True, seed=seed)
    stage.task.check_score(own)
    return stage, Explaining(entry, options, stage.module)


def _scores_of_maps(
    stage: Stage, entry: Metric, options: dict[str, Any], samples: Samples, attributions: Any, explaining: Any
) -> Scores:
    """The metric's scores of given attributions of all samples, for each pattern of units by itself."""
    raw, reduction = check_attributions(samples, attributions), stage.protocol.reduction
    for flag in stage.flags:
        say(flag)
    if explaining is not None:
        say_if_another_map(explaining, samples, raw, reduction)
    batches = [
        (rows, make_batch(units_only, units_of_maps(raw[rows], units_only), explaining, reduction))
        for rows, units_only in stage.groups(0, samples)
    ]
    return score_groups(entry, options, batches, len(samples))


def check_attributions(samples: Samples, attributions: Any) -> Tensor:
    """Attributions of any accepted shape as float32 (N, ...) on the device of the inputs, if all are finite."""
    if isinstance(attributions, np.ndarray):
        attributions = torch.from_numpy(np.ascontiguousarray(attributions))
    if not isinstance(attributions, Tensor) or len(attributions) != len(samples):
        came = tuple(attributions.shape) if isinstance(attributions, Tensor) else type(attributions).__name__
        raise UserError(f"attributions are {came}, expected a tensor with one map for each of {len(samples)} inputs")
    return check_finite(samples.units.check(attributions.detach().float().to(samples.inputs.device)))


def make_batch(samples: Samples, attributions: Any, explaining: Explaining | None, reduction: str = "sum") -> Batch:
    """The ``Batch`` that a metric gets: samples with checked attributions, reduced to one number per unit."""
    raw = check_attributions(samples, attributions)
    reduced = check_finite(samples.units.reduce(raw, reduction))
    if explaining is None:
        return Batch(samples, reduced, raw, reduction=reduction)
    return Batch(samples, reduced, raw, explaining.entry, explaining.options, explaining, reduction=reduction)


_DATA_ONLY = {each.name for each in fields(Data)} - {"inputs", "targets", "train", "segments"}


def _combined_data(inputs: Tensor | Data, targets: Tensor | None, **more: Any) -> Data:
    """One ``Data`` from inputs and targets, or from ``harness.Data``, with the keyword arguments added to it."""
    parts = {name: value for name, value in more.items() if value is not None}
    if isinstance(parts.get("segments"), str):
        del parts["segments"]  # a name is an option of the explainer or the metric, not a part of the data
    given = inputs.inputs if isinstance(inputs, Data) else inputs
    if isinstance(given, pd.DataFrame | pd.Series):
        raise UserError(
            f"inputs are a pandas {type(given).__name__}, expected a float tensor or an array: give inputs.to_numpy(), "
            "and the names of the columns as unit_names="
        )
    if not (hasattr(given, "__len__") and hasattr(given, "__getitem__")):
        raise UserError(
            f"inputs are a {type(given).__name__}, expected a float tensor (N, ...), an array or a sequence"
        )
    if not isinstance(inputs, Data):
        return Data(inputs, targets, **parts)
    if targets is not None:
        raise UserError("targets came beside harness.Data; give them to it: harness.Data(inputs, targets)")
    twice = next((name for name in parts if _is_given(getattr(inputs, name))), None)
    if twice is not None:
        raise UserError(f"{twice} came twice, in harness.Data and as {twice}=; keep one")
    return replace(inputs, **parts)


def _is_given(part: Any) -> bool:
    """Whether a field of ``harness.Data`` holds something: a field that is not used is None or empty."""
    return part is not None and not (isinstance(part, Mapping | list) and not part)


def _own_options(entry: Entry, segments: str | Tensor | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options of an explainer or metric, with ``segments`` added if it was given as a keyword.

    A tensor of segments is accepted for an item without the option ``segments`` too, because the explainer that a
    metric calls may use it.
    """
    if segments is not None and not isinstance(segments, Tensor | str):
        raise UserError(f"segments are {segments!r}, expected a name like grid:7 or a tensor (N, *units)")
    if segments is None or (isinstance(segments, Tensor) and "segments" not in entry.options):
        return options
    return {**options, "segments": segments if isinstance(segments, str) else "given"}


def _separated(entry: Entry, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of an item, and the fields of ``harness.Data`` that came beside them as keywords."""
    # A field of harness.Data is neither a number nor a text where an option once had its name.
    former = {name for name in entry.renamed if isinstance(given.get(name), str | int | float)}
    own = {*entry.options, *former}
    parts = {name: value for name, value in given.items() if name in _DATA_ONLY and name not in own}
    for name in given.keys() - parts.keys() - own:
        field = get_close_matches(name, _DATA_ONLY, n=1)
        if field and not get_close_matches(name, entry.options, n=1):
            raise UserError(f"unknown keyword {name!r}: did you mean {field[0]!r}, a field of harness.Data?")
    return {name: value for name, value in given.items() if name not in parts}, parts


def _device_of(data: Data) -> torch.device:
    return data.inputs.device if isinstance(data.inputs, Tensor) else torch.device("cpu")


def _stage(model: Any, data: Data, undecided: bool = False, **settings: Any) -> Stage:
    """A stage with all samples in one chunk: they are in memory already."""
    loaded = loaded_model(model)
    device = device_of(check_model(loaded.module), _device_of(data))
    return set_stage(loaded, data, Protocol(target="given", **settings), device, together=True, undecided=undecided)


def _all_samples(stage: Stage) -> Samples:
    """The samples of a stage that has them all in one chunk."""
    return next(samples for _, samples in stage.chunks())
