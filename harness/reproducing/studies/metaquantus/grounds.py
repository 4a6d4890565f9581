"""Scores with known answers for the consistency under noise of Hedström et al. 2023 (arXiv:2302.07265)."""

from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

import numpy as np
import pandas as pd

from harness.reproducing.studies.metaquantus.consistency import (
    COMPONENTS,
    agreeing_places,
    components_of,
    meta_consistency,
    signed_rank_p,
)

LISTED = 6  # explainers, as in the paper
KNOWN_IMAGES = 12
TINY, LARGE = 1e-9, 1.0
RELEASED_SIX, RELEASED_THREE = "entropy of signed maps, six explainers", "entropy of signed maps, three explainers"
WORLDS = ("blind", "perfect", f"every score rises by {TINY:g}", f"every score rises by {LARGE:g}")


def known_consistencies() -> pd.DataFrame:
    """Components of planted scores, with those in closed form: ``world``, ``component``, ``value``, ``expected``."""
    rows = []
    for world, found, expected in _worlds():
        answers = dict(zip(COMPONENTS, expected, strict=True))
        for each in COMPONENTS:
            rows.append({"world": world, "component": each, "value": found[each], "expected": answers[each]})
        means = {"value": meta_consistency(found), "expected": meta_consistency(answers)}
        rows.append({"world": world, "component": "MC", **means})
    return pd.DataFrame(rows)


def _worlds() -> Iterator[tuple[str, dict[str, float], tuple[float, float, float, float]]]:
    """The name of a world, its components as measured, and in closed form."""
    least = 2.0 ** (1 - KNOWN_IMAGES)  # the least p-value of the exact test: all changes have one sign
    scores = np.random.default_rng(0).uniform(size=(LISTED, KNOWN_IMAGES))
    sizes = 1 + np.arange(KNOWN_IMAGES) / KNOWN_IMAGES  # different ones, so that the test is exact
    level = np.ones_like(scores)
    blind, perfect, *risen = WORLDS
    yield blind, components_of(level, level, level, "higher"), (1, 0, 1, 0)
    yield perfect, components_of(scores, scores, scores - sizes, "higher"), (1, 1 - least, 1, 1)
    for world, size in zip(risen, (TINY, LARGE), strict=True):
        after = scores + size * sizes
        yield world, components_of(scores, after, after, "higher"), (least, 1 - least, 1, 0)
    for world, count in ((RELEASED_SIX, 6), (RELEASED_THREE, 3)):
        entropies = np.full((count, KNOWN_IMAGES), -np.inf)
        entropies[0] = scores[0]  # the one explainer without negative attributions
        found = components_of(entropies, entropies, entropies, "lower", released=True)
        yield world, found, (1 / count, 1 - 1 / count, 1, 0)


def largest_gap_of_levels(changes: int) -> float:
    """How far the chance that p is at most a level is from that level, at the most, over all levels below 1 that p has.

    All signs of ``changes`` different changes are equally likely: this is what no effect of the noise means.
    """
    sizes = np.arange(1, changes + 1)
    p = np.round([signed_rank_p(np.array(signs) * sizes) for signs in product((-1, 1), repeat=changes)], 12)
    levels = np.unique(p)
    return float(max(abs((p <= level).mean() - level) for level in levels[levels < 1]))


def agreement_of_all_rankings(count: int) -> float:
    """The mean share of agreeing places of a ranking of ``count`` explainers with every ranking of them."""
    after = np.array(list(permutations(range(count)))).T
    before = np.repeat(np.arange(count)[:, None], after.shape[1], axis=1)
    return float(agreeing_places(before.astype(float), after.astype(float)).mean())


def planted_by_images(images: list[int], repeats: int) -> pd.DataFrame:
    """Components of a metric that rises by a tenth of a deviation under minor noise and falls by a half under
    disruptive noise, for the first so many images of each repeat: ``repeat``, ``images``, and the components."""
    rows: list[dict[str, Any]] = []
    for repeat in range(repeats):
        draw = np.random.default_rng((2302, repeat))
        shape = (LISTED, max(images))
        before = draw.normal(size=shape) + np.arange(LISTED)[:, None]
        minor = before + 0.1 + 0.5 * draw.normal(size=shape)
        disruptive = before - 0.5 + draw.normal(size=shape)
        for count in images:
            found = components_of(before[:, :count], minor[:, :count], disruptive[:, :count], "higher")
            rows.append({"repeat": repeat, "images": count, **found})
    return pd.DataFrame(rows)


def planted_luck(images: int, repeats: int) -> pd.DataFrame:
    """Components and ``MC`` of scores that are drawn anew whatever is scored."""
    rows = []
    for repeat in range(repeats):
        draw = np.random.default_rng((7265, repeat))
        before, minor, disruptive = draw.normal(size=(3, LISTED, images))
        found = components_of(before, minor, disruptive, "higher")
        rows.append({**found, "MC": meta_consistency(found)})
    return pd.DataFrame(rows)
