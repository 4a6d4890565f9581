"""Verdicts of the sanity checks: does an explainer pass or fail each check and all together, or is it undecided?

A check compares a mean over samples with a bound. It is passed where the whole interval of the mean lies on the right
side of the bound, failed where all of it lies on the other side, and undecided where the bound is inside, or where too
few samples have a score. Scores that are all one number, such as the similarities of a map that never changes, have no
interval; a test of signs decides. The interval is over samples; random weights differ too, which several of them
(``weight_seeds``) average out.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import UserError, unknown
from harness.results.frames import configured, protocols, read
from harness.results.statistics import NO_LIMITS, Limits, interval, interval_on_scale, side_of
from harness.results.ties import are_one_number

# The bound of each check. The efficient test by random weights has none: it rewards noise, and ranks first the
# explainers that the test it replaces rejects.
CHECKS = {
    "parameter_randomization": "retained",
    "smooth_parameter_randomization": "retained",
    "label_randomization": "retained",
    "random_logit": "distinct",
    "sanity": "share",
}
# The options that say which maps are compared, with the values of a metric that does not have one: a check and its
# chance agree in all of them. ``noise`` is that of maps which are averaged over ``draws``.
COMPARED_MAPS = {
    "similarity": None,
    "mode": None,
    "stages": None,
    "explained_class": None,
    "running_statistics": None,
    "weight_seed": None,
    "weight_seeds": 1,
    "draws": 0,
    "noise": None,
}
OF_WEIGHTS = ("parameter_randomization", "smooth_parameter_randomization", "sanity")
CHANCE = "chance_similarity"
OVERALL = "overall"
GROUPS = ("model", "dataset", "protocol", "explainer")
COLUMNS = ("check", "verdict", "value", "ci_low", "ci_high", "chance", "bound", "n", "n_invalid", "reason")
NO_VERDICTS = pd.DataFrame(columns=[*GROUPS, *COLUMNS])


@dataclass(frozen=True)
class Bounds:
    """The bounds of the checks, and how many samples are needed to decide.

    retained   largest share of the way from the similarity of unrelated maps (0) to that of the same map (1) which an
               explanation may keep when weights or labels are random. By default the middle: an explanation nearer to
               the same map than to an unrelated one fails
    distinct   largest similarity of the explanations of two classes; methods that ignore the class have about 1, others
               0.4 to 0.8 (Sixt et al. 2020, 1912.09818)
    share      smallest mean of the metric ``sanity``: half of the draws by default, where unrelated maps have 0.95 (at
               least 0.8 where they have so few units that fewer displacements than 19 exist)
    least      smallest number of samples with a score; intervals from fewer samples are unreliable
    level      of the intervals
    """

    retained: float = 0.5
    distinct: float = 0.9
    share: float = 0.5
    least: int = 10
    level: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise UserError(f"level is {self.level}, expected the level of an interval, between 0 and 1")


def verdicts(
    frame: pd.DataFrame, *, checks: Mapping[str, str] | None = None, bounds: Bounds | None = None
) -> pd.DataFrame:
    """A row for every explainer and check, and one for all its checks: verdict, mean, interval, bound and reason.

    ``frame`` is what ``harness.evaluate`` returns, one row per sample and metric. ``checks`` maps labels of metrics to
    the check they are (a name in ``CHECKS``, or ``chance_similarity``) where the label is not its name.

    ``verdict`` is ``pass``, ``fail``, ``undecided`` or, where a check is not in the frame or has no score, ``not
    done``. Overall an explainer fails if it fails one check, and passes if it passes all that were done, of which one
    must be of random weights. ``value`` is the metric's mean over samples, ``ci_low`` and ``ci_high`` its interval;
    where similarity is compared with chance they are of the share of the way from chance to the same map, so 0 for
    unrelated maps and 1 for the same. Chance is the mean of ``chance_similarity`` of the same explainer, on the same
    samples, with the options of the check that say which maps are compared (``COMPARED_MAPS``). Without it, it is 0 for
    ``spearman``, which is its expectation, and nothing is decided for other similarities. A frame that does not tell
    the options, in ``attrs["options"]`` as ``harness.evaluate`` has them, gives ``parameter_randomization`` the only
    chance of its similarity, and other checks none.
    """
    bounds = bounds or Bounds()
    named = {name: name for name in (*CHECKS, CHANCE)} | dict(checks or {})
    for check in named.values():
        if check not in (*CHECKS, CHANCE):
            raise unknown("check", check, (*CHECKS, CHANCE))
    labels = frame["metric"].astype(object)
    if "maps" not in frame:
        known = {label: compared_maps(options) for label, options in frame.attrs.get("options", {}).items()}
        frame = frame.assign(maps=labels.map(known))
    frame = frame.assign(check=labels.map(named))
    keys = [name for name in GROUPS if name in frame]
    rows = []
    for key, own in frame.groupby(keys, sort=False, observed=True, dropna=False):
        about = dict(zip(keys, key, strict=True))
        rows += [{**about, **row} for row in _of_explainer(own, bounds)]
    return pd.DataFrame(rows, columns=[*keys, *COLUMNS])


def verdicts_of_run(run_directory: str | Path, *, bounds: Bounds | None = None) -> pd.DataFrame:
    """``verdicts`` on the cells of a run, for every model, data set and protocol; what a metric is its options say."""
    return verdicts_of_cells(*read(run_directory), bounds=bounds)


def verdicts_of_cells(cells: pd.DataFrame, scores: pd.DataFrame, *, bounds: Bounds | None = None) -> pd.DataFrame:
    """``verdicts_of_run`` on cells and scores that have been read."""
    names = [configured(config, "metric").get("name") for config in cells["config"]]
    maps = [compared_maps(configured(config, "metric")) for config in cells["config"]]
    cells = cells.assign(name=names, maps=maps, protocol=protocols(cells))
    about = cells.set_index("cell")[["model", "dataset", "protocol", "explainer", "metric", "name", "unit", "maps"]]
    scored = scores[["cell", "sample", "value"]].assign(cell=scores["cell"].astype(object), status="ok", error="")
    missing = cells.loc[cells["status"] != "ok", ["cell", "status", "error"]]
    frame = pd.concat([scored, missing]).join(about, on="cell")
    # Two cells of one metric, whose options differ, are two checks.
    several = cells.groupby(["model", "dataset", "protocol", "explainer", "metric"], dropna=False)["cell"]
    twice = set(cells.loc[several.transform("nunique") > 1, "cell"])
    labels = [
        f"{metric} {cell[:6]}" if cell in twice else metric
        for cell, metric in zip(frame["cell"], frame["metric"], strict=True)
    ]
    frame["metric"] = labels
    known = {label: name for label, name in zip(labels, frame["name"], strict=True) if name in (*CHECKS, CHANCE)}
    return verdicts(frame, checks=known, bounds=bounds)


def compared_maps(options: Mapping[str, Any]) -> str:
    """Which maps a metric with these options compares, as a text: ``{"mode": "cascading", ...}``."""
    found = COMPARED_MAPS | {name: value for name, value in options.items() if name in COMPARED_MAPS}
    return json.dumps(found if found["draws"] else found | {"noise": None}, sort_keys=True, default=str)


def _of_explainer(own: pd.DataFrame, bounds: Bounds) -> Iterator[dict]:
    rows = []
    for label, scores in own[own["check"].isin(list(CHECKS))].groupby("metric", sort=False, observed=True):
        check = scores["check"].iloc[0]
        rows.append((check, {"check": label, **_judged_check(check, scores, own[own["check"] == CHANCE], bounds)}))
    there = {check for check, _ in rows}
    rows += [(check, _check_not_done(check, "was not measured")) for check in CHECKS if check not in there]
    yield from (row for _, row in rows)
    yield _overall_verdict(rows)


def _judged_check(check: str, scores: pd.DataFrame, by_chance: pd.DataFrame, bounds: Bounds) -> dict:
    """The verdict of one check from its scores per sample."""
    values = scores.set_index("sample")["value"].astype("float64")
    values = values[np.isfinite(values)]
    count = {"n": len(values), "n_invalid": len(scores) - len(values)}
    if values.empty:
        return {**_check_not_done(check, scores["error"].iloc[0] or "every score is undefined"), **count}
    kind = CHECKS[check]
    if kind == "retained":
        judged = _judged_against_chance(values, *_chance_by_sample(check, scores, by_chance), bounds)
        return judged | {"n_invalid": len(scores) - judged["n"]}
    bound = getattr(bounds, kind)
    # The interval of equal similarities by their limits would be too wide to tell a map that never changes, which ten
    # samples show by a test of signs.
    limits = (0.0, 1.0) if kind == "share" else NO_LIMITS
    low, high = interval_on_scale(values.to_numpy(), limits, level=bounds.level)
    judged = {"value": values.mean(), "ci_low": low, "ci_high": high, "chance": np.nan, "bound": bound, **count}
    return judged | _verdict_by_side(values.to_numpy(), bound, bounds, limits, higher=kind == "share")


def _chance_by_sample(check: str, scores: pd.DataFrame, by_chance: pd.DataFrame) -> tuple[pd.Series | None, str]:
    """The similarity by chance of the maps that a check compares, by sample; None if it is not known, with the reason.

    The mean of several cells that differ in nothing that matters, such as the number of displacements.
    """
    unit, maps = scores["unit"].iloc[0], scores["maps"].iloc[0]
    same = by_chance[by_chance["unit"] == unit]
    if isinstance(maps, str):
        same = same[same["maps"] == maps]
    elif check != "parameter_randomization":
        same = same.iloc[:0]
    elif same["metric"].nunique() > 1:
        return None, f"several {CHANCE} have similarity={unit}, and it is not told which of them is of the same maps"
    if len(same):
        return same.assign(value=same["value"].astype("float64")).groupby("sample", observed=True)["value"].mean(), ""
    if unit == "spearman":
        return pd.Series(0.0, scores["sample"].unique()), ""
    if check == "label_randomization":
        return None, f"there is no similarity by chance for {check} with similarity={unit}; spearman needs none"
    options = json.loads(maps) if isinstance(maps, str) else {}
    told = {"similarity": unit} | {name: value for name, value in options.items() if value is not None}
    wanted = ", ".join(f"{name}={value}" for name, value in told.items())
    return None, f"the similarity by chance of the same maps is not known: add {CHANCE} with {wanted}"


def _judged_against_chance(values: pd.Series, by_sample: pd.Series | None, unknown_as: str, bounds: Bounds) -> dict:
    """Similarity as the share of the way from chance to the same map that is retained."""
    blank = dict.fromkeys(("value", "ci_low", "ci_high", "chance"), np.nan)
    blank |= {"bound": bounds.retained, "n": len(values), "verdict": "undecided"}
    if by_sample is None:
        return {**blank, "reason": unknown_as}
    chance = by_sample.reindex(values.index)
    both = np.isfinite(chance)
    values, chance = values[both], chance[both]
    if values.empty:
        return {**blank, "n": 0, "reason": f"no sample with a score has one of {CHANCE}"}
    if not (chance < 1).any():
        return {
            **blank,
            "chance": chance.mean(),
            "reason": "displaced maps equal the maps themselves, so nothing can be compared",
        }
    # Similarity s retains more than the share b of 1 - c exactly where s - c - b (1 - c) > 0. This is linear, so the
    # interval is of a mean and not of a ratio; it is given as the share.
    room = (1 - chance).mean()
    beyond = values - chance - bounds.retained * (1 - chance)
    low, high = interval(beyond.to_numpy(), level=bounds.level)
    as_share = lambda mean: float(np.minimum(1.0, bounds.retained + mean / room))
    judged = {
        "value": as_share(beyond.mean()),
        "ci_low": as_share(low),
        "ci_high": as_share(high),
        "chance": chance.mean(),
        "bound": bounds.retained,
        "n": len(values),
    }
    return judged | _verdict_by_side(beyond.to_numpy(), 0.0, bounds, NO_LIMITS, higher=False)


def _verdict_by_side(values: np.ndarray, bound: float, bounds: Bounds, limits: Limits, *, higher: bool) -> dict:
    """On which side of the bound the mean of values (n,) is shown to lie; ``higher``: whether it should lie above."""
    if len(values) < max(2, bounds.least):
        return {"verdict": "undecided", "reason": f"{len(values)} samples have a score, {bounds.least} are needed"}
    side = side_of(values, bound, limits, level=bounds.level)
    if not side:
        alike = f"{len(values)} samples with one and the same score do not show on which side of the bound the mean is"
        return {"verdict": "undecided", "reason": alike if are_one_number(values) else "the bound lies in the interval"}
    return {"verdict": "pass" if (side > 0) == higher else "fail", "reason": ""}


def _check_not_done(check: str, reason: str) -> dict:
    numbers = dict.fromkeys(("value", "ci_low", "ci_high", "chance", "bound"), np.nan)
    return {"check": check, "verdict": "not done", **numbers, "n": 0, "n_invalid": 0, "reason": reason}


def _overall_verdict(rows: list[tuple[str, dict]]) -> dict:
    """The verdict of all checks together, with the names of the checks that decide it or were not done."""
    by = {
        verdict: [row["check"] for _, row in rows if row["verdict"] == verdict]
        for verdict in ("pass", "fail", "undecided", "not done")
    }
    of_weights = any(check in OF_WEIGHTS and row["verdict"] == "pass" for check, row in rows)
    verdict = "fail" if by["fail"] else "pass" if of_weights and not by["undecided"] else "undecided"
    reasons = [
        f"{words}: {', '.join(by[name])}"
        for name, words in (("fail", "failed"), ("undecided", "undecided"), ("not done", "not done"))
        if by[name]
    ]
    if verdict == "undecided" and not by["undecided"]:
        reasons.insert(0, "no check of random weights was done")
    return {**_check_not_done(OVERALL, "; ".join(reasons)), "verdict": verdict}
