"""Which steps of a series of runs are more than the wandering of the machine?

The statistic is the self-normalised CUSUM of Shao and Zhang (2010, "Testing for change points in time series", JASA
105): the difference between the runs before and behind a place over the wandering within both, so that no scale has to
be known. It is taken over the whole series and over windows of 16, 32, ... runs around each place, so that one step
does not hide another. A series is compared with random walks made of its own increments, in random order and with
random signs. So even a random walk is said to have a step in at most 5 % of the cases; noise that wanders less
(independent, autoregressive) in fewer. All series of equal length get the same orders and signs, and each is compared
with the largest statistic of all series (max-T).
"""

from collections.abc import Sequence

import numpy as np

FEWEST_RUNS = 8  # with fewer, hardly any step could be shown
WALKS = 499  # with the observed series, 500
LEAST_SIDE = 2  # runs on each side of a step
LEAST_WINDOW = 8  # runs on each side of a step in a window


def p_of_steps(series: Sequence[np.ndarray]) -> list[np.ndarray]:
    """p-value of a step before each run (n,) of every series (n,), corrected over all series and places.

    Series are free of gaps. The p-values are NaN for a series of fewer than eight runs.
    """
    found = [contrasts(each[None])[0] if len(each) >= FEWEST_RUNS else None for each in series]
    largest = np.zeros(WALKS)
    for each in series:
        if len(each) >= FEWEST_RUNS:
            np.maximum(largest, contrasts(_walks(each)).max(1), out=largest)
    ordered = np.sort(largest)
    return [
        np.full(len(each), np.nan) if own is None else _share(ordered, own)
        for each, own in zip(series, found, strict=True)
    ]


def _share(ordered: np.ndarray, statistic: np.ndarray) -> np.ndarray:
    """The share of the walks, and of the observed series itself, that reach a statistic (n,)."""
    as_large = len(ordered) - np.searchsorted(ordered, statistic * (1 - 1e-9))
    return (1 + as_large) / (1 + len(ordered))


def _walks(series: np.ndarray) -> np.ndarray:
    """Random walks (walks, n) of the increments of a series (n,); the orders and signs depend on n alone."""
    generator, increments = np.random.default_rng(len(series)), np.diff(series)
    orders = generator.permuted(np.tile(np.arange(len(increments)), (WALKS, 1)), axis=1)
    signs = generator.integers(0, 2, orders.shape) * 2 - 1
    return np.concatenate([np.zeros((WALKS, 1)), np.cumsum(increments[orders] * signs, axis=1)], axis=1)


def contrasts(series: np.ndarray) -> np.ndarray:
    """The statistic of a step before each run: (series, n), the largest of all windows around it; 0 at the ends."""
    count, n = series.shape
    scale = np.abs(series - series[:, :1]).max(1, keepdims=True)
    scaled = (series - series.mean(1, keepdims=True)) / np.where(scale > 0, scale, 1)
    sums = np.concatenate([np.zeros((count, 1)), np.cumsum(scaled, axis=1)], axis=1)
    found = np.zeros((count, n))
    for place in range(LEAST_SIDE, n - LEAST_SIDE + 1):
        for start, end in _windows_around(place, n):
            found[:, place] = np.maximum(found[:, place], _contrast(sums, start, place, end))
    return found


def _windows_around(place: int, n: int) -> list[tuple[int, int]]:
    """The whole series, and the windows of 8, 16, 32, ... runs on each side that are shorter."""
    halves = [LEAST_WINDOW * 2**power for power in range(n.bit_length()) if LEAST_WINDOW * 2**power < n // 2]
    return [(0, n), *((place - half, place + half) for half in halves if half <= place <= n - half)]


def _contrast(sums: np.ndarray, start: int, place: int, end: int) -> np.ndarray:
    """The difference of the means on both sides of a place over the wandering within the sides: (series,)."""
    before, behind = sums[:, start : place + 1], sums[:, place : end + 1]
    length, share = end - start, (place - start) / (end - start)
    jump = before[:, -1] - before[:, 0] - share * (sums[:, end] - sums[:, start])
    wandering = _wandering(before) + _wandering(behind)
    return length * jump**2 / np.maximum(wandering, 1e-18)


def _wandering(sums: np.ndarray) -> np.ndarray:
    """The sum of squares of the cumulative sums (series, k + 1) around the line between their ends."""
    steps = np.linspace(0, 1, sums.shape[1])
    line = sums[:, :1] + steps * (sums[:, -1:] - sums[:, :1])
    return ((sums - line) ** 2).sum(1)
