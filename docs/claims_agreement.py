"""How often claims on agreement and on numbers of samples are wrong: run ``python docs/claims_agreement.py``.

Scores are simulated from known population means. The scores of two metrics share a part of their noise, and those of
one metric share the difficulty of the sample. A claim is wrong where the known truth contradicts it.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from harness.results.agreement import tau_interval
from harness.results.family import Family, all_pairs
from harness.results.matrices import Matrix
from harness.results.reliability import taus
from harness.results.sample_size import STAYS, enough_samples, samples_needed, samples_range
from harness.results.standing import standing

SEED = 0
INTERVALS, FAMILIES, LIMITS = 80, 200, 400  # simulations of a setting
EXPLAINERS, SAMPLES = (4, 8, 14), (8, 20, 50, 200)
RESAMPLES = 200  # of the percentile bootstrap, which is shown beside the interval
WIDEST = 3.0  # standard deviations between the first and the last explainer
NOISES: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {  # of mean 0 and variance 1
    "normal": lambda generator, shape: generator.normal(size=shape),
    "exponential": lambda generator, shape: generator.exponential(size=shape) - 1,
    "negative exponential": lambda generator, shape: 1 - generator.exponential(size=shape),
}


class Row(NamedTuple):
    """A claim, the setting of the simulation, the share of simulations in which it is wrong, and their number."""

    claim: str
    setting: str
    error: float
    simulations: int


class Setting(NamedTuple):
    """What was found for one order, number of explainers and number of samples: errors and mean widths of the interval
    and of the percentile bootstrap."""

    order: str
    explainers: int
    samples: int
    error: float
    width: float
    bootstrap_error: float
    bootstrap_width: float


def _orders(explainers: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Population means by two metrics."""
    means = np.linspace(0, WIDEST, explainers)
    half = np.arange(explainers)
    half[: explainers // 2] = half[: explainers // 2][::-1]
    mixed = np.argsort(np.arange(1, explainers + 1) * 0.618 % 1)
    return {
        "identical orders": (means, means),
        "opposite orders": (means, -means),
        "unrelated orders": (means, means[mixed]),
        "half of the order reversed": (means, means[half]),
        "identical orders, nearly tied in one metric": (means * 0.01, means),
        "tied in pairs in one metric": (np.repeat(means[::2], 2)[:explainers], means),
        "identical orders, lognormal scores": (means, means),
        "identical orders, rare yes-or-no scores": (0.05 + means / 30, 0.05 + means / 30),
    }


def _scores(
    name: str, means: tuple[np.ndarray, np.ndarray], n: int, generator: np.random.Generator
) -> list[np.ndarray]:
    shape = (n, len(means[0]))
    if "yes-or-no" in name:
        return [(generator.random(shape) < each).astype(float) for each in means]
    shared, own, level = generator.normal(size=shape), generator.normal(size=shape), generator.normal(size=(n, 1))
    noises = shared + level, 0.6 * shared + 0.8 * own
    if "lognormal" in name:
        noises = [np.exp(noise) / 2 for noise in (shared, 0.6 * shared + 0.8 * own)]
    return [mean + noise for mean, noise in zip(means, noises, strict=True)]


def settings() -> Iterator[Setting]:
    """The interval of tau-b in every setting."""
    for explainers in EXPLAINERS:
        for name, means in _orders(explainers).items():
            truth = taus(means[0][None], means[1][None])[0]
            for n in SAMPLES:
                generator = np.random.default_rng([SEED, explainers, n])
                draws = [_scores(name, means, n, generator) for _ in range(INTERVALS)]
                ours = [tau_interval(*draw, seed=seed)[1:] for seed, draw in enumerate(draws)]
                theirs = [_bootstrap(*draw, generator) for draw in draws]
                yield Setting(name, explainers, n, *_errors(ours, truth), *_errors(theirs, truth))


def _bootstrap(first: np.ndarray, second: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
    """The 95 % percentile interval of tau-b over resamples of the samples."""
    n = len(first)
    weights = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    found = taus(weights @ first, weights @ second)
    return tuple(np.nanquantile(found, [0.025, 0.975])) if np.isfinite(found).any() else (np.nan, np.nan)


def _errors(ends: list[tuple[float, float]], truth: float) -> tuple[float, float]:
    """The share of intervals without the truth, and their mean width, of those that are defined."""
    low, high = np.array([each for each in ends if np.isfinite(each).all()]).T
    return float(((truth < low - 1e-9) | (truth > high + 1e-9)).mean()), float((high - low).mean())


def of_tau(found: list[Setting]) -> Iterator[Row]:
    """For each kind of order the setting in which the interval is wrong most often."""
    for name in dict.fromkeys(each.order for each in found):
        worst = max((each for each in found if each.order == name), key=lambda each: each.error)
        where = f"{name}; worst of K = 4, 8, 14 and n = 8, 20, 50, 200: K = {worst.explainers}, n = {worst.samples}"
        yield Row("the interval of tau-b holds the tau-b of the population means", where, worst.error, INTERVALS)


def of_needed() -> Iterator[Row]:
    """How often the number that is called enough for a test is below the number that is needed."""
    for noise in NOISES:
        for effect in (0.2, 0.5, 1.0):
            for n in (20, 50):
                drawn = NOISES[noise](np.random.default_rng([SEED, n, int(10 * effect)]), (n, LIMITS)) + effect
                needed = samples_needed(effect)
                wrong = np.mean([samples_range(each).high < needed for each in drawn.T])
                where = f"{needed:.0f} needed, {n} seen, {noise} differences"
                yield Row("the upper end of the samples needed for 80 % power is enough", where, wrong, LIMITS)


def of_needed_in_a_family() -> Iterator[Row]:
    """How often the answer's number of samples, which is for all pairs of explainers, ends below what is needed."""
    for count, effect in ((4, 0.6), (8, 0.6), (8, 1.0)):
        needed = _needed_in_a_family(count, effect)
        told = [_told_by_answer(count, effect, 20, place) for place in range(FAMILIES)]
        where = f"{needed} needed, 20 seen, {count} explainers, effect {effect:g} between the best two"
        yield Row(
            "the upper end of the samples in the answer is enough", where, np.mean(np.array(told) < needed), FAMILIES
        )


def _family_of(count: int, effect: float, n: int, place: int) -> tuple[np.ndarray, Family]:
    """Scores (n, count) of explainers whose best two differ by ``effect`` and the others by much, and their family."""
    levels = np.r_[effect, 0.0, -3.0 * np.arange(1, count - 1)] * np.sqrt(2)  # in standard deviations of differences
    values = np.random.default_rng([SEED, count, n, place]).normal(size=(n, count)) + levels
    return values, all_pairs(Matrix({"metric": "srg"}, pd.DataFrame(values).rename(columns=str), "higher"))


def _told_by_answer(count: int, effect: float, n: int, place: int) -> float:
    values, family = _family_of(count, effect, n, place)
    return samples_range(values[:, 0] - values[:, 1], critical=family.critical_t).high


def _needed_in_a_family(count: int, effect: float) -> int:
    """The smallest tried number of samples with which the best two are shown to differ in 80 % of tables."""
    power = lambda n: np.mean([_family_of(count, effect, n, place)[1].differs("0", "1") for place in range(FAMILIES)])
    return next(n for n in range(10, 200, 4) if power(n) >= 0.8)


def of_recommendations() -> Iterator[Row]:
    """How often an explainer is recommended, or shown to beat the best control, although all are equal."""
    for own, controls in ((1, 1), (6, 2), (9, 5)):
        for noise, draw in NOISES.items():
            wrong = np.mean([_any_beats_control(own, controls, draw, place) for place in range(LIMITS)])
            where = f"{own} explainers and {controls} controls that are equal, 20 samples, {noise} scores"
            yield Row("the answer recommends an explainer that is better than the best control", where, wrong, LIMITS)


def _any_beats_control(own: int, controls: int, draw: Callable, place: int) -> bool:
    values = pd.DataFrame(draw(np.random.default_rng([SEED, own, place]), (20, own + controls))).rename(columns=str)
    family = all_pairs(Matrix({"metric": "srg"}, values, "higher"))
    return bool(standing(family, [str(own + each) for each in range(controls)])["beats_control"].any())


def of_enough() -> Iterator[Row]:
    """How often the number with which the best is said to come first is too low for that."""
    for count in (2, 8):
        for gap in (0.5, 1.0):
            for n in (20, 50):
                generator, means = np.random.default_rng([SEED, count, n]), np.r_[gap, np.zeros(count - 1)]
                needed = _needed_to_come_first(gap, count)
                told = [enough_samples(generator.normal(size=(n, count)) + means) for _ in range(LIMITS)]
                wrong = np.mean([each is not None and each < needed for each in told])
                where = f"{needed} needed, {n} seen, {count} explainers, of which one is better by {gap:g} sd"
                yield Row(
                    "with the number called enough the best comes first in 95 % of data sets", where, wrong, LIMITS
                )


def _needed_to_come_first(gap: float, count: int) -> int:
    """The smallest n for which a mean of ``gap`` exceeds all of count - 1 means of 0 with the probability of 0.95."""
    grid = np.linspace(-9, 9, 4001)
    first = lambda n: np.trapezoid(stats.norm.pdf(grid) * stats.norm.cdf(grid + gap * np.sqrt(n)) ** (count - 1), grid)
    return next(n for n in range(1, 10_000) if first(n) >= STAYS)


def of_numbers() -> Iterator[Row]:
    """All numbers of samples that are told."""
    yield from (*of_needed(), *of_needed_in_a_family(), *of_enough())


def rows() -> list[Row]:
    """All claims with their measured error rates; some minutes on one core."""
    return [*of_tau(list(settings())), *of_numbers(), *of_recommendations()]


def main() -> None:
    """Print the intervals of tau-b in every setting, and then the claims."""
    found = list(settings())
    print("order | K | n | error | width | bootstrap: error | width")
    for each in found:
        print(
            f"{each.order} | {each.explainers} | {each.samples} | {each.error:.3f} | {each.width:.2f} | "
            f"{each.bootstrap_error:.3f} | {each.bootstrap_width:.2f}"
        )
    print("\nclaim | setting | error rate | simulations")
    for row in (*of_tau(found), *of_numbers(), *of_recommendations()):
        print(f"{row.claim} | {row.setting} | {row.error:.3f} | {row.simulations}")


if __name__ == "__main__":
    main()
