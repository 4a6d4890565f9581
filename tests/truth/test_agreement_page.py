"""The page on metrics and the truth: how its tables are computed, and that they are whole."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import harness
from harness.datasets.logic import LogicGate, logic
from harness.metric_facts import agreement_with_truth
from harness.models.planted import logic_net
from harness.registry import EXPLAINERS, METRICS

DOCS = Path(__file__).parents[2] / "docs"
EXPLAINED = ("oracle", "good", "poor")

pytestmark = pytest.mark.usefixtures("seed")


@pytest.fixture(scope="module")
def page():
    """The script beside the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        import agreement

        yield agreement
        sys.modules.pop("agreement", None)


def rows(metric, means, better="higher", status="ok"):
    """Scores of twelve samples around a mean for each explainer."""
    noise = 0.01 * np.random.default_rng(0).normal(size=12)
    return pd.DataFrame(
        [
            {
                "metric": metric,
                "explainer": name,
                "sample": sample,
                "value": mean + (noise[sample] if np.ptp(means) else 0),
                "better": better,
                "status": status,
                "error": "",
            }
            for name, mean in zip(EXPLAINED, means, strict=True)
            for sample in range(12)
        ]
    )


@pytest.fixture
def table(page):
    return page.compared(
        pd.concat(
            [
                rows("truth_correlation", (1.0, 0.8, 0.1)),
                rows("truth_precision", (1.0, 1.0, 1.0)),
                rows("alike", (5.0, 4.0, 3.0)),
                rows("alike, lower is better", (1.0, 2.0, 3.0), "lower"),
                rows("opposed", (1.0, 2.0, 3.0)),
                rows("flat", (0.7, 0.7, 0.7)),
            ]
        )
    ).set_index("metric")


def test_a_metric_agrees_as_its_ranking_does_and_its_direction_counts(table):
    taus = table.truth_correlation
    assert taus["alike"] == taus["alike, lower is better"] == 1 and taus["opposed"] == -1
    assert table.oracle["alike"] == table.oracle["alike, lower is better"] == 1 and table.oracle["opposed"] == 3
    assert table.truth_precision.isna().all(), "it ranks nothing"


def test_a_metric_that_ranks_nothing_has_no_first(page, table):
    assert np.isnan(table.truth_correlation["flat"]) and np.isnan(table.oracle["flat"])
    summary = page._summary("All", [table.reset_index()])
    assert "`alike`" in summary and "flat" not in summary


def test_an_explainer_that_fails_throughout_is_not_left_out_in_silence(page):
    failed = rows("truth_correlation", (1.0, 0.8, 0.1)).assign(explainer="broken", status="failed", error="why")
    with pytest.raises(RuntimeError, match="broken: why"):
        page.compared(pd.concat([rows("truth_correlation", (1.0, 0.8, 0.1)), failed]))


def test_options_reach_those_that_have_them_and_random_baselines_stay(page):
    asked = {"baseline": "zero", "score": "logit"}
    assert page._chosen(EXPLAINERS["integrated_gradients"], asked) == {"baseline": "zero"}
    assert page._chosen(EXPLAINERS["expected_gradients"], asked) == {}
    assert page._chosen(METRICS["srg"], asked) == asked


def test_an_oracle_with_more_noise_is_further_from_the_truth(page):
    data, loaded = logic(planted=LogicGate("max"), copies=4), logic_net(planted=LogicGate("max"))
    frame = harness.evaluate(
        loaded.module,
        harness.Data(data.inputs, torch.zeros(len(data), dtype=torch.long), truth=data.truth),
        metrics=["truth_correlation"],
        explainers={f"{noise:g}": {"name": page.degraded_oracle, "noise": noise} for noise in (0.0, *page.NOISES)},
    )
    means = frame.groupby("explainer", sort=False).value.mean()
    assert means.iloc[0] == pytest.approx(1) and means.is_monotonic_decreasing


def test_the_package_holds_the_first_table_of_the_page(page):
    assert page.PACKED.read_text(encoding="utf-8") == page.packed(page.PAGE.read_text(encoding="utf-8"))
    assert agreement_with_truth("srg").families == 6 and 0.5 < agreement_with_truth("srg").mean <= 1
    assert agreement_with_truth("complexity") is None


def test_the_page_has_a_table_of_every_family(page):
    text = page.PAGE.read_text(encoding="utf-8")
    assert all(f"**{family.name}**" in text for family in page.families())
