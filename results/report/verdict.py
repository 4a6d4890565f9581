"""Which explainer to use, in words, with the reasons.

The rule: those not shown to be worse than the best on the headline metric (all pairs of explainers tested as one
family), without those that fail a sanity check, the cheapest first. Where a control is among them, or no explainer is
shown to beat the best control, the answer is that no faithful explainer was found with this number of samples. All are
compared on the same samples.
"""

from dataclasses import dataclass, field

import numpy as np

from harness.results.family import LEAST_SAMPLES
from harness.results.numbers import one_figure, significant
from harness.results.report.blocks import ReportBlock
from harness.results.sample_size import samples_range

COST_METRIC = "seconds_per_sample"
MOST_COUNTED = 100_000  # samples; a larger number is not given


@dataclass(frozen=True)
class Verdict:
    """The answer for one block.

    choices     explainers to choose from, the cheapest first; [] where there is none
    answer      one sentence
    details     the reasons, a sentence each
    """

    heading: str
    answer: str
    choices: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)


def verdict(block: ReportBlock) -> Verdict:
    """The verdict on a block."""
    if not (block.cells["status"] == "ok").any():
        return Verdict(block.heading, "No verdict: nothing could be measured; see Failures and skips.")
    if block.headline is None:
        return Verdict(block.heading, "No verdict: no faithfulness metric with a direction has a score.")
    n = len(block.compared.values)
    if n < 2:
        there = "there is 1" if n else "there is none"
        needed = "a comparison needs two samples on which all explainers have a score"
        return Verdict(block.heading, f"No verdict: {needed}, {there}.")
    table = block.standing
    own = [name for name in table.index if name not in block.controls]
    if not own:
        return Verdict(block.heading, "No verdict: only controls have a score on the headline metric.")
    best, control = table.loc[own, "mean"].idxmax(), _best_control(block)
    details = [_headline_detail(block), *_lacking_details(block)]
    if n < LEAST_SAMPLES:
        details.append(f"{n} samples cannot show any difference between explainers: {LEAST_SAMPLES} are the fewest.")
    if control is None:
        which = "No control has enough scores" if set(block.lacking) & block.controls else "No control was run"
        details.append(f"{which}, so it is not known what score an explainer that ignores the model would reach.")
    among = [name for name in table.index if table.loc[name, "best"]]
    above = [name for name in own if _above_control(table, name)] if control else own
    if control and (set(among) & block.controls or not above):
        details += _none_details(block, best, control)
        return Verdict(block.heading, _none_answer(block, best, control, n), [], details)
    return _verdict_with_choice(block, best, control, [n for n in among if n in own], above, details)


def _verdict_with_choice(
    block: ReportBlock, best: str, control: str | None, among: list[str], above: list[str], details: list[str]
) -> Verdict:
    failed = [name for name in among if _sanity_of(block, name) == "fail"]
    unshown = [name for name in among if name not in above and name not in failed]
    left = sorted((n for n in among if n in above and n not in failed), key=lambda name: (_cost_of(block, name), name))
    others = len([name for name in block.standing.index if name not in block.controls]) - len(among)
    rest = f"The other {'one is' if others == 1 else f'{others} are'} shown to be worse." if others else ""
    details.append(f"Not shown to be worse than the best, {best}: {_in_a_sentence(among)}. {rest}".strip())
    details += [f"Left out because they fail a sanity check: {_in_a_sentence(failed)}."] if failed else []
    details += (
        [f"Left out because they are not shown to beat the best control, {control}: {_in_a_sentence(unshown)}."]
        if unshown
        else []
    )
    if not left:
        return Verdict(block.heading, "No faithful explainer found: every candidate is left out.", [], details)
    details += _sanity_details(block, left) + _cost_details(block, left) + _to_tell(block, best, among)
    beats = f", all shown to beat the best control, {control}" if control else ""
    beats = beats.replace("all ", {1: "", 2: "both "}.get(len(left), "all "))
    n = len(block.compared.values)
    word = f"{left[0]} is" if len(left) == 1 else f"{_in_a_sentence(left)} are"
    end = "the best" if len(left) == 1 and not others_near(among, left) else "among the best"
    return Verdict(block.heading, f"{word} {end} on {block.headline} over {n} samples{beats}.", left, details)


def others_near(among: list[str], left: list[str]) -> bool:
    """Whether others that were left out are not shown to be worse either."""
    return len(among) > len(left)


def _headline_detail(block: ReportBlock) -> str:
    direction = {"higher": "higher", "lower": "lower"}[block.better(block.headline)]
    tested = "all pairs of explainers are tested as one family, over the same samples"
    return f"Headline metric: {block.headline}, {direction} is better; {tested}."


