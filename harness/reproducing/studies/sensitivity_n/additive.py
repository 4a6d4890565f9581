"""Sensitivity-n on an additive function, where over all subsets of n columns it is the same for every n."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.api import evaluate, explain
from harness.datasets.gaussian import gaussian
from harness.datasets.gaussian_terms import GaussianFunction, Term, sum_of_terms
from harness.models.planted import gaussian_function
from harness.reproducing.studies.sensitivity_n.curves import (
    DEEP_LIFT,
    INTEGRATED,
    OCCLUSION,
    OPTIONS,
    TIMES,
    subset_sizes,
)

ADDITIVE = GaussianFunction("additive", 10)  # sin x1 + |x2| + x3^2 + exp(-x4), and six columns that it does not use
EXACT_HERE = (INTEGRATED, DEEP_LIFT, OCCLUSION)  # their maps are the contributions themselves
OF_TABLE: dict[str, dict[str, Any]] = {
    **{name: OPTIONS[name] for name in (TIMES, DEEP_LIFT, INTEGRATED)},
    OCCLUSION: {"baseline": "zero"},  # of a table it replaces one column at a time
    "random": {},
}
SIZES_OF_TABLE, LARGEST_OF_TABLE = 30, 0.9  # so many sizes that every n from 1 to 9 is among them
ENUMERATED, DRAWN = "all subsets", "random subsets"


def zero_contributions(terms: Sequence[Term], rows: Tensor) -> Tensor:
    """What each column (k, D) adds to a sum of terms beyond its value at 0: g(x) - g(0), in closed form."""
    zero = torch.zeros(1, dtype=rows.dtype)
    parts = [term(rows[:, column]) - term(zero) for column, term in enumerate(terms)]
    return torch.stack([*parts, *[torch.zeros(len(rows), dtype=rows.dtype)] * (rows.shape[1] - len(terms))], 1)


def subsets_of_size(columns: int, n: int) -> np.ndarray:
    """All subsets of n columns, (number, columns) bool."""
    chosen = np.array(list(combinations(range(columns), n)))
    found = np.zeros((len(chosen), columns), dtype=bool)
    np.put_along_axis(found, chosen, True, axis=1)
    return found


def correlation_over_subsets(attributions: np.ndarray, outputs: np.ndarray, subsets: np.ndarray) -> np.ndarray:
    """Sensitivity-n (k,): Pearson correlation of the attributions' sums over the subsets and the fall of the output.

    ``attributions`` (k, D), ``subsets`` (m, D) bool, ``outputs`` (k, m) without each subset.
    """
    return pearson_of_rows(attributions @ subsets.T.astype(float), -outputs)


def pearson_of_rows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson correlations (k,) of rows (k, m)."""
    first, second = (values - values.mean(1, keepdims=True) for values in (first, second))
    return (first * second).sum(1) / np.sqrt((first**2).sum(1) * (second**2).sum(1))


def additive_correlations(enumerated_rows: int, drawn_rows: int, draws: int) -> pd.DataFrame:
    """Sensitivity-n on ADDITIVE beside Pearson(a, c) of the attributions a and the true contributions c.

    Columns: subsets, ENUMERATED (all) or DRAWN (by the registered metric); explainer; n; truth, the mean of
    Pearson(a, c) over rows; mean, error and most of the differences of the rows; rows.
    """
    drawn, count = _drawn_differences(drawn_rows, draws), ADDITIVE.features
    return pd.concat([_enumerated_differences(enumerated_rows, range(1, count)), drawn], ignore_index=True)


def _enumerated_differences(count: int, sizes: Sequence[int]) -> pd.DataFrame:
    data, model = gaussian(planted=ADDITIVE, count=count), gaussian_function(planted=ADDITIVE)
    inputs, targets = data.inputs.double(), torch.zeros(count, dtype=torch.long)
    contributions = zero_contributions(ADDITIVE.terms, inputs).numpy()
    maps = {
        name: explain(name, model, data.inputs, targets, modality="table", task="regression", **options)
        .double()
        .numpy()
        for name, options in OF_TABLE.items()
    }
    rows = []
    for n in sizes:
        subsets = subsets_of_size(ADDITIVE.features, n)
        without = inputs[:, None] * torch.from_numpy(~subsets)
        outputs = sum_of_terms(ADDITIVE.terms, without.flatten(0, 1)).view(count, -1).numpy()
        for name, attributions in maps.items():
            truth = pearson_of_rows(attributions, contributions)
            found = correlation_over_subsets(attributions, outputs, subsets)
            rows.append(_row_of_n(ENUMERATED, name, n, truth, found))
    return pd.DataFrame(rows)


def _drawn_differences(count: int, draws: int) -> pd.DataFrame:
    data, model = gaussian(planted=ADDITIVE, count=count), gaussian_function(planted=ADDITIVE)
    targets, sizes = torch.zeros(count, dtype=torch.long), {"sizes": SIZES_OF_TABLE, "largest_share": LARGEST_OF_TABLE}
    contributions = zero_contributions(ADDITIVE.terms, data.inputs.double()).numpy()
    metric = {**sizes, "draws": draws, "baseline": "zero", "score": "logit"}
    about = {"modality": "table", "task": "regression"}
    scores = evaluate(model, data.inputs, targets, explainers=OF_TABLE, metrics={"sensitivity_n": metric}, **about)
    rows = []
    for name, own in scores.groupby("explainer", sort=False):
        attributions = explain(name, model, data.inputs, targets, **about, **OF_TABLE[name]).double().numpy()
        truth, curves = pearson_of_rows(attributions, contributions), np.array(own["curve"].tolist(), dtype=float)
        for n, found in zip(subset_sizes(ADDITIVE.features, **sizes), curves.T, strict=True):
            rows.append(_row_of_n(DRAWN, name, n, truth, found))
    return pd.DataFrame(rows)


def _row_of_n(subsets: str, name: str, n: int, truth: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    gaps = found - truth
    return {
        "subsets": subsets,
        "explainer": name,
        "n": n,
        "truth": float(truth.mean()),
        "mean": float(gaps.mean()),
        "error": float(gaps.std(ddof=1) / len(gaps) ** 0.5),
        "most": float(np.abs(gaps).max()),
        "rows": len(gaps),
    }
