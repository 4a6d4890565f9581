"""Single deletion in the domain on small nets: IDSDS of explainers and of kinds of nets (Hesse et al. 2024,
2407.11910)."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.metrics._similarity import spearman
from harness.reproducing.findings import IDENTITY, PATTERN, Claim, Findings, numbers_of
from harness.reproducing.studies.single_deletion.crossed_means import CrossedMean, crossed_mean
from harness.reproducing.studies.single_deletion.identities import (
    COMPARED,
    GAPS,
    ROUNDING,
    measured_identities,
)
from harness.reproducing.studies.single_deletion.maps import (
    CONTROLS,
    EVIDENCE,
    METHODS,
    ONLY_ON_BASE,
    TRAINED,
    TUNED,
    scores_of_bag,
    scores_of_net,
)
from harness.reproducing.studies.single_deletion.nets import (
    BASE,
    CELL_BAG,
    DEEP,
    LINEAR,
    OVERLAPPING_BAG,
    SHALLOW,
    WITHOUT_BIAS,
    WITHOUT_NORM,
)
from harness.reproducing.studies.single_deletion.patterns import (
    CHANCE,
    crossed,
    deviation_of,
    overlap_claim,
    pattern_claims,
)
from harness.reproducing.studies.single_deletion.poster import POSTER, poster_claims
from harness.reproducing.study import StudySetting
from harness.results.figures import COLOURS, GREY, RULE, figure, looks, tidy

DATA, SCORE = "digits", "IDSDS"
EACH_NET = (SHALLOW, BASE, DEEP, WITHOUT_NORM, WITHOUT_BIAS)
DEPTH_AXIS = {SHALLOW: "1 block", BASE: "2 blocks", DEEP: "4 blocks"}
NORM_AXIS = {BASE: "BN", WITHOUT_NORM: "w/o BN", WITHOUT_BIAS: "w/o BN\nw/o bias"}
DRAWS = 20_000  # of the simulation of chance
STANDARD_ERRORS = 4  # which the simulation may be away
ONE = "it is 1 but for rounding, on images whose 16 drops rounding does not reorder"


def study(setting: StudySetting) -> Findings:
    """Identities on nets that are additive over cells, patterns over nets and images, and the poster's own numbers."""
    sizes = setting.sizes
    training = {name: sizes[name] for name in ("images", "rows", "epochs", "tuning")}
    identities = setting.kept("identities", measured_identities, seed=0, **training)
    scores = {net: _scores_of_nets(setting, net, training) for net in EACH_NET}
    bag = _over_seeds(
        setting.kept(f"{OVERLAPPING_BAG}, seed {seed}", scores_of_bag, net=OVERLAPPING_BAG, seed=seed, **training)
        for seed in range(sizes["seeds"])
    )
    claims = [
        *_identity_claims(identities.set_index("identity")),
        enumerated_claim(),
        simulated_claim(),
        *pattern_claims(scores),
        overlap_claim(bag),
        *poster_claims(),
    ]
    rows = [row for net, table in {**scores, OVERLAPPING_BAG: bag}.items() for row in _rows_of_net(net, table)]
    return Findings(numbers_of(rows), claims, {"scores": _poster_drawn(scores)})


def _scores_of_nets(setting: StudySetting, net: str, training: Mapping[str, int]) -> pd.DataFrame:
    """The scores of all nets of one kind; each seed is a part that is kept."""
    budgets = {name: setting.sizes[name] for name in ("steps", "masks", "samples")}
    return _over_seeds(
        setting.kept(f"{net}, seed {seed}", scores_of_net, net=net, seed=seed, **training, **budgets)
        for seed in range(setting.sizes["base_seeds" if net == BASE else "seeds"])
    )


