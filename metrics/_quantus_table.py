"""What is known of each metric of Quantus 0.6: its options, its direction, what it returns and where it fails.

It is recorded here so that a run can name these metrics, and recognise finished cells, without importing Quantus, which
takes seconds. Tests compare names, options and defaults with the library.
"""

from harness.metrics._quantus_line import (
    CHANGED,
    CONSTANT_SIDE,
    CURVE,
    EXPLAINER,
    FLIPPED,
    IMAGES,
    LAYERS,
    MASKS,
    NO_TABLES,
    NORMS,
    OF_DATA_SET,
    OVER_LAYERS,
    PERTURB,
    RELATIVE,
    REMOVE,
    SIMILAR,
    QuantusMetric,
    direction_of_regions,
    direction_of_similarity,
    quantus_score_unit,
    quantus_similarity_unit,
    with_common_options,
)

FAITHFULNESS = {
    "FaithfulnessCorrelation": QuantusMetric(
        direction_of_similarity("higher"),
        quantus_similarity_unit,
        "Bhatt et al. 2020, 2005.00631",
        with_common_options(False, True, False, **SIMILAR, nr_runs=100, subset_size=224, **REMOVE),
        nan=CONSTANT_SIDE,
        fails="a subset_size that is not smaller than the units of one channel",
        modalities=NO_TABLES,
    ),
    "FaithfulnessEstimate": QuantusMetric(
        direction_of_similarity("higher"),
        quantus_similarity_unit,
        "Alvarez-Melis and Jaakkola 2018, 1806.07538",
        with_common_options(False, True, False, **SIMILAR, features_in_step=1, **REMOVE),
        nan=CONSTANT_SIDE,
        fails="a features_in_step that does not divide the number of units",
    ),
    "PixelFlipping": QuantusMetric(
        "lower",
        quantus_score_unit,
        "Bach et al. 2015",
        value=CURVE,
        options=with_common_options(False, True, True, features_in_step=1, **REMOVE, return_auc_per_sample=False),
        fails="a features_in_step that does not divide the number of units",
    ),
    "RegionPerturbation": QuantusMetric(
        direction_of_regions,
        quantus_score_unit,
        "Samek et al. 2017, 1509.06321",
        value=CURVE,
        options=with_common_options(False, True, True, patch_size=8, order="morf", regions_evaluation=100, **REMOVE),
        modalities=NO_TABLES,
    ),
    "Monotonicity": QuantusMetric(
        "higher",
        "verdict",
        "Arya et al. 2019, 1909.03012",
        with_common_options(True, True, True, features_in_step=1, **REMOVE),
        fails="a features_in_step that does not divide the number of units",
    ),
    "MonotonicityCorrelation": QuantusMetric(
        direction_of_similarity("higher"),
        quantus_similarity_unit,
        "Nguyen and Martinez 2020, 2007.07584",
        with_common_options(
            True,
            True,
            True,
            **SIMILAR,
            eps=1e-5,
            nr_samples=100,
            features_in_step=1,
            **{**REMOVE, "perturb_baseline": "uniform"},
        ),
        nan=CONSTANT_SIDE,
        fails="batches in which only some predictions are below eps",
    ),
    "Selectivity": QuantusMetric(
        "lower",
        quantus_score_unit,
        "Montavon et al. 2018",
        with_common_options(False, True, True, patch_size=8, **REMOVE),
        CURVE,
        modalities=NO_TABLES,
    ),
    "SensitivityN": QuantusMetric(
        direction_of_similarity("higher"),
        quantus_similarity_unit,
        "Ancona et al. 2018, 1711.06104",
        with_common_options(False, True, True, **SIMILAR, n_max_percentage=0.8, features_in_step=1, **REMOVE),
        OF_DATA_SET,
        nan="it correlates over the images of the batch, and one of its steps is constant there",
        fails="a features_in_step that does not divide the number of units, and on a single image",
        modalities=NO_TABLES,
    ),
    "IROF": QuantusMetric(
        "higher",
        "segments",
        "Rieger and Hansen 2020, 2003.08747",
        with_common_options(False, True, True, segmentation_method="slic", **{**REMOVE, "perturb_baseline": "mean"}),
        fails="inputs of more than one channel",
        modalities=IMAGES,
    ),
    "ROAD": QuantusMetric(
        "lower",
        "accuracy",
        "Rong et al. 2022, 2202.00449",
        with_common_options(False, True, True, percentages=None, noise=0.01, **PERTURB),
        "the share of percentages at which the sample keeps its class; Quantus averages the samples first",
        fails="inputs of more than one channel",
        modalities=IMAGES,
    ),
    "Infidelity": QuantusMetric(
        "lower",
        lambda options: f"{quantus_score_unit(options)}^2",
        "Yeh et al. 2019, 1901.09392",
        with_common_options(
            False, False, False, loss_func="mse", perturb_patch_sizes=None, n_perturb_samples=10, **REMOVE
        ),
        fails="a height or width that a patch size does not divide",
        modalities=IMAGES,
    ),
    "Sufficiency": QuantusMetric(
        "higher",
        "share",
        "Dasgupta et al. 2022, 2202.00734",
        with_common_options(True, True, True, threshold=0.6, distance_func="seuclidean"),
        "the share of the batch's other images with a similar map that have the same prediction",
    ),
}
ROBUSTNESS = {
    "Continuity": QuantusMetric(
        "lower",
        "attribution per input unit",
        "Montavon et al. 2018",
        needs=EXPLAINER,
        options=with_common_options(True, True, False, nr_steps=28, **REMOVE, **CHANGED),
        nan=FLIPPED,
        fails="an nr_steps that divides twice the width and one",
        modalities=NO_TABLES,
    ),
    "LocalLipschitzEstimate": QuantusMetric(
        "lower",
        "attribution per input unit",
        "Alvarez-Melis and Jaakkola 2018, 1806.08049",
        needs=EXPLAINER,
        options=with_common_options(
            False, True, True, **NORMS, perturb_mean=0.0, perturb_std=0.1, **PERTURB, **CHANGED
        ),
        nan=FLIPPED,
    ),
    "MaxSensitivity": QuantusMetric(
        "lower",
        "relative change",
        "Yeh et al. 2019, 1901.09392",
        needs=EXPLAINER,
        options=with_common_options(
            False, False, False, **NORMS, lower_bound=0.2, upper_bound=None, **PERTURB, **CHANGED
        ),
        nan=FLIPPED,
    ),
    "AvgSensitivity": QuantusMetric(
        "lower",
        "relative change",
        "Yeh et al. 2019, 1901.09392",
        needs=EXPLAINER,
        nan=FLIPPED,
        options=with_common_options(
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
    "Consistency": QuantusMetric(
        "higher",
        "share",
        "Dasgupta et al. 2022, 2202.00734",
        with_common_options(True, True, True, discretise_func=None),
        "the share of the batch's other images with an equal map that have the same prediction",
    ),
    "RelativeInputStability": QuantusMetric(
        "lower",
        "ratio",
        "Agarwal et al. 2022, 2203.06877",
        with_common_options(False, False, False, **RELATIVE),
        needs=EXPLAINER,
        nan=FLIPPED,
    ),
    "RelativeOutputStability": QuantusMetric(
        "lower",
        "ratio",
        "Agarwal et al. 2022, 2203.06877",
        with_common_options(False, False, False, **RELATIVE),
        needs=EXPLAINER,
        nan=FLIPPED,
    ),
    "RelativeRepresentationStability": QuantusMetric(
        "lower",
        "ratio",
        "Agarwal et al. 2022, 2203.06877",
        with_common_options(False, False, False, **RELATIVE, layer_names=None, layer_indices=None),
        needs=EXPLAINER,
        nan=FLIPPED,
    ),
}
LOCALISATION = {
    "PointingGame": QuantusMetric(
        "higher",
        "hit",
        "Zhang et al. 2018, 1608.00507",
        with_common_options(False, True, False, weighted=False),
        needs=MASKS,
        one_channel=True,
        fails="weighted=True",
    ),
    "TopKIntersection": QuantusMetric(
        "higher",
        "share",
        "Theiner et al. 2021, 2104.14995",
        with_common_options(False, True, False, k=1000, concept_influence=False),
        needs=MASKS,
        one_channel=True,
        fails="a k that is not smaller than the number of units",
    ),
    "RelevanceMassAccuracy": QuantusMetric(
        "higher",
        "share",
        "Arras et al. 2022, 2003.07258",
        with_common_options(False, True, False),
        needs=MASKS,
        nan="the mask is empty",
        one_channel=True,
    ),
    "RelevanceRankAccuracy": QuantusMetric(
        "higher",
        "share",
        "Arras et al. 2022, 2003.07258",
        with_common_options(False, True, False),
        needs=MASKS,
        nan="the mask is empty",
        one_channel=True,
    ),
    "AttributionLocalisation": QuantusMetric(
        "higher",
        "share",
        "Kohlbrenner et al. 2020, 1910.09840",
        with_common_options(True, True, False, weighted=False, max_size=1.0, positive_attributions=False),
        needs=MASKS,
        nan="the mask is empty",
        one_channel=True,
    ),
    "AUC": QuantusMetric(
        "higher",
        "AUC",
        "Fawcett 2006",
        with_common_options(False, True, False),
        needs=MASKS,
        nan="the mask is empty or full",
        one_channel=True,
    ),
    "Focus": QuantusMetric(
        "higher", "share", "Arias-Duart et al. 2022, 2109.15035", with_common_options(False, True, False)
    ),
}
COMPLEXITY = {
    "Sparseness": QuantusMetric(
        "higher", "Gini index", "Chalasani et al. 2020, 1810.06583", with_common_options(True, True, False)
    ),
    "Complexity": QuantusMetric(
        "lower", "nats", "Bhatt et al. 2020, 2005.00631", with_common_options(True, True, False)
    ),
    "EffectiveComplexity": QuantusMetric(
        "lower", "count", "Nguyen and Martinez 2020, 2007.07584", with_common_options(True, True, False, eps=1e-5)
    ),
}
SANITY = {
    "MPRT": QuantusMetric(
        direction_of_similarity("lower"),
        quantus_similarity_unit,
        "Adebayo et al. 2018, 1810.03292",
        with_common_options(True, True, False, **SIMILAR, layer_order="top_down", seed=42, **LAYERS),
        OVER_LAYERS,
        EXPLAINER,
        CONSTANT_SIDE,
    ),
    "SmoothMPRT": QuantusMetric(
        direction_of_similarity("lower"),
        quantus_similarity_unit,
        "Hedström et al. 2024, 2405.02383",
        with_common_options(
            True, True, False, **SIMILAR, layer_order="bottom_up", seed=42, nr_samples=50, noise_magnitude=0.1, **LAYERS
        ),
        OVER_LAYERS,
        nan=CONSTANT_SIDE,
        one_channel=True,
        fails="token inputs",
    ),
    "EfficientMPRT": QuantusMetric(
        "higher",
        "relative change",
        "Hedström et al. 2024, 2405.02383",
        with_common_options(
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
    "RandomLogit": QuantusMetric(
        direction_of_similarity("lower"),
        lambda options: options["similarity_func"] or "similarity",
        "Sixt et al. 2020, 1912.09818",
        with_common_options(False, True, False, **SIMILAR, num_classes=1000, seed=42),
        needs=EXPLAINER,
        fails="a num_classes that is not the model's",
    ),
}
AXIOM = {
    "Completeness": QuantusMetric(
        "higher", "verdict", "Sundararajan et al. 2017, 1703.01365", with_common_options(False, True, False, **REMOVE)
    ),
    "NonSensitivity": QuantusMetric(
        "lower",
        "count",
        "Nguyen and Martinez 2020, 2007.07584",
        with_common_options(True, True, True, eps=1e-5, features_in_step=1, **REMOVE),
        fails="a features_in_step above 1",
    ),
    "InputInvariance": QuantusMetric(
        "higher",
        "verdict",
        "Kindermans et al. 2019, 1711.00867",
        with_common_options(False, False, None, input_shift=-1, **PERTURB),
        needs=EXPLAINER,
        fails="models that do not begin with a convolution with a bias, and on GPUs",
    ),
}
QUANTUS_KINDS = {
    "faithfulness": FAITHFULNESS,
    "robustness": ROBUSTNESS,
    "localisation": LOCALISATION,
    "complexity": COMPLEXITY,
    "sanity": SANITY,
    "axiom": AXIOM,
}
# Those that say whether a property holds, and rank nothing, as the metrics of the same name here (``kind="check"``).
CHECKS = ("Completeness", "InputInvariance", "Monotonicity")
TABLE = {name: line for lines in QUANTUS_KINDS.values() for name, line in lines.items()}
