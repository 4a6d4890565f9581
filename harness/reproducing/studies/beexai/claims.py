"""The claims of the study beexai: identities on a linear net, and how families of metrics rank Saliency over tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.reproducing.findings import IDENTITY, PATTERN, Claim
from harness.reproducing.studies.beexai.ranks import MIDDLE, friedman_p, ranks_by_table
from harness.reproducing.studies.beexai.scores import (
    EXPLAINERS_OF_PAPER,
    PLAIN_PART,
    REGISTERED,
    RELEASED,
)
from harness.reproducing.studies.shared.mean_tests import LEVEL, NOT_CORRECTED, SIGNS_AND_T, means_all_above
from harness.results.blocks import critical_difference
from harness.results.level import holm

FAITHFULNESS, ROBUSTNESS = ("FaithCorr", "Comprehensiveness", "Sufficiency"), ("Infidelity", "Sensitivity")
SALIENCY, SHAPLEY = "Saliency", "ShapleyValueSampling"
PUBLISHED = "BEExAI benchmark, mean ranks over 53 tables, computed from its authors' tables"
HERE = "this study"
EXACT_TEST = f"{SIGNS_AND_T} over tables at {LEVEL:g}, one-sided, seeds averaged within a table; {NOT_CORRECTED}"
EACH_PASSES = f"{EXACT_TEST}; each of the metrics has to pass, so that nothing has to be corrected"
TRIED = "the released definitions beside ours, logits and probabilities, and several seeds of each net"


def exact_claims_of_tables(checks: pd.DataFrame) -> list[Claim]:
    """Identities on a linear net, from ``exact_checks``."""
    found = checks.set_index("check")["largest"]
    identity = lambda name, says, bound, why: Claim(
        name=name,
        kind=IDENTITY,
        says=says,
        holds=found[name] <= bound,
        measured=f"largest difference {found[name]:.1e}, at most {bound:g}",
        why=why,
        source="algebra",
    )
    return [
        identity(
            "same map",
            "On a linear net IG, DeepLIFT and Shapley sampling are the map of input times weight.",
            1e-5,
            "rounding of single precision, as a share of the largest number of the map",
        ),
        identity(
            "infidelity of gradient",
            "On a linear net the gradient, not scaled, has the released infidelity 0.",
            1e-10,
            "rounding, as a share of the infidelity of a map of zeros",
        ),
        identity(
            "drops",
            "On a linear net the drops of the output without each column correlate with input times weight by 1.",
            1e-10,
            "rounding; 1 less the correlation",
        ),
        identity("saliency", "Saliency is the absolute value of the gradient.", 0.0, "the same numbers"),
    ]


def tendencies_of_tables(scores: dict[str, pd.DataFrame]) -> list[Claim]:
    """Patterns over tables; ``scores`` protocol -> columns table, seed, explainer, metric and value."""
    released, registered = scores[RELEASED], scores[REGISTERED]
    return [
        _families_disagree(released, RELEASED),
        _families_disagree(registered, REGISTERED),
        _ranked(released, RELEASED, SALIENCY, FAITHFULNESS, worse=True),
        _ranked(released, RELEASED, SALIENCY, ROBUSTNESS, worse=False),
        _ranked(released, RELEASED, SHAPLEY, FAITHFULNESS, worse=False),
        _ranked(registered, REGISTERED, SALIENCY, FAITHFULNESS, worse=True),
        _ranked(registered, REGISTERED, SALIENCY, ("Sensitivity",), worse=False),
        _ranked(registered, REGISTERED, SALIENCY, ("Infidelity",), worse=False, expected=False),
        *_explainers_differ(released),
        _zeros_are_better(released),
        _shapley_beats_random(released),
    ]


def _families_disagree(scores: pd.DataFrame, protocol: str) -> Claim:
    """That Saliency has a worse rank by the faithfulness metrics together than by the robustness metrics together."""
    ranks = {metric: ranks_by_table(scores, metric)[SALIENCY] for metric in (*FAITHFULNESS, *ROBUSTNESS)}
    of_family = lambda family: pd.concat([ranks[metric] for metric in family], axis=1).mean(axis=1, skipna=False)
    faithful, robust = of_family(FAITHFULNESS), of_family(ROBUSTNESS)
    both = pd.concat([faithful, robust], axis=1).dropna()  # the tables that have both
    gap = (both[0] - both[1]).to_numpy()
    holds, p = means_all_above([gap])
    return Claim(
        name=f"families disagree, {protocol}",
        kind=PATTERN,
        says=f"By the {protocol} families disagree on Saliency: its mean rank by {_metrics_in_words(FAITHFULNESS)} is "
        f"worse than that by {_metrics_in_words(ROBUSTNESS)}.",
        holds=holds,
        measured=f"mean rank {both[0].mean():.2f} and {both[1].mean():.2f}; difference {gap.mean():.2f}, more than 0; "
        f"p {p:.3f}",
        why=EXACT_TEST,
        source=PUBLISHED,
        n=len(gap),
    )


def _ranked(
    scores: pd.DataFrame,
    protocol: str,
    explainer: str,
    metrics: Sequence[str],
    *,
    worse: bool,
    expected: bool = True,
) -> Claim:
    """That an explainer's rank is below, or above, the middle one by each of the metrics."""
    ranks = {metric: ranks_by_table(scores, metric) for metric in metrics}
    sign = 1 if worse else -1
    holds, largest = means_all_above([sign * (each[explainer] - MIDDLE).to_numpy() for each in ranks.values()])
    words = ", ".join(f"{name} {_place_in_words(each, explainer)}" for name, each in ranks.items())
    side = "worse" if worse else "better"
    extra: dict[str, Any] = {} if expected else {"expected": False, "tried": TRIED}
    return Claim(
        name=f"{explainer} is {side} by {' and '.join(metrics)}, {protocol}",
        kind=PATTERN,
        says=f"By the {protocol} {explainer} is {side} than the middle of the six explainers on nets of tables by "
        f"{_metrics_in_words(metrics)}.",
        holds=holds,
        measured=f"mean rank, {'more' if worse else 'less'} than {MIDDLE:g}: {words}; largest p {largest:.3f}",
        why=EACH_PASSES if len(metrics) > 1 else EXACT_TEST,
        source=PUBLISHED,
        n=min(len(each) for each in ranks.values()),
        **extra,
    )


