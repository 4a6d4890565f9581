"""A trend over runs in one sentence: what got worse or better, since when, how sure that is, and what is not judged."""

from typing import Any

import pandas as pd

from harness.results.comparison_costs import COST_FLOOR
from harness.results.comparison_quality import QUALITY_FLOOR
from harness.results.comparison_words import cell_in_words, counted, kinds_in_words
from harness.results.direction_words import change_in_words, levels_in_words
from harness.results.numbers import significant
from harness.results.step_test import FEWEST_RUNS

EXACT = "exact: the values repeat bit for bit, so that a change needs no test"
TESTED = "p: of the clearest step, corrected over all cells"
WITHOUT_DRIFT = "levels of measured costs are without the drift that all explainers of a block share"
EXACT_VALUES = "its values repeat bit for bit"


def trend_sentence(rows: pd.DataFrame, values: pd.DataFrame) -> str:
    """What changed over the runs, or that no change is shown; ``rows`` and ``values`` as of ``trend``."""
    heading = f"{counted(values.shape[1], 'run')}, {values.columns[0]} to {values.columns[-1]}"
    return f"{heading}: {'; '.join([*_trend_findings(rows), *_trend_caveats(rows, values)])}."


def step_of_row(row: Any) -> dict[str, Any]:
    """A row with its best level before as ``before``, its last level as ``after``, and the difference as ``change``."""
    return {**row, "before": row["best"], "after": row["last"], "change": row["last"] - row["best"]}


def certainty(row: Any) -> str:
    """How a step is known: ``exact``, or the p-value; empty where nothing was tested."""
    if row["verdict"] == "few":
        return ""
    return "exact" if pd.isna(row["p"]) else significant(row["p"])


def trend_texts(row: Any, *, blocks: bool) -> dict[str, str]:
    """A row of the table of cells by column, without the verdict; with model and data if ``blocks``."""
    step, moved = step_of_row(row), bool(row["since"])
    last = "" if pd.isna(row["last"]) else significant(row["last"])
    return {
        **({"model": row["model"], "data": row["dataset"]} if blocks else {}),
        "explainer": row["explainer"],
        "metric": row["metric"],
        "best before → last": levels_in_words(step) if moved else last,
        "change": change_in_words(step, step["change"]) if moved else "",
        "since": row["since"],
        "p": certainty(row),
        "runs": str(row["runs"]),
    }


def several_blocks(rows: pd.DataFrame) -> bool:
    """Whether the cells are of several models or data sets, so that these have to be named."""
    return rows["model"].nunique() > 1 or rows["dataset"].nunique() > 1


def trend_notes(listed: pd.DataFrame) -> list[str]:
    """What the words of the table of cells mean, as far as it has them."""
    costs = listed[(listed["kind"] == "cost") & (listed["unit"] != "passes")]
    known = listed.apply(certainty, axis=1) if len(listed) else pd.Series(dtype=str)
    notes = {EXACT: (known == "exact").any(), TESTED: (~known.isin(["", "exact"])).any(), WITHOUT_DRIFT: len(costs)}
    return [note for note, holds in notes.items() if holds]


def _trend_findings(rows: pd.DataFrame) -> list[str]:
    judged = rows[rows["verdict"] != "few"]
    if judged.empty:
        return ["nothing can be shown"]
    of = {verdict: rows[rows["verdict"] == verdict] for verdict in ("worse", "better", "moved")}
    found = [_step_clause(of[verdict], verdict, judged, rows) for verdict in ("worse", "better") if len(of[verdict])]
    if len(of["better"]) and of["worse"].empty:
        found.append("none is shown to be worse")
    if len(of["moved"]):
        found.append(f"{counted(len(of['moved']), 'cell')} without a better direction moved")
    return found or [_no_step(judged)]


def _step_clause(changed: pd.DataFrame, verdict: str, judged: pd.DataFrame, rows: pd.DataFrame) -> str:
    row = step_of_row(changed.iloc[0])
    most = "most of all " if len(changed) > 1 else ""
    known = EXACT_VALUES if pd.isna(row["p"]) else f"p {significant(row['p'])}, corrected over all cells"
    return (
        f"{len(changed)} of {kinds_in_words(judged)} got {verdict}, {most}{cell_in_words(row, rows)} since "
        f"{row['since']}: {levels_in_words(row)}, {change_in_words(row, row['change'])} than its best level before "
        f"({known})"
    )


def _no_step(judged: pd.DataFrame) -> str:
    """That no cell is shown to have changed, and by which yardstick."""
    small = judged["since"] != ""
    numbers = {
        "repeat bit for bit": int((judged["p"].isna() & ~small).sum()),
        "vary by no more than they wander": int((judged["p"].notna() & ~small).sum()),
        f"changed by no more than {100 * QUALITY_FLOOR:g} % (a cost: {100 * COST_FLOOR:g} %)": (int(small.sum())),
    }
    kinds = [f"{'all' if n == len(judged) else n} {words}" for words, n in numbers.items() if n]
    return f"no change is shown in {kinds_in_words(judged)}: {', '.join(kinds)}"


def _trend_caveats(rows: pd.DataFrame, values: pd.DataFrame) -> list[str]:
    """What limits the conclusion."""
    ended = rows[rows["cell"].isin(values.index[values.iloc[:, -1].isna()])]
    few, other = rows[rows["verdict"] == "few"], rows[rows["other_code"] > 0]
    alone = few[(few["runs"] == 1) & (few["other_code"] == 0)]
    vary = few[few["runs"] > 1]
    texts = []
    if len(ended):
        first = cell_in_words(ended.iloc[0], rows)
        texts.append(f"{counted(len(ended), 'cell')} without a value in the last run, such as {first}")
    if len(other):
        texts.append(
            f"up to {counted(int(other['other_code'].max()), 'run')} left out for {counted(len(other), 'cell')}, "
            "because the measuring code has changed since"
        )
    if len(alone):
        texts.append(f"{counted(len(alone), 'cell')} in one run only, as options, seeds or names differ")
    if len(vary):
        texts.append(
            f"{counted(len(vary), 'cell')} with values that vary over fewer than {FEWEST_RUNS} runs, "
            "too few to be judged"
        )
    return texts
