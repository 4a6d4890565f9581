"""What a run keeps for its report: small samples, what they are in words, and each explainer's maps."""

import json

import numpy as np
import pytest

import harness


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of images, of a table with categories, and of series."""
    folder = tmp_path_factory.mktemp("runs")
    for model, dataset in (
        ("digits_cnn", "digits"),
        ("cancer_mlp", "breast_cancer"),
        ("series_cnn", "italy_power_demand"),
    ):
        harness.run(
            {
                "model": model,
                "dataset": dataset,
                "explainer": ["gradient", "random"],
                "metric": ["sparseness"],
                "protocol": {"samples": 5},
                "runtime": {"runs": str(folder), "quiet": True, "sheet": 3},
                "run": dataset,
            }
        )
    return folder


def index_of(runs, dataset):
    (path,) = (runs / dataset / "maps").glob("*.json")
    found = json.loads(path.read_text())
    load = lambda name: np.load(path.parent / name, allow_pickle=False)
    return found, load(found["inputs"]), {name: load(each["file"]) for name, each in found["explainers"].items()}


@pytest.mark.parametrize(
    ("dataset", "modality", "inputs", "units"),
    [
        ("digits", "image", (3, 8, 8, 3), (8, 8)),
        ("breast_cancer", "table", (3, 30), (30,)),
        ("italy_power_demand", "series", (3, 1, 24), (24,)),
    ],
)
def test_the_index_names_the_samples_and_the_maps_fit_them(runs, dataset, modality, inputs, units):
    about, small, maps = index_of(runs, dataset)
    assert about["modality"] == modality and small.shape == inputs and len(about["samples"]) == 3
    assert {name: values.shape for name, values in maps.items()} == {
        name: (3, *units) for name in ("gradient", "random")
    }
    assert all(np.abs(values).reshape(3, -1).max(1) == pytest.approx(1, abs=1e-3) for values in maps.values())
    assert about["explainers"]["random"]["control"] and about["explainers"]["gradient"]["signed"]


def test_images_keep_their_brightness(runs):
    _, small, _ = index_of(runs, "digits")
    assert small.dtype == np.uint8 and small.max() == 255 and small.min() == 0


def test_the_samples_are_told_in_words(runs):
    about, _, _ = index_of(runs, "breast_cancer")
    assert {sample["label"] for sample in about["samples"]} <= {"malignant", "benign"}
    assert about["unit_names"][0] == "mean radius" and all(0.5 <= s["confidence"] <= 1 for s in about["samples"])


def test_a_report_shows_the_kept_maps(runs):
    from harness.views.report import write_report as report

    page = report("digits", runs_directory=runs).read_text(encoding="utf-8")
    assert "data:image" in page and "kept no maps" not in page
