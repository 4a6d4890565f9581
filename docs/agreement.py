"""Which faithfulness metrics agree with the ground truth on synthetic data: run ``python docs/agreement.py``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pages import replaced

import harness
from harness.datasets.causal import causal
from harness.datasets.gaussian import gaussian
from harness.datasets.gaussian_terms import GaussianFunction
from harness.datasets.logic import LogicGate, logic
from harness.datasets.tetrominoes import TetrominoOptions
from harness.datasets.xai_tris import xai_tris
from harness.metric_facts import MEASURED
from harness.models.planted import causal_function, gaussian_function, logic_net
from harness.models.xai_tris_models import xai_tris_linear, xai_tris_mlp
from harness.randomness import normal
from harness.registry import EXPLAINERS, METRICS
from harness.results.agreement import tau_interval
from harness.samples import Samples
from harness.sources import Data, LoadedModel

PAGE, MARK = Path(__file__).parent / "agreement.md", "agreement"
PACKED = Path(harness.__file__).parent / MEASURED  # the page's first table, for the report
EXACT = "All families whose ground truth is exact for the model"
SAMPLES, SEED = 40, 0
TRUTHS = ("truth_correlation", "truth_precision")
NOISES = (0.25, 0.5, 1.0, 2.0)  # of degraded oracles, in standard deviations of the truth
RETRAINING = ("roar", "idsds", "f_fidelity", "label_randomization")
EQUAL = 1e-5  # of the range over all explainers: smaller differences are rounding errors
# The headings of the tables: tau-b compares a metric's ranking with that by truth_correlation or truth_precision.
SUMMARY = (
    "metric",
    "families",
    "mean tau-b, correlation",
    "lowest tau-b, correlation",
    "mean tau-b, precision",
    "oracle is best",
)
OF_FAMILY = ("metric", "tau-b, correlation", "tau-b, precision", "rank of the oracle", "explainers", "samples")
# The columns of a table have no neighbours, so they are removed one by one, where images lose patches by default.
COLUMNS = {"granularity": "unit", "segments": "unit", "perturbation": "subset"}
# Of local explainers, the ones that a user would compare; global ones give every sample the same map.
COMPARED = (
    "gradient",
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "expected_gradients",
    "smoothgrad",
    "vargrad",
    "deep_lift",
    "lrp",
    "guided_backprop",
    "occlusion",
    "exact_shapley",
    "kernel_shap",
    "lime",
)
CONTROLS = [name for name, entry in EXPLAINERS.items() if entry.control]


@dataclass(frozen=True)
class Family:
    """Synthetic data with its model, and the baseline of explainers and metrics if it is not the default.

    exact   whether the ground truth is that of the model's own function, for the baseline that the metrics use
    """

    name: str
    make: Callable[[], tuple[Data, LoadedModel]]
    options: dict[str, str] = field(default_factory=dict)
    exact: bool = True


def families() -> Iterator[Family]:
    """All families of synthetic data; each one is generated when it is needed."""
    for function in ("linear", "additive", "piecewise"):
        yield Family(
            f"Gaussian {function}",
            lambda function=function: (
                gaussian(planted=GaussianFunction(function), values="interventional", count=SAMPLES),
                gaussian_function(planted=GaussianFunction(function)),
            ),
            {"baseline": "zero"},
            exact=function == "linear",
        )
    yield Family(
        "Gaussian linear, conditional values",
        lambda: (gaussian(rho=0.75, count=SAMPLES), gaussian_function()),
        {"baseline": "zero"},
        exact=False,
    )
    yield Family("Causal network", lambda: (causal(count=SAMPLES), causal_function()), {"baseline": "mean"})
    for gate in ("or", "xor", "interaction", "max"):
        yield Family(
            f"Logic {gate}",
            lambda gate=gate: (logic(planted=LogicGate(gate), copies=4), logic_net(planted=LogicGate(gate))),
            {"baseline": "zero"},
        )
    for scenario, make in (("linear", xai_tris_linear), ("xor", xai_tris_mlp)):
        yield Family(
            f"XAI-TRIS {scenario}",
            lambda scenario=scenario, make=make: (
                xai_tris(planted=TetrominoOptions(scenario)),
                make(planted=TetrominoOptions(scenario)),
            ),
            exact=False,
        )


def degraded_oracle(model: Any, inputs: Any, targets: Any, *, context: Samples, noise: float = 1.0) -> torch.Tensor:
    """The ground truth plus normal noise of ``noise`` times its standard deviation over the sample's units."""
    drawn = normal(context.stream("degraded oracle"), *context.units.shape)
    spread = context.truth.flatten(1).std(1).view(-1, *[1] * (context.truth.dim() - 1))
    return context.truth + noise * spread * drawn


