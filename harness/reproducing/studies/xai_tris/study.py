"""XAI-TRIS on images of 8x8 pixels: do explainers find the pixels that carry the class? (Clark et al. 2023, 2306.12816)

Tetrominoes in noise, so that the right pixels are known. Nets are trained in the run, for each scenario, background and
seed; the paper's explainers and controls are scored on images that all nets of a setting classify correctly.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from harness.identity import digest
from harness.reproducing.findings import Findings, numbers_of
from harness.reproducing.studies.xai_tris.claims import (
    DISTANCE,
    claims_of_controls,
    claims_of_defects,
    claims_of_edges,
    claims_of_false_mass,
    claims_of_linear_nets,
    claims_of_theory,
    of_authors,
    shares_behind_edges,
)
from harness.reproducing.studies.xai_tris.figures import boxes_drawn
from harness.reproducing.studies.xai_tris.nets import LINEAR
from harness.reproducing.studies.xai_tris.scores import (
    DEEP_TAYLOR,
    EMD,
    FALSE_MASS,
    LOGIT,
    NO_NET,
    PRECISION,
    SOFTMAX,
    linear_net_weights,
    setting_scores,
)
from harness.reproducing.studies.xai_tris.theory import CORRELATED, WHITE
from harness.reproducing.study import StudySetting

NAMES = {PRECISION: "precision", EMD: "1 - EMD / sqrt(128)", FALSE_MASS: "share of attribution off the mask"}
# Where at least half of the methods are better than an edge filter here, and what was tried, by metric, scenario and
# background.
ALONE = "each net alone: the methods of the MLP, and those of the CNN, are ahead of edge filters too"
LOGITS = f"{ALONE}; the logit explained in place of the softmax: they stay ahead"
RELEASE = (
    "the nets, training, 16-bit data and budgets of the release, on 24 images of one data set: {} methods were ahead. "
    "A net near the best accuracy has to be: the best weights are 0 off the mask"
)
CNN_BEHIND = "each net alone: the methods of the MLP are ahead of edge filters, those of the CNN are behind"
BETTER_THAN_EDGES = {
    ("precision", "linear", WHITE): f"{LOGITS}; {RELEASE.format('34 of 35')}",
    ("precision", "linear", CORRELATED): LOGITS,
    ("precision", "multiplicative", WHITE): LOGITS,
    ("precision", "multiplicative", CORRELATED): LOGITS,
    ("precision", "rotation", WHITE): LOGITS,
    ("precision", "xor", WHITE): LOGITS,
    (DISTANCE, "linear", WHITE): f"{ALONE}; {RELEASE.format('31 of 33')}",
    (DISTANCE, "linear", CORRELATED): CNN_BEHIND,
    (DISTANCE, "multiplicative", WHITE): ALONE,
    (DISTANCE, "rotation", WHITE): ALONE,
    (DISTANCE, "xor", WHITE): ALONE,
}


def study(setting: StudySetting) -> Findings:
    """Suppressors, edge filters and controls, by scenario, background and net."""
    sizes = setting.sizes
    scores = _all_scores(setting)
    weights = {
        backdrop: setting.kept(
            f"linear nets {backdrop}",
            linear_net_weights,
            backdrop=backdrop,
            seeds=sizes["linear_seeds"],
            count=sizes["count"],
        )
        for backdrop in (WHITE, CORRELATED)
    }
    claims = [
        *claims_of_theory(sizes["seeds"], sizes["identity_images"]),
        *claims_of_linear_nets(weights[WHITE], weights[CORRELATED]),
        *claims_of_false_mass(scores),
        *claims_of_edges(scores, BETTER_THAN_EDGES),
        *claims_of_controls(scores),
        *claims_of_defects(),
    ]
    rows = [*_rows_of_methods(scores), *_rows_of_nets(scores), *_rows_of_weights(weights)]
    return Findings(numbers_of(rows), claims, _both_box_plots(scores), _notes_on_nets(scores, weights))


def _all_scores(setting: StudySetting) -> pd.DataFrame:
    """The scores of all scenarios, backgrounds and seeds, each a part of its own."""
    sizes, tables = setting.sizes, []
    for scenario, backdrop, seed in product(sizes["scenarios"], sizes["backdrops"], sizes["seeds"]):
        which = {"scenario": scenario, "backdrop": backdrop, "seed": seed}
        given = which | {name: sizes[name] for name in ("nets", "count", "images", "evaluations")}
        table = setting.kept(f"{scenario} {backdrop} {seed}", setting_scores, **given)
        tables.append(table.assign(**which))
    return pd.concat(tables, ignore_index=True)


def _data_set(scenario: str, backdrop: str) -> str:
    return f"xai_tris 8x8, {scenario}, {backdrop}"


def _rows_of_methods(scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The mean of each metric for every method and net, over the seeds' means, with its standard error."""
    keys = ["scenario", "backdrop", "net", "score", "explainer"]
    scores = scores.assign(**{EMD: of_authors(scores[EMD])})
    for metric, name in NAMES.items():
        for key, own in scores.dropna(subset=[metric]).groupby(keys, sort=False):
            scenario, backdrop, net, score, explainer = key
            yield {
                "setting": f"{score} explained" if net != NO_NET else "control",
                "model": net,
                "dataset": _data_set(scenario, backdrop),
                "explainer": explainer,
                "metric": name,
                "n": len(own),
                **_mean_over_seeds(own.groupby("seed")[metric].mean().to_numpy()),
            }


