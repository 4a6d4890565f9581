"""What is known of each metric of Quantus 0.6: its options, its direction, what it returns and where it breaks.

Kept here so that a run can name these metrics, and be found finished, without the seconds that importing Quantus takes.
Tests hold names, options and defaults against the library.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Direction = str | Callable[[Mapping[str, Any]], str | None] | None
Unit = str | Callable[[Mapping[str, Any]], str]

# Constructor arguments that choose a form of output, of which the bridge needs one, or that change no score.
NOT_OPTIONS = (
    "return_aggregate",
    "aggregate_func",
    "default_plot_func",
    "disable_warnings",
    "display_progressbar",
    "output_func",
    "mosaic_shape",
    "return_sample_correlation",
    "compute_extra_scores",
)
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
class Line:
    """One metric.

    better       the direction, or a function of the options; not always the one that Quantus registers
    unit         of the score, or a function of the options
    source       the paper it is named after
    value        how what it returns becomes one number per sample
    options      its constructor's arguments with Quantus's defaults, and ``softmax`` of its call
    needs        as of ``harness.registry.Metric``
    nan          when Quantus gives NaN
    fails        what it is known to fail on
    one_channel  it takes maps of one channel only, so the bridge gives it the reduced ones
    modalities   the kinds of input it can serve
    """

    better: Direction
    unit: Unit
    source: str
    options: Mapping[str, Any]
    value: str = "Quantus's own number"
    needs: tuple[str, ...] = ()
    nan: str = ""
    fails: str = ""
    one_channel: bool = False
    modalities: tuple[str, ...] = ("image", "table", "tokens", "series", "other")


def _of_regions(options: Mapping[str, Any]) -> str | None:
    """Removing what matters first should lower the score most; a random order says nothing of the map."""
    return {"morf": "higher", "lerf": "lower"}.get(options["order"])


def _where_similar_is(better: str) -> Callable[[Mapping[str, Any]], str]:
    """The direction for a similarity, and its opposite where ``similarity_func`` names a distance."""
    opposite = {"higher": "lower", "lower": "higher"}[better]
    return lambda options: opposite if options["similarity_func"] in DISTANCES else better


def _score_unit(options: Mapping[str, Any]) -> str:
    return "probability" if options["softmax"] else "logit"


def _similarity_unit(options: Mapping[str, Any]) -> str:
    return options["similarity_func"] or "correlation"


def _options(absolute: bool, normalise: bool, softmax: bool | None, **own: Any) -> dict[str, Any]:
    both = {"normalise_func": None, "normalise_func_kwargs": None, "softmax": softmax}
    return {**own, "abs": absolute, "normalise": normalise, **both}


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
CONSTANT = "one side of the correlation is constant"

FAITHFULNESS = {
    "FaithfulnessCorrelation": Line(
        _where_similar_is("higher"),
        _similarity_unit,
        "Bhatt et al. 2020, 2005.00631",
        _options(False, True, False, **SIMILAR, nr_runs=100, subset_size=224, **REMOVE),
        nan=CONSTANT,
        fails="a subset_size that is not smaller than the units of one channel",
        modalities=NO_TABLES,
    ),
    "FaithfulnessEstimate": Line(
        _where_similar_is("higher"),
        _similarity_unit,
        "Alvarez-Melis and Jaakkola 2018, 1806.07538",
        _options(False, True, False, **SIMILAR, features_in_step=1, **REMOVE),
        nan=CONSTANT,
        fails="a features_in_step that does not divide the number of units",
    ),
    "PixelFlipping": Line(
        "lower",
        _score_unit,
        "Bach et al. 2015",
        value=CURVE,
        options=_options(False, True, True, features_in_step=1, **REMOVE, return_auc_per_sample=False),
        fails="a features_in_step that does not divide the number of units",
    ),
    "RegionPerturbation": Line(
        _of_regions,
        _score_unit,
        "Samek et al. 2017, 1509.06321",
        value=CURVE,
        options=_options(False, True, True, patch_size=8, order="morf", regions_evaluation=100, **REMOVE),
        modalities=NO_TABLES,
    ),
    "Monotonicity": Line(
        "higher",
        "verdict",
        "Arya et al. 2019, 1909.03012",
        _options(True, True, True, features_in_step=1, **REMOVE),
        fails="a features_in_step that does not divide the number of units",
    ),
    "MonotonicityCorrelation": Line(
        _where_similar_is("higher"),
        _similarity_unit,
        "Nguyen and Martinez 2020, 2007.07584",
        _options(
            True,
            True,
            True,
            **SIMILAR,
            eps=1e-5,
            nr_samples=100,
            features_in_step=1,
            **{**REMOVE, "perturb_baseline": "uniform"},
        ),
        nan=CONSTANT,
        fails="batches in which only some predictions are below eps",
    ),
    "Selectivity": Line(
        "lower",
        _score_unit,
        "Montavon et al. 2018",
        _options(False, True, True, patch_size=8, **REMOVE),
        CURVE,
        modalities=NO_TABLES,
    ),
    "SensitivityN": Line(
        _where_similar_is("higher"),
        _similarity_unit,
        "Ancona et al. 2018, 1711.06104",
        _options(False, True, True, **SIMILAR, n_max_percentage=0.8, features_in_step=1, **REMOVE),
        OF_DATA_SET,
        nan="it correlates over the images of the batch, and one of its steps is constant there",
        fails="a features_in_step that does not divide the number of units, and on a single image",
        modalities=NO_TABLES,
    ),
    "IROF": Line(
        "higher",
        "segments",
        "Rieger and Hansen 2020, 2003.08747",
        _options(False, True, True, segmentation_method="slic", **{**REMOVE, "perturb_baseline": "mean"}),
        fails="inputs of more than one channel",
        modalities=IMAGES,
    ),
    "ROAD": Line(
        "lower",
        "accuracy",
        "Rong et al. 2022, 2202.00449",
        _options(False, True, True, percentages=None, noise=0.01, **PERTURB),
        "the share of percentages at which the sample keeps its class; Quantus averages the samples first",
        fails="inputs of more than one channel",
        modalities=IMAGES,
    ),
    "Infidelity": Line(
        "lower",
        lambda options: f"{_score_unit(options)}^2",
        "Yeh et al. 2019, 1901.09392",
        _options(False, False, False, loss_func="mse", perturb_patch_sizes=None, n_perturb_samples=10, **REMOVE),
        fails="a height or width that a patch size does not divide",
        modalities=IMAGES,
    ),
    "Sufficiency": Line(
        "higher",
        "share",
        "Dasgupta et al. 2022, 2202.00734",
        _options(True, True, True, threshold=0.6, distance_func="seuclidean"),
        "the share of the batch's other images with a similar map that have the same prediction",
    ),
}
ROBUSTNESS = {
    "Continuity": Line(
        "lower",
        "attribution per input unit",
        "Montavon et al. 2018",
        needs=EXPLAINER,
        options=_options(True, True, False, nr_steps=28, **REMOVE, **CHANGED),
        nan=FLIPPED,
        fails="an nr_steps that divides twice the width and one",
        modalities=NO_TABLES,
    ),
    "LocalLipschitzEstimate": Line(
        "lower",
        "attribution per input unit",
        "Alvarez-Melis and Jaakkola 2018, 1806.08049",
        needs=EXPLAINER,
        options=_options(False, True, True, **NORMS, perturb_mean=0.0, perturb_std=0.1, **PERTURB, **CHANGED),
        nan=FLIPPED,
    ),
    "MaxSensitivity": Line(
        "lower",
        "relative change",
        "Yeh et al. 2019, 1901.09392",
        needs=EXPLAINER,
        options=_options(False, False, False, **NORMS, lower_bound=0.2, upper_bound=None, **PERTURB, **CHANGED),
        nan=FLIPPED,
    ),
    "AvgSensitivity": Line(
        "lower",
        "relative change",
        "Yeh et al. 2019, 1901.09392",
        needs=EXPLAINER,
        nan=FLIPPED,
        options=_options(
            False,
            False,
            False,
            **NORMS,
            lower_bound=0.2,
            upper_bound=None,
            **{**PERTURB, "perturb_func": "batch_uniform_noise"},
            **CHANGED,
        ),
    ),
    "Consistency": Line(
        "higher",
        "share",
        "Dasgupta et al. 2022, 2202.00734",
        _options(True, True, True, discretise_func=None),
        "the share of the batch's other images with an equal map that have the same prediction",
    ),
    "RelativeInputStability": Line(
        "lower",
        "ratio",
        "Agarwal et al. 2022, 2203.06877",
        _options(False, False, False, **RELATIVE),
        needs=EXPLAINER,
        nan=FLIPPED,
    ),
    "RelativeOutputStability": Line(
        "lower",
        "ratio",
        "Agarwal et al. 2022, 2203.06877",
        _options(False, False, False, **RELATIVE),
        needs=EXPLAINER,
        nan=FLIPPED,
    ),
    "RelativeRepresentationStability": Line(
        "lower",
        "ratio",
        "Agarwal et al. 2022, 2203.06877",
        _options(False, False, False, **RELATIVE, layer_names=None, layer_indices=None),
        needs=EXPLAINER,
        nan=FLIPPED,
    ),
}
LOCALISATION = {
    "PointingGame": Line(
        "higher",
        "hit",
        "Zhang et al. 2018, 1608.00507",
        _options(False, True, False, weighted=False),
        needs=MASKS,
        one_channel=True,
        fails="weighted=True",
    ),
    "TopKIntersection": Line(
        "higher",
        "share",
        "Theiner et al. 2021, 2104.14995",
        _options(False, True, False, k=1000, concept_influence=False),
        needs=MASKS,
        one_channel=True,
        fails="a k that is not smaller than the number of units",
    ),
    "RelevanceMassAccuracy": Line(
        "higher",
        "share",
        "Arras et al. 2022, 2003.07258",
        _options(False, True, False),
        needs=MASKS,
        nan="the mask is empty",
        one_channel=True,
    ),
    "RelevanceRankAccuracy": Line(
        "higher",
        "share",
        "Arras et al. 2022, 2003.07258",
        _options(False, True, False),
        needs=MASKS,
        nan="the mask is empty",
        one_channel=True,
    ),
    "AttributionLocalisation": Line(
        "higher",
        "share",
        "Kohlbrenner et al. 2020, 1910.09840",
        _options(True, True, False, weighted=False, max_size=1.0, positive_attributions=False),
        needs=MASKS,
        nan="the mask is empty",
        one_channel=True,
    ),
    "AUC": Line(
        "higher",
        "AUC",
        "Fawcett 2006",
        _options(False, True, False),
        needs=MASKS,
        nan="the mask is empty or full",
        one_channel=True,
    ),
    "Focus": Line("higher", "share", "Arias-Duart et al. 2022, 2109.15035", _options(False, True, False)),
}
COMPLEXITY = {
    "Sparseness": Line("higher", "Gini index", "Chalasani et al. 2020, 1810.06583", _options(True, True, False)),
    "Complexity": Line("lower", "nats", "Bhatt et al. 2020, 2005.00631", _options(True, True, False)),
    "EffectiveComplexity": Line(
        "lower", "count", "Nguyen and Martinez 2020, 2007.07584", _options(True, True, False, eps=1e-5)
    ),
}
SANITY = {
    "MPRT": Line(
        _where_similar_is("lower"),
        _similarity_unit,
        "Adebayo et al. 2018, 1810.03292",
        _options(True, True, False, **SIMILAR, layer_order="top_down", seed=42, **LAYERS),
        OVER_LAYERS,
        EXPLAINER,
        CONSTANT,
    ),
    "SmoothMPRT": Line(
        _where_similar_is("lower"),
        _similarity_unit,
        "Hedström et al. 2024, 2405.02383",
        _options(
            True, True, False, **SIMILAR, layer_order="bottom_up", seed=42, nr_samples=50, noise_magnitude=0.1, **LAYERS
        ),
        OVER_LAYERS,
        nan=CONSTANT,
        one_channel=True,
        fails="token inputs",
    ),
    "EfficientMPRT": Line(
        "higher",
        "relative change",
        "Hedström et al. 2024, 2405.02383",
        _options(
            False,
            False,
            True,
            complexity_func=None,
            complexity_func_kwargs=None,
            layer_order="bottom_up",
            seed=42,
            skip_layers=True,
        ),
        needs=EXPLAINER,
        fails="softmax=False wherever an output is negative",
    ),
    "RandomLogit": Line(
        _where_similar_is("lower"),
        lambda options: options["similarity_func"] or "similarity",
        "Sixt et al. 2020, 1912.09818",
        _options(False, True, False, **SIMILAR, num_classes=1000, seed=42),
        needs=EXPLAINER,
        fails="a num_classes that is not the model's",
    ),
}
AXIOM = {
    "Completeness": Line(
        "higher", "verdict", "Sundararajan et al. 2017, 1703.01365", _options(False, True, False, **REMOVE)
    ),
    "NonSensitivity": Line(
        "lower",
        "count",
        "Nguyen and Martinez 2020, 2007.07584",
        _options(True, True, True, eps=1e-5, features_in_step=1, **REMOVE),
        fails="a features_in_step above 1",
    ),
    "InputInvariance": Line(
        "higher",
        "verdict",
        "Kindermans et al. 2019, 1711.00867",
        _options(False, False, None, input_shift=-1, **PERTURB),
        needs=EXPLAINER,
        fails="models that do not begin with a convolution with a bias, and on GPUs",
    ),
}
KINDS = {
    "faithfulness": FAITHFULNESS,
    "robustness": ROBUSTNESS,
    "localisation": LOCALISATION,
    "complexity": COMPLEXITY,
    "sanity": SANITY,
    "axiom": AXIOM,
}
TABLE = {name: line for lines in KINDS.values() for name, line in lines.items()}
