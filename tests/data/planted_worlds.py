"""What tests of data with planted truth share: the oracle against explainers that do not look at the model."""

import torch

import harness

CONTROLS = ("random", "edge", "center", "input_magnitude", "blurred_random")
LOCALISATION = ("pointing_game", "relevance_mass", "relevance_rank", "top_k_intersection", "localization_auc")


def mean_scores(module, data, rows=slice(0, 30)):
    """Explainer x metric: mean localisation score of the samples of their own labels."""
    table = harness.evaluate(
        module,
        harness.Data(data.inputs[rows], data.labels[rows], truth=data.truth[rows]),
        explainers=["oracle", *CONTROLS],
        metrics={name: {"margin": 0.0} if name == "pointing_game" else {} for name in LOCALISATION},
        masks=data.masks[rows],
    )
    return table.pivot_table(index="explainer", columns="metric", values="value", dropna=False)


def right(module, inputs, labels):
    """Share of the inputs whose class the model has right."""
    with torch.inference_mode():
        return (module(inputs).argmax(1) == labels).float().mean().item()
