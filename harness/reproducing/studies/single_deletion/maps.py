"""Scores of the study single_deletion: the explainers under their names on the poster, and one net's scores by all.

``idsds`` is the registered metric of the paper's protocol: it fine-tunes a copy of the net on images with a cell set to
zero, explains the copy, and ranks its drops. ``single_deletion`` is the same on the net as trained.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import harness
from harness.engine.explain import Explaining
from harness.explainers.cam import grad_cam, grad_cam_pp, xgrad_cam
from harness.explainers.controls import blurred_random, edge, random
from harness.explainers.gradient import gradient, input_x_gradient
from harness.explainers.guided import guided_backprop
from harness.explainers.lime import lime
from harness.explainers.paths import integrated_gradients
from harness.explainers.rise import rise
from harness.explainers.smooth_cam import smoothgrad_cam_pp
from harness.metrics.retraining import idsds
from harness.metrics.single_removal import single_deletion as untuned_deletion
from harness.randomness import element, normal
from harness.registry import EXPLAINERS
from harness.reproducing.studies.single_deletion.nets import (
    BASE,
    NETS,
    SIDE,
    normalised_digits,
    trained_net,
    training_rows,
)
from harness.samples import Samples

GRID, CELL = 4, SIDE // 4  # cells along a side, and pixels along the side of a cell
TRAINED, TUNED = "as trained", "fine-tuned"
NOISE, COPIES = 1.0, 4  # SmoothGrad as released: the noise has the deviation of a normalised image's pixels
WEAK_NOISE, MANY_COPIES = 0.3, 20
METHODS = ("IxG", "IxG-SG", "IG", "IG-SG", "IG-U", "Grad-CAM", "Grad-CAM++", "RISE", "LIME")
LOCAL = ("gradient", "guided backprop")
ONLY_ON_BASE = (
    "IxG abs",
    "IxG-SG abs",
    "IG abs",
    "IG-U abs",
    "IxG, weak SG",
    *LOCAL,
    *(f"{each} abs" for each in LOCAL),
    "XGrad-CAM",
    "SG-CAM++",
)
CONTROLS = ("random", "blurred noise", "edge", "constant")
EVIDENCE = "BagNet evidence"


def chosen_explainers(net: str, steps: int, masks: int, samples: int) -> dict[str, dict[str, Any]]:
    """Label -> explainer and options, of those that are measured on this net."""
    form = lambda of, **more: {"name": smooth_form, "of": of, "steps": steps, **more}
    known = {
        "IG-SG": form("IG"),
        "IxG-SG": form("IxG"),
        "IxG, weak SG": form("IxG", noise=WEAK_NOISE, copies=MANY_COPIES),
        "IxG-SG abs": {"name": smooth_form, "of": "IxG", "absolute": True},
        "RISE": {"name": rise, "samples": masks, "cells": GRID, "baseline": "zero"},
        "LIME": {"name": lime, "samples": samples, "segments": "parts:16", "baseline": "zero"},
        "Grad-CAM": {"name": grad_cam},
        "Grad-CAM++": {"name": grad_cam_pp},
        "XGrad-CAM": {"name": xgrad_cam},
        "SG-CAM++": {"name": smoothgrad_cam_pp, "samples": COPIES},
        "random": {"name": random},
        "blurred noise": {"name": blurred_random},
        "edge": {"name": edge},
        "constant": {"name": constant_map},
        **{label: {"name": function, **options} for label, (function, options) in plain_explainers(steps).items()},
        **{f"{label} abs": {"name": absolute_form, "of": label, "steps": steps} for label in plain_explainers(steps)},
    }
    labels = (*METHODS, *(ONLY_ON_BASE if net == BASE else ()), *CONTROLS)
    return {label: known[label] for label in labels}


def plain_explainers(steps: int) -> dict[str, tuple[Callable[..., Tensor], dict[str, Any]]]:
    """Label -> registered explainer and options, of those that also have an absolute or a smooth form here."""
    return {
        "IxG": (input_x_gradient, {}),
        "IG": (integrated_gradients, {"baseline": "zero", "steps": steps}),
        "IG-U": (integrated_gradients, {"baseline": uniform_baseline(), "steps": steps}),
        "gradient": (gradient, {}),
        "guided backprop": (guided_backprop, {}),
    }


def uniform_baseline() -> Tensor:
    """One image of uniform noise from -1 to 1, the same for all images, as released."""
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, SIDE, SIDE))).float()


def maps_of(label: str, samples: Samples, steps: int) -> Tensor:
    """Maps (N, 1, 8, 8) of a plain explainer for any samples."""
    function, options = plain_explainers(steps)[label]
    entry = EXPLAINERS.resolve(function)
    explaining = Explaining(entry, entry.complete(options), samples.predictor.module, len(samples))
    explaining.prepare(samples)
    return explaining(samples)


def absolute_form(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, of: str = "IxG", steps: int = 20
) -> Tensor:
    """The magnitudes of a plain explainer's maps, pixel by pixel."""
    return maps_of(of, context, steps).abs()


