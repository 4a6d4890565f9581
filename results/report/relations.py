"""The sections on rankings: across blocks, between metrics, and against the number of samples."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from harness.results.agreement import as_square, metric_agreement
from harness.results.blocks import Across, across_blocks
from harness.results.matrices import Matrix
from harness.results.numbers import one_figure, significant
from harness.results.one_vote import one_vote, one_vote_notes, rank_as
from harness.results.reliability import RELIABLE_ALPHA, krippendorff_alpha, split_half, stability
from harness.results.report.blocks import ReportBlock
from harness.results.report.drawing import number
from harness.results.report.elements import Head, TableCell, folded, html_table, note
from harness.results.report.markup import Raw, tag
from harness.results.report.plots import critical_difference_plot, settling

MOST_METRICS = 12  # of a block whose agreement and stability are computed, in the leaderboard's order


def directed(block: ReportBlock) -> list[Matrix]:
    """The matrices of the first metrics that rank explainers by quality; costs are left out, for samples share a call's
    cost, and so are checks."""
    names = _that_rank(block)
    ordered = sorted(names, key=lambda m: m != block.headline)
    return [block.matrices[m] for m in ordered if block.matrices[m].values.shape[1] > 1][:MOST_METRICS]


def _that_rank(block: ReportBlock) -> list[str]:
    """The metrics with scores that rank explainers by quality."""
    ranks = ~block.about["kind"].isin(["cost", "check"])
    return [m for m in block.metrics if m in block.matrices and block.better(m) and ranks[m]]


def without_controls(block: ReportBlock) -> list[Matrix]:
    """The matrices of ``directed`` without controls, for all that is said of agreement: a control that is far behind by
    every metric and on every sample makes all of them look alike."""
    return [matrix.without(block.controls) for matrix in directed(block)]


def left_out(block: ReportBlock) -> str:
    """Which metrics ``directed`` leaves out for their number, in a sentence; "" where none."""
    able = _that_rank(block)
    shown = {matrix.names["metric"] for matrix in directed(block)}
    over = [m for m in able if m not in shown and block.matrices[m].values.shape[1] > 1]
    return f"The first {MOST_METRICS} of {len(able)} metrics; left out: {', '.join(over)}." if over else ""


def ranks_part(blocks: Sequence[ReportBlock]) -> Raw | None:
    """Mean ranks over blocks, with the critical difference where there are enough blocks; None for a single block."""
    latest = {(b.model, b.dataset, b.protocol): b for b in blocks}  # the last run that measured a block
    named = [_with_block_names(block, matrix) for block in latest.values() for matrix in directed(block)]
    found = across_blocks(named)
    if not found or len(latest) < 2:
        return None
    headlines = {block.headline for block in blocks}
    parts = [
        note(f"{one_vote(each.metric, each.ranks_as)}.")
        if each.ranks_as
        else folded(_across_title(each), _across_blocks_part(each), opened=each.metric in headlines)
        for each in found
    ]
    same = len(blocks) - len(latest)
    again = note(f"{same} blocks were measured by several runs; the last run counts.") if same else ""
    return tag("div", parts, again)


def _with_block_names(block: ReportBlock, matrix: Matrix) -> Matrix:
    return Matrix(
        {"model": block.model, "dataset": block.dataset, "protocol": block.protocol, **matrix.names},
        matrix.values,
        matrix.better,
    )


def _across_title(across: Across) -> str:
    if across.refused:
        return f"{across.metric}: {across.refused}"
    f, (first, second) = across.statistic, across.degrees
    return (
        f"{across.metric}: {len(across.ranks)} blocks, Iman-Davenport F({first}, {second}) = {number(f)}, "
        f"p = {number(across.p)}; critical difference {significant(across.critical)}"
    )


def _across_blocks_part(across: Across) -> Raw:
    fine = tag("p", f"Not ranked: {'; '.join(across.left_out)}.", class_="fine") if across.left_out else ""
    if not across.refused:
        return tag("div", tag("div", critical_difference_plot(across), class_="plot-box"), fine)
    rows = [[name, TableCell(f"{rank:.2f}", rank)] for name, rank in across.mean_ranks.items()]
    heads = [Head("explainer"), Head("mean rank ↓", True)]
    return tag("div", html_table(f"Mean ranks by {across.metric}", heads, rows), fine)


def not_compared(own: Sequence[Matrix]) -> str:
    """Which explainers have too few scores by a metric to be compared, in a sentence; "" where none."""
    named = [f"{', '.join(matrix.lacking)} by {matrix.names['metric']}" for matrix in own if matrix.lacking]
    return f"Not compared, for want of scores on nine tenths of the samples: {'; '.join(named)}." if named else ""


def agreement_part(block: ReportBlock) -> Raw | None:
    """Kendall's tau-b between the metrics' rankings, similar metrics side by side; those that rank identically by one
    of them. None where there is none: it takes two metrics with a direction that share two samples and three explainers
    that are no controls."""
    pairs = metric_agreement(without_controls(block))
    if pairs.empty:
        return None
    votes = pairs[pairs["note"] == ""]
    fine = [*(f"{text}." for text in pairs["note"] if text), not_compared(without_controls(block)), left_out(block)]
    return tag(
        "div",
        _square_of_taus(block, votes) if len(votes) else "",
        tag("p", "Controls are left out. ", " ".join(filter(None, fine)), class_="fine"),
    )


def _square_of_taus(block: ReportBlock, pairs: pd.DataFrame) -> Raw:
    names = _clustered(as_square(pairs))
    by = {frozenset((row["first"], row["second"])): row for row in pairs.to_dict("records")}
    rows = [[_metric_cell(block, a), *(_tau_cell(by.get(frozenset((a, b))), a == b) for b in names)] for a in names]
    heads = [Head("metric"), *(Head(name, True) for name in names)]
    return html_table(f"Kendall's tau-b between metrics, {block.heading}", heads, rows, classes="matrix")


def _clustered(square: pd.DataFrame) -> list[str]:
    """The metrics, similar ones side by side: leaves of average linkage over 1 - tau."""
    names = list(square)
    if len(names) < 3:
        return names
    distance = (1 - square.fillna(0).to_numpy()).clip(0, 2)
    np.fill_diagonal(distance, 0)
    return [names[place] for place in leaves_list(linkage(squareform(distance, checks=False), "average", True))]


def _metric_cell(block: ReportBlock, metric: str) -> TableCell:
    return TableCell(metric, metric, "", block.axis(metric))


def _tau_cell(row: dict | None, same: bool) -> TableCell:
    if same:
        return TableCell("1", 1.0, "tau same")
    if row is None or not np.isfinite(row["tau"]):
        return TableCell("–", None, "tau", "no tau: too few explainers in common, or all of them tied")
    tip = (
        f"{row['first']} and {row['second']}: tau-b {row['tau']:.2f} [{row['low']:.2f}, {row['high']:.2f}]\n"
        f"{row['explainers']} explainers, {row['n']} samples"
    )
    shown = [tag("span", f"{row['tau']:.2f}"), tag("span", f"[{row['low']:.2f}, {row['high']:.2f}]", class_="below")]
    step = min(4, round(abs(row["tau"]) * 4))
    return TableCell(shown, row["tau"], f"tau {'for' if row['tau'] > 0 else 'against'}-{step}", tip)


def stability_part(block: ReportBlock) -> Raw | None:
    """Per metric: how stable the ranking is as samples are added, and how far single samples agree; None without a
    metric that has a direction, two explainers that are no controls, and two samples on which all of them have a
    score. Explainers that lack the scores of more than a tenth of the samples are not compared."""
    compared = [(matrix, matrix.compared) for matrix in without_controls(block)]
    compared = [(whole, own) for whole, own in compared if own.values.shape[1] > 1 and len(own.complete) > 1]
    own = [matrix for _, matrix in compared]
    copies, same = one_vote_notes(own), rank_as(own)
    votes = [matrix for matrix, metric in zip(own, same, strict=True) if not metric]
    found = [(matrix.names["metric"], matrix, stability(matrix)) for matrix in votes]
    if not found:
        return None
    heads = [
        Head("metric"),
        Head("samples", True),
        Head("enough for the first", True, "samples, upper limit"),
        Head("alpha", True, "Krippendorff, ordinal"),
        Head("split-half", True, "Spearman"),
    ]
    rows = [_stability_row(*each) for each in found]
    plot = next(
        (_settling(settled.curve, metric, block) for metric, _, settled in found if metric == block.headline), ""
    )
    lacking = not_compared([whole for whole, _ in compared])
    fine = " ".join(filter(None, ["Controls are left out.", *(f"{text}." for text in copies), lacking]))
    table = html_table(f"Stability of rankings, {block.heading}", heads, rows)
    return tag("div", plot, table, tag("p", fine, class_="fine"))


def _settling(curve: pd.DataFrame, metric: str, block: ReportBlock) -> Raw:
    keys = [
        tag("span", words, class_=f"key {kind}")
        for kind, words in (("first", "the first stays first (share)"), ("second", "tau-b with the whole ranking"))
    ]
    title = tag("figcaption", f"Ranking by {metric}, 500 random draws of n samples")
    return tag(
        "figure", title, tag("p", keys, class_="legend"), settling(curve, metric, block.heading), class_="plot-box"
    )


def _stability_row(metric: str, matrix: Matrix, settled) -> list:
    count, alpha, half = len(matrix.complete), krippendorff_alpha(matrix.signed.to_numpy()), split_half(matrix)
    limit = one_figure(settled.enough) if settled.enough else None
    enough = (
        TableCell(f"{limit:,.0f}", limit, "", "with so many, the best comes first in 95 % of data sets")
        if limit
        else TableCell("not known", None, "", f"{count} samples do not show which explainer is the best")
    )
    low = np.isfinite(alpha) and alpha < RELIABLE_ALPHA
    tip = "single samples rank explainers differently: only the mean over the data set can be read" if low else ""
    return [
        metric,
        TableCell(count, count),
        enough,
        TableCell(number(alpha) + ("*" if low else ""), _or_none(alpha), "", tip),
        TableCell(number(half), _or_none(half)),
    ]


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
