"""Concept activation vectors: linear classifiers that separate a layer's activations of a concept from random ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers import _concepts
from harness.explainers._at_layer import MapLayer, activations
from harness.explainers._concepts import RANDOM, ImageSets
from harness.samples import Samples
from harness.units import Units


def concept_sets(context: Samples, concepts: str, runs: int, images: int) -> tuple[tuple[str, ...], ImageSets]:
    """The concepts' names, and their images in the model's input space and on its device.

    Each run r has three sets of RANDOM: 3 r is compared with the concepts, 3 r + 1 with 3 r + 2.
    """
    shape = tuple(context.inputs.shape[1:])
    low, high = _range(context)
    if concepts == "textures":
        names, sets = _concepts.texture_names(shape[0]), _concepts.drawn_sets(context.seed, images, shape)
    else:
        names = _concepts.folder_names(concepts)
        counts = {**dict.fromkeys(names, runs), RANDOM: 3 * runs}
        sets = _concepts.folder_sets(concepts, context.seed, counts, shape)
    return names, lambda name, number: low + (high - low) * sets(name, number).to(context.inputs)


def standing_in(context: Samples, inputs: Tensor) -> Samples:
    """Samples of the same model with other inputs (M, ...), without targets, masks or anything else of the samples."""
    nobody = torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)
    return context.other_inputs(inputs, nobody, keys=nobody)


def activation_vectors(
    model: nn.Module,
    context: Samples,
    layer: MapLayer,
    names: tuple[str, ...],
    sets: ImageSets,
    runs: int,
    alpha: float,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The unit vectors (runs, C, h, w) of each concept and of RANDOM in a concept's place, and their accuracy.

    The accuracy of a run's classifier is that on the images of the next run; it is averaged over all runs but the last.
    """
    vectors: dict[str, list[Tensor]] = {name: [] for name in (*names, RANDOM)}
    right: dict[str, list[float]] = {name: [] for name in (*names, RANDOM)}
    before: dict[str, Classifier] = {}
    for run in range(runs):
        against = {**dict.fromkeys(names, (RANDOM, 3 * run)), RANDOM: (RANDOM, 3 * run + 2)}
        of = {**{name: (name, run) for name in names}, RANDOM: (RANDOM, 3 * run + 1)}
        values = _activations_of(model, context, layer, sets, dict.fromkeys([*of.values(), *against.values()]))
        for name in vectors:
            concept, other = values[of[name]], values[against[name]]
            if name in before:
                right[name].append(before[name].accuracy(concept, other))
            before[name] = classifier(concept, other, alpha)
            vectors[name].append(before[name].vector)
    accuracy = {name: float(np.mean(values)) for name, values in right.items()}
    return {name: torch.stack(values) for name, values in vectors.items()}, accuracy


def _activations_of(
    model: nn.Module, context: Samples, layer: MapLayer, sets: ImageSets, keys: dict[tuple[str, int], Any]
) -> dict[tuple[str, int], Tensor]:
    """The activations of several sets of images, computed in full batches."""
    images = [sets(*key) for key in keys]
    values = activations(model, layer, standing_in(context, torch.cat(images)))
    return dict(zip(keys, values.split([len(each) for each in images]), strict=True))


@dataclass(frozen=True)
class Classifier:
    """A linear classifier of activations: positive where their product with ``vector`` (C, h, w) is above
    ``threshold``."""

    vector: Tensor
    threshold: Tensor

    def accuracy(self, concept: Tensor, other: Tensor) -> float:
        """The mean of two shares: of the concept's activations and of the others that are classified correctly."""
        above = [(each * self.vector).sum((1, 2, 3)) > self.threshold for each in (concept, other)]
        return float((above[0].double().mean() + 1 - above[1].double().mean()) / 2)


def classifier(concept: Tensor, other: Tensor, alpha: float) -> Classifier:
    """The logistic regression that separates a concept's activations (n, C, h, w) from others (m, C, h, w), scaled to
    a normal vector of norm 1.

    The normal vector is a combination of the samples. So the fit is in their span, with one number for each sample.
    """
    from sklearn.linear_model import LogisticRegression  # a second to import; few runs need it

    x = torch.cat([concept, other]).flatten(1).double()
    centre = x.mean(0)
    scale = (x - centre).square().sum(1).mean().sqrt()
    if not scale > 0:
        raise NotApplicable("the layer's activations are the same for all images of a concept and random ones")
    values, axes = torch.linalg.eigh((x - centre) @ (x - centre).T / scale**2)
    nonzero = values > 1e-10 * values[-1]
    lengths, axes = values[nonzero].sqrt(), axes[:, nonzero]
    y = np.arange(len(x)) < len(concept)
    fitted = LogisticRegression(C=1 / (alpha * len(x)), max_iter=1000).fit((axes * lengths).cpu().numpy(), y)
    weight = (x - centre).T @ (axes @ (torch.from_numpy(fitted.coef_[0]).to(x) / lengths)) / scale
    norm = weight.norm()
    threshold = weight @ centre - float(fitted.intercept_[0]) * scale
    return Classifier((weight / norm).view(concept.shape[1:]).to(concept), (threshold / norm).to(concept))


def _range(context: Samples) -> tuple[Tensor, Tensor]:
    """The lowest and highest value of inputs: as declared, else per channel of the training images."""
    if context.value_range is not None:
        return context.input_range()
    if context.train is None:
        raise NotApplicable("drawing concepts needs the range of the inputs, or training images (give value_range=)")
    over = [a for a in range(context.train.dim()) if a != Units.of(context.inputs, "image").channel_axis]
    bounds = context.train.amin(over), context.train.amax(over)
    return tuple(bound.to(context.inputs)[:, None, None] for bound in bounds)
