"""A comparison of runs in one sentence: what changed, by how much, how sure that is, and what was not compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.results.comparison import UNPAIRED, Comparison
from harness.results.comparison_costs import COST_FLOOR, FAR_BEYOND, MOST_DRIFT, NOT_TESTED
from harness.results.comparison_quality import OTHER_SEED, QUALITY_FLOOR
from harness.results.cost_changes import LEAST_CELLS
from harness.results.direction_words import (
    change_in_words,
    interval_in_words,
    levels_in_words,
    whole_change_in_words,
)
from harness.results.numbers import significant

PLACES = {
    "missing": "only in the baseline run",
    "new": "only in the new run",
    "not comparable": "not comparable",
}
MOST_NAMES = 3  # of explainers that a list of cells names
CAVEATS = 3  # the sentence names no more
LONGEST_REASON = 100  # letters of why a cell does not work
FALSE_ALARMS = "the chance of any false alarm is below 5 %"
EACH = " among scores and below 5 % among costs"
BY_RULE = f"judged by a rule without a test: more than {MOST_DRIFT:g} times as much or as little is no machine's drift"
NO_SINGLE = "no single one of them can be named"


def comparison_sentence(comparison: Comparison, base: Sequence[str], new: Sequence[str]) -> str:
    """What changed from the runs ``base`` to the runs ``new`` (names), or that nothing is shown to have changed."""
    heading = f"{_side(new)} against {_side(base)}"
    if not comparison.compared:
        next_one = [f"the next run with this code can be compared with {new[-1]}"] if comparison.of_other_code else []
        return f"{heading}: nothing can be compared; {'; '.join([*unpaired_in_words(comparison), *next_one])}."
    size = ", ".join(filter(None, (_runs_in_words(comparison.runs), _sample_numbers(comparison.cells))))
    clauses = [*_findings(comparison), *_caveats(comparison)[:CAVEATS]]
    return f"{heading} ({size}): {'; '.join(clauses)}."


def unpaired_in_words(comparison: Comparison) -> list[str]:
    """Which cells were not compared, a text for each reason: ``3 cells only in the new run: explainer.steps 9 → 4``."""
    cells = comparison.cells[comparison.cells["verdict"].isin(UNPAIRED)]
    return [_unpaired_clause(note, group) for note, group in cells.groupby("note", sort=False)]


def _unpaired_clause(note: str, group: pd.DataFrame) -> str:
    numbers = group["verdict"].value_counts()
    places = [f"{counted(numbers[verdict], 'cell')} {PLACES[verdict]}" for verdict in UNPAIRED if verdict in numbers]
    names = group["explainer"].unique()
    of = f" ({', '.join(names)})" if len(names) <= MOST_NAMES else ""
    return f"{' and '.join(places)}{of}{f': {note}' if note else ''}"


def _side(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} runs ({', '.join(names)})"


def _runs_in_words(runs: tuple[int, int]) -> str:
    return f"{counted(runs[1], 'run')} against {runs[0]}"


def _sample_numbers(cells: pd.DataFrame) -> str:
    numbers = cells.loc[(cells["kind"] != "cost") & (cells["n"] > 0), "n"].astype(int)
    if numbers.empty:
        return ""
    low, high = numbers.min(), numbers.max()
    return counted(high, "sample") if low == high else f"{low} to {high} samples"


def _findings(comparison: Comparison) -> list[str]:
    """What is shown, the worst first; if nothing is, the largest change that is not, or the size that none exceeds."""
    cells = comparison.cells
    of = {verdict: cells[cells["verdict"] == verdict] for verdict in comparison.counts}
    scored = cells[cells["change"].notna() & cells["verdict"].isin(["worse", "better", "moved", "same"])]
    blocks = [_block_clause(row, cells) for row in comparison.blocks.to_dict("records") if row["verdict"] != "same"]
    shown = [_shown_clause(of[verdict], verdict, scored, cells) for verdict in ("worse", "better") if len(of[verdict])]
    if shown and not comparison.has("worse"):
        shown.append(f"none of {kinds_in_words(scored)} is shown to be worse")
    found = [_broken_clause(of["broken"], cells)] if len(of["broken"]) else []
    found += [*shown, *blocks] if len(of["worse"]) else [*blocks, *shown]
    if shown or blocks:
        found += _error_rates(comparison, scored)
    elif len(scored):
        found.append(_nothing_shown(scored, cells))
    if len(of["fixed"]):
        found.append(f"{counted(len(of['fixed']), 'cell')} fixed, such as {cell_in_words(of['fixed'].iloc[0], cells)}")
    return found or [f"{counted(comparison.compared, 'cell')} without a score in either run, for the same reasons"]


def _error_rates(comparison: Comparison, scored: pd.DataFrame) -> list[str]:
    """How sure what is shown is: the rate of errors where there was a test, else the rule it was judged by."""
    shown = scored[scored["verdict"].isin(["worse", "better"])]
    tested, whole = shown["p"].notna(), (comparison.blocks["verdict"] != "same").any()
    by_rule = ~tested & shown["note"].str.contains(FAR_BEYOND, regex=False)
    exact = ~tested & ~by_rule
    texts = [f"{FALSE_ALARMS}{_of_tested_kinds(scored)}"] if tested.any() or whole else []
    if by_rule.any():
        texts.append(f"{kinds_in_words(shown[by_rule])} {BY_RULE}")
    if exact.any():
        texts.append(f"{kinds_in_words(shown[exact])} counted exactly, without a test")
    return texts


def _of_tested_kinds(scored: pd.DataFrame) -> str:
    """Which kinds the rate of errors is of, "" if there is only one kind."""
    costs = scored["kind"] == "cost"
    tested = costs[scored["p"].notna()]
    if costs.nunique() < 2:
        return ""
    return EACH if tested.nunique() > 1 else " among costs" if tested.any() else " among scores"


def _block_clause(row: dict[str, Any], cells: pd.DataFrame) -> str:
    """What a block changed by as a whole, and whether that can be told of none of its scores."""
    of_block = (cells["model"] == row["model"]) & (cells["dataset"] == row["dataset"]) & (cells["kind"] != "cost")
    named = (of_block & (cells["verdict"] == row["verdict"])).any()
    return block_in_words(row) + ("" if named else f", and {NO_SINGLE}")


def _broken_clause(broken: pd.DataFrame, cells: pd.DataFrame) -> str:
    first = broken.iloc[0]
    reason = shortened_reason(first["note"])
    return f"{counted(len(broken), 'cell')} broken, such as {cell_in_words(first, cells)} ({reason})"


def shortened_reason(text: str) -> str:
    """A reason, cut to what a sentence can hold."""
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def _shown_clause(changed: pd.DataFrame, verdict: str, scored: pd.DataFrame, cells: pd.DataFrame) -> str:
    first = changed.iloc[0]
    most = "most of all " if len(changed) > 1 else ""
    return f"{len(changed)} of {kinds_in_words(scored)} got {verdict}, {most}{_change_of(first, cells)}"


def _change_of(row: Any, cells: pd.DataFrame) -> str:
    """``lime by srg: 0.857 → 0.612, 0.245 worse [0.110 to 0.360 worse]``."""
    return f"{cell_in_words(row, cells)}: {levels_in_words(row)}, {whole_change_in_words(row)}{_beside(row)}"


def _beside(row: Any) -> str:
    """What was taken off a change, where the levels alone would show another one."""
    gross = row["after"] - row["before"]
    if abs(gross - row["change"]) <= 1e-6 * abs(gross):
        return ""
    return f" beside the change of {'the machine' if row['kind'] == 'cost' else 'the controls'}"


def block_in_words(row: dict[str, Any]) -> str:
    """``the 30 scores of net on data together: 30.0 % worse [20.0 to 40.0 worse]``."""
    percent = {name: 100 * row[name] for name in ("change", "low", "high")} | {"better": "higher", "unit": "percent"}
    size = change_in_words(percent | {"before": 100.0}, percent["change"]).replace(" ", " % ", 1)
    about = f"the {row['cells']} scores of {row['model']} on {row['dataset']} together"
    return f"{about}: {size} {interval_in_words(percent)}".strip()


def _nothing_shown(scored: pd.DataFrame, cells: pd.DataFrame) -> str:
    """That no change is shown: the largest one that is not, or the size below which all are."""
    moved = _moved_cells(cells)
    if len(moved):
        largest = moved.iloc[0]
        return (
            f"no change is shown in {kinds_in_words(scored)}; the largest, {_doubt(largest)}, is "
            f"{_change_of(largest, cells)}"
        )
    quiet = scored[scored["verdict"] == "same"]
    if len(quiet) and not quiet[["change", "low", "high"]].fillna(0.0).to_numpy().any():
        samples = " on every sample" if (quiet["kind"] != "cost").any() else ""
        return f"{kinds_in_words(quiet)} {'is' if len(quiet) == 1 else 'are'} the same{samples}"
    floor = f"{100 * QUALITY_FLOOR:g} % of its level"
    costs = f" (a cost: {100 * COST_FLOOR:g} %)" if (scored["kind"] == "cost").any() else ""
    return f"none of {kinds_in_words(scored)} changed by more than {floor}{costs}"


def _moved_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that changed without being shown to be better or worse, the largest share first; without controls."""
    moved = cells[(cells["verdict"] == "moved") & cells["share"].notna() & (cells["change"] != 0)]
    return moved[~moved["control"].astype(bool)]


