"""``harness view`` as its user meets it: pictures of a run and of a model, and one line for every mistake."""

import json

import pandas as pd
import pytest
import torch
from torch import nn

import harness
from harness.cli.main import main
from harness.cli.view import VIEW_TEXTS
from harness.registry import DATASETS
from harness.results.frames import read
from harness.views.drawing import draw_views, view_names

TABLE = ["model=cancer_mlp", "dataset=breast_cancer", "runtime.lease=share"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the run ``cancer``: a table with curves, repeats and a random order."""
    folder = tmp_path_factory.mktemp("home")
    harness.run(
        {
            "model": "cancer_mlp",
            "dataset": "breast_cancer",
            "run": "cancer",
            "explainer": {"random": None, "gradient": None, "permutation_importance": {"repeats": 4}},
            "metric": {"deletion": {"steps": 4}, "random_order": {"steps": 4}},
            "protocol": {"samples": 12},
            "runtime": {"runs": str(folder / "runs"), "quiet": True, "lease": "share"},
        }
    )
    return folder


@pytest.fixture(autouse=True)
def here(home, monkeypatch):
    monkeypatch.chdir(home)


def pictures(paths):
    return sorted(path.name for path in paths if path.suffix == ".png")


def test_a_run_is_viewed_whole_and_what_does_not_apply_is_told_in_a_line(home, capsys):
    assert main(["view", "cancer"]) == 0
    out, err = capsys.readouterr()
    views = home / "runs" / "cancer" / "views"
    listed = [line for line in out.splitlines() if line.endswith(".png")]
    kinds = " ".join(listed)
    for word in ("activations", "maximisation-classes", "features", "columns", "curves", "importances"):
        assert word in kinds
    assert "tradeoff does not apply: the trade-off needs two models or more" in err
    assert len(listed) == len(list(views.glob("*.png"))) and f"{len(listed)} pictures" in out
    beside = {path.stem for path in views.iterdir() if path.suffix in (".csv", ".json")}
    assert beside == {path.stem for path in views.glob("*.png")}


def test_what_the_curves_show_is_what_the_run_measured(home):
    paths = draw_views("cancer", ["curves"])
    assert pictures(paths) == ["curves-cancer_mlp-breast_cancer-deletion.png"]  # the reference has none of its own
    drawn = pd.read_csv(next(path for path in paths if path.suffix == ".csv"))
    _, scores = read(home / "runs" / "cancer")
    mine = scores[(scores["metric"] == "deletion") & (scores["explainer"] == "gradient")].iloc[3]
    told = drawn[(drawn["sample"] == mine["sample"]) & (drawn["explainer"] == "gradient")].sort_values("point")
    assert told["value"].tolist() == pytest.approx(list(mine["curve"]))


def test_importances_show_every_repeat():
    paths = draw_views("cancer", ["importances"])
    repeats = pd.read_csv(next(path for path in paths if path.suffix == ".csv"))
    assert len(repeats) == 30 * 4 and set(repeats) == {"unit", "repeat", "value"}


def test_features_are_the_inputs_of_the_last_linear_layer_coloured_by_a_score_of_no_control():
    paths = draw_views("cancer", ["features"])
    told = pd.read_csv(next(path for path in paths if path.suffix == ".csv"))
    assert len(told) == 12 and "deletion of gradient" in told
    assert "deletion of random" in pd.read_csv(draw_views("cancer", ["features"], explainer="random")[1])


def test_columns_show_what_the_explainer_gives():
    paths = draw_views("cancer", ["columns"])
    told = pd.read_csv(next(path for path in paths if path.suffix == ".csv"))
    data = DATASETS["breast_cancer"].function()
    assert list(told["column"]) == list(data.unit_names) and set(told) == {"column", "gradient"}
    model = harness.registry.MODELS["cancer_mlp"].function().module
    target = model(data.inputs[:1]).argmax(1)
    expected = harness.explain("gradient", model, data.inputs[:1], target)
    assert told["gradient"].tolist() == pytest.approx(expected[0].tolist(), rel=1e-4, abs=1e-6)


def test_activations_are_what_the_layer_gives():
    paths = draw_views("cancer", ["activations"], layers=["1"])
    assert len(paths) == 2
    told = json.loads(paths[1].read_text())
    data = DATASETS["breast_cancer"].function()
    model = harness.registry.MODELS["cancer_mlp"].function().module
    assert torch.allclose(torch.tensor(told["activations"]), model[:2](data.inputs[:3]), atol=1e-4)


def test_a_model_is_viewed_without_a_run_and_told_that_scores_are_missing(home, capsys):
    arguments = [*TABLE, "explainer=gradient", "protocol.samples=9", "run=none", "runtime.runs=elsewhere"]
    assert main(["view", *arguments, "--what", "activations,curves"]) == 0
    out, err = capsys.readouterr()
    assert "activations" in out and "curves does not apply: elsewhere/none has no scores yet" in err
    assert (home / "elsewhere" / "none" / "views").is_dir()


class Series(nn.Module):
    """A 1-D CNN."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(40, 3))

    def forward(self, inputs):
        return self.body(inputs)


def series_model():
    """A net for series with random weights."""
    torch.manual_seed(0)
    return Series().eval()


def series_data():
    """Nine series of two channels and ten steps, without labels."""
    torch.manual_seed(1)
    return harness.Data(torch.randn(9, 2, 10), ids=[f"s{i}" for i in range(9)], modality="series")


def test_series_are_viewed(home):
    config = {
        "model": series_model,
        "dataset": series_data,
        "explainer": "gradient",
        "metric": "sparseness",
        "run": "series",
        "runtime": {"runs": str(home / "runs"), "quiet": True},
    }
    names = pictures(draw_views(config, ["activations", "maximisation", "features", "columns"]))
    assert any("activations-body.1" in name for name in names) and any("classes" in name for name in names)
    assert any("channels-body.0" in name for name in names) and any("features" in name for name in names)
    assert not any("columns" in name for name in names)


def test_variants_of_a_model_make_a_trade_off(home, capsys):
    """The experiment itself, smaller: Hydra sweeps without -m, and all jobs land in one run."""
    arguments = [
        "experiment=tradeoff",
        "model.of=cancer_mlp",
        "dataset=breast_cancer",
        "explainer=[gradient,random]",
        "metric=[srg,sparseness]",
        "experiment.point=trained,randomised",
        "protocol.samples=20",
    ]
    assert main(["run", *arguments, "runtime.lease=share", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["view", "tradeoff", "--what", "tradeoff", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    points = pd.read_csv(home / "runs" / "tradeoff" / "views" / "tradeoff.csv")
    assert len(points) == 2 * 2 * 2
    accuracy = points.groupby("model")["accuracy"].first()
    assert set(accuracy.index) == {"cancer_mlp-trained", "cancer_mlp-randomised"}
    data = DATASETS["breast_cancer"].function()
    for model, kind in (("cancer_mlp-trained", "none"), ("cancer_mlp-randomised", "randomised")):
        module = harness.registry.MODELS["variant"].function(of="cancer_mlp", change=kind).module
        right = (module(data.inputs[:20]).argmax(1) == data.labels[:20]).float().mean()
        assert accuracy[model] == pytest.approx(float(right))


def test_a_view_that_is_asked_for_and_does_not_apply_is_a_mistake(capsys):
    assert main(["view", "cancer", "--what=tradeoff"]) == 2
    assert "nothing to draw: tradeoff does not apply: the trade-off needs two models" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cancre"], "no run 'cancre': the folder runs has"),
        (["cancer", "--what", "activation"], "unknown view 'activation': did you mean 'activations' or"),
        (["cancer", "--what", ","], "no view was chosen, expected some of activations"),
        (["cancer", "--what"], "--what came without a value"),
        (["cancer", "main"], "expected one RUN, or the arguments of harness run"),
        (["cancer", "--what", "activations", "--layers", "7"], "unknown layer '7'"),
        (["cancer", "--what", "features", "--explainer", "lime"], "unknown explainer with faithfulness scores"),
        ([*TABLE, "--runs", "elsewhere", "protocol.sampels=3"], "unknown setting 'protocol.sampels'"),
    ],
)
def test_every_mistake_is_one_line(arguments, words, capsys):
    assert main(["view", *arguments]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("harness: ")]
    assert len(told) == 1 and words in told[0]


def test_the_help_describes_every_view():
    assert list(VIEW_TEXTS) == view_names(None)


def test_a_model_that_cannot_be_loaded_is_one_line(capsys):
    assert main(["view", *TABLE, "dataset=digits", "--what=activations"]) == 2
    assert "the model does not take inputs of shape" in capsys.readouterr().err


def test_interactions_are_drawn_for_the_explainers_that_have_them(home, capsys):
    arguments = [*TABLE, "explainer=[gradient,interactions]", "protocol.samples=2", "run=pairs"]
    few = ["explainer.shapley_interactions.background=0", "explainer.shapley_interactions.samples=1000"]
    assert main(["view", *arguments, *few, "--what", "interactions"]) == 0
    out, err = capsys.readouterr()
    assert out.count("shapley_interactions") == 2 and "integrated_hessians-" not in out
    assert "leaves out integrated_hessians: the ReLUs of the model have no second derivatives" in err
    data, model = DATASETS["breast_cancer"].function(), harness.registry.MODELS["cancer_mlp"].function().module
    told = pd.read_csv(next((home / "runs" / "pairs" / "views").glob(f"*{data.ids[0]}.csv")))
    expected = harness.interactions(
        model, data.inputs[:1], model(data.inputs[:1]).argmax(1), train=data.train, background=0, samples=1000
    )
    assert told["value"].tolist() == pytest.approx(expected.values.flatten().tolist(), rel=1e-4, abs=1e-6)
    one, other, _ = max(zip(told["unit"], told["other"], told["value"], strict=True), key=_size_of_pair)
    assert f"shapley_interactions on {data.ids[0]}: " in err and f"{one} × {other}" in err
    assert main(["view", *TABLE, "explainer=gradient", "run=pairs", "--what", "interactions"]) == 2
    assert "no explainer of pairs was chosen (explainer=interactions)" in capsys.readouterr().err


def _size_of_pair(row):
    """How strongly two different units interact."""
    one, other, value = row
    return -1.0 if one == other else abs(value)