def _rows_of_nets(scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The accuracy of each net on test images, and the number of test images that all nets of a setting get right."""
    nets = scores[scores["net"] != NO_NET]
    for (scenario, backdrop, net), own in nets.groupby(["scenario", "backdrop", "net"], sort=False):
        about = {"model": net, "dataset": _data_set(scenario, backdrop)}
        by_seed = own.groupby("seed")[["accuracy", "right", "tested"]].first()
        tested = int(by_seed["tested"].sum())
        yield {**about, "metric": "accuracy", "n": tested, **_mean_over_seeds(by_seed["accuracy"].to_numpy())}
        if net == nets["net"].iloc[-1]:
            counts = by_seed["right"].to_numpy(dtype=float)
            yield {
                **about,
                "model": "",
                "metric": "images that all nets get right",
                "n": tested,
                **_mean_over_seeds(counts),
            }


def _rows_of_weights(weights: dict[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    """What the linear nets' weights are, over their seeds."""
    names = {
        "accuracy": "accuracy of linear nets",
        "weights_off": "share of weights off the mask",
        "pattern_off": "share of the pattern off the mask",
        "agreement": "cosine of two nets' weights off the mask",
    }
    for backdrop, table in weights.items():
        for column, name in names.items():
            values = table[column].dropna().to_numpy()
            about = {"setting": "linear nets", "model": "linear net", "dataset": _data_set("linear", backdrop)}
            yield {**about, "metric": name, "n": len(values), **_mean_over_seeds(values)}


def _mean_over_seeds(values: np.ndarray) -> dict[str, Any]:
    if len(values) < 2:
        return {"value": float(values.mean())}
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    return {"value": float(values.mean()), "spread": error, "spread_kind": "standard error"}


def _both_box_plots(scores: pd.DataFrame) -> dict[str, Any]:
    shown = scores.assign(**{EMD: of_authors(scores[EMD])})
    shown = shown[(shown["score"] != LOGIT) | shown["explainer"].isin(DEEP_TAYLOR)]
    images = scores.groupby(["scenario", "backdrop"])[["seed", "image"]].apply(lambda rows: len(rows.drop_duplicates()))
    counts = " or ".join(str(count) for count in sorted(set(images)))
    note = (
        f"Boxes of {counts} images that all nets classify correctly: quartiles and median. The softmax is explained; "
        "Deep Taylor explains logits."
    )
    return {
        "precision": boxes_drawn(shown, PRECISION, "Precision among the n largest pixels", "precision", note, -0.04),
        "distance": boxes_drawn(shown, EMD, "Earth mover's distance, 1 - EMD / sqrt(128)", "score", note, 0.45),
    }


def _notes_on_nets(scores: pd.DataFrame, weights: dict[str, pd.DataFrame]) -> list[str]:
    images = scores[["scenario", "backdrop", "seed", "image"]].drop_duplicates()
    names = [f"{scenario}_{backdrop}_{seed}_{image:05}" for scenario, backdrop, seed, image in images.to_numpy()]
    accuracy, pattern = (
        ", ".join(f"{backdrop} {table[column].mean():.2f}" for backdrop, table in weights.items())
        for column in ("accuracy", "pattern_off")
    )
    return [
        f"{len(names):,} images are explained; the hash of their ids is {digest(*names)}.",
        "Standard errors of scores are over the means of data sets, n is the number of images.",
        f"No better on average than an edge filter, of all methods on nets in white and correlated backgrounds: "
        f"{shares_behind_edges(scores)}.",
        f"Precision where the softmax is explained less precision where the logit is (defect D16): {_gaps_of(scores)}.",
        f"Linear nets are right on a share of {accuracy}. The pattern of trained nets has {pattern} of its magnitudes "
        "off the mask: it is estimated from images in which the class moves a pixel by a small part of its deviation.",
        f"{_saliency_of_linear_nets(scores)}; precision does not see suppressors that are weaker than the mask.",
    ]


def _gaps_of(scores: pd.DataFrame) -> str:
    keys = ["scenario", "backdrop", "seed", "net", "explainer", "image"]
    both = scores[scores["score"].isin([SOFTMAX, LOGIT])]
    table = both.pivot_table(index=keys, columns="score", values=PRECISION).dropna()
    gaps = (table[SOFTMAX] - table[LOGIT]).groupby("net").mean()
    return ", ".join(f"{net} {gap:+.3f}" for net, gap in gaps.items())


def _saliency_of_linear_nets(scores: pd.DataFrame) -> str:
    chosen = scores[(scores["net"] == LINEAR) & (scores["explainer"] == "Saliency") & (scores["score"] == SOFTMAX)]
    means = chosen[chosen["backdrop"] == CORRELATED][[PRECISION, FALSE_MASS]].mean()
    return (
        f"Saliency of linear nets on correlated backgrounds has precision {means[PRECISION]:.2f}, with "
        f"{means[FALSE_MASS]:.2f} of its mass off the mask"
    )
