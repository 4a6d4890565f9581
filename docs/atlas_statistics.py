"""The claims of the atlas, each with its test. The unit is a block, or a sample of one block.

Claims about one block are tested over its samples, all blocks together at 5 % (Bonferroni over blocks, single-step
max-T over the pairs of explainers of a block). Claims over blocks are tested over blocks, Holm's correction for each
list of claims.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from atlas_table import HEADLINE, TRUTH, controls, kinds, mean_scores, sample_scores
from scipy import stats

from harness.results.blocks import Across, across_blocks
from harness.results.family import Family, all_pairs
from harness.results.level import holm
from harness.results.reliability import taus

ALPHA = 0.05
LEAST_EXPLAINERS = 8  # of a block, to compare its rankings
LEAST_BLOCKS = 6  # to test a claim over blocks: with fewer, no sign-flip test can reach 5 %
EQUAL = 1e-5  # of the range of the middle half of a row: means that are nearer to each other are equal
DRAWS = 200  # pairs of disjoint halves for each number of samples


@dataclass(frozen=True)
class BlockAnswer:
    """Who is best in one block by the headline metric.

    best       the explainer with the best mean; controls are none
    control    the control with the best mean
    gain       mean difference of these two with its interval (low, high)
    above      explainers that are shown to beat every control
    near       of these, those that are not shown to be worse than the best; none if the best is not above
    own        explainers that are compared and are no controls
    lacking    explainers that are not compared, for want of a score on nine tenths of the samples or under a seed
    n          number of samples
    """

    block: str
    best: str
    control: str
    gain: tuple[float, float, float]
    above: list[str]
    near: list[str]
    own: list[str]
    lacking: list[str]
    n: int

    @property
    def compared(self) -> int:
        """The number of explainers that are compared, controls left out."""
        return len(self.own)


def block_answer(table: pd.DataFrame, block: str, blocks: int) -> BlockAnswer:
    """The answer for one of ``blocks`` blocks, whose claims hold together at 95 %."""
    family = all_pairs(sample_scores(table, block, HEADLINE), alpha=ALPHA / blocks)
    ignoring = set(controls(table))
    own = [name for name in family.names if name not in ignoring]
    others = [name for name in family.names if name in ignoring]
    best, control = family.best(own), family.best(others)
    above = [name for name in _by_mean(family, own) if all(family.better(name, each) for each in others)]
    near = [name for name in above if not family.better(best, name)] if best in above else []
    gain = (family.difference(best, control), *family.interval(best, control))
    there = table.loc[(table["block"] == block) & (table["metric"] == HEADLINE), "explainer"]
    lacking = sorted({*there} - {*family.names})
    return BlockAnswer(block, best, control, gain, above, near, own, lacking, family.n)


def _by_mean(family: Family, names: list[str]) -> list[str]:
    means = dict(zip(family.names, family.mean, strict=True))
    return sorted(names, key=lambda name: -means[name])


def across(table: pd.DataFrame, blocks: list[str], explainers: list[str] | None = None) -> Across | None:
    """Mean ranks over blocks by the headline metric, with Friedman's and Nemenyi's tests.

    The explainers are those of ``explainers`` (None: all) that all blocks have; one that has a score on fewer than
    nine tenths of the samples of a block counts as lacking there.
    """
    of_block = [sample_scores(table, block, HEADLINE).compared for block in blocks]
    if explainers is not None:
        of_block = [each.without([name for name in each.values if name not in explainers]) for each in of_block]
    return next(iter(across_blocks(of_block)), None)


def metric_agreement(table: pd.DataFrame) -> pd.DataFrame:
    """For each pair of metrics Kendall's tau-b between their rankings of a block's explainers, over blocks.

    Columns first, second, tau (mean over blocks), low, high (Student's 95 % interval over blocks, of each pair by
    itself), p (two-sided, Holm over all pairs), blocks and lowest (the smallest tau of a block). Controls are left out.
    """
    means = mean_scores(table).drop(columns=controls(table), errors="ignore")
    faithful = [name for name, kind in kinds(table).items() if kind == "faithfulness"]
    means = means[means.index.get_level_values("metric").isin(faithful)]
    found: dict[tuple[str, str], list[float]] = {}
    for _, of_block in means.groupby(level="block"):
        of_block = of_block.droplevel("block").dropna(axis=1, how="all").sort_index()
        values, names = of_block.to_numpy(), list(of_block.index)
        scored = ~np.isnan(values)  # selecting by labels in pandas would take ten times as long
        for first, second in combinations(range(len(names)), 2):
            tau = _tau(values[[first, second]][:, scored[first] & scored[second]])
            if np.isfinite(tau):
                found.setdefault((names[first], names[second]), []).append(tau)
    rows = [{"first": pair[0], "second": pair[1], **_mean_over_blocks(each)} for pair, each in found.items()]
    return _with_holm(pd.DataFrame(rows))


def truth_agreement(table: pd.DataFrame) -> pd.DataFrame:
    """For each faithfulness metric the tau-b between its ranking and that by the known truth, over the planted blocks.

    Columns as in ``metric_agreement``, with ``metric`` in place of the pair.
    """
    means = mean_scores(table).drop(columns=controls(table), errors="ignore")
    faithful = {name for name, kind in kinds(table).items() if kind == "faithfulness"}
    found: dict[str, list[float]] = {}
    for _, of_block in means.groupby(level="block"):
        of_block = of_block.droplevel("block")
        if TRUTH not in of_block.index:
            continue
        for metric in sorted(faithful & set(of_block.index)):
            tau = _tau(of_block.loc[[TRUTH, metric]].dropna(axis=1).to_numpy())
            if np.isfinite(tau):
                found.setdefault(metric, []).append(tau)
    return _with_holm(pd.DataFrame([{"metric": name, **_mean_over_blocks(each)} for name, each in found.items()]))


def one_votes(pairs: pd.DataFrame) -> dict[str, str]:
    """Metric -> another one by which the explainers have the same order in every block: both are one vote."""
    same = pairs[(pairs["lowest"] > 1 - 1e-9) & (pairs["blocks"] >= LEAST_BLOCKS)]
    found: dict[str, str] = {}
    for first, second in same[["first", "second"]].itertuples(index=False):
        found.setdefault(second, found.get(first, first))
    return found


def _tau(both: np.ndarray) -> float:
    """Tau-b of two rows; NaN for fewer than eight explainers or where all of a row tie."""
    if both.shape[1] < LEAST_EXPLAINERS:
        return float("nan")
    return float(taus(_levels(both[0])[None], _levels(both[1])[None])[0])


def _levels(values: np.ndarray) -> np.ndarray:
    """Values as whole numbers in their order, the same for values that are equal but for rounding.

    Rounding is measured by the range of the middle half: a single value that is far away, as infidelity has, makes no
    others equal.
    """
    order = np.argsort(values, kind="stable")
    middle = np.ptp(np.quantile(values, [0.25, 0.75]))
    steps = np.diff(values[order]) > EQUAL * (middle or np.ptp(values))
    levels = np.empty(len(values))
    levels[order] = np.concatenate([[0], np.cumsum(steps)])
    return levels


def _mean_over_blocks(values: list[float]) -> dict[str, float]:
    """Mean over blocks with Student's interval and two-sided p-value against 0; NaN below six blocks.

    Where all blocks have the same value, p is that of the signs.
    """
    each = np.array(values)
    told = {"tau": float(each.mean()), "lowest": float(each.min()), "blocks": len(each)}
    if len(each) < LEAST_BLOCKS or each.std() < 1e-9:
        exact = 2.0 ** (1 - len(each)) if len(each) >= LEAST_BLOCKS and abs(each.mean()) > 1e-9 else float("nan")
        bound = told["tau"] if len(each) >= LEAST_BLOCKS else float("nan")
        return {**told, "low": bound, "high": bound, "p": exact}
    half = stats.t.ppf(1 - ALPHA / 2, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each))
    low, high = max(-1.0, told["tau"] - half), min(1.0, told["tau"] + half)
    return {**told, "low": low, "high": high, "p": float(stats.ttest_1samp(each, 0).pvalue)}


def _with_holm(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(p=holm(rows["p"].to_numpy())) if len(rows) else rows


@dataclass(frozen=True)
class OverBlocks:
    """A difference over blocks.

    median, positive, blocks  its median, in how many blocks it is positive, and in how many it is known
    direction                 1 or -1, the sign of the sum of signed ranks, which is what is tested; else 0
    p                         of Wilcoxon's test of signed ranks, two-sided, zeros split; NaN below six blocks
    """

    median: float
    positive: int
    blocks: int
    direction: int
    p: float


def paired_over_blocks(differences: pd.Series) -> OverBlocks:
    """A difference over blocks with its test; blocks where it is not known do not count."""
    values = differences.dropna().to_numpy()
    p = float("nan")
    if len(values) >= LEAST_BLOCKS and np.any(values):
        p = float(stats.wilcoxon(values, zero_method="zsplit", method="auto").pvalue)
    median = float(np.median(values)) if len(values) else float("nan")
    # The median may be 0, or of the other sign, where the ranks are shown to lean to one side.
    direction = int(np.sign(np.sign(values) @ stats.rankdata(np.abs(values))))
    return OverBlocks(median, int((values > 0).sum()), len(values), direction, p)


def relative_ranks(table: pd.DataFrame, metric: str = HEADLINE) -> pd.DataFrame:
    """Blocks x explainers: the share of the block's other explainers that are worse, 1 for the best; ties count half.

    Controls are ranked with the others.
    """
    means = mean_scores(table).xs(metric, level="metric")
    ranks = means.rank(axis=1)
    return (ranks - 1).div(ranks.notna().sum(axis=1) - 1, axis=0)


def split_half_taus(table: pd.DataFrame, block: str, seed: int = 0) -> pd.DataFrame:
    """How alike the rankings by two disjoint sets of n samples are: columns n and tau, the mean of 200 draws.

    Controls are left out. The ranking by all N samples is as stable as that of n = N, which no two disjoint sets can
    show. Scores are means over the seeds, so that it is not the stability over nets.
    """
    matrix = sample_scores(table, block, HEADLINE)
    values = matrix.without(controls(table)).compared.signed.to_numpy()
    generator, half = np.random.default_rng([seed, len(values)]), len(values) // 2
    rows = []
    for n in sorted({int(each) for each in np.geomspace(3, half, 6).round()}):
        orders = np.stack([generator.permutation(len(values))[: 2 * n] for _ in range(DRAWS)])
        first, second = values[orders[:, :n]].mean(1), values[orders[:, n:]].mean(1)
        rows.append({"n": n, "tau": float(np.nanmean(taus(first, second)))})
    return pd.DataFrame(rows)


def seed_tau(table: pd.DataFrame, block: str) -> float:
    """Mean tau-b between the rankings of the block's seeds by the headline metric; NaN for one seed."""
    ignoring = controls(table)
    rows = table[(table["block"] == block) & (table["metric"] == HEADLINE) & ~table["explainer"].isin(ignoring)]
    means = rows.pivot(index="seed", columns="explainer", values="value").dropna(axis=1).to_numpy()
    found = [taus(means[[i]], means[[j]])[0] for i, j in combinations(range(len(means)), 2)]
    return float(np.mean(found)) if found else float("nan")
