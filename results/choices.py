"""Whether a verdict holds for all settings of a metric: the options that papers choose differently.

The cells are those of one metric under several settings, labelled ``srg[baseline=zero,order=morf]`` as ``over`` makes
them. A verdict is "this explainer is better than that one": the 95 % interval of the mean paired difference over the
samples lies on one side of 0.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd

from harness.errors import UserError
from harness.results.matrices import BLOCK
from harness.results.statistics import interval


@dataclass
class Setting:
    """One metric under one setting: ``values`` (samples x explainers), signed so that higher is better."""

    values: pd.DataFrame

    @cached_property
    def verdicts(self) -> dict[tuple[str, str], int]:
        """For every ordered pair of explainers 1 if the first is significantly better, -1 if it is worse, else 0."""
        signs = {}
        for first, second in combinations(self.values.columns, 2):
            low, high = interval((self.values[first] - self.values[second]).dropna().to_numpy())
            signs[first, second] = int(low > 0) - int(high < 0)
            signs[second, first] = -signs[first, second]
        return signs

    @cached_property
    def ranks(self) -> pd.Series:
        """Each explainer's rank by its mean over the samples that all explainers have, 1 is best; empty if there is no
        such sample."""
        return self.values.dropna().mean().rank(ascending=False, method="min")


def verdicts_over_settings(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per metric and pair of explainers: in how many ``settings`` the first is ``better`` or ``worse``.

    ``scores`` has a row per sample and cell: explainer, metric, sample, value, better. ``undecided`` counts settings in
    which the interval holds 0, or the two share fewer than two samples with a value; ``holds`` is the larger of better
    and worse as a share of the settings. Settings are those of one label before the bracket; one that either explainer
    lacks is not counted.
    """
    rows = []
    for names, settings in _settings_of_metrics(scores):
        for first, second in combinations(_explainers_of(settings), 2):
            signs = [each.verdicts[first, second] for each in settings if {first, second} <= set(each.values)]
            if signs:
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
                        "holds": max(better, worse) / len(signs),
                    }
                )
    return pd.DataFrame(rows)


def standing_over_settings(scores: pd.DataFrame, controls: Collection[str] = ()) -> pd.DataFrame:
    """One row per metric and explainer: how its rank changes with the settings.

    ``settings`` is the number of settings in which it was measured. In how many of them it is ``unbeaten`` (no other
    explainer is shown to be better) and ``above_controls`` (better than each of ``controls``; missing for controls, and
    where there are none). ``rank_best`` and ``rank_worst`` are the best and the worst of its ranks by the mean.
    """
    rows = []
    for names, settings in _settings_of_metrics(scores):
        for explainer in _explainers_of(settings):
            mine = [each for each in settings if explainer in each.values]
            places = pd.Series([each.ranks[explainer] for each in mine])
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
                }
            )
    return pd.DataFrame(rows)


def _unbeaten(setting: Setting, explainer: str) -> bool:
    return all(verdict >= 0 for (first, _), verdict in setting.verdicts.items() if first == explainer)


def _above_controls(setting: Setting, explainer: str, controls: Collection[str]) -> bool:
    """Whether an explainer is better than every control of this setting, of which there must be one."""
    there = [control for control in controls if control in setting.values]
    return bool(there) and all(setting.verdicts[explainer, control] == 1 for control in there)


def _explainers_of(settings: list[Setting]) -> list[str]:
    return list(dict.fromkeys(name for each in settings for name in each.values))


def _settings_of_metrics(scores: pd.DataFrame) -> Iterator[tuple[dict[str, object], list[Setting]]]:
    """Each metric of each model, data set and protocol that the scores name, by its label before the bracket, with its
    settings."""
    if "better" not in scores:
        raise UserError("the scores do not have a column better; take it from the cells")
    directed = scores[scores["better"].isin(["higher", "lower"])]
    directed = directed.assign(setting=directed["metric"].astype(str), family=_family(directed["metric"]))
    names = [name for name in BLOCK if name in scores]
    for key, of_metric in directed.groupby([*names, "family"], observed=True, sort=False):
        settings = [_one_setting(rows) for _, rows in of_metric.groupby("setting", sort=False)]
        yield dict(zip([*names, "metric"], key, strict=True)), settings


def _family(labels: pd.Series) -> pd.Series:
    return labels.astype(str).str.split("[", n=1).str[0]


def _one_setting(rows: pd.DataFrame) -> Setting:
    if rows.duplicated(["explainer", "sample"]).any():
        raise UserError(f"{rows['setting'].iloc[0]} has several cells for an explainer; read one protocol at a time")
    sign = 1.0 if rows["better"].iloc[0] == "higher" else -1.0
    finite = rows.assign(value=sign * rows["value"].where(np.isfinite(rows["value"])))
    values = finite.pivot(index="sample", columns="explainer", values="value")
    return Setting(values[values.columns[values.notna().any()]].rename(columns=str))
