"""One small sweep over every published architecture, as its user has it: scores, or one line that says why not."""

import numpy as np
import pytest

import harness
from architectures import ARCHITECTURES, as_a_user_gives_it

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:the model has one output", "ignore:explained is the", "ignore:tokens that are no"
    ),
]
EXPLAINERS = {
    "input_x_gradient": {},
    "integrated_gradients": {"steps": 3},
    "lrp": {},
    "grad_cam": {},
    "attention_rollout": {},
    "feature_ablation": {"segments": "parts:4"},
    "kernel_shap": {"samples": 12, "segments": "parts:4"},
    "random": {},
}
METRICS = {
    "srg": {"steps": 3, "granularity": "segment", "segments": "parts:9"},
    "sensitivity_n": {"sizes": 2, "draws": 4, "granularity": "segment", "segments": "parts:9"},
    "faithfulness_estimate": {"most_groups": 4},
    "max_sensitivity": {"draws": 1},
    "random_logit": {"draws": 1},
    "sparseness": {},
    "completeness": {"baseline": "zero"},
    "seconds_per_sample": {},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_cell_has_scores_or_one_line_that_says_why_not(name):
    model, data = as_a_user_gives_it(name)
    frame = harness.evaluate(model, data, explainers=EXPLAINERS, metrics=METRICS)
    cells = frame.groupby(["explainer", "metric"], sort=False)[["status", "error"]].first()
    assert len(cells) == len(EXPLAINERS) * len(METRICS)
    assert set(cells.status) <= {"ok", "not_applicable"}, cells[cells.status == "failed"].error.unique()
    assert not any("\n" in line for line in cells.error)
    scored = frame[(frame.status == "ok") & (frame.kind == "faithfulness")]
    assert {"input_x_gradient", "feature_ablation"} & set(scored.explainer)
    assert len(scored) and np.isfinite(scored.value).mean() > 0.5
    assert "feature_ablation" in set(scored[scored.metric == "srg"].explainer)  # what only calls it serves every model
