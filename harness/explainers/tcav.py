"""TCAV: how the target's logit changes when a layer's activations move towards a concept, given by images."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import NotApplicable, UserError, unknown
from harness.explainers._at_layer import MapLayer, mapped
from harness.explainers._cavs import activation_vectors, concept_sets
from harness.explainers._coalitions import check_number
from harness.explainers._concept_scores import most_significant, tcav_scores
from harness.explainers._layers import choose_layer
from harness.registry import explainer
from harness.samples import Samples

LEAST_RUNS = 10


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
    alpha: float,
    labels: str,
    rows: int,
) -> ConceptDirection:
    _check_concept_options(runs, images, alpha, labels, rows)
    place = choose_layer(model, context, layer=layer)
    names, sets = concept_sets(context, concepts, runs, images)
    if concept is not None and concept not in names:
        raise unknown("concept", concept, names)
    if concept is None and context.train is None:
        raise NotApplicable("the choice of a concept needs training images to score them on (give train=, or concept=)")
    vectors, accuracy = activation_vectors(model, context, place, names, sets, runs, alpha)
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
    runs: int = 10,
    images: int = 10,
    alpha: float = 0.01,
    labels: str = "predicted",
    rows: int = 200,
) -> Tensor:
    """How much the target's logit grows towards a concept at each place of a layer: the gradient times the concept's
    activation vector, summed over channels (Kim et al. 2018, 1711.11279, whose sensitivity S is the sum over places).

    (N, 1, H, W), signed, logit per unit of activation; enlarged bilinearly (half-pixel centres). The vector is the
    normal of a linear classifier of a concept's activations against those of random images: logistic regression of
    penalty ``alpha`` / 2 beside the mean loss, activations scaled to mean square norm 1; here the unit vector along
    the mean of the unit vectors of ``runs`` runs. Every run has images of its own: ``concepts=textures`` draws
    ``images`` of each (stripes, checkers, dots, zigzag, rings; red, green and blue where there are three channels) and
    noise of amplitude 1 / frequency, in the range of the inputs; or ``concepts`` is a folder with one folder of images
    for each concept and one called ``random``, which are stretched to the input's size, brought from 0..255 to its
    range, and dealt out: two for each run, of ``random`` six.

    Facts: ``sensitivity``, S of each sample; the accuracy of the classifiers of each concept on the images of the next
    run; and, with training images, the table ``scores`` (concept, class, run, score, p): the share of at most ``rows``
    training images of a class (``predicted``, or ``label``) with S > 0. p is of Welch's two-sided t-test of a
    concept's scores against those of random images in the concept's place, Holm's correction for the number of
    concepts. ``concept`` by default is the one with the smallest p in any class. Not applicable without a layer as
    ``grad_cam`` needs it, without training images where no concept is named or no range of the inputs is known.
    """
    coarse = sensitivity_map(model, context, targets, prepared)
    context.tell(sensitivity=coarse.sum((1, 2, 3)))
    return F.interpolate(coarse, inputs.shape[2:], mode="bilinear", align_corners=False)


def sensitivity_map(model: nn.Module, context: Samples, targets: Tensor, towards: ConceptDirection) -> Tensor:
    """The layer's gradients times the direction, summed over channels: (N, 1, h, w), whose sum over places is S."""
    return mapped(
        model,
        towards.layer,
        context,
        lambda values, gradients: (gradients * towards.vector).sum(1, keepdim=True),
        targets,
    )


def _check_concept_options(runs: int, images: int, alpha: float, labels: str, rows: int) -> None:
    for name, value, least in (("runs", runs, LEAST_RUNS), ("images", images, 2), ("rows", rows, 1)):
        check_number(name, value, least)
    if not alpha > 0:
        raise UserError(f"alpha is {alpha!r}, expected a number above 0")
    if labels not in ("predicted", "label"):
        raise unknown("labels", labels, ("predicted", "label"))
