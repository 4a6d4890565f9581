"""What XAI-TRIS claims, with its tests: suppressors, edge filters, controls, and the defects of the released scores."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest, hypergeom, norm

import harness
from harness.datasets.tetrominoes import SCENARIOS, TetrominoOptions
from harness.datasets.xai_tris import family_of
from harness.models.xai_tris_models import build_linear
from harness.reproducing.findings import IDENTITY, PATTERN, Claim
from harness.reproducing.studies.shared.mean_tests import T_TEST, mean_above_p
from harness.reproducing.studies.xai_tris.scores import (
    CONSTANT,
    DEEP_TAYLOR,
    EDGES,
    EMD,
    FALSE_MASS,
    GUIDED_GRAD_CAM,
    METHODS,
    NO_NET,
    ORACLE,
    PRECISION,
    SOFTMAX,
    UNIFORM,
)
from harness.reproducing.studies.xai_tris.theory import (
    CORRELATED,
    SIDE,
    WHITE,
    BackgroundCovariance,
    class_difference,
    largest_change_off_mask,
    optimal_weights,
    share_off,
)
from harness.results.level import ALPHA, holm

PAPER = "Clark et al. 2023, arXiv:2306.12816"
CODE = f"{PAPER}, released code"
PIXELS = SIDE**2
AUTHORS_NORMALISER, LARGEST_DISTANCE = (2 * PIXELS) ** 0.5, 2**0.5 * (SIDE - 1)
NOISE_FLOORS = (0.0, 1e-8, 1e-4, 1e-2, 1.0)  # as shares of the background's deviation
LEAST_FLOOR = 1e-4  # below it the covariance is too near to a singular one to be multiplied with
ROUNDING = 1e-6
DISTANCE = "earth mover's distance"
COMPARED_METRICS = {PRECISION: "precision", EMD: DISTANCE}
OF_PAPER = [*METHODS, *GUIDED_GRAD_CAM, *DEEP_TAYLOR]
RESAMPLES = 2000


def of_authors(emd_score: pd.Series | np.ndarray | float) -> pd.Series | np.ndarray | float:
    """The authors' score 1 - EMD / sqrt(128) from ours, 1 - EMD / 9.9 (defect D15)."""
    return 1 - (1 - emd_score) * LARGEST_DISTANCE / AUTHORS_NORMALISER