def smooth_form(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    of: str = "IxG",
    steps: int = 20,
    noise: float = NOISE,
    copies: int = COPIES,
    absolute: bool = False,
) -> Tensor:
    """The mean of a plain explainer's maps of noisy copies of the images, as released: also the factor x is noisy."""
    keys = context.stream("noisy copies")

    def of_copy(number: int) -> Tensor:
        drawn = normal(element(keys, torch.tensor(number)), *inputs.shape[1:]).to(inputs)
        return maps_of(of, context.other_inputs(inputs + noise * drawn, targets), steps)

    smooth = torch.stack([of_copy(number) for number in range(copies)]).mean(0)
    return smooth.abs() if absolute else smooth


def constant_map(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The same number at every pixel."""
    return torch.ones_like(inputs)


def bag_evidence(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The contributions by which a bag of patches computes its logits."""
    return model.evidence(inputs, targets)


def without_cells(inputs: Tensor) -> Tensor:
    """The images (N, 1, 8, 8) without each of the 16 cells: (N, 16, 1, 8, 8), row by row, zero where a cell was."""
    cells = torch.eye(GRID * GRID, dtype=inputs.dtype).view(-1, 1, GRID, GRID)
    return inputs[:, None] * (1 - cells.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3))


def logits_without_cells(model: nn.Module, inputs: Tensor) -> Tensor:
    """The logits (N, 16, K) without each of the cells."""
    with torch.no_grad():
        return model(without_cells(inputs).flatten(0, 1)).unflatten(0, (len(inputs), -1))


def tuned_and_scored(
    model: nn.Module, explainers: Mapping[str, Any], images: int, rows: int, tuning: int, seed: int
) -> tuple[nn.Module, pd.DataFrame]:
    """The fine-tuned copy that ``idsds`` makes of a net, and the scores: stage, image, and a column per explainer.

    The images are the first test images, their labels the explained classes.
    """
    copies: list[nn.Module] = []

    def keeps_the_copy(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        copies.append(model)
        return inputs

    inputs, labels = (part[:images] for part in normalised_digits()["test"])
    train, train_labels = training_rows(rows)
    frame = harness.evaluate(
        model,
        harness.Data(inputs, labels, modality="image", train=train, train_labels=train_labels),
        explainers={**explainers, "kept": {"name": keeps_the_copy}},
        metrics={
            TRAINED: {"name": untuned_deletion, "baseline": "zero"},
            TUNED: {"name": idsds, "baseline": "zero", "epochs": tuning},
        },
        seed=seed,
        explain_batch=images,
    )
    scores = frame.pivot(index=["metric", "sample"], columns="explainer", values="value")[list(explainers)]
    assert copies[-1] is not model, "idsds explains a copy"
    scores = scores.rename_axis(["stage", "image"]).rename_axis(None, axis=1).reset_index()
    return copies[-1], scores.astype({"image": int}).sort_values(["stage", "image"], ignore_index=True)


def scores_of_net(
    net: str,
    seed: int,
    images: int,
    rows: int,
    epochs: int,
    tuning: int,
    steps: int,
    masks: int,
    samples: int,
) -> pd.DataFrame:
    """A row for each stage and image: a score per explainer, whether the net is right, and in which share of the images
    without a cell it is."""
    model = trained_net(net, seed, rows, epochs)
    explainers = chosen_explainers(net, steps, masks, samples)
    # Each net has noise of its own, so that scores of the control random are independent.
    noise_seed = 1000 * list(NETS).index(net) + seed
    tuned, scores = tuned_and_scored(model, explainers, images, rows, tuning, noise_seed)
    return _with_accuracy(scores, {TRAINED: model, TUNED: tuned})


def scores_of_bag(net: str, seed: int, images: int, rows: int, epochs: int, tuning: int) -> pd.DataFrame:
    """The same for a bag of patches and its own evidence."""
    model = trained_net(net, seed, rows, epochs)
    tuned, scores = tuned_and_scored(model, {EVIDENCE: {"name": bag_evidence}}, images, rows, tuning, seed)
    return _with_accuracy(scores, {TRAINED: model, TUNED: tuned})


def _with_accuracy(scores: pd.DataFrame, models: Mapping[str, nn.Module]) -> pd.DataFrame:
    inputs, labels = (part[: scores["image"].nunique()] for part in normalised_digits()["test"])
    parts: Sequence[pd.DataFrame] = []
    for stage, model in models.items():
        with torch.no_grad():
            right = model(inputs).argmax(1) == labels
        without = (logits_without_cells(model, inputs).argmax(2) == labels[:, None]).double().mean(1)
        own = scores[scores["stage"] == stage].sort_values("image")
        parts = [*parts, own.assign(right=right.double().numpy(), right_without=without.numpy())]
    return pd.concat(parts, ignore_index=True)
