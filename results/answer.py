"""The first answer about a board, in words: which explainer to use, how sure that is, and what it costs.

``harness run``, ``harness table`` and the report begin with it. It says what ``harness.results.verdict`` found: one
sentence with a figure, its interval and the price, then others that may be as good, then what the answer lacks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.registry import DATASETS
from harness.results.board import CHOOSING, DIRECTIONS, Board
from harness.results.family import LEAST_SAMPLES
from harness.results.frames import configured
from harness.results.numbers import one_figure, significant, with_interval
from harness.results.sample_size import samples_range
from harness.results.verdict import COST_METRIC, Verdict, cost_of, sanity_of, verdict

MOST_COUNTED = 100_000  # samples; a larger number is not given
MOST_NAMED = 3
# What an explainer that scores better than another does, by the kinds of metrics by which one can be chosen.
DOES = {
    "faithfulness": "finds what the model uses better",
    "truth": "finds what is known to matter better",
    "localisation": "points at what the label names better",
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
            return self._use_without_control(first)
        chosen = f"Use {first}: on" if self._chooses() else f"First by {self.board.headline} is {first}: on"
        return (
            f"{chosen} {self._these()} it {self._does()} than the best control, {control}, by "
            f"{self._difference(first, control)} {self._unit()}, at {self._price(first)}."
        )

    def _use_without_control(self, first: str) -> str:
        cell, best = self.board.cell(self.board.headline, first), self.found.best
        score = with_interval(cell["value"], cell["ci_low"], cell["ci_high"])
        is_best = "scores best" if first == best else f"is the cheapest of those not shown to be worse than {best}"
        return (
            f"{first} {is_best} on {self._these()}: {score} {self._unit()}, at {self._price(first)}. No control was "
            "compared, so it is not known what an explainer that ignores the model would reach; add explainer=random."
        )

    def none(self) -> str:
        """Which explainer came first although none is recommended, and its distance to the best control."""
        best, failing = self.found.best, self._failing()
        if failing:
            scores, fails = _verb(failing, "scores", "score"), _verb(failing, "fails", "fail")
            if best in failing:
                on = f"on {self._these()} {in_a_sentence(failing)} {scores} best"
            else:
                beats = _verb(failing, "beats", "beat")
                on = f"{in_a_sentence(failing)} {beats} the controls on {self._these()}"
            return f"None to recommend: {on}, but {fails} a sanity check."
        own = [name for name in self.board.standing.index if name not in self.board.controls]
        claim = f"shown to {plain_form(self._does())} than the controls on {self._these()}."
        if self.found.above:
            others = f"{in_a_sentence(at_most_three(self.found.above))} {_verb(self.found.above)}"
            return (
                f"The best, {best}, is not {claim} {self._against_unbeaten('It')} {others} shown to beat the controls, "
                f"but to be worse than {best}."
            )
        if len(own) == 1:
            return f"The explainer {best} is not {claim} {self._against_unbeaten('It')}"
        return f"None of the {len(own)} explainers is {claim} {self._against_unbeaten(f'The best, {best},')}"

    def _against_unbeaten(self, subject: str) -> str:
        """How the best explainer stands to the best control that it does not beat, in a sentence."""
        best, family = self.found.best, self.board.family
        control = self.found.unbeaten[best]
        difference = family.difference(best, control)
        if difference == 0:
            return f"{subject} scores the same as {control}, at {self._price(best)}."
        worse = "shown to be worse than" if family.better(control, best) else "behind"
        size = self._difference(best, control) if difference > 0 else self._difference(control, best)
        way = "ahead of" if difference > 0 else worse
        return f"{subject} is {way} {control} by {size} {self._unit()}, at {self._price(best)}."

    def none_because(self) -> list[str]:
        """How many samples would decide, or why more would not."""
        best, family = self.found.best, self.board.family
        if best not in self.found.unbeaten:
            return []
        control = self.found.unbeaten[best]
        # The first sentence has told how the best stands, unless it was about others.
        stands = [self._against_unbeaten(f"The best, {best},")] if self._failing() else []
        if family.difference(best, control) <= 0:
            return [*stands, "More of them are not expected to change that."]
        return [*stands, f"Provisional: {self._samples(best, control)} would show a difference of this size."]

    def _failing(self) -> list[str]:
        """Those that could be chosen but for a sanity check."""
        return [name for name in self.found.failed if name in self.found.above]

    def as_good(self) -> list[str]:
        """The other choices: neither they nor the first one is shown to be worse."""
        others = self.found.choices[1:]
        if not others:
            return []
        costs = {name: self._times(name, self.found.choices[0]) for name in others}
        names = at_most_three([f"{name} ({cost})" if cost else name for name, cost in costs.items()])
        return [f"{in_a_sentence(names)} {_verb(others)} not shown to be better or worse."]

    def perhaps_as_good(self) -> list[str]:
        """Those not shown to be worse than the best that are no choice: a check fails, or a control is not beaten."""
        told = []
        failed = self.found.failed
        if failed:
            fails = _verb(failed, "fails", "fail")
            names = in_a_sentence(at_most_three(failed))
            told.append(f"{names} {_verb(failed)} not shown to be worse, but {fails} a sanity check.")
        others = [name for name in self.found.near if name in self.found.unbeaten and name not in self.found.failed]
        if others:
            cost = self._times(others[0], self.found.choices[0]) if len(others) == 1 else ""
            names, price = in_a_sentence(at_most_three(others)), f" at {cost}" if cost else ""
            controls = list(dict.fromkeys(self.found.unbeaten[name] for name in others))
            beat = controls[0] if len(controls) == 1 else "every control"
            told.append(f"{names} may be as good{price}, but {_verb(others)} not yet shown to beat {beat}.")
        return told

    def caveats(self) -> list[str]:
        """What the answer lacks: samples, sanity checks."""
        told = []
        if self.board.family.n < LEAST_SAMPLES:
            few = f"{self.board.family.n} {self._noun(self.board.family.n)} cannot show any difference"
            told.append(f"{few}: {LEAST_SAMPLES} are the fewest.")
        if self.board.lacking:
            lacking = in_a_sentence(at_most_three([self.board.named(name) for name in self.board.lacking]))
            told.append(f"Not compared, since too few {self._noun()} have a score: {lacking}.")
        near = [name for name in self.found.near if name not in self.found.failed]  # the best mean first
        if self.found.choices and len(near) > 1:
            told += self._to_separate(*near[:2])
        if not self._chooses():
            told.append(f"{self.board.headline} alone does not tell which explainer to use.")
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
        told.append(f"Not shown to be worse than the best, {found.best}: {in_a_sentence(found.near)}.{rest}")
        if found.failed:
            told.append(f"Left out because they fail a sanity check: {in_a_sentence(found.failed)}.")
        unshown = [f"{name} ({found.unbeaten[name]})" for name in found.near if name in found.unbeaten]
        if unshown:
            told.append(f"Not shown to beat every control (the best one not beaten): {in_a_sentence(unshown)}.")
        return told + self._sanity() + self._costs()

    def _not_compared(self) -> list[str]:
        """Which explainers are not compared, and on how many samples the others are."""
        board = self.board
        most, n = int(board.matrices[board.headline].values.notna().sum().max()), board.family.n
        names = [f"{name} ({count} of {most})" for name, count in board.lacking.items()]
        told = [f"Not compared because too few {self._noun()} have a score: {in_a_sentence(names)}."] if names else []
        if n < most:
            told.append(f"Compared on the {n} of {most} {self._noun()} on which all the others have a score.")
        return told

    def _sanity(self) -> list[str]:
        by = {name: sanity_of(self.board, name) for name in self.found.choices}
        passed = [name for name, found in by.items() if found == "pass"]
        undecided = [name for name, found in by.items() if found != "pass"]
        if not by or set(by.values()) <= {"", "not done"}:
            return []
        told = [f"Sanity checks are passed by {in_a_sentence(passed)}."] if passed else []
        return told + ([f"Sanity checks are undecided for {in_a_sentence(undecided)}."] if undecided else [])

    def _costs(self) -> list[str]:
        costs = [(name, cost_of(self.board, name)) for name in self.found.choices]
        known = [f"{name} {significant(cost)} s" for name, cost in costs if cost is not None]
        unknown = [name for name, cost in costs if cost is None]
        told = [f"By cost: {', '.join(known)} {a_or_an(self._noun(1))}."] if known else []
        return told + ([f"Cost not measured: {in_a_sentence(unknown)}."] if unknown and known else [])

    def _difference(self, first: str, second: str) -> str:
        family = self.board.family
        return with_interval(family.difference(first, second), *family.interval(first, second))

    def _samples(self, first: str, second: str) -> str:
        """How many samples would show the difference between two, with its range, in words."""
        family = self.board.family
        return samples_in_words(family.differences(first, second), self._noun(), critical=family.critical_t)

    def _these(self) -> str:
        n = self.board.family.n
        return f"these {n} {self._noun(n)}"

    def _noun(self, number: int = 2) -> str:
        config = self.board.cells["config"].iloc[0]
        name = configured(config, "dataset").get("name")
        modality = DATASETS[name].modality if name in DATASETS else ""
        return SAMPLES.get(modality, ("sample", "samples"))[number != 1]

    def _chooses(self) -> bool:
        """Whether the headline metric is of a kind by which an explainer can be chosen."""
        return self.board.about.loc[self.board.headline, "kind"] in CHOOSING

    def _does(self) -> str:
        return DOES.get(self.board.about.loc[self.board.headline, "kind"], "scores better")

    def _unit(self) -> str:
        """``of the class probability (srg)``, ``(srg, logit)``."""
        unit, metric = self.board.unit(self.board.headline), self.board.headline
        if unit in UNITS:
            return f"{UNITS[unit]} ({metric})"
        return f"({metric}, {unit})" if unit and unit != metric else f"({metric})"

    def _price(self, name: str) -> str:
        cost, cell = cost_of(self.board, name), self.board.cell(COST_METRIC, name)
        if cost is not None:
            return f"{significant(cost)} s {a_or_an(self._noun(1))}"
        why = cell["error"] if cell and cell["error"] else "metric=cost"
        return f"a cost that was not measured ({why})"

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

    One significant figure, more than n; a lower end that these n samples reach is not told. ``critical`` as in
    ``samples_range``.
    """
    found = samples_range(differences, critical=critical)
    about, high = (one_figure(max(number, len(differences) + 1)) for number in (found.about, found.high))
    low = one_figure(found.low, up=False)
    least = f"{low:,.0f}" if low > len(differences) else ""  # a number that these samples did not reach
    if not about <= MOST_COUNTED:
        return f"over {MOST_COUNTED:,} {noun}{f' (at least {least})' if least else ''}"
    if not high <= MOST_COUNTED:
        range_ = f"at least {least}" if least else "a rough estimate"
        return f"about {about:,.0f} {noun} ({range_}; there may be no difference)"
    return f"about {about:,.0f} {noun} ({f'{least} to' if least else 'at most'} {high:,.0f})"


def _two_digits(value: float) -> str:
    """A number from 1 on with two significant digits: 1.4, 32, 440."""
    return f"{float(f'{value:.2g}'):g}"


def plain_form(does: str) -> str:
    """``find what the model uses`` from ``finds what the model uses``."""
    verb, _, rest = does.partition(" ")
    return f"{verb.removesuffix('s')} {rest}"


def a_or_an(noun: str) -> str:
    """A noun with its article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _verb(names: Sequence[str], one: str = "is", several: str = "are") -> str:
    """The form of a verb that goes with so many names."""
    return one if len(names) == 1 else several


def at_most_three(names: Sequence[str]) -> list[str]:
    """The first three names, and how many more there are."""
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return [*names[:MOST_NAMED], *more]


def in_a_sentence(names: Sequence[str]) -> str:
    """Names with commas and an "and" between them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
