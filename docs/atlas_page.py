"""The page of the atlas: its tables and sentences, each claim with its test."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from atlas_questions import Answered
from atlas_statistics import BlockAnswer
from atlas_table import HEADLINE, VERDICT
from pages import as_table

from harness.results.blocks import Across
from harness.results.numbers import significant

MOST_NAMED = 6
MOST_PAIRS = 12
LEAST_P = 1e-4  # smaller p-values of so few blocks would say more of the test's model than of the blocks


def block_rows(table: pd.DataFrame, about: pd.DataFrame) -> str:
    """What each block is, and how much was measured there."""
    rows = []
    for block, of_block in table[table["kind"] != VERDICT].groupby("block"):
        own = of_block.loc[~of_block["control"], "explainer"].nunique()
        seeds = ", ".join(map(str, sorted(of_block["seed"].unique())))
        samples = int(of_block.loc[of_block["metric"] == HEADLINE, "n"].max())
        each = about.loc[block]
        metrics = of_block["metric"].nunique()
        rows.append((block, each["modality"], each["about"], samples, seeds, own, metrics))
    return as_table(("block", "modality", "model and data", "samples", "seeds", "explainers", "metrics"), rows)


def best_rows(answers: Sequence[BlockAnswer]) -> str:
    """Who is best in each block."""
    rows = []
    for each in answers:
        gain, low, high = each.gain
        as_good = [name for name in each.near if name != each.best]
        told = _some(as_good) if each.near else "-"
        interval = f"{significant(gain)} [{significant(low)}, {significant(high)}]"
        above = f"{len(each.above)} of {each.compared}"
        best = f"**{each.best}**" if each.near else f"{each.best} (not shown to beat {each.control})"
        rows.append((each.block, best, f"{interval} over {each.control}", told or "none", above))
    heads = ("block", "best by srg", "gain over the best control", "not shown to be worse", "beat every control")
    return as_table(heads, rows)


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def best_words(answers: Sequence[BlockAnswer]) -> str:
    """How often an explainer is the best or as good, over the blocks."""
    shown = [each for each in answers if each.near]
    among = Counter(name for each in shown for name in each.near)
    having = Counter(name for each in shown for name in each.own)
    bests = Counter(each.best for each in shown)
    first = "; ".join(f"{name} in {count}" for name, count in bests.most_common(5))
    near = "; ".join(f"{name} in {count} of {having[name]}" for name, count in among.most_common(8))
    none = [each.block for each in answers if not each.near]
    silent = f" In {_in_words(none)} the best explainer is not shown to beat every control." if none else ""
    lacking = "; ".join(f"{', '.join(each.lacking)} in {each.block}" for each in answers if each.lacking)
    return (
        f"In {len(shown)} of {len(answers)} blocks the best explainer is shown to beat every control.{silent} The best "
        f"mean has, in these {len(shown)} blocks: {first}. Beat every control and are not shown to be worse than the "
        f"best, in how many of these blocks that have them: {near}."
        + (f" Not compared, for want of scores: {lacking}." if lacking else "")
    )


def _in_words(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def rank_words(found: dict[str, Across], ignoring: Sequence[str]) -> str:
    """What Friedman's and Nemenyi's tests say, overall and for each modality."""
    return "\n".join(f"- {name}: {_of_ranks(each, ignoring)}" for name, each in found.items())


def _of_ranks(across: Across, ignoring: Sequence[str]) -> str:
    ranks = across.mean_ranks
    first = ", ".join(f"{name} ({rank:.1f})" for name, rank in ranks[:5].items())
    words = f"{len(across.ranks)} blocks, {len(ranks)} explainers; the best mean ranks: {first}."
    if across.refused:
        return f"{words} No test: {across.refused}."
    own = ranks[[name for name in ranks.index if name not in ignoring]]
    others = ranks[[name for name in ranks.index if name in ignoring]]
    beat = [name for name, rank in own.items() if rank + across.critical < others.min()]
    told = f"{_some(beat)}" if beat else "none"
    return (
        f"{words} Friedman's test: p {_p_in_words(across.p)}; critical difference {across.critical:.1f}. Shown to have "
        f"a better mean rank than the best control, {others.idxmin()} ({others.min():.1f}): {told}."
    )


def agreement_words(pairs: pd.DataFrame, same: dict[str, str], of_kept: pd.DataFrame) -> str:
    """Which metrics agree, which rank alike, and which contradict each other; ``of_kept`` are the pairs without the
    blocks that share a model or a data set with another one."""
    known, kept = (_of_different_votes(each, same) for each in (pairs, of_kept))
    votes = "; ".join(f"{name} as {other}" for name, other in sorted(same.items()))
    agree, against, of_pairs = _shown_pairs(known)
    fewer_agree, fewer_against, of_fewer = _shown_pairs(kept)
    return (
        f"Of {of_pairs} pairs of metrics {agree} are shown to agree (tau-b above 0), {against} to contradict each "
        f"other, and for {of_pairs - agree - against} neither is shown (Holm over all pairs, those that are one vote "
        f"too). The median tau-b is {known['tau'].median():.2f}. Without the blocks that share a kind of model or a "
        f"data set with another one, {fewer_agree} of {of_fewer} are shown to agree and {fewer_against} to contradict "
        f"each other." + (f" Rank identically in every block: {votes}." if votes else "")
    )


def _shown_pairs(known: pd.DataFrame) -> tuple[int, int, int]:
    """How many pairs are shown to agree, how many to contradict each other, and how many there are."""
    shown = known["p"] <= 0.05
    return int((shown & (known["tau"] > 0)).sum()), int((shown & (known["tau"] < 0)).sum()), len(known)


def _of_different_votes(pairs: pd.DataFrame, same: dict[str, str]) -> pd.DataFrame:
    """The tested pairs without the second of two metrics that are one vote."""
    if pairs.empty:
        return pd.DataFrame({"tau": [], "p": []})
    return pairs[np.isfinite(pairs["p"]) & ~pairs["first"].isin(same) & ~pairs["second"].isin(same)]


def pair_rows(pairs: pd.DataFrame, same: dict[str, str]) -> str:
    """The pairs that agree most and least, of those that do not rank identically."""
    known = _of_different_votes(pairs, same).sort_values("tau", ascending=False)
    ends = pd.concat([known.head(MOST_PAIRS // 2), known.tail(MOST_PAIRS)])
    rows = [(row.first, row.second, *_tau_cells(row)) for row in ends.itertuples()]
    return as_table(("metric", "metric", "tau-b", "lowest block", "blocks", "p (Holm)"), rows)


def truth_rows(agreement: pd.DataFrame) -> str:
    """How far the ranking by each faithfulness metric is that by the known truth."""
    ordered = agreement.sort_values("tau", ascending=False)
    rows = [(row.metric, *_tau_cells(row)) for row in ordered.itertuples()]
    return as_table(("metric", "tau-b with the truth", "lowest block", "blocks", "p (Holm)"), rows)


def _tau_cells(row) -> tuple[str, ...]:
    interval = f" [{row.low:.2f}, {row.high:.2f}]" if np.isfinite(row.low) else ""
    return f"{row.tau:.2f}{interval}", f"{row.lowest:.2f}", str(row.blocks), _p_in_words(row.p)


def _p_in_words(p: float) -> str:
    if not np.isfinite(p):
        return "not tested"
    return f"{p:.2g}" if p >= LEAST_P else f"below {LEAST_P:.4f}"


def question_rows(found: Sequence[Answered]) -> str:
    """The questions and their answers."""
    rows = [
        (
            each.question,
            each.words,
            f"{each.quantity}: median {each.median:+.2f}",
            f"{each.positive} of {each.blocks}",
            _p_in_words(each.p),
        )
        for each in found
    ]
    return as_table(("question", "answer", "quantity", "positive in", "p (Holm)"), rows)


def kin_words(found: Sequence[Answered], of_kept: Sequence[Answered], left_out: Sequence[str]) -> str:
    """Whether the answers stay without the blocks that share a model or a data set with another one."""
    if not left_out:
        return ""
    changed = [
        f"{whole.question} ({few.words}, p {_p_in_words(few.p)})"
        for whole, few in zip(found, of_kept, strict=True)
        if whole.words != few.words
    ]
    told = f"these answers change: {'; '.join(changed)}" if changed else "no answer changes"
    return f"Without {_in_words(left_out)}, which share a kind of model or a data set with another block, {told}."


def cost_rows(table: pd.DataFrame) -> str:
    """Passes per sample: the median over blocks, the smallest and the largest."""
    passes = table[table["metric"].isin(["forward_passes", "backward_passes"]) & ~table["control"]]
    wide = passes.pivot_table(index=["explainer", "block"], columns="metric", values="value").reset_index()
    rows = []
    for name, each in wide.groupby("explainer"):
        both = each["forward_passes"] + each["backward_passes"]
        rows.append(
            (both.median(), (name, *(_spread(each[kind]) for kind in ("forward_passes", "backward_passes")), len(each)))
        )
    return as_table(
        ("explainer", "forward passes", "backward passes", "blocks"),
        [row for _, row in sorted(rows, key=lambda r: (r[0], r[1]))],
    )


def _spread(values: pd.Series) -> str:
    low, middle, high = values.min(), values.median(), values.max()
    return f"{middle:,.0f}" if high - low < 0.5 else f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def sanity_rows(verdicts: pd.DataFrame, ignoring: Sequence[str], names: Sequence[str]) -> str:
    """In how many blocks each explainer passes and fails the sanity checks; those that fail most come first.

    ``names`` are all blocks, of which some may not have been checked.
    """
    counts = pd.DataFrame({word: (verdicts == word).sum(axis=1) for word in ("fail", "undecided", "pass")})
    counts = counts.sort_values(["fail", "pass"], ascending=[False, True], kind="stable")
    rows = [(f"{name} (control)" if name in ignoring else name, *map(int, each)) for name, each in counts.iterrows()]
    blind = counts[counts.index.isin(ignoring)].sum()
    words = (
        f"Controls, which do not look at the model, fail in {int(blind['fail'])} of {int(blind.sum())} cases and pass "
        f"in {int(blind['pass'])}."
    )
    unchecked = [name for name in names if name not in verdicts]
    words = f"{len(names) - len(unchecked)} of {len(names)} blocks were checked" + (
        f", and not {', '.join(unchecked)}. {words}" if unchecked else f". {words}"
    )
    return f"{words}\n\n{as_table(('explainer', 'fails', 'undecided', 'passes'), rows)}"


def stability_rows(curves: dict[str, pd.DataFrame], by_seed: dict[str, float]) -> str:
    """Agreement of disjoint halves of the samples, and of seeds, in each block."""
    rows = []
    for block, curve in sorted(curves.items()):
        last = curve.iloc[-1]
        seeds = f"{by_seed[block]:.2f}" if np.isfinite(by_seed[block]) else "one seed"
        rows.append((block, int(last["n"]), f"{last['tau']:.2f}", seeds))
    return as_table(("block", "samples in each half", "tau-b of the halves", "tau-b of two seeds"), rows)


def failed_rows(table: pd.DataFrame) -> str:
    """Cells that failed, by explainer and reason."""
    failed = table[table["failed"].notna()]
    if failed.empty:
        return "No cell failed."
    rows = [
        (name, ", ".join(sorted(each["block"].unique())), each["metric"].nunique(), reason[:160].replace("|", "\\|"))
        for (name, reason), each in failed.groupby(["explainer", "failed"])
    ]
    return as_table(("explainer", "blocks", "metrics", "reason"), rows)
