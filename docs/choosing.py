"""Tries ``harness choose`` on planted tasks: ``python docs/choosing.py`` (an hour on two cores; it resumes).

``python docs/choosing.py measure`` measures the tasks into runs/choosing/tasks.jsonl, ``python docs/choosing.py write``
makes the tables from it, ``python docs/choosing.py simulate`` writes the table of the race alone into docs/choosing.md.

Of each task the whole grid is measured, all explainers on all samples, and ``harness choose`` is run on the same
samples: with no budget, and with budgets that are shares of the grid's evaluations.
"""

import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from choosing_rivals import RIVALS, Grid
from choosing_tasks import Task, tasks, truth_metric
from torch import Tensor, nn

import harness
from harness.choosing.account import Account, group_of
from harness.choosing.candidates import CONTROLS, COSTS, with_controls
from harness.choosing.choice import Choice
from harness.choosing.choose import Choosing
from harness.choosing.measuring import InMemory, Measured, Measuring, Part
from harness.choosing.prices import NOTE
from harness.choosing.settings import Budget, Settings
from harness.engine.protocol import Protocol
from harness.engine.selection import Cell, Chosen, choose_one, choose_several
from harness.engine.stage import Stage, set_stage
from harness.identity import digest
from harness.models.black_box import loaded_model
from harness.registry import EXPLAINERS, METRICS

FILE = Path(__file__).parents[1] / "runs" / "choosing" / "tasks.jsonl"
BUDGETS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)  # shares of the evaluations of the whole grid
WITH_BUDGETS = 4  # one task in so many is run with budgets too


def guess(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Any) -> Tensor:
    """Random maps, another for each input."""
    from harness.randomness import normal

    return context.units.as_map(normal(context.stream("guess"), *context.units.shape).to(inputs))


# Good and bad ones, cheap and dear ones. The training mean in place of a background of 100 rows.
CANDIDATES = [
    "gradient",
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "smoothgrad",
    "vargrad",
    "deep_lift",
    "lrp",
    "guided_backprop",
    "grad_cam",
    "expected_gradients",
    "occlusion",
    "feature_ablation",
    "lime",
    {"name": "kernel_shap", "background": 0},
    {"name": "shapley_sampling", "background": 0},
    "rise",
    guess,
]


class Replayed(InMemory):
    """Keeps what is measured, and what each cell has taken; a choice that starts again on it spends the same again."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "spent.jsonl"
        self.start_again()

    def start_again(self) -> None:
        """Nothing is spent, and no answer has been given; all that was measured stays known."""
        self.account = Account(self.path, "")
        self._notes = {name: value for name, value in self._notes.items() if name == NOTE}

    def cell(self, part: Part, explainer: Chosen, metric: Chosen) -> Cell:
        """The cell, by part, explainer and metric."""
        return Cell(explainer, metric, f"{part.name}: {explainer.label}: {metric.label}".replace("/", " "))

    def charge(self, part: Part, cell: Cell | None, seconds: float, evaluations: float) -> None:
        """Note what a cell has taken."""
        self.account.charge(part.name, cell.id if cell else None, seconds, evaluations)

    def charge_for_all(self, cells: Sequence[Cell], key: str, seconds: float, evaluations: float) -> None:
        """Note what something has taken that all of these cells share."""
        self.account.charge_for_all(group_of(cells), digest(key), seconds, evaluations)

    def read(self, part: Part, cells: Sequence[Cell]) -> Measured:
        """What is known of the part; the choice has come to these cells."""
        self.account.come_to_all(cells)
        return super().read(part, cells)

    def spent(self) -> tuple[float, float]:
        """What the cells have taken that the choice has come to."""
        return self.account.spent()


def staged(model: nn.Module, data: harness.Data) -> Stage:
    """Model and data as ``harness.choose`` prepares them."""
    stage = set_stage(loaded_model(model), data, Protocol.of({"target": "predicted"}), torch.device("cpu"))
    stage.make_ready()
    return stage


def explainers() -> list[Chosen]:
    """The candidates and the controls."""
    return with_controls(choose_several(EXPLAINERS, CANDIDATES), choose_several(EXPLAINERS, list(CONTROLS)))


def choose(stage: Stage, keeper: Replayed, budget: int | None) -> Choice:
    """One choice, without tuning: the grid does not tune either."""
    keeper.start_again()
    settings = Settings(budget=budget, tune=False)
    measuring = Measuring(stage, keeper, Budget.of(budget))
    return Choosing(measuring, explainers(), settings, lambda line: None).choose()


def _shuffled(task: Task) -> int:
    """An order of the tasks that has nothing to do with their kinds: what has been measured so far is a fair sample."""
    return zlib.crc32(task.name.encode()[::-1])


def measured(task: Task) -> dict[str, Any]:
    """The row of a task: what the grid says, what ``harness choose`` answers, and what other ways answer."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        return _measured(task, Replayed(Path(folder)))


