"""The page of ``harness trend``: the sentence, a small plot of each cell that changed, and the table of the cells."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from harness.results.boards import boards_of
from harness.results.direction_words import change_in_words, levels_in_words
from harness.results.disk import whole_file
from harness.results.frames import read_cells
from harness.results.report.elements import Head, folded, html_table, note, section
from harness.results.report.markup import Raw, soft, tag
from harness.results.report.page import document
from harness.results.report.step_plot import step_plot
from harness.results.store import Store
from harness.results.trend import Trend
from harness.results.trend_words import (
    certainty,
    counted,
    several_blocks,
    step_of_row,
    trend_notes,
    trend_sentence,
    trend_texts,
)

MOST_PLOTS = 60  # in each of the two groups
HOW_TO_READ = (
    "A dot is the mean of a run, a line a level; the dashed line marks the last change. The level since then is green "
    "where it is better than the best level before, orange where it is worse."
)
Headlines = Mapping[tuple[str, str], str | None]


def write_trend_page(
    out: str | Path, found: Trend, listed: pd.DataFrame, rows: pd.DataFrame, runs: Sequence[Path]
) -> None:
    """Write the page; ``listed`` are the cells of its table, a part of ``rows``, the cells that were asked for."""
    last = max(runs, key=lambda run: Store(run).last_written())
    text = trend_page(found, listed, rows, headlines_of(last))
    with whole_file(Path(out)) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def headlines_of(run: Path) -> Headlines:
    """The headline metric of each model and data set of a run."""
    return {(board.model, board.dataset): board.headline for board in boards_of(read_cells(run, without_scores=True))}


def trend_page(found: Trend, listed: pd.DataFrame, rows: pd.DataFrame, headlines: Headlines) -> str:
    """The whole page as HTML; the plots are those of ``listed`` cells that changed, the headline metrics' first."""
    names = list(found.values.columns)
    title = f"Trend over {counted(len(names), 'run')}"
    sentence = trend_sentence(rows, found.values.loc[rows["cell"]])
    parts = [section("answer", "Answer", "", _trend_answer(sentence, rows))]
    changed = listed[listed["since"] != ""]
    if len(changed):
        parts.append(section("changes", "Cells that changed", HOW_TO_READ, _plots_of(found, changed, rows, headlines)))
    parts.append(section("cells", "Table of cells", "", _table_of_cells(listed, rows)))
    theme = tag("button", "Dark", type="button", id="theme", aria_pressed="false")
    lead = tag("p", f"{names[0]} to {names[-1]}, {counted(len(rows), 'cell')}", class_="lead")
    top = tag("header", tag("div", tag("h1", title), lead), tag("div", theme, class_="tools"), class_="top")
    scripts, styles = ("page.js", "tables.js"), ("page.css", "trend.css")
    return document(title, [top, tag("main", parts)], {}, scripts=scripts, styles=styles)


def _trend_answer(sentence: str, rows: pd.DataFrame) -> Raw:
    lost = (rows["verdict"] == "worse").any()
    return tag("article", tag("p", sentence, class_="answer"), class_="verdict none" if lost else "verdict")


def _plots_of(found: Trend, changed: pd.DataFrame, rows: pd.DataFrame, headlines: Headlines) -> list[Raw]:
    """The headline metrics' plots, and the others folded; all open where no cell of a headline metric changed."""
    places = zip(changed["model"], changed["dataset"], changed["metric"], strict=True)
    first = pd.Series([headlines.get((model, data)) == metric for model, data, metric in places], changed.index)
    others = list(_grid_of_plots(found, changed[~first], rows))
    if not first.any():
        return others
    summary = f"Other metrics: {counted(int((~first).sum()), 'cell')}"
    return [*_grid_of_plots(found, changed[first], rows), folded(summary, others) if others else ""]


def _grid_of_plots(found: Trend, cells: pd.DataFrame, rows: pd.DataFrame) -> Iterator[Raw]:
    if len(cells):
        shown = cells.head(MOST_PLOTS).to_dict("records")
        yield tag("div", [_plot_with_words(found, row, blocks=several_blocks(rows)) for row in shown], class_="trends")
    if len(cells) > MOST_PLOTS:
        yield note(f"{counted(len(cells) - MOST_PLOTS, 'further cell')} without a plot; the table has them all.")


def _plot_with_words(found: Trend, row: dict, *, blocks: bool) -> Raw:
    step = step_of_row(row)
    name = f"{row['explainer']} by {row['metric']}" + (f", {row['model']} on {row['dataset']}" if blocks else "")
    unit = f" ({row['unit']})" if row["unit"] and row["unit"] != row["metric"] else ""
    words = f"{levels_in_words(step)}{unit}, {change_in_words(step, step['change'])} since {row['since']}"
    chance = certainty(row)
    words += f" ({'p ' if chance not in ('', 'exact') else ''}{chance})" if chance else ""
    values = found.steady.loc[row["cell"]].to_numpy(dtype=float)
    plot = step_plot(
        f"{name}: {words}", list(found.steady), values, found.levels[row["cell"]], row["since"], row["verdict"]
    )
    verdict = tag("span", row["verdict"], class_=f"word {row['verdict']}")
    return tag("figure", tag("figcaption", tag("b", soft(name)), " ", verdict, tag("span", words)), plot)


def _table_of_cells(listed: pd.DataFrame, rows: pd.DataFrame) -> list[Raw]:
    """The table that the terminal prints, what its words mean, and the number of the cells that are not in it."""
    parts, blocks = [], several_blocks(rows)
    if len(listed):
        records = [{"verdict": row["verdict"]} | trend_texts(row, blocks=blocks) for row in listed.to_dict("records")]
        heads = [Head(name, numeric=name == "runs") for name in records[0]]
        parts.append(html_table("Cells, the worst first", heads, [list(each.values()) for each in records]))
    parts += [tag("p", f"{text}.", class_="fine") for text in trend_notes(listed)]
    rest = rows.drop(listed.index)["verdict"].value_counts()
    if len(rest):
        counts = ", ".join(f"{number} {verdict}" for verdict, number in rest.items())
        parts.append(note(f"Not in the table: {counts}; harness trend --all shows them."))
    return parts
