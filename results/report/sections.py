"""The sections of the page that consist of text and tables: answer, sanity, groups, failures."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from harness.results.answer import Answer
from harness.results.footnotes import flag_list
from harness.results.numbers import significant
from harness.results.report.blocks import ReportBlock
from harness.results.report.drawing import number
from harness.results.report.elements import Head, TableCell, folded, html_table, note
from harness.results.report.gains import gains_part
from harness.results.report.markup import Raw, tag
from harness.results.subgroups import disparity, divisions

SETTLED = ("label", "correct")  # divisions that every data set with labels has; those of the data itself are added
LEAST_IN_GROUP = 30


def answer_part(block: ReportBlock, answer: Answer, *, several: bool) -> Raw:
    """A block's answer: the first sentence in large letters, the others, the first table, and the reasons folded."""
    reasons = tag("ul", [tag("li", text) for text in answer.details])
    told = tag(
        "article",
        tag("h3", answer.heading) if several else "",
        tag("p", answer.sentences[0], class_="answer"),
        tag("p", " ".join(answer.sentences[1:])) if answer.sentences[1:] else "",
        folded("Reasons", reasons) if answer.details else "",
        class_="verdict" + ("" if answer.verdict.choices else " none"),
    )
    return tag("div", told, gains_part(block, answer), class_="block", data_block=block.key)


def sanity_part(block: ReportBlock) -> Raw | None:
    """Verdicts of the checks, and what the audit flagged; None where there is neither."""
    done, flagged, parts = block.checked[block.checked["verdict"] != "not done"], _flags(block), []
    if not done.empty:
        checks = [c for c in dict.fromkeys(done["check"]) if c != "overall"] + ["overall"]
        by = {(row["explainer"], row["check"]): row for row in block.checked.to_dict("records")}
        explainers = list(dict.fromkeys(block.cells.set_index("label").loc[block.explainers, "explainer"]))
        rows = [[name, *(_verdict_cell(by.get((name, check))) for check in checks)] for name in explainers]
        parts.append(html_table(f"Sanity of {block.heading}", [Head("explainer"), *map(Head, checks)], rows))
        parts.append(flagged or note("The audit flagged nothing."))
    return tag("div", parts or flagged) if parts or flagged else None


def _verdict_cell(row: dict | None) -> TableCell:
    if row is None:
        return TableCell("·")
    interval = (
        f"{number(row['value'])} [{number(row['ci_low'])}, {number(row['ci_high'])}], bound {number(row['bound'])}"
    )
    shown = [tag("span", {"pass": "✓ ", "fail": "✗ "}.get(row["verdict"], ""), aria_hidden="true"), row["verdict"]]
    tip = "\n".join(text for text in (interval if np.isfinite(row["value"]) else "", row["reason"]) if text)
    return TableCell(shown, row["verdict"], f"is-{row['verdict'].replace(' ', '-')}", tip)


def _flags(block: ReportBlock) -> Raw | None:
    carried = defaultdict(set)
    for flags, label in zip(block.cells["flags"], block.cells["label"], strict=True):
        for flag in flag_list(flags):
            carried[flag].add(label)
    if not carried:
        return None
    rows = [[flag, ", ".join(sorted(labels))] for flag, labels in carried.items()]
    return html_table(f"Audit flags of {block.heading}", [Head("flag"), Head("explainers")], rows)


def groups_part(block: ReportBlock) -> Raw | None:
    """Gaps of the headline metric between groups of samples, for every division that has groups large enough; None
    where there is none."""
    if block.headline is None:
        return None
    scores = block.scores[block.scores["metric"] == block.headline].drop(columns=["model", "dataset", "cell"])
    own = [by for by in divisions(scores) if by in SETTLED or by not in ("target", "prediction")]
    parts, bare = [], []
    for by in own:
        rows = [row for row in disparity(scores, by, least=LEAST_IN_GROUP).to_dict("records") if row["groups"] > 1]
        (parts if rows else bare).append(_gap_table(block, by, rows) if rows else by)
    if bare and parts:
        parts.append(
            note(f"By {', '.join(bare)}: fewer than two groups of {LEAST_IN_GROUP} samples, so no gap is computed.")
        )
    return tag("div", parts) if parts else None


def _gap_table(block: ReportBlock, by: str, rows: Sequence[dict]) -> Raw:
    heads = [
        Head("explainer"),
        Head("gap", True, block.unit(block.headline)),
        Head("95 % interval", True),
        Head("p", True),
        Head("worst group"),
        Head("best group"),
        Head("groups", True),
        Head("samples", True),
    ]
    shown = [_gap_row(row) for row in sorted(rows, key=lambda row: -row["gap"])]
    return html_table(f"Gaps of {block.headline} by {by}, {block.heading}", heads, shown)


def _gap_row(row: dict) -> list:
    interval = f"[{number(row['gap_low'])}, {number(row['gap_high'])}]"
    small = f"too small: {row['small']}" if row["small"] else ""
    return [
        row["explainer"],
        TableCell(number(row["gap"]), row["gap"]),
        TableCell(interval, row["gap_low"]),
        TableCell(number(row["p"]), row["p"]),
        _group_with_mean(row["worst"], row["worst_mean"]),
        _group_with_mean(row["best"], row["best_mean"]),
        TableCell(row["groups"], row["groups"]),
        TableCell(row["n"], row["n"], "", small),
    ]


def _group_with_mean(name: object, mean: float) -> str:
    return "–" if name is None else f"{name} ({significant(mean)})"


def failures_part(block: ReportBlock) -> Raw | None:
    """What has no score, and why: one row per reason; None where all have one."""
    rows = failures(block)
    if not rows:
        return None
    heads = [Head("what"), Head("cells", True), Head("explainers"), Head("metrics"), Head("reason")]
    shown = [
        [
            row["what"],
            TableCell(row["cells"], row["cells"]),
            row["explainers"],
            row["metrics"],
            TableCell(row["reason"], row["reason"], "reason"),
        ]
        for row in rows
    ]
    return html_table(f"Failures and skips of {block.heading}", heads, shown)


def failures(block: ReportBlock) -> list[dict]:
    """One row per reason: what, cells, explainers, metrics, reason; failures first."""
    by_reason = defaultdict(list)
    for row in block.cells.to_dict("records"):
        reason = str(row["error"] or "")
        if row["status"] != "ok":
            stage = f" at stage {row['stage']}" if isinstance(row["stage"], str) and row["stage"] else ""
            what = {"failed": f"failed{stage}", "not_applicable": "not applicable"}.get(
                row["status"], str(row["status"])
            )
            by_reason[what, reason or "no reason given"].append(row)
        elif row["n_invalid"]:
            by_reason["samples without a score", reason or "no reason given"].append(row)
    order = sorted(by_reason.items(), key=lambda item: (not item[0][0].startswith("failed"), item[0]))
    return [
        {
            "what": what,
            "cells": len(rows),
            "explainers": ", ".join(dict.fromkeys(map(_explainer_with_count, rows))),
            "metrics": ", ".join(dict.fromkeys(row["metric"] for row in rows)),
            "reason": reason,
        }
        for (what, reason), rows in order
    ]


def _explainer_with_count(row: dict) -> str:
    total = int(row["n"] + row["n_invalid"]) if row["status"] == "ok" else 0
    return f"{row['label']} ({int(row['n_invalid'])} of {total})" if total else str(row["label"])