def _lacking_details(block: ReportBlock) -> list[str]:
    """Which explainers are not compared, and on how many samples the others are compared."""
    most = int(block.matrices[block.headline].values.notna().sum().max())
    n, names = len(block.compared.values), [f"{name} ({count} of {most})" for name, count in block.lacking.items()]
    told = [f"Not compared because too few samples have a score: {_in_a_sentence(names)}."] if names else []
    return told + ([f"Compared on the {n} of {most} samples on which all the others have a score."] if n < most else [])


def _none_answer(block: ReportBlock, best: str, control: str, n: int) -> str:
    ahead = block.standing.loc[control, "mean"] >= block.standing.loc[best, "mean"]
    how = "does no better than" if ahead else "is not shown to beat"
    return f"No faithful explainer found with {n} samples: the best, {best}, {how} a control, {control}."


def _none_details(block: ReportBlock, best: str, control: str) -> list[str]:
    row = block.standing.loc[best]
    if row["vs_control"] <= 0:
        return ["The control is ahead; more samples of this kind are not expected to change that."]
    if _above_control(block.standing, best):
        near = [name for name in block.standing.index if name in block.controls and block.standing.loc[name, "best"]]
        others = [name for name in near if name != control] or near
        return [f"{best} is shown to beat {control}, but not {_in_a_sentence(others)}."]
    return [
        f"To show a difference to {control} of this size (effect {significant(row['effect_control'])}; 80 % power, one "
        f"test): {_samples_in_words(_gains(block, best, control))}."
    ]


def _to_tell(block: ReportBlock, best: str, among: list[str]) -> list[str]:
    """How many samples would separate the best explainer from the second one, if they are not shown to differ."""
    others = [name for name in among if name != best]
    if not others:
        return []
    second = block.standing.loc[others, "mean"].idxmax()
    effect = -block.standing.loc[second, "effect_best"]
    if not effect > 1e-9:  # equal means must not differ by rounding
        return [f"{best} and {second} score alike: no number of samples is expected to separate them."]
    needed = _samples_in_words(_gains(block, best, second))
    return [f"To separate {best} from {second} (effect {significant(effect)}; 80 % power, one test): {needed}."]


def _sanity_details(block: ReportBlock, left: list[str]) -> list[str]:
    verdicts = {name: _sanity_of(block, name) for name in left}
    passed = [name for name, found in verdicts.items() if found == "pass"]
    if len(passed) == len(left):
        return ["All of them pass the sanity checks." if len(left) > 1 else "It passes the sanity checks."]
    if not passed and set(verdicts.values()) <= {"", "not done"}:
        return ["No sanity check was measured: whether they depend on the model's weights is not known."]
    rest = _in_a_sentence([name for name in left if name not in passed])
    passing = f"{_in_a_sentence(passed) or 'none'} {'passes' if len(passed) == 1 else 'pass'}"
    return [f"Sanity checks: {passing}; undecided for {rest}."]


def _cost_details(block: ReportBlock, left: list[str]) -> list[str]:
    known = [(name, _cost_of(block, name)) for name in left if np.isfinite(_cost_of(block, name))]
    if not known:
        return [f"{'Its' if len(left) == 1 else 'Their'} cost was not measured."]
    return ["By cost: " + ", ".join(f"{name} {significant(value)} s" for name, value in known) + " a sample."]


def _cost_of(block: ReportBlock, name: str) -> float:
    cell = block.cell(COST_METRIC, name)
    value = cell["value"] if cell and cell["status"] == "ok" else float("nan")
    return float(value) if np.isfinite(value) else float("inf")


def _sanity_of(block: ReportBlock, name: str) -> str:
    found = block.sanity["verdict"].get(name)
    return found if isinstance(found, str) else ""


def _best_control(block: ReportBlock) -> str | None:
    there = [name for name in block.standing.index if name in block.controls]
    return block.standing.loc[there, "mean"].idxmax() if there else None


def _above_control(table, name: str) -> bool:
    return bool(table.loc[name, "beats_control"])


def _gains(block: ReportBlock, first: str, second: str) -> np.ndarray:
    """How much better the first explainer is than the second on each sample that both have."""
    values = block.compared.signed
    return (values[first] - values[second]).dropna().to_numpy()


def _samples_in_words(differences: np.ndarray, *, critical: float | None = None) -> str:
    """How many samples would show a difference, by those of n samples, with the range, in words.

    One significant figure, more than n; ``critical`` as in ``samples_range``.
    """
    found = samples_range(differences, critical=critical)
    about, high = (one_figure(max(number, len(differences) + 1)) for number in (found.about, found.high))
    least = f"{one_figure(found.low, up=False):,.0f}"
    if not about <= MOST_COUNTED:
        return f"over {MOST_COUNTED:,} samples, and at least {least}"
    if not high <= MOST_COUNTED:
        return f"about {about:,.0f} samples, at least {least}; without an upper limit, as there may be no difference"
    return f"about {about:,.0f} samples, at least {least}; {high:,.0f} are enough with 95 % confidence"


def _in_a_sentence(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
