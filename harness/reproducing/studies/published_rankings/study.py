"""Published tables, analysed again by our own statistics: no model is run (2401.06654, 2405.02383, BEExAI)."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from harness.reproducing.findings import IDENTITY, PATTERN, Claim, Findings, numbers_of
from harness.reproducing.published import FOLDER, published_numbers
from harness.reproducing.study import StudySetting
from harness.results.figures import COLOURS, GREY, figure, panels, tidy
from harness.results.reference import distinct_rankings, kendall_w, pairwise_tau, read
from harness.results.reliability import taus

SRG_METRICS = {"MIF": "MIF AUC", "LIF": "LIF AUC", "SRG": "SRG (LIF - MIF)"}
SETUPS = "imputer="
# The words of the published summary, for each of the three statistics.
SUMMARIES = {
    "{}: distinct method rankings over 40 setups": distinct_rankings,
    "{}: mean pairwise Kendall tau of method rankings over 40 setups": pairwise_tau,
    "{}: Kendall W of method rankings over 40 setups": kendall_w,
}
RANDOMISATION = ("MPRT (Spearman, mean over layers)", "eMPRT")
DIGITS = 1e-4  # a share; published means and spreads that differ by less are of the same maps
FAMILIES = {
    "faithfulness": ("FaithCorr", "Comprehensiveness", "Sufficiency"),
    "robustness": ("Infidelity", "Sensitivity"),
}


def study(setting: StudySetting) -> Findings:
    """Rankings of 40 setups of pixel flipping, copies of a map in a table, and metric families that disagree."""
    tables = read(FOLDER / "srg2024.csv")
    settings = {name: _of_setups(tables[metric]) for name, metric in SRG_METRICS.items()}
    rows = [
        {"setting": name, "metric": words.format(name), "value": float(statistic(table)), "n": len(table)}
        for name, table in settings.items()
        for words, statistic in SUMMARIES.items()
    ]
    claims = [_srg_agrees_most(settings), *_copied_rows(), *_disagreeing_families()]
    drawings = {"rankings": _ranks_drawn(settings)}
    return Findings(numbers_of(rows), claims, drawings)


def _of_setups(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the 40 setups; the file has summaries too."""
    return table[table.index.get_level_values("table_or_figure").str.startswith(SETUPS)]


def _srg_agrees_most(settings: dict[str, pd.DataFrame]) -> Claim:
    """That SRG ranks methods more alike than its parts, by a bootstrap of nets, imputers and superpixels."""
    of_pairs = {name: _taus_of_pairs(table) for name, table in settings.items()}
    mean = lambda name, rows: _mean_tau(of_pairs[name], rows)
    gap = lambda rows: mean("SRG", rows) - max(mean("MIF", rows), mean("LIF", rows))
    factors = _levels_of_factors(settings["SRG"].index.to_frame(index=False))
    count, draw = len(settings["SRG"]), np.random.default_rng(0)
    low, high = np.quantile([gap(_crossed_draw(factors, draw)) for _ in range(2000)], [0.025, 0.975])
    return Claim(
        name="srg agrees most",
        kind=PATTERN,
        says="Over imputers and superpixels SRG ranks explainers more alike than MIF and LIF do.",
        holds=low > 0,
        measured=f"mean Kendall tau is larger by {gap(np.arange(count)):.3f} [{low:.3f}, {high:.3f}], more than 0",
        why="95 % bootstrap interval: nets, imputers and superpixels are drawn again, the same for the three scores",
        source="Blücher et al. 2024, arXiv:2401.06654, computed from their data",
        n=count,
    )


def _taus_of_pairs(table: pd.DataFrame) -> np.ndarray:
    """Kendall's tau of every two settings (n, n), NaN for a setting with itself."""
    values = table.to_numpy()
    first, second = np.divmod(np.arange(len(values) ** 2), len(values))
    found = taus(values[first], values[second]).reshape(len(values), -1)
    np.fill_diagonal(found, np.nan)
    return found


def _mean_tau(of_pairs: np.ndarray, rows: np.ndarray) -> float:
    """The mean of the pairs of these settings; a setting that is drawn twice makes no pair with itself."""
    return float(np.nanmean(of_pairs[np.ix_(rows, rows)]))


def _levels_of_factors(index: pd.DataFrame) -> list[np.ndarray]:
    """For each factor, imputer, superpixels and net, the number of the level (n,) that each setting has."""
    factors = index["table_or_figure"].str.split("; ", expand=True).assign(model=index["model"])
    return [pd.factorize(column)[0] for _, column in factors.items()]


def _crossed_draw(factors: Sequence[np.ndarray], draw: np.random.Generator) -> np.ndarray:
    """The rows of a bootstrap sample of settings, in which the levels of each factor are drawn with replacement."""
    times = np.ones(len(factors[0]), dtype=int)
    for level_of in factors:
        count = level_of.max() + 1
        times *= np.bincount(draw.choice(count, count), minlength=count)[level_of]
    rows = np.repeat(np.arange(len(times)), times)
    return rows if np.count_nonzero(times) > 1 else _crossed_draw(factors, draw)


