"""Facts about an explainer and its score on a sample, from which the sentences on reliability are made."""

from typing import Any

import numpy as np
import pandas as pd

from harness.results import words
from harness.results.footnotes import flag_list
from harness.results.frames import audit_of, median_of
from harness.results.report.blocks import ReportBlock


def known_of(block: ReportBlock, name: str) -> words.Trust:
    """Facts about an explainer that do not depend on the sample."""
    sanity = block.sanity.loc[name] if name in block.sanity.index else {"verdict": "", "reason": ""}
    text = lambda value: value if isinstance(value, str) else ""
    cells = block.cells[block.cells["label"] == name]
    audit = next((audit_of(audit) for audit in cells["audit"] if audit_of(audit)), {})
    error = median_of(audit.get("completeness_error"))
    return words.Trust(
        flags=tuple(dict.fromkeys(flag for flags in cells["flags"] for flag in flag_list(flags))),
        completeness_error=float("nan") if error is None else error,
        sanity=text(sanity["verdict"]),
        reason=text(sanity["reason"]),
        is_control=name in block.controls,
        **_headline_scores(block, name),
    )


def _headline_scores(block: ReportBlock, name: str) -> dict[str, Any]:
    """The explainer's headline score against the best control's."""
    metric = block.headline
    cell = block.cell(metric, name) if metric else None
    if cell is None or cell["status"] != "ok":
        return {"metric": metric}
    scores = {"metric": metric, "mean": cell["value"], "low": cell["ci_low"], "high": cell["ci_high"]}
    beside = block.standing
    there = [each for each in beside.index if each in block.controls]
    if not there:
        return scores
    control = beside.loc[there, "mean"].idxmax()
    row = block.cell(metric, control)
    scores |= {
        "control": control,
        "control_mean": row["value"],
        "control_low": row["ci_low"],
        "control_high": row["ci_high"],
    }
    if name in beside.index and name not in block.controls and np.isfinite(beside.loc[name, "p_control"]):
        scores["beats"] = bool(beside.loc[name, "beats_control"])
    return scores


def place_of(block: ReportBlock, name: str, sample: str) -> dict[str, Any]:
    """The score of the sample, and its place among all samples from the worst."""
    if block.headline is None:
        return {}
    matrix = block.matrices[block.headline]
    own = matrix.signed[name].dropna() if name in matrix.signed else pd.Series(dtype=float)
    own = own.set_axis(own.index.astype(str))
    if sample not in own.index:
        return {}
    value = float(own[sample])
    sign = -1 if matrix.better == "lower" else 1
    return {"value": sign * value, "place": int((own < value).sum()) + 1, "samples": len(own)}
