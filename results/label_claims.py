"""What each process that measures a run calls its model and data set, kept in the run while it is at work.

    labels/<machine>-<process>-<digits>.json    labels and settings, as in a row, and whether it still asks for them

Rows come late: before the first one, another command would give the same label to another model. A process first asks
for labels, then reads the claims of others, and holds the labels when none is in the way. Whoever writes first is seen
by the other one. Of two that see each other ask, the one whose file's name comes first goes before, so that one of them
gets what it asks for; it waits until the other one, which may not have seen it, holds its labels or has given way.
"""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from harness.places import process_mark, process_of, temporary_file_in
from harness.results.row_labels import Row
from harness.results.rows import may_be_at_work
from harness.results.run_files import content_of, sound_json
from harness.seals import Damaged

CLAIMS = "labels"
ASKING = "asking"  # the key of a claim whose process does not hold its labels yet


class LabelClaim:
    """The claim of this process in a run. Where it cannot be written, there is none, and nothing else comes of it."""

    def __init__(self, run: Path) -> None:
        self.path = run / CLAIMS / f"{process_mark()}.json"
        # A command that is refused leaves nothing: neither the run nor the folder of all runs, if this makes them.
        self._folders = [run / CLAIMS, run, *([] if run.parent.exists() else [run.parent])]

    def write(self, labels: Row) -> None:
        """Claim the labels in a row, in place of those claimed before."""
        temporary = temporary_file_in(self.path.parent)
        with suppress(OSError):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(labels))
            os.replace(temporary, self.path)

    def of_others(self) -> tuple[list[Row], list[Row]]:
        """The claims of other processes: those that go before this one, and those that have to give way to it."""
        others = [path for path in _living(self.path.parent) if path != self.path]
        found = [
            (path.name < self.path.name or not row.get(ASKING), row) for path in others for row in _claims_read([path])
        ]
        return [row for before, row in found if before], [row for before, row in found if not before]

    def withdraw(self) -> None:
        """Remove the claim, those of killed processes, and the folders that this leaves empty."""
        for path in self.path.parent.glob("*.json"):
            if path == self.path or process_of(path.stem) == "gone":
                with suppress(OSError):
                    path.unlink()
        with suppress(OSError):  # not empty, or not there
            for folder in self._folders:
                folder.rmdir()


def claims_in(run: Path) -> list[Row]:
    """The claims of all processes that may be at work on a run."""
    return _claims_read(_living(run / CLAIMS))


def _living(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.json")) if may_be_at_work(path.stem, path)]


def _claims_read(paths: Iterable[Path]) -> list[Row]:
    """The rows in claims; what is none is left out, since a run may come from somebody else."""
    found = []
    for path in paths:
        with suppress(Damaged):
            found.append(sound_json(content_of(path)))
    return [row for row in found if isinstance(row, dict)]
