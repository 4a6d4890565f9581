"""What the degradation ladder shows: which metrics rank it rightly, F-Fidelity beside others, controls and reasons."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from harness.reproducing.findings import IDENTITY, PATTERN, Claim
from harness.reproducing.studies.degradation_ladder.grounds import EXACT_GROUNDS, IMAGE_GROUNDS
from harness.reproducing.studies.degradation_ladder.order import (
    Climb,
    chance_of_order,
    climbs_of,
    p_of_means,
    verdict_on_climbs,
)
from harness.reproducing.studies.degradation_ladder.scores import (
    BLURRED,
    BLURRED_NOISE,
    CONSTANT,
    DRAWN,
    F_FIDELITY,
    FIDELITY,
    OF_MAGNITUDES,
    RANDOM_FIDELITY,
    ROAD,
    ROAR,
    RUNGS,
    SIGMAS,
    UNTUNED,
)
from harness.reproducing.studies.degradation_ladder.tables import LadderTables
from harness.results.level import ALPHA, holm
from harness.results.ties import difference

F_FIDELITY_PAPER = "Zheng et al. 2025, arXiv:2410.02970"
BLUR_PAPER = "arXiv:2304.13836v5, abstract, second-hand"
ALGEBRA = "algebra"
ROUNDING = 1e-5  # of sums and correlations in single precision
SQUARE_ROUNDING = 1e-3  # relative, of a mean of squares in single precision
ORDER_TEST = (
    "it holds where on every ground the means are in order, which by chance has probability "
    f"1/{round(1 / chance_of_order(len(RUNGS)))}, and the fall from first to last is sure, and fails where a step is "
    "surely reversed: paired sign flips, two-sided, Holm over the falls or the steps of all grounds of a metric, "
    f"{ALPHA:.0%}"
)
# Of metrics that train models anew: samples that share these models are not independent of them.
FIXED_MODELS = "; of ROAR for the models that were trained, as samples alone are drawn"
# Metrics that are not in the order of the exact ladders, with the reason and what was tried.
MISRANKED = {
    ROAR: (
        "the magnitudes of the maps (a claim of its own: one step is out of order, but not surely); one and two "
        "trainings for each share, 200 and 400 samples: the order stays reversed. Reason: removal by a signed map of "
        "the predicted class takes what speaks for the class and leaves what speaks against it, so that what is left "
        "tells the class (a claim of its own), and the retrained model reads it with the other sign"
    ),
    "explanation_consistency": (
        "200, 400 and 1,000 samples: no order on the linear table. Reason: it asks whether inputs with the same most "
        "important column have the same prediction. The column has no sign, so that on the linear table the answer is "
        "1/2 for every map but for sampling (an identity of its own). On images few inputs have the same explanation "
        "as another one, so that most samples lack a score on some rung"
    ),
    "minimal_subset": (
        "200, 400 and 1,000 samples: the first rungs stay equal on the linear models. Reason: against an input of "
        "zeros, where both classes are about equally probable, one unit that speaks for the class decides; nearly "
        "every sample needs one unit or none, and little noise leaves such a unit on top"
    ),
}
# Metrics whose order is not sure, with what was tried.
UNSURE = {
    "average_gain": (
        "1,000 samples: in order on every ground. The map is a brightness, which little noise changes little"
    ),
    "average_increase": (
        "1,000 samples: in order on every ground, with a first step that is not sure. It counts samples whose "
        "probability rises when the map is a brightness, and little noise changes few of them"
    ),
    "explanation_sufficiency": (
        "1,000 samples: in order on every ground. Only the most important tenth of the parts counts, which little "
        "noise seldom changes"
    ),
    "sic": (
        "1,000 samples: the first step stays unsure. A possible reason, not tested: the image starts from pixels that "
        "are interpolated, and not from the zeros that contributions are measured against"
    ),
}
# What was tried to let F-Fidelity recover the ladder better than its rivals.
TRIED_FIDELITY = (
    "beta .3 and .5 in place of .1, 200 draws in place of 50, 30 epochs of fine-tuning at a rate of .003 in place of "
    "10 at .001, the probability in place of accuracy, and the least important units in place of the most important. "
    "More units removed recover better, but as well without fine-tuning; so does the probability, but that of "
    "R-Fidelity is no worse. Reason: of a tenth of the units few decide, so that accuracies of few samples are "
    "coarse; and the models are about as right on inputs without a tenth of their units before fine-tuning as after "
    "it (90.6 and 90.7 %, 89.0 and 88.4 %, 87.7 and 87.6 %, 98.8 and 99.0 % on the four grounds), so that there is "
    "nothing to repair"
)

# What was tried to let a blur improve a metric.
TRIED_BLUR = {
    OF_MAGNITUDES: (
        "the clean and a noisy map, contributions and Integrated Gradients: the blur improves clean maps of the net, "
        "whose removed pixels alone tell the class, and harms those of the linear model"
    ),
    ROAD: (
        "the clean and a noisy map, contributions and Integrated Gradients, blurs of half a pixel and of one: no gain. "
        "Images of 8 x 8 pixels in white noise, where neighbours say little of a pixel, are unlike photographs"
    ),
}


def ladder_identities(tables: LadderTables, mirrored: pd.Series) -> Iterator[Claim]:
    """What holds exactly but for rounding."""
    sums = {ground: tables.facts[ground]["sum_error"] for ground in tables.among(EXACT_GROUNDS)}
    yield _exact_claim(
        "contributions add up",
        "The clean maps of the exact grounds add up to logit(x) - logit(0).",
        sums,
        ROUNDING,
        "largest difference over the largest logit",
    )
    linear = {ground: each["pearson_error"] for ground, each in tables.facts.items() if pd.notna(each["pearson_error"])}
    yield _exact_claim(
        "estimate is pearson",
        "On a linear model faithfulness_estimate is the Pearson correlation of a rung's map and the contributions.",
        linear,
        ROUNDING,
        "largest difference over samples and rungs",
    )
    yield _exact_claim(
        "infidelity is quadratic",
        "On a linear model infidelity grows from 0 with the square of sigma, for the same draws of noise.",
        {ground: quadratic_error(tables, ground) for ground in linear},
        SQUARE_ROUNDING,
        "largest relative difference over samples and rungs",
    )
    yield Claim(
        name="consistency is one half",
        kind=IDENTITY,
        says="Where training inputs come in mirrored pairs, explanation_consistency of exact contributions is 1/2.",
        holds=bool(mirrored["distance"] <= ROUNDING),
        measured=f"largest distance from 1/2: {mirrored['distance']:.1e}, at most {ROUNDING:g}",
        why="an input and its mirror image have the same most important column and opposite classes",
        source=ALGEBRA,
        n=int(mirrored["n"]),
    )


def _exact_claim(name: str, says: str, errors: dict[str, float], bound: float, what: str) -> Claim:
    listed = ", ".join(f"{ground} {error:.1e}" for ground, error in errors.items())
    return Claim(
        name=name,
        kind=IDENTITY,
        says=says,
        holds=all(error <= bound for error in errors.values()),
        measured=f"{what}: {listed}; at most {bound:g}",
        why="rounding of single precision",
        source=ALGEBRA,
    )


def quadratic_error(tables: LadderTables, ground: str) -> float:
    """The largest difference of infidelity and sigma^2 times that of sigma = 1, as a share of this product.

    The clean map's infidelity, which has to be 0, counts as a share of that of sigma = 1.
    """
    unit = tables.raw(ground, "infidelity", RUNGS[SIGMAS.index(1.0)])
    errors = [
        np.abs((tables.raw(ground, "infidelity", rung) - sigma**2 * unit) / ((sigma or 1) ** 2 * unit)).max()
        for rung, sigma in zip(RUNGS, SIGMAS, strict=True)
    ]
    return float(np.max(errors))  # NaN where a score is missing


def order_claims(tables: LadderTables, metrics: Sequence[str]) -> list[Claim]:
    """Whether every metric ranks the exact ladders rightly: all together, and one by one, those that do not first."""
    found = {metric: climbs_of(tables.ladders(metric, EXACT_GROUNDS)) for metric in metrics}
    found = {metric: climbs for metric, climbs in found.items() if climbs}
    single = [_order_claim(metric, climbs) for metric, climbs in found.items()]
    verdicts = {metric: verdict_on_climbs(climbs) for metric, climbs in found.items()}
    right = sum(verdict is True for verdict in verdicts.values())
    wrong = [metric for metric, verdict in verdicts.items() if verdict is False]
    unsure = [metric for metric, verdict in verdicts.items() if verdict is None]
    every = Claim(
        name="every metric ranks",
        kind=PATTERN,
        says="Every registered faithfulness metric ranks exact contributions with more and more noise rightly.",
        holds=False if wrong else None if unsure else True,
        measured=f"{right} of {len(found)} do; reversed: {_names_or_none(wrong)}; not in order, or not sure: "
        f"{_names_or_none(unsure)}",
        why=f"{ORDER_TEST}, for each metric",
        source=f"the condition for a trustworthy metric in {F_FIDELITY_PAPER}, memory",
        n=max(climb.n for climbs in found.values() for climb in climbs.values()),
        expected=False,
        tried="see the claims of these metrics",
    )
    return [every, *sorted(single, key=lambda claim: (claim.holds is True, claim.holds is None))]


def _names_or_none(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _order_claim(metric: str, climbs: dict[str, Climb]) -> Claim:
    return Claim(
        name=f"{metric} ranks",
        kind=PATTERN,
        says=f"{metric} ranks exact contributions with more and more noise rightly.",
        holds=verdict_on_climbs(climbs),
        measured="; ".join(f"{ground}: {_climb_in_words(climb)}" for ground, climb in climbs.items()),
        why=f"{ORDER_TEST}{FIXED_MODELS if metric in (ROAR, OF_MAGNITUDES) else ''}",
        source=f"the condition for a trustworthy metric in {F_FIDELITY_PAPER}, memory",
        n=min(climb.n for climb in climbs.values()),
        expected=metric not in MISRANKED,
        tried=(MISRANKED | UNSURE).get(metric, ""),
    )


def _climb_in_words(climb: Climb) -> str:
    steps = f"{climb.sure} of {len(climb.steps)} steps sure"
    turned = f", {climb.turned} surely reversed" if climb.turned else ""
    return f"recovery {climb.recovery:.2f}, {steps}{turned}, n {climb.n}"


def degraded_ig_claim(tables: LadderTables, metrics: Sequence[str]) -> Claim:
    """Whether the metrics rank the ladder that starts from Integrated Gradients too."""
    ground = IMAGE_GROUNDS[1]
    found = {
        metric: climbs_of(tables.ladders(metric, (ground,))) for metric in metrics if tables.applies(ground, metric)
    }
    verdicts = {metric: verdict_on_climbs(climbs) for metric, climbs in found.items()}
    wrong = [f"{name} {found[name][ground].recovery:.2f}" for name, verdict in verdicts.items() if verdict is False]
    unsure = [f"{name} {found[name][ground].recovery:.2f}" for name, verdict in verdicts.items() if verdict is None]
    right = sum(verdict is True for verdict in verdicts.values())
    return Claim(
        name="every metric ranks degraded ig",
        kind=PATTERN,
        says="Every faithfulness metric ranks Integrated Gradients with more and more noise rightly (XAI-TRIS, xor).",
        holds=False if wrong else None if unsure else True,
        measured=f"{right} of {len(found)} do; recovery where reversed: {_names_or_none(wrong)}; where not in order, "
        f"or not sure: {_names_or_none(unsure)}",
        why=f"{ORDER_TEST}, for each metric",
        source=f"the condition for a trustworthy metric in {F_FIDELITY_PAPER}, memory",
        n=max(climbs[ground].n for climbs in found.values()),
        expected=False,
        tried="200 and 400 samples. The net is so sure of its class (mean probability above .99) that scores which ask "
        "whether the probability rises have hardly any room; Integrated Gradients is no ground truth either",
    )


def reason_claims(tables: LadderTables, samples: int) -> Iterator[Claim]:
    """Why ROAR reverses the ladder, and whether it ranks rightly what has no sign."""
    turned = {ground: int(tables.facts[ground]["turned"]) for ground in tables.among(EXACT_GROUNDS)}
    noisy = {ground: int(tables.facts[ground]["turned_by_noise"]) for ground in tables.among(EXACT_GROUNDS)}
    p = holm(np.array([binomtest(count, samples).pvalue for count in turned.values()]))
    sure = [value <= ALPHA for value in p]
    more = [count > samples / 2 for count in turned.values()]
    fewer = any(known and not above for known, above in zip(sure, more, strict=True))
    listed = "; ".join(
        f"{ground} {turned[ground] / samples:.0%}, with the most noise {noisy[ground] / samples:.0%}"
        for ground in turned
    )
    yield Claim(
        name="what is left tells the class",
        kind=PATTERN,
        says="What is left without the upper half of the exact contributions speaks for the other class.",
        holds=False if fewer else True if all(sure) else None,
        measured=f"predicted as the other class: {listed}; more than 50 %, largest p {max(p):.2g}",
        why=f"exact binomial test of one half, two-sided, corrected (Holm) over grounds, {ALPHA:.0%}",
        source="the reason that was found here for the order by ROAR",
        n=samples,
    )
    climbs = climbs_of(tables.ladders(OF_MAGNITUDES, EXACT_GROUNDS))
    if climbs:
        yield _order_claim(OF_MAGNITUDES, climbs)


def fidelity_claims(tables: LadderTables) -> list[Claim]:
    """F-Fidelity against its rivals: how well means of small groups of samples follow the ladder."""
    grounds = tables.grounds(F_FIDELITY, tuple(tables.scores))
    own = {ground: tables.in_groups(ground, F_FIDELITY) for ground in grounds}
    theirs = {
        rival: {ground: tables.in_groups(ground, rival) for ground in grounds if tables.applies(ground, rival)}
        for rival in (ROAR, OF_MAGNITUDES, FIDELITY, RANDOM_FIDELITY, UNTUNED)
    }
    theirs = {rival: each for rival, each in theirs.items() if each}
    differences = {
        rival: np.concatenate([own[ground] - groups for ground, groups in each.items()])
        for rival, each in theirs.items()
    }
    p = holm(_p_of_each(differences.values()))
    return [
        _fidelity_claim(tables.group, rival, own, theirs[rival], differences[rival], p_value)
        for rival, p_value in zip(theirs, p, strict=True)
    ]


def _fidelity_claim(
    size: int,
    rival: str,
    own: dict[str, np.ndarray],
    theirs: dict[str, np.ndarray],
    differences: np.ndarray,
    p: float,
) -> Claim:
    listed = ", ".join(
        f"{ground} {own[ground].mean():.3f} and {groups.mean():.3f}" for ground, groups in theirs.items()
    )
    mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(len(differences))
    said = "the purpose of its fine-tuning, memory" if rival == UNTUNED else "abstract, second-hand"
    expected = rival in (ROAR, OF_MAGNITUDES)
    return Claim(
        name=f"f-fidelity against {rival}",
        kind=PATTERN,
        says=f"F-Fidelity recovers the ladder better than {rival} does.",
        holds=None if p > ALPHA else bool(mean > 0),
        measured=f"recovery by F-Fidelity and by the other, mean over groups of {size} samples: {listed}; difference "
        f"{mean:+.3f} ± {error:.3f} (standard error), p {p:.2g}",
        why=f"paired sign flips over the groups of all grounds, corrected (Holm) over the comparisons, {ALPHA:.0%}"
        f"{FIXED_MODELS if rival in (ROAR, OF_MAGNITUDES) else ''}",
        source=f"{F_FIDELITY_PAPER}, {said}",
        n=len(differences),
        expected=expected,
        tried="" if expected else TRIED_FIDELITY,
    )


def blur_claims(tables: LadderTables) -> list[Claim]:
    """Whether a blur, which knows nothing of the model, improves the scores of ROAR and ROAD."""
    pairs = {"clean": (RUNGS[0], BLURRED), "noise 1": (RUNGS[SIGMAS.index(1.0)], BLURRED_NOISE)}
    claims = []
    for metric in (ROAR, OF_MAGNITUDES, ROAD):
        found = {
            f"{ground}, {kind}": _gain_over(tables, ground, metric, plain, blurred)
            for ground in tables.grounds(metric, IMAGE_GROUNDS)
            for kind, (plain, blurred) in pairs.items()
        }
        if found:
            claims.append(_blur_claim(metric, found))
    return claims


def _blur_claim(metric: str, found: dict[str, np.ndarray]) -> Claim:
    """The claim about one metric, from what it gains (n,) by a blur of several maps."""
    means, p = [float(each.mean()) for each in found.values()], holm(_p_of_each(found.values()))
    worse = any(mean < 0 and value <= ALPHA for mean, value in zip(means, p, strict=True))
    better = all(mean > 0 and value <= ALPHA for mean, value in zip(means, p, strict=True))
    listed = "; ".join(f"{kind} {mean:+.3f} (p {value:.2g})" for kind, mean, value in zip(found, means, p, strict=True))
    return Claim(
        name=f"blur improves {metric}",
        kind=PATTERN,
        says=f"A blur of the map, which knows nothing of the model, improves the score by {metric}.",
        holds=False if worse else True if better else None,
        measured=f"how much lower, and so better, the accuracy is: {listed}",
        why=f"paired sign flips, corrected (Holm) over grounds and maps, {ALPHA:.0%}"
        f"{FIXED_MODELS if metric in (ROAR, OF_MAGNITUDES) else ''}",
        source=BLUR_PAPER,
        n=len(next(iter(found.values()))),
        expected=metric not in TRIED_BLUR,
        tried=TRIED_BLUR.get(metric, ""),
    )


def control_claim(tables: LadderTables, metrics: Sequence[str]) -> Claim:
    """Whether exact contributions beat the controls by every metric."""
    found = {}
    for metric in metrics:
        for ground in tables.grounds(metric, EXACT_GROUNDS):
            for control in (CONSTANT, *DRAWN):
                if tables.has(ground, metric, control):
                    found[metric, ground, control] = _gain_over(tables, ground, metric, control)
    p = holm(_p_of_each(found.values()))
    beaten, preferred, unsure = 0, {}, {}
    for (metric, _, _), gain, value in zip(found, found.values(), p, strict=True):
        if value > ALPHA:
            unsure[metric] = unsure.get(metric, 0) + 1
        elif gain.mean() < 0:
            preferred[metric] = preferred.get(metric, 0) + 1
        else:
            beaten += 1
    counted = lambda counts: ", ".join(f"{metric} {count}" for metric, count in counts.items()) or "none"
    return Claim(
        name="controls lose",
        kind=PATTERN,
        says="By every faithfulness metric exact contributions score better than maps that know nothing of the model.",
        holds=False if preferred else None if unsure else True,
        measured=f"of {len(found)} comparisons of a metric, a ground and a control (constant, random, blurred random, "
        f"edge), {beaten} are won; lost: {counted(preferred)}; not sure: {counted(unsure)}",
        why=f"paired sign flips, corrected (Holm) over all comparisons, {ALPHA:.0%}; a metric without a score for "
        "constant maps is not compared with them",
        source="what any faithfulness metric should show",
        n=max(len(each) for each in found.values()),
        expected=False,
        tried=f"the reasons are those of the ladders. ROAR: {MISRANKED[ROAR]}",
    )


def _gain_over(tables: LadderTables, ground: str, metric: str, worse: str, better: str = RUNGS[0]) -> np.ndarray:
    """By how much the samples that have both scores score better with one map than with the other."""
    first, second = tables.signed(ground, metric, better), tables.signed(ground, metric, worse)
    known = np.isfinite(first) & np.isfinite(second)
    return difference(first[known], second[known])


def _p_of_each(differences: Iterable[np.ndarray]) -> np.ndarray:
    """The p-value of each mean difference, of differences (n,)."""
    return np.array([float(p_of_means(each[:, None])[0]) for each in differences])
