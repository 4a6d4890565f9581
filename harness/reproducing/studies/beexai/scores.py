"""The scores of all explainers on one table and net, by the released definitions and by the registered metrics."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from harness.api import evaluate, explain
from harness.reproducing.studies.beexai.released import (
    agreement_area,
    entropy_of_maps,
    faithfulness_of_table,
    gini_of_maps,
    infidelity_of_table,
    scaled_to_one,
    scores_by_order,
    sensitivity_of_table,
)
from harness.reproducing.studies.beexai.tables import CLASSES_TASK, NUMBERS_TASK, NetOfTable, net_of_table

RELEASED, REGISTERED = "released definitions", "registered metrics"
PLAIN_PART, BOTH_ABSOLUTE = "Infidelity of zero", "Sensitivity, both absolute"
# The paper's six explainers: as captum gives them, and as they are registered here.
CAPTUM_ITEMS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "LIME": ("captum_lime", {}),
    "ShapleyValueSampling": ("shapley_sampling", {"permutations": 20, "baseline": "zero"}),
    "KernelSHAP": ("captum_kernel_shap", {}),
    "DeepLIFT": ("captum_deep_lift", {}),
    "IG": ("integrated_gradients", {"baseline": "zero"}),
    "Saliency": ("saliency", {}),
}
OWN_ITEMS: Mapping[str, tuple[str, dict[str, Any]]] = {
    **CAPTUM_ITEMS,
    "LIME": ("lime", {"samples": 200, "baseline": "zero"}),
    "KernelSHAP": ("kernel_shap", {"samples": 200, "baseline": "zero"}),
    "DeepLIFT": ("deep_lift", {"baseline": "zero"}),
}
EXPLAINERS_OF_PAPER = tuple(CAPTUM_ITEMS)
CONTROLS = {"random": ("random", {}), "input magnitude": ("input_magnitude", {})}
# Our metric -> the name that it has in the paper's table. AUC_TP is no registered metric.
REGISTERED_METRICS = {
    "faithfulness_correlation": "FaithCorr",
    "comprehensiveness": "Comprehensiveness",
    "monotonicity": "Monotonicity",
    "sparseness": "Sparseness",
    "infidelity": "Infidelity",
    "max_sensitivity": "Sensitivity",
    "sufficiency": "Sufficiency",
    "complexity": "Complexity",
}


def released_scores(table: str, folder: str, seed: int, rows: int, draws: int) -> pd.DataFrame:
    """Explainer, metric and value of all explainers and controls on one table and net, by the released definitions."""
    subject = net_of_table(table, folder, seed, rows)
    found = []
    for explainer, (name, options) in {**CAPTUM_ITEMS, **CONTROLS}.items():
        explained = partial(_maps_of_probabilities, subject, name, options, seed)
        scores = _released_of_maps(subject, explained, seed, draws)
        found += [{"explainer": explainer, "metric": metric, "value": value} for metric, value in scores.items()]
    quality = {"explainer": "", "metric": "accuracy or R2", "value": subject.score}
    return pd.DataFrame([*found, quality])


def _maps_of_probabilities(
    subject: NetOfTable, name: str, options: Mapping[str, Any], seed: int, inputs: Tensor
) -> Tensor:
    model = subject.loaded(probabilities=True)
    return explain(name, model, inputs, subject.targets, seed=seed, **options)


def _released_of_maps(
    subject: NetOfTable, explained: Callable[[Tensor], Tensor], seed: int, draws: int
) -> dict[str, float]:
    inputs, absolute = subject.inputs, subject.task == NUMBERS_TASK
    maps = scaled_to_one(explained(inputs), absolute=absolute)
    again = lambda changed, sign: scaled_to_one(explained(changed), absolute=sign)
    value = target_output(subject.net_of_scores, subject.targets)
    infidelity, plain = infidelity_of_table(value, inputs, maps, seed, absolute=absolute)
    found = {
        "FaithCorr": faithfulness_of_table(value, inputs, maps, seed, absolute=absolute),
        "Infidelity": infidelity,
        PLAIN_PART: plain,
        # The released code forgets the absolute value where it explains the changed inputs.
        "Sensitivity": sensitivity_of_table(lambda changed: again(changed, False), inputs, maps, seed, draws),
        **scores_by_order(value, inputs, maps, absolute=absolute),
        "Complexity": entropy_of_maps(maps),
        "Sparseness": gini_of_maps(maps),
        "AUC_TP": float("nan"),
    }
    if subject.task == CLASSES_TASK:
        found["AUC_TP"] = agreement_area(lambda changed: _outputs_of(subject.net, changed).argmax(1), inputs, maps)
    else:
        mended = lambda changed: again(changed, True)
        found[BOTH_ABSOLUTE] = sensitivity_of_table(mended, inputs, maps, seed, draws)
    return found


def target_output(net: nn.Module, targets: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda inputs: _outputs_of(net, inputs).gather(1, targets[:, None])[:, 0].double()


def _outputs_of(net: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return net(inputs)


def registered_scores(table: str, folder: str, seed: int, rows: int, draws: int) -> pd.DataFrame:
    """The same by the registered explainers and metrics: the mean over rows, and the number of rows without a score."""
    subject = net_of_table(table, folder, seed, rows)
    options = {"max_sensitivity": {"draws": draws}, "infidelity": {"baseline": "zero"}}
    metrics = {name: options.get(name, {}) for name in REGISTERED_METRICS}
    for name in ("faithfulness_correlation", "comprehensiveness", "sufficiency", "monotonicity"):
        metrics[name] = {"baseline": "zero"}
    items = {label: {"name": name, **own} for label, (name, own) in {**OWN_ITEMS, **CONTROLS}.items()}
    rows_of_run = evaluate(
        subject.loaded(probabilities=False),
        subject.inputs,
        subject.targets,
        explainers=items,
        metrics=metrics,
        train=subject.train,
        seed=seed,
    )
    by_cell = rows_of_run.groupby(["explainer", "metric"], sort=False)["value"]
    found = by_cell.agg(value="mean", undefined=lambda values: int(values.isna().sum())).reset_index()
    found["metric"] = found["metric"].map(REGISTERED_METRICS)
    return found
