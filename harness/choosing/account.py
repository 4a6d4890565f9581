"""What the cells of a choice have taken: kept on the disk, and counted as far as the choice has come."""

from pathlib import Path

import numpy as np

from harness.results.choice_files import read_spent, spent_line
from harness.results.disk import told_in_one_line
from harness.results.run_files import name_damage, set_aside, write_content

LEAST_SECONDS = 0.0005  # what takes less and evaluates nothing gets no line


class Account:
    """Seconds and model evaluations of each cell, of all processes.

    What a choice has spent when it takes a decision is what the cells have taken that it has come to. A choice that was
    killed and goes on, or that has a larger budget now, takes its steps again, and counts as it did the first time.
    What came to nothing, such as a cell that a killed process did not finish, is kept and not counted.
    """

    def __init__(self, path: Path, safe: str) -> None:
        self.path, self.safe = path, safe
        self._of_cells: dict[str, np.ndarray] = {}
        self._come_to: set[str] = set()
        self._spent = np.zeros(2)
        for entry in self._whole_entries():
            self._count(**{name: entry.get(name) for name in ("cell", "seconds", "evaluations", "more")})

    def charge(self, part: str, cell: str | None, seconds: float, evaluations: float, *, more: bool = False) -> None:
        """Note what a cell has taken, or work that came to nothing; ``more`` is added to what is noted already."""
        if seconds < LEAST_SECONDS and not evaluations:
            return
        entry = {"cell": cell, "seconds": round(seconds, 4), "evaluations": evaluations, "more": more}
        with told_in_one_line(self.path, self.safe):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab", buffering=0) as file:  # a kill tears no line; it need not outlive the machine
                file.write(spent_line({"part": part, **entry}))
        self._count(**entry)

    def knows(self, cell: str) -> bool:
        """Whether it is known what a cell has taken."""
        return cell in self._of_cells

    def come_to(self, cell: str) -> None:
        """The choice uses a cell, from now on."""
        if cell not in self._come_to:
            self._come_to.add(cell)
            self._spent += self._of_cells.get(cell, 0.0)

    def spent(self) -> tuple[float, float]:
        """What all cells have taken that the choice has come to."""
        return float(self._spent[0]), float(self._spent[1])

    def _count(self, cell: str | None, seconds: float, evaluations: float, more: bool) -> None:
        """Take an entry to account: a cell that is measured again has taken what it took the last time."""
        if cell is None:
            return
        before = self._of_cells.get(cell, np.zeros(2))
        self._of_cells[cell] = np.array([seconds, evaluations], dtype=float) + (before if more else 0)
        if cell in self._come_to:
            self._spent += self._of_cells[cell] - before

    def _whole_entries(self) -> list[dict]:
        """The entries on the disk; lines that are damaged are moved away."""
        found = read_spent(self.path)
        if found.problem:
            name_damage(self.path, found.problem, "what these measurements have taken is not counted")
            with told_in_one_line(self.path, self.safe):
                set_aside(self.path)
            write_content(self.path, b"".join(line + b"\n" for line in found.lines), self.safe)
        return found.entries
