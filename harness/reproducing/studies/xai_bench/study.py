"""Explainers of models of correlated Gaussian columns, against conditional Shapley values (Liu et al. 2021,
2106.12543)."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reproducing.findings import Findings, numbers_of
from harness.reproducing.studies.xai_bench.cells import (
    CONTROLS,
    CORRELATION,
    DRAWS,
    FAITHFULNESS,
    METHODS,
    METRICS,
    MSE,
    TARGETS,
    TRUTH,
    benchmark_scores,
)
from harness.reproducing.studies.xai_bench.identities import exact_measurements, identity_claims
from harness.reproducing.studies.xai_bench.patterns import (
    SHARE,
    function_errors,
    growth_claims,
    nearest_method_claim,
    random_last_claims,
    undefined_claim,
)
from harness.reproducing.study import StudySetting
from harness.results.figures import COLOURS, GREY, INK, figure, looks, panels, tidy

FUNCTION, INTERVENTIONAL = "the function itself", "interventional Shapley values"
# Methods have colours; controls and the truth are black or grey, and dashed or dotted.
LOOKS = {
    **{name: {"color": colour, "marker": marker} for name, (colour, marker) in zip(METHODS, looks(6), strict=True)},
    "random": {"color": INK, "marker": "X"},
    "constant": {"color": INK, "linestyle": ":"},
    "input magnitude": {"color": GREY, "linestyle": "-."},
    TRUTH: {"color": GREY, "linestyle": "--"},
}


def study(setting: StudySetting) -> Findings:
    """Identities on exact models, the growth of SHAP's error with rho, and the benchmark of three fitted models."""
    sizes = setting.sizes
    rhos, seeds = sizes["rhos"], sizes["seeds"]
    identities = setting.kept(
        "identities",
        exact_measurements,
        seed=seeds[0],
        rhos=rhos,
        test_rows=sizes["test_rows"],
        points=sizes["points"],
    )
    functions = setting.kept(
        "errors of the functions",
        function_errors,
        targets=list(TARGETS),
        rhos=sizes["function_rhos"],
        seeds=sizes["function_seeds"],
        rows=sizes["function_rows"],
    )
    scores = _benchmark(setting)
    claims = [
        *identity_claims(identities, rhos, sizes["points"]),
        undefined_claim(scores, sizes["test_rows"]),
        *growth_claims(functions, scores),
        nearest_method_claim(scores),
        *random_last_claims(scores),
    ]
    rows = [
        *_rows_of_scores(scores, sizes["test_rows"]),
        *_rows_of_functions(functions),
        _row_of_draws(identities),
    ]
    drawings = {
        "explainers": _explainers_drawn(scores, sizes["models"][-1]),
        "shap_error": _shap_error_drawn(scores, functions),
    }
    notes = [_faithfulness_of_the_truth(scores), _control_above_methods(scores)]
    return Findings(numbers_of(rows), claims, drawings, notes)


def _benchmark(setting: StudySetting) -> pd.DataFrame:
    """All scores of the fitted models; each target and seed is a part that is kept."""
    names = ("rhos", "models", "test_rows", "training_rows", "points", "lime_samples", "trees")
    given = {name: setting.sizes[name] for name in names}
    return pd.concat(
        [
            setting.kept(f"{target}, seed {seed}", benchmark_scores, target=target, seed=seed, **given)
            for target in setting.sizes["targets"]
            for seed in setting.sizes["seeds"]
        ],
        ignore_index=True,
    )


def _rows_of_scores(scores: pd.DataFrame, test_rows: int) -> Iterator[dict[str, object]]:
    """Means over seeds with their standard errors, and how many samples have no score."""
    groups = scores.groupby(["target", "rho", "model", "explainer", "metric"], sort=False)
    for (target, rho, model, explainer, metric), group in groups:
        about = {"model": model, "dataset": _data_named(target, rho), "explainer": explainer}
        undefined, values = int(group["undefined"].sum()), group["value"].dropna()
        if len(values):
            yield {**about, "metric": metric, **_mean_of_seeds(values)}
        if undefined:
            count = {"value": undefined, "n": test_rows * len(group)}
            yield {**about, "metric": f"{metric}, samples without a score", **count}


def _rows_of_functions(functions: pd.DataFrame) -> Iterator[dict[str, object]]:
    for (target, rho), group in functions.groupby(["target", "rho"], sort=False):
        about = {"model": FUNCTION, "dataset": _data_named(target, rho), "explainer": INTERVENTIONAL}
        yield from ({**about, "metric": metric, **_mean_of_seeds(group[metric])} for metric in (MSE, SHARE))


def _data_named(target: str, rho: float) -> str:
    """A target in the paper's word, and its rho."""
    return f"{TARGETS[target]}, rho={rho:g}"