def _doubt(row: Any) -> str:
    return "which these runs cannot tell from the machine" if row["kind"] == "cost" else "which chance can explain"


def _larger_doubts(cells: pd.DataFrame) -> list[str]:
    """The largest change that is not shown, if it is larger than every one that is."""
    shown, moved = cells[cells["verdict"].isin(["worse", "better"])], _moved_cells(cells)
    if shown.empty or moved.empty or abs(moved["share"].iloc[0]) <= shown["share"].abs().max():
        return []
    return [f"a larger change is not shown, {_doubt(moved.iloc[0])}: {_change_of(moved.iloc[0], cells)}"]


def _caveats(comparison: Comparison) -> list[str]:
    """What limits the conclusion, the most important first."""
    cells = comparison.cells
    moved = cells[(cells["verdict"] == "moved") & cells["change"].notna()]
    controls = moved[moved["control"].astype(bool)]
    loose = moved[~moved["better"].isin(["higher", "lower"])]
    untested = int(moved["note"].str.contains(NOT_TESTED, regex=False).sum())
    texts = _larger_doubts(cells)
    unpaired = int(cells["verdict"].isin(UNPAIRED).sum())
    if unpaired:
        texts.append(f"{counted(unpaired, 'cell')} could not be compared")
    if untested:
        texts.append(
            f"{counted(untested, 'cost')} changed by more than {100 * COST_FLOOR:g} % but "
            f"could not be tested: it needs more runs on each side, or {LEAST_CELLS} explainers"
        )
    seeds = cells["note"].str.startswith(OTHER_SEED).any()
    if seeds:
        texts.append("the seeds differ, which changes what is drawn")
    elif len(controls):
        texts.append(
            f"{counted(len(controls), 'score')} of controls moved as well, so the data, a metric, the model or the "
            "machine changed"
        )
    if len(loose):
        texts.append(f"{counted(len(loose), 'score')} moved that have no better direction")
    if comparison.environment:
        names = list(comparison.environment)
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        texts.append(f"the environments differ too ({', '.join(names[:2])}{more})")
    if not (cells["kind"] == "cost").any():
        texts.append("costs were not measured")
    return texts


def drift_in_words(drift: Mapping[str, float]) -> list[str]:
    """What the costs of a block changed by as a whole, a text for each."""
    return [
        f"{name}: {significant(max(ratio, 1 / ratio))} times {'as large' if ratio > 1 else 'smaller'} in the median "
        "over explainers, taken for the machine's change and divided out"
        for name, ratio in drift.items()
    ]


def cell_in_words(row: Any, cells: pd.DataFrame) -> str:
    """``lime by srg``, with model and data set where ``cells`` are of several."""
    several = cells["model"].nunique() > 1 or cells["dataset"].nunique() > 1
    block = f" ({row['model']} on {row['dataset']})" if several else ""
    return f"{row['explainer']} by {row['metric']}{block}"


def kinds_in_words(cells: pd.DataFrame) -> str:
    """``18 scores and 3 costs``."""
    costs = int((cells["kind"] == "cost").sum())
    numbers = (("score", len(cells) - costs), ("cost", costs))
    return " and ".join(counted(number, kind) for kind, number in numbers if number)


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
