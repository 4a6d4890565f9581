"""Which explainers go on from the race to be confirmed, and the controls that they are compared with."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness.choosing.candidates import Candidate
from harness.choosing.rounds import Course

MOST_CONFIRMED = 6  # cheap explainers, and as many dear ones: the more there are, the less can be shown of each
SAMPLES_FOR_EACH = 8  # of the confirmation; with few samples fewer are confirmed
AHEAD = 1.0  # standard errors by which a dear explainer has to be ahead of the best cheap one to be confirmed


def survivors(course: Course, candidates: Mapping[str, Candidate]) -> list[Candidate]:
    """The explainers that the race has left with scores on all its samples, the best mean first; no controls."""
    means = course.scores.mean()
    own = [candidates[name] for name in course.remaining if not candidates[name].control]
    return sorted(own, key=lambda each: -means[each.label])


def most_confirmed(samples: int) -> int:
    """How many cheap explainers are confirmed on so many samples, and how many dear ones."""
    return max(1, min(MOST_CONFIRMED, samples // SAMPLES_FOR_EACH))


def worth_confirming(course: Course, candidates: Mapping[str, Candidate], most: int) -> list[Candidate]:
    """The best of the cheap explainers, and the dear ones that are ahead of them, at most ``most`` of each: a dear
    explainer that is level with a cheap one would not be recommended."""
    own = survivors(course, candidates) or _best_of_all(course, candidates)
    cheap = [each for each in own if not each.dear][:most]
    if not cheap:
        return own[:most]
    best = course.scores[cheap[0].label]
    lead = lambda each: _in_standard_errors((course.scores[each.label] - best).dropna())
    dear = [each for each in own if each.dear and lead(each) > AHEAD]
    return [*cheap, *dear[:most]]


def _best_of_all(course: Course, candidates: Mapping[str, Candidate]) -> list[Candidate]:
    """The best explainer where controls have won the race: the confirmation shows by how much they are better."""
    means = course.scores.mean().dropna()
    own = [candidates[name] for name in means.index if not candidates[name].control and candidates[name].takes_part]
    return [max(own, key=lambda each: means[each.label])] if own else []


def controls_to_compare(course: Course, candidates: Mapping[str, Candidate]) -> list[Candidate]:
    """The best control, random maps, and all controls that the race has not dropped."""
    controls = [each for each in candidates.values() if each.control and each.takes_part]
    means = course.scores.mean()
    best = max(controls, key=lambda each: np.nan_to_num(means.get(each.label, np.nan), nan=-np.inf), default=None)
    stays = lambda each: each is best or each.chosen.entry.name == "random" or each.label in course.remaining
    return [each for each in controls if stays(each)]


def _in_standard_errors(differences: pd.Series) -> float:
    """A mean, in its standard errors; infinite where all numbers are one, 0 where this is 0."""
    error, mean = differences.std(ddof=1) / np.sqrt(len(differences)), differences.mean()
    if error > 0:
        return float(mean / error)
    return float(np.copysign(np.inf, mean)) if mean else 0.0
