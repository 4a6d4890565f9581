"""Backgrounds: training inputs that take the place of removed units one after the other; scores are averaged over them.

A single baseline shows the model one replacement of what is removed. Over a background it is the mean score if what is
removed is drawn from the data, independently of what remains: the marginal expectation, SHAP's value function.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import NotApplicable, UserError
from harness.randomness import permutations, stream
from harness.removal.originals import Originals

USUAL_ROWS = 100  # as in shap's maskers
DRAW = 0  # the one draw of rows that all runs have
DEFAULT_BASELINE = "typical_or_zero"


@dataclass(frozen=True)
class Background:
    """So many training inputs, or all where there are no more.

    Which ones is drawn once and for all: they depend on the number of training inputs, and are the same for all samples
    and under all seeds. So the background is part of the question, as a baseline is, and what differs between two seeds
    is the error of the estimate. Rows drawn at random stand for the data even if it is sorted.
    """

    rows: int

    def inputs(self, originals: Originals) -> Tensor:
        """The inputs (R, ...) on the device of ``originals``; NotApplicable without training inputs."""
        if originals.train is None:
            raise NotApplicable(f"background={self.rows} needs training inputs, the data has none (give train=)")
        chosen = drawn_rows(len(originals.train), self.rows, DRAW)
        return originals.train[chosen.to(originals.train.device)].to(originals.inputs)


def replacement(originals: Originals, baseline: str | Tensor, rows: int | None) -> str | Tensor | Background:
    """What removed units become under the options ``baseline`` and ``background`` (``rows``) of an explainer.

    ``rows`` None is a background of ``USUAL_ROWS`` for a table with training inputs whose baseline is left at its
    default, and else the baseline, as is 0. UserError where both a background and another baseline are chosen.
    """
    own = isinstance(baseline, Tensor) or baseline != DEFAULT_BASELINE
    if rows is None:
        usual = originals.units.modality == "table" and originals.train is not None and not own
        return Background(USUAL_ROWS) if usual else baseline
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 0:
        raise UserError(f"background is {rows!r}, expected a number of training inputs, or 0 for the baseline")
    if rows and own:
        raise UserError(f"background={rows} takes the place of the baseline, expected background or baseline, not both")
    return Background(rows) if rows else baseline


def drawn_rows(count: int, wanted: int, seed: int) -> Tensor:
    """The numbers of ``wanted`` of ``count`` rows, ascending: all of them, or those that the seed draws."""
    if count <= wanted:
        return torch.arange(count)
    return permutations(global_key(seed, "training rows"), 1, count)[0, 0, :wanted].sort().values


def global_key(seed: int, use: str) -> Tensor:
    """The key (1,) of random numbers for one ``use`` that belongs to no sample."""
    return stream(torch.zeros(1, dtype=torch.int64), seed, use)
