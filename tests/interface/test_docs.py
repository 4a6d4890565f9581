"""What the pages say runs, and what they point to exists."""

import re
from pathlib import Path

import pytest
import torch

import harness
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def keep_registries(monkeypatch):
    """What a page registers is gone after its test."""
    for registry in (EXPLAINERS, METRICS, MODELS, DATASETS):
        len(registry)  # loads it
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_python_on_the_page_runs(page, capsys, monkeypatch):
    keep_registries(monkeypatch)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, str(page), "exec"), names)  # noqa: S102  our own pages


def test_the_items_of_the_page_on_extending_work_together(monkeypatch):
    keep_registries(monkeypatch)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL):
        exec(compile(block, "extending.md", "exec"), names)  # noqa: S102
    model, data = names["my_net"](), names["my_data"]()
    frame = harness.evaluate(
        model.module,
        data.items,
        data.labels,
        explainers=["squared_gradient", "quarter_ablation"],
        metrics=["drop_of_the_top_tenth", "srg"],
    )
    assert set(frame["status"]) == {"ok"} and frame["valid"].all()
    assert torch.tensor(frame["value"].to_numpy()).isfinite().all()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_readme_names_only_what_there_is():
    text = (ROOT / "README.md").read_text()
    for registry, option in ((EXPLAINERS, "explainer"), (METRICS, "metric"), (MODELS, "model"), (DATASETS, "dataset")):
        for chosen in re.findall(rf"[ ]{option}=\[?([\w,]+)\]?", text):
            for name in chosen.split(","):
                known = name in registry or list((ROOT / "conf" / option).glob(f"{name}.yaml"))
                assert known, f"{option}={name}"


@pytest.mark.parametrize(
    ("page", "registries"),
    [
        ("explainers.md", [EXPLAINERS]),
        ("metrics.md", [METRICS]),
        ("data.md", [DATASETS, MODELS]),
    ],
)
def test_the_tables_of_items_are_what_their_command_would_write(page, registries, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import capabilities

    text = (ROOT / "docs" / page).read_text()
    assert capabilities.with_table(page, text) == text, "run python docs/capabilities.py"
    entries = [entry for registry in registries for entry in registry.values() if _ours(entry)]
    assert all(f"| `{entry.name}` |" in text for entry in entries)


def test_every_data_set_says_where_it_is_from_and_what_is_in_it():
    for entry in DATASETS.values():
        if _ours(entry):
            told = (entry.source, entry.licence, entry.samples, entry.classes)
            assert all(told) and entry.modality in ("image", "table", "tokens", "series", "any"), entry.name


def _ours(entry):
    ours = ("harness.explainers.", "harness.metrics.", "harness.datasets.", "harness.models.")
    return entry.function.__module__.startswith(ours)
