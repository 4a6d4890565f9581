"""(In)fidelity and sensitivity of explanations of a small net for digits (Yeh et al. 2019, arXiv:1901.09392).

On zeros and ones of MNIST, or on the user's MNIST with all ten digits. The net is trained here, so that published
numbers stand beside ours without being comparable.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from harness.reproducing.findings import IDENTITY, Claim, Findings, numbers_of
from harness.reproducing.published import published_numbers
from harness.reproducing.studies.shared.mnist_nets import digits_of
from harness.reproducing.studies.shared.tendencies import Bounded, Tendency, claims_of_tendencies, with_what_was_tried
from harness.reproducing.studies.yeh_mnist.measures import (
    CONTROLS_OF_YEH,
    GLOBAL,
    LOCAL,
    OPTIMAL,
    PATH_STEPS,
    PLAIN,
    SHAPLEY,
    SMOOTHED,
    identities_of_digits,
    infidelities_of_digits,
    left_rule_on_squares,
    sensitivities_of_digits,
    sensitivities_of_optimum,
    undefined_maps,
)
from harness.reproducing.study import StudySetting
from harness.results.figures import COLOURS, GREY, figure, panels, tidy

PAPER = "Yeh et al. 2019, arXiv:1901.09392"
SEEN = f"{PAPER}, poster results table, seen"
SETTINGS = (LOCAL, GLOBAL)
INFIDELITY, SENSITIVITY = "infidelity (after optimal scaling)", "max-sensitivity (divided by the explanation norm)"
MODEL = "CNN of the paper's arrangement, trained here"
NO_SLACK = 1e-9  # of a correlation: what the optimal map leaves has nothing to do with any pixel's perturbation
ROUNDED_MAP, ROUNDED_SCORE = 1e-5, 1e-9  # maps are in single, scores in double precision
APART_FROM_GRADIENT = 1e-3
SHOWN_SHARES = (0.1, 0.2, 0.5, 1, 2, 5)
CLOSE_SHARE = 0.1  # by which the registered infidelity may be off on average
# Tendency -> what was tried, for those of the paper that do not show here.
NOT_ON_OUR_NET: dict[str, str] = {
    "shap is more faithful than the gradient": (
        "2,000 coalitions of 784 pixels, where the paper has up to 20,000: on the first four images the infidelity is "
        ".005, .142, .010 and .067 beside .004, .015, .011 and .005 of the gradient. More coalitions take minutes"
    ),
}


def study(setting: StudySetting) -> Findings:
    """Infidelity and max-sensitivity in both settings, what holds on any net, and the orders of the paper's table."""
    sizes, folder = setting.sizes, "" if setting.data is None else str(setting.data.absolute())
    digits = digits_of(folder)  # first, so that files that are missing are told before anything is measured
    of_net = {"folder": folder, "epochs": sizes["epochs"]}
    images = of_net | {"images": sizes["images"], "smoothing": sizes["smoothing"]}
    few = of_net | {"images": sizes["optimal_images"], "neighbours": sizes["optimal_neighbours"]}
    drawn = {name: sizes[name] for name in ("fitted", "draws", "shap")}
    infidelities, sensitivities, optima = {}, {}, {}
    for each in SETTINGS:
        infidelities[each] = setting.kept(f"infidelity {each}", infidelities_of_digits, setting=each, **images, **drawn)
        sensitivities[each] = setting.kept(
            f"sensitivity {each}", sensitivities_of_digits, setting=each, **images, neighbours=sizes["neighbours"]
        )
        optima[each] = setting.kept(
            f"sensitivity of the optimum {each}", sensitivities_of_optimum, setting=each, **few, fitted=sizes["fitted"]
        )
    exact = setting.kept(
        "identities", identities_of_digits, **of_net, images=sizes["images"], draws=sizes["registered_draws"]
    )
    rule = setting.kept("left rule", left_rule_on_squares, features=5, steps=PATH_STEPS)
    tendencies = [
        *smoothing_helps(infidelities, sensitivities),
        *optimum_is_best(infidelities, optima),
        *others(infidelities, exact),
    ]
    claims = [
        *exact_claims_of_yeh(infidelities, sensitivities, exact, rule),
        *claims_of_tendencies(with_what_was_tried(tendencies, NOT_ON_OUR_NET), sizes["images"], "images, of one net"),
    ]
    rows = list(_rows_of_yeh(infidelities, sensitivities, optima, digits.words))
    accuracy = float(exact[exact["what"] == "accuracy"]["value"].iloc[0])
    notes = [
        f"The net classifies {accuracy:.1%} of the test images right; of these the first {sizes['images']} are used."
    ]
    notes += [f"{each}: {said}" for each in SETTINGS for said in undefined_maps(sensitivities[each])]
    return Findings(numbers_of(rows), claims, {"infidelity": _two_scores_drawn(rows)}, notes)


