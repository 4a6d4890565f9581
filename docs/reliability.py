"""Writes the tables of docs/reliability.md from the registries of the tests: run ``python docs/reliability.py``.

The tests in ``tests/runs`` go over the same registries, so that the page says what they have shown.
"""

import importlib
import sys
from pathlib import Path

from pages import replaced

PAGE = Path(__file__).with_name("reliability.md")
TESTS = Path(__file__).parents[1] / "tests" / "runs"
# Mark on the page -> the module in tests/runs, the function.
TABLES = {"files": ("damages", "files_table"), "faults": ("attacks", "faults_table")}


def with_tables(text: str) -> str:
    """The text of the page with every table where it belongs."""
    sys.path.insert(0, str(TESTS))
    for mark, (module, function) in TABLES.items():
        text = replaced(text, mark, getattr(importlib.import_module(module), function)())
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