def as_in_the_paper(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of the paper's methods as it explains them: the softmax, or the net without it for Deep Taylor."""
    explained = (scores["score"] == SOFTMAX) | scores["explainer"].isin(DEEP_TAYLOR)
    return scores[explained & scores["explainer"].isin(OF_PAPER)]


# ---- suppressors -----------------------------------------------------------------------------------------------------


def claims_of_theory(seeds: Sequence[int], images: int) -> list[Claim]:
    """What holds without training: where the class is, where the best weights are, and where their pattern is."""
    changes = {scenario: largest_change_off_mask(scenario, seeds, images) for scenario in SCENARIOS}
    mask = class_difference() != 0
    weights = {floor: share_off(optimal_weights(CORRELATED, floor), mask) for floor in NOISE_FLOORS}
    of_white = max(share_off(optimal_weights(WHITE, floor), mask) for floor in NOISE_FLOORS)
    patterns = [
        share_off(BackgroundCovariance(backdrop, floor).times(optimal_weights(backdrop, floor)), mask)
        for backdrop, floor in product((WHITE, CORRELATED), NOISE_FLOORS)
        if floor >= LEAST_FLOOR
    ]
    shares = ", ".join(f"{share:.2f} (noise {floor:g})" for floor, share in weights.items())
    return [
        Claim(
            name="no class off the mask",
            kind=IDENTITY,
            says="Off the mask an image is its background, whatever its class: these pixels do not tell the class.",
            holds=max(changes.values()) <= ROUNDING,
            measured=f"largest difference {max(changes.values()):.1e}, at most {ROUNDING:g}",
            why="rounding of 32-bit numbers of magnitude 1; all scenarios and backgrounds",
            source="algebra",
        ),
        Claim(
            name="optimal weights on suppressors",
            kind=IDENTITY,
            says=(
                "The weights of the Bayes-optimal linear model are 0 off the mask where the background is white, and "
                "not 0 where it is correlated."
            ),
            holds=of_white <= ROUNDING and min(weights.values()) > 0.1,
            measured=(
                f"share of the weights' magnitudes off the mask: white {of_white:.1e}, at most {ROUNDING:g}; "
                f"correlated {shares}, each above 0.1"
            ),
            why=(
                "inverse covariance times mean difference, in closed form; added white noise as a share of the "
                "background's deviation: rounding to 32 bits adds 1e-8, to 16 bits as in the release 1e-4"
            ),
            source="algebra; Haufe et al. 2014, doi 10.1016/j.neuroimage.2013.10.067",
        ),
        Claim(
            name="pattern on the mask",
            kind=IDENTITY,
            says="The pattern of these weights, covariance times weights, is 0 off the mask for both backgrounds.",
            holds=max(patterns) <= ROUNDING,
            measured=f"largest share off the mask {max(patterns):.1e}, at most {ROUNDING:g}",
            why=f"rounding; with noise of at least {LEAST_FLOOR:g}, where the covariance can be multiplied with",
            source="algebra; Haufe et al. 2014, doi 10.1016/j.neuroimage.2013.10.067",
        ),
    ]


def claims_of_linear_nets(white: pd.DataFrame, correlated: pd.DataFrame) -> list[Claim]:
    """That trained linear nets use suppressors too; tables of ``linear_net_weights`` with the same seeds."""
    gap = (correlated["weights_off"] - white["weights_off"]).to_numpy()
    alike, by_chance = (each["agreement"].dropna().to_numpy() for each in (correlated, white))
    holds, p = mean_above_zero(gap)
    same, p_same = mean_above_zero(alike)
    return [
        Claim(
            name="weights of linear nets",
            kind=PATTERN,
            says="Linear nets have more of their weights off the mask where the background is correlated than white.",
            holds=holds,
            measured=(
                f"share off the mask {correlated['weights_off'].mean():.2f} against {white['weights_off'].mean():.2f}, "
                f"more by {mean_and_error(gap)}, above 0; p = {p:.1g}"
            ),
            why=f"one-sided {T_TEST} of differences, paired over seeds of data and training, at {ALPHA:g}",
            source=PAPER,
            n=len(gap),
        ),
        Claim(
            name="suppressors and no noise",
            kind=PATTERN,
            says=(
                "With a correlated background independent linear nets agree on the weights off the mask, which so are "
                "no errors of estimation."
            ),
            holds=same,
            measured=(
                f"cosine of two nets' weights off the mask {mean_and_error(alike)}, above 0; p = {p_same:.1g}; with "
                f"white backgrounds {mean_and_error(by_chance)}, by chance 0 with a deviation of 0.13 for each pair"
            ),
            why=f"one-sided {T_TEST} over pairs of nets with different data and training, at {ALPHA:g}",
            source="algebra: suppressors are the same in every data set, errors of estimation are not",
            n=len(alike),
        ),
    ]


def claims_of_false_mass(scores: pd.DataFrame) -> Iterator[Claim]:
    """That methods put more attribution off the mask with the correlated than with the white background, by net."""
    linear = as_in_the_paper(scores[scores["scenario"] == "linear"]).dropna(subset=[FALSE_MASS])
    means = linear.groupby(["net", "explainer", "backdrop", "seed"])[FALSE_MASS].mean().unstack("backdrop")
    gaps = (means[CORRELATED] - means[WHITE]).dropna()
    overall = gaps.groupby(["net", "seed"]).mean().unstack("seed")
    above, below = (holm(np.array([mean_above_p(sign * each) for each in overall.to_numpy()])) for sign in (1, -1))
    for net, corrected, opposite in zip(overall.index, above, below, strict=True):
        own, by_method = overall.loc[net].to_numpy(), gaps.loc[net].unstack("seed")
        always = by_method.index[(by_method > 0).all(axis=1)]
        rest = sorted(set(by_method.index) - set(always))
        yield Claim(
            name=f"attribution on suppressors, {net}",
            kind=PATTERN,
            says=(
                f"Scenario linear, {net}: methods put more attribution off the mask where the background is "
                "correlated than where it is white."
            ),
            holds=True if corrected < ALPHA else (False if opposite < ALPHA else None),
            measured=(
                f"share of attribution off the mask, mean over methods {means.loc[net][CORRELATED].mean():.2f} against "
                f"{means.loc[net][WHITE].mean():.2f}, more by {mean_and_error(own)}, above 0; corrected p = "
                f"{corrected:.1g}; more with every seed for {len(always)} of {len(by_method)} methods"
                + (f", not for {', '.join(rest)}" if rest else "")
            ),
            why=f"one-sided {T_TEST} of differences, paired over seeds, Holm-corrected for nets, at {ALPHA:g}",
            source=PAPER,
            n=len(own),
        )


# ---- edge filters ----------------------------------------------------------------------------------------------------


def claims_of_edges(scores: pd.DataFrame, unexpected: dict[tuple[str, str, str], str]) -> Iterator[Claim]:
    """That at least half of the methods are no better than an edge filter, by metric, scenario and the paper's
    backgrounds; ``unexpected`` has those for which this is not so here, with what was tried."""
    settings = _paper_settings(scores)
    level = 1 - ALPHA / (2 * len(settings))
    for (metric, words), (scenario, backdrop) in product(COMPARED_METRICS.items(), settings):
        own = scores[(scores["scenario"] == scenario) & (scores["backdrop"] == backdrop)]
        methods, edges = methods_and_edges(own, metric)
        lead, low, high = median_lead(methods, edges, level)
        best, noise = edges.mean().idxmax(), own.loc[own["explainer"] == UNIFORM, metric].mean()
        above = int((methods.mean() > edges.mean().max()).sum())
        tried = unexpected.get((words, scenario, backdrop), "")
        yield Claim(
            name=f"edge filters by {words}, {scenario}, {backdrop}",
            kind=PATTERN,
            says=(
                f"{scenario}, {backdrop} background: by {words} at least half of the methods are no better than an "
                "edge filter."
            ),
            holds=True if high <= 0 else (False if low > 0 else None),
            measured=(
                f"median method {methods.mean().median():.3f}, {best} {edges.mean().max():.3f}; more by {lead:.3f} "
                f"[{low:.3f}, {high:.3f}], at most 0; {above} of {methods.shape[1]} methods on nets have a higher "
                f"mean; uniform noise {noise:.3f}"
            ),
            why=(
                f"interval of {level:.1%}, so that all {2 * len(settings)} hold together in 95 %, from resampling the "
                "images of each data set; it speaks of these nets"
            ),
            source=f"{PAPER}, abstract: often no better than edge detection; half, in each setting, is our reading",
            n=len(methods),
            expected=not tried,
            tried=tried,
        )


def shares_behind_edges(scores: pd.DataFrame) -> str:
    """How many methods on nets have a mean that is no higher than the best edge filter's, over all settings."""
    words = []
    for metric, name in COMPARED_METRICS.items():
        behind = []
        for scenario, backdrop in _paper_settings(scores):
            own = scores[(scores["scenario"] == scenario) & (scores["backdrop"] == backdrop)]
            methods, edges = methods_and_edges(own, metric)
            behind += (methods.mean() <= edges.mean().max()).tolist()
        words.append(f"{sum(behind)} of {len(behind)} by {name}")
    return ", ".join(words)


def _paper_settings(scores: pd.DataFrame) -> list[tuple[str, str]]:
    """The scenarios and the backgrounds that the paper has at this size."""
    settings = scores.groupby(["scenario", "backdrop"], sort=False).groups
    return [(scenario, backdrop) for scenario, backdrop in settings if backdrop in (WHITE, CORRELATED)]


def methods_and_edges(own: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores of one setting by seed and image: of the methods on nets, and of the edge filters for the same images.

    A method that lacks a score is left out.
    """
    index = ["seed", "image"]
    methods = as_in_the_paper(own).pivot(index=index, columns=["net", "explainer"], values=metric).dropna(axis=1)
    edges = own[own["explainer"].isin(EDGES)].pivot(index=index, columns="explainer", values=metric)
    return methods, edges.loc[methods.index]


def median_lead(methods: pd.DataFrame, edges: pd.DataFrame, level: float) -> tuple[float, float, float]:
    """By how much the median of the methods' means exceeds the best edge filter's mean, with an interval.

    ``methods`` and ``edges`` have a row for each image, the same ones, with the data set's seed as the first level of
    the index. Images are resampled within their data sets.
    """
    draw, weights = np.random.default_rng(0), np.zeros((RESAMPLES, len(methods)))
    seeds = methods.index.get_level_values(0).to_numpy()
    for seed in np.unique(seeds):
        rows = np.flatnonzero(seeds == seed)
        weights[:, rows] = draw.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=RESAMPLES)
    weights = np.vstack([np.ones(len(methods)), weights]) / len(methods)
    leads = np.median(weights @ methods.to_numpy(), axis=1) - (weights @ edges.to_numpy()).max(1)
    low, high = np.quantile(leads[1:], [(1 - level) / 2, (1 + level) / 2])
    return float(leads[0]), float(low), float(high)


# ---- controls, nets and defects --------------------------------------------------------------------------------------


def claims_of_controls(scores: pd.DataFrame) -> list[Claim]:
    """Scores of controls that are known beforehand; that nets have learnt; and that no score is lost."""
    oracle, constant = (scores[scores["explainer"] == name] for name in (ORACLE, CONSTANT))
    wrong = max(float((1 - oracle[[PRECISION, EMD]]).abs().max().max()), float(oracle[FALSE_MASS].abs().max()))
    off = float((constant[PRECISION] - mask_sizes(constant) / PIXELS).abs().max())
    return [
        Claim(
            name="oracle",
            kind=IDENTITY,
            says="The mask itself has precision 1, no distance, and no mass off the mask, in every setting.",
            holds=wrong <= ROUNDING,
            measured=f"largest difference {wrong:.1e}, at most {ROUNDING:g}",
            why="rounding",
            source="algebra",
        ),
        Claim(
            name="constant map",
            kind=IDENTITY,
            says="A map that is the same everywhere has precision n / 64: ties count as their mean over all orders.",
            holds=off <= ROUNDING,
            measured=f"largest difference {off:.1e}, at most {ROUNDING:g}",
            why="rounding",
            source="algebra",
        ),
        _random_precision(scores[scores["explainer"] == UNIFORM]),
        _nets_have_learnt(scores[scores["net"] != NO_NET]),
        _nothing_failed(scores),
    ]


def mask_sizes(scores: pd.DataFrame) -> pd.Series:
    """How many pixels the mask has: those of one shape under ``rotation``, else of both."""
    return scores["scenario"].map(lambda scenario: 4 if scenario == "rotation" else 8)


def _random_precision(noise: pd.DataFrame) -> Claim:
    sizes = mask_sizes(noise).to_numpy()
    expected, deviation = sizes / PIXELS, hypergeom(PIXELS, sizes, sizes).std() / sizes
    z = float((noise[PRECISION] - expected).sum() / np.sqrt((deviation**2).sum()))
    return Claim(
        name="random noise",
        kind=PATTERN,
        says="The precision of uniform noise is n / 64 in expectation.",
        holds=bool(abs(z) <= norm.ppf(0.9995)),
        measured=(
            f"mean {noise[PRECISION].mean():.4f}, expected {expected.mean():.4f}; {z:.2f} standard errors apart, at "
            f"most {norm.ppf(0.9995):.2f}"
        ),
        why="two-sided z test at 0.001 with the hypergeometric deviation, which is known",
        source="algebra",
        n=len(noise),
    )


def _nets_have_learnt(scores: pd.DataFrame) -> Claim:
    nets = scores.groupby(["scenario", "backdrop", "net", "seed"], sort=False)[["accuracy", "tested", "right"]].first()
    worst = nets["accuracy"].idxmin()
    accuracy, tested, _ = nets.loc[worst]
    p = min(1.0, len(nets) * binomtest(round(accuracy * tested), int(tested), 0.5, alternative="greater").pvalue)
    return Claim(
        name="nets have learnt",
        kind=PATTERN,
        says="Every net does better than chance on test images, so that there is something to explain.",
        holds=True if p < ALPHA else None,
        measured=(
            f"least accuracy {accuracy:.2f} ({worst[2]}, {worst[0]}, {worst[1]}), mean {nets['accuracy'].mean():.2f}; "
            f"corrected p = {p:.1g}; all nets of a setting are right on {nets['right'].min():.0f} to "
            f"{nets['right'].max():.0f} of {tested:.0f} images"
        ),
        why=f"one-sided binomial test of the worst of {len(nets)} nets, Bonferroni-corrected, at {ALPHA:g}",
        source="a precondition",
        n=int(tested),
    )


def _nothing_failed(scores: pd.DataFrame) -> Claim:
    counts = scores["status"].value_counts()
    failed = int(counts.get("failed", 0))
    refused = scores[scores["status"] == "not_applicable"].groupby(["net", "explainer"]).size()
    words = ", ".join(f"{explainer} on the {net}" for net, explainer in refused.index) or "none"
    empty = int((scores[EMD].isna() & (scores["status"] == "") & (scores["score"] == SOFTMAX)).sum())
    return Claim(
        name="no score is lost",
        kind=IDENTITY,
        says="No method fails on any image; a method that does not apply to a net has rows that say so.",
        holds=failed == 0,
        measured=(
            f"{failed} failures in {len(scores):,} maps; not applicable: {words}; {empty} maps of zeros have no "
            "distance"
        ),
        why="a count; the release drops images whose scores raise an error (defect D13)",
        source=CODE,
    )


def claims_of_defects() -> list[Claim]:
    """What the released scores would do (defects D14 and D15)."""
    corner = torch.zeros(2, SIDE, SIDE)
    corner[0, 0, 0] = corner[1, -1, -1] = 1
    apart = distance_score(corner[:1], corner[1:])
    shape = torch.zeros(2, SIDE, SIDE)
    shape[0, 1:4, 1] = shape[1, 4:7, 5] = 1  # the same bar, moved by 3 rows and 4 columns
    moved = (1 - distance_score(shape[:1], shape[1:])) * LARGEST_DISTANCE
    signs = family_of(TetrominoOptions("xor", WHITE), SIDE).signals(np.arange(4)).reshape(4, -1)
    best = [float((sign == 1).sum() / (sign != 0).sum()) for sign in signs]
    empty = int((signs.sum(1) == 0).sum())
    return [
        Claim(
            name="normaliser of the distance",
            kind=IDENTITY,
            says="No score by the released 1 - EMD / sqrt(128) is below 0.125; by the largest distance it can be 0.",
            holds=abs(apart) <= ROUNDING and abs(of_authors(apart) - 0.125) <= ROUNDING,
            measured=(
                f"all mass in the opposite corner: {of_authors(apart):.6f} by sqrt(128), {abs(apart):.6f} by sqrt(98)"
            ),
            why="exact: all mass moves sqrt(98) pixels; sqrt(98 / 128) = 0.875 (defect D15)",
            source=CODE,
        ),
        Claim(
            name="exact distance",
            kind=IDENTITY,
            says="The distance of a shape from the same shape moved by 3 rows and 4 columns is 5 pixels.",
            holds=abs(moved - 5) <= ROUNDING,
            measured=f"{moved:.8f}, 5 but for {ROUNDING:g}",
            why="no plan is cheaper than moving the centre of mass, and moving every pixel by it is a plan",
            source="algebra",
        ),
        Claim(
            name="signed masks of xor",
            kind=IDENTITY,
            says="With the released signed masks the right map of xor has a mean precision of 0.5; here it has 1.",
            holds=abs(np.mean(best) - 0.5) <= ROUNDING and empty == 2,
            measured=f"best possible for the four kinds of image {best}; the mask of {empty} of them sums to 0",
            why="only pixels of +1 count there; here the mask is absolute and of both shapes (defect D14)",
            source=CODE,
        ),
    ]


def distance_score(maps: torch.Tensor, truth: torch.Tensor) -> float:
    """The registered score 1 - EMD / 9.9 of one map (1, 8, 8)."""
    data = harness.Data(torch.zeros(1, 1, SIDE, SIDE), torch.zeros(1, dtype=torch.long), truth=truth, modality="image")
    return float(harness.score(EMD, build_linear().eval(), data, maps[:, None])[0])


def mean_above_zero(values: np.ndarray) -> tuple[bool | None, float]:
    """Whether the mean of values (n,) is above 0, by a one-sided test, and its p-value; False where it is below."""
    above, below = mean_above_p(values), mean_above_p(-values)
    return (True if above < ALPHA else (False if below < ALPHA else None)), above


def mean_and_error(values: np.ndarray) -> str:
    """The mean of values (n,) and its standard error, in words."""
    return f"{values.mean():.2f} ± {_error(values):.2f}"


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))