def by_explainer(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """A score with a row for each image and a column for each explainer."""
    return table.pivot(index="image", columns="explainer", values=column)


def exact_claims_of_yeh(
    infidelities: dict[str, pd.DataFrame],
    sensitivities: dict[str, pd.DataFrame],
    exact: pd.DataFrame,
    rule: pd.DataFrame,
) -> Iterator[Claim]:
    """What holds on any net."""
    algebra = {"kind": IDENTITY, "source": "algebra"}
    of = lambda what: exact[exact["what"] == what]["value"]
    for setting in SETTINGS:
        table = infidelities[setting]
        own, best = by_explainer(table, "own"), OPTIMAL[setting]
        margin = (own.drop(columns=best).min(axis=1) - own[best]).min()
        yield Claim(
            name=f"the regression is the minimum, {setting}",
            says=(
                f"In the setting {setting} no map has a smaller infidelity after optimal scaling than the regression "
                "on the same perturbations: what it leaves is uncorrelated with every pixel's perturbation."
            ),
            holds=bool((table["slack"] <= NO_SLACK).all() and own.notna().all(axis=None) and margin >= 0),
            measured=(
                f"largest such correlation {table['slack'].max():.1e}, at most {NO_SLACK:g}; the nearest of "
                f"{own.shape[1] - 1} other maps is worse by {margin:.2g} in the worst of {len(own)} images"
            ),
            why="normal equations of a convex problem, in double precision; scaling cannot lower a minimum of all maps",
            **algebra,
        )
    level = sensitivities[LOCAL]
    level = level[level["explainer"] == "constant"]["sensitivity"]
    others = sensitivities[LOCAL]
    others = others[others["explainer"] != "constant"]["sensitivity"]
    yield Claim(
        name="a constant map is the most robust",
        says="A constant map has a max-sensitivity of 0 on every image, which no map can be below.",
        holds=bool((level == 0).all() and others.min() >= 0),
        measured=f"largest {level.max():g}, 0 expected; the smallest of all others {others.min():.3g}",
        why="the registered metric; a norm is at least 0",
        **algebra,
    )
    yield Claim(
        name="the scaling hides sign and size",
        says="A map and the same map times -3 have the same infidelity after optimal scaling.",
        holds=bool(of("sign and size").max() <= ROUNDED_SCORE),
        measured=f"largest relative difference {of('sign and size').max():.1g}, at most {ROUNDED_SCORE:g}",
        why="the factor E[Ds] / E[s^2] turns with the sign",
        **algebra,
    )
    row = rule.iloc[0]
    expected = 1 - 1 / row["steps"]
    gap = max(abs(row["least"] - expected), abs(row["most"] - expected))
    yield Claim(
        name="the left rule loses a tenth",
        says=f"With {row['steps']:.0f} steps the left rule gives (1 - 1/10) x^2 for a sum of squares.",
        holds=bool(gap <= ROUNDED_MAP),
        measured=f"shares of x^2 from {row['least']:.6f} to {row['most']:.6f}, {expected:g} expected",
        why="the mean of 2 k/10 over k = 0..9 is 0.9; the registered Integrated Gradients, rounded to single precision",
        **algebra,
    )
    yield Claim(
        name="the path gradient is that of the registered method",
        says="The input times the mean of ten gradients is Integrated Gradients with the left rule and ten steps.",
        holds=bool(of("path times input").max() <= ROUNDED_MAP),
        measured=f"largest difference {of('path times input').max():.1g} of the largest value, at most {ROUNDED_MAP:g}",
        why="rounding in single precision",
        **algebra,
    )
    yield Claim(
        name="guided backprop has its own row",
        says="Guided Backprop differs from the gradient on every image.",
        holds=bool(of("guided and plain").min() > APART_FROM_GRADIENT),
        measured=f"smallest distance {of('guided and plain').min():.2g} of the norm, above {APART_FROM_GRADIENT:g}",
        why="in the paper both rows are the gradient: its net calls ReLU as a function, so that no rule works (D1)",
        kind=IDENTITY,
        source=f"{SEEN}: 4.13 beside 4.12",
    )


def _smaller_score(table: pd.DataFrame, column: str, first: str, second: str, where: str) -> Bounded:
    """That the first explainer has a smaller score than the second, as a share of the second's mean."""
    values = by_explainer(table, column)
    share = (values[first] - values[second]) / values[second].mean()
    return Bounded(f"{first} less {second}, {where}, as a share of the latter's mean", share.to_numpy(), below=0)


def smoothing_helps(
    infidelities: dict[str, pd.DataFrame], sensitivities: dict[str, pd.DataFrame]
) -> Iterator[Tendency]:
    """SmoothGrad lowers both scores, as the paper's table has it."""
    pairs = list(zip(PLAIN, SMOOTHED, strict=True))
    for setting in SETTINGS:
        yield Tendency(
            f"smoothing lowers max-sensitivity, {setting}",
            f"In the setting {setting} SmoothGrad lowers the max-sensitivity of Grad, IG and GBP.",
            [_smaller_score(sensitivities[setting], "sensitivity", smooth, plain, setting) for plain, smooth in pairs],
            SEEN,
        )
        yield Tendency(
            f"smoothing lowers infidelity, {setting}",
            f"In the setting {setting} SmoothGrad lowers the infidelity of Grad, IG and GBP.",
            [_smaller_score(infidelities[setting], "infidelity", smooth, plain, setting) for plain, smooth in pairs],
            SEEN,
        )


def optimum_is_best(infidelities: dict[str, pd.DataFrame], optima: dict[str, pd.DataFrame]) -> Iterator[Tendency]:
    """The optimal map on perturbations that it has not seen, and its sensitivity."""
    names = [name for name in infidelities[LOCAL]["explainer"].unique() if name != OPTIMAL[LOCAL]]
    yield Tendency(
        "the optimum is best on fresh noise",
        "On noise that it is not fitted to, the noisy-baseline map has a smaller infidelity than all other maps.",
        [_smaller_score(infidelities[LOCAL], "infidelity", OPTIMAL[LOCAL], name, LOCAL) for name in names],
        SEEN,
    )
    for setting in SETTINGS:
        yield Tendency(
            f"the optimum is more robust than the gradient, {setting}",
            f"In the setting {setting} the optimal map has a smaller max-sensitivity than Grad.",
            [_smaller_score(optima[setting], "sensitivity", OPTIMAL[setting], "Grad", setting)],
            SEEN,
        )


def others(infidelities: dict[str, pd.DataFrame], exact: pd.DataFrame) -> Iterator[Tendency]:
    """Integrated Gradients and the gradient, controls, SHAP, and the registered metric."""
    for setting in SETTINGS:
        yield Tendency(
            f"integrated gradients are more faithful than the gradient, {setting}",
            f"In the setting {setting} IG has a smaller infidelity than Grad.",
            [_smaller_score(infidelities[setting], "infidelity", "IG", "Grad", setting)],
            SEEN,
        )
    yield Tendency(
        "shap is more faithful than the gradient",
        "With squares SHAP has a smaller infidelity than Grad.",
        [_smaller_score(infidelities[GLOBAL], "infidelity", SHAPLEY, "Grad", GLOBAL)],
        SEEN,
    )
    yield Tendency(
        "methods are better than controls that do not see the net",
        "Every method has a smaller infidelity than a constant, a random and an edge map, in both settings.",
        [
            _smaller_score(infidelities[setting], "infidelity", name, control, setting)
            for setting in SETTINGS
            for name in (*PLAIN, *SMOOTHED)
            for control in CONTROLS_OF_YEH
        ],
        "ours; the paper has no controls",
    )
    yield Tendency(
        "the registered infidelity is that on all squares",
        "The registered infidelity, which draws squares, agrees with that on all squares within 10 % on average.",
        [
            Bounded(
                "share by which it is off",
                exact[exact["what"] == "all and drawn"]["value"].to_numpy(),
                above=-CLOSE_SHARE,
                below=CLOSE_SHARE,
            )
        ],
        "algebra: all squares are equally likely",
    )


def _rows_of_yeh(
    infidelities: dict[str, pd.DataFrame],
    sensitivities: dict[str, pd.DataFrame],
    optima: dict[str, pd.DataFrame],
    words: str,
) -> Iterator[dict[str, Any]]:
    for setting in SETTINGS:
        best = optima[setting][optima[setting]["explainer"] == OPTIMAL[setting]]
        for table, column, metric in (
            (infidelities[setting], "infidelity", INFIDELITY),
            (infidelities[setting], "plain", "infidelity (no scaling)"),
            (pd.concat([sensitivities[setting], best]), "sensitivity", SENSITIVITY),
        ):
            for name, rows in table.groupby("explainer", sort=False):
                values = rows[column].dropna()
                yield {
                    "setting": setting,
                    "model": MODEL,
                    "dataset": words,
                    "explainer": name,
                    "metric": metric,
                    "value": float(values.mean()),
                    "spread": float(values.sem()),
                    "spread_kind": "standard error",
                    "n": len(values),
                }


def _two_scores_drawn(rows: list[dict[str, Any]]) -> Figure:
    """Infidelity over max-sensitivity, both as shares of the gradient's, with the paper's points beside ours."""
    drawing = figure(
        4.2,
        "Infidelity and max-sensitivity beside those of the gradient",
        "Both as shares of the gradient's, ours filled, the paper's hollow (other weights, and two of ten "
        "digits here). Dotted: the gradient itself.",
    )
    ours = pd.DataFrame(rows).set_index(["setting", "metric", "explainer"])["value"]
    names = [*PLAIN, *SMOOTHED]
    for axes, setting in zip(panels(drawing, 1, 2, 2), SETTINGS, strict=True):
        theirs = _published_scores(setting)
        axes.axhline(1, color=GREY, linestyle=":", linewidth=1)
        axes.axvline(1, color=GREY, linestyle=":", linewidth=1)
        for at, name in enumerate([*names, OPTIMAL[setting]]):
            colour = COLOURS[at % len(COLOURS)]
            for values, face in ((ours[setting], colour), (theirs, "none")):
                place = [values[metric, name] / values[metric, "Grad"] for metric in (SENSITIVITY, INFIDELITY)]
                label = name.replace("Noisy Baseline (optimal)", "optimal").replace("Square (optimal)", "optimal")
                axes.scatter(*place, s=38, facecolor=face, edgecolor=colour, label=None if face == "none" else label)
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_yticks(SHOWN_SHARES, [f"{each:g}" for each in SHOWN_SHARES])
        tidy(
            axes, setting, "max-sensitivity, share of Grad's", "infidelity, share of Grad's" if setting == LOCAL else ""
        )
    handles, labels = axes.get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside right upper", fontsize=7.5, frameon=False)
    return drawing


def _published_scores(setting: str) -> pd.Series:
    """(metric, explainer) -> the paper's number for MNIST."""
    rows = published_numbers("yeh2019", {"dataset": "MNIST test, first images"})
    rows = rows[rows["table_or_figure"].str.contains(setting)]
    return rows.set_index(["metric", "explainer"])["value"].astype(np.float64)