def copies_in(tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, str, str]]:
    """Pairs of explainers whose published means and spreads agree to a share of DIGITS by all metrics, with the model
    and the data; ``tables`` metric -> rows with model, dataset, explainer, value and spread."""
    found: dict[tuple[str, str, str], int] = {}
    for rows in tables.values():
        for (model, dataset), own in rows.groupby(["model", "dataset"], sort=False):
            for (_, first), (_, second) in combinations(own.iterrows(), 2):
                if all(_agree(first[each], second[each]) for each in ("value", "spread")):
                    pair = (first["explainer"], second["explainer"], f"{model}, {dataset}")
                    found[pair] = found.get(pair, 0) + 1
    return [pair for pair, times in found.items() if times == len(tables)]


def _agree(first: float, second: float) -> bool:
    return abs(first - second) <= DIGITS * max(abs(first), abs(second)) and bool(first or second)


def _copied_rows() -> list[Claim]:
    tables = {metric: published_numbers("emprt2024", {"metric": metric}) for metric in RANDOMISATION}
    found = copies_in(tables)
    expected = {place for first, second, place in found if {first, second} == {"Gradient", "Guided Backprop"}}
    words = "; ".join(f"{first} and {second} ({place})" for first, second, place in found) or "none"
    control = tables[RANDOMISATION[0]]
    control = control[control["explainer"].str.startswith("random") & (control["model"] == "LeNet")]
    values = ", ".join(f"{row['dataset']} {row['value']:.10f}" for _, row in control.iterrows())
    return [
        Claim(
            name="guided backprop is the gradient",
            kind=IDENTITY,
            says="On both LeNets, and on no other net, the published rows of Guided Backprop are those of Gradient.",
            holds=expected == {"LeNet, MNIST test", "LeNet, Fashion-MNIST test"} and len(found) == len(expected),
            measured=f"explainers with the same mean and spread by MPRT and eMPRT, to a share of {DIGITS:g}: {words}",
            why="two different explainers do not agree to four digits in four numbers",
            source="Hedström et al. 2024, arXiv:2405.02383, benchmarking notebook (defect D1: a hook that never fired)",
        ),
        Claim(
            name="the control shares its noise",
            kind=IDENTITY,
            says="The random control has the same published MPRT on MNIST and Fashion-MNIST: one draw for both.",
            holds=len(control) == 2 and control["value"].nunique() == 1,
            measured=f"MPRT of the random control: {values}",
            why="two draws of noise do not agree to ten digits",
            source="Hedström et al. 2024, arXiv:2405.02383, MPRT table (defect D2)",
        ),
    ]


def _disagreeing_families() -> list[Claim]:
    rows = published_numbers("beexai", {"model": "neural network"})
    places = {}
    for metric, own in rows.groupby(rows["metric"].str.removeprefix("mean rank on ")):
        own = own.set_index("explainer")["value"]
        if "Saliency" in own:
            places[metric] = (int((own < own["Saliency"]).sum()) + 1, len(own), own["Saliency"])
    last = all(places[each][0] == places[each][1] for each in FAMILIES["faithfulness"])
    first = all(places[each][0] == 1 for each in FAMILIES["robustness"])
    words = ", ".join(
        f"{name} {places[name][0]} of {places[name][1]} (mean rank {places[name][2]:.2f})"
        for family in FAMILIES.values()
        for name in family
    )
    return [
        Claim(
            name="families disagree",
            kind=PATTERN,
            says="Saliency is last by three faithfulness metrics and first by infidelity and sensitivity.",
            holds=last and first,
            measured=f"its place among the explainers of the network: {words}",
            why="places are exact: they are those of the published mean ranks over 53 tables",
            source="BEExAI benchmark, tables shipped by its authors, computed from their data",
            n=53,
        )
    ]


def _ranks_drawn(settings: dict[str, pd.DataFrame]) -> Figure:
    """The rank of each explainer in each setup, as in the paper's figure of ranking stability."""
    drawing = figure(3.2, "Ranks of the explainers in 40 setups", "One dot for each setup; 1 is best.")
    for axes, (name, table) in zip(
        panels(drawing, 1, len(settings), len(settings), sharey=True), settings.items(), strict=True
    ):
        ranks = table.rank(axis=1, ascending=False)
        order = ranks.mean().sort_values().index
        jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(ranks))
        for place, each in enumerate(order):
            axes.plot(place + jitter, ranks[each], ".", color=COLOURS[0], alpha=0.5, markersize=4)
            axes.plot([place - 0.35, place + 0.35], [ranks[each].mean()] * 2, color=GREY)
        axes.set_xticks(range(len(order)), order, rotation=60, ha="right")
        tidy(axes, f"{name}: {distinct_rankings(table)} different rankings", "", "rank")
        axes.invert_yaxis()
    return drawing
