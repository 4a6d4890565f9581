"""TCAV: how the target's logit changes when a layer's activations move towards a concept, which images define."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import NotApplicable, unknown
from harness.explainers._at_layer import MapLayer, enlarged, mapped
from harness.explainers._cavs import activation_vectors, concept_sets
from harness.explainers._concept_scores import most_significant, tcav_scores
from harness.explainers._layers import choose_layer
from harness.explainers._tabular import FittedLabels
from harness.option_types import Count, Positive, Range
from harness.registry import explainer
from harness.samples import Samples


@dataclass(frozen=True)
class ConceptDirection:
    """A concept at a layer: the unit vector (C, h, w) in its activations that points to the concept."""

    layer: MapLayer
    vector: Tensor


def _concept_direction(
    model: nn.Module,
    context: Samples,
    /,
    layer: str | None,
    concepts: str,
    concept: str | None,
    runs: int,
    images: int,
    penalty: float,
    labels: str,
    rows: int,
) -> ConceptDirection:
    """The concept's direction at the layer; tells the facts of ``tcav`` that belong to no sample."""
    place = choose_layer(model, context, layer)
    names, sets = concept_sets(context, concepts, runs, images)
    if concept is not None and concept not in names:
        raise unknown("concept", concept, names)
    if concept is None and context.train is None:
        raise NotApplicable("the choice of a concept needs training images to score them on (give train=)")
    vectors, accuracy = activation_vectors(model, context, place, names, sets, runs, penalty)
    if context.train is not None:
        scores = tcav_scores(model, context, place, vectors, labels, rows)
        context.tell(scores=scores)
        concept = concept or most_significant(scores)
    context.tell(layer=place.name, concept=concept, cav_accuracy=accuracy)
    return ConceptDirection(
        place, F.normalize(vectors[concept].mean(0).flatten(), dim=0).view(vectors[concept].shape[1:])
    )


@explainer(
    access="activations",
    modalities=("image",),
    stochastic=True,
    convention="local",
    prepare=_concept_direction,
    cost="1 F 1 B",
    renamed={"alpha": "penalty"},
    tunable={"images": (30,), "penalty": (0.001, 0.1)},
)
def tcav(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: ConceptDirection,
    layer: str | None = None,
    concepts: str = "textures",
    concept: str | None = None,
    runs: Annotated[int, Range(10, 1000)] = 10,
    images: Annotated[int, Range(2, 10_000)] = 10,
    penalty: Positive = 0.01,
    labels: FittedLabels = "predicted",
    rows: Count = 200,
) -> Tensor:
    """TCAV: how much the target's logit grows towards a concept at each place of a layer, which is the gradient times
    the concept's activation vector (Kim et al. 2018, 1711.11279, whose sensitivity S is the sum over the places).

    Shape (N, 1, H, W); signed; logit per unit of activation; enlarged bilinearly (half-pixel centres). The activation
    vector is the normal of a linear classifier that separates a concept's activations from those of random images: a
    logistic regression with the penalty ``penalty`` / 2 beside the mean loss, on activations scaled to a mean square
    norm of 1. Used is the unit vector along the mean of the unit vectors of ``runs`` runs, each with images of its own.

    ``concepts=textures`` draws ``images`` of each texture (stripes, checkers, dots, zigzag, rings; with three channels
    also red, green and blue) and of noise of amplitude 1 / frequency, in the range of the inputs. Otherwise
    ``concepts`` is a folder with one folder of images for each concept and one called ``random``. These images are
    stretched to the input's size and scaled from 0..255 to its range; each run gets at least two of a concept and six
    of ``random``. ``concept`` is, by default, the one with the smallest p in any class.

    Facts: ``sensitivity``, the S of each sample; the accuracy of each concept's classifiers on the images of the next
    run; and, with training images, the table ``scores`` (concept, class, run, score, p). A score is the share of a
    class's training images with S > 0, of at most ``rows`` images in all; the class is the one ``predicted`` or the
    ``label``. p is that of Welch's two-sided t-test of a concept's scores against those of random images in the
    concept's place, with Holm's correction for the number of concepts. Not applicable without a layer as of
    ``grad_cam``, without training images if no concept is named, and if no range of the inputs is known.

    Example: redness(image) is the mean of the red channel. It grows towards red at every place, and not towards green.

    >>> grey = torch.full((1, 3, 2, 2), 0.5)
    >>> harness.explain("tcav", redness, harness.Data(grey, target, value_range=(0, 1)), concept="red") > 0
    tensor([[[[True, True],
              [True, True]]]])
    >>> harness.explain("tcav", redness, harness.Data(grey, target, value_range=(0, 1)), concept="green") > 0
    tensor([[[[False, False],
              [False, False]]]])
    """
    coarse = sensitivity_map(model, context, targets, prepared)
    context.tell(sensitivity=coarse.sum((1, 2, 3)))
    return enlarged(coarse, inputs.shape[2:])


def sensitivity_map(model: nn.Module, context: Samples, targets: Tensor, towards: ConceptDirection) -> Tensor:
    """The layer's gradients times the direction, summed over channels: (N, 1, h, w), whose sum over places is S."""
    return mapped(
        model,
        towards.layer,
        context,
        lambda values, gradients: (gradients * towards.vector).sum(1, keepdim=True),
        targets,
    )
