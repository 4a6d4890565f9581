"""Measures how often what the program says about certainty is wrong: run ``python docs/claims.py`` (minutes).

Each row simulates scores whose truth is known, and counts how often a claim is false. The tables go into
docs/comparing.md. ``claims_agreement.py`` and ``claims_runs.py`` have the simulations of rankings and of runs, and can
be run by themselves.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import claims_agreement
import claims_runs
import numpy as np
import pandas as pd
from pages import replaced
from scipy import stats

from harness.results.family import all_pairs
from harness.results.matrices import Matrix
from harness.results.statistics import binomial_interval, interval

PAGE = Path(__file__).parent / "comparing.md"
SEED = 0
SAMPLES = (8, 20, 50, 200)
INTERVALS = 2000  # simulated for each distribution and number of samples
FAMILIES = 400
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
# What scores are drawn from, and their mean.
SCORES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "heavy tails (t with 3 degrees)": (lambda rng, size: rng.standard_t(3, size), 0.0),
    "uniform": (lambda rng, size: rng.random(size), 0.5),
    "exponential (skewness 2)": (lambda rng, size: rng.exponential(size=size), 1.0),
    "lognormal (skewness 1.8)": (lambda rng, size: rng.lognormal(0, 0.5, size), float(np.exp(0.125))),
    "lognormal (skewness 6.2)": (lambda rng, size: rng.lognormal(0, 1, size), float(np.exp(0.5))),
}
SHARES = (0.02, 0.1, 0.5)
# Tables (n, explainers) in which no explainer is better than another.
ALIKE: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "exponential": lambda rng, size: rng.exponential(size=size),
    "yes or no (3 in 10)": lambda rng, size: (rng.random(size) < 0.3) * 1.0,
    "of spreads 0.1 to 3": lambda rng, size: rng.normal(size=size) * np.geomspace(0.1, 3, size[1]),
}
COUNTS = (3, 8, 16, 33)


def generator(*place: int) -> np.random.Generator:
    """Random numbers of one row of a table."""
    return np.random.default_rng([SEED, *place])


def coverage() -> pd.DataFrame:
    """How often the 95 % interval of a mean holds the true mean, by distribution and number of samples."""
    rows = {}
    for place, (name, (draw, truth)) in enumerate(SCORES.items()):
        rows[name] = [_held(draw, truth, n, generator(0, place, n)) for n in SAMPLES]
    for share in SHARES:
        rows[f"yes or no, {share:.0%} yes"] = [_held_binomial(share, n) for n in SAMPLES]
    return pd.DataFrame(rows, index=[f"n = {n}" for n in SAMPLES]).T


def _held(draw: Draw, truth: float, n: int, rng: np.random.Generator) -> float:
    ends = np.array([interval(draw(rng, (n,))) for _ in range(INTERVALS)])
    return float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())


def _held_binomial(share: float, n: int) -> float:
    """Exactly, from the probabilities of all numbers of hits."""
    hits = np.arange(n + 1)
    low, high = np.array([binomial_interval(int(k), n) for k in hits]).T
    return float(stats.binom.pmf(hits, n, share)[(low <= share) & (share <= high)].sum())


def false_claims() -> pd.DataFrame:
    """How often any pair of equal explainers is shown to differ, by scores and number of explainers."""
    columns = [(count, n) for count in COUNTS for n in (8, 20)]
    return pd.DataFrame(
        {
            name: [_any_claim(draw, count, n, generator(1, place, count, n)) for count, n in columns]
            for place, (name, draw) in enumerate(ALIKE.items())
        },
        index=[f"{count} explainers, n = {n}" for count, n in columns],
    )


def _any_claim(draw: Draw, count: int, n: int, rng: np.random.Generator) -> float:
    families = FAMILIES if count < 16 else FAMILIES // 4
    found = [len(set(_family(draw(rng, (n, count))).letters.values())) > 1 for _ in range(families)]
    return float(np.mean(found))


def false_claims_of_one_pair() -> pd.DataFrame:
    """How often two explainers with equal means are shown to differ, by the distribution of their differences."""
    return pd.DataFrame(
        {
            name: [_one_claim(draw, truth, n, generator(2, place, n)) for n in SAMPLES]
            for place, (name, (draw, truth)) in enumerate(SCORES.items())
        },
        index=[f"n = {n}" for n in SAMPLES],
    ).T


def _one_claim(draw: Draw, truth: float, n: int, rng: np.random.Generator) -> float:
    found = (_family(np.column_stack([draw(rng, (n,)) - truth, np.zeros(n)])) for _ in range(2 * FAMILIES))
    return float(np.mean([family.differs("0", "1") for family in found]))


def intervals_together() -> pd.DataFrame:
    """How often all intervals of differences of a table hold the true differences."""
    columns = [(count, n) for count in COUNTS[:3] for n in (8, 20)]
    return pd.DataFrame(
        {
            name: [_all_hold(draw, count, n, generator(3, place, count, n)) for count, n in columns]
            for place, (name, draw) in enumerate(ALIKE.items())
            if name != "yes or no (3 in 10)"
        },
        index=[f"{count} explainers, n = {n}" for count, n in columns],
    )


def _all_hold(draw: Draw, count: int, n: int, rng: np.random.Generator) -> float:
    """Explainers of means 0, 1, 2 ... standard deviations, of which the intervals of neighbours are the test."""
    held = []
    for _ in range(FAMILIES if count < 16 else FAMILIES // 4):
        family = _family(draw(rng, (n, count)) + np.arange(count))
        ends = [family.interval(family.names[i + 1], family.names[i]) for i in range(count - 1)]
        held.append(all(low <= 1 <= high for low, high in ends))
    return float(np.mean(held))


def _family(values: np.ndarray):
    names = [str(place) for place in range(values.shape[1])]
    return all_pairs(Matrix({"metric": "m"}, pd.DataFrame(values, columns=names), "higher"))


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """The title of each table and its rates."""
    yield "Share of 95 % intervals of a mean that hold the true mean (should be .95)", coverage()
    yield "Share of tables of equal explainers in which any two are shown to differ (at most .05)", false_claims()
    yield (
        "Share of single pairs with equal means that are shown to differ, by their differences (at most .05)",
        false_claims_of_one_pair(),
    )
    yield "Share of tables in which all intervals of neighbours hold (at least .95)", intervals_together()


def markdown(title: str, rates: pd.DataFrame) -> str:
    """A table of rates with three digits."""
    lines = [["", *rates.columns], ["---"] * (rates.shape[1] + 1)]
    lines += [[name, *(f"{rate:.3f}" for rate in row)] for name, row in zip(rates.index, rates.to_numpy(), strict=True)]
    return "\n".join([f"**{title}**", "", *(f"| {' | '.join(line)} |" for line in lines)])


def main() -> None:
    """Write all tables into the page, those of rankings and of runs too."""
    page = PAGE.read_text(encoding="utf-8")
    page = replaced(page, "claims", "\n\n".join(markdown(*table) for table in tables()))
    page = replaced(page, "claims of rankings", claims_runs.table(claims_agreement.rows(), "wrong"))
    PAGE.write_text(page, encoding="utf-8")
    claims_runs.main()


if __name__ == "__main__":
    main()
