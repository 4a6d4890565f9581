"""The views of ``harness view`` for which a model is loaded: activations, maximisation, features, columns.

That of interactions is in ``harness.views.interactions``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.engine.explain import Explaining
from harness.engine.stage import Stage
from harness.errors import NotApplicable, one_line, unknown
from harness.guards import isolated_randomness
from harness.messages import say
from harness.views.interactions import view_interactions
from harness.views.layers import (
    automatic_layers,
    calls_of,
    channel_objective,
    drawable_output,
    last_channels,
    layer_outputs,
    penultimate,
)
from harness.views.maximisation import Ascent, maximise
from harness.views.scene import DRAWN_SAMPLES, Scene

MOST_CLASSES, MOST_PREDICTED, MOST_EXPLAINERS = 10, 5, 6
SPATIAL_AXES = {"image": (2, 3), "series": (2,)}  # axes of space or time, by modality


def view_activations(scene: Scene) -> list[Path]:
    """The outputs of layers for the first samples."""
    from harness.results.activations import draw_activations

    stage = scene.stage
    inputs = stage.first()[:DRAWN_SAMPLES]
    calls = {call.name: call for call in calls_of(stage)}
    names = scene.layers or automatic_layers(stage.module, list(calls))
    for name in names:
        if name not in calls:
            raise unknown("layer", name, calls)
    outputs = layer_outputs(stage.module, names, inputs)
    paths = []
    for name in names:
        maps = drawable_output(outputs[name], calls[name])
        if maps is None:
            say(f"activations of layer {name} are left out: the layer does not give one array for each sample")
            continue
        paths += draw_activations(
            scene.path(f"activations-{name}"),
            name,
            maps,
            scene.drawable(inputs),
            scene.captions(len(inputs)),
            value_range=scene.drawn_range,
            title=scene.title,
        )
    if not paths:
        raise NotApplicable("no layer gives one array of activations for each sample")
    return paths


def view_maximisation(scene: Scene) -> list[Path]:
    """Inputs that make each class largest, and some channels of the last convolution (or hidden linear layer)."""
    stage = scene.stage
    if stage.units.modality == "tokens":
        raise NotApplicable("the model reads tokens, and an input between their embeddings is no text")
    classes = _drawn_classes(scene)
    paths = _draw_ascent(
        scene,
        "classes",
        "logit",
        [scene.class_names[i] for i in classes],
        lambda inputs: _with_output_axis(stage.module(inputs))[range(len(classes)), classes],
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

    stage, axes = scene.stage, SPATIAL_AXES.get(scene.stage.units.modality, ())
    ascent = _ascent_for(stage, axes)
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
    note = f"Gradient ascent from noise (seed {stage.protocol.seed}), {ascent.steps} steps, L2 {ascent.l2:g}"
    if axes:
        note += (
            f", jitter {ascent.jitter}, blur {ascent.blur:g} each {ascent.every} steps, variation {ascent.variation:g}"
        )
    note += f".\nNumbers: {what} reached. Inputs are in the model's own scale."
    return draw_maximised(
        scene.path(f"maximisation-{kind}"),
        scene.drawable(best),
        names,
        reached.tolist(),
        value_range=scene.drawn_range,
        columns=stage.data.unit_names if stage.data.columns is None else None,
        title=f"{scene.title}: what excites {'an output' if kind == 'classes' else 'a channel'} most",
        note=note,
    )


def _ascent_for(stage: Stage, axes: tuple[int, ...]) -> Ascent:
    """Regularisers by size: large images are shifted and smoothed more than small ones, columns stay central."""
    side = max((stage.units.input_shape[axis - 1] for axis in axes), default=0)
    if not axes:
        return Ascent(l2=0.02, rate=0.05)
    if side > 32:  # large inputs are costly, and coarse structure needs few steps
        return Ascent(steps=64, jitter=side // 14, blur=0.8, variation=0.002, l2=1e-4)
    return Ascent(jitter=max(1, side // 14), blur=0.4, variation=0.02, l2=1e-4)


def _drawn_classes(scene: Scene) -> list[int]:
    """All outputs if they are few, else those predicted for the first samples."""
    width = scene.stage.outputs.shape[1]
    if width <= MOST_CLASSES:
        return list(range(width))
    return list(dict.fromkeys(scene.stage.predictions.tolist()))[:MOST_PREDICTED]


def view_features(scene: Scene) -> list[Path]:
    """Samples placed by their inputs of the last linear layer (t-SNE), coloured by class and by a score."""
    from harness.results.features import draw_features, embed

    stage = scene.stage
    name, features = penultimate(stage)
    places, perplexity = embed(features, seed=stage.protocol.seed)
    label, score = _colouring_score(scene)
    names, labels = scene.class_names, stage.labels
    predictions = [names[i] for i in stage.predictions.tolist()]
    known = labels is not None and stage.task.classed and stage.output_count > 1
    classes = [names[i] for i in labels[: stage.count].tolist()] if known else predictions
    note = f"t-SNE (perplexity {perplexity:.3g}, seed {stage.protocol.seed}) of the {features.shape[1]} inputs of "
    note += f"layer {name}; {stage.count} samples. Only nearness has a meaning.\n"
    note += f"Classes are {'labels' if known else 'predictions'}."
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


def _colouring_score(scene: Scene) -> tuple[str, pd.Series | None]:
    """A name and the scores by sample of the chosen explainer's first faithfulness metric, or a reason and None."""
    scores = scene.scores
    if scene.chosen is not None and scene.chosen not in set(scores["explainer"]):
        raise unknown("explainer with faithfulness scores in the run", scene.chosen, set(scores["explainer"]))
    if scores.empty:
        return "The run has no faithfulness scores of these samples.", None
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
    count = min(DRAWN_SAMPLES, stage.count)
    attributions, reasons = _attributions_by_explainer(scene, count)
    if not attributions:
        raise NotApplicable("; ".join(reasons) or "no local explainer was chosen that is not a control")
    for reason in reasons:
        say(f"the view of columns leaves out {reason}")
    paths = []
    for row, caption in enumerate(scene.captions(count)):
        maps = {label: values[row] for label, values in attributions.items()}
        paths += draw_columns(
            scene.path(f"columns-{stage.data.ids[row]}"),
            maps,
            names,
            title=f"{scene.title}: {caption}",
            note="Attributions for the explained class; red: for it, blue: against it. Each panel has its own scale.",
        )
    return paths


