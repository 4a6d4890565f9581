"""Planted values of nets, as the sanity checks measure them: of random layers, of twins and of unrelated models."""

import numpy as np
import pandas as pd

from harness.reproducing.studies.sanity_checks.claims import NetValues
from harness.reproducing.studies.sanity_checks.nets import (
    CONTROLS_OF_SANITY,
    DESIGNS,
    LABELS,
    MEASURES,
    METHODS,
    NOTHING,
    PAPERS_MEASURES,
    WITHOUT_MULTIPLIER,
)
from harness.reproducing.studies.sanity_checks.unrelated import MARGINS


def values_of_nets(similarity, twin, linear, nets, layers):
    """Tables of nets: ``similarity(explainer, measure, stage, design)`` and so on, with a little spread."""
    draw = np.random.default_rng(0)
    jitter = lambda value: value + 0.002 * draw.normal()
    names = (*METHODS, WITHOUT_MULTIPLIER, *CONTROLS_OF_SANITY)
    similarities = [
        {"net": k, "design": d, "explainer": e, "measure": m, "stage": s, "mean": jitter(similarity(e, m, s, d))}
        for k in range(nets)
        for d in DESIGNS
        for e in names
        for m in MEASURES
        for s in (NOTHING, *layers)
    ]
    labels = [
        {"net": k, "explainer": e, "measure": m, "labels": each, "mean": jitter(twin(e, m, each))}
        for k in range(nets)
        for e in METHODS
        for m in PAPERS_MEASURES
        for each in LABELS
    ]
    unrelated = [
        {"net": k, "margin": margin, "measure": m, "mean": jitter(linear(m, margin))}
        for k in range(nets)
        for margin in MARGINS
        for m in MEASURES
    ]
    return NetValues(*map(pd.DataFrame, (similarities, labels, unrelated)))
