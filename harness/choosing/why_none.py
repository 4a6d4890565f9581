"""Why no explainer is recommended, in a sentence."""

from collections.abc import Iterable

from harness.choosing.candidates import Candidate
from harness.choosing.trust import MetricTrust
from harness.choosing.verdict import Decision

MOST_NAMED = 3

# The answer has sentences of its own for these two.
CONTROLS, SANITY = "controls", "sanity"


def why_none(decision: Decision) -> str:
    """Why a confirmed answer recommends nobody; "" if it recommends one."""
    if decision.recommended is not None:
        return ""
    if decision.best is None:
        return "No explainer has scores on the samples of the confirmation."
    return SANITY if any(each.beats for each in decision.members) else CONTROLS


def why_nobody_applies(candidates: Iterable[Candidate]) -> str:
    """That no candidate can be used here, with the reasons of the first ones."""
    reasons = [f"{each.label}: {each.reason}" for each in candidates if not each.control]
    if not reasons:
        return "Only controls came as candidates, which do not look at the model."
    more = f"; and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
    return f"No explainer can be used here: {'; '.join(reasons[:MOST_NAMED])}{more}."


def why_no_metric(headline: str, trust: MetricTrust) -> str:
    """That no metric can be trusted here."""
    reasons = dict.fromkeys(each.reason for each in trust.found)
    return f"This model cannot be judged by {headline}, because {'; '.join(reasons)}."
