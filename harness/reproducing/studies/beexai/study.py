"""Explainers of nets for tables, ranked by nine metrics (BEExAI, Sithakoul et al. 2024).

On five tables of packages, or on the CSV files in the user's folder. Each metric is measured twice: as the released
code defines it, and as the registered metric of that name.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from harness.reproducing.findings import Findings, numbers_of
from harness.reproducing.published import published_numbers
from harness.reproducing.studies.beexai.claims import exact_claims_of_tables, tendencies_of_tables
from harness.reproducing.studies.beexai.exact import exact_checks
from harness.reproducing.studies.beexai.ranks import MIDDLE, ranks_by_table
from harness.reproducing.studies.beexai.released import METRICS
from harness.reproducing.studies.beexai.scores import (
    BOTH_ABSOLUTE,
    EXPLAINERS_OF_PAPER,
    REGISTERED,
    REGISTERED_METRICS,
    RELEASED,
    registered_scores,
    released_scores,
)
from harness.reproducing.studies.beexai.tables import fingerprint_of_tables, tables_of_folder
from harness.reproducing.study import StudySetting
from harness.results.figures import GREY, RULE, figure, looks, panels, tidy

NET, PUBLISHED_TABLES = "neural network", 53
MEASURES = {RELEASED: released_scores, REGISTERED: registered_scores}
TIMED_ROWS = 4


def study(setting: StudySetting) -> Findings:
    """Mean ranks of six explainers over tables, and whether families of metrics rank Saliency in opposite ways."""
    folder = str(setting.data.absolute()) if setting.data else ""
    tables, notes = _tables_of_setting(setting, folder)
    checks = setting.kept("linear net", exact_checks, rows=setting.sizes["rows"])
    scores = {protocol: _scores_of_protocol(setting, protocol, tables, folder) for protocol in MEASURES}
    claims = [*exact_claims_of_tables(checks), *tendencies_of_tables(scores)]
    rows = [
        *(row for protocol, table in scores.items() for row in _rank_rows(protocol, table)),
        *(row for protocol, table in scores.items() for row in _value_rows(protocol, table)),
    ]
    notes += [_quality_in_words(scores[RELEASED]), *_undefined_in_words(scores)]
    return Findings(numbers_of(rows), claims, {"mean_ranks": _mean_ranks_drawn(scores)}, notes)


def _tables_of_setting(setting: StudySetting, folder: str) -> tuple[list[str], list[str]]:
    """The tables, and notes on them; the user's are checked, and the time is said before it is spent."""
    if not setting.data:
        return list(setting.sizes["tables"]), []
    targets = tables_of_folder(setting.data)
    seconds = _seconds_for_a_net(folder, next(iter(targets)), setting.sizes)
    minutes = seconds * len(targets) * setting.sizes["seeds"] / 60
    setting.say(f"{len(targets)} tables x {setting.sizes['seeds']} nets: about {minutes:.0f} min by the first table")
    words = ", ".join(f"{name} ({target})" for name, target in targets.items())
    return list(targets), [f"{len(targets)} tables of {PUBLISHED_TABLES} in the paper, with their targets: {words}."]


def _seconds_for_a_net(folder: str, table: str, sizes: dict[str, Any]) -> float:
    """What a net of a table takes, by a few rows of one table."""
    started = time.perf_counter()
    for measure in MEASURES.values():
        measure(table, folder, 0, TIMED_ROWS, sizes["draws"])
    return (time.perf_counter() - started) * sizes["rows"] / TIMED_ROWS


def _scores_of_protocol(setting: StudySetting, protocol: str, tables: list[str], folder: str) -> pd.DataFrame:
    """The scores on all tables and nets; each net is a part that is kept."""
    sizes, known = setting.sizes, fingerprint_of_tables(folder)
    key = {"files": known} if known else {}
    measure = MEASURES[protocol] if not known else _with_fingerprint(protocol)
    found = [
        setting.kept(
            f"{protocol}, {table}, seed {seed}",
            measure,
            table=table,
            folder=folder,
            seed=seed,
            rows=sizes["rows"],
            draws=sizes["draws"],
            **key,
        ).assign(table=table, seed=seed)
        for table in tables
        for seed in range(sizes["seeds"])
    ]
    return pd.concat(found, ignore_index=True)


def _with_fingerprint(protocol: str) -> Any:
    return {RELEASED: released_scores_of_files, REGISTERED: registered_scores_of_files}[protocol]


def released_scores_of_files(files: str, **given: Any) -> pd.DataFrame:
    """``released_scores`` of the user's files with this fingerprint."""
    return released_scores(**given)


