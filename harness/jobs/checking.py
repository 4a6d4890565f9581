"""Explainers tried on one model and data set without scoring: what it cost them, and what their self-checks show."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from harness.engine.block import Explained, explain_each
from harness.engine.item_guard import Failure, ItemGuard
from harness.engine.protocol import precision
from harness.engine.selection import Chosen
from harness.engine.stage import Stage
from harness.errors import NotApplicable, UserError, one_line
from harness.guards import ModelChanged
from harness.jobs.lease import devices_named, lease
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.runner import load_stage
from harness.messages import heard_by


def check_plan(plan: Plan, progress: Progress | None = None) -> pd.DataFrame:
    """Audit the plan's explainers on its model and data without scoring them: one row for each, nothing on disk.

    Each explains the samples as in a run, then the first sample alone, and the first batch a second time. Columns:
    model, dataset, explainer, status, error, flags, caveat, the results of the audit by name, forwards, backwards and
    seconds per sample, setup_seconds, unmeasured (why a cost is NaN), audit (all results). Raises UserError where model
    and data cannot be loaded or do not fit.
    """
    progress = progress or Progress(plan.runtime.quiet)
    if plan.runtime.threads:
        torch.set_num_threads(plan.runtime.threads)
    leased = lease(devices_named(plan.runtime.device), plan.runtime.lease, progress.say)
    with heard_by(progress.say), leased as alone, precision(plan.protocol.dtype):
        progress.loading(plan.title, alone.device)
        try:
            stage = load_stage(plan, alone.device)
        except Exception as error:  # whatever it is, nothing can be checked
            raise UserError(f"{plan.title} could not be loaded: {one_line(error)}") from error
        progress.say(f"{len(plan.explainers)} explainers to check on {stage.count} samples")
        return pd.DataFrame(
            [
                {"model": plan.model.label, "dataset": plan.dataset.label, **row}
                for row in _audit_each(stage, plan.explainers, bool(alone), progress)
            ]
        )


def _audit_each(
    stage: Stage, explainers: Sequence[Chosen], alone: bool, progress: Progress
) -> Iterator[dict[str, Any]]:
    guard = ItemGuard(stage)
    number = 0  # an enumerate would keep one explainer's attributions while the next one is at work
    for chosen, outcome in explain_each(stage, explainers, guard, alone=alone, twice=True):
        number += 1
        row = outcome_row(outcome)
        del outcome  # only one explainer's attributions are in memory
        row = {"explainer": chosen.label, "caveat": chosen.entry.caveat, **row}
        words = "; ".join([row["status"].replace("_", " "), *filter(None, [row["error"]]), *row["flags"]])
        progress.say(f"{number:>3}/{len(explainers)}  {chosen.label:<24} {words}")
        yield row


def outcome_row(outcome: Explained | Failure) -> dict[str, Any]:
    """What became of one explainer: its status, error and flags, and what its self-checks found."""
    return _failure_row(outcome) if isinstance(outcome, Failure) else _audit_row(outcome)


def _failure_row(failure: Failure) -> dict[str, Any]:
    declined = isinstance(failure.error, NotApplicable)
    return {
        "status": "not_applicable" if declined else "failed",
        "error": one_line(failure.error),
        "flags": [],
        "model_changed": isinstance(failure.error, ModelChanged),
        "audit": {},
    }


def _audit_row(explained: Explained) -> dict[str, Any]:
    audit, costs = explained.audit.found, explained.costs
    mean = lambda name: float(torch.cat([getattr(cost, name) for cost in costs]).mean())
    alone = all(cost.alone for cost in costs)
    reasons = [] if alone else ["seconds are not measured: another run used the device"]
    reasons += list(dict.fromkeys(cost.reason for cost in costs if cost.reason))
    counts = audit.get("operations")
    operations = counts if isinstance(counts, Mapping) else {}
    return {
        "status": "ok",
        "error": "",
        "flags": explained.flags,
        "model_changed": False,
        "ruled": operations.get("ruled"),
        "unruled": operations.get("unruled"),
        "equal_to": (audit.get("equal_to") or {}).get("explainer"),
        **{name: _median_of(audit.get(name)) for name in ("completeness_error", "relevance_over_output")},
        **{name: audit.get(name) for name in ("alone_difference", "repeat_difference", "not_finite", "constant")},
        "convergence": (audit.get("convergence") or {}).get("mean"),
        "forwards": mean("forwards"),
        "backwards": mean("backwards"),
        "seconds": mean("seconds") if alone else float("nan"),
        "setup_seconds": mean("setup_seconds") if alone else float("nan"),
        "unmeasured": "; ".join(reasons),
        "audit": audit,
    }


def _median_of(spread: Any) -> float | None:
    return spread.get("median") if isinstance(spread, Mapping) else spread


def flagged(rows: pd.DataFrame) -> pd.Series:
    """Which explainers failed or have a flag (bool); rows of a library with a known caveat are not counted."""
    return ((rows["status"] == "failed") | rows["flags"].map(bool)) & (rows["caveat"] == "")
