"""Meta-evaluation of the project's metrics by their consistency under noise (Hedström et al. 2023, arXiv:2302.07265).

On zeros and ones of MNIST, or on the user's MNIST with all ten digits, and a LeNet that is trained here, so that
published numbers stand beside ours without being comparable. One row is: it does not depend on the net.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reproducing.findings import Findings, numbers_of
from harness.reproducing.studies.metaquantus.claims import (
    FEWEST,
    MC,
    MOST,
    components_by_draw,
    exact_claims_of_consistency,
    mean_of_both,
    of_draws,
    tendencies_of_draws,
    tendencies_of_grounds,
)
from harness.reproducing.studies.metaquantus.consistency import COMPONENTS, DISRUPTIVE
from harness.reproducing.studies.metaquantus.grounds import known_consistencies, planted_by_images, planted_luck
from harness.reproducing.studies.metaquantus.published import BOTH_TESTS, benchmark_row, claims_of_published
from harness.reproducing.studies.metaquantus.scores import (
    BLIND,
    FIRST_SEEDS,
    LUCK,
    METRICS_OF_METAQUANTUS,
    MORE_SUBSETS,
    NOISE,
    SIGNED_ENTROPY,
    SPACES,
    consistency_under_noise,
    facts_of_problem,
    flipping_areas,
    luck_of_subsets,
)
from harness.reproducing.studies.shared.mnist_nets import digits_of
from harness.reproducing.studies.shared.tendencies import ERROR, claim_of_tendency, claims_of_tendencies
from harness.reproducing.study import StudySetting
from harness.results.figures import COLOURS, GREY, RULE, figure, panels, tidy

REGISTERED, RELEASED, OTHER_WAY = "registered metrics", "entropy of signed maps", "pixel flipping as registered there"
# Name of a tendency of the paper that does not show here -> what was tried.
NOT_ON_OUR_NET = {
    "Pointing Game is above Relevance Mass Accuracy": (
        "in the model test with 10 draws, relevance mass of magnitudes and of signed maps, as Quantus has it, and 50 "
        "images. With 24 images Pointing Game is below all three (.59; .68 positive, .69 magnitudes, .61 signed). With "
        "50 images it is .62 and above signed maps (.61) but below the others (.65, .66): the order depends on the "
        "number of images and on the definition"
    ),
}


def study(setting: StudySetting) -> Findings:
    """Consistency of ten metrics under noise on weights and inputs, what holds for any scores, and the tables again."""
    sizes, folder = setting.sizes, "" if setting.data is None else str(setting.data.absolute())
    digits = digits_of(folder)  # first, so that files that are missing are told before anything is measured
    of_net = {"folder": folder, "epochs": sizes["epochs"], "images": sizes["images"]}
    given = {**of_net, "draws": sizes["draws"], "neighbours": sizes["neighbours"]}
    tests = {
        (space, failing): setting.kept(
            f"{space} {failing}", consistency_under_noise, **given, space=space, failing=failing
        )
        for space, failing in NOISE
    }
    facts = setting.kept("facts", facts_of_problem, **of_net)
    areas = setting.kept("pixel flipping", flipping_areas, **of_net)
    subsets = setting.kept(
        "luck of subsets", luck_of_subsets, folder=folder, epochs=sizes["epochs"], repeats=sizes["noise_maps"]
    )
    planted = setting.kept("planted", planted_by_images, images=[FEWEST, MOST], repeats=sizes["planted"])
    luck = setting.kept("luck", planted_luck, images=24, repeats=2 * sizes["planted"])
    known = known_consistencies()

    table = components_by_draw(tests)
    grounds = tendencies_of_grounds(planted, luck, subsets, areas)
    on_net = list(tendencies_of_draws(table, tests, NOT_ON_OUR_NET))
    claims = [
        *exact_claims_of_consistency(known, tests, table, facts),
        *(claim_of_tendency(each, count, ERROR / len(grounds), over) for each, count, over in grounds),
        *claims_of_tendencies(on_net, sizes["draws"], "draws of noise, of one net and one set of images"),
        *claims_of_published(known),
    ]
    rows = list(_rows_of_consistency_scores(table, digits.words))
    drawings = {"consistency": _areas_beside_published(table)}
    return Findings(numbers_of(rows), claims, drawings, list(_notes_on_draws(table, tests, facts)))


def _rows_of_consistency_scores(table: pd.DataFrame, words: str) -> Iterator[dict[str, Any]]:
    """Means over draws of noise, with the names of the published table."""
    about = {"model": "LeNet, trained here", "dataset": words}
    for metric in (*METRICS_OF_METAQUANTUS, SIGNED_ENTROPY, BLIND, LUCK):
        released = metric == SIGNED_ENTROPY
        named = {"setting": RELEASED, "explainer": "Complexity"} if released else {"setting": REGISTERED}
        here = {**about, "explainer": metric, **named}
        for space in SPACES:
            for column in (MC, *COMPONENTS):
                values = of_draws(table, space, metric, column)
                yield {**here, "metric": f"{column} ({space} test)", **_mean_over_draws(values)}
        yield {**here, "metric": BOTH_TESTS, **_mean_over_draws(mean_of_both(table, metric))}
    finer = {**about, "setting": REGISTERED, "explainer": MORE_SUBSETS, "metric": "IEC_NR (model test)"}
    yield {**finer, **_mean_over_draws(of_draws(table, "model", MORE_SUBSETS, "IEC_NR"))}
    for space in SPACES:
        values = of_draws(table, space, "Pixel-Flipping", "improved")
        here = {**about, "setting": OTHER_WAY, "explainer": "Pixel-Flipping"}
        yield {**here, "metric": f"IEC_AR ({space} test)", **_mean_over_draws(values)}


def _mean_over_draws(values: np.ndarray) -> dict[str, Any]:
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return {"value": float(values.mean()) if len(values) else float("nan"), "n": len(values)}
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    return {"value": float(values.mean()), "spread": error, "spread_kind": "standard error", "n": len(values)}


def _notes_on_draws(
    table: pd.DataFrame, tests: dict[tuple[str, str], pd.DataFrame], facts: pd.DataFrame
) -> Iterator[str]:
    of = lambda what: facts[facts["what"] == what]["value"].iloc[0]
    yield f"The net classifies {of('accuracy'):.1%} of the test images right."
    yield f"The masks are the digits' bounding boxes, which cover {of('on the object'):.0%} of an image on average."
    yield "n of the numbers is the number of draws of noise; a component is the mean over draws, as in the paper."
    yield (
        "In the input test maps of the clean image are scored at the noisy one, as in the authors' code, so that "
        "metrics of the map alone cannot see the noise. A metric that never changes has an MC of .5."
    )
    for space in SPACES:
        rows = tests[space, DISRUPTIVE]
        tried = int(rows["seed"].max()) - FIRST_SEEDS[space, DISRUPTIVE] + 1
        yield (
            f"Disruptive noise on the {'weights' if space == 'model' else 'images'} changes the prediction of "
            f"{rows.groupby('draw')['images'].first().mean():.1f} images on average; "
            f"{tried - rows['draw'].nunique()} of {tried} draws changed less than a third of them and were drawn again."
        )
    means = table[table["metric"].isin(METRICS_OF_METAQUANTUS)].groupby("metric")[MC].mean()
    order = means.sort_values(ascending=False)
    yield "Order by mean MC here: " + ", ".join(f"{name} {value:.3f}" for name, value in order.items()) + "."


def _areas_beside_published(table: pd.DataFrame) -> Figure:
    """A panel for each metric: the four components on four axes for both tests, as in the paper's area graphs."""
    drawing = figure(
        4.6,
        "Consistency of ten metrics under noise",
        "Up IAC_NR, down IEC_NR, left IAC_AR, right IEC_AR, each from 0 to 1: a perfect metric fills the square.\n"
        "Filled: ours, on a LeNet that is trained here. Dotted: the paper's on MNIST, with other weights.",
    )
    means = table.groupby(["space", "metric"])[[*COMPONENTS, MC]].mean()
    for axes, metric in zip(panels(drawing, 2, 5, 10), _by_rows_of_pairs(), strict=True):
        theirs = benchmark_row("LeNet", "MNIST", metric)
        for space, colour in zip(SPACES, COLOURS, strict=False):
            ours = means.loc[(space, metric)]
            axes.fill(*_corners(ours), facecolor=colour, edgecolor=colour, alpha=0.45, label=f"{space} test")
            published = {each: theirs[f"{each} ({space} test)"] for each in COMPONENTS}
            axes.plot(*_corners(published, closed=True), color=colour, linestyle=":", linewidth=1.2)
        _axes_of_components(axes)
        values = " and ".join(f"{means.loc[(space, metric), MC]:.2f}" for space in SPACES)
        tidy(axes, f"{_short_name(metric)}\nMC {values}")
        for spine in axes.spines.values():
            spine.set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside right upper", fontsize=7.5, frameon=False)
    return drawing