def _place_in_words(ranks: pd.DataFrame, explainer: str) -> str:
    means = ranks.mean()
    place = int((means < means[explainer]).sum()) + 1
    return f"{means[explainer]:.2f} (place {place} of {len(means)})"


def _metrics_in_words(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _explainers_differ(scores: pd.DataFrame) -> list[Claim]:
    """Friedman's test by each metric of the two families, corrected after Holm."""
    ranks = {metric: ranks_by_table(scores, metric) for metric in (*FAITHFULNESS, *ROBUSTNESS)}
    corrected = holm(np.array([friedman_p(each.to_numpy()) for each in ranks.values()]))
    found = dict(zip(ranks, corrected, strict=True))
    return [
        Claim(
            name=f"explainers differ by {metric}",
            kind=PATTERN,
            says=f"The ranks of the six explainers by {metric} as released differ over tables.",
            holds=True if found[metric] <= LEVEL else None,
            measured=f"p {found[metric]:.4f}, at most {LEVEL:g}; Nemenyi's critical difference of mean ranks is "
            f"{critical_difference(len(EXPLAINERS_OF_PAPER), len(each)):.1f}",
            why=f"Friedman's test by permutations in tables (20,000 draws), corrected (Holm) for {len(ranks)} metrics",
            source=HERE,
            n=len(each),
        )
        for metric, each in ranks.items()
    ]


def by_table(scores: pd.DataFrame, explainer: str, metric: str) -> pd.Series:
    """The mean value over seeds for each table."""
    own = scores[(scores["explainer"] == explainer) & (scores["metric"] == metric)]
    return own.groupby("table", sort=False)["value"].mean()


def _zeros_are_better(scores: pd.DataFrame) -> Claim:
    """That no explainer has as low a released infidelity as a map of zeros."""
    gaps = {
        each: by_table(scores, each, "Infidelity") / by_table(scores, each, PLAIN_PART) - 1
        for each in EXPLAINERS_OF_PAPER
    }
    holds, largest = means_all_above([each.dropna().to_numpy() for each in gaps.values()])
    words = ", ".join(f"{name} {1 + gap.mean():.2f}" for name, gap in gaps.items())
    return Claim(
        name="zeros are better",
        kind=PATTERN,
        says="By the infidelity of the released code a map of zeros is better than each of the six explainers.",
        holds=holds,
        measured=f"infidelity over that of zeros, mean over tables, more than 1: {words}; largest p {largest:.3f}",
        why=EACH_PASSES.replace("metrics", "explainers"),
        source=f"{HERE}: attributions have norm 1 over a table, whatever the output's scale, and the perturbed input "
        "is noise alone",
        n=min(len(each.dropna()) for each in gaps.values()),
    )


def _shapley_beats_random(scores: pd.DataFrame) -> Claim:
    """The control: Shapley sampling against a random map."""
    gap = (by_table(scores, SHAPLEY, "FaithCorr") - by_table(scores, "random", "FaithCorr")).dropna().to_numpy()
    holds, p = means_all_above([gap])
    return Claim(
        name="control",
        kind=PATTERN,
        says="Shapley sampling has a higher faithfulness correlation than a random map.",
        holds=holds,
        measured=f"mean difference {np.mean(gap):.3f}, more than 0; p {p:.3f}",
        why=EXACT_TEST,
        source="control",
        n=len(gap),
    )