def _attributions_by_explainer(scene: Scene, count: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Attributions (n, D) of the first samples by up to six local explainers, and why others have none."""
    stage, attributions, reasons = scene.stage, {}, []
    _, samples = next(stage.chunks())
    samples = samples.take(torch.arange(count, device=stage.device))
    for chosen in scene.explainers:
        if len(attributions) == MOST_EXPLAINERS or chosen.entry.scope != "local" or chosen.entry.control:
            continue
        try:
            with isolated_randomness(stage.device):
                explaining = Explaining(chosen.entry, chosen.options, stage.module, stage.protocol.explain_batch)
                explaining.prepare(samples)
                raw = explaining(samples)
            attributions[chosen.label] = samples.units.reduce(raw).cpu().numpy()
        except Exception as error:  # whatever an explainer raises, the others are drawn
            reasons.append(f"{chosen.label}: {one_line(error)[:120]}")
    return attributions, reasons


def _with_output_axis(outputs: Tensor) -> Tensor:
    return outputs if outputs.dim() == 2 else outputs.unsqueeze(1)


MODEL_VIEWS: dict[str, Callable[[Scene], list[Path]]] = {
    "activations": view_activations,
    "maximisation": view_maximisation,
    "features": view_features,
    "columns": view_columns,
    "interactions": view_interactions,
}
