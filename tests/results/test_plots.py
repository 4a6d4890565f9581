"""Drawings: what is in their data, what they refuse, and that every one is a readable picture."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harness.errors import NotApplicable
from harness.results.activations import draw_activations, draw_maximised
from harness.results.curve_axes import CurveAxes
from harness.results.features import draw_features, embed
from harness.results.figures import COLOURS, MARKERS, looks, to_photo
from harness.results.fonts import shortened
from harness.results.importances import draw_columns, draw_importances
from harness.results.interactions import draw_interactions
from harness.results.sample_curves import draw_curves
from harness.results.tradeoff import draw_tradeoff, tradeoff


def picture(path):
    """A PNG as an array, after checking that it is wide enough and not blank."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"), dtype=float)
    assert image.format == "PNG" and pixels.shape[1] == 1200 and pixels.std() > 5
    return pixels


def run_of(accuracies, metrics=("srg",), explainers=("gradient", "random"), samples=20):
    """Cells and scores of models with these shares of right predictions."""
    cells, scores = [], []
    for model, share in accuracies.items():
        for explainer in explainers:
            for metric in metrics:
                cell = f"{model}-{explainer}-{metric}"
                cells.append(
                    {
                        "cell": cell,
                        "model": model,
                        "dataset": "digits",
                        "explainer": explainer,
                        "metric": metric,
                        "kind": "faithfulness",
                        "unit": "probability",
                        "better": "higher",
                        "value": share / 2,
                        "ci_low": share / 2 - 0.1,
                        "ci_high": share / 2 + 0.1,
                        "n": samples,
                        "status": "ok",
                        "config": json.dumps({"protocol": {"seed": 0}}),
                    }
                )
                right = np.arange(samples) < round(share * samples)
                scores.append(
                    pd.DataFrame(
                        {
                            "cell": cell,
                            "model": model,
                            "dataset": "digits",
                            "explainer": explainer,
                            "metric": metric,
                            "sample": [f"s{i}" for i in range(samples)],
                            "label": 1 + np.arange(samples) % 3,
                            "prediction": np.where(right, 1 + np.arange(samples) % 3, 9),
                        }
                    )
                )
    frame = pd.concat(scores, ignore_index=True).astype({"cell": "category"})
    return pd.DataFrame(cells), frame


def test_a_models_accuracy_is_the_share_of_predictions_that_are_the_label():
    cells, scores = run_of({"good": 0.95, "bad": 0.25})
    points = tradeoff(cells, scores).drop_duplicates("model").set_index("model")
    assert points["accuracy"].to_dict() == pytest.approx({"good": 0.95, "bad": 0.25})
    assert (points["samples"] == 20).all()


def test_a_model_that_says_the_first_class_of_everything_has_an_accuracy():
    cells, scores = run_of({"constant": 0.5})
    scores["prediction"], scores["label"] = 0, np.arange(len(scores)) % 4
    assert (tradeoff(cells, scores)["accuracy"] == 0.25).all()


def test_accuracy_is_unknown_without_labels_and_of_a_single_output():
    cells, scores = run_of({"labelled": 0.5, "blank": 0.5, "single": 0.5})
    scores["label"] = scores["label"].astype("Int64").mask(scores["model"] == "blank")
    scores["prediction"] = scores["prediction"].astype("Int64").mask(scores["model"] == "single")
    accuracy = tradeoff(cells, scores).drop_duplicates("model").set_index("model")["accuracy"]
    assert accuracy["labelled"] == 0.5 and np.isnan(accuracy["blank"]) and np.isnan(accuracy["single"])


def test_cells_without_scores_and_costs_are_no_points():
    cells, scores = run_of({"good": 0.9, "bad": 0.2})
    cells.loc[0, "status"], cells.loc[1, "kind"] = "failed", "cost"
    assert len(tradeoff(cells, scores)) == len(cells) - 2


def test_the_trade_off_has_a_point_for_each_model_and_explainer(tmp_path):
    points = tradeoff(*run_of({"good": 0.9, "bad": 0.2, "worse": 0.1}, metrics=("srg", "infidelity")))
    png, csv = draw_tradeoff(tmp_path / "tradeoff.png", points, {"random"}, title="digits")
    picture(png)
    told = pd.read_csv(csv)
    assert len(told) == 3 * 2 * 2 and {"accuracy", "value", "ci_low", "ci_high", "better"} <= {*told}


def test_one_model_is_no_trade_off(tmp_path):
    with pytest.raises(NotApplicable, match="two models or more whose accuracy is known, there are 1"):
        draw_tradeoff(tmp_path / "x.png", tradeoff(*run_of({"good": 0.9})), set(), title="")


def curves(values):
    values = np.asarray(values, dtype=float)
    return pd.DataFrame(
        {
            "explainer": "gradient",
            "sample": [f"s{i}" for i in range(len(values))],
            "curve": [list(row) for row in values],
        }
    )


AXES = CurveAxes("share removed", np.array([0, 0.25, 0.5, 1]), "class probability")


def test_curves_are_told_point_by_point(tmp_path, seed):
    values = np.random.default_rng(seed).random((5, 4))
    values[2, 1] = np.nan
    png, csv = draw_curves(tmp_path / "c.png", curves(values), axes=AXES, reference=values[0], title="deletion")
    picture(png)
    told = pd.read_csv(csv).pivot(index="sample", columns="place", values="value")
    assert np.allclose(told.to_numpy(), values, equal_nan=True) and list(told) == [0, 0.25, 0.5, 1]


def test_a_reference_is_drawn(tmp_path, seed):
    values = np.random.default_rng(seed).random((5, 4))
    drawn = [
        picture(draw_curves(tmp_path / f"{name}.png", curves(values), axes=AXES, reference=reference, title="")[0])
        for name, reference in (("with", np.zeros(4)), ("without", None))
    ]
    assert drawn[0].shape != drawn[1].shape or (drawn[0] != drawn[1]).any()


