"""What the cells of a choice have taken: kept on the disk, and counted as far as the choice has come."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.engine.selection import Cell
from harness.identity import digest
from harness.jobs.charging import of_explainer
from harness.results.choice_files import read_spent, spent_line
from harness.results.disk import told_in_one_line
from harness.results.run_files import name_damage, set_aside, write_content

LEAST_SECONDS = 0.0005  # what takes less and evaluates nothing gets no line


class Account:
    """Seconds and model evaluations of each cell, of all processes.

    What a choice has spent when it takes a decision is what the cells have taken that it has come to. A choice that was
    killed and goes on, or that has a larger budget now, takes its steps again, and counts as it did the first time:
    what cells share is noted apart from them, since after a kill it is computed again, for another cell. What came to
    nothing, such as a cell that a killed process did not finish, is kept and not counted.
    """

    def __init__(self, path: Path, safe: str) -> None:
        self.path, self.safe = path, safe
        self._of_cells: dict[str, np.ndarray] = {}
        self._of_process: dict[str, np.ndarray] = {}
        self._shared: dict[str, list[str]] = {}
        self._noted_here: set[str] = set()
        self._come_to: set[str] = set()
        self._spent = np.zeros(2)
        for entry in self._whole_entries():
            self._count(entry.get("cell"), **{name: entry.get(name) for name in ("seconds", "evaluations", "more")})

    def charge(self, part: str, cell_id: str | None, seconds: float, evaluations: float) -> None:
        """Note what a cell has taken, or work that belongs to none; the last note of a cell counts."""
        self._write({"part": part, "cell": cell_id}, seconds, evaluations, more=False)

    def charge_for_all(self, group: str, key: str, seconds: float, evaluations: float) -> None:
        """Note what cells that are measured together share; ``key`` says what it is. What one process notes of it adds
        up, and of several processes the one counts that needed most of it."""
        shared_id = f"{group}/{key}"
        if self._write({"cell": shared_id}, seconds, evaluations, more=shared_id in self._noted_here):
            self._noted_here.add(shared_id)

    def knows(self, cell_id: str) -> bool:
        """Whether it is known what a cell has taken."""
        return cell_id in self._of_cells

    def come_to_all(self, cells: Sequence[Cell]) -> None:
        """The choice uses these cells, which are measured together, and what they share, from now on."""
        explainers = dict.fromkeys(cell.explainer for cell in cells)
        for together in (cells, *(of_explainer(each, cells) for each in explainers)):
            self.come_to_group(group_of(together))
        for cell in cells:
            self.come_to(cell.id)

    def come_to(self, cell_id: str) -> None:
        """The choice uses a cell, from now on."""
        if cell_id not in self._come_to:
            self._come_to.add(cell_id)
            self._spent += self._of_cells.get(cell_id, 0.0)

    def come_to_group(self, group: str) -> None:
        """The choice uses what cells share that are measured together, from now on."""
        for shared_id in self._shared.get(group, ()):
            self.come_to(shared_id)

    def spent(self) -> tuple[float, float]:
        """What all cells have taken that the choice has come to."""
        return float(self._spent[0]), float(self._spent[1])

    def _write(self, about: Mapping[str, Any], seconds: float, evaluations: float, *, more: bool) -> bool:
        """Write an entry and count it; False for one that is too small to be written."""
        if seconds < LEAST_SECONDS and not evaluations:
            return False
        taken = {"seconds": round(seconds, 4), "evaluations": evaluations, "more": more}
        with told_in_one_line(self.path, self.safe):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab", buffering=0) as file:  # a kill tears no line; it need not outlive the machine
                file.write(spent_line({**about, **taken}))
        self._count(about["cell"], **taken)
        return True

    def _count(self, cell_id: str | None, seconds: float, evaluations: float, more: bool) -> None:
        """Take an entry to account: of a cell, or of what cells share, whose id is that of their group and a key."""
        if cell_id is None:
            return
        before, taken = self._of_cells.get(cell_id, np.zeros(2)), np.array([seconds, evaluations], dtype=float)
        group, shared, _ = cell_id.partition("/")
        if shared:
            if cell_id not in self._of_cells:
                self._shared.setdefault(group, []).append(cell_id)
            earlier = self._of_process.get(cell_id, 0.0) if more else 0.0  # the first entry may be damaged
            self._of_process[cell_id] = taken = taken + earlier
            taken = np.maximum(taken, before)
        self._of_cells[cell_id] = taken
        if cell_id in self._come_to:
            self._spent += self._of_cells[cell_id] - before

    def _whole_entries(self) -> list[dict]:
        """The entries on the disk; lines that are damaged are moved away."""
        found = read_spent(self.path)
        if found.problem:
            name_damage(self.path, found.problem, "what these measurements have taken is not counted")
            with told_in_one_line(self.path, self.safe):
                set_aside(self.path)
            write_content(self.path, b"".join(line + b"\n" for line in found.lines), self.safe)
        return found.entries


def group_of(cells: Sequence[Cell]) -> str:
    """A name for cells that are measured together."""
    return digest(*sorted(cell.id for cell in cells))
