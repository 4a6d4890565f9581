"""Which explainer to use, in words: the set that is not shown to be worse than the best, and what it takes to tell.

The rule: those not shown to be worse than the best on the headline metric (paired tests, Holm), without those that fail
a check of sanity, the cheapest first. Where a control is among them, or nobody is shown to beat the best control, the
answer is that no faithful explainer was found with so many samples. All are compared on the same samples.
"""

from dataclasses import dataclass, field

import numpy as np

from harness.results.numbers import significant
from harness.results.pairs import ALPHA
from harness.results.reliability import samples_needed
from harness.results.report.blocks import ReportBlock

COST = "seconds_per_sample"
LEAST_FLIPPED = 6  # samples below which no flip test can be below 5 %
LEAST_EFFECT = 0.008  # below it, over 100,000 samples would be needed, and nobody counts them


@dataclass(frozen=True)
class Verdict:
    """The answer for one block.

    found       explainers to choose from, the cheapest first; [] where there is none
    answer      one sentence
    details     what it rests on, a sentence each
    """

    heading: str
    answer: str
    found: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)


def verdict(block: ReportBlock) -> Verdict:
    """The verdict on a block."""
    if not (block.cells["status"] == "ok").any():
        return Verdict(block.heading, "No verdict: nothing could be measured here; Failures and skips say why.")
    if block.headline is None:
        return Verdict(block.heading, "No verdict: no faithfulness metric with a direction has a score here.")
    n = len(block.compared.values)
    if n < 2:
        there = "1 is" if n else "none is"
        return Verdict(
            block.heading, f"No verdict: comparing takes two samples that all have a score on, {there} there."
        )
    table = block.standing
    own = [name for name in table.index if name not in block.controls]
    if not own:
        return Verdict(block.heading, "No verdict: only controls have a score on the headline metric.")
    best, control = table.loc[own, "mean"].idxmax(), _best_control(block)
    details = [_headline(block), *_lacking(block)]
    if control is None:
        which = "No control has scores enough" if set(block.lacking) & block.controls else "No control was run"
        details.append(f"{which}, so nothing says what an explainer that ignores the model would reach.")
    among = [name for name in table.index if table.loc[name, "best"]]
    above = [name for name in own if _above_control(table, name)] if control else own
    if control and (set(among) & block.controls or not above):
        details += _none_details(block, best, control, n)
        return Verdict(block.heading, _none(block, best, control, n), [], details)
    return _found(block, best, control, [n for n in among if n in own], above, details)


def _found(
    block: ReportBlock, best: str, control: str | None, among: list[str], above: list[str], details: list[str]
) -> Verdict:
    failed = [name for name in among if _sanity(block, name) == "fail"]
    unshown = [name for name in among if name not in above and name not in failed]
    left = sorted((n for n in among if n in above and n not in failed), key=lambda name: (_cost(block, name), name))
    others = len([name for name in block.standing.index if name not in block.controls]) - len(among)
    rest = f"The other {'one is' if others == 1 else f'{others} are'} shown to be worse." if others else ""
    details.append(f"Not shown to be worse than the best, {best}: {_list(among)}. {rest}".strip())
    details += [f"Left out for failing a check of sanity: {_list(failed)}."] if failed else []
    details += [f"Left out, not shown to beat the best control, {control}: {_list(unshown)}."] if unshown else []
    if not left:
        return Verdict(
            block.heading, "No faithful explainer found: all that could be chosen are left out.", [], details
        )
    details += _sane(block, left) + _costs(block, left) + _to_tell(block, best, among)
    beats = f", all shown to beat the best control, {control}" if control else ""
    beats = beats.replace("all ", {1: "", 2: "both "}.get(len(left), "all "))
    n = len(block.compared.values)
    word = f"{left[0]} is" if len(left) == 1 else f"{_list(left)} are"
    end = "the best" if len(left) == 1 and not others_near(among, left) else "among the best"
    return Verdict(block.heading, f"{word} {end} on {block.headline} over {n} samples{beats}.", left, details)


def others_near(among: list[str], left: list[str]) -> bool:
    """Whether others that were left out are not shown to be worse either."""
    return len(among) > len(left)


def _headline(block: ReportBlock) -> str:
    direction = {"higher": "higher", "lower": "lower"}[block.better(block.headline)]
    return f"Headline metric: {block.headline}, {direction} is better; paired tests over the same samples, Holm at 5 %."


