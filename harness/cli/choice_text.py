"""A choice of ``harness choose`` on the screen: the answer in words, what was confirmed, and where the evidence is."""

import argparse
import sys
from io import BytesIO
from pathlib import Path

import pandas as pd

from harness.cli.words import TABLES as TABLES_OF_RUNS
from harness.errors import UserError, one_line, printable
from harness.results.choice_files import AGAIN, PAGE, TABLES, read_answer
from harness.results.disk import whole_file
from harness.results.numbers import significant, with_interval
from harness.results.plain_text import drawable
from harness.results.run_files import content_of
from harness.results.tables import to_csv, to_parquet
from harness.results.terminal import header_and_rows, in_lines, width_of
from harness.seals import Damaged

CONFIRMED = "confirmation"
TEXTS = ("against", "worse_than", "caveats")  # columns that may be empty, which a file does not tell from lacking
COLUMNS = {
    "explainer": "left",
    "score": "right",
    "gain over the best control": "left",
    "seconds a sample": "right",
    "verdict": "left",
}


def show_choice(directory: Path) -> int:
    """Print the answer of a choice and the table of what was confirmed."""
    facts, rows = read_answer(directory), confirmed_rows(directory)
    lines = [in_lines(" ".join(facts["sentences"]), width_of(sys.stdout)), ""]
    if len(rows):
        header, body = header_and_rows(COLUMNS, [_texts_of_row(row) for row in rows.to_dict("records")])
        lines += [*header, *body, ""]
    lines += [in_lines(each, width_of(sys.stdout)) for each in facts["caveats"]]
    print("\n".join(lines))
    print(f"evidence: {drawable(page_of(directory))} and {drawable(directory / TABLES)}")
    return 0


def write_choice_tables(chosen: argparse.Namespace, directory: Path) -> int:
    """What ``harness table`` does with a choice: print it, or write what was confirmed to files."""
    flags = [f"--{name}" for name in TABLES_OF_RUNS if getattr(chosen, name)]
    flags += [f"--{name}" for name in ("markdown", "latex") if getattr(chosen, name)]
    flags += [f"--{name}" for name in ("metric", "explainer") if getattr(chosen, f"{name}s")]
    if flags:
        raise UserError(
            f"{flags[0]} is for runs of harness run, and {directory} holds a choice of harness choose; without the "
            f"flag its confirmation is shown, and {directory / TABLES} holds all its tables"
        )
    files = [(path, write) for path, write in ((chosen.csv, to_csv), (chosen.parquet, to_parquet)) if path]
    if not files:
        return show_choice(directory)
    read_answer(directory)
    rows = confirmed_rows(directory)
    for path, write in files:
        write(rows, path)
        print(f"{len(rows)} rows: {path}")
    return 0


def report_choice(directory: Path, out: str | None) -> int:
    """What ``harness report`` does with a choice: its page is there already; ``out`` gets a copy of it."""
    facts, page = read_answer(directory), page_of(directory)
    if out:
        with whole_file(Path(out)) as temporary:
            temporary.write_bytes(_content_or_error(page, named_folder=True))
        page = Path(out)
    for line in facts["sentences"]:
        print(in_lines(line, width_of(sys.stdout)))
    print(f"report: {drawable(page)} ({page.stat().st_size / 1e6:.1f} MB)")
    return 0


def page_of(directory: Path) -> Path:
    """The page of a choice; UserError if it is not there."""
    page = directory / PAGE
    if not page.is_file():
        raise UserError(f"{page} is not there; {AGAIN}")
    return page


def confirmed_rows(directory: Path) -> pd.DataFrame:
    """The rows of the confirmation, with empty texts in the place of lacking ones; none where nothing was confirmed."""
    path = directory / TABLES / f"{CONFIRMED}.csv"
    if not path.exists():
        return pd.DataFrame()
    content = _content_or_error(path)
    try:
        rows = pd.read_csv(BytesIO(content))
        texts = {name: ["" if pd.isna(each) else str(each) for each in rows[name]] for name in TEXTS}
        rows = rows.assign(**texts)
        return rows.assign(explainer=rows["explainer"].map(lambda name: printable(str(name))))
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"{path} is damaged ({one_line(error)[:200]}); {AGAIN}") from error


def _content_or_error(path: Path, *, named_folder: bool = False) -> bytes:
    try:
        return content_of(path, named_folder=named_folder)
    except Damaged as error:
        raise UserError(f"{path} is damaged ({error}); {AGAIN}") from error


def _texts_of_row(row: dict) -> list[str]:
    known = row["against"] and pd.notna(row["gain"])
    gain = with_interval(row["gain"], row["gain_low"], row["gain_high"]) if known else ""
    seconds = significant(row["seconds_per_sample"]) if pd.notna(row["seconds_per_sample"]) else "not measured"
    return [row["explainer"], significant(row["mean"]), gain, seconds, _standing_in_words(row)]


def _standing_in_words(row: dict) -> str:
    if row["control"]:
        return "control" if row["against"] else "the best control"
    if row["worse_than"]:
        return printable(f"worse than {row['worse_than']}")
    words = "recommended" if row["recommended"] else "not shown to be worse"
    return printable("; ".join(filter(None, (words, row["caveats"]))))
