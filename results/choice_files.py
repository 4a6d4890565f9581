"""The files of ``harness choose`` in a run's folder. An ordinary run may lie in the same folder, and neither minds.

choice.json            the answer; it is there only together with its page and all its evidence
choice.html            the answer and the evidence as a page
evidence/<name>.csv    the evidence as tables
choosing/              what was measured, in the form of any run (``harness.results.store``), and beside it
    spent.jsonl        what each cell has taken: lines of JSON, each with its seal
    notes.json         decisions that do not follow from scores
    lock               held by the process that is choosing
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UserError, printable
from harness.results.run_files import SEAL, content_of, json_values, sound_json
from harness.seals import Damaged, blank_seal, check_seal, sealed

FOLDER, ANSWER, PAGE, TABLES = "choosing", "choice.json", "choice.html", "evidence"
SPENT, NOTES, LOCK = "spent.jsonl", "notes.json", "lock"
AGAIN = "the same harness choose command writes it again from what was measured"


def is_run(path: Path) -> bool:
    """Whether a folder holds an ordinary run: rows of cells, which are not those of a choice."""
    # unlike Path.is_dir, os.path has an answer for names that no folder can have
    return os.path.isdir(path / "cells") and not os.path.isfile(path / LOCK)


def choice_in(path: Path) -> Path | None:
    """The folder of the choice that a folder holds, or is a part of; None if there is none."""
    if path.name == FOLDER and os.path.isfile(path / LOCK):
        return path.parent
    return path if os.path.isdir(path / FOLDER) or os.path.isfile(path / ANSWER) else None


def find_choice(name: str | Path, runs_directory: str | Path = "runs") -> Path | None:
    """The folder of a choice without an ordinary run beside it, by its name below ``runs_directory`` or as a path; None
    if there is none, or if the name means an ordinary run."""
    places = (Path(runs_directory) / name, Path(name))
    if str(name) in ("latest", "previous") or any(map(is_run, places)):
        return None
    return next(filter(None, map(choice_in, places)), None)


def read_answer(directory: Path) -> dict[str, Any]:
    """The answer of a choice; its texts are on one line and free of control characters. UserError if there is none."""
    path = directory / ANSWER
    if not path.exists():
        raise UserError(f"the choice in {directory} has no answer yet: the same harness choose command goes on")
    try:
        facts = sound_json(content_of(path, named_folder=True))
        if not (isinstance(facts, dict) and facts.get("sentences") and facts.get("model") and facts.get("dataset")):
            raise Damaged("it is no answer of harness choose")
        texts = {name: [printable(str(each)) for each in facts.get(name) or ()] for name in ("sentences", "caveats")}
    except (Damaged, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); {AGAIN}") from error
    return {**facts, **texts}


@dataclass
class SpentFile:
    """What is in a file of what was spent: the entries of its whole lines, these lines, and what is wrong with it."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    problem: str = ""


def spent_line(entry: Mapping[str, Any]) -> bytes:
    """An entry as a sealed line."""
    return sealed(json.dumps({**entry, SEAL: blank_seal(SPENT)}).encode()) + b"\n"


def read_spent(path: Path) -> SpentFile:
    """The entries of a file of what was spent; one that is not there has none."""
    found = SpentFile()
    if not path.exists():
        return found
    try:
        content = content_of(path)
    except Damaged as error:
        return SpentFile(problem=str(error))
    for number, line in enumerate(content.splitlines(), 1):
        try:
            check_seal(line, SPENT)
            found.entries.append(json_values(line))
            found.lines.append(line)
        except Damaged as error:
            found.problem = found.problem or f"line {number} cannot be used: {error}"
    return found
