"""A cell's score is its own: it does not depend on which other cells are measured in the same block."""

import os
from itertools import chain

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.engine.block import measure_block
from harness.engine.protocol import Protocol
from harness.engine.selection import Cell, choose_several
from harness.engine.stage import set_stage
from harness.registry import EXPLAINERS, METRICS
from harness.sources import LoadedModel

SEED = int(os.environ["HARNESS_TEST_SEED"])
SEGMENTS = {"granularity": "segment", "segments": "slic:20"}
PARTITIONS = ("granularity", "most_groups", "patch", "segments")
# Over few segments two scores of the first two coincide by chance, and naopc has few segments anyway.
NO_FURTHER_SEGMENTS = ("monotonicity", "non_sensitivity", "naopc")
BASELINES = ("zero", "mean", "uniform_noise")
HELD_ELSEWHERE = ("plausibility_iou_f1", "aic")  # they need texts, or images that lose their class when blurred

# For each option: what else is set, and values of which every two must give other scores.
CURVES = {
    "steps": ({}, 6, 9),
    "baseline": ({}, *BASELINES),
    "score": ({}, "probability", "logit", "log_odds"),
    "granularity": ({"patch": 5, "segments": "grid:3"}, "unit", "patch", "segment"),
    "patch": ({"granularity": "patch"}, 3, 4),
    "segments": ({"granularity": "segment"}, "slic:20", "grid:3"),
    "imputations": ({"baseline": "uniform_noise"}, 1, 2),
    "tie_draws": ({}, 1, 3),
}
ESTIMATED = {"standard_error": ({"granularity": "unit", "steps": 64}, 0.0, 10.0)}
ORDERED = CURVES | {"order": ({}, "morf", "lerf")}
SUBSETS = {name: CURVES[name] for name in ("baseline", "score", "granularity", "patch", "segments")} | {
    "draws": ({}, 12, 16),
}
SHARE = ({}, 0.3, 0.6)
SINGLE = {
    "granularity": ({"segments": "grid:3", "most_groups": 16}, "auto", "unit", "patch", "segment"),
    "most_groups": ({}, 4, 9),
    "patch": ({}, 0, 3, 4),
    "segments": ({"granularity": "segment"}, "slic:20", "grid:3"),
    "score": ({}, "logit", "probability"),
}
RATIONALES = {
    "percents": ({}, "1 5 10 20 50", "20 40"),
    "positive_only": ({"percents": "50 90"}, False, True),
    "baseline": ({}, *BASELINES),
    "score": ({}, "probability", "logit", "log_odds"),
}
NOISE = {"radius": ({}, 0.02, 0.2), "draws": ({}, 2, 40)}
DISTRIBUTED = NOISE | {"distribution": ({}, "gaussian", "uniform")}
RELATIVE = DISTRIBUTED | {"floor": ({}, 0.01, 0.3), "eps": ({}, 1e-6, 100.0), "log10": ({}, False, True)}
GAP = {
    "percents": ({}, "5 20", "30 60"),
    "noise": ({}, 0.1, 0.3),
    "draws": ({}, 5, 9),
    "score": ({}, "probability", "logit"),
}
MPRT = {
    "mode": ({}, "cascading", "bottom_up", "independent"),
    "similarity": ({}, "spearman", "spearman_abs", "ssim", "hog"),
    "stages": ({}, 2, 3),
    "explained_class": ({}, "fixed", "reargmax"),
    "weight_seed": ({}, 0, 1),
    "weight_seeds": ({}, 1, 2),
    "running_statistics": ({}, "keep", "reset"),
}
ALIKE = {"top_share": ({}, 0.05, 1.0), "most_groups": ({}, 9, 16), "rows": ({}, 20, 90)}
PARTS = {"segments": ({}, "grid:4", "grid:3"), "baseline": ({}, *BASELINES)}
FINE = {"distinct": 1.0, "displacements": 1, "weight_seeds": 9}
METRIC_OPTIONS = {
    "deletion": ORDERED | ESTIMATED,
    "insertion": CURVES | ESTIMATED,
    "srg": CURVES | ESTIMATED,
    "aopc": ORDERED | ESTIMATED,
    "abpc": CURVES | ESTIMATED,
    "selectivity": CURVES | ESTIMATED | {"tie_draws": ({"granularity": "unit"}, 1, 3)},
    "irof": CURVES | {"normalised": ({}, False, True)},
    "random_order": {name: values for name, values in CURVES.items() if name != "tie_draws"} | {"draws": ({}, 1, 3)},
    "road": {
        "percents": ({}, "10 50", "20 70"),
        "order": ({}, "morf", "lerf"),
        "score": ({}, "accuracy", "probability", "logit", "log_odds"),
        "absolute_noise": ({}, 0.01, 0.5),
        "imputations": ({"absolute_noise": 0.5}, 1, 2),
        "tie_draws": ({}, 1, 3),
    },
    "sensitivity_n": SUBSETS
    | {"surrogate": ({"draws": 150}, False, True), "largest_share": SHARE, "sizes": ({}, 3, 4)},
    "faithfulness_correlation": SUBSETS | {"surrogate": ({"draws": 150}, False, True), "share": SHARE},
    "seg_sensitivity_n": {
        "surrogate": ({"draws": 150}, False, True),
        "sizes": ({}, 3, 4),
        "largest_share": SHARE,
        "draws": ({}, 12, 16),
        "baseline": ({}, *BASELINES),
        "score": ({}, "probability", "logit", "log_odds"),
        "segments": ({}, "slic:20", "grid:3"),
        "segment_reduce": ({"segments": "slic:20"}, "sum", "mean"),
    },
    "faithfulness_estimate": SINGLE
    | {
        "granularity": ({"segments": "grid:3", "most_groups": 16}, "auto", "unit", "patch", "segment", "ranked"),
        "baseline": ({}, *BASELINES),
    },
    "single_deletion": {
        "segments": ({}, "grid:4", "grid:3", "unit"),
        "baseline": ({}, *BASELINES),
        "score": ({}, "logit", "log_odds"),
    },
    "non_sensitivity": SINGLE
    | {
        "attribution_eps": ({}, 0.3, 1.0),
        "output_eps": ({}, 0.001, 0.05),
        "baseline": ({}, *BASELINES),
        "draws": ({"baseline": "uniform_noise"}, 1, 12),
    },
    "monotonicity": {
        "verdict": ({}, False, True),
        "rounding": ({}, 1e-6, 0.05),
        "steps": ({}, 40, 72),
        "baseline": ({}, *BASELINES),
        "score": ({}, "probability", "logit"),
        "granularity": CURVES["granularity"],
        "patch": CURVES["patch"],
        "segments": CURVES["segments"],
    },
    "monotonicity_correlation": SINGLE | {"draws": ({}, 4, 8), "baseline": ({}, "uniform_noise", "zero", "mean")},
    "comprehensiveness": RATIONALES,
    "sufficiency": RATIONALES,
    # Accuracies of four samples have few levels, so that two settings' may coincide: its own tests tell them apart.
    "roar": {
        "percents": ({}, "30 80"),
        "keep": ({}, True),
        "baseline": ({}, "uniform_noise"),
        "weight_seeds": ({}, 1),
        "epochs": ({}, 5),
        "rate": ({}, 0.01),
        "batch_size": ({}, 25),
        "most_work": ({}, 10**8),
    },
    "idsds": {
        "segments": ({}, "grid:4", "grid:3"),
        "baseline": ({}, "zero", "mean"),
        "score": ({}, "probability", "logit"),
        "epochs": ({}, 2, 5),
        "rate": ({}, 0.01, 0.03),
        "batch_size": ({}, 25, 40),
        "most_work": ({}, 10**8),
    },
    "infidelity": {
        "perturbation": ({"convention": "local"}, "square", "subset", "gaussian"),
        "scaling": ({}, "none", "optimal", "normalised"),
        "draws": ({}, 16, 20),
        "largest_side": ({}, 3, 8),
        "relative_noise": ({"perturbation": "gaussian", "convention": "local"}, 0.2, 0.4),
        "baseline": ({}, *BASELINES),
        "score": ({}, "logit", "probability"),
        "convention": ({"baseline": "mean"}, "contribution", "local"),
        "surrogate": ({"draws": 150}, False, True),
    },
    "max_sensitivity": NOISE | {"absolute": ({}, False, True)},
    "avg_sensitivity": NOISE | {"absolute": ({}, False, True)},
    "local_lipschitz": DISTRIBUTED | {"relative": ({}, False, True)},
    "relative_input_stability": RELATIVE,
    "relative_output_stability": RELATIVE,
    "relative_representation_stability": RELATIVE | {"layer": ({}, None, "0", "3")},
    "input_invariance": {"shift": ({}, "constant", "texture"), "shift_size": ({}, 0.5, 1.0)},
    "pointing_game": {"margin": ({}, 0.0, 30.0, 75.0)},
    "relevance_mass": {"sign": ({}, "pos", "abs")},
    "relevance_rank": {},
    "top_k_intersection": {"top_share": ({}, 0.1, 0.3)},
    "localization_auc": {},
    "average_drop": {"baseline": ({}, *BASELINES)},
    "average_increase": {"baseline": ({},)},  # a yes or no, which two baselines may share
    "average_gain": {"baseline": ({}, "zero", "mean")},
    "cam_coherency": {"baseline": ({}, *BASELINES)},
    "cam_complexity": {},
    "adcc": {"baseline": ({}, *BASELINES)},
    "naopc": {
        "granularity": ({"patch": 5, "segments": "grid:3"}, "patch", "segment"),
        "patch": ({"granularity": "patch"}, 3, 4),
        "segments": ({}, "grid:3", "grid:4"),
        "baseline": ({}, *BASELINES),
        "most_exact": ({"beam": 1}, 1),  # of few groups the exact search often finds no more: its own tests see to it
        "beam": ({"most_exact": 1, "segments": "grid:5"}, 1, 20),  # of few groups, one path at a time finds the best
        "score": ({}, "probability", "logit", "log_odds"),
        "order": ({}, "morf", "lerf"),
    },
    "abc": CURVES | {"test": ({}, "insertion", "deletion"), "relative": ({}, False, True)},
    "sic": {"percents": ({}, "5 20", "10 50"), "known_share": ({}, 0.01, 0.1), "least_probability": ({}, 0.0)},
    "f_fidelity": {
        "percents": ({}, "20 40", "10 70"),
        "order": ({}, "morf", "lerf"),
        "most_chance": ({"removed_share": 1.0}, 0.5, 0.9),
        "removed_share": ({}, 0.1, 0.3),
        "draws": ({}, 4, 7),
        "baseline": ({}, "zero", "uniform_noise"),
        "score": ({}, "probability", "logit"),
        "epochs": ({}, 1, 2),
        "rate": ({}, 0.001, 0.03),
        "batch_size": ({}, 25, 40),
        "most_work": ({}, 10**8),
    },
    "prediction_gap_important": GAP,
    "prediction_gap_unimportant": GAP,
    **dict.fromkeys(
        ("feature_agreement", "rank_agreement", "sign_agreement", "signed_rank_agreement"),
        {"top_share": ({}, 0.1, 0.2)},  # below the share of units with a truth, beyond which nothing changes
    ),
    "pairwise_rank_agreement": {},
    "explainer_disagreement": {
        "reference": ({}, "gradient", "saliency"),
        "measure": ({}, "feature", "sign", "pairwise_rank"),  # no place is shared here
        "top_share": ({}, 0.1, 0.3),
    },
    # Its numbers of units coincide for many options: its own tests tell them apart.
    "minimal_subset": {"subset": ({}, "sufficient"), "steps": ({}, 16), "baseline": ({}, "zero")},
    "impact_coverage": {
        "pasted": ({}, "train"),
        "share": ({}, 0.25, 0.6),
        "draws": ({}, 1, 20),
        "baseline": ({}, "zero"),
    },
    "impact_score": {"top_share": ({}, 0.1), "lost_share": ({}, 0.5), "baseline": ({}, "zero")},  # a yes or no
    "plausibility_f1": {"top_share": ({}, 0.1, 0.3)},
    "plausibility_iou": {"top_share": ({}, 0.1, 0.3)},
    "plausibility_auprc": {},
    "plausibility_mean_iou": {"percents": ({}, "10 50", "20 70")},
    "truth_correlation": {"rank": ({}, False, True), "unsigned": ({}, False, True)},
    "truth_cosine": {},
    "truth_error": {"scaled": ({}, False, True)},
    "truth_sign": {"weighted": ({}, False, True)},
    "truth_precision": {},
    "truth_emd": {"pool": ({}, 1, 2)},
    "false_mass": {},
    "grid_pointing": {
        "side": ({}, 2, 3),
        "confidence": ({}, 0.0, 0.5),
        "draws": ({}, 1, 3),
        "resize": ({}, False, True),
    },
    "effective_complexity": {
        "definition": ({}, "model", "threshold"),
        "tolerance": ({}, 0.05, 0.3),
        "steps": ({}, 2, 16),
        "least_probability": ({}, 0.0),
        "baseline": ({}, *BASELINES),
        "score": ({}, "probability", "logit", "log_odds"),
        "imputations": ({"baseline": "uniform_noise"}, 1, 8),
        "least_attribution": ({"definition": "threshold"}, 0.01, 0.2),
        "normalised": ({}, True, False),
    },
    "parameter_randomization": MPRT,
    "chance_similarity": MPRT | {"displacements": ({}, 1, 19), "draws": ({}, 0, 3), "noise": ({"draws": 3}, 0.1, 0.5)},
    "efficient_parameter_randomization": {
        "bins": ({}, 20, 100),
        "weight_seed": ({}, 0, 1),
        "weight_seeds": ({}, 2, 3),
        "over_seeds": ({"weight_seeds": 3}, "mean", "median"),
        "explained_class": ({}, "fixed", "reargmax"),
        "running_statistics": ({}, "keep", "reset"),
    },
    "smooth_parameter_randomization": {name: MPRT[name] for name in MPRT if name != "weight_seeds"}
    | {
        "draws": ({}, 3, 4),
        "noise": ({}, 0.1, 0.2),
    },
    "random_logit": {
        "other": ({"draws": 2}, "uniform", "runner_up"),
        "draws": ({}, 1, 2),
        "similarity": ({}, "spearman", "spearman_abs", "ssim"),
    },
    "distractibility": PARTS | {"score": ({}, "probability", "logit"), "relevant_drop": ({}, 0.01, 0.3)},
    "background_independence": {
        "segments": ({}, "grid:4", "grid:3"),
        "baseline": ({}, "zero"),
        "score": ({}, "logit"),
        "relevant_drop": ({}, 0.01, 0.3),
    },
    "explanation_consistency": ALIKE,
    "explanation_sufficiency": ALIKE | {"closeness": ({}, 1.0, 3.0)},
    **dict.fromkeys(
        ("cumulative_prediction_difference", "cumulative_prediction_preservation"),
        {"largest_share": ({}, 0.6, 0.9), "steps": ({}, 4, 9), "baseline": ({}, *BASELINES)},
    ),
    **dict.fromkeys(
        ("aucse_top", "aucse_f_score"),
        {
            "baseline": ({}, *BASELINES),
            "imputations": ({"baseline": "uniform_noise"}, 1, 2),
            "score": ({}, "probability", "logit"),
        },
    ),
    "focus": {"confidence": ({}, 0.0, 0.5), "draws": ({}, 1, 3), "resize": ({}, False, True)},
    **dict.fromkeys(("difull", "dipart"), {"side": ({}, 2, 3), "confidence": ({}, 0.0, 0.5), "draws": ({}, 1, 3)}),
    # An option with one value changes no score, or not surely, in so small a world.
    "target_sensitivity": {"segments": ({}, "grid:4"), "baseline": ({}, "zero")},
    "label_randomization": {
        "similarity": ({}, "spearman", "spearman_abs", "ssim", "hog"),
        "epochs": ({}, 2, 3),
        "rate": ({}, 0.003, 0.03),
        "batch_size": ({}, 8, 12),
        "weight_seed": ({}, 0, 1),
        "least_accuracy": ({}, 0.0),
        "most_work": ({}, 10**8),
    },
    "sanity": {
        "similarity": (FINE, "spearman", "ssim"),
        "weight_seed": (FINE, 1),
        "weight_seeds": ({"distinct": 1.0, "displacements": 1}, 8, 9),
        "displacements": ({"distinct": 1.0, "weight_seeds": 9}, 1, 19),
        "draws": ({}, 3),
        "distinct": ({}, -0.5, 0.99),
        "running_statistics": ({}, "keep"),
    },
    "complexity": {"normalised": ({}, False, True)},
    "sparseness": {},
    "completeness": {"relative": ({}, False, True), "baseline": ({}, None, "mean", "uniform_noise")},
}
COMMON = {
    "f_fidelity": {"score": "probability", "draws": 4, "epochs": 1, "rate": 0.02, "batch_size": 40},
    **dict.fromkeys(("deletion", "insertion", "srg", "aopc", "abpc", "random_order", "irof"), {"steps": 6}),
    "selectivity": {"steps": 6, "patch": 4},
    "road": {"score": "logit"},
    "sensitivity_n": {"sizes": 3, "draws": 12},
    "faithfulness_correlation": {"draws": 12, "share": 0.3},
    "infidelity": {"draws": 16, "largest_side": 4},
    "seg_sensitivity_n": {"sizes": 3, "draws": 12, "segments": "grid:3"},
    "non_sensitivity": {"attribution_eps": 0.5, "output_eps": 0.01, "baseline": "mean"},
    "monotonicity": {"steps": 72},
    "monotonicity_correlation": {"draws": 4, "baseline": "uniform_noise"},
    "roar": {"percents": "20 60", "weight_seeds": 2, "epochs": 3, "rate": 0.02, "batch_size": 40},
    "idsds": {"epochs": 3, "rate": 0.02, "batch_size": 40},
    **dict.fromkeys(
        (
            "max_sensitivity",
            "avg_sensitivity",
            "local_lipschitz",
            "relative_input_stability",
            "relative_output_stability",
            "relative_representation_stability",
        ),
        {"draws": 4},
    ),
    "effective_complexity": {"steps": 64, "tolerance": 0.02, "least_probability": 0.0},
    "grid_pointing": {"confidence": 0.0},
    **dict.fromkeys(("difull", "dipart"), {"confidence": 0.0}),
    "cumulative_prediction_preservation": {"largest_share": 0.8},
    "background_independence": {"segments": "grid:6", "relevant_drop": 0.1},
    "explanation_consistency": {"top_share": 0.05},
    "explanation_sufficiency": {"closeness": 3.0, "top_share": 0.05},
    "parameter_randomization": {"stages": 3},
    "chance_similarity": {"stages": 3, "displacements": 3},
    "smooth_parameter_randomization": {"stages": 3, "draws": 3},
    "efficient_parameter_randomization": {"weight_seeds": 2},
    "label_randomization": {"epochs": 2, "least_accuracy": 0.0},
}


