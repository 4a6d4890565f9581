"""The search for counterfactuals: a genetic one without gradients, for the samples of a batch side by side."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from harness.errors import UserError, unknown
from harness.explainers._decisions import decided, lead, outputs_of, own_decisions
from harness.explainers._diverse import diverse_rows
from harness.explainers._row_changes import RowChanges
from harness.option_types import NotNegative, Range
from harness.randomness import element, uniform
from harness.samples import Samples

CROSSED = 0.8  # probability that a child's column comes from a parent (half from each); else it is new
LINE_HALVINGS = 12  # bisection steps from a counterfactual towards the sample
# Rows kept during the search, as a multiple of ``alternatives``: some become equal when they are shrunk.
SPARE = 2


@dataclass(frozen=True)
class WantedRows:
    """Options of the search for counterfactuals.

    alternatives  how many counterfactuals are searched for
    proximity     weight of the distance to the sample, as a mean over columns
    diversity     weight of the determinant of the counterfactuals' likeness to one another
    population    number of rows of each generation
    steps         number of generations
    fixed         names of columns that must not change, with commas between them
    """

    alternatives: Annotated[int, Range(1, 1000)] = 10
    proximity: NotNegative = 0.5
    diversity: NotNegative = 1.0
    population: Annotated[int, Range(2, 10_000)] = 100
    steps: Annotated[int, Range(0, 1_000_000)] = 10
    fixed: str = ""

    def free(self, names: tuple[str, ...]) -> Tensor:
        """Which of the named columns may change, (C,) bool; UserError for an unknown name, or where none may."""
        fixed = [name.strip() for name in self.fixed.split(",") if name.strip()]
        for name in fixed:
            if name not in names:
                raise unknown("column in fixed", name, names)
        if len(set(fixed)) == len(names):
            raise UserError(f"fixed is {self.fixed!r}, expected at least one column that may change")
        return torch.tensor([name not in fixed for name in names])


class RowSearch:
    """Rows of another decision, for a batch of samples.

    own    (n,) bool, the decision for each sample: whether its target is predicted
    known  (n,) bool, whether that is known; no rows are found for the others
    spent  evaluations of the model for each sample (n,)
    """

    def __init__(self, context: Samples, changes: RowChanges, wanted: WantedRows) -> None:
        self.context, self.changes, self.wanted = context, changes, wanted
        self.own, self.known = own_decisions(context)
        self.free = wanted.free(changes.rows.names).to(self.own.device)
        self.free_numbers = self.free[changes.columns]
        self.keys = context.stream("counterfactuals")
        self.spent = torch.zeros_like(context.targets)

    def run(self) -> tuple[Tensor, Tensor]:
        """Counterfactuals (n, k, D) chosen by DiCE's loss, and a mask (n, k) of those that were found."""
        population = torch.cat([self._singles(), self._nearest(), self._mixtures()], 1)
        changed, loss = self._judge(population)
        kept, there = self._choose(population, changed, SPARE * self.wanted.alternatives)
        for step in range(self.wanted.steps):
            population = self._children(population, loss, step)
            changed, loss = self._judge(population)
            pool, usable = torch.cat([kept, population], 1), torch.cat([there, changed], 1)
            kept, there = self._choose(pool, usable, SPARE * self.wanted.alternatives)
        thinned = self._drawn_back(self._thinned(kept, there), there)
        chosen, there = self._choose(thinned, there, self.wanted.alternatives)
        return chosen, there & self.known[:, None]

    def _singles(self) -> Tensor:
        """The samples with one column changed, to each of the values that are tried: (n, S, D)."""
        rows, of = self.changes.values_to_try
        rows, of = rows[self.free[of]], of[self.free[of]]
        changed = self.changes.columns == of[:, None]
        return torch.where(changed, rows, self.context.inputs[:, None])

    def _nearest(self) -> Tensor:
        """The background rows of another decision that are nearest to each sample, in the columns that may change."""
        task, rows = self.context.task, self.changes.rows
        found = []
        for own, target, decision in zip(self.context.inputs, self.context.targets, self.own, strict=True):
            candidates = torch.where(self.free_numbers, rows.inputs, own)
            other = decided(task, rows.outputs, target.expand(len(candidates))) != decision
            apart = self.changes.column_distances(candidates, own).sum(1).masked_fill(~other, torch.inf)
            found.append(candidates[apart.argsort(stable=True)[: self.wanted.population]])
        return torch.stack(found)

    def _mixtures(self) -> Tensor:
        """The samples with a random share of their columns from random background rows: (n, P, D)."""
        count = self.wanted.population
        chances = uniform(element(self.keys, torch.zeros_like(self.keys)), count, 1 + self.changes.count)
        new = (chances[..., 1:] < chances[..., :1])[..., self.changes.columns] & self.free_numbers
        return torch.where(new, self._random_values(1, count), self.context.inputs[:, None])

    def _children(self, parents: Tensor, loss: Tensor, step: int) -> Tensor:
        """The next generation (n, P, D): each column is that of one of two parents of the better half, or a new one.

        A new one is the sample's own, or that of a random background row.
        """
        count, size = self.wanted.population, max(2, parents.shape[1] // 2)
        keys = element(self.keys, torch.full_like(self.keys, 2 * step + 2))
        chances = uniform(keys, count, 2 + self.changes.count, dtype=torch.float64)
        better = loss.argsort(dim=1, stable=True)[:, :size]
        first, second = (_taken(parents, better.gather(1, (chances[..., place] * size).long())) for place in range(2))
        chance = chances[..., 2:][..., self.changes.columns]
        values = self._random_values(2 * step + 3, count)
        own = self.context.inputs[:, None]
        new = torch.where((chance < (1 + CROSSED) / 2) | ~self.free_numbers, own, values)
        return torch.where(chance < CROSSED, torch.where(chance < CROSSED / 2, first, second), new)

    def _random_values(self, number: int, count: int) -> Tensor:
        """Rows (n, count, D) whose columns are each that of a random background row; ``number`` is that of the draw."""
        keys, rows = element(self.keys, torch.full_like(self.keys, number)), self.changes.inputs
        places = (uniform(keys, count, self.changes.count, dtype=torch.float64) * len(rows)).long()
        return rows[places[..., self.changes.columns], torch.arange(rows.shape[1], device=rows.device)]

    def _judge(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Whether rows (n, M, D) have another decision, and their loss: how far they are from one, and from the sample.

        The first is DiCE's hinge loss, the probability by which the decision of the sample leads.
        """
        sample = torch.arange(len(rows), device=rows.device).repeat_interleave(rows.shape[1])
        outputs = self._outputs(rows.flatten(0, 1), sample)
        targets, task = self.context.targets[sample], self.context.task
        changed = decided(task, outputs, targets) != self.own[sample]
        leads = lead(task, outputs, targets) * torch.where(self.own[sample], 1, -1)
        loss = leads.clamp(min=0).double().masked_fill(changed, 0.0).view(rows.shape[:2])
        return changed.view(rows.shape[:2]), loss + self.wanted.proximity * self._distances(rows)

    def _distances(self, rows: Tensor) -> Tensor:
        """How far rows (n, M, D) are from the samples, as means over the columns: (n, M)."""
        return self.changes.column_distances(rows, self.context.inputs[:, None]).mean(-1)

    def _choose(self, pool: Tensor, usable: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Counterfactuals (n, k, D) chosen by DiCE's loss, and a mask (n, k) of those that were found.

        k is ``most``; they are rows of a ``pool`` (n, M, D).
        """
        near, wanted = self._distances(pool), self.wanted
        places, there = diverse_rows(self.changes, pool, usable, near, most, wanted.proximity, wanted.diversity)
        return _taken(pool, places), there

    def _thinned(self, rows: Tensor, there: Tensor) -> Tensor:
        """Rows (n, M, D) with as few changes as possible: each column, from the least changed on, is set back to the
        sample's value if the decision stays changed.
        """
        sizes = self.changes.column_distances(rows, self.context.inputs[:, None])
        order = sizes.argsort(dim=-1, stable=True)
        for place in range(self.changes.count):
            column = order[..., place]
            changed = there & (sizes.gather(2, column[..., None])[..., 0] > 0)
            sample, number = changed.nonzero(as_tuple=True)
            trial = self.changes.with_own(rows[sample, number], self.context.inputs[sample], column[sample, number])
            rows = self._with_changed_decision(rows, trial, sample, number)
        return rows

    def _drawn_back(self, rows: Tensor, there: Tensor) -> Tensor:
        """Rows (n, M, D) whose continuous columns are moved towards the sample on a straight line, as far as the
        decision stays changed.
        """
        rows = rows.clone()
        sample, number = there.nonzero(as_tuple=True)
        start, end = self.context.inputs[sample], rows[sample, number]
        moving = ((start != end) & self.changes.continuous).any(1)
        sample, number, start, end = (each[moving] for each in (sample, number, start, end))
        low, high = torch.zeros(len(end), 1, device=end.device), torch.ones(len(end), 1, device=end.device)
        for _ in range(LINE_HALVINGS):
            middle = (low + high) / 2
            trial = torch.where(self.changes.continuous, torch.lerp(start, end, middle.to(end)), end)
            holds = self._decision_changed(trial, sample)
            rows[sample[holds], number[holds]] = trial[holds]
            low, high = torch.where(holds[:, None], low, middle), torch.where(holds[:, None], middle, high)
        return rows

    def _with_changed_decision(self, rows: Tensor, trial: Tensor, sample: Tensor, number: Tensor) -> Tensor:
        """``rows`` (n, M, D) with each trial (t, D) in its place (sample, number) (t,) if its decision differs from the
        sample's.
        """
        holds = self._decision_changed(trial, sample)
        rows = rows.clone()
        rows[sample[holds], number[holds]] = trial[holds]
        return rows

    def _decision_changed(self, rows: Tensor, sample: Tensor) -> Tensor:
        """Whether rows (rows, D) of the samples ``sample`` (rows,) have another decision than these."""
        if not len(rows):
            return torch.zeros_like(sample, dtype=torch.bool)
        predicted = decided(self.context.task, self._outputs(rows, sample), self.context.targets[sample])
        return predicted != self.own[sample]

    def _outputs(self, rows: Tensor, sample: Tensor) -> Tensor:
        """The model's outputs (rows, K) for rows made of the samples ``sample`` (rows,), which are counted."""
        self.spent += torch.bincount(sample, minlength=len(self.spent))
        return outputs_of(self.context, sample, lambda chosen: rows[chosen], self.known)


def _taken(pool: Tensor, places: Tensor) -> Tensor:
    """The rows (n, k, D) of pools (n, M, D) at ``places`` (n, k)."""
    return pool.gather(1, places[..., None].expand(-1, -1, pool.shape[2]))
