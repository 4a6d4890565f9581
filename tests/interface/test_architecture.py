"""The house: which floor each module is on, that imports go down, and that a name has one home."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "harness": "harness",
    "metrics": "harness.metrics",
    "datasets": "harness.datasets",
    "results": "harness.results",
}

# From the ground up. A module may import from its own floor and from those below. ``results`` stands beside the engine:
# it imports only the floors below it, and the floors above may import it.
FLOORS = (
    (
        "ground",
        "harness.errors harness.messages harness.modalities harness.randomness harness.units harness.ordering "
        "harness.garbage harness.guards harness.interrupts harness.option_kinds harness.option_types "
        "harness.photographs harness.places harness.process_guard harness.seals harness.task harness.as_written "
        "harness.array_archives",
    ),
    ("removal", "harness.removal"),
    (
        "top",
        "harness.adapted_model harness.assets harness.batch harness.catalogue harness.checks harness.code_version "
        "harness.completeness harness.facts harness.identity harness.item_places harness.metric_facts "
        "harness.model_outputs harness.options harness.other_names harness.predictor harness.registry harness.samples "
        "harness.signatures harness.source_values harness.sources",
    ),
    ("items", "harness.explainers harness.metrics harness.models harness.datasets"),
    ("results", "harness.results"),
    ("engine", "harness.engine"),
    ("jobs", "harness.jobs"),
    ("rooms", "harness.choosing harness.launching harness.views"),
    ("roof", "harness.api harness harness.reproducing harness.cli harness.command harness.conf harness.__main__"),
)
NOT_BY_RESULTS = ("harness.explainers", "harness.metrics", "harness.models", "harness.datasets")

# Names that every module of a kind has, each with the same meaning: ``read`` makes the tables of a run or of a file,
# ``study`` measures what a paper has measured, ``launch`` runs jobs by a launcher.
SAME_EVERYWHERE = {
    "build",
    "recipe",
    "load_split",
    "load_split_without_sensitive",
    "add_parser",
    "execute",
    "read",
    "study",
    "launch",
}


def sources() -> dict[str, Path]:
    """Module name -> its file, of the whole package."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


SOURCES = sources()


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


def imports(module: str) -> Iterator[tuple[str, str]]:
    """What a module imports from the package, inside functions and for type checkers too: (module, name)."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from ((each.name, "") for each in node.names if each.name.split(".")[0] == "harness")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "harness":
            for each in node.names:
                inner = f"{node.module}.{each.name}"
                yield (inner, "") if inner in SOURCES else (node.module, each.name)


def floor(module: str) -> int:
    """The number of the floor with the longest name that the module begins with."""
    homes = [
        (len(room), number)
        for number, (_, rooms) in enumerate(FLOORS)
        for room in rooms.split()
        if module == room or module.startswith(room + ".") and room != "harness"
    ]
    assert homes, f"{module} is on no floor: name it in FLOORS"
    return max(homes)[1]


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_down(module):
    for other, _ in imports(module):
        assert floor(other) <= floor(module), f"{module} imports {other}, which is above it"
        if module.startswith("harness.results"):
            assert not other.startswith(NOT_BY_RESULTS), f"{module} imports {other}, which is no floor below results"


def test_no_circle():
    edges = {module: {other for other, _ in imports(module) if other in SOURCES} - {module} for module in SOURCES}
    rest = dict(edges)
    while rest:
        free = {module for module, others in rest.items() if not others & rest.keys()}
        assert free, f"these modules import each other in a circle, or what does: {sorted(rest)}"
        rest = {module: others for module, others in rest.items() if module not in free}


@pytest.mark.parametrize("module", SOURCES)
def test_private_helpers_stay_in_their_module(module):
    private = [
        f"{other}.{name}" for other, name in imports(module) if name.startswith("_") and not name.startswith("__")
    ]
    assert not private


def test_a_name_of_a_function_or_class_has_one_home():
    homes = defaultdict(set)
    for module in SOURCES:
        for node in tree(module).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                homes[node.name].add(module)
    several = {name: sorted(modules) for name, modules in homes.items() if len(modules) > 1}
    assert not {name: modules for name, modules in several.items() if name not in SAME_EVERYWHERE}


def test_the_formatter_lays_out_every_line():
    for path in [*SOURCES.values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").rglob("*.py")]:
        if path != Path(__file__):
            assert "fmt: skip" not in path.read_text(encoding="utf-8"), path