def _over_seeds(tables: Iterator[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([table.assign(seed=seed) for seed, table in enumerate(tables)], ignore_index=True)


def _identity_claims(found: pd.DataFrame) -> list[Claim]:
    """Claims on what ``measured_identities`` found, a row for each identity."""
    largest, images, left_out = found["largest"], found["images"], found["left_out"]
    words = lambda name, bound: (
        f"largest difference {largest[name]:.1e}, at most {bound:g}; {images[name]} images"
        + (f", {left_out[name]} left out" if left_out[name] else "")
    )
    scored = lambda name, says, bound=1e-6: Claim(
        name=name,
        kind=IDENTITY,
        says=says,
        holds=bool(largest[name] <= bound),
        measured=words(name, bound),
        why=f"rounding; images are left out where two drops differ by less than {ROUNDING:g} of the largest",
        source="algebra",
    )
    apart = [f"apart: {label}" for label in COMPARED]
    most = largest[apart].max(skipna=False)  # NaN, which is no equality, where one of the two has no score
    maps = lambda name, says, source: Claim(
        name=name,
        kind=IDENTITY,
        says=says,
        holds=bool(largest[name] <= 1e-5),
        measured=words(name, 1e-5),
        why="rounding of single precision, as a share of the largest number of the map",
        source=source,
    )
    return [
        scored(LINEAR, "In a linear net exact contributions, IxG, score 1."),
        scored(CELL_BAG, "In a net that is additive over cells the cells' exact contributions score 1."),
        scored("drops", "The drops themselves, as a map, score 1."),
        scored("negated drops", "The negated drops score -1."),
        Claim(
            name="computed apart",
            kind=IDENTITY,
            says="The metric idsds is the protocol: cell sums, drops of the logit and rank correlations that "
            "are computed apart, on its fine-tuned copy, give the same scores.",
            holds=bool(most <= 1e-6),
            measured=f"largest difference of a score {most:.1e}, at most 1e-06; {', '.join(COMPARED)}; "
            f"{images[apart].min()} images or more, {left_out[apart].max()} or fewer left out",
            why=f"rounding; images are left out where two drops or sums differ by less than {ROUNDING:g} of the "
            "largest",
            source=f"{POSTER}, and its released code",
        ),
        _undefined_claim(found),
        maps("IxG is IG", "Without biases and batch norm IxG and IG from zero are the same map.", "algebra"),
        maps(
            "XGrad-CAM is Grad-CAM",
            "With a linear head on the mean over places XGrad-CAM and Grad-CAM are the same map.",
            f"algebra; {POSTER} draws them as one marker for ResNet-50",
        ),
        maps(
            "SG-CAM++ is Grad-CAM++",
            "With such a head SmoothGrad changes nothing in Grad-CAM++: the gradients at the last layer are constant.",
            "algebra",
        ),
    ]


def _undefined_claim(found: pd.DataFrame) -> Claim:
    """That constant maps have no score, that this is counted, and that the other scores stay as they are."""
    images, undefined = found["images"]["constant_map"], found["left_out"]
    expected, apart = -(-images // GAPS), found["largest"]["gappy_map"]
    return Claim(
        name="constant maps are counted",
        kind=IDENTITY,
        says=f"A constant map has no score; where one map in {GAPS} is constant, these are counted and the scores of "
        "the others do not change.",
        holds=bool(undefined["constant_map"] == images and undefined["gappy_map"] == expected and apart == 0),
        measured=f"{undefined['constant_map']} of {images} constant maps have no score; of the mixed ones "
        f"{undefined['gappy_map']}, expected {expected}; the other scores differ by {apart:g}, at most 0; a plain mean "
        "would be NaN",
        why="counts are exact",
        source="defect D7 of the released code, whose filter by type lets NaN into the mean",
    )


def enumerated_claim() -> Claim:
    """The mean and the variance of the rank correlation over all orders of six cells, by the registered function."""
    orders = torch.tensor(all_orders(6), dtype=torch.float64)
    found = spearman(orders, torch.arange(6.0, dtype=torch.float64).expand_as(orders)).numpy()
    gap = max(abs(found.mean()), abs(found.var() - 1 / 5))
    return Claim(
        name="chance, enumerated",
        kind=IDENTITY,
        says="Over all orders of K cells the rank correlation has mean 0 and variance 1/(K - 1).",
        holds=bool(gap <= 1e-12),
        measured=f"K = 6, all {len(orders)} orders: largest difference {gap:.1e}, at most 1e-12",
        why="rounding of double precision",
        source="algebra",
    )


def all_orders(count: int) -> np.ndarray:
    """All orders of the numbers below ``count``: (count!, count)."""
    if count == 1:
        return np.zeros((1, 1), dtype=int)
    shorter = all_orders(count - 1)
    return np.concatenate([np.insert(shorter, place, count - 1, axis=1) for place in range(count)])


def simulated_claim() -> Claim:
    """The same for 16 cells, by random numbers and the registered function."""
    draws = torch.from_numpy(np.random.default_rng(0).normal(size=(DRAWS, 16)))
    found = spearman(draws, torch.arange(16.0, dtype=torch.float64).expand_as(draws)).numpy()
    mean, spread = found.mean() / (found.std() / np.sqrt(DRAWS)), deviation_of(found)
    away = max(abs(mean), abs(spread.value - CHANCE) / spread.error)
    return Claim(
        name="chance, simulated",
        kind=PATTERN,
        says="Random numbers for 16 cells score 0 on average, with a deviation of 1/sqrt(15) = 0.258.",
        holds=bool(away <= STANDARD_ERRORS),
        measured=f"mean {found.mean():+.4f}, deviation {spread.value:.4f}; at most {away:.1f} standard errors away, "
        f"{STANDARD_ERRORS} allowed",
        why=f"{DRAWS:,} draws from a fixed seed; a right function would miss with a probability of about 1 in 8,000",
        source="algebra",
        n=DRAWS,
    )


def _rows_of_net(net: str, table: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Means over images and nets, how many scores there are not, deviations of random controls, and accuracies."""
    about = {"model": net, "dataset": DATA}
    for stage in (TRAINED, TUNED):
        own = {**about, "setting": stage}
        for column, metric in (("right", "accuracy"), ("right_without", "accuracy without a cell")):
            yield {**own, "metric": metric, **_mean_and_crossed_error(crossed_mean(crossed(table, column, stage)))}
        for label in (each for each in (*METHODS, *ONLY_ON_BASE, *CONTROLS, EVIDENCE) if each in table):
            values, named = crossed(table, label, stage), {**own, "explainer": label}
            yield {**named, "metric": SCORE, **_mean_and_crossed_error(crossed_mean(values))}
            undefined = int(np.isnan(values).sum())
            if undefined:
                yield {**named, "metric": f"{SCORE}, maps without a score", "value": undefined, "n": values.size}
            if label in ("random", "blurred noise"):
                spread = deviation_of(values.ravel())
                yield {**named, "metric": f"deviation of {SCORE}", "value": spread.value, "n": spread.count}


def _mean_and_crossed_error(mean: CrossedMean) -> dict[str, object]:
    known = np.isfinite(mean.error)
    spread = {"spread": mean.error, "spread_kind": "standard error"} if known else {}
    return {"value": mean.value, "n": mean.count, **spread}


def _poster_drawn(scores: Mapping[str, pd.DataFrame]) -> Figure:
    """Scores by explainer, and by depth and kind of net, as the poster draws them."""
    drawing = figure(
        4.6,
        "In-domain single deletion on digits",
        "Mean over images and nets; bars are 95 % intervals over both. Hollow: before fine-tuning. Grey: controls. The "
        "dotted line is the mean of chance.",
    )
    left, middle, right = drawing.subplots(1, 3, width_ratios=(1.25, 1, 1))
    _draw_ranking(left, scores[BASE])
    _draw_nets(middle, scores, DEPTH_AXIS, "By depth")
    _draw_nets(right, scores, NORM_AXIS, "By batch norm (BN) and bias")
    right.sharey(middle)
    handles, labels = middle.get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside right center", fontsize=7, frameon=False)
    return drawing


def _draw_ranking(axes: Axes, base: pd.DataFrame) -> None:
    labels = [each for each in (*METHODS, *ONLY_ON_BASE, *CONTROLS) if each != "constant"]
    means = {each: crossed_mean(crossed(base, each)) for each in labels}
    order = sorted(labels, key=lambda each: means[each].value)
    axes.axvline(0, color=RULE, linestyle=":", linewidth=1)
    for place, each in enumerate(order):
        colour = GREY if each in CONTROLS else COLOURS[0]
        low, high = means[each].interval()
        axes.plot([low, high], [place, place], color=colour, linewidth=1)
        axes.plot(means[each].value, place, "o", color=colour, markersize=4)
        before = crossed_mean(crossed(base, each, TRAINED)).value
        axes.plot(before, place, "o", markerfacecolor="none", markeredgecolor=colour, markersize=6, linewidth=0.5)
    axes.set_yticks(range(len(order)), order)
    tidy(axes, "By explainer (2 blocks, batch norm)", SCORE, "")


def _draw_nets(axes: Axes, scores: Mapping[str, pd.DataFrame], names: Mapping[str, str], title: str) -> None:
    axes.axhline(0, color=RULE, linestyle=":", linewidth=1)
    drawn: Sequence[str] = (*METHODS, "edge", "random")
    # Places beside each other, so that intervals do not hide each other.
    shifts = np.linspace(-0.18, 0.18, len(drawn))
    for (colour, marker), shift, each in zip(looks(len(drawn)), shifts, drawn, strict=True):
        means = [crossed_mean(crossed(scores[net], each)) for net in names]
        places, ends = np.arange(len(names)) + shift, np.array([mean.interval() for mean in means])
        colour = GREY if each in CONTROLS else colour
        axes.plot(places, [mean.value for mean in means], marker, ls="-", color=colour, ms=3.5, lw=0.8, label=each)
        axes.vlines(places, ends[:, 0], ends[:, 1], color=colour, linewidth=0.6)
    axes.set_xticks(range(len(names)), names.values())
    axes.set_xlim(-0.4, len(names) - 0.6)
    tidy(axes, title, "", SCORE)