def flat(model, inputs, targets):
    """A map that says nothing: the pointing game's score is then a share, and not a hit or a miss."""
    return torch.ones_like(inputs)


def coarse(model, inputs, targets):
    """A map with many ties."""
    inputs = inputs.requires_grad_()
    map_ = inputs * torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]
    return (4 * map_ / map_.flatten(1).abs().amax(1).view(-1, 1, 1, 1)).round().detach()


class Values:
    """The values of every cell of a block, by the labels of explainer and metric; a cell without any ends the block."""

    renewable = False

    def __init__(self):
        self.found = {}

    def begins(self, stage, cells):
        """Nobody waits to hear of it."""

    def explained(self, explainer, explained):
        """Of an explainer nothing is kept."""

    def scored(self, cell, scores, valid, flags, seconds):
        self.found[cell.explainer.label, cell.metric.label] = scores.values.numpy()

    def failed(self, cell, status, stage, error, trace):
        raise AssertionError(f"{cell.metric.label}: {error}")


class World:
    """A net with batch normalisation, images in colour, and each cell's score when it is measured by itself."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.Tanh(),
            nn.Conv2d(6, 4, 3, stride=2),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64, 10),
        )
        self.net(2 * torch.randn(50, 3, 12, 12) + 1)
        self.net.eval()
        self.train, self.masks = 2 * torch.randn(100, 3, 12, 12), torch.rand(4, 12, 12) < 0.15
        self.balance()
        blobs = nn.functional.interpolate(torch.randn(100, 3, 4, 4), (12, 12), mode="bilinear")  # for slic to follow
        found = self.net(blobs + 0.05 * torch.randn(100, 3, 12, 12)).softmax(1).detach()
        sure = found.amax(1).topk(4).indices  # only of confident samples are there mosaics
        self.inputs, self.targets = blobs[sure], found[sure].argmax(1)
        self.train_labels = self.net(self.train).argmax(1)
        self.truth = torch.randn(4, 12, 12) * (torch.rand(4, 12, 12) < 0.3)
        self.known, self.together = {}, {}

    def balance(self):
        """Make every class as likely as another, and the model sure of about half of the training inputs: mosaics need
        both."""
        last = self.net[-1]
        with torch.no_grad():
            logits = self.net(self.train)
            last.bias -= logits.mean(0)
            scale = next(s for s in range(1, 100) if (s * (logits - logits.mean(0))).softmax(1).amax(1).median() > 0.5)
            last.weight *= scale
            last.bias *= scale

    def measure(self, explainers, metrics):
        """The scores (N,) of all cells measured together, by (explainer, metric)."""
        data = harness.Data(
            self.inputs,
            self.targets,
            value_range=(-4.0, 4.0),
            train=self.train,
            train_labels=self.train_labels,
            masks=self.masks,
            truth=self.truth,
        )
        stage = set_stage(LoadedModel(self.net), data, Protocol(target="given"), torch.device("cpu"))
        cells = [
            Cell(explainer, metric)
            for explainer in choose_several(EXPLAINERS, explainers)
            for metric in choose_several(METRICS, metrics)
        ]
        values = Values()
        # Maps are neither explained beforehand nor audited: of this, which is most of a cell's time, no score depends.
        measure_block(stage, cells, values, alone=True, warm_up=False, audited=False)
        return values.found

    def alone(self, explainer, metric):
        """The scores of one cell; both are (label, what is chosen)."""
        cell = (explainer[0], metric[0])
        if cell not in self.known:
            self.known[cell] = self.measure(dict([explainer]), dict([metric]))[cell]
        return self.known[cell]

    def beside_all(self, explainer):
        """The scores of every cell of the metrics that this explainer (a label) serves, measured together, once."""
        if explainer not in self.together:
            served = [name for name in METRIC_OPTIONS if explainer_for(name)[0] == explainer]
            cells = {}
            for name in served:
                cells.update(cells_of(name, METRIC_OPTIONS, COMMON))
            self.together[explainer] = self.measure(dict([explainer_for(served[0])]), shuffled(cells))
        return self.together[explainer]


@pytest.fixture(scope="module")
def world():
    print(f"seed {SEED}")
    return World(SEED)


def chosen(name, options):
    """Label and options, defaults written out: equal ones have one label."""
    options = (METRICS if name in METRICS else EXPLAINERS)[name].complete(options)
    return f"{name} {sorted(options.items(), key=str)}", {"name": name, **options}


def variants(name, table, common):
    """For each option the sets of options that differ in it alone."""
    for option, (context, *values) in table[name].items():
        contexts = [context]
        if "granularity" in table[name] and name not in NO_FURTHER_SEGMENTS and option not in PARTITIONS:
            contexts.append(context | SEGMENTS)
        for each in contexts:
            yield [chosen(name, {**common.get(name, {}), **each, option: value}) for value in values]


def cells_of(name, table, common):
    """All option sets of one item, each once; the defaults where it has no option."""
    found = dict(chain.from_iterable(variants(name, table, common)))
    return found or dict([chosen(name, common.get(name, {}))])


def explainer_for(metric):
    """Ties for the curves and where places are compared, a promise for completeness, a map of what the model does not
    see, and smooth maps.

    A map without ties often has no place in common with a random truth, so that all shares of places are 0.
    """
    curves = ("deletion", "insertion", "srg", "aopc", "abpc", "selectivity", "irof", "road", "abc", "naopc")
    if metric in (*curves, "rank_agreement", "signed_rank_agreement"):
        return "coarse", {"name": coarse}
    if metric == "pointing_game":
        return "flat", {"name": flat}
    if metric == "difull":
        return chosen("input_magnitude", {})
    name = "integrated_gradients" if metric == "completeness" else "input_x_gradient"
    return chosen(name, {"steps": 3} if name == "integrated_gradients" else {})


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


def shuffled(cells):
    order = np.random.default_rng(SEED).permutation(len(cells))
    return {list(cells)[at]: cells[list(cells)[at]] for at in order}


def test_every_option_has_a_second_value_here():
    held = {name: entry for name, entry in METRICS.items() if entry.kind != "cost" and name not in HELD_ELSEWHERE}
    measured = {name: set(entry.options) for name, entry in held.items()}
    assert {name: set(options) for name, options in METRIC_OPTIONS.items()} == measured


@pytest.mark.parametrize("name", METRIC_OPTIONS)
def test_a_metric_scores_the_same_beside_itself_with_another_option_and_beside_all_the_others(name, world):
    explainer = explainer_for(name)
    cells = cells_of(name, METRIC_OPTIONS, COMMON)
    for group in variants(name, METRIC_OPTIONS, COMMON):
        values = [world.alone(explainer, cell) for cell in group]
        for i, first in enumerate(values):
            for second in values[:i]:  # else the comparison below could not fail
                assert not np.allclose(first, second, rtol=1e-6, atol=1e-9, equal_nan=True), [
                    label for label, _ in group
                ]
    together = world.beside_all(explainer[0])
    for label, options in cells.items():
        same(together[explainer[0], label], world.alone(explainer, (label, options)))


# They need a sum, a sign or a value that one of the explainers has not.
NOT_FOR_ALL = (
    "completeness",
    "complexity",
    "pointing_game",
    "truth_sign",
    "sign_agreement",
    "signed_rank_agreement",
)


def test_an_explainers_scores_are_the_same_beside_another_explainers(world):
    """The explainer that a metric has when it is measured alone comes after others, whose memos it must not find."""
    explainers = {"saliency": {}, "coarse": {"name": coarse}, **dict([chosen("input_x_gradient", {})])}
    cells = {}
    for name, options in METRIC_OPTIONS.items():
        if options and name not in NOT_FOR_ALL:
            own = explainer_for(name)
            for cell in next(variants(name, METRIC_OPTIONS, COMMON))[:1]:
                cells[cell[0]] = cell, own if own[0] in explainers else list(explainers.items())[-1]
    together = world.measure(explainers, dict(cell for cell, _ in cells.values()))
    for label, (cell, own) in cells.items():
        same(together[own[0], label], world.alone(own, cell))