def scored(family: Family) -> pd.DataFrame:
    """The scores of a family: one row per explainer, metric and sample."""
    data, loaded = family.make()
    rows = min(SAMPLES, len(data)) if data.modality == "image" else len(data)
    inputs = torch.stack([data.inputs[row] for row in range(rows)])
    single = loaded.module(inputs[:1]).shape[1] == 1
    targets = torch.zeros(rows, dtype=torch.long) if single else data.labels[:rows]
    ours = family.options | ({"score": "logit"} if single else {})
    explainers = {name: _chosen(EXPLAINERS[name], ours) for name in ("oracle", *COMPARED, *CONTROLS)}
    ours |= COLUMNS if data.modality == "table" else {}
    explainers |= {f"oracle + {noise:g} noise": {"name": degraded_oracle, "noise": noise} for noise in NOISES}
    kinds = {name: entry.kind for name, entry in METRICS.items()} | {"monotonicity": "faithfulness"}
    faithful = [name for name, kind in kinds.items() if kind == "faithfulness" and name not in RETRAINING]
    return harness.evaluate(
        loaded.module,
        harness.Data(
            inputs,
            targets,
            truth=data.truth[:rows],
            modality=data.modality,
            value_range=loaded.value_range or data.value_range,
        ),
        explainers=explainers,
        metrics={name: _chosen(METRICS[name], ours) for name in (*TRUTHS, *faithful)},
        train=data.train[:1000],
        seed=SEED,
    )


