"""What follows from the published tables of MetaQuantus alone (Hedström et al. 2023, arXiv:2302.07265)."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pandas as pd

from harness.reproducing.findings import IDENTITY, Claim
from harness.reproducing.published import published_numbers
from harness.reproducing.studies.metaquantus.grounds import RELEASED_SIX, RELEASED_THREE
from harness.reproducing.studies.metaquantus.scores import CATEGORIES, METRICS_OF_METAQUANTUS, OF_MAP_ALONE

PAPER = "Hedström et al. 2023, arXiv:2302.07265"
TABLE = "metaquantus2023"
BENCHMARK = "experiments notebook, benchmarking table"
AGGREGATE = "experiments notebook, ImageNet aggregate"
PRINTED = "experiments notebook, printed category means"
FOUR = (("LeNet", "MNIST"), ("LeNet", "Fashion-MNIST"), ("ResNet-9", "cMNIST"), ("ResNet-18", "ImageNet (batch 1)"))
BOTH_TESTS = "MC-bar (mean of both tests)"
HALF_DIGIT = 0.0005  # of numbers with three digits
INPUT_PARTS = tuple(f"{each} (input test)" for each in ("IAC_NR", "IAC_AR", "IEC_NR", "IEC_AR"))
SWAPPED = (
    ("Complexity", "Sparseness"),
    ("Random Logit", "Model Parameter Randomisation Test"),
    ("Max-Sensitivity", "Local Lipschitz Estimate"),
)
TRUE_MEANS = {
    "Robustness": 0.665,
    "Randomisation": 0.649,
    "Localisation": 0.586,
    "Faithfulness": 0.583,
    "Complexity": 0.560,
}


@cache
def benchmark_row(model: str, dataset: str, metric: str) -> pd.Series:
    """The published numbers of a metric: name in the table -> value."""
    where = {"table_or_figure": BENCHMARK, "model": model, "dataset": dataset, "explainer": metric}
    return published_numbers(TABLE, where).set_index("metric")["value"]


def claims_of_published(known: pd.DataFrame) -> Iterator[Claim]:
    """The claims that need no model; ``known`` are the components of planted scores."""
    yield _category_means()
    yield _printed_means()
    yield _labels_of_imagenet()
    yield _entropy_rows(known)
    yield _maps_alone()
    yield _reversed_flipping()
    yield _ranks_by_few_subsets()


def _means_of_metrics() -> dict[str, float]:
    """The mean of MC-bar over the four data sets, for each metric."""
    return {
        metric: float(np.mean([benchmark_row(*place, metric)[BOTH_TESTS] for place in FOUR]))
        for metric in METRICS_OF_METAQUANTUS
    }


def _category_means() -> Claim:
    means = _means_of_metrics()
    found = {category: float(np.mean([means[each] for each in pair])) for category, pair in CATEGORIES.items()}
    gap = max(abs(found[each] - TRUE_MEANS[each]) for each in found)
    order = sorted(found, key=found.get, reverse=True)
    return Claim(
        name="category means",
        kind=IDENTITY,
        says="Over metrics and data sets robustness has the largest MC, then randomisation, localisation, "
        "faithfulness and complexity.",
        holds=gap <= 2 * HALF_DIGIT and order == list(TRUE_MEANS),
        measured=", ".join(f"{each.lower()} {found[each]:.4f}" for each in order)
        + f"; largest difference from the means in our notes {gap:.1g}, at most {2 * HALF_DIGIT:g}",
        why="means of two metrics on four data sets, of entries with three digits; the order of exact means",
        source=f"{PAPER}, benchmarking tables, seen",
    )


def _printed_means() -> Claim:
    means = _means_of_metrics()
    printed = published_numbers(TABLE, {"table_or_figure": PRINTED}).set_index("explainer")["value"]
    first = list(METRICS_OF_METAQUANTUS[:5])
    gap = max(abs(printed[each] - means[each]) for each in first)
    return Claim(
        name="printed category means are means of single metrics",
        kind=IDENTITY,
        says="The five category means that the notebook prints are those of the first five metrics alone (D5).",
        holds=gap <= HALF_DIGIT and list(printed.index) == first,
        measured="; ".join(
            f"printed for {category.lower()} {printed[metric]:.4f}, mean of {metric} {means[metric]:.4f}"
            for category, metric in zip(CATEGORIES, first, strict=True)
        )
        + f"; largest difference {gap:.1g}, at most {HALF_DIGIT:g}",
        why="a window of four over a list with eight entries for each category; entries have three digits",
        source=f"{PAPER}, printed category means, seen (defect D5)",
    )


def _labels_of_imagenet() -> Claim:
    rows = published_numbers(TABLE, {"table_or_figure": AGGREGATE})
    of_four = {metric: own.set_index("metric")["value"] for metric, own in rows.groupby("explainer")}
    of_one = {metric: benchmark_row("ResNet-18", "ImageNet (batch 1)", metric) for metric in of_four}
    apart = lambda first, second: float((of_four[first] - of_one[second].reindex(of_four[first].index)).abs().mean())
    words, right = [], []
    for first, second in SWAPPED:
        own = (apart(first, first) + apart(second, second)) / 2
        other = (apart(first, second) + apart(second, first)) / 2
        right.append(own < other)
        words.append(f"{first} and {second} {own:.3f}, exchanged {other:.3f}")
    return Claim(
        name="labels of three pairs are exchanged",
        kind=IDENTITY,
        says="The rows for four batches of ImageNet fit those for the first batch better when the printed labels of "
        "three pairs of metrics are exchanged (D4).",
        holds=all(right),
        measured=f"mean distance over components with the labels as corrected here: {'; '.join(words)}",
        why="the distance has to be the smaller one for each pair; four batches contain the first",
        source=f"{PAPER}, ImageNet aggregate and benchmarking table, seen (defect D4)",
    )


def _entropy_rows(known: pd.DataFrame) -> Claim:
    gaps = {}
    places = {(*FOUR[0], RELEASED_SIX), (*FOUR[1], RELEASED_SIX)}
    for model, dataset, world in (
        *sorted(places),
        ("DeiT-tiny distilled", "ImageNet (batch 4)", RELEASED_THREE),
    ):
        expected = known[known["world"] == world].set_index("component")["value"]
        row = benchmark_row(model, dataset, "Complexity")
        gaps[dataset] = max(abs(row[name] - expected[name.partition(" ")[0]]) for name in INPUT_PARTS)
    words = ", ".join(f"{dataset} {gap:.1g}" for dataset, gap in gaps.items())
    return Claim(
        name="the row of Complexity is that of an entropy of signed maps",
        kind=IDENTITY,
        says="The published input test of Complexity is what an entropy of -inf gives for all explainers but the one "
        "without negative attributions: 1/6, 5/6, 1, 0 of six explainers and 1/3, 2/3, 1, 0 of three.",
        holds=max(gaps.values()) <= HALF_DIGIT,
        measured=f"largest difference of the four components: {words}; at most {HALF_DIGIT:g}",
        why="-inf less -inf is no number, which the test of the released code answers with p = 0; three digits; "
        "the number of explainers is read in the configuration",
        source=f"{PAPER}, benchmarking tables, seen; the explanation is ours",
    )


def _maps_alone() -> Claim:
    within = []
    for model, dataset in FOUR[:2]:
        for metric in OF_MAP_ALONE[:3]:
            row = benchmark_row(model, dataset, metric)
            kept, reacted, _, worse = (row[name] for name in INPUT_PARTS)
            within.append(min(kept - 5 / 6, 1 / 6 - reacted, 1 / 6 - worse))
    room = min(within)
    return Claim(
        name="the published input test does not show the noise to metrics of the map alone",
        kind=IDENTITY,
        says="On both LeNets Sparseness, Pointing Game and Relevance Mass Accuracy have in the input test what five "
        "unchanged explainers and one random one allow: IAC_NR from 5/6 up, IAC_AR and IEC_AR up to 1/6.",
        holds=room >= -HALF_DIGIT,
        measured=f"smallest room to a bound, over {len(within)} rows: {room:.3f}, at least {-HALF_DIGIT:g}",
        why="the authors' code makes maps of the clean input: only GradientSHAP's random numbers change them",
        source=f"{PAPER}, benchmarking tables, seen; the explanation is ours",
    )


def _reversed_flipping() -> Claim:
    """With r = IEC_AR the other direction has at most 1 - r, so that MC falls by at least (2 r - 1) / 4."""
    row = benchmark_row(*FOUR[0], "Pixel-Flipping")
    at_most = []
    for test in ("model test", "input test"):
        share = row[f"IEC_AR ({test})"]
        at_most.append(row[f"MC ({test})"] - (2 * share - 1) / 4)
    mean, other = float(np.mean(at_most)), benchmark_row(*FOUR[0], "Faithfulness Correlation")[BOTH_TESTS]
    return Claim(
        name="the direction of pixel flipping decides its place",
        kind=IDENTITY,
        says="With the direction of its own figure, lower is better, pixel flipping would lose its lead over "
        "faithfulness correlation in the published table for MNIST (D3).",
        holds=mean + 2 * HALF_DIGIT < other < row[BOTH_TESTS],
        measured=f"MC-bar as registered {row[BOTH_TESTS]:.3f}, with the other direction at most {mean:.3f}; "
        f"faithfulness correlation {other:.3f}",
        why="IEC_AR of the other direction is 1 less IEC_AR less the share of ties; the components have three digits",
        source=f"{PAPER}, benchmarking table, seen (defect D3)",
    )


def _ranks_by_few_subsets() -> Claim:
    shares = {place[1]: benchmark_row(*place, "Faithfulness Correlation") for place in FOUR[:3]}
    values = {
        f"{dataset}, {test}": row[f"IEC_NR ({test})"]
        for dataset, row in shares.items()
        for test in ("model test", "input test")
    }
    smallest, largest = min(values.values()), max(values.values())
    least_other = min(
        benchmark_row(*place, metric)[f"IEC_NR ({test})"]
        for place in FOUR[:3]
        for metric in METRICS_OF_METAQUANTUS
        if metric not in CATEGORIES["Faithfulness"]
        for test in ("model test", "input test")
    )
    return Claim(
        name="ranks by ten subsets are near chance",
        kind=IDENTITY,
        says="On the three small data sets the ranking by faithfulness correlation hardly agrees with itself: its "
        "IEC_NR is nearer to 1/6, which random rankings have, than to that of any metric of another category.",
        holds=largest - 1 / 6 < least_other - largest,
        measured=f"IEC_NR {smallest:.3f} to {largest:.3f}, random rankings {1 / 6:.3f}, the least of the other "
        f"categories {least_other:.3f}",
        why="the mean agreement of two random rankings of six is exactly 1/6; published numbers as they stand",
        source=f"{PAPER}, benchmarking tables, seen",
    )