def registered_scores_of_files(files: str, **given: Any) -> pd.DataFrame:
    """``registered_scores`` of the user's files with this fingerprint."""
    return registered_scores(**given)


def _rank_rows(protocol: str, scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The mean rank of each explainer over tables by each metric."""
    for metric in METRICS if protocol == RELEASED else REGISTERED_METRICS.values():
        ranks = ranks_by_table(scores, metric)
        for explainer in ranks:
            own = ranks[explainer]
            error = own.std(ddof=1) / np.sqrt(len(own)) if len(own) > 1 else np.nan
            row = {"setting": protocol, "model": NET, "dataset": "all tables", "explainer": explainer}
            row |= {"metric": f"mean rank on {metric}", "value": own.mean(), "n": len(own)}
            yield row | ({"spread": error, "spread_kind": "standard error"} if np.isfinite(error) else {})


def _value_rows(protocol: str, scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The score itself on each table: the mean over seeds of the net."""
    for (table, explainer, metric), own in scores.groupby(["table", "explainer", "metric"], sort=False)["value"]:
        own = own.dropna()
        row = {"setting": protocol, "model": NET, "dataset": table, "explainer": explainer, "metric": metric}
        row |= {"value": own.mean(), "n": len(own)}
        yield row | ({"spread": own.std(ddof=1), "spread_kind": "sd over seeds"} if len(own) > 1 else {})


def _quality_in_words(scores: pd.DataFrame) -> str:
    own = scores[scores["metric"] == "accuracy or R2"].groupby("table", sort=False)["value"].mean()
    return "Accuracy on rows not for training, or R2, mean over seeds: " + ", ".join(
        f"{table} {value:.3f}" for table, value in own.items()
    )


def _undefined_in_words(scores: dict[str, pd.DataFrame]) -> Iterator[str]:
    """How many scores of the six explainers are not defined, by protocol and metric; AUC_TP is not for numbers."""
    for protocol, table in scores.items():
        own = table[table["explainer"].isin(EXPLAINERS_OF_PAPER) & ~table["metric"].isin(["AUC_TP", BOTH_ABSOLUTE])]
        missing = own[own["value"].isna()].groupby(["metric", "explainer"]).size()
        if len(missing):
            words = ", ".join(f"{metric} of {explainer} {count}" for (metric, explainer), count in missing.items())
            yield f"Scores without a value, which take the last place ({protocol}): {words}."


def _mean_ranks_drawn(scores: dict[str, pd.DataFrame]) -> Figure:
    """Mean ranks by metric: published, as released here, and by the registered metrics."""
    shown = {"published\n53 tables": _published_ranks()}
    for protocol, table in scores.items():
        known = METRICS if protocol == RELEASED else tuple(REGISTERED_METRICS.values())
        ranks = {metric: ranks_by_table(table, metric) for metric in known}
        count = max(len(each) for each in ranks.values())
        shown[f"{protocol}\n{count} tables"] = pd.DataFrame({name: each.mean() for name, each in ranks.items()})
    drawing = figure(
        4.8,
        "Mean ranks of six explainers on nets for tables",
        "1 is best. From the top: faithfulness, robustness, complexity. The nets of a table are averaged first; "
        "ties share their mean rank.",
    )
    order = ("FaithCorr", "Comprehensiveness", "Sufficiency", "Monotonicity", "AUC_TP")
    order = (*order, "Infidelity", "Sensitivity", "Complexity", "Sparseness")
    for axes, (title, means) in zip(panels(drawing, 1, 3, 3, sharey=True), shown.items(), strict=True):
        for explainer, (colour, marker) in zip(EXPLAINERS_OF_PAPER, looks(len(EXPLAINERS_OF_PAPER)), strict=True):
            values = [means[metric].get(explainer, np.nan) if metric in means else np.nan for metric in order]
            axes.plot(values, range(len(order)), marker, color=colour, markersize=5, label=explainer)
        axes.axvline(MIDDLE, color=GREY, linestyle="--", linewidth=0.6)
        axes.set_yticks(range(len(order)), order)
        axes.set_xlim(0.7, 6.3)
        axes.grid(axis="y", color=RULE, linewidth=0.4)
        tidy(axes, title, "mean rank")
    axes.invert_yaxis()
    handles, labels = axes.get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside right upper", fontsize=7, frameon=False)
    return drawing


def _published_ranks() -> pd.DataFrame:
    rows = published_numbers("beexai", {"model": NET})
    rows = rows.assign(metric=rows["metric"].str.removeprefix("mean rank on "))
    return rows.pivot(index="explainer", columns="metric", values="value")
