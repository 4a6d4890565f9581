"""Ranks of explainers on tables and Friedman's test over tables: the seeds of a net are averaged, as they are no
tables."""

import numpy as np
import pandas as pd

from harness.reproducing.studies.beexai.released import HIGHER
from harness.reproducing.studies.beexai.scores import EXPLAINERS_OF_PAPER

DRAWS_OF_TEST = 20_000  # of Friedman's test
MIDDLE = (len(EXPLAINERS_OF_PAPER) + 1) / 2


def ranks_by_table(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The ranks (tables, explainers) by a metric, 1 is best: ranks on each net, averaged over the seeds of a table.

    Ties share their mean rank. A score that is not defined has the last place. Nets on which none is defined are left
    out, and so are tables without any net.
    """
    own = scores[(scores["metric"] == metric) & scores["explainer"].isin(EXPLAINERS_OF_PAPER)]
    values = own.pivot(index=["table", "seed"], columns="explainer", values="value").reindex(
        columns=EXPLAINERS_OF_PAPER
    )
    values = values.dropna(how="all")
    ranks = values.rank(axis=1, ascending=metric not in HIGHER, na_option="bottom")
    return ranks.groupby(level="table", sort=False).mean()


def friedman_p(ranks: np.ndarray, seed: int = 0) -> float:
    """The p-value of Friedman's test of ranks (tables, explainers), by permuting the ranks of each table by itself."""
    centred = ranks - ranks.mean(1, keepdims=True)
    draw = np.random.default_rng(seed)
    statistic = lambda drawn: (drawn.sum(-2) ** 2).sum(-1)
    permuted = draw.permuted(np.broadcast_to(centred, (DRAWS_OF_TEST, *ranks.shape)), axis=2)
    return float((1 + (statistic(permuted) >= statistic(centred) - 1e-9).sum()) / (DRAWS_OF_TEST + 1))
