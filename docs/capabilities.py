"""Writes the lists of items, of settings, and of values and former names of options into the pages: run
``python docs/capabilities.py``.

The lists follow from what each item declares and from the groups in conf/.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from pages import replaced

from harness.completeness import SUMS_TO
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS, DataSet, Entry, Explainer, Metric
from harness.results.leaderboard import ARROWS, KINDS

FOLDER = Path(__file__).parent
GROUPS = FOLDER.parent / "conf"
MARK = "capabilities"
# The groups of conf/explainer by which the pages list explainers, and those that are in none of these.
FAMILIES = {
    "gradients": "Gradients of the target's logit, and averages of them",
    "relevances": "Modified backward passes: LRP, DeepLift, guided backpropagation",
    "activations": "Activation maps (CAM methods)",
    "attentions": "Attention maps of transformers",
    "perturbations": "Perturbations: remove parts of the input and measure the change of the score",
    "masks": "Masks that are learned by gradient descent",
    "interactions": "Interactions: matrices of pairs of units, whose rows sum to the map",
    "rules": "Rules and counterfactuals of tables: what holds the decision for a row, and what would change it",
    "globals": "Global methods (one map for the data set, or one per class) and concepts",
    "controls": "Controls: explainers that ignore the model",
    "library": "captum's versions of methods, where they differ from the publication; flagged and not ranked",
    "": "Maps that are given: from a file (`precomputed`), or the known right attribution (`oracle`)",
}
# The files of conf/ with settings of a run.
SETTINGS = {
    "protocol/default.yaml": "Protocol: settings that change scores; another value makes other cells",
    "runtime/default.yaml": "Runtime: how cells are measured; no part of a cell's identity",
    "launcher/processes.yaml": "With `launcher=processes`",
    "launcher/slurm.yaml": "With `launcher=slurm`",
    "launcher/ray.yaml": "With `launcher=ray`",
}
# The groups of conf/metric likewise.
QUESTIONS = {
    "curves": "How does the model's score change when units are removed or inserted in the order of their attribution?",
    "information": "How fast does a blurred image regain its class, for the information in it? (images; slow)",
    "subsets": "Do the attributions predict how much the score changes when units are removed?",
    "consistency": "Do inputs with the same explanation have the same prediction? (explains training inputs; slow)",
    "cam_scores": "What does the model say of the image multiplied by its map? (class activation maps)",
    "retraining": "What changes when a model is trained without the top units, or on permuted labels? (trains models)",
    "truth": "Is the map close to the known right attribution? (synthetic data)",
    "localisation": "Does the map point at the object? (data with masks)",
    "plausibility": "Does the map agree with the rationale that a human gave? (data with masks)",
    "sanity_checks": "Does the map change when the weights or the explained class change?",
    "robustness": "Does the map stay the same when the input hardly changes?",
    "checks": "Does the map have a property, such as a sum that equals the model's output? (no ranks)",
    "": "Other: is the map simple, and do explainers disagree?",
    "cost": "What does explaining cost?",
}
TITLES = {
    "faithfulness": "Faithfulness",
    "truth": "Ground truth",
    "localisation": "Localisation",
    "sanity": "Sanity checks",
    "axiom": "Axioms",
    "check": "Checks: whether a property holds; explainers have no rank by these",
    "robustness": "Robustness",
    "complexity": "Complexity",
    "reference": "Context: what a score is read with (no direction)",
    "cost": "Cost",
}
INPUTS = {"image": "Images", "table": "Tables", "tokens": "Texts", "series": "Time series", "any": "Any kind of input"}
OF_EXPLAINERS = (
    "explainer",
    "scope",
    "model access",
    "inputs",
    "values",
    "sum of the map",
    "classes",
    "random",
    "passes per sample",
)
OF_METRICS = ("metric", "better", "unit", "also needs", "definition")
OF_SETTINGS = ("setting", "default", "meaning")
OF_NAMES = ("former name", "present name", "items")
OF_VALUES = ("option", "values", "only of")
OF_DATA = ("data set", "samples", "labels", "source", "licence", "description")


def explainer_lists() -> str:
    """The names of all explainers by family, then a table for each family."""
    families = _grouped("explainer", FAMILIES, EXPLAINERS)
    headings = ("family", "choose all with", "explainers")
    overview = _table("Overview", headings, _overview("explainer", families, FAMILIES))
    tables = (_of_family(FAMILIES[group], [EXPLAINERS[name] for name in names]) for group, names in families.items())
    return "\n\n".join([overview, *tables])


def metric_lists() -> str:
    """The names of all metrics by the question that they answer, then a table for each kind."""
    questions = _grouped("metric", QUESTIONS, METRICS)
    headings = ("question", "choose all with", "metrics")
    overview = _table("Overview", headings, _overview("metric", questions, QUESTIONS))
    kinds = [*KINDS, "cost"]
    by_kind = sorted(METRICS.values(), key=lambda entry: (kinds.index(entry.kind), entry.name))
    groups = groupby(by_kind, key=lambda entry: entry.kind)
    return "\n\n".join([overview, *(_table(TITLES[kind], OF_METRICS, map(_metric_row, each)) for kind, each in groups)])


def data_lists() -> str:
    """One table of data sets for each kind of input, and one of all models."""
    kinds = list(INPUTS)
    by_kind = sorted(DATASETS.values(), key=lambda entry: (kinds.index(entry.modality), entry.name))
    groups = groupby(by_kind, key=lambda entry: entry.modality)
    data = [_table(INPUTS[kind], OF_DATA, map(_data_row, entries)) for kind, entries in groups]
    return "\n\n".join([*data, _table("Models", ("model", "description"), map(_model_row, MODELS.values()))])


def former_names() -> str:
    """The former names of options, each with its present name and the items that have it."""
    items: dict[tuple[str, str], list[str]] = {}
    for registry in (EXPLAINERS, METRICS, DATASETS, MODELS):
        for entry in registry.values():
            for names in entry.renamed.items():
                items.setdefault(names, []).append(f"`{entry.name}`")
    rows = ([f"`{former}`", f"`{present}`", " ".join(items[former, present])] for former, present in sorted(items))
    return _table("Former names", OF_NAMES, rows)


def option_values() -> str:
    """The values that each option takes, with the items where it does not take the same everywhere."""
    found: dict[str, dict[str, list[str]]] = {}
    for registry in (EXPLAINERS, METRICS, DATASETS, MODELS):
        for entry in registry.values():
            for option in entry.options:
                items = found.setdefault(option, {}).setdefault(str(entry.kind_of(option)), [])
                items.append(f"`{entry.name}`")
    rows = (
        [f"`{option}`", values, " ".join(dict.fromkeys(items)) if len(kinds) > 1 else ""]
        for option, kinds in sorted(found.items())
        for values, items in sorted(kinds.items())
    )
    return _table("Values", OF_VALUES, rows)


def setting_tables() -> str:
    """The settings of a run that belong to no item, as their files in conf/ describe them."""
    tables = (_table(title, OF_SETTINGS, _settings_of(path)) for path, title in SETTINGS.items())
    return "\n\n".join(tables)


def _settings_of(path: str) -> Iterator[list[str]]:
    """The settings of a file of conf/: name, default and the comment beside it, which may go on in further lines."""
    group, text = path.partition("/")[0], (GROUPS / path).read_text(encoding="utf-8")
    for name, default, comment in re.findall(r"^(\w+): +(\S+)(?: +# (.*(?:\n +# .*)*))?$", text, flags=re.M):
        meaning = " ".join(line.strip(" #") for line in comment.split("\n"))
        if name != "name":
            yield [f"`{group}.{name}`", f"`{default}`", meaning or f"as `--{name}` of sbatch"]


def option_lists() -> str:
    """The settings of a run, the values of options, and their former names."""
    return f"{setting_tables()}\n\n{option_values()}\n\n{former_names()}"


def _grouped(option: str, titles: Mapping[str, str], entries: Mapping[str, Entry]) -> dict[str, list[str]]:
    """The groups of conf/``option`` with their items' names, each item once; under "" those that are in no group."""
    found: dict[str, list[str]] = {group: [] for group in titles}
    for group in filter(None, titles):
        known = {name for names in found.values() for name in names}
        found[group] = [
            name for name in dict.fromkeys(_chosen(GROUPS / option / f"{group}.yaml", entries)) if name not in known
        ]
    found[""] = sorted(set(entries) - {name for names in found.values() for name in names})
    return found


