"""Published values stand beside ours where the setting is the same, and nothing stands there where it nearly is."""

import numpy as np
import pandas as pd
import pytest

from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS
from harness.results.reference import SRG
from harness.results.report.blocks import blocks_of
from harness.results.report.published import BLUECHER, published_rows
from harness.results.store import Store
from harness.views.report import write_report
from worlds import about, write_cell

SAME = {
    "model": {"name": "torchvision", "architecture": "resnet50", "weights": "IMAGENET1K_V1", "transforms": None},
    "dataset": {"name": "torchvision", "which": "ImageNet", "split": "val", "root": "/images"},
    "explainer": {"name": "integrated_gradients", "steps": 50, "baseline": "zero", "method": "gausslegendre"},
    "metric": {
        "name": "srg",
        "granularity": "segment",
        "segments": "slic:25",
        "baseline": "zero",
        "score": "probability",
        "steps": 32,
    },
    "protocol": {"samples": 100, "seed": 0, "target": "label", "dtype": "float32", "reduction": "sum"},
}
NEARLY = {
    "other granularity": ("metric", {"granularity": "unit"}),
    "other segments": ("metric", {"segments": "slic:50"}),
    "segments whose published area has another range": ("metric", {"segments": "slic:5000"}),
    "other baseline": ("metric", {"baseline": "blur"}),
    "other score": ("metric", {"score": "logit"}),
    "other metric": ("metric", {"name": "insertion"}),
    "other data": ("dataset", {"which": "CIFAR10"}),
    "other split": ("dataset", {"split": "train"}),
    "a folder that may hold anything": ("dataset", {"name": "image_folder", "which": None, "split": None}),
    "other architecture": ("model", {"architecture": "resnet18"}),
    "other weights": ("model", {"weights": "IMAGENET1K_V2"}),
    "random weights": ("model", {"weights": None}),
    "other explainer": ("explainer", {"name": "guided_ig"}),
    "other steps": ("explainer", {"steps": 500}),
    "other target": ("protocol", {"target": "predicted"}),
}


def run_with(folder, config):
    """A run of one explainer and a control."""
    for name, values in (("integrated_gradients", 0.31), ("random", 0.0)):
        own = config if name != "random" else config | {"explainer": {"name": "random"}}
        scores = values + np.linspace(-0.1, 0.1, 12)
        write_cell(Store(folder), name, "srg", scores, model="resnet50", dataset="imagenet", config=own)
    return folder


def test_the_same_setting_shows_the_published_value_with_its_source(tmp_path):
    run = run_with(tmp_path / "night", SAME)
    (block,) = blocks_of([run])
    rows = {row.label: row for row in published_rows(block)}
    table = pd.read_csv(SRG)
    setting = table["table_or_figure"] == "imputer=constant 0; superpixels=25"
    setting &= (table["model"] == "ResNet-50 (torchvision)") & (table["metric"] == "SRG (LIF - MIF)")
    expected = table[setting].set_index("explainer")["value"]
    assert rows["integrated_gradients"].value == expected["IG"] and rows["random"].value == expected["random"]
    assert rows["integrated_gradients"].verified == "computed from the authors' data"
    page, twin = write_report(run).read_text(), (run / "report.md").read_text()
    for text in (page, twin):
        assert "Published values beside ours" in text and "arXiv:2401.06654" in text
        assert f"{expected['IG']:.3f}" in text and "points at logarithmic distances" in text


@pytest.mark.parametrize("nearly", NEARLY)
def test_a_setting_that_is_nearly_the_same_shows_nothing(tmp_path, nearly):
    section, other = NEARLY[nearly]
    (block,) = blocks_of([run_with(tmp_path / "night", SAME | {section: SAME[section] | other})])
    assert "integrated_gradients" not in [row.label for row in published_rows(block)]


def test_an_option_that_a_run_does_not_tell_is_not_the_same(tmp_path):
    metric = {name: value for name, value in SAME["metric"].items() if name != "baseline"}
    (block,) = blocks_of([run_with(tmp_path / "night", SAME | {"metric": metric})])
    assert published_rows(block) == []


def test_a_page_without_published_values_has_no_section(tmp_path):
    run = run_with(tmp_path / "night", about("net", "data", "lime", "srg")["config"])
    assert "Published values beside ours" not in write_report(run).read_text() + (run / "report.md").read_text()


def test_the_translations_are_registered_items_and_their_options():
    words = BLUECHER.words
    for entries, section in ((EXPLAINERS, "explainer"), (METRICS, "metric"), (MODELS, "model"), (DATASETS, "dataset")):
        for options in words[section].values():
            assert options.keys() - {"name"} <= entries[options["name"]].options.keys()
    for options in words["table_or_figure"].values():
        assert options.keys() <= METRICS["srg"].options.keys() & METRICS["deletion"].options.keys()


def test_every_word_of_the_published_table_that_is_translated_is_one_of_its_words():
    table = pd.read_csv(BLUECHER.csv)
    assert {name for name, words in BLUECHER.words.items() if not set(words) <= set(table[name])} == set()
