"""The first answer about a board, in words: which explainer to use, how sure that is, and what it costs.

``harness run``, ``harness table`` and the report begin with it. It says what ``harness.results.verdict`` found: one
sentence with a figure, its interval and the price, then others that may be as good, then what the answer lacks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.registry import DATASETS
from harness.results.board import DIRECTIONS, Board
from harness.results.family import LEAST_SAMPLES
from harness.results.frames import configured
from harness.results.numbers import one_figure, significant, with_interval
from harness.results.sample_size import samples_range
from harness.results.verdict import Verdict, cost_of, sanity_of, verdict

MOST_COUNTED = 100_000  # samples; a larger number is not given
MOST_NAMED = 3
# What an explainer that scores well on a metric of a kind does.
DOES = {
    "faithfulness": "finds what the model uses",
    "truth": "finds what is known to matter",
    "localisation": "points at what the label names",
    "robustness": "changes little where the model changes little",
    "sanity": "depends on what the model learned",
    "axiom": "keeps the axiom",
    "complexity": "is concise",
}
UNITS = {"probability": "of the class probability"}
# What the samples of a modality are called, one and several.
SAMPLES = {
    "image": ("image", "images"),
    "table": ("row", "rows"),
    "tokens": ("text", "texts"),
    "series": ("series", "series"),
    "volume": ("volume", "volumes"),
}


@dataclass(frozen=True)
class Answer:
    """What to do, in words.

    heading      model and data set
    sentences    the answer: at most four sentences, the first of which can stand alone
    details      the reasons, a sentence each
    verdict      the rule's outcome
    """

    heading: str
    sentences: list[str]
    details: list[str] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def text(self) -> str:
        """The sentences as one paragraph."""
        return " ".join(self.sentences)


def answer(board: Board) -> Answer:
    """The answer about a board whose scores were read."""
    found = verdict(board)
    if found.refused:
        return Answer(board.heading, [found.refused], [], found)
    words = _Words(board, found)
    if found.choices:
        sentences = [words.use(), *words.as_good(), *words.perhaps_as_good(), *words.caveats()]
    else:
        sentences = [words.none(), *words.none_because(), *words.caveats()]
    return Answer(board.heading, sentences, words.details(), found)


@dataclass(frozen=True)
class _Words:
    """The sentences about one board and its verdict."""

    board: Board
    found: Verdict

    def use(self) -> str:
        """Which explainer to use, by how much it is better than the best control, and what it costs."""
        first, control = self.found.choices[0], self.found.control
        if control is None:
            cell = self.board.cell(self.board.headline, first)
            score = with_interval(cell["value"], cell["ci_low"], cell["ci_high"])
            return (
                f"{first} is the best on {self._these()}: {score} {self._unit()}, at {self._price(first)}. No control "
                "was compared, so it is not known what an explainer that ignores the model would reach; add "
                "explainer=random."
            )
        return (
            f"Use {first}: on {self._these()} it {self._does()} better than the best control, {control}, by "
            f"{self._difference(first, control)} {self._unit()}, at {self._price(first)}."
        )

    def none(self) -> str:
        """Which explainer came first although none is recommended, and its distance to the best control."""
        best, control = self.found.best, self.found.control
        own = [name for name in self.board.standing.index if name not in self.board.controls]
        none = f"The explainer {best} is not" if len(own) == 1 else f"None of the {len(own)} explainers is"
        if best in self.found.above and not self.found.equal:
            fails = best in self.found.failed
            return f"None to recommend: {best} scores best on {self._these()}" + (", but fails a sanity check." * fails)
        reference = control if best not in self.found.above else self.found.equal[0]
        ahead = self.board.family.difference(best, reference) > 0
        worse = "shown to be worse than" if self.board.family.better(reference, best) else "behind"
        size = self._difference(best, reference) if ahead else self._difference(reference, best)
        return (
            f"{none} shown to {_plain_form(self._does())} better than a control on {self._these()}. "
            f"{'It' if len(own) == 1 else f'The best, {best},'} is {'ahead of' if ahead else worse} {reference}, by "
            f"{size} {self._unit()}, at {self._price(best)}."
        )

    def none_because(self) -> list[str]:
        """How many samples would decide, or why more would not."""
        best, control, family = self.found.best, self.found.control, self.board.family
        if best in self.found.above and not self.found.equal:
            return [f"{_in_a_sentence(self.found.failed)} fail{'s' * (len(self.found.failed) == 1)} a sanity check."]
        reference = control if best not in self.found.above else self.found.equal[0]
        if family.difference(best, reference) <= 0:
            return ["More of them are not expected to change that."]
        return [f"Provisional: {self._samples(best, reference)} would show a difference of this size."]

    def as_good(self) -> list[str]:
        """The other choices: not shown to be worse than the best, and shown to beat the control."""
        others = self.found.choices[1:]
        if not others:
            return []
        costs = [self._times(name, self.found.choices[0]) for name in others[:MOST_NAMED]]
        names = [f"{name}{f' ({cost})' if cost else ''}" for name, cost in zip(others, costs, strict=False)]
        more = [f"{len(others) - MOST_NAMED} more"] if len(others) > MOST_NAMED else []
        verb = "is" if len(others) == 1 else "are"
        return [f"{_in_a_sentence(names + more)} {verb} not shown to be better or worse."]

    def perhaps_as_good(self) -> list[str]:
        """Those not shown to be worse than the best that are not shown to beat the control either."""
        others = [n for n in self.found.near if n not in self.found.choices and n not in self.found.failed]
        if not others or self.found.control is None:
            return []
        cost = self._times(others[0], self.found.choices[0]) if len(others) == 1 else ""
        verb = "is" if len(others) == 1 else "are"
        names, price = _in_a_sentence(_at_most_three(others)), f" at {cost}" if cost else ""
        return [f"{names} may be as good{price}, but {verb} not yet shown to beat {self.found.control}."]

    def caveats(self) -> list[str]:
        """What the answer lacks: samples, sanity checks."""
        told = []
        if self.board.family.n < LEAST_SAMPLES:
            few = f"{self.board.family.n} {self._noun(self.board.family.n)} cannot show any difference"
            told.append(f"{few}: {LEAST_SAMPLES} are the fewest.")
        others = [name for name in self.found.near if name != self.found.best]
        if self.found.choices and others:
            second = self.board.standing.loc[others, "mean"].idxmax()
            told += self._to_separate(self.found.best, second)
        return [*told, *self._unchecked()]

    def _to_separate(self, best: str, second: str) -> list[str]:
        if not self.board.family.effect(best, second) > 1e-9:  # equal means must not differ by rounding
            return [f"{best} and {second} score alike: no number of {self._noun()} is expected to separate them."]
        return [f"Provisional: {self._samples(best, second)} would tell {best} from {second}."]

    def _unchecked(self) -> list[str]:
        """That no sanity check was measured for what is recommended."""
        if not self.found.choices or sanity_of(self.board, self.found.choices[0]) in ("pass", "fail", "undecided"):
            return []
        return ["No sanity check was measured (metric=sanity)."]

    def details(self) -> list[str]:
        """The reasons, a sentence each."""
        board, found = self.board, self.found
        n, direction = board.family.n, DIRECTIONS[board.better(board.headline)]
        pairs = len(board.family.names) * (len(board.family.names) - 1) // 2
        told = [
            f"Headline metric: {board.headline}, {direction}. All {pairs} pairs of explainers are tested as one family "
            f"over the same {n} {self._noun(n)}; intervals of differences hold together with 95 %."
        ]
        told += self._not_compared()
        worse = len([name for name in board.standing.index if name not in board.controls]) - len(found.near)
        rest = f" {worse} {'is' if worse == 1 else 'are'} shown to be worse." if worse else ""
        told.append(f"Not shown to be worse than the best, {found.best}: {_in_a_sentence(found.near)}.{rest}")
        if found.equal:
            told.append(f"Controls that are not shown to be worse than {found.best}: {_in_a_sentence(found.equal)}.")
        if found.failed:
            told.append(f"Left out because they fail a sanity check: {_in_a_sentence(found.failed)}.")
        unshown = [name for name in found.near if name not in found.above]
        if unshown and found.control:
            told.append(f"Not shown to beat the best control, {found.control}: {_in_a_sentence(unshown)}.")
        return told + self._sanity() + self._costs()

    def _not_compared(self) -> list[str]:
        """Which explainers are not compared, and on how many samples the others are."""
        board = self.board
        most, n = int(board.matrices[board.headline].values.notna().sum().max()), board.family.n
        names = [f"{name} ({count} of {most})" for name, count in board.lacking.items()]
        told = [f"Not compared because too few {self._noun()} have a score: {_in_a_sentence(names)}."] if names else []
        if n < most:
            told.append(f"Compared on the {n} of {most} {self._noun()} on which all the others have a score.")
        return told

    def _sanity(self) -> list[str]:
        by = {name: sanity_of(self.board, name) for name in self.found.choices}
        passed = [name for name, found in by.items() if found == "pass"]
        undecided = [name for name, found in by.items() if found != "pass"]
        if not by or set(by.values()) <= {"", "not done"}:
            return []
        told = [f"Sanity checks are passed by {_in_a_sentence(passed)}."] if passed else []
        return told + ([f"Sanity checks are undecided for {_in_a_sentence(undecided)}."] if undecided else [])

    def _costs(self) -> list[str]:
        costs = [(name, cost_of(self.board, name)) for name in self.found.choices]
        known = [f"{name} {significant(cost)} s" for name, cost in costs if cost is not None]
        unknown = [name for name, cost in costs if cost is None]
        told = [f"By cost: {', '.join(known)} {_a(self._noun(1))}."] if known else []
        return told + ([f"Cost not measured: {_in_a_sentence(unknown)}."] if unknown and known else [])

    def _difference(self, first: str, second: str) -> str:
        family = self.board.family
        return with_interval(family.difference(first, second), *family.interval(first, second))

    def _samples(self, first: str, second: str) -> str:
        """How many samples would show the difference between two, with its range, in words."""
        family = self.board.family
        values = self.board.matrices[self.board.headline].compared.signed
        # Below the fewest samples for a test there is no critical value of the family to plan with.
        critical = family.critical if family.able and np.isfinite(family.critical) else None
        gains = (values[first] - values[second]).to_numpy()
        return samples_in_words(gains, self._noun(), critical=critical)

    def _these(self) -> str:
        n = self.board.family.n
        return f"these {n} {self._noun(n)}"

    def _noun(self, number: int = 2) -> str:
        config = self.board.cells["config"].iloc[0]
        name = configured(config, "dataset").get("name")
        modality = DATASETS[name].modality if name in DATASETS else ""
        return SAMPLES.get(modality, ("sample", "samples"))[number != 1]

    def _does(self) -> str:
        return DOES.get(self.board.about.loc[self.board.headline, "kind"], "scores")

    def _unit(self) -> str:
        """``of the class probability (srg)``, ``(srg, logit)``."""
        unit, metric = self.board.unit(self.board.headline), self.board.headline
        if unit in UNITS:
            return f"{UNITS[unit]} ({metric})"
        return f"({metric}, {unit})" if unit and unit != metric else f"({metric})"

    def _price(self, name: str) -> str:
        cost = cost_of(self.board, name)
        return (
            "a cost that was not measured (metric=cost)"
            if cost is None
            else f"{significant(cost)} s {_a(self._noun(1))}"
        )

    def _times(self, name: str, reference: str) -> str:
        """A cost as a multiple of another; "" where one is missing."""
        own, other = cost_of(self.board, name), cost_of(self.board, reference)
        if not own or not other:
            return ""
        ratio = own / other
        if ratio < 0.95:
            return f"1/{_two_digits(1 / ratio)} of the time" if ratio < 0.7 else f"{ratio:.1f} times the time"
        return "the same time" if ratio < 1.05 else f"{_two_digits(ratio)} times the time"


def samples_in_words(differences: np.ndarray, noun: str = "samples", *, critical: float | None = None) -> str:
    """How many samples would show a difference, by those of n samples, with the range: ``about 60 images (30 to 200)``.

    One significant figure, more than n; ``critical`` as in ``samples_range``.
    """
    found = samples_range(differences, critical=critical)
    about, high = (one_figure(max(number, len(differences) + 1)) for number in (found.about, found.high))
    least = f"{one_figure(found.low, up=False):,.0f}"
    if not about <= MOST_COUNTED:
        return f"over {MOST_COUNTED:,} {noun} (at least {least})"
    if not high <= MOST_COUNTED:
        return f"about {about:,.0f} {noun} (at least {least}; there may be no difference)"
    return f"about {about:,.0f} {noun} ({least} to {high:,.0f})"


def _two_digits(value: float) -> str:
    """A number from 1 on with two significant digits: 1.4, 32, 440."""
    return f"{float(f'{value:.2g}'):g}"


def _plain_form(does: str) -> str:
    """``find what the model uses`` from ``finds what the model uses``."""
    verb, _, rest = does.partition(" ")
    return " ".join([{"is": "be", "changes": "change"}.get(verb, verb.removesuffix("s")), rest]).strip()


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _at_most_three(names: Sequence[str]) -> list[str]:
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return [*names[:MOST_NAMED], *more]


def _in_a_sentence(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