def _row_of_draws(identities: pd.DataFrame) -> dict[str, object]:
    """The faithfulness of exact contributions with as many random draws as in the paper."""
    found = identities.set_index("name").loc["faithful by draws LR"]
    about = {"model": "LR", "dataset": _data_named("linear", 0.0), "explainer": "w * (x - mu)"}
    return {**about, "metric": f"{FAITHFULNESS}, {DRAWS} draws", "value": float(found["value"]), "n": int(found["n"])}


def _mean_of_seeds(values: pd.Series) -> Mapping[str, object]:
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    kind = "standard error" if len(values) > 1 else "none"
    return {"value": float(values.mean()), "spread": error, "spread_kind": kind, "n": len(values)}


def _faithfulness_of_the_truth(scores: pd.DataFrame) -> str:
    """A sentence on what the conditional values themselves score by faithfulness."""
    rho = scores["rho"].max()
    chosen = scores[(scores["metric"] == FAITHFULNESS) & (scores["rho"] == rho)]
    seeds = chosen.pivot_table(index="seed", columns="explainer", values="value")
    words = ", ".join(
        f"{name} {seeds[name].mean():.2f} ± {seeds[name].std(ddof=1) / np.sqrt(len(seeds)):.2f}"
        for name in (TRUTH, *METHODS)
    )
    return (
        f"Faithfulness at rho = {rho:g}, of the conditional Shapley values themselves and of the methods: {words} "
        f"(mean over targets and models, standard error over {len(seeds)} seeds)."
    )


def _control_above_methods(scores: pd.DataFrame) -> str:
    """A sentence on where a control that does not look at the model is nearer to the truth than all methods."""
    control = CONTROLS[-1]
    table = scores[scores["metric"] == CORRELATION].pivot_table(
        index=["target", "rho", "model"], columns="explainer", values="value"
    )
    above = table[table[control] > table[list(METHODS)].max(axis=1)]
    where = ", ".join(sorted({f"{TARGETS[target]} at rho = {rho:g}" for target, rho, _ in above.index})) or "nowhere"
    return (
        f"The control {control}, which does not look at the model, is above all methods by {CORRELATION} in "
        f"{len(above)} of {len(table)} settings ({where})."
    )


def _explainers_drawn(scores: pd.DataFrame, model: str) -> Figure:
    """Each metric along rho for one model, as in the paper's figures of section 5.3.1."""
    targets = list(scores["target"].unique())
    drawing = figure(10.0, f"Explainers of the {model} as columns become more correlated")
    grid = panels(drawing, len(METRICS), len(targets), len(METRICS) * len(targets), sharex=True)
    for place, axes in enumerate(grid):
        row, column = divmod(place, len(targets))
        chosen = (scores["metric"] == METRICS[row]) & (scores["target"] == targets[column])
        own = scores[chosen & (scores["model"] == model)]
        for name, look in LOOKS.items():
            _band(axes, own[own["explainer"] == name], name, look)
        tidy(
            axes,
            "" if row else TARGETS[targets[column]],
            "rho" if row == len(METRICS) - 1 else "",
            "" if column else METRICS[row],
        )
        if METRICS[row] == MSE:
            axes.set_yscale("symlog", linthresh=0.01)
    seeds = scores["seed"].nunique()
    note = (
        f"Means over {seeds} seeds; bands: smallest and largest mean of a seed. Lower is better for the last two rows."
    )
    style = {"fontsize": 7.5, "title_fontsize": 7.5, "frameon": False}
    drawing.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, title=note, **style)
    return drawing


def _band(axes: Axes, table: pd.DataFrame, name: str, look: Mapping[str, str]) -> None:
    """The mean over seeds along rho, with the range over seeds."""
    curves = table.groupby("rho")["value"].agg(["mean", "min", "max"])
    axes.plot(curves.index, curves["mean"], markersize=3, linewidth=1, label=name, **look)
    axes.fill_between(curves.index, curves["min"], curves["max"], color=look["color"], alpha=0.15, linewidth=0)


def _shap_error_drawn(scores: pd.DataFrame, functions: pd.DataFrame) -> Figure:
    """The error of SHAP along rho, of fitted models and of the functions themselves."""
    drawing = figure(
        3.4,
        "The error of interventional SHAP against conditional Shapley values",
        "Mean squared error of standardised outputs; bands: smallest and largest mean of a seed. Dashed: exact "
        "interventional values of the function itself.",
    )
    own = scores[(scores["explainer"] == "SHAP") & (scores["metric"] == MSE)]
    for axes, target in zip(panels(drawing, 1, len(TARGETS), len(TARGETS), sharey=True), TARGETS, strict=True):
        for model, colour in zip(own["model"].unique(), COLOURS, strict=False):
            _band(
                axes, own[(own["target"] == target) & (own["model"] == model)], model, {"color": colour, "marker": "o"}
            )
        exact = functions[functions["target"] == target].rename(columns={MSE: "value"})
        _band(axes, exact, FUNCTION, {"color": GREY, "linestyle": "--"})
        tidy(axes, TARGETS[target], "rho", MSE if target == "linear" else "")
        if target == "linear":
            axes.legend(fontsize=7, frameon=False)
    return drawing
