"""Whether a verdict holds for all settings of a metric: the options that papers choose differently.

The cells are those of one metric under several settings, labelled ``srg[baseline=zero,order=morf]`` as ``over`` makes
them. A verdict is "this explainer is better than that one", by the tests behind the letters of a leaderboard: all pairs
of the explainers of a setting are one family (``harness.results.family``), so that any false verdict of a setting has a
probability of 5 %.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd

from harness.results.family import Family, all_pairs
from harness.results.matrices import Matrix, matrices
from harness.results.ties import mean_levels


@dataclass
class Setting:
    """One metric under one setting.

    An explainer that lacks the scores of more than a tenth of the samples is not compared: it would leave the others
    only the samples that it has.
    """

    matrix: Matrix

    @cached_property
    def family(self) -> Family:
        """All pairs of the explainers that are compared."""
        return all_pairs(self.matrix)

    @property
    def compared(self) -> list[str]:
        """The explainers that are compared."""
        return self.family.names

    def sign(self, first: str, second: str) -> int:
        """1 if the first is shown to be better, -1 if it is shown to be worse, else 0."""
        return int(self.family.better(first, second)) - int(self.family.better(second, first))

    @cached_property
    def ranks(self) -> pd.Series:
        """The rank of each explainer that is compared, by its mean over the samples that all of these have, 1 is best;
        NaN if there is no such sample."""
        levels = mean_levels(self.family.values) if self.family.n else np.nan
        return pd.Series(levels, self.compared, dtype="float64").rank(ascending=False, method="min")


def verdicts_over_settings(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per metric and pair of explainers: in how many ``settings`` the first is ``better`` or ``worse``.

    ``scores`` has a row per sample and cell: explainer, metric, sample, value, better. ``undecided`` counts settings in
    which neither is shown to be better; ``holds`` is the larger of better and worse as a share of the settings, missing
    where there are none. Settings are those of one label before the bracket. One that either explainer lacks is not
    counted; ``lacking`` says how many there are in which one of the two has too few scores to be compared.
    """
    rows = []
    for names, settings in _settings_of_metrics(scores):
        for first, second in combinations(_explainers_of(settings), 2):
            measured = [each for each in settings if {first, second} <= set(each.matrix.values)]
            both = [each for each in measured if {first, second} <= set(each.compared)]
            signs = [each.sign(first, second) for each in both]
            if measured:
                better, worse = signs.count(1), signs.count(-1)
                rows.append(
                    {
                        **names,
                        "first": first,
                        "second": second,
                        "settings": len(signs),
                        "better": better,
                        "worse": worse,
                        "undecided": signs.count(0),
                        "holds": max(better, worse) / len(signs) if signs else float("nan"),
                        "lacking": len(measured) - len(both),
                    }
                )
    return pd.DataFrame(rows)


def standing_over_settings(scores: pd.DataFrame, controls: Collection[str] = ()) -> pd.DataFrame:
    """One row per metric and explainer: how its rank changes with the settings.

    ``settings`` is the number of settings in which it is compared, ``lacking`` that of those in which it has too few
    scores for that. In how many of them it is ``unbeaten`` (no other explainer is shown to be better) and
    ``above_controls`` (better than each of ``controls``; missing for controls, and where there are none). ``rank_best``
    and ``rank_worst`` are the best and the worst of its ranks by the mean.
    """
    rows = []
    for names, settings in _settings_of_metrics(scores):
        for explainer in _explainers_of(settings):
            measured = [each for each in settings if explainer in each.matrix.values]
            mine = [each for each in measured if explainer in each.compared]
            places = pd.Series([each.ranks[explainer] for each in mine], dtype="float64")
            others = [control for control in controls if control != explainer]
            rows.append(
                {
                    **names,
                    "explainer": explainer,
                    "settings": len(mine),
                    "unbeaten": sum(_unbeaten(each, explainer) for each in mine),
                    "above_controls": None
                    if explainer in controls or not others
                    else sum(_above_controls(each, explainer, others) for each in mine),
                    "rank_best": places.min(),
                    "rank_worst": places.max(),
                    "lacking": len(measured) - len(mine),
                }
            )
    return pd.DataFrame(rows)


def _unbeaten(setting: Setting, explainer: str) -> bool:
    return not any(setting.sign(other, explainer) == 1 for other in setting.compared)


def _above_controls(setting: Setting, explainer: str, controls: Collection[str]) -> bool:
    """Whether an explainer is better than every control of this setting, of which there must be one."""
    there = [control for control in controls if control in setting.compared]
    return bool(there) and all(setting.sign(explainer, control) == 1 for control in there)


def _explainers_of(settings: list[Setting]) -> list[str]:
    return list(dict.fromkeys(name for each in settings for name in each.matrix.values))


def _settings_of_metrics(scores: pd.DataFrame) -> Iterator[tuple[dict[str, object], list[Setting]]]:
    """Each metric of each model, data set and protocol that the scores name, by its label before the bracket, with its
    settings."""
    found: dict[tuple[tuple[str, str], ...], list[Setting]] = {}
    for matrix in matrices(scores):
        if matrix.better in ("higher", "lower"):
            names = matrix.block | {"metric": matrix.names["metric"].split("[", maxsplit=1)[0]}
            found.setdefault(tuple(names.items()), []).append(Setting(matrix))
    yield from ((dict(names), settings) for names, settings in found.items())
