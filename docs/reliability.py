"""Writes tables of docs/reliability.md and docs/scale.md from the tests' registries: ``python docs/reliability.py``.

The tests in ``tests/runs`` go over the same registries, so that the page says what they have shown.
"""

import importlib
import sys
from pathlib import Path

from pages import replaced

DOCS = Path(__file__).parent
TESTS = Path(__file__).parents[1] / "tests" / "runs"
# Page -> mark on it -> the module in tests/runs, the function.
TABLES = {
    "reliability.md": {"files": ("damages", "files_table"), "faults": ("attacks", "faults_table")},
    "scale.md": {"faults": ("launch_faults", "faults_table")},
}


def with_tables(page: str) -> str:
    """The text of a page with every table where it belongs."""
    sys.path.insert(0, str(TESTS))
    text = (DOCS / page).read_text(encoding="utf-8")
    for mark, (module, function) in TABLES[page].items():
        text = replaced(text, mark, getattr(importlib.import_module(module), function)())
    return text


if __name__ == "__main__":
    for page in TABLES:
        (DOCS / page).write_text(with_tables(page), encoding="utf-8")
