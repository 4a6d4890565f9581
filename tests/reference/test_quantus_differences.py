"""Where Quantus 0.6.0 does not compute the paper's definition, and the page that lists our deliberate differences."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import quantus
import torch
from torch import nn

from harness.api import score

ROOT = Path(__file__).parents[2]
SEED = int(os.environ["HARNESS_TEST_SEED"])
QUIET = {
    "normalise": False,
    "abs": False,
    "disable_warnings": True,
    "return_aggregate": False,
    "display_progressbar": False,
}


@pytest.fixture
def linear():
    """A linear model with inputs (6, 1, 8, 8) and its exact contributions against zero, from a fresh seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
        inputs = torch.randn(6, 1, 8, 8)
    return model, inputs, torch.zeros(6, dtype=torch.long), (inputs * model[1].weight[0].view(1, 8, 8)).detach()


def theirs(metric, model, inputs, targets, attributions):
    np.random.seed(SEED)
    return metric(
        model=model,
        x_batch=inputs.numpy().copy(),
        y_batch=targets.numpy(),
        a_batch=attributions.numpy().copy(),
        softmax=False,
        device="cpu",
        channel_first=True,
    )


def test_sensitivity_n_of_exact_attributions_is_one_here_and_not_in_quantus(linear):
    metric = quantus.SensitivityN(features_in_step=4, n_max_percentage=0.8, perturb_baseline=0.0, **QUIET)
    assert np.mean(theirs(metric, *linear)) < 0.95, f"seed={SEED}"
    found = score("sensitivity_n", *linear, baseline="zero")
    torch.testing.assert_close(found, torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-5)


def test_samples_of_infidelity_differ_here_and_not_in_quantus(linear):
    model, inputs, targets, contributions = linear
    unrelated = contributions.flip(0)
    few, many = (
        theirs(
            quantus.Infidelity(n_perturb_samples=n, perturb_baseline=0.0, **QUIET), model, inputs, targets, unrelated
        )
        for n in (1, 10)
    )
    np.testing.assert_allclose(few, many, rtol=1e-5)
    few, many = (score("infidelity", model, inputs, targets, unrelated, draws=n, baseline="zero") for n in (1, 10))
    assert ((few - many).abs() > 1e-3 * many).all(), f"seed={SEED}"


def test_completeness_is_a_size_here_and_a_verdict_in_quantus(linear):
    model, inputs, targets, contributions = linear
    metric = quantus.Completeness(perturb_baseline=0.0, **QUIET)
    for factor in (1.001, 100.0):
        assert not any(theirs(metric, model, inputs, targets, factor * contributions))
        gap = score("completeness", model, inputs, targets, factor * contributions, baseline="zero")
        expected = (factor - 1) * contributions.flatten(1).double().sum(1).abs()
        torch.testing.assert_close(gap, expected, rtol=1e-3, atol=1e-5)


def test_every_difference_names_a_test_that_exists():
    text = (ROOT / "docs" / "differences.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    files = [
        *ROOT.glob("tests/truth/test_*.py"),
        *ROOT.glob("tests/data/test_*.py"),
        *ROOT.glob("tests/reference/test_*.py"),
        *ROOT.glob("tests/results/test_*.py"),
        *ROOT.glob("tests/field/test_*.py"),
        *ROOT.glob("tests/interface/test_*.py"),
    ]
    defined = set(re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in files), flags=re.M))
    assert len(named) > 20 and named <= defined, sorted(named - defined)
    tables = text.split("## Defaults")[0]  # that table is compared with the registry elsewhere
    lines = [line for line in tables.splitlines() if line.startswith("| ")]
    rows = [line for line in lines if "---" not in line and not line.endswith("| test |")]
    assert len(rows) > 40 and all(re.search(r"`test_\w+`(, `test_\w+`)* \|$", line) for line in rows)
