"""The claims of ``metaquantus`` about measured and planted scores (Hedström et al. 2023, arXiv:2302.07265)."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from harness.reproducing.findings import IDENTITY, Claim
from harness.reproducing.studies.metaquantus.consistency import COMPONENTS, DISRUPTIVE, MINOR
from harness.reproducing.studies.metaquantus.grounds import (
    LISTED,
    TINY,
    WORLDS,
    agreement_of_all_rankings,
    largest_gap_of_levels,
)
from harness.reproducing.studies.metaquantus.published import BOTH_TESTS, PAPER, benchmark_row
from harness.reproducing.studies.metaquantus.scores import (
    BLIND,
    CATEGORIES,
    DRAWING,
    EXPLAINERS_OF_METAQUANTUS,
    METRICS_OF_METAQUANTUS,
    MORE_SUBSETS,
    OF_MAP_ALONE,
    SIGNED_ENTROPY,
    SPACES,
    better_of,
)
from harness.reproducing.studies.shared.tendencies import Bounded, Tendency

ROUNDING = 1e-12  # of p-values and shares in double precision
ENUMERATED = 8  # changes, all of whose signs are tried
MC = "MC"
SEEN = f"{PAPER}, benchmarking table, seen"
FEWEST, MOST = 10, 160  # images of the planted metric
NULL_VARIANCE = {10: 1 / 9, 100: 1 / 99}  # of a correlation of so many pairs that have nothing to do with each other
ALLOWED = 0.2  # a share of that variance


def components_by_draw(tests: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """A row for each ``space``, ``metric`` and ``draw`` with the four components, their mean ``MC``, and of AR the
    shares ``equal`` and ``improved``; NaN where no prediction changed."""
    columns = []
    for (space, failing), rows in tests.items():
        of_part = {part: own for part, own in rows.groupby("part", sort=False)}
        for part, name in (("IAC", f"IAC_{failing}"), ("IEC", f"IEC_{failing}"), ("equal", "equal"), ("improved",) * 2):
            if part in of_part:
                values = of_part[part].groupby(["metric", "draw"], sort=False)["value"].mean()
                columns.append(pd.DataFrame({"space": space, "name": name, "value": values}).reset_index())
    table = pd.concat(columns).pivot(index=["space", "metric", "draw"], columns="name", values="value")
    table[MC] = table[list(COMPONENTS)].mean(axis=1, skipna=False)
    table.columns.name = None
    return table.reset_index()


def of_draws(table: pd.DataFrame, space: str, metric: str, column: str = MC) -> np.ndarray:
    """A column of ``components_by_draw`` for a metric, (draws,)."""
    return table[(table["space"] == space) & (table["metric"] == metric)].sort_values("draw")[column].to_numpy()


def mean_of_both(table: pd.DataFrame, metric: str) -> np.ndarray:
    """MC-bar of a metric, (draws,): a draw of noise on the weights and one on the images make a pair."""
    return np.mean([of_draws(table, space, metric) for space in SPACES], axis=0)


def exact_claims_of_consistency(
    known: pd.DataFrame, tests: Mapping[tuple[str, str], pd.DataFrame], table: pd.DataFrame, facts: pd.DataFrame
) -> Iterator[Claim]:
    """What holds for any scores, and what the construction of the input test brings about."""
    algebra = {"kind": IDENTITY, "source": "algebra"}
    own = known[known["world"].isin(WORLDS)]
    gap = float((own["value"] - own["expected"]).abs().max())
    means = own[own["component"] == MC].set_index("world")["value"]
    yield Claim(
        name="planted scores have the consistency in closed form",
        says="A metric that never changes has an MC of .5, and one that never changes under minor noise and always "
        "falls under disruptive noise 1 less 2^(1-n) / 4.",
        holds=gap <= ROUNDING,
        measured=f"blind {means[WORLDS[0]]:.4f}, perfect {means[WORLDS[1]]:.4f}; largest difference of all components "
        f"from the closed form {gap:.1g}, at most {ROUNDING:g}",
        why="p = 1 where nothing changes, 2^(1-n) where n changes have one sign; n = 12",
        **algebra,
    )
    tiny, large = (own[own["world"] == world].set_index("component")["value"] for world in WORLDS[2:])
    yield Claim(
        name="the size of a change does not count",
        says=f"Scores that all rise by {TINY:g} have the components of scores that all rise by 1: IAC_NR next to 0.",
        holds=float((tiny - large).abs().max()) <= ROUNDING and tiny["IAC_NR"] <= 2.0**-11 + ROUNDING,
        measured=f"IAC_NR {tiny['IAC_NR']:.2g} and {large['IAC_NR']:.2g}, largest difference of a component "
        f"{(tiny - large).abs().max():.1g}, at most {ROUNDING:g}",
        why="the signed-rank test sees signs and ranks of changes alone",
        **algebra,
    )
    gap = largest_gap_of_levels(ENUMERATED)
    yield Claim(
        name="without an effect the p-value is uniform",
        says="Where noise has no effect the p-value is at most a level with a probability of that level, for all "
        "levels that it can have: IAC is then luck with a mean of about 1/2, whatever the metric is worth.",
        holds=gap <= ROUNDING,
        measured=f"all {2**ENUMERATED} signs of {ENUMERATED} changes: largest difference {gap:.1g}, "
        f"at most {ROUNDING:g}",
        why="enumeration of the exact test; levels below 1",
        **algebra,
    )
    share = agreement_of_all_rankings(LISTED)
    yield Claim(
        name="random rankings agree at one place",
        says="Two random rankings of six explainers agree at 1/6 of the places: the IEC_NR of luck.",
        holds=abs(share - 1 / LISTED) <= ROUNDING,
        measured=f"mean over all 720 rankings {share:.6f}, at most {ROUNDING:g} from 1/6",
        why="a random order has one fixed point on average",
        **algebra,
    )
    yield _unseen_noise(tests)
    yield _entropy_of_signed_maps(table, facts)
    yield _reversed_direction(table)


def _unseen_noise(tests: Mapping[tuple[str, str], pd.DataFrame]) -> Claim:
    drawing = list(EXPLAINERS_OF_METAQUANTUS).index(DRAWING)
    worst, count, shares = 0.0, 0, []
    for failing, unchanged in ((MINOR, 1.0), (DISRUPTIVE, 0.0)):
        rows = tests["input", failing]
        rows = rows[rows["metric"].isin((*OF_MAP_ALONE, BLIND)) & rows["value"].notna()]
        fixed = rows[(rows["part"] == "IAC") & (rows["explainer"] != drawing)]["value"]
        worst, count = max(worst, float((fixed - unchanged).abs().max())), count + len(fixed)
        if failing == DISRUPTIVE:
            shares = list(rows[rows["part"] == "IEC"]["value"])
    return Claim(
        name="the input test does not show the noise to metrics of the map alone",
        kind=IDENTITY,
        says="In the input test Sparseness, Complexity, Pointing Game and Relevance Mass Accuracy do not change for "
        "any explainer that draws no random numbers, however strong the noise is.",
        holds=count > 0 and worst <= ROUNDING and max(shares, default=0.0) <= 1 / LISTED + ROUNDING,
        measured=f"largest distance of {count} IAC from those of no change (1 and 0): {worst:.1g}, at most "
        f"{ROUNDING:g}; largest IEC_AR {max(shares, default=0.0):.3f}, at most {1 / LISTED:.3f}",
        why="the maps are those of the clean image, as in the authors' code; one of six explainers draws",
        source=f"{PAPER}, released code, seen; its published row for Pointing Game is 1, 0, 1, 0",
    )


def _entropy_of_signed_maps(table: pd.DataFrame, facts: pd.DataFrame) -> Claim:
    rows = table[(table["space"] == "input") & (table["metric"] == SIGNED_ENTROPY)]
    theirs = benchmark_row("LeNet", "MNIST", "Complexity")
    expected = {"IAC_NR": 1 / LISTED, "IAC_AR": 1 - 1 / LISTED, "IEC_NR": 1.0, "IEC_AR": 0.0}
    gaps = pd.DataFrame({each: (rows[each] - value).abs() for each, value in expected.items()}).stack().dropna()
    both = facts[facts["what"] == "both signs"].set_index("explainer")["value"]
    ours = ", ".join(f"{each} {rows[each].mean():.3f}" for each in COMPONENTS)
    published = ", ".join(f"{theirs[f'{each} (input test)']:.3f}" for each in COMPONENTS)
    return Claim(
        name="the entropy of signed maps has the published row of Complexity",
        kind=IDENTITY,
        says="The entropy without magnitudes, as the authors compute it, is -inf for maps of both signs; its input "
        "test has the published numbers of Complexity, which are therefore the same for every net.",
        holds=bool((gaps <= ROUNDING).all()) if len(gaps) == len(rows) * len(expected) else None,
        measured=f"ours {ours}; published {published}; largest difference from 1/6, 5/6, 1, 0 on any draw "
        f"{gaps.max():.1g}, at most {ROUNDING:g}",
        why="p = 0 where a change is no number; maps with both signs here: "
        + ", ".join(f"{name} {share:.0%}" for name, share in both.items()),
        source=f"{SEEN}; the explanation is ours",
    )


def _reversed_direction(table: pd.DataFrame) -> Claim:
    rows = table[table["metric"].isin(METRICS_OF_METAQUANTUS)].dropna(subset=["IEC_AR", "equal", "improved"])
    gap = float((rows["IEC_AR"] + rows["equal"] + rows["improved"] - 1).abs().max())
    flipping = rows[rows["metric"] == "Pixel-Flipping"]
    ours, other = flipping["IEC_AR"].mean(), flipping["improved"].mean()
    return Claim(
        name="IEC_AR depends on the registered direction",
        kind=IDENTITY,
        says="With the other direction IEC_AR is 1 less IEC_AR less the share of ties: a wrong direction turns a "
        "reaction into its opposite (D3).",
        holds=gap <= ROUNDING,
        measured=f"largest difference {gap:.1g}, at most {ROUNDING:g}; pixel flipping as {better_of('Pixel-Flipping')} "
        f"is better {ours:.3f}, with the paper's direction {other:.3f}",
        why="a score rises, falls or stays; over all metrics and draws",
        source="algebra; the paper registers pixel flipping as higher is better (defect D3)",
    )


def tendencies_of_grounds(
    planted: pd.DataFrame, luck: pd.DataFrame, subsets: pd.DataFrame, areas: pd.DataFrame
) -> list[tuple[Tendency, int, str]]:
    """Tendencies with the number of independent values and what they are."""
    by_images = {count: own.set_index("repeat") for count, own in planted.groupby("images")}
    few, many = by_images[FEWEST], by_images[MOST]
    own = areas.pivot(index="image", columns="order", values="area")
    growing = Tendency(
        "IAC grows and shrinks with the number of images",
        f"For one and the same planted metric IAC_NR at {MOST} images is lower than at {FEWEST}, IAC_AR is higher, "
        "and IEC stays: MC can be compared at equal numbers of images only.",
        [
            Bounded("fall of IAC_NR", (few["IAC_NR"] - many["IAC_NR"]).to_numpy(), above=0.1),
            Bounded("rise of IAC_AR", (many["IAC_AR"] - few["IAC_AR"]).to_numpy(), above=0.1),
            Bounded("change of IEC_NR", (many["IEC_NR"] - few["IEC_NR"]).to_numpy(), above=-0.05, below=0.05),
            Bounded("change of IEC_AR", (many["IEC_AR"] - few["IEC_AR"]).to_numpy(), above=-0.05, below=0.05),
        ],
        "algebra: IAC is a p-value",
    )
    lucky = Tendency(
        "luck has an MC of five twelfths",
        "Scores that are drawn anew have a mean MC of 5/12, less than a metric that never changes.",
        [Bounded("mean MC", luck[MC].to_numpy(), above=5 / 12 - 0.02, below=5 / 12 + 0.02)],
        "algebra: (1/2 + 1/2 + 1/6 + 1/2) / 4",
    )
    spread = Tendency(
        "ten subsets leave a deviation of a third",
        "The faithfulness correlation of a map that is noise has on each image a mean square of 1/9 with 10 subsets, "
        "a standard deviation of .33, and of 1/99 with 100.",
        [
            Bounded(
                f"mean square with {count} subsets, as a share of 1/{count - 1}",
                rows["value"].to_numpy() ** 2 / NULL_VARIANCE[count],
                above=1 - ALLOWED if count == 10 else None,
                below=1 + ALLOWED if count == 10 else 2,
            )
            for count, rows in subsets.groupby("subsets")
        ],
        "algebra: 1 / (subsets - 1); the paper has 10 subsets",
    )
    direction = Tendency(
        "pixel flipping is lower for the better map",
        "The area of pixel flipping is lower for Integrated Gradients than for noise, and lower for noise than for "
        "negative Integrated Gradients: lower is better (D3).",
        [
            Bounded("noise less Integrated Gradients", (own["noise"] - own["right"]).to_numpy(), above=0),
            Bounded("negative less noise", (own["wrong"] - own["noise"]).to_numpy(), above=0),
        ],
        "ours; the paper registers higher is better (defect D3)",
    )
    return [
        (growing, planted["repeat"].nunique(), "planted sets of scores"),
        (lucky, len(luck), "planted sets of scores"),
        (spread, len(subsets), "noise maps"),
        (direction, len(own), "images, of one net"),
    ]


def tendencies_of_draws(
    table: pd.DataFrame, tests: Mapping[tuple[str, str], pd.DataFrame], tried: Mapping[str, str]
) -> Iterator[Tendency]:
    """Tendencies over draws of noise; ``tried`` name -> what was tried, for those of the paper that do not show."""
    yield Tendency(
        "IAC depends on the number of images on the net",
        "Over the ten metrics IAC_AR of the model test is lower when it is computed of a quarter of the images.",
        [Bounded("mean of metrics, all less a quarter", _less_a_quarter(tests["model", DISRUPTIVE]), above=0)],
        "algebra: IAC is a p-value",
    )
    fine, coarse = (of_draws(table, "model", each, "IEC_NR") for each in (MORE_SUBSETS, "Faithfulness Correlation"))
    yield Tendency(
        "more subsets make steadier ranks",
        "Of the net faithfulness correlation has a higher IEC_NR with 100 subsets than with the paper's 10.",
        [Bounded("IEC_NR with 100 less with 10", fine - coarse, above=0)],
        "ours",
    )
    for category, pair in CATEGORIES.items():
        values = {each: benchmark_row("LeNet", "MNIST", each)[BOTH_TESTS] for each in pair}
        first, second = sorted(pair, key=values.get, reverse=True)
        others = [second, SIGNED_ENTROPY] if second == "Complexity" else [second]
        for other in others:
            name = f"{first} is above {other}"
            yield Tendency(
                name,
                f"By MC-bar {first} is above {other}, the other metric of {category.lower()}.",
                [Bounded("difference of MC-bar", mean_of_both(table, first) - mean_of_both(table, other), above=0)],
                f"{SEEN}: {values[first]:.3f} and {values[second]:.3f}",
                expected=name not in tried,
                tried=tried.get(name, ""),
            )


def _less_a_quarter(rows: pd.DataFrame) -> np.ndarray:
    """The mean over metrics and explainers of IAC of all images less IAC of a quarter of them, (draws,)."""
    own = rows[rows["metric"].isin(METRICS_OF_METAQUANTUS)]
    means = {part: own[own["part"] == part].groupby("draw")["value"].mean() for part in ("IAC", "IAC of a quarter")}
    return (means["IAC"] - means["IAC of a quarter"]).to_numpy(dtype=float)
