"""The tables of docs/choosing.md: of the tasks that ``docs/choosing.py`` has measured, and of the race alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from choosing_rivals import RIVALS, peeking
from pages import replaced
from scipy import stats

from harness.choosing.race import Race

PAGE = Path(__file__).parent / "choosing.md"
NEAR = 0.01  # a mean score this near to the best is as good
SAME = 1e-6  # a smaller difference of mean scores is rounding
ALPHA, LOOKS, ROUNDS, RUNS, COUNT = 0.05, 20, 10, 1000, 8
OWN = "harness choose"

Row = Mapping[str, Any]


def write(rows: Sequence[Row]) -> None:
    """Write the tables of the tasks."""
    write_tables({"promises": promises(rows), "families": families(rows), "rivals": rivals(rows), "curve": curve(rows)})


def write_tables(tables: Mapping[str, Iterable[str]]) -> None:
    """Write tables between the marks of the page; those for which it has no marks are printed."""
    page = PAGE.read_text(encoding="utf-8")
    for mark, table in tables.items():
        text = "\n".join(table)
        if f"<!-- {mark}: begin -->" in page:
            page = replaced(page, mark, text)
        else:
            print(f"{mark}\n{text}\n")
    PAGE.write_text(page, encoding="utf-8")


def with_answer(rows: Sequence[Row]) -> list[Row]:
    """Tasks in which real methods beat the controls and the model has learnt something, and that were judged."""
    return [row for row in rows if row["expected"] == "answer" and "grid" in row]


def holds_best(row: Row, left: Sequence[str], by: str = "mean", near: float = SAME) -> bool:
    """Whether one of the explainers that are left has the best mean, but for ``near``."""
    means = row[by]
    return max((means[name] for name in left if name in means), default=-np.inf) >= max(means.values()) - near


def promises(rows: Sequence[Row]) -> Iterator[str]:
    """What was promised, and how often it was kept."""
    answered, judged = with_answer(rows), [row for row in rows if row["expected"] == "answer"]
    true = [row for row in answered if row["truth"]]
    real = [row for row in answered if max(row["mean"].values()) > row["mean"].get("guess", 0.0) + NEAR]
    untrained = [row for row in rows if row["kind"] == "untrained"]
    hopeless = [row for row in rows if row["kind"] == "no_good_explainer"]
    share = np.median([row["choice"]["evaluations"] / row["grid"] for row in answered])
    every = np.median([row["choice"]["evaluations"] / row["grid"] if "grid" in row else 0.0 for row in rows])
    own = lambda row: row["choice"]["set"]
    kept = {
        "the answer holds the explainer with the best mean score of all samples": (
            [holds_best(row, own(row)) for row in answered],
            "at least 95 %",
        ),
        "one of those that were confirmed has the best mean score": (
            [holds_best(row, row["choice"]["confirmed"]) for row in answered],
            "",
        ),
        "the answer holds the explainer with the best truth score": (
            [holds_best(row, own(row), "truth") for row in true],
            "at least 90 %",
        ),
        f"the answer holds one within {NEAR} of the best truth score": (
            [holds_best(row, own(row), "truth", NEAR) for row in true],
            "",
        ),
        "an explainer that guesses is in the answer": ([("guess" in own(row)) for row in real], "at most 1 %"),
        "none is recommended for untrained models and models of noise": (
            [row["choice"]["status"] == "none" for row in untrained],
            "at least 95 %",
        ),
        "none is recommended where no explainer is good": (
            [row["choice"]["status"] == "none" for row in hopeless],
            "",
        ),
        "one is recommended where one should be": ([row["choice"]["status"] == "answer" for row in judged], ""),
        f"its mean score is within {NEAR} of the best": (
            [
                holds_best(row, [row["choice"]["recommended"]], near=NEAR)
                for row in answered
                if row["choice"]["status"] == "answer"
            ],
            "",
        ),
    }
    yield from _head(("how often", "goal", "tasks", "share", "95 % interval"))
    for words, (hits, goal) in kept.items():
        low, high = _interval(sum(hits), len(hits))
        yield f"| {words} | {goal} | {len(hits)} | {np.mean(hits):.1%} | {low:.1%} to {high:.1%} |"
    yield f"| evaluations, of those of the whole grid (median) | at most 33 % | {len(answered)} | {share:.0%} | |"
    yield f"| the same, with the tasks for which there is no answer | | {len(rows)} | {every:.0%} | |"


def families(rows: Sequence[Row]) -> Iterator[str]:
    """A row for each family of tasks."""
    yield from _head(("family", "tasks", "recommended", "holds the best", "explainers left", "evaluations"))
    for family in dict.fromkeys(row["family"] for row in rows):
        own = [row for row in rows if row["family"] == family]
        judged = [row for row in own if "grid" in row]
        cells = [family, str(len(own)), f"{np.mean([row['choice']['status'] == 'answer' for row in own]):.0%}"]
        if judged:
            cells += [
                f"{np.mean([holds_best(row, row['choice']['set']) for row in judged]):.0%}",
                f"{np.mean([_distinct(row, row['choice']['set']) for row in judged]):.1f}",
                f"{np.median([row['choice']['evaluations'] / row['grid'] for row in judged]):.0%}",
            ]
        yield "| " + " | ".join([*cells, *["-"] * (6 - len(cells))]) + " |"


def rivals(rows: Sequence[Row]) -> Iterator[str]:
    """``harness choose`` beside other ways to choose, on the tasks that have an answer."""
    answered = with_answer(rows)
    own = {row["task"]: (row["choice"]["set"], row["choice"]["evaluations"]) for row in answered}
    ways: dict[str, Callable[[Row], tuple[Sequence[str], float]]] = {OWN: lambda row: own[row["task"]]}
    for name in RIVALS:
        ways[name] = lambda row, name=name: (row["rivals"][name]["left"], row["rivals"][name]["evaluations"])
    yield from _head(
        ("way", "holds the best", "holds the truly best", "explainers left", "guess is left", "evaluations")
    )
    for name, way in ways.items():
        found = [(row, *way(row)) for row in answered]
        best = np.mean([holds_best(row, left) for row, left, _ in found])
        true = np.mean([holds_best(row, left, "truth") for row, left, _ in found if row["truth"]])
        guess = np.mean(["guess" in left for _, left, _ in found])
        sizes = np.mean([_distinct(row, left) for row, left, _ in found])
        share = np.median([spent / row["grid"] for row, _, spent in found])
        yield f"| {name} | {best:.1%} | {true:.1%} | {sizes:.1f} | {guess:.1%} | {share:.0%} |"


def curve(rows: Sequence[Row]) -> Iterator[str]:
    """Budgets against how right the answer is."""
    tasks = [row for row in with_answer(rows) if "budgets" in row]
    yield from _head(
        ("budget", "tasks", "answered", "spent", "recommended", "recommended is near the best", "holds the best")
    )
    shares = list(tasks[0]["budgets"]) if tasks else []
    for share in [*shares, "all"]:
        found = [(row, row["choice"] if share == "all" else row["budgets"][share]) for row in tasks]
        done = [(row, choice) for row, choice in found if "refused" not in choice]
        if not done:
            yield f"| {_share(share)} | {len(found)} | 0 | | | | |"
            continue
        spent = np.median([choice["evaluations"] / row["grid"] for row, choice in done])
        answered = np.mean([choice["status"] == "answer" for _, choice in done])
        near = [holds_best(row, [c["recommended"]], near=NEAR) for row, c in done if c["status"] == "answer"]
        best = [holds_best(_without_unmeasured(row, c), c["set"]) for row, c in done]
        yield (
            f"| {_share(share)} | {len(found)} | {len(done)} | {spent:.0%} | {answered:.0%} | "
            f"{np.mean(near) if near else np.nan:.0%} | {np.mean(best):.0%} |"
        )


def _distinct(row: Row, left: Sequence[str]) -> int:
    """How many explainers are left, where those with the same mean score count as one."""
    return len({round(row["mean"][name] / SAME) if name in row["mean"] else name for name in left})


def _without_unmeasured(row: Row, choice: Row) -> Row:
    """The task without the explainers for which the budget did not suffice: of them the answer promises nothing."""
    return {**row, "mean": {name: mean for name, mean in row["mean"].items() if name not in choice["unmeasured"]}}


def race_alone() -> Iterator[str]:
    """How often a best candidate is dropped, where the population means are known: by the race, and by peeking."""
    yield from _head(("scores", "candidates that are best", f"race, {LOOKS} looks", f"peeking, {LOOKS} looks"))
    for place, (name, draw) in enumerate((WORLDS | UNLIMITED).items()):
        bounds = None if name in UNLIMITED else (-1.0, 1.0)
        for equal in (1, COUNT):
            rng = np.random.default_rng([place, equal])
            false = np.zeros(2)
            for _ in range(RUNS):
                scores = draw(rng, LOOKS * ROUNDS, equal)
                if equal == 1:  # the others are a little worse
                    scores = np.hstack([scores, draw(rng, len(scores), COUNT - 1) - 0.02])
                    scores = scores if bounds is None else np.clip(scores, *bounds)
                false += _drops_best(scores, equal, bounds), _peeking_drops_best(scores, equal)
            shares = [_words_of(each, RUNS) for each in false]
            yield f"| {name} | {equal} of {COUNT} | {shares[0]} | {shares[1]} |"


# Scores in [-1, 1], independent between candidates and samples.
WORLDS = {
    "normal, cut off": lambda rng, n, k: np.clip(rng.normal(0.2, 0.3, (n, k)), -1, 1),
    "rarely 1, else 0": lambda rng, n, k: (rng.random((n, k)) < 0.05).astype(float),
    "skewed (beta)": lambda rng, n, k: rng.beta(0.3, 3, (n, k)),
}
SPREAD = 1.5  # of the logarithm
# Scores without limits.
UNLIMITED = {
    "long tails (t, 2 degrees)": lambda rng, n, k: rng.standard_t(2, (n, k)),
    "exponential": lambda rng, n, k: rng.exponential(size=(n, k)),
    # The same means: half of the candidates are mostly below the others, and rarely far above them.
    "lognormal or constant": lambda rng, n, k: np.where(
        np.arange(k) % 2, np.exp(SPREAD**2 / 2), rng.lognormal(0, SPREAD, (n, k))
    ),
}


def _drops_best(scores: np.ndarray, best: int, bounds: tuple[float, float] | None) -> bool:
    names = [str(place) for place in range(scores.shape[1])]
    race = Race(names, bounds=bounds, alpha=ALPHA)
    for block in np.array_split(scores, LOOKS):
        race.play({name: block[:, int(name)] for name in race.taking_part})
        if any(int(drop.name) < best for drop in race.drop()):
            return True
    return False


def _peeking_drops_best(scores: np.ndarray, best: int) -> bool:
    """Whether an uncorrected t-test at each look, of each candidate against the leader, drops a best one."""
    looks = peeking(scores, range(ROUNDS, len(scores) + 1, ROUNDS))
    return any(set(range(best)) - set(left) for _, left in looks)


def _words_of(count: float, runs: int) -> str:
    low, high = _interval(int(count), runs)
    return f"{count / runs:.1%} ({low:.1%} to {high:.1%})"


def _interval(hits: int, count: int) -> tuple[float, float]:
    if not count:
        return float("nan"), float("nan")
    found = stats.binomtest(hits, count).proportion_ci(method="exact")
    return float(found.low), float(found.high)


def _share(share: str) -> str:
    return "all samples" if share == "all" else f"1/{round(1 / float(share))} of the grid"


def _head(columns: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(columns) + " |", "| " + " | ".join(["---"] * len(columns)) + " |"]
