"""Cells of former options get their present identity, rows of scores with them, in little time."""

import time

import numpy as np
import pandas as pd
import pytest

from harness.results import present_names


@pytest.mark.parametrize("kind", ["category", "object"])
def test_many_scores_move_to_the_present_cells_at_once(kind, monkeypatch):
    monkeypatch.setattr(present_names, "_present_cell", lambda cell, config: config)
    former = [f"old{number}" for number in range(500)]
    present = [f"new{max(1, number)}" for number in range(500)]  # the first two have become one
    cells = pd.DataFrame({"cell": [*former, "kept"], "config": pd.Series([*present, None], dtype=object)})
    place = np.arange(200_000) % 501
    scores = pd.DataFrame({"cell": pd.Series(np.array([*former, "kept"])[place]).astype(kind)})
    start = time.process_time()
    moved_cells, moved = present_names.with_present_cells(cells, scores)
    assert time.process_time() - start < 0.5
    assert moved_cells["cell"].tolist() == [*present, "kept"] and moved["cell"].dtype == "category"
    assert (moved["cell"].astype(str) == np.array([*present, "kept"])[place]).all()