def _by_rows_of_pairs() -> list[str]:
    """The metrics with the two of a category below each other."""
    return [*METRICS_OF_METAQUANTUS[::2], *METRICS_OF_METAQUANTUS[1::2]]


def _short_name(metric: str) -> str:
    return {
        "Model Parameter Randomisation Test": "MPRT",
        "Relevance Mass Accuracy": "Relevance Mass",
        "Faithfulness Correlation": "Faithfulness Corr.",
        "Local Lipschitz Estimate": "Local Lipschitz",
    }.get(metric, metric)


def _corners(components: Any, closed: bool = False) -> tuple[list[float], list[float]]:
    across = [-components["IAC_AR"], 0, components["IEC_AR"], 0]
    up = [0, components["IAC_NR"], 0, -components["IEC_NR"]]
    return (across + across[:1], up + up[:1]) if closed else (across, up)


def _axes_of_components(axes: Axes) -> None:
    axes.plot([-1, 0, 1, 0, -1], [0, 1, 0, -1, 0], color=RULE, linewidth=0.8)
    axes.plot([-1, 1], [0, 0], color=GREY, linewidth=0.5)
    axes.plot([0, 0], [-1, 1], color=GREY, linewidth=0.5)
    axes.set_aspect("equal")
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(-1.05, 1.05)
    axes.set_xticks([])
    axes.set_yticks([])
