"""Describes one sample's explanation in words: where its attribution lies, and how reliable it is.

Both texts depend on the numbers only: equal maps and scores give equal words. Shares are shares of the sum of the map's
magnitudes, rounded to whole per cent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.results.numbers import significant

TOP = 3  # units or places that a text names
WORST = 0.1  # share of the samples that counts as the worst
BROKEN_SUM = 0.05  # median completeness error above which the sum counts as broken
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


def says(
    attribution: np.ndarray, *, names: Sequence[str] | None = None, signed: bool = True, target: str = "the class"
) -> str:
    """What a map says of a sample: the units or places with most of it, their sign, and how concentrated it is.

    ``attribution`` (D,) for columns and tokens, which ``names`` (D,) name; (T,) without names for a series, told by
    spans of steps; (H, W) for an image, told by ninths. ``signed`` says whether a negative number speaks against
    ``target``.
    """
    values = np.asarray(attribution, dtype=np.float64)
    if not np.isfinite(values).all():
        return "The map is not finite, so it says nothing."
    if not np.abs(values).sum() > 0:
        return "The map is zero everywhere, so it names nothing."
    parts = (
        _ninths(values)
        if values.ndim == 2
        else _named_units(values, names)
        if names is not None
        else _spans_of_steps(values)
    )
    sentences = [_part_in_words(name, part, values, signed, target) for name, part in _largest_parts(parts)]
    return " ".join(
        [
            f"Most attribution: {'; '.join(sentences)}.",
            *_for_and_against(values, signed, target),
            _half_in_words(values),
        ]
    )


def _named_units(values: np.ndarray, names: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    return [(f"“{name}”", values[place : place + 1]) for place, name in enumerate(names[: len(values)])]


def _spans_of_steps(values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """A series in tenths, or step by step where it has no more than ten."""
    edges = np.linspace(0, len(values), min(10, len(values)) + 1).round().astype(int)
    spans = list(zip(edges[:-1], edges[1:], strict=True))
    name = lambda start, end: f"step {start}" if end - start == 1 else f"steps {start} to {end - 1}"
    return [(name(start, end), values[start:end]) for start, end in spans]


def _ninths(values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """An image in ninths by thirds of its height and width."""
    down, across = (
        [np.flatnonzero(np.arange(size) * 3 // size == third) for third in range(3)] for size in values.shape
    )
    return [
        (_name_of_ninth(ROWS[i], COLUMNS[j]), values[np.ix_(down[i], across[j])]) for i in range(3) for j in range(3)
    ]


def _name_of_ninth(row: str, column: str) -> str:
    return "the centre" if (row, column) == ("middle", "centre") else f"the {row} {column}"


def _largest_parts(parts: Sequence[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    """The parts with most of the magnitude, without those that have none."""
    sizes = [np.abs(part).sum() for _, part in parts]
    order = sorted(range(len(parts)), key=lambda place: (-sizes[place], place))[:TOP]
    return [parts[place] for place in order if sizes[place] > 0]


def _part_in_words(name: str, part: np.ndarray, values: np.ndarray, signed: bool, target: str) -> str:
    share = percent(np.abs(part).sum() / np.abs(values).sum())
    if not signed:
        return f"{name} {share}"
    net = part.sum()
    return f"{name} {share}, {f'for {target}' if net > 0 else f'against {target}' if net < 0 else 'balanced'}"


def _for_and_against(values: np.ndarray, signed: bool, target: str) -> list[str]:
    """The shares of the map that speak for the class and against it."""
    if not signed:
        return ["The map has no sign: it shows strength, not for or against."]
    total, positive = np.abs(values).sum(), values[values > 0].sum()
    if positive in (0.0, total):
        return [f"All of it speaks {'for' if positive else 'against'} {target}."]
    return [f"{percent(positive / total)} speaks for {target}, {percent(1 - positive / total)} against it."]


def _half_in_words(values: np.ndarray) -> str:
    """The smallest number of units that hold half of the attribution."""
    sizes = np.sort(np.abs(values).ravel())[::-1]
    count = int(np.searchsorted(np.cumsum(sizes), 0.5 * sizes.sum() * (1 - 1e-12)) + 1)
    return f"Half of it lies on {count:,} of {values.size:,} units ({percent(count / values.size)})."


def percent(share: float) -> str:
    """A share in whole per cent, ``<1 %`` and ``>99 %`` where rounding would say none or all."""
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1 - 1e-12:
        return ">99 %"
    return f"{share * 100:.0f} %"


@dataclass(frozen=True)
class Trust:
    """What is known of an explainer and of its score on one sample.

    metric                  the headline metric
    mean, low, high         the explainer's mean over the samples with its 95 % interval
    control, control_mean, control_low, control_high    the best control; None and NaN where there is none
    beats                   whether it is shown to beat that control; None where that is not known
    value, place, samples   the sample's own score, its place from the worst (1), and of how many; NaN and 0 for none
    completeness_error      median of |sum - expected sum| / |expected sum|; NaN where no sum is expected
    flags                   of the audit
    sanity, reason          the overall verdict of the sanity checks, and the reason
    is_control              whether it does not look at the model
    """

    metric: str | None = None
    mean: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    control: str | None = None
    control_mean: float = float("nan")
    control_low: float = float("nan")
    control_high: float = float("nan")
    beats: bool | None = None
    value: float = float("nan")
    place: int = 0
    samples: int = 0
    completeness_error: float = float("nan")
    flags: Sequence[str] = field(default_factory=tuple)
    sanity: str = ""
    reason: str = ""
    is_control: bool = False


def trust(known: Trust) -> str:
    """How far to trust an explainer on a sample, one sentence for each thing that is known."""
    steps: Sequence[Callable[[Trust], str]] = (
        _control_sentence,
        _against_control,
        _own_score,
        _broken_sum,
        _sanity_sentence,
        _flags_sentence,
    )
    return " ".join(text for text in (step(known) for step in steps) if text)


def _control_sentence(known: Trust) -> str:
    return "This is a control: it does not look at the model." if known.is_control else ""


def _against_control(known: Trust) -> str:
    if known.metric is None or not np.isfinite(known.mean):
        return "It has no faithfulness score, so nothing says how far to trust it."
    own = f"{known.metric} {_with_interval(known.mean, known.low, known.high)}"
    if known.is_control or known.control is None:
        return f"{own} over the samples" + ("." if known.is_control else "; no control was run beside it.")
    control = f"{known.control} {_with_interval(known.control_mean, known.control_low, known.control_high)}"
    verdict = {True: "shown to beat it", False: "not shown to beat it"}.get(known.beats, "not compared")
    return f"{own} over the samples, against the best control, {control}: {verdict}."


def _own_score(known: Trust) -> str:
    if not np.isfinite(known.value) or not known.samples:
        return "This sample has no score of its own." if known.metric else ""
    worst = known.place <= max(1, int(WORST * known.samples)) and known.samples > 1
    rank = f"place {known.samples + 1 - known.place} of {known.samples}"
    return f"On this sample {significant(known.value)}, {rank}" + (", among its worst." if worst else ".")


def _broken_sum(known: Trust) -> str:
    if not np.isfinite(known.completeness_error):
        return ""
    holds = "is broken" if known.completeness_error > BROKEN_SUM else "holds"
    return f"Completeness {holds}: the sum of the attributions is off by {percent(known.completeness_error)} (median)."


def _sanity_sentence(known: Trust) -> str:
    if known.sanity in ("", "not done"):
        return "No sanity check was measured."
    words = {"pass": "It passes the sanity checks", "fail": "It fails a sanity check"}
    sentences = words.get(known.sanity, "Its sanity checks are undecided")
    return f"{sentences} ({known.reason})." if known.reason and known.sanity != "pass" else f"{sentences}."


def _flags_sentence(known: Trust) -> str:
    return f"Flagged: {'; '.join(known.flags)}." if known.flags else ""


def _with_interval(mean: float, low: float, high: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return significant(mean)
    return f"{significant(mean)} [{significant(low)}, {significant(high)}]"
