"""The tables of what there is on its pages, from what each item declares: run ``python docs/capabilities.py``."""

import inspect
from itertools import groupby
from pathlib import Path

from pages import replaced

from harness.completeness import SUMS_TO
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS, DataSet, Entry, Explainer, Metric
from harness.results.leaderboard import ARROWS, KINDS

FOLDER = Path(__file__).parent
MARK = "capabilities"
OF_EXPLAINERS = (
    "explainer",
    "scope",
    "needs of the model",
    "inputs",
    "sign",
    "sums to",
    "draws",
    "evaluations a sample",
)
OF_METRICS = ("metric", "better", "unit", "needs beside a map", "what it is")
OF_DATA = ("data set", "samples", "to predict", "source", "licence", "what it is")
INPUTS = {"image": "Images", "table": "Tables", "tokens": "Texts", "series": "Time series", "any": "Any kind of input"}


def explainer_tables() -> str:
    """One table for each module of explainers, headed by what the module is about."""
    by_module = sorted(EXPLAINERS.values(), key=lambda entry: (entry.source != "harness", entry.function.__module__))
    groups = groupby(by_module, key=lambda entry: inspect.getmodule(entry.function))
    return "\n\n".join(_of_module(module.__doc__.partition("\n")[0], list(entries)) for module, entries in groups)


def metric_tables() -> str:
    """One table for each kind of metric."""
    kinds = [*KINDS, "cost"]
    by_kind = sorted(METRICS.values(), key=lambda entry: (kinds.index(entry.kind), entry.name))
    groups = groupby(by_kind, key=lambda entry: entry.kind)
    return "\n\n".join(_table(kind.capitalize(), OF_METRICS, map(_metric_row, entries)) for kind, entries in groups)


def data_tables() -> str:
    """One table of data sets for each kind of input, and one of all models."""
    kinds = list(INPUTS)
    by_kind = sorted(DATASETS.values(), key=lambda entry: (kinds.index(entry.modality), entry.name))
    groups = groupby(by_kind, key=lambda entry: entry.modality)
    data = [_table(INPUTS[kind], OF_DATA, map(_data_row, entries)) for kind, entries in groups]
    return "\n\n".join([*data, _table("Models", ("model", "what it is"), map(_model_row, MODELS.values()))])


def _of_module(title: str, entries: list[Explainer]) -> str:
    caveats = [f"- `{entry.name}`: {entry.caveat}." for entry in entries if entry.caveat]
    table = _table(title, OF_EXPLAINERS, map(_explainer_row, sorted(entries, key=lambda entry: entry.name)))
    return "\n".join([table, *([""] if caveats else []), *caveats])


def _table(title: str, headings: tuple[str, ...], rows: object) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in (headings, ["---"] * len(headings), *rows)]
    return "\n".join([f"**{title}**", "", *lines])


def _explainer_row(entry: Explainer) -> list[str]:
    return [
        f"`{entry.name}`",
        entry.scope,
        "nothing" if entry.access == "none" else entry.access,
        "any" if set(entry.modalities) >= set(Explainer.modalities) else ", ".join(entry.modalities),
        "signed" if entry.signed else "at least 0",
        SUMS_TO[entry.complete_to],
        "yes" if entry.stochastic else "",
        entry.cost,
    ]


def _metric_row(entry: Metric) -> list[str]:
    options = dict(entry.options)
    arrow = ARROWS.get(entry.direction(options), "").strip()
    needs = ", ".join(each.replace("_", " ") for each in entry.needs)
    return [f"`{entry.name}`", arrow, entry.unit_of(options), needs, _in_words(entry)]


def _data_row(entry: DataSet) -> list[str]:
    return [f"`{entry.name}`", entry.samples, entry.classes, entry.source, entry.licence, _in_words(entry)]


def _model_row(entry: Entry) -> list[str]:
    return [f"`{entry.name}`", _in_words(entry)]


def _in_words(entry: Entry) -> str:
    """The first paragraph of an item's docstring as the cell of a table."""
    return entry.summary.replace("|", "\\|").replace("``", "`")


PARTS = {"explainers.md": explainer_tables, "metrics.md": metric_tables, "data.md": data_tables}


def with_table(page: str, text: str) -> str:
    """The text of the page of that name with its tables where they belong."""
    return replaced(text, MARK, f"\n{PARTS[page]()}\n")


def make() -> None:
    """Write the tables into the pages."""
    for page in PARTS:
        path = FOLDER / page
        path.write_text(with_table(page, path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    make()
