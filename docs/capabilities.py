"""The table of explainers in docs/explainers.md, from what each one declares: run ``python docs/capabilities.py``."""

import inspect
from itertools import groupby
from pathlib import Path

from harness.promises import SUMS_TO
from harness.registry import EXPLAINERS, Explainer

PAGE = Path(__file__).parent / "explainers.md"
START, END = "<!-- capabilities: begin -->", "<!-- capabilities: end -->"
HEADINGS = ("explainer", "scope", "needs of the model", "inputs", "sign", "sums to", "draws", "evaluations a sample")


def capability_table() -> str:
    """One table for each module of explainers, headed by what the module is about."""
    by_module = sorted(EXPLAINERS.values(), key=lambda entry: (entry.source != "harness", entry.function.__module__))
    groups = groupby(by_module, key=lambda entry: inspect.getmodule(entry.function))
    return "\n\n".join(_table(module.__doc__.partition("\n")[0], list(entries)) for module, entries in groups)


def _table(title: str, entries: list[Explainer]) -> str:
    rows = [_row(entry) for entry in sorted(entries, key=lambda entry: entry.name)]
    lines = [HEADINGS, ["---"] * len(HEADINGS), *rows]
    caveats = [f"- `{entry.name}`: {entry.caveat}." for entry in entries if entry.caveat]
    table = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([f"**{title}**", "", *table, *([""] if caveats else []), *caveats])


def _row(entry: Explainer) -> list[str]:
    return [
        f"`{entry.name}`", entry.scope, "nothing" if entry.access == "none" else entry.access,
        "any" if set(entry.modalities) >= set(Explainer.modalities) else ", ".join(entry.modalities),
        "signed" if entry.signed else "at least 0", SUMS_TO[entry.complete_to], "yes" if entry.stochastic else "",
        entry.cost,
    ]  # fmt: skip


def with_table(page: str) -> str:
    """The page's text with the table where it belongs."""
    before, _, rest = page.partition(START)
    return f"{before}{START}\n\n{capability_table()}\n\n{END}{rest.partition(END)[2]}"


def make() -> None:
    """Write the table into the page."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    make()
