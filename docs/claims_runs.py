"""How often comparisons and trends are wrong: simulations behind docs/comparing.md.

``rows()`` returns them; ``PYTHONPATH=. python docs/claims_runs.py`` prints them and writes them into the page.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness.results.comparison_costs import COST_FLOOR
from harness.results.cost_changes import net_changes, p_of_costs, without_drift
from harness.results.level import ALPHA
from harness.results.quality_changes import of_the_controls, of_the_whole, p_of_block, p_of_cells_and_whole
from harness.results.trend import steps_of_cells

PAGE = Path(__file__).parent / "comparing.md"
Row = tuple[str, str, float, int]  # claim, setting, measured rate, simulations
Generator = np.random.Generator

# How the logarithm of a cost changes from run to run by itself, for an explainer that drifts by about 5 %.
OWN_DRIFT: dict[str, Callable[[Generator, int, int], np.ndarray]] = {
    "none but a hundredth": lambda g, cells, runs: 0.01 * g.normal(size=(cells, runs)),
    "normal, 5 %": lambda g, cells, runs: 0.05 * g.normal(size=(cells, runs)),
    "normal, 20 %": lambda g, cells, runs: 0.2 * g.normal(size=(cells, runs)),
    "heavy tails (Student, 3 df), 5 %": lambda g, cells, runs: 0.05 * g.standard_t(3, (cells, runs)),
    "2 to 20 %, another for each explainer": lambda g, cells, runs: (
        g.normal(size=(cells, runs)) * 0.02 * 10 ** g.random((cells, 1))
    ),
}
# How the score of a sample changes if nothing changed but random numbers.
SCORE_NOISE: dict[str, Callable[[Generator, int, int], np.ndarray]] = {
    "normal": lambda g, n, cells: g.normal(size=(n, cells)),
    "heavy tails (Cauchy)": lambda g, n, cells: g.standard_cauchy((n, cells)),
    "alike in all cells": lambda g, n, cells: g.normal(size=(n, 1)) + 0.3 * g.normal(size=(n, cells)),
    "on a tenth of the samples only": lambda g, n, cells: g.normal(size=(n, cells)) * (g.random((n, 1)) < 0.1),
}
# How a series moves from run to run by itself.
WANDERING: dict[str, Callable[[Generator, int, int], np.ndarray]] = {
    "independent": lambda g, cells, runs: g.normal(size=(cells, runs)),
    "two machines in turn": lambda g, cells, runs: (
        g.integers(0, 2, (cells, runs)) + 0.01 * g.normal(size=(cells, runs))
    ),
    "heavy tails (Student, 3 df)": lambda g, cells, runs: g.standard_t(3, (cells, runs)),
    "autoregressive, 0.5": lambda g, cells, runs: autoregressive(g, cells, runs, 0.5),
    "autoregressive, 0.9": lambda g, cells, runs: autoregressive(g, cells, runs, 0.9),
    "random walk": lambda g, cells, runs: np.cumsum(g.normal(size=(cells, runs)), axis=1),
}


def autoregressive(generator: Generator, cells: int, runs: int, share: float) -> np.ndarray:
    """Series (cells, runs) of variance 1 of which each run keeps a share of the run before."""
    found = generator.normal(size=(cells, runs))
    for run in range(1, runs):
        found[:, run] = share * found[:, run - 1] + np.sqrt(1 - share**2) * found[:, run]
    return found


def costs(generator: Generator, drift: str, cells: int, runs: int, *, machine: float = 0.4) -> np.ndarray:
    """Logarithms of costs (cells, runs): levels, a machine that drifts by a factor of e^0.4, own drift, 20 calls."""
    level = generator.normal(-3, 2, (cells, 1))
    calls = 0.1 * generator.standard_t(2, (cells, runs, 20))
    shared = machine * generator.normal(size=runs)
    return level + shared + OWN_DRIFT[drift](generator, cells, runs) + np.median(calls, axis=-1)


def cost_changes(logs: np.ndarray, base: int) -> np.ndarray:
    """1 where a cost is called worse, -1 where it is called better, else 0: (cells,)."""
    net, _ = without_drift(logs)
    change, p = net_changes(net, base), p_of_costs([net], base)[0]
    shown = (p <= ALPHA) & (np.abs(np.expm1(change)) > COST_FLOOR)
    return np.where(shown, np.sign(change), 0)


def false_cost_alarms(drift: str, cells: int, base: int, new: int, simulations: int, seed: int = 0) -> float:
    """The share of comparisons with any false ``better`` or ``worse``."""
    generator = np.random.default_rng([seed, cells, base, new])
    return float(
        np.mean([cost_changes(costs(generator, drift, cells, base + new), base).any() for _ in range(simulations)])
    )


def seen_cost_change(
    drift: str, factor: float, cells: int, runs: int, simulations: int, *, machine: float = 0.4, seed: int = 0
) -> tuple[float, float]:
    """The shares of comparisons in which one explainer whose cost changed by a factor is called worse, and better.

    ``runs`` on each side, the new ones on a machine that is 1.5 times slower.
    """
    generator, found = np.random.default_rng([seed, cells, runs]), []
    for _ in range(simulations):
        logs = costs(generator, drift, cells, 2 * runs, machine=machine)
        logs[:, runs:] += np.log(1.5)
        logs[0, runs:] += np.log(factor)
        found.append(cost_changes(logs, runs)[0])
    return float(np.mean(np.equal(found, 1))), float(np.mean(np.equal(found, -1)))


def false_score_alarms(noise: str, n: int, cells: int, simulations: int, seed: int = 0) -> float:
    """The share of comparisons of n samples with a significant change in any cell or in the block as a whole."""
    generator, wrong = np.random.default_rng([seed, n, cells]), 0
    for _ in range(simulations):
        differences = SCORE_NOISE[noise](generator, n, cells)
        p, whole = p_of_cells_and_whole(differences, of_the_whole(differences, np.ones(cells)))
        wrong += bool((p <= ALPHA).any() or whole <= ALPHA)
    return wrong / simulations


def seen_score_change(size: float, noise: float, n: int, cells: int, simulations: int, seed: int = 0):
    """If every score changes by a share ``size``: how often the whole block is seen, and the share of the cells.

    ``noise``   standard deviation of a sample's score between runs, as a share of the level
    """
    generator, block, cell = np.random.default_rng([seed, n, cells]), 0, 0.0
    for _ in range(simulations):
        before = generator.normal(1, 0.5, (n, 1)) + generator.normal(0, 0.3, (n, cells))
        differences = size * before + noise * generator.normal(size=(n, cells))
        p, whole = p_of_cells_and_whole(differences, of_the_whole(differences, np.abs(before.mean(0))))
        block, cell = block + (whole <= ALPHA), cell + float((p <= ALPHA).mean())
    return block / simulations, cell / simulations


def false_alarms_of_other_data(n: int, cells: int, simulations: int, *, held: bool, seed: int = 0) -> float:
    """The share of comparisons with an alarm if the data changed and moved the scores of controls and others alike."""
    generator, wrong = np.random.default_rng([seed, n, cells, 1]), 0
    for _ in range(simulations):
        changes = 0.5 + generator.normal(size=(n, 1)) + 0.3 * generator.normal(size=(n, cells + 5))
        shared = of_the_controls(changes[:, cells:].T) if held else np.zeros(n)
        wrong += bool((p_of_block(changes[:, :cells] - shared[:, None]) <= ALPHA).any())
    return wrong / simulations


def false_steps(wandering: str, runs: int, cells: int, simulations: int, seed: int = 0) -> float:
    """The share of trends in which any cell has a step although none was made."""
    generator = np.random.default_rng([seed, runs, cells])
    return float(np.mean([_any_step(WANDERING[wandering](generator, cells, runs)) for _ in range(simulations)]))


def _any_step(values: np.ndarray) -> bool:
    return any(len(steps.levels) > 1 for steps in steps_of_cells(values))


def seen_step(size: float, runs: int, cells: int, simulations: int, seed: int = 0) -> float:
    """The share of trends in which one cell's step by ``size`` standard deviations is found to the run.

    The noise is independent, and the step is in the middle.
    """
    generator, seen = np.random.default_rng([seed, runs, cells]), 0
    for _ in range(simulations):
        values = generator.normal(size=(cells, runs))
        values[0, runs // 2 :] += size
        starts = [level.start for level in steps_of_cells(values)[0].levels]
        seen += len(starts) == 2 and abs(starts[1] - runs // 2) <= 1
    return seen / simulations


def cost_rows(simulations: int) -> list[Row]:
    """Comparisons of costs."""
    rows = [
        (
            f"any false `better` or `worse` cost, {base} and {new} runs",
            f"{cells} explainers, drift: {drift}",
            false_cost_alarms(drift, cells, base, new, simulations),
            simulations,
        )
        for base, new in ((1, 1), (2, 2), (3, 4), (5, 5))
        for drift in OWN_DRIFT
        for cells in (6, 30)
    ]
    for runs in (1, 3, 5):
        about = f"{runs} and {runs} runs, 20 explainers, machine 1.5 times slower, drift: normal, 5 %"
        few = max(50, simulations // 5)
        eight, _ = seen_cost_change("normal, 5 %", 8.0, 20, runs, few)
        worse, better = seen_cost_change("normal, 5 %", 0.8, 20, runs, few)
        rows += [
            ("an eightfold slowdown is called worse", about, eight, few),
            ("code that is 20 % faster is called worse", about, worse, few),
            ("code that is 20 % faster is called better", about, better, few),
        ]
    return rows


def score_rows(simulations: int) -> list[Row]:
    """Comparisons of scores."""
    rows = [
        (
            "any false `better` or `worse` score",
            f"{n} samples, 40 cells, noise: {noise}",
            false_score_alarms(noise, n, 40, simulations),
            simulations,
        )
        for n in (8, 12, 40)
        for noise in SCORE_NOISE
    ]
    few = max(50, simulations // 5)
    for noise in (0.2, 1.0):
        block, cell = seen_score_change(-0.3, noise, 10, 40, few)
        about = f"10 samples, 40 cells, noise {100 * noise:g} % of the level"
        rows += [
            ("a loss of 30 % of all scores is seen in the block as a whole", about, block, few),
            ("a loss of 30 % of all scores is seen in a cell", about, cell, few),
        ]
    about = "40 samples, 40 cells, the data changed and moved controls too"
    of_other_data = false_alarms_of_other_data(40, 40, simulations, held=True)
    return [*rows, ("any false `better` or `worse` score", about, of_other_data, simulations)]


def step_rows(simulations: int) -> list[Row]:
    """Trends over many runs."""
    false = [
        (
            "any false step",
            f"{runs} runs, {cells} cells, {wandering}",
            false_steps(wandering, runs, cells, simulations),
            simulations,
        )
        for runs, cells in ((8, 1), (14, 1), (14, 10), (30, 1))
        for wandering in WANDERING
    ]
    few = max(50, simulations // 2)
    seen = [
        (
            "a step is found to the run",
            f"{runs} runs, {cells} cells, {size} standard deviations",
            seen_step(size, runs, cells, few),
            few,
        )
        for runs, cells in ((8, 1), (14, 1), (30, 1), (30, 10))
        for size in (4, 10)
    ]
    return [*false, *seen]


def rows(simulations: int = 1000) -> list[Row]:
    """Every claim with its setting, measured rate and number of simulations."""
    return [*cost_rows(simulations), *score_rows(2 * simulations // 5), *step_rows(simulations // 5)]


def table(found: list[Row], rate_is: str = "how often") -> str:
    """Rows as a Markdown table; ``rate_is`` is the head of the column of rates."""
    lines = [f"| {claim} | {setting} | {100 * rate:.1f} % | {count:,} |" for claim, setting, rate, count in found]
    return "\n".join([f"| claim | setting | {rate_is} | simulations |", "| --- | --- | ---: | ---: |", *lines])


def main() -> None:
    """Print the tables and write them into the page."""
    from pages import replaced

    found = rows()
    steps = [row for row in found if "step" in row[0]]
    page = PAGE.read_text(encoding="utf-8")
    for mark, part in {"comparisons": [row for row in found if row not in steps], "trends": steps}.items():
        print(table(part))
        page = replaced(page, mark, table(part))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
