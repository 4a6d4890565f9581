"""How much of a score's variance comes from the seed? One cell under several seeds, split into samples and seeds."""

import json
from typing import Any

import pandas as pd

from harness.results.frames import CELL_NAMES, configured, seed_in_config
from harness.results.reliability import variance_split


def over_seeds(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """One row per cell measured under two seeds or more.

    ``sd_samples`` is the standard deviation between samples, ``sd_seeds`` between the seeds of one sample, ``share``
    the samples' share of the variance, ``seed_of_mean`` the standard deviation of the mean over samples between seeds.

    Seeds are those of the protocol; everything else must be the same. Samples that lack a seed are left out.
    """
    ok = cells[cells["status"] == "ok"]
    about = pd.DataFrame([_without_seed(config) for config in ok["config"]], index=ok.index, columns=["rest", "seed"])
    ok = ok.assign(rest=about["rest"], own_seed=about["seed"])
    rows = []
    for _, group in ok.groupby("rest", sort=False):
        if group["own_seed"].nunique() > 1:
            rows.append({**group.iloc[0][list(CELL_NAMES)].to_dict(), **_split_of_cell(group, scores)})
    return pd.DataFrame(rows, columns=[*CELL_NAMES, "seeds", "n", "sd_samples", "sd_seeds", "share", "seed_of_mean"])


def _without_seed(config: Any) -> tuple[str, Any]:
    """A cell's configuration without its seed, as text, and the seed."""
    sections = {name: configured(config, name) for name in ("model", "dataset", "explainer", "metric", "protocol")}
    sections["protocol"].pop("seed", None)
    return json.dumps(sections, sort_keys=True), seed_in_config(config)


def _split_of_cell(group: pd.DataFrame, scores: pd.DataFrame) -> dict[str, float]:
    seeds = dict(zip(group["cell"], group["own_seed"], strict=True))
    mine = scores[scores["cell"].isin(seeds)]
    mine = mine.assign(seed=mine["cell"].astype(str).map(seeds))
    values = mine.pivot_table(index="sample", columns="seed", values="value", observed=True).dropna()
    split = variance_split(values.to_numpy())
    return {
        "seeds": values.shape[1],
        "n": len(values),
        "sd_samples": split["sample"] ** 0.5,
        "sd_seeds": split["seed"] ** 0.5,
        "share": split["share"],
        "seed_of_mean": float(values.mean().std(ddof=1)) if len(values) else float("nan"),
    }
