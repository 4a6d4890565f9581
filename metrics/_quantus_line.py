"""What is recorded of a metric of Quantus 0.6, and the options, units and remarks that several of them share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.option_types import Count, NotNegative, Positive, Real, Seed, Share, Size, SomeShare

DirectionOf = str | Callable[[Mapping[str, Any]], str | None] | None
UnitOf = str | Callable[[Mapping[str, Any]], str]

DISTANCES = (
    "distance_euclidean",
    "distance_manhattan",
    "distance_chebyshev",
    "lipschitz_constant",
    "abs_difference",
    "squared_difference",
    "difference",
    "mse",
)


@dataclass(frozen=True)
class QuantusMetric:
    """A metric of Quantus.

    better       the direction, or a function of the options; not always the one that Quantus registers
    unit         of the score, or a function of the options
    source       the paper it is named after
    options      its constructor's arguments with Quantus's defaults, and the argument ``softmax`` of its call
    value        what the score of a sample is, of all that Quantus returns
    needs        as in ``harness.registry.Metric``
    nan          when Quantus gives NaN
    fails        inputs or options with which it is known to fail
    one_channel  it takes maps of one channel only, so the bridge gives it the reduced ones
    modalities   the kinds of input it can serve
    """

    better: DirectionOf
    unit: UnitOf
    source: str
    options: Mapping[str, Any]
    value: str = "Quantus's own number"
    needs: tuple[str, ...] = ()
    nan: str = ""
    fails: str = ""
    one_channel: bool = False
    modalities: tuple[str, ...] = ("image", "table", "tokens", "series", "other")


def direction_of_regions(options: Mapping[str, Any]) -> str | None:
    """Removing the most important regions first should lower the score most; a random order does not use the map."""
    return {"morf": "higher", "lerf": "lower"}.get(options["order"])


def direction_of_similarity(better: str) -> Callable[[Mapping[str, Any]], str]:
    """The direction where ``similarity_func`` is a similarity, and its opposite where it names a distance."""
    opposite = {"higher": "lower", "lower": "higher"}[better]
    return lambda options: opposite if options["similarity_func"] in DISTANCES else better


def quantus_score_unit(options: Mapping[str, Any]) -> str:
    return "probability" if options["softmax"] else "logit"


def quantus_similarity_unit(options: Mapping[str, Any]) -> str:
    return options["similarity_func"] or "correlation"


def with_common_options(absolute: bool, normalise: bool, softmax: bool | None, **own: Any) -> dict[str, Any]:
    both = {"normalise_func": None, "normalise_func_kwargs": None, "softmax": softmax}
    return {**own, "abs": absolute, "normalise": normalise, **both}


# The values that options take, where Quantus would take any and then fail, never end or have NaN for a score. Options
# that are not listed take values like their defaults, or anything where that is None or the name of a function.
QUANTUS_TYPES: dict[str, Any] = {
    "eps": Positive,
    "eps_min": Positive,
    "features_in_step": Count,
    "input_shift": Real,
    "k": Count,
    "lower_bound": NotNegative,
    "upper_bound": NotNegative | None,
    "max_size": SomeShare,
    "n_max_percentage": SomeShare,
    "n_perturb_samples": Count,
    "noise": NotNegative,
    "noise_magnitude": NotNegative,
    "nr_runs": Count,
    "nr_samples": Count,
    "nr_steps": Count,
    "num_classes": Count,
    "order": Literal["morf", "lerf", "random"],
    "patch_size": Size,
    "perturb_mean": Real,
    "perturb_std": NotNegative,
    "regions_evaluation": Count,
    "seed": Seed,
    "segmentation_method": Literal["slic", "felzenszwalb"],
    "layer_order": Literal["top_down", "bottom_up", "independent"],
    "subset_size": Count,
    "threshold": Share,
}

PERTURB = {"perturb_func": None, "perturb_func_kwargs": None}
REMOVE = {"perturb_baseline": "black", **PERTURB}
SIMILAR = {"similarity_func": None}
NORMS = {**SIMILAR, "norm_numerator": None, "norm_denominator": None, "nr_samples": 200}
CHANGED = {"return_nan_when_prediction_changes": False}
RELATIVE = {"nr_samples": 200, "eps_min": 1e-6, **PERTURB, "return_nan_when_prediction_changes": True}
LAYERS = {"return_average_correlation": False, "return_last_correlation": False, "skip_layers": False}

EXPLAINER, MASKS = ("explainer",), ("masks",)
IMAGES, NO_TABLES = ("image",), ("image", "tokens", "series", "other")
CURVE = "the mean over its curve, which lacks the point of no removal"
OVER_LAYERS = "the mean over its layers, as Quantus averages them: with the comparison of the map with itself"
OF_DATA_SET = "one number for all images of a batch, given to each of them"
FLIPPED = "the predicted class changed under some draw"
CONSTANT_SIDE = "one side of the correlation is constant"
