"""``harness list``: explainers, metrics, models, data sets and experiments, with their options and defaults."""

import argparse
from typing import Any

from harness.catalogue import CATALOGUES
from harness.cli.groups import experiments_of_folders, group_files
from harness.cli.parser import Parser, add_verb
from harness.cli.sections import LABELLED_GROUPS
from harness.errors import UserError, unknown
from harness.metric_facts import agreement_with_truth, range_in_words
from harness.registry import DataSet, Explainer, Metric
from harness.source_values import source_of_module

LISTED_KINDS = {
    "explainers": (
        "explainer",
        "rise",
        "what it needs, the sum of its attributions, its cost in forward (F) and backward (B) passes",
    ),
    "metrics": ("metric", "srg", ""),
    "models": ("model", "lite0", ""),
    "datasets": ("dataset", "digits", "its modality, source, licence, number of samples and classes"),
    "experiments": ("experiment", "nightly", ""),
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree, with a parser for each kind."""
    examples = {
        "harness list explainers": "all explainers",
        "harness list metrics srg deletion": "two metrics with their options",
    }
    parser = add_verb(
        verbs,
        "list",
        "show what there is to choose from: explainers, metrics, models, datasets, experiments",
        "Each item is shown with what it does, and its options with their defaults.\n"
        "One that is named is shown with the values that each option takes, and an\n"
        "explainer with those that tuning tries beside the default.",
        examples,
        usage="%(prog)s KIND [NAME ...]",
    )
    kinds = parser.add_subparsers(title="kinds", dest="kind", metavar="KIND", prog=parser.prog)
    for kind, (group, example, besides) in LISTED_KINDS.items():
        _add_kind(kinds, kind, group, example, besides)
    return parser


def _add_kind(kinds: Any, kind: str, group: str, example: str, besides: str) -> None:
    several = group in LABELLED_GROUPS
    chosen = f"{group}=[{example}]" if several else f"{group}={example}"
    setting = f"{group}.{example}.OPTION=VALUE" if several else f"{group}.OPTION=VALUE"
    details = f"`harness run {chosen}` chooses one"
    details += "." if group == "experiment" else f", `{setting}` sets one of its options."
    details += f"\nBelow the first sentence of its documentation stands {besides}." if besides else ""
    examples = {f"harness list {kind}": "all of them", f"harness list {kind} {example}": "one of them"}
    own = add_verb(kinds, kind, f"all {kind} by name, or those named", details, examples)
    own.add_argument("names", nargs="*", metavar="NAME", help="show only these (default: all)")


def execute(chosen: argparse.Namespace) -> int:
    """Print names, first docstring lines, capabilities, and options with their defaults and the values they take."""
    if chosen.kind is None:
        raise UserError(f"harness list came without a kind, expected one of {', '.join(LISTED_KINDS)}")
    if chosen.kind == "experiments":
        return _print_experiments(chosen.names)
    entries = CATALOGUES[LISTED_KINDS[chosen.kind][0]]
    for entry in [entries[name] for name in chosen.names] or entries.values():
        print(f"{entry.name}\n    {entry.summary}")
        if isinstance(entry, Explainer):
            print(f"    {_capabilities(entry)}")
        if isinstance(entry, Metric):
            print(f"    {_meaning(entry)}")
        if isinstance(entry, DataSet):
            about = (entry.modality, f"from {entry.source}", f"licence: {entry.licence}", entry.samples, entry.classes)
            print("    " + "; ".join(about))
        if entry.options:
            print(_option_lines(entry) if chosen.names else _option_line(entry))
    if not chosen.names:
        _print_others(chosen.kind, entries.bridged())
    return 0


def _print_experiments(names: list[str]) -> int:
    there = {**group_files("experiment"), **experiments_of_folders()}
    for name in names:
        if name not in there:
            raise unknown("experiment", name, there, "harness list experiments")
    for name in names or (each for each in there if "/" not in each):
        print(f"{name}\n    {there[name]}")
    return 0


def _print_others(kind: str, bridged: list[str]) -> None:
    """Print the other choices: named groups of items, and items of other libraries."""
    group = LISTED_KINDS[kind][0]
    files = group_files(group)
    if files:
        print(f"and groups of {kind}, chosen like one: harness run {group}={next(iter(files))}")
        for name, sentence in files.items():
            print(f"    {name}: {sentence}")
    if bridged:
        print(f"and from other libraries; harness list {kind} NAME shows the options of one")
        print(f"    {' '.join(bridged)}")


def _capabilities(entry: Any) -> str:
    """The capabilities that an explainer declares, on one line."""
    sums_to = source_of_module("harness.completeness").value("SUMS_TO")  # importing it would import torch
    return "; ".join(
        [
            entry.scope,
            f"needs of the model: {'nothing' if entry.access == 'none' else entry.access}",
            f"inputs: {', '.join(entry.modalities)}",
            "signed" if entry.signed else "at least 0",
            f"sums to {sums_to[entry.complete_to]}" if sums_to[entry.complete_to] else "no sum is promised",
            *([] if entry.per_class else ["one map for all classes"]),
            *(["draws random numbers"] if entry.stochastic else []),
            *([f"passes per sample (F forward, B backward): {entry.cost}"] if entry.cost else []),
            *([f"from {entry.source}: {entry.caveat}"] if entry.caveat else []),
        ]
    )


def _meaning(entry: Any) -> str:
    """What a metric's scores mean under its default options, on one line."""
    better, span, chance = (of(entry.options) for of in (entry.direction, entry.span_of, entry.chance_of))
    agreement = agreement_with_truth(entry.name)
    return "; ".join(
        [
            f"{better} is better" if better else "no direction is better",
            f"unit: {entry.unit_of(entry.options)}",
            f"kind: {entry.kind}",
            *([f"needs {', '.join(entry.needs)}"] if entry.needs else []),
            *([f"range: {range_in_words(span)}"] if span else []),
            *([f"a random map scores {chance:g}"] if chance is not None else []),
            *([agreement.text] if agreement else []),
        ]
    )


def _option_line(entry: Any) -> str:
    """All options with their defaults on one line."""
    return "    " + " ".join(f"{name}={_option_value(value)}" for name, value in entry.options.items())


def _option_lines(entry: Any) -> str:
    """A line for each option: its default, the values that it takes, and those that tuning tries."""
    set_to = {name: f"{name}={_option_value(value)}" for name, value in entry.options.items()}
    width = min(32, max(map(len, set_to.values())))
    takes = {name: f"{entry.kind_of(name)}{_tried(entry, name)}" for name in set_to}
    return "\n".join(f"    {text:<{width}}  {takes[name]}" for name, text in set_to.items())


def _tried(entry: Any, option: str) -> str:
    """The values of an explainer's option that tuning tries, in words; "" if it tries none."""
    values = entry.tunable.get(option) if isinstance(entry, Explainer) else None
    return f"; tuning tries {', '.join(map(_option_value, values))}" if values else ""


def _option_value(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, tuple | list):
        return f"[{','.join(map(_option_value, value))}]"
    return "null" if value is None else str(value)
