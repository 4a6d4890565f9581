"""Checks every file of a run: what is damaged, and how many files carry no checksum."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import printable
from harness.places import abandoned_in
from harness.results.choice_files import FOLDER, NOTES, SPENT, read_spent
from harness.results.rows import read_rows
from harness.results.run_files import RunFiles, code_text
from harness.results.score_table import check_scores
from harness.results.store import FOLDERS, Store
from harness.seals import Damaged

PARSED = {".parquet": RunFiles.arrow_table, ".npy": RunFiles.array, ".json": RunFiles.json}
REMEDY = "{} with the same arguments measures what is lacking again"


@dataclass
class Verification:
    """What was found in a run: how many files were checked and have no checksum, and what is wrong with which file.

    verb    the command that wrote the files
    """

    directory: Path
    verb: str = "harness run"
    checked: int = 0
    unsealed: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    abandoned: int = 0

    def lines(self) -> list[str]:
        """One line for each damaged file, and a last line about all."""
        old = f"; {self.unsealed} carry no checksum: an older version wrote them" if self.unsealed else ""
        left = f"; {self.abandoned} temporary files of killed runs, which {self.verb} deletes" if self.abandoned else ""
        if not self.damaged:
            lines = [f"{self.directory}: {self.checked} files checked, nothing is damaged{old}{left}"]
        else:
            count = f"{len(self.damaged)} of {self.checked} files are damaged"
            lines = [f"{self.directory / name}: {reason}" for name, reason in self.damaged.items()]
            lines += [f"{self.directory}: {count}{old}{left}; {REMEDY.format(self.verb)}"]
        return list(map(printable, lines))


def verify_run(directory: Path) -> Verification:
    """Check all files of a run that are read again: rows, scores, tables, maps, configurations and environments."""
    store, found = Store(directory), Verification(directory)
    for path in store.files():
        rows = read_rows(path)
        found.checked += 1
        found.unsealed += bool(rows.unsealed)
        if rows.problem:
            found.damaged[_relative(found, path)] = rows.problem
    for path, row in _files_read(store):
        found.checked += 1
        try:
            found.unsealed += not _check(store, path, row)
        except Damaged as error:
            found.damaged[_relative(found, path)] = str(error)
    found.abandoned = sum(len(abandoned_in(directory / folder)) for folder in ("", *FOLDERS))
    return found


def verify_choice(directory: Path) -> Verification:
    """Check what a choice in the folder of a run reads again: cells with their scores, decisions, what was spent."""
    folder = directory / FOLDER
    found = verify_run(folder)
    found.verb = "harness choose"
    spent, notes = folder / SPENT, folder / NOTES
    problems = {SPENT: read_spent(spent).problem if spent.exists() else "", NOTES: ""}
    try:
        if notes.exists():
            RunFiles(folder).json(notes)
    except Damaged as error:
        problems[NOTES] = str(error)
    found.checked += spent.exists() + notes.exists()
    found.damaged |= {name: problem for name, problem in problems.items() if problem}
    return found


def _relative(found: Verification, path: Path) -> str:
    return path.relative_to(found.directory).as_posix()


def _files_read(store: Store) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """The files to check beside those of rows, each once; those of scores with the row of their cell."""
    ok = [row for row in store.latest(named=False).values() if row.get("status") == "ok"]
    for row in ok:
        yield store.scores_path(row["cell"]), row
    for path in dict.fromkeys(path for row in ok for path in store.tables_of(row).values()):
        yield path, None
    for kind in ("maps/*.npy", "maps/*.json", "config/*.json", "environment/*.json"):
        for path in sorted(store.directory.glob(kind)):
            yield path, None


def _check(store: Store, path: Path, row: dict[str, Any] | None) -> bool:
    """Raise Damaged for a damaged file; whether it carries a checksum. One without is parsed."""
    files = store.run_files
    if path.parent.name in ("config", "environment"):
        return files.check_text(path)
    if files.check(path, code=code_text(row or {})):
        return True
    content = PARSED[path.suffix](files, path)
    if row is not None:
        check_scores(content, row)
    return False
