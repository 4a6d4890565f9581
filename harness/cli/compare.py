"""What ``harness compare`` and ``harness trend`` show: two nights cell by cell, and the steps of many."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.errors import UserError, unknown
from harness.results.comparison import VERDICTS, Comparison, compare_runs
from harness.results.disk import whole_file
from harness.results.formats import markdown_text
from harness.results.frames import find_run
from harness.results.numbers import significant
from harness.results.tables import to_csv
from harness.results.trend import trend

MARKS = {
    "better": "▲",
    "worse": "▼",
    "moved": "~",
    "broken": "✗",
    "fixed": "✓",
    "new": "+",
    "missing": "−",
    "not comparable": "?",
    "same": "=",
}
TREND_VERDICTS = ("worse", "moved", "better", "stable", "few")
MOST_ROWS = 60
CELL = ("model", "dataset", "explainer", "metric")


def show_comparison(arguments: Sequence[str]) -> int:
    """``harness compare BASE NEW``: the exit status is 1 where a cell has a verdict that ``--fail-on`` names."""
    parser = argparse.ArgumentParser(prog="harness compare")
    parser.add_argument("base", help="the run before: a name under runs/, a folder, latest or previous")
    parser.add_argument("new", nargs="?", default="latest", help="the run after (default: latest)")
    parser.add_argument("--fail-on", default="", metavar="A,B", help=f"exit 1 on any of: {', '.join(VERDICTS)}")
    parser.add_argument("--all", action="store_true", help="list the cells that are the same as well")
    _common(parser)
    parser.add_argument("--markdown", metavar="FILE", help="write what is shown as Markdown, for a comment")
    chosen = parser.parse_args(list(arguments))
    failing = _verdicts(chosen.fail_on, VERDICTS)
    base, new = (find_run(name, chosen.runs) for name in (chosen.base, chosen.new))
    if base.resolve() == new.resolve():
        raise UserError(f"both runs are {base}; expected two different ones")
    found = compare_runs(base, new)
    shown = found.cells if chosen.all else found.cells[found.cells["verdict"] != "same"]
    print("\n".join(_text(found, shown, base.name, new.name)))
    _write(found.cells, chosen.csv)
    if chosen.markdown:
        with whole_file(Path(chosen.markdown)) as temporary:
            temporary.write_text(markdown(found, base.name, new.name), encoding="utf-8")
        print(f"Markdown: {chosen.markdown}")
    return int(any(found.counts[verdict] for verdict in failing))


def show_trend(arguments: Sequence[str]) -> int:
    """``harness trend RUN RUN ...``: the exit status is 1 where a cell has a verdict that ``--fail-on`` names."""
    parser = argparse.ArgumentParser(prog="harness trend")
    parser.add_argument("names", nargs="+", metavar="RUN", help="runs in any order: names under runs/ or folders")
    parser.add_argument("--fail-on", default="", metavar="A,B", help=f"exit 1 on any of: {', '.join(TREND_VERDICTS)}")
    parser.add_argument("--all", action="store_true", help="list stable cells as well")
    _common(parser)
    chosen = parser.parse_args(list(arguments))
    failing = _verdicts(chosen.fail_on, TREND_VERDICTS)
    rows, values = trend([find_run(name, chosen.runs) for name in chosen.names])
    rows = rows.sort_values("verdict", key=lambda verdicts: verdicts.map(TREND_VERDICTS.index), kind="stable")
    counts = rows["verdict"].value_counts()
    print(
        f"{len(rows)} cells over {values.shape[1]} runs, {values.columns[0]} to {values.columns[-1]}: "
        + ", ".join(f"{counts[verdict]} {verdict}" for verdict in TREND_VERDICTS if verdict in counts)
    )
    shown = rows if chosen.all else rows[~rows["verdict"].isin(["stable", "few"])]
    for row in shown.head(MOST_ROWS).to_dict("records"):
        print(f"{row['verdict']:>7}  {_name(row)}: {row['steps']}")
    _rest(len(shown))
    _write(rows.merge(values, left_on="cell", right_index=True), chosen.csv)
    return int(rows["verdict"].isin(failing).any())


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--csv", metavar="FILE", help="write every cell as CSV")
    parser.add_argument("--runs", default="runs", help="the folder in which runs lie (default: runs)")


def _verdicts(text: str, known: Sequence[str]) -> list[str]:
    names = [name.strip().replace("_", " ") for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise unknown("verdict of --fail-on", name, known)
    return names


def _text(found: Comparison, shown: pd.DataFrame, base: str, new: str) -> list[str]:
    """The comparison in lines: what differs in the environment first, then the counts, then the cells."""
    lines = [f"{base} → {new}"]
    lines += [f"environment: {name}: {before} → {after}" for name, (before, after) in found.environment.items()]
    lines += [
        f"{name}: {significant(ratio)} times the cost before, in the median" for name, ratio in found.drift.items()
    ]
    lines += [f"{len(found.cells)} cells: {_counted(found)}"]
    for row in shown.head(MOST_ROWS).to_dict("records"):
        lines.append(f"{MARKS[row['verdict']]} {row['verdict']:<14} {_name(row)}{_numbers(row)}{_noted(row)}")
    if len(shown) > MOST_ROWS:
        lines.append(f"... and {len(shown) - MOST_ROWS} more; --csv FILE has them all")
    return lines


def markdown(found: Comparison, base: str, new: str) -> str:
    """The comparison as Markdown for a comment: counts, environment, and the cells that are not the same."""
    title = f"### Explainers: {markdown_text(base)} → {markdown_text(new)}"
    lines = [title, "", f"{len(found.cells)} cells: {_counted(found)}", ""]
    if found.environment:
        lines += ["| environment | before | after |", "| --- | --- | --- |"]
        pairs = found.environment.items()
        lines += ["| " + " | ".join(map(markdown_text, (name, *pair))) + " |" for name, pair in pairs]
        lines.append("")
    shown = found.cells[found.cells["verdict"] != "same"]
    if len(shown):
        lines += [
            "| verdict | model | data | explainer | metric | before | after | change [95 %] | n | note |",
            "| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
        ]
        lines += [_markdown_row(row) for row in shown.head(MOST_ROWS).to_dict("records")]
    if len(shown) > MOST_ROWS:
        lines.append(f"\n... and {len(shown) - MOST_ROWS} more")
    return "\n".join(lines) + "\n"


def _markdown_row(row: dict) -> str:
    number = lambda value: "" if pd.isna(value) else significant(value)
    interval = "" if pd.isna(row["low"]) else f" [{number(row['low'])}, {number(row['high'])}]"
    count = "" if pd.isna(row["n"]) else int(row["n"])
    texts = [
        f"{MARKS[row['verdict']]} {row['verdict']}",
        *(row[name] for name in CELL),
        number(row["before"]),
        number(row["after"]),
        number(row["change"]) + interval,
        count,
        row["note"],
    ]
    return "| " + " | ".join(map(markdown_text, texts)) + " |"


def _counted(found: Comparison) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in found.counts.items() if count)


def _name(row: dict) -> str:
    return f"{row['model']} on {row['dataset']}: {row['explainer']}, {row['metric']}"


def _numbers(row: dict) -> str:
    if pd.isna(row["change"]):
        return ""
    interval = "" if pd.isna(row["low"]) else f" [{significant(row['low'])}, {significant(row['high'])}]"
    chance = "" if pd.isna(row["p_holm"]) else f", p {significant(row['p_holm'])}"
    before, after, change = (significant(row[name]) for name in ("before", "after", "change"))
    return f": {before} → {after}, by {change}{interval}{chance}"


def _noted(row: dict) -> str:
    return f"; {row['note']}" if row["note"] else ""


def _rest(count: int) -> None:
    if count > MOST_ROWS:
        print(f"... and {count - MOST_ROWS} more; --csv FILE has them all")


def _write(rows: pd.DataFrame, path: str | None) -> None:
    if path:
        to_csv(rows, path)
        print(f"{len(rows)} rows: {path}")
