"""The answer of ``harness choose``: which explainer to use, in words, as tables and as JSON."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from torch import Tensor

from harness.choosing.evidence import Evidence
from harness.choosing.headline import sign_of
from harness.choosing.settings import Settings
from harness.choosing.verdict import Member
from harness.choosing.words import ChoiceWords
from harness.engine.selection import Chosen
from harness.engine.stage import Stage
from harness.results.store import plain


class Choice:
    """Which explainer to use for a model and data.

    status       ``answer``, or ``none`` where no explainer can be recommended
    recommended  the explainer to use, a label; None for ``none``
    explainers   the labels of those that are not shown to be worse than the best: the recommended one first, last those
                 that were not confirmed, since others were ahead in the race
    sentences    the answer in words; the first can stand alone
    evidence     name -> table: candidates, ladder, agreement, race, tuning, held_out, confirmation, conditions
    """

    def __init__(self, evidence: Evidence, settings: Settings, stage: Stage, reason: str = "") -> None:
        self.basis, self.settings, self.reason = evidence, settings, reason
        self.status = "none" if reason else "answer"
        self.recommended = evidence.decision.recommended
        decision = evidence.decision
        self.explainers = [*(each.label for each in self.members), *decision.unconfirmed, *decision.alike]
        words = ChoiceWords(evidence, settings, stage, reason)
        self.sentences, self.lines, self.caveats = words.sentences(), words.lines(), words.caveats()
        self.maps: Callable[[Chosen, Any, Any], Tensor] | None = None

    @property
    def evidence(self) -> dict[str, pd.DataFrame]:
        """The tables that the answer rests on."""
        return self.basis.tables()

    @property
    def members(self) -> list[Member]:
        """The explainers of the answer with score, gain over the best control, cost and caveats."""
        return self.basis.decision.members

    def chosen(self, explainer: str | None = None) -> Chosen:
        """An explainer of the answer with its options; by default the recommended one. KeyError for no such one."""
        label = explainer or self.recommended
        if label is None or label not in self.basis.candidates:
            raise KeyError(f"no explainer is recommended: {self.sentences[0]}" if label is None else label)
        return self.basis.candidates[label].chosen

    def explain(self, inputs: Any, targets: Any = None, *, explainer: str | None = None) -> Tensor:
        """Attributions of further inputs by the recommended explainer, or another, for the model that was judged.

        KeyError where none is recommended and no ``explainer`` is named.
        """
        if self.maps is None:
            raise RuntimeError(
                "this choice was made in a run; call harness.explain with its explainer, model and inputs"
            )
        return self.maps(self.chosen(explainer), inputs, targets)

    def __str__(self) -> str:
        """The answer in at most 15 lines."""
        return "\n".join([*self.sentences[:4], *self.lines, *self.caveats][:15])

    __repr__ = __str__

    def facts(self) -> dict[str, Any]:
        """The answer as plain values, for machines."""
        basis = self.basis
        return plain(
            {
                "status": self.status,
                "recommended": self.recommended,
                "options": dict(self.chosen().options) if self.recommended else None,
                "explainers": [
                    {
                        "explainer": each.label,
                        "score": dict(zip(("mean", "low", "high"), each.score, strict=True)),
                        "gain": dict(zip(("mean", "low", "high"), each.gain, strict=True)) if each.gain else None,
                        "seconds_per_sample": each.seconds,
                        "beats_controls": each.beats,
                        "fits_purpose": each.fits,
                        "sanity": each.conditions.sanity if each.conditions else "not checked",
                        "stable": each.conditions.stable if each.conditions else "not checked",
                        "caveats": list(each.caveats),
                    }
                    for each in self.members
                ],
                "unconfirmed": list(basis.decision.unconfirmed),
                "same_scores_as": dict(basis.decision.alike),
                "best_control": basis.decision.control,
                "metric": basis.headline.name,
                "metrics": basis.headline.labels,
                "unit": basis.headline.unit,
                "better": "higher" if sign_of(basis.headline.metrics[0]) > 0 else "lower",
                "alpha": self.settings.alpha,
                "purpose": self.settings.purpose,
                "samples": dict(basis.split),
                "race_ended": basis.course.ended if basis.course else "",
                "sentences": self.sentences,
                "caveats": self.caveats,
                "seconds": basis.seconds,
                "evaluations": basis.evaluations,
                "evaluations_of_the_whole_grid": basis.whole_grid,
            }
        )