@pytest.mark.parametrize("shape", [(2, 20, 4, 4), (2, 3, 4, 4), (2, 8, 10), (2, 12)])
def test_activations_of_every_shape_are_drawn(tmp_path, seed, shape):
    maps = np.random.default_rng(seed).normal(size=shape)
    inputs = np.random.default_rng(seed).random((2, 1, 6, 6))
    png, told = draw_activations(
        tmp_path / "a.png", "features.3", maps, inputs, ["one", "two → 3"], value_range=(0.0, 1.0), title="net on data"
    )
    picture(png)
    told = json.loads(told.read_text())
    assert told["layer"] == "features.3" and np.asarray(told["activations"]).shape[0] == 2


def test_the_channels_shown_are_those_that_vary_most(tmp_path):
    maps = np.zeros((2, 30, 3, 3))
    maps[1, 7], maps[0, 21, 0, 0] = 5.0, 1.0
    maps[:, 4] = 100.0  # large and always the same
    _, told = draw_activations(
        tmp_path / "a.png", "x", maps, np.zeros((2, 1, 6, 6)), ["a", "b"], value_range=(0.0, 1.0), title=""
    )
    assert json.loads(told.read_text())["channels"][:2] == [7, 21]


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (3, 12, 2), (2, 5)])
def test_inputs_that_excite_most_are_drawn_with_what_they_reach(tmp_path, seed, shape):
    inputs = np.random.default_rng(seed).random(shape)
    names = [f"class {i}" for i in range(len(inputs))]
    png, told = draw_maximised(
        tmp_path / "m.png",
        inputs,
        names,
        np.arange(len(inputs)),
        value_range=(None, None),
        columns=None,
        title="t",
        note="n",
    )
    picture(png)
    told = json.loads(told.read_text())
    assert told["names"] == names and np.allclose(told["inputs"], inputs, atol=1e-4)


def test_samples_of_two_clusters_lie_apart(seed):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(40, 12)) + 30 * (np.arange(40) % 2)[:, None]
    places, perplexity = embed(features, seed=seed)
    assert perplexity == 13
    again, _ = embed(features, seed=seed)
    assert np.array_equal(places, again)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert ((apart.argmin(1) % 2) == np.arange(40) % 2).mean() > 0.95


@pytest.mark.parametrize(("features", "words"), [(np.zeros((5, 3)), "at least 8 samples"), (np.ones((9, 3)), "same")])
def test_too_few_samples_and_equal_features_have_no_map(features, words):
    with pytest.raises(NotApplicable, match=words):
        embed(features, seed=0)


def test_features_are_told_with_class_and_score(tmp_path, seed):
    places, names = np.random.default_rng(seed).random((9, 2)), [f"s{i}" for i in range(9)]
    score = pd.Series(np.r_[np.nan, np.arange(8.0)], index=names)
    png, csv = draw_features(
        tmp_path / "f.png",
        places,
        names,
        ["a", "b", "c"] * 3,
        predictions=["a"] * 9,
        score=score,
        score_name="srg of lrp",
        title="t",
        note="n",
    )
    picture(png)
    told = pd.read_csv(csv)
    assert np.allclose(told["srg of lrp"], score, equal_nan=True) and list(told["class"]) == ["a", "b", "c"] * 3


def test_importances_keep_all_repeats(tmp_path, seed):
    repeats = pd.DataFrame(
        {
            "unit": np.repeat(["age", "sex", "income"], 10),
            "repeat": list(range(10)) * 3,
            "value": np.random.default_rng(seed).normal(size=30),
        }
    )
    png, csv = draw_importances(tmp_path / "i.png", repeats, title="t")
    picture(png)
    assert np.allclose(pd.read_csv(csv)["value"], repeats["value"])


def test_attributions_of_a_sample_are_told_by_column(tmp_path, seed):
    maps = {name: np.random.default_rng(seed).normal(size=4) for name in ("gradient", "lime")}
    png, csv = draw_columns(tmp_path / "c.png", maps, ["a", "b", "c", "d"], title="t", note="n")
    picture(png)
    told = pd.read_csv(csv)
    assert list(told["column"]) == ["a", "b", "c", "d"] and np.allclose(told["lime"], maps["lime"])


@pytest.mark.parametrize("count", [1, 5, 40])
def test_interactions_keep_every_entry(tmp_path, seed, count):
    matrix, names = np.random.default_rng(seed).normal(size=(count, count)), [f"unit {i}" for i in range(count)]
    png, csv = draw_interactions(tmp_path / "p.png", matrix, names, ["unit 0 × unit 1 +2"], title="t")
    picture(png)
    told = pd.read_csv(csv)
    assert np.allclose(told["value"].to_numpy().reshape(count, count), matrix)
    assert list(told["unit"][:count]) == ["unit 0"] * count and list(told["other"][:count]) == names


def test_no_two_of_56_things_look_the_same():
    assert len(set(looks(len(COLOURS) * len(MARKERS)))) == 56


def test_a_photo_is_scaled_by_its_range_or_its_own():
    pixels = np.stack([np.full((2, 2), -1.0), np.zeros((2, 2)), np.ones((2, 2))])
    assert np.allclose(to_photo(pixels, -1, 1)[0, 0], [0, 0.5, 1]) and to_photo(pixels, None, None).shape == (2, 2, 3)
    assert to_photo(pixels[:1], 0, 1).shape == (2, 2)


def test_long_words_are_cut():
    assert shortened("abcdef", 4) == "abc…" and shortened("abcd", 4) == "abcd"
