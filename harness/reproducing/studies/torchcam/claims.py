"""The claims of the study torchcam: identities between torch-cam's maps and registered ones, and paired tests."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.reproducing.findings import IDENTITY, PATTERN, Claim
from harness.reproducing.published import published_numbers
from harness.reproducing.studies.shared.mean_tests import LEVEL, NOT_CORRECTED, SIGNS_AND_T, means_all_above
from harness.reproducing.studies.torchcam.images import NetOfTool
from harness.reproducing.studies.torchcam.maps import (
    GRAD_CAM,
    GRAD_CAM_PP,
    LAYER_CAM,
    METHODS_OF_TOOL,
    PLAIN_PP,
    RANDOM_MAP,
    SMOOTH,
)

TABLE, README, RESULTS = "torchcam", "README performance table", "scripts/results.csv"
DISAGREE = (("LayerCAM", "ResNet-18"),)  # where the two published tables have other numbers
TOOL = "torch-cam's README"
ROUNDING_OF_MAPS, ROUNDING_OF_SCORES, ROUNDING_OF_NOISE = 1e-4, 1e-5, 1e-2
# Check -> what it says, the bound, and why; those on the head hold for nets with one linear layer after the mean.
EXACT_FOR_ALL = {
    "Grad-CAM, logit is registered": ("Grad-CAM of the logit is the registered grad_cam.", ROUNDING_OF_MAPS),
    "Grad-CAM++, logit is registered": ("Grad-CAM++ of the logit is the registered grad_cam_pp.", ROUNDING_OF_MAPS),
    "LayerCAM, logit is registered": ("LayerCAM of the logit is the registered layer_cam.", ROUNDING_OF_MAPS),
    "drop is registered": (
        "For weights that span 0..1 torch-cam's drop is the registered average_drop.",
        ROUNDING_OF_SCORES,
    ),
    "increase is registered": ("For such weights the increase is the registered average_increase.", 0.0),
    "ones": ("A map of ones loses nothing and raises nothing: by average drop no map is better.", 0.0),
}
EXACT_FOR_LINEAR = {
    "same gradient at all places": ("After a mean over places the gradient is the same at all places.", 1e-5),
    "closed form of Grad-CAM++": (
        "Then a channel's weight in Grad-CAM++ is places x g / (2 + g x sum of activations), for g above 0.",
        ROUNDING_OF_MAPS,
    ),
    "noise changes nothing": (
        "Before a linear head Smooth Grad-CAM++ is Grad-CAM++ of the logit: noise changes nothing.",
        ROUNDING_OF_NOISE,
    ),
}


def exact_claims_of_cams(checks: pd.DataFrame, net: NetOfTool) -> list[Claim]:
    """What ``exact_checks_of_maps`` found on a net."""
    found = checks.set_index("check")["largest"]
    stated = EXACT_FOR_ALL | (EXACT_FOR_LINEAR if net.linear else {})
    return [
        Claim(
            name=f"{name}, {title_of(net)}",
            kind=IDENTITY,
            says=f"{says[:-1]} ({title_of(net)}).",
            holds=found[name] <= bound,
            measured=f"largest difference {found[name]:.1e}, at most {bound:g}, on {checks['images'][0]} images",
            why=_why_of_bound(name),
            source="algebra",
        )
        for name, (says, bound) in stated.items()
    ]


def title_of(net: NetOfTool) -> str:
    """The net in words: weights that are not the default are named."""
    return net.label if net.default else f"{net.label} {net.weights}"


def _why_of_bound(name: str) -> str:
    if name == "noise changes nothing":
        return (
            "rounding, and torch-cam's 1e-8 in the denominator; as a share of the scaled map. So on ResNet-18 the "
            "published .5271 and .2088 differ by the use of the probability, if the metric took it then as it does now"
        )
    if name in ("ones", "increase is registered"):
        return "the same numbers"
    return "rounding of single precision; of maps as a share of their largest number"


def published_tables_disagree() -> Claim:
    """That the two tables of torch-cam have the same numbers but for one row."""
    key = ["model", "dataset", "explainer", "metric"]
    readme, results = (
        published_numbers(TABLE, {"table_or_figure": each}).set_index(key)["value"] for each in (README, RESULTS)
    )
    other = readme.index[readme != results.reindex(readme.index)]
    rows = sorted({(place[2], place[0]) for place in other})
    words = ", ".join(f"{place[2]} {place[3]} on {place[0]}: {readme[place]} and {results[place]}" for place in other)
    return Claim(
        name="README and CSV",
        kind=IDENTITY,
        says="torch-cam's README and its results file have the same numbers but for LayerCAM on ResNet-18.",
        holds=tuple(rows) == DISAGREE and len(readme) == len(results),
        measured=f"{len(readme)} numbers; other ones: {words}",
        why="exact: both are printed with four digits",
        source="torch-cam's README and scripts/results.csv",
    )


def tendencies_of_cams(scores: pd.DataFrame, net: NetOfTool) -> list[Claim]:
    """Paired tests over images on a net."""
    drops = scores.pivot(index="image", columns="map", values="drop")
    claims = [
        _loses_more(drops, net, [(GRAD_CAM, LAYER_CAM)], "LayerCAM has a smaller average drop than Grad-CAM", TOOL),
        _loses_more(
            drops,
            net,
            [(RANDOM_MAP, each) for each in METHODS_OF_TOOL],
            "Every method has a smaller average drop than a random map",
            "control",
        ),
        _loses_more(
            drops,
            net,
            [(GRAD_CAM_PP, PLAIN_PP)],
            "Grad-CAM++ loses more with the gradient of the probability, as in torch-cam's metric, than of the logit",
            "this study",
        ),
    ]
    if net.architecture == "resnet18":
        order = [(SMOOTH, LAYER_CAM), (GRAD_CAM, SMOOTH), (GRAD_CAM_PP, GRAD_CAM)]
        says = "By average drop the order is LayerCAM, Smooth Grad-CAM++, Grad-CAM, Grad-CAM++"
        claims.append(_loses_more(drops, net, order, says, TOOL))
    return claims


def _loses_more(drops: pd.DataFrame, net: NetOfTool, pairs: Sequence[tuple[str, str]], says: str, source: str) -> Claim:
    """That in each pair the first map has the larger average drop."""
    gaps = [(drops[more] - drops[less]).to_numpy() for more, less in pairs]
    holds, largest = means_all_above(gaps)
    words = ", ".join(f"{more} less {less} {np.mean(gap):+.3f}" for (more, less), gap in zip(pairs, gaps, strict=True))
    passing = "; each pair has to pass, so that nothing has to be corrected" if len(pairs) > 1 else ""
    return Claim(
        name=f"{says}, {title_of(net)}",
        kind=PATTERN,
        says=f"{says} ({title_of(net)}).",
        holds=holds,
        measured=f"difference of average drops, more than 0: {words}; p {largest:.2g}",
        why=f"{SIGNS_AND_T} over images at {LEVEL:g}, one-sided{passing}; {NOT_CORRECTED}",
        source=source,
        n=len(drops),
    )