def _chosen(entry: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that the entry has; a random baseline is not replaced, as it cannot be fixed."""
    default = entry.options.get("baseline")
    kept = {"baseline"} if default == "train_sample" else set()
    return {name: value for name, value in options.items() if entry.options.get(name) is not None and name not in kept}


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per faithfulness metric: tau-b with each truth metric and its interval, and the oracle's rank."""
    done, failed = (frame[frame.status == status] for status in ("ok", "failed"))
    if lost := set(failed.explainer) - set(done.explainer):
        raise RuntimeError(f"failed throughout: {', '.join(sorted(lost))}: {failed.error.iloc[0]}")
    tables = {metric: _table(rows) for metric, rows in done.groupby("metric", sort=False)}
    found = []
    for metric, table in tables.items():
        if metric in TRUTHS or table is None:
            continue
        row = {"metric": metric, "explainers": table.shape[1], "n": len(table), "oracle": _rank(table)}
        for truth in TRUTHS:
            row |= _agreement(table, tables.get(truth), truth)
        found.append(row)
    return pd.DataFrame(found)


def _table(rows: pd.DataFrame) -> pd.DataFrame | None:
    """Scores (samples, explainers), higher is better, of the samples on which the oracle and all of them have one."""
    table = rows.pivot(index="sample", columns="explainer", values="value")
    if rows.better.iloc[0] is None or "oracle" not in table or table["oracle"].isna().all():
        return None
    table = table[table["oracle"].notna()]
    # An explainer that is undefined on most of these must not cost the others theirs.
    table = table.loc[:, table.notna().mean() > 0.5].dropna()
    return table * {"higher": 1, "lower": -1}[rows.better.iloc[0]]


def _rank(table: pd.DataFrame) -> float:
    """The oracle's place, 1 for the best or as good as the best; NaN where all are as good."""
    means = table.mean()
    if np.ptp(means) <= EQUAL * means.abs().max():
        return float("nan")
    return 1 + int((means > means["oracle"] + EQUAL * (means.max() - means.min())).sum())


def _agreement(table: pd.DataFrame, truth: pd.DataFrame | None, name: str) -> dict[str, float]:
    """tau-b of two tables' means, and its 95 % interval, from their common samples and explainers, without controls.

    A control that is far behind by both would raise tau-b, whatever the order of the others.
    """
    keys = (name, f"{name} low", f"{name} high")
    if truth is None:
        return dict.fromkeys(keys, float("nan"))
    explainers = [each for each in table.columns.intersection(truth.columns) if each not in CONTROLS]
    samples = table.index.intersection(truth.index)
    if len(explainers) < 3 or len(samples) < 5:
        return dict.fromkeys(keys, float("nan"))
    first, second = (each.loc[samples, explainers].to_numpy() for each in (table, truth))
    return dict(zip(keys, tau_interval(first, second, equal=EQUAL, seed=SEED), strict=True))


def part(results: dict[str, pd.DataFrame]) -> str:
    """All tables of the page."""
    exact = {family.name: family.exact for family in families()}
    titles = {True: EXACT, False: "All other families"}
    sums = (
        _summary(title, [results[name] for name in results if exact[name] == kind]) for kind, title in titles.items()
    )
    return "\n\n".join([*sums, *(_of_family(name, table) for name, table in results.items())])


def _summary(title: str, tables: list[pd.DataFrame]) -> str:
    joined = pd.concat(tables)
    lines = _head(SUMMARY)
    groups = sorted(joined[joined.oracle.notna()].groupby("metric"), key=lambda each: -each[1][TRUTHS[0]].mean())
    for metric, rows in groups:
        correlation, precision = rows[TRUTHS[0]], rows[TRUTHS[1]]
        lines.append(
            f"| `{metric}` | {len(rows)} | {_number(correlation.mean())} | {_number(correlation.min())} | "
            f"{_number(precision.mean())} | {(rows.oracle == 1).sum()} of {len(rows)} |"
        )
    return "\n".join([f"**{title}**", "", *lines])


def _of_family(name: str, table: pd.DataFrame) -> str:
    lines = _head(OF_FAMILY)
    for row in table.sort_values(TRUTHS[0], ascending=False).to_dict("records"):
        shown = (
            f"{_number(row[t])} [{_number(row[f'{t} low'])}, {_number(row[f'{t} high'])}]"
            if np.isfinite(row[t])
            else "-"
            for t in TRUTHS
        )
        rank = "-" if np.isnan(row["oracle"]) else f"{row['oracle']:.0f}"
        lines.append(f"| `{row['metric']}` | {' | '.join(shown)} | {rank} | {row['explainers']} | {row['n']} |")
    return "\n".join([f"**{name}**", "", *lines])


def _head(columns: tuple[str, ...]) -> list[str]:
    """The first two lines of a table."""
    return ["| " + " | ".join(line) + " |" for line in (columns, ["---"] * len(columns))]


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "-"


def packed(page: str) -> str:
    """The first table of the page, on families whose ground truth is exact, as CSV."""
    table = page.partition(f"**{EXACT}**")[2].partition("**")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines() if "`" in line]
    lines = [",".join((metric, n, mean, low, oracle.split()[0])) for metric, n, mean, low, _, oracle in rows]
    return "\n".join(["metric,families,mean_tau_b,lowest_tau_b,oracle_first", *lines, ""])


def make() -> None:
    """Compute everything and write it into the page, and its first table into the package."""
    results = {}
    for family in families():
        results[family.name] = compared(scored(family))
        print(family.name, "done", flush=True)
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), MARK, part(results)), encoding="utf-8")
    PACKED.write_text(packed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    make()