def _measured(task: Task, keeper: Replayed) -> dict[str, Any]:
    model, data = task.make()
    stage = staged(model, data)
    choice = choose(stage, keeper, None)
    row = {"task": task.name, **{name: getattr(task, name) for name in ("family", "kind", "expected", "units")}}
    row |= {"samples": stage.count, "choice": _answer(choice)}
    if choice.basis.trust is None or not choice.basis.trust.used:
        return row
    grid, truth = _grid(stage, choice, truth_metric(task))
    row |= {"grid": grid.cost, "mean": dict(zip(grid.names, grid.scores.mean(0), strict=True)), "truth": truth}
    row["rivals"] = {name: vars(way(_in_race_order(grid, stage))) for name, way in RIVALS.items()}
    if _shuffled(task) % WITH_BUDGETS == 0:
        row["budgets"] = {}
        for share in BUDGETS:
            try:
                row["budgets"][share] = _answer(choose(stage, keeper, round(share * grid.cost)))
            except harness.errors.UserError as refusal:
                row["budgets"][share] = {"refused": str(refusal)}
    return row


def _answer(choice: Choice) -> dict[str, Any]:
    basis = choice.basis
    left_out = {each.label: each.reason for each in basis.candidates.values() if each.reason}
    left = {} if basis.course is None else dict(basis.course.left)
    return {
        "status": choice.status,
        "recommended": choice.recommended,
        "set": choice.explainers,
        "confirmed": [each.label for each in choice.members],
        "evaluations": basis.evaluations,
        "raced": 0 if basis.course is None else basis.course.raced,
        "used": basis.trust.used if basis.trust else [],
        "left_out": left_out,
        "left": left,
        "unmeasured": [] if basis.course is None else basis.course.unmeasured,
        "reason": choice.reason,
    }


def _grid(stage: Stage, choice: Choice, truth: str | None) -> tuple[Grid, dict[str, float]]:
    """The scores of all candidates on all samples by the metrics that the choice used, and the mean truth scores."""
    keeper, part = InMemory(), Part("grid", tuple(range(stage.count)))
    headline = choice.basis.headline
    there = [
        each.chosen
        for each in choice.basis.candidates.values()
        if not each.control and (each.takes_part or each.stand_in)
    ]
    costs = [choose_one(METRICS, name) for name in COSTS[1:]]
    found = Measuring(stage, keeper, Budget()).measure(part, there, [*headline.metrics, *costs])
    spent = keeper.spent()[1]
    columns, prices = {}, {}
    for each in there:
        scores = headline.scores(found, each.label)
        if scores is not None and np.isfinite(scores).all():
            columns[each.label] = scores
            prices[each.label] = sum(float(np.nan_to_num(found.values[each.label, name]).mean()) for name in COSTS[1:])
    scoring = (spent - sum(prices.values()) * stage.count) / (stage.count * max(1, len(there)))
    grid = Grid(list(columns), np.array(list(columns.values())).T, np.array(list(prices.values())) + max(scoring, 0.0))
    if truth is None:
        return grid, {}
    metric = choose_one(METRICS, truth)
    told = Measuring(stage, InMemory(), Budget()).measure(part, there, [metric])
    means = {n: float(np.nanmean(told.values[n, truth])) for n in columns if (n, truth) in told.values}
    return grid, means


def _in_race_order(grid: Grid, stage: Stage) -> Grid:
    """The grid with its samples shuffled as a choice shuffles them."""
    order = np.random.default_rng([stage.protocol.seed, stage.count]).permutation(stage.count)
    return Grid(grid.names, grid.scores[order], grid.prices)


def measure(path: Path = FILE, processes: int = 2) -> None:
    """Measure the tasks that the file lacks; one line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {row["task"] for row in rows(path)}
    todo = sorted((task for task in tasks() if task.name not in known), key=_shuffled)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool, open(path, "a") as file:
        for done, row in enumerate(pool.map(measured, todo), start=1):
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"{done} of {len(todo)}: {row['task']}: {row['choice']['status']}", flush=True)


def rows(path: Path = FILE) -> Iterator[dict[str, Any]]:
    """What has been measured."""
    if path.exists():
        yield from map(json.loads, path.read_text().splitlines())


if __name__ == "__main__":
    import choosing_page

    what = sys.argv[1] if len(sys.argv) > 1 else "all"
    if what in ("all", "measure"):
        measure()
    if what in ("all", "write"):
        choosing_page.write(list(rows()))
    if what in ("all", "simulate"):
        choosing_page.write_tables({"race alone": choosing_page.race_alone()})
