"""What the page of differences says of other tools: how each claim is known, and tests of those that have no other."""

import ast
import inspect
import re
from pathlib import Path

import captum.attr
import numpy as np
import pytest
import quantus
import torch
from quantus.helpers.model.pytorch_model import PyTorchModel
from torch import nn

ROOT = Path(__file__).parents[2]
# Tools of which the page speaks that tests can run, and the name that a test runs each by.
RUN_BY = {
    "Quantus": "quantus",
    "captum": "captum",
    "zennit": "zennit",
    "torchcam": "torchcam",
    "torch": "torch",
    "shap": "shap",
    "the package of lime": "lime",
    "OpenCV": "cv2",
    "scikit-learn": "sklearn",
}
OTHER_TOOLS = ("OpenXAI", "xai-bench", "LATEC", "ferret", "TorchRay", "AIX360", "XAI-TRIS", " code", "tools")
QUIET = {"disable_warnings": True, "display_progressbar": False}


def rows_of_the_page():
    """The rows with a claim about another tool or a paper: metric, claim, ours, how it is known, tests."""
    text = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.split("\n") if re.search(r"`test_\w+` \|$", line)]
    return [[cell.strip() for cell in line] for line in lines]


def named_tests():
    """The name of each test -> (folder, text of its file, its own text), for every test of that name."""
    found = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                own = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                found.setdefault(node.name, []).append((path.parent.name, text, own))
    return found


def test_every_claim_about_another_tool_is_run_by_a_test_or_says_that_it_was_read_only():
    tests, rows = named_tests(), rows_of_the_page()
    assert len(rows) > 100
    for item, claim, _, known, named in rows:
        tools = [module for tool, module in RUN_BY.items() if re.search(rf"\b{tool}\b", claim)]
        where = f"{item}: {claim}"
        assert known in ("run", "read, not run", "paper"), where
        if known == "run":
            texts = [each for name in re.findall(r"test_\w+", named) for each in tests[name]]
            runs = [
                re.search(rf"\b{module}\b", text if folder == "reference" else own)
                for module in tools
                for folder, text, own in texts
            ]
            assert any(runs), f"none of its tests runs {tools}: {where}"
            rest = [tool for tool in OTHER_TOOLS if tool in claim]
            assert not rest or "(read, not run)" in claim, where
        if known == "paper":
            assert not tools and not any(tool in claim for tool in OTHER_TOOLS), where


def net():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 3)).eval()


def called(metric, maps, *, model=None, masks=None):
    """Scores by Quantus of maps (N, 1, 8, 8)."""
    count = len(maps)
    given = {"x_batch": np.random.default_rng(0).normal(size=(count, 1, 8, 8)).astype(np.float32), "a_batch": maps}
    given |= {"y_batch": np.zeros(count, dtype=int), "s_batch": masks, "device": "cpu"}
    return np.asarray(metric(model=model or net(), **given), dtype=np.float64)


def test_quantus_draws_from_numpys_global_generator():
    maps = np.random.default_rng(1).normal(size=(2, 1, 8, 8)).astype(np.float32)
    metric = lambda: quantus.FaithfulnessCorrelation(nr_runs=10, subset_size=8, normalise=False, abs=False, **QUIET)
    model, found = net(), []
    for seed in (0, 0, 1):
        np.random.seed(seed)
        found.append(called(metric(), maps.copy(), model=model))
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("metric", [quantus.Sparseness, quantus.Complexity])
def test_sparseness_and_complexity_of_quantus_change_the_array_that_they_are_given(metric):
    maps = 1 + np.random.default_rng(1).random(size=(2, 1, 8, 8)).astype(np.float32)
    before = maps.copy()
    called(metric(normalise=False, abs=False, **QUIET), maps)
    assert not np.array_equal(maps, before)


def test_quantus_adds_small_numbers_to_complexity_and_sparseness():
    one = np.zeros((1, 1, 8, 8), dtype=np.float64)
    one[0, 0, 2, 2] = 1e-6
    gini = called(quantus.Sparseness(normalise=False, abs=True, **QUIET), one.copy()).item()
    assert abs(gini - 63 / 64) > 0.5  # 1e-7 on each of 64 units is more than the one unit has
    assert called(quantus.Complexity(normalise=False, abs=True, **QUIET), one.copy()).item() != 0


def test_the_radius_of_quantus_is_in_units_of_the_input():
    assert inspect.signature(quantus.AvgSensitivity).parameters["lower_bound"].default == 0.2


def test_equal_attributions_are_ordered_by_position_in_quantus():
    flat = np.ones((2, 1, 8, 8), dtype=np.float32)
    flat[:, 0, 7, 7] = 0.5  # a constant map is refused
    masks = np.zeros((2, 1, 8, 8), dtype=bool)
    masks[0, 0, 0], masks[1, 0, 6] = True, True  # the first row, and a late one
    rank = called(quantus.RelevanceRankAccuracy(normalise=False, abs=False, **QUIET), flat, masks=masks)
    assert rank[0] > rank[1]
    hit = called(quantus.PointingGame(normalise=False, abs=False, **QUIET), flat, masks=masks)
    assert hit.tolist() == [1, 1]  # any of the largest will do


def test_the_pointing_game_of_quantus_has_no_margin():
    maps, masks = np.zeros((1, 1, 8, 8), dtype=np.float32), np.zeros((1, 1, 8, 8), dtype=bool)
    maps[0, 0, 3, 3], masks[0, 0, 3, 4] = 1, True
    assert called(quantus.PointingGame(normalise=False, abs=False, **QUIET), maps, masks=masks).item() == 0


class Backwards(nn.Module):
    """Two layers that run in the opposite order of their definition, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Linear(4, 4), nn.Linear(4, 4)
        self.token = nn.Parameter(torch.randn(4))

    def forward(self, x):
        return self.last(self.first(x) + self.token)


def test_quantus_randomises_what_has_reset_parameters_in_the_order_of_definition_from_one_seed():
    model = Backwards().eval()
    stages = dict(PyTorchModel(model).get_random_layer_generator(order="top_down"))
    assert [name for name in stages if name != "original"] == ["first", "last"]  # the last defined, which runs first
    final = list(stages.values())[-1]
    assert torch.equal(final.token, model.token)
    assert torch.equal(final.first.weight, final.last.weight) and not torch.equal(
        final.first.weight, model.first.weight
    )


def test_guided_backprop_of_captum_is_the_gradient_where_a_relu_is_a_function():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)])

        def forward(self, x):
            for layer in self.layers[:-1]:
                x = torch.relu(layer(x))
            return self.layers[-1](x)

    torch.manual_seed(0)
    model, inputs = Functional().eval(), torch.randn(5, 6, requires_grad=True)
    found = captum.attr.GuidedBackprop(model).attribute(inputs, target=0)
    gradient = torch.autograd.grad(model(inputs)[:, 0].sum(), inputs)[0]
    torch.testing.assert_close(found, gradient)