def _chosen(path: Path, entries: Mapping[str, Entry]) -> Iterator[str]:
    """The items that a group's file chooses: those of its defaults, and those that it gives another label."""
    group = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings = (options for options in group.values() if isinstance(options, dict))
    named: Iterable[Any] = [*group["defaults"], *(options["name"] for options in settings if "name" in options)]
    yield from (name for name in named if name in entries)


def _overview(option: str, groups: Mapping[str, Sequence[str]], titles: Mapping[str, str]) -> Iterator[list[str]]:
    for group, names in groups.items():
        choice = f"`{option}={group}`" if group else "their names"
        yield [titles[group], choice, " ".join(f"`{each}`" for each in names)]


def _of_family(title: str, entries: Sequence[Explainer]) -> str:
    caveats = [f"- `{entry.name}`: {entry.caveat}." for entry in entries if entry.caveat]
    table = _table(title, OF_EXPLAINERS, map(_explainer_row, entries))
    return "\n".join([table, *([""] if caveats else []), *caveats])


def _table(title: str, headings: tuple[str, ...], rows: Iterable[list[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in (headings, ["---"] * len(headings), *rows)]
    return "\n".join([f"**{title}**", "", *lines])


def _explainer_row(entry: Explainer) -> list[str]:
    return [
        f"`{entry.name}`",
        entry.scope,
        entry.access,
        "any" if set(entry.modalities) >= set(Explainer.modalities) else ", ".join(entry.modalities),
        "signed" if entry.signed else "not negative",
        SUMS_TO[entry.complete_to],
        "" if entry.per_class else "one map",
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


PARTS = {
    "explainers.md": explainer_lists,
    "metrics.md": metric_lists,
    "data.md": data_lists,
    "options.md": option_lists,
}


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
