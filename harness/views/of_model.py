"""The views of a model at work on its data: what is drawn by ``harness view`` after a model is loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.engine.explain import Explaining
from harness.engine.selection import Chosen
from harness.engine.stage import Stage
from harness.errors import NotApplicable, one_line, unknown
from harness.guards import isolated_randomness
from harness.views.layers import (
    automatic_layers,
    calls_of,
    channel_objective,
    last_channels,
    outputs_of,
    penultimate,
    readable,
)
from harness.views.maximisation import Ascent, maximise

SAMPLES = 3  # whose activations and attributions are drawn
MOST_CLASSES, MOST_PREDICTED, MOST_EXPLAINERS = 10, 5, 6
SPACE = {"image": (2, 3), "series": (2,)}  # axes of space or time, by modality


@dataclass
class Scene:
    """A model and data that are looked at.

    stage      model and data as loaded
    title      of both, in a few words
    folder     where drawings go
    name       what their files begin with
    explainers those that were asked for
    layers     the layers that were asked for, or None for automatic ones
    scores     per sample of this model and data from the run, or an empty frame (``harness.results.frames``)
    chosen     the explainer by whose score features are coloured, or None for the first that has one
    tell       told what a view leaves out, a line each
    """

    stage: Stage
    title: str
    folder: Path
    name: str
    explainers: Sequence[Chosen]
    layers: Sequence[str] | None
    scores: pd.DataFrame
    chosen: str | None = None
    tell: Callable[[str], None] = lambda line: None

    def path(self, kind: str) -> Path:
        """A drawing's file."""
        return self.folder / f"{self.name}-{kind.replace('/', '_')}.png"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the outputs."""
        names = self.stage.model.classes or self.stage.data.classes
        width = self.stage.outputs.shape[1]
        return tuple(names) if names and len(names) == width else tuple(f"output {i}" for i in range(width))

    @property
    def value_range(self) -> tuple[Any, Any]:
        """Lowest and highest value of an input, as tensors; None twice if not known."""
        known = self.stage.model.value_range or self.stage.data.value_range
        return (None, None) if known is None else tuple(torch.as_tensor(bound).float() for bound in known)

    def captions(self, count: int) -> list[str]:
        """The first samples by name, label or prediction."""
        names, wide = self.class_names, self.stage.outputs.shape[1] > 1
        said = [f" → {names[p]}" if wide else "" for p in self.stage.predictions[:count].tolist()]
        return [f"{name}{more}" for name, more in zip(self.stage.data.ids[:count], said, strict=True)]


def view_activations(scene: Scene) -> list[Path]:
    """What layers give for the first samples."""
    from harness.results.activations import draw_activations

    stage = scene.stage
    inputs = stage.first()[:SAMPLES]
    calls = {call.name: call for call in calls_of(stage)}
    names = scene.layers or automatic_layers(stage.module, list(calls))
    for name in names:
        if name not in calls:
            raise unknown("layer", name, calls)
    found = outputs_of(stage.module, names, inputs)
    paths = []
    for name in names:
        maps = readable(found[name], calls[name])
        if maps is None:
            scene.tell(f"activations of layer {name} are left out: they are not one array for each sample")
            continue
        paths += draw_activations(
            scene.path(f"activations-{name}"),
            name,
            maps,
            _shown(inputs, stage),
            scene.captions(len(inputs)),
            value_range=_numpy(scene.value_range),
            title=scene.title,
        )
    if not paths:
        raise NotApplicable("no layer gives one array of activations for each sample")
    return paths


def view_maximisation(scene: Scene) -> list[Path]:
    """Inputs that excite each class most, and some channels of the last layer with places."""
    stage = scene.stage
    if stage.units.modality == "tokens":
        raise NotApplicable("what excites a model of tokens most lies between its embeddings and is no text")
    classes = _classes(scene)
    paths = _draw_ascent(
        scene,
        "classes",
        "logit",
        [scene.class_names[i] for i in classes],
        lambda inputs: _wide(stage.module(inputs))[range(len(classes)), classes],
    )
    layer = last_channels(stage)
    if layer is not None:
        name, channels = layer
        paths += _draw_ascent(
            scene,
            f"channels-{name}",
            f"mean activation in layer {name}",
            [f"channel {i}" for i in channels],
            channel_objective(stage, name, channels),
        )
    return paths


def _draw_ascent(scene: Scene, kind: str, what: str, names: list[str], objective: Any) -> list[Path]:
    from harness.results.activations import draw_maximised

    stage, axes = scene.stage, SPACE.get(scene.stage.units.modality, ())
    ascent = _ascent(stage, axes)
    known = scene.value_range[0] is not None
    best, reached = maximise(
        objective,
        stage.units.input_shape,
        len(names),
        ascent,
        module=stage.module,
        axes=axes,
        value_range=scene.value_range if known else None,
        seed=stage.protocol.seed,
        device=stage.device,
    )
    note = f"From noise (seed {stage.protocol.seed}), {ascent.steps} steps of gradient ascent, L2 {ascent.l2:g}"
    if axes:
        note += (
            f", jitter {ascent.jitter}, blur {ascent.blur:g} each {ascent.every} steps, variation {ascent.variation:g}"
        )
    note += f".\nNumber: {what} reached. Values as the model takes them."
    return draw_maximised(
        scene.path(f"maximisation-{kind}"),
        _shown(best, stage),
        names,
        reached.tolist(),
        value_range=_numpy(scene.value_range),
        columns=stage.data.unit_names if stage.data.columns is None else None,
        title=f"{scene.title}: what excites {'an output' if kind == 'classes' else 'a channel'} most",
        note=note,
    )


def _ascent(stage: Stage, axes: tuple[int, ...]) -> Ascent:
    """Regularisers by size: photos are moved and smoothed, small images a little, columns kept near the centre."""
    side = max((stage.units.input_shape[axis - 1] for axis in axes), default=0)
    if not axes:
        return Ascent(l2=0.02, rate=0.05)
    if side > 32:  # large inputs are costly, and coarse structure is soon there
        return Ascent(steps=64, jitter=side // 14, blur=0.8, variation=0.002, l2=1e-4)
    return Ascent(jitter=max(1, side // 14), blur=0.4, variation=0.02, l2=1e-4)


def _classes(scene: Scene) -> list[int]:
    """All outputs if there are few, else those predicted for the first samples."""
    width = scene.stage.outputs.shape[1]
    if width <= MOST_CLASSES:
        return list(range(width))
    return list(dict.fromkeys(scene.stage.predictions.tolist()))[:MOST_PREDICTED]


def view_features(scene: Scene) -> list[Path]:
    """Where samples lie by the input of the last linear layer, by class and by a faithfulness score."""
    from harness.results.features import draw_features, embed

    stage = scene.stage
    name, features = penultimate(stage)
    places, perplexity = embed(features, seed=stage.protocol.seed)
    label, score = _faithfulness(scene)
    names, labels = scene.class_names, stage.labels
    predictions = [names[i] for i in stage.predictions.tolist()]
    known = labels is not None and stage.outputs.shape[1] > 1
    classes = [names[i] for i in labels[: stage.count].tolist()] if known else predictions
    way = f"t-SNE, perplexity {perplexity:.3g}, seed {stage.protocol.seed}"
    note = f"{way}, of the {features.shape[1]} inputs of layer {name}; {stage.count} samples."
    note += f" Only nearness means something.\nClasses are {'labels' if known else 'predictions'}."
    note += "" if score is not None else f" {label}"
    return draw_features(
        scene.path("features"),
        places,
        list(stage.data.ids[: stage.count]),
        classes,
        predictions=predictions,
        score=score,
        score_name=label,
        title=f"{scene.title}: penultimate features",
        note=note,
    )


def _faithfulness(scene: Scene) -> tuple[str, pd.Series | None]:
    """The first faithfulness metric of the chosen explainer in the run, by sample; else why there is none."""
    scores = scene.scores
    if scene.chosen is not None and scene.chosen not in set(scores["explainer"]):
        raise unknown("explainer with faithfulness scores in the run", scene.chosen, set(scores["explainer"]))
    if scores.empty:
        return "No faithfulness scores of these samples are in the run.", None
    explainer = scene.chosen or scores["explainer"].iloc[0]
    mine = scores[scores["explainer"] == explainer]
    metric = mine["metric"].iloc[0]
    by_sample = mine[mine["metric"] == metric].drop_duplicates("sample").set_index("sample")["value"]
    return f"{metric} of {explainer}", by_sample.reindex(list(scene.stage.data.ids[: scene.stage.count]))


def view_columns(scene: Scene) -> list[Path]:
    """Attributions of the first samples of a table by column name."""
    from harness.results.importances import draw_columns

    stage = scene.stage
    if stage.units.modality != "table":
        raise NotApplicable(f"attributions by column name need a table, these are {stage.units.modality} inputs")
    names = list(stage.data.unit_names or (f"column {i}" for i in range(stage.units.shape[0])))
    count = min(SAMPLES, stage.count)
    found, reasons = _explained(scene, count)
    if not found:
        raise NotApplicable("; ".join(reasons) or "only global explainers and controls were chosen")
    for reason in reasons:
        scene.tell(f"columns leave out {reason}")
    paths = []
    for row, caption in enumerate(scene.captions(count)):
        maps = {label: values[row] for label, values in found.items()}
        paths += draw_columns(
            scene.path(f"columns-{stage.data.ids[row]}"),
            maps,
            names,
            title=f"{scene.title}: {caption}",
            note="Attribution of the explained class; red: for it, blue: against it. Each panel has its own scale.",
        )
    return paths


def _explained(scene: Scene, count: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Attributions (n, D) of the first samples by the first local explainers that serve, and why others do not."""
    stage, found, reasons = scene.stage, {}, []
    _, samples = next(stage.chunks())
    samples = samples.take(torch.arange(count, device=stage.device))
    for chosen in scene.explainers:
        if len(found) == MOST_EXPLAINERS or chosen.entry.scope != "local" or chosen.entry.control:
            continue
        try:
            with isolated_randomness(stage.device):
                explaining = Explaining(chosen.entry, chosen.options, stage.module, stage.protocol.explain_batch)
                explaining.prepare(samples)
                raw = explaining(samples)
            found[chosen.label] = samples.units.reduce(raw).cpu().numpy()
        except Exception as error:  # whatever one explainer does, the others are drawn
            reasons.append(f"{chosen.label}: {one_line(error)[:120]}")
    return found, reasons


def _wide(outputs: Tensor) -> Tensor:
    return outputs if outputs.dim() == 2 else outputs.unsqueeze(1)


def _shown(inputs: Tensor, stage: Stage) -> np.ndarray:
    """Inputs as they are drawn: tokens and series as (T, C)."""
    values = inputs.detach().float().cpu().numpy()
    return values.transpose(0, 2, 1) if stage.units.modality == "series" else values


def _numpy(bounds: tuple[Any, Any]) -> tuple[Any, Any]:
    return tuple(None if bound is None else bound.cpu().numpy() for bound in bounds)


VIEWS: dict[str, Callable[[Scene], list[Path]]] = {
    "activations": view_activations,
    "maximisation": view_maximisation,
    "features": view_features,
    "columns": view_columns,
}
