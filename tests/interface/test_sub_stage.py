"""Some samples of a stage have the scores that they have among all, whatever goes with the data."""

import pytest
import torch

from budgets import small
from harness.engine.block import measure_block
from harness.engine.protocol import Protocol
from harness.engine.selection import Cell, choose_one
from harness.engine.stage import set_stage
from harness.engine.sub_stage import stage_of_samples
from harness.jobs.recorders import FrameRecorder
from harness.models.black_box import loaded_model
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS

ROWS = [4, 1, 3]  # of two batches, out of their order
CASES = {
    "digits": ("digits_cnn", "digits", ["saliency", "lime", "random"], ["srg", "random_logit"]),
    "photos": ("lite0", "photos", ["saliency", "grad_cam"], ["srg", "pointing_game"]),
    "table": ("cancer_mlp", "breast_cancer", ["saliency", "expected_gradients"], ["srg", "infidelity"]),
    "texts": ("movie_cnn", "movie_reviews", ["saliency", "random"], ["srg", "comprehensiveness"]),
    "truth": ("logic_net", "logic", ["integrated_gradients", "random"], ["srg", "truth_correlation"]),
}


def scores(stage, explainers, metrics):
    recorder = FrameRecorder()
    recorder.stage = stage
    cells = [Cell(choose_one(EXPLAINERS, e), choose_one(METRICS, m)) for e in explainers for m in metrics]
    measure_block(stage, cells, recorder, alone=True, warm_up=False, audited=False)
    return recorder.frame().set_index(["explainer", "metric", "sample"])


@pytest.mark.parametrize("case", CASES)
def test_some_samples_have_the_scores_that_they_have_among_all(case):
    model, dataset, explainers, metrics = CASES[case]
    metrics = [{"name": name, **small(METRICS[name], steps=4)} for name in metrics]
    loaded = loaded_model(choose_one(MODELS, model).make())
    data = choose_one(DATASETS, dataset).make()
    stage = set_stage(loaded, data, Protocol(samples=5, explain_batch=3), torch.device("cpu"))
    chosen = stage_of_samples(stage, ROWS)
    whole, part = scores(stage, explainers, metrics), scores(chosen, explainers, metrics)
    ids = [stage.data.ids[row] for row in ROWS]
    assert list(chosen.data.ids[: chosen.count]) == ids
    assert len(part) == len(ROWS) * len(explainers) * len(metrics)
    for key, row in part.iterrows():
        among_all = whole.loc[key]
        assert (row["status"], row["target"], row["prediction"]) == (
            among_all["status"],
            among_all["target"],
            among_all["prediction"],
        )
        assert row["value"] == pytest.approx(among_all["value"], rel=1e-4, abs=1e-5, nan_ok=True)


def test_a_stage_of_some_samples_asks_the_model_nothing_again():
    stage = set_stage(
        loaded_model(choose_one(MODELS, "digits_cnn").make()),
        choose_one(DATASETS, "digits").make(),
        Protocol(samples=8),
        torch.device("cpu"),
    )
    stage.compute_outputs()
    before = stage.predictor.forwards
    small = stage_of_samples(stage, ROWS)
    assert torch.equal(small.outputs, stage.outputs[ROWS]) and torch.equal(small.targets, stage.targets[ROWS])
    assert stage.predictor.forwards == before