def _lacking(block: ReportBlock) -> list[str]:
    """Who is not compared, and on how many of the samples all are."""
    most = int(block.matrices[block.headline].values.notna().sum().max())
    n, names = len(block.compared.values), [f"{name} ({count} of {most})" for name, count in block.lacking.items()]
    told = [f"Not compared, for lack of samples with a score: {_list(names)}."] if names else []
    return told + ([f"Compared on the {n} of {most} samples that all the others have a score on."] if n < most else [])


def _none(block: ReportBlock, best: str, control: str, n: int) -> str:
    ahead = block.standing.loc[control, "mean"] >= block.standing.loc[best, "mean"]
    how = "does no better than" if ahead else "is not shown to beat"
    return f"No faithful explainer found at this n ({n} samples): the best, {best}, {how} a control, {control}."


def _none_details(block: ReportBlock, best: str, control: str, n: int) -> list[str]:
    row = block.standing.loc[best]
    if row["vs_control"] <= 0:
        return ["The control is ahead: more samples of this kind are not expected to change that."]
    if _above_control(block.standing, best):
        near = [name for name in block.standing.index if name in block.controls and block.standing.loc[name, "best"]]
        others = [name for name in near if name != control] or near
        return [f"{best} is shown to beat {control}, but not {_list(others)}."]
    return [
        f"If the difference to {control} stays as it is (effect {significant(row['effect_control'])}), "
        f"{_needed(row['effect_control'], n)} would show it (80 % power, one test)."
    ]


def _to_tell(block: ReportBlock, best: str, among: list[str]) -> list[str]:
    """What it would take to tell the best from the second of those that are not told apart."""
    others = [name for name in among if name != best]
    if not others:
        return []
    second = block.standing.loc[others, "mean"].idxmax()
    effect = -block.standing.loc[second, "effect_best"]
    if not effect > 1e-9:  # rounding must not tell equal means apart
        return [f"{best} and {second} score alike: no number of samples is expected to tell them apart."]
    needed = _needed(effect, len(block.compared.values))
    return [
        f"To tell {best} from {second}: {needed}, if their difference stays as it is "
        f"(effect {significant(effect)}, 80 % power, one test)."
    ]


def _sane(block: ReportBlock, left: list[str]) -> list[str]:
    verdicts = {name: _sanity(block, name) for name in left}
    passed = [name for name, found in verdicts.items() if found == "pass"]
    if len(passed) == len(left):
        return ["All of them pass the checks of sanity." if len(left) > 1 else "It passes the checks of sanity."]
    if not passed and set(verdicts.values()) <= {"", "not done"}:
        return ["Sanity was not measured: whether they follow the model's weights is not known."]
    rest = [name for name in left if name not in passed]
    return [
        f"Sanity: {_list(passed) or 'none'} {'pass' if len(passed) != 1 else 'passes'}; undecided for {_list(rest)}."
    ]


def _costs(block: ReportBlock, left: list[str]) -> list[str]:
    known = [(name, _cost(block, name)) for name in left if np.isfinite(_cost(block, name))]
    if not known:
        return [f"{'Its' if len(left) == 1 else 'Their'} cost was not measured."]
    return ["By cost: " + ", ".join(f"{name} {significant(value)} s" for name, value in known) + " a sample."]


def _cost(block: ReportBlock, name: str) -> float:
    cell = block.cell(COST, name)
    value = cell["value"] if cell and cell["status"] == "ok" else float("nan")
    return float(value) if np.isfinite(value) else float("inf")


def _sanity(block: ReportBlock, name: str) -> str:
    found = block.sanity["verdict"].get(name)
    return found if isinstance(found, str) else ""


def _best_control(block: ReportBlock) -> str | None:
    there = [name for name in block.standing.index if name in block.controls]
    return block.standing.loc[there, "mean"].idxmax() if there else None


def _above_control(table, name: str) -> bool:
    return bool(table.loc[name, "p_control"] < ALPHA and table.loc[name, "vs_control"] > 0)


def _needed(effect: float, n: int) -> str:
    """Samples by which a difference of so many standard deviations is found, in words; more than the n that failed."""
    if not effect > LEAST_EFFECT:
        return "over 100,000 samples"
    needed = max(samples_needed(effect), LEAST_FLIPPED)
    return f"about {needed:,.0f} samples" if needed > n else "a few more samples"


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
