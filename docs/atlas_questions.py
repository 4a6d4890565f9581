"""Questions that the atlas was asked before its numbers were looked at, each with its test over blocks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from atlas_statistics import holm, paired_over_blocks, relative_ranks
from atlas_table import controls, mean_scores
from scipy import stats

COST = "forward_passes", "backward_passes"
# The control is picked by the scores that are tested: it is above the median even where all maps are noise. So a yes is
# never shown. A no errs on the safe side.
BEST_CONTROL = "Is the best control better than the median explainer?"
# First, second: does the first have the better place by the headline metric?
PAIRS = (
    ("input_x_gradient", "gradient", "Does multiplying by the input help the gradient?"),
    ("gradient", "saliency", "Does the gradient lose by taking absolute values (saliency)?"),
    ("smoothgrad", "gradient", "Does SmoothGrad improve the gradient?"),
    ("integrated_gradients", "input_x_gradient", "Do integrated gradients improve input times gradient?"),
    ("deep_lift", "input_x_gradient", "Does DeepLIFT improve input times gradient?"),
    ("guided_backprop", "gradient", "Does guided backpropagation improve the gradient?"),
    ("kernel_shap", "lime", "Is KernelSHAP better than LIME?"),
    ("shapley_sampling", "occlusion", "Are Shapley values by sampling better than occlusion?"),
    ("occlusion", "integrated_gradients", "Is occlusion better than integrated gradients?"),
    ("kernel_shap", "integrated_gradients", "Is KernelSHAP better than integrated gradients?"),
)


@dataclass(frozen=True)
class Answered:
    """A question with its answer: the median over blocks, in how many of them the quantity is positive, p (Holm).

    ``direction`` is the sign of what is tested, the sum of signed ranks.
    """

    question: str
    quantity: str
    median: float
    positive: int
    blocks: int
    direction: int
    p: float

    @property
    def words(self) -> str:
        """``yes``, ``no`` (the opposite is shown) or ``not shown``."""
        if not self.p <= 0.05 or (self.question == BEST_CONTROL and self.direction > 0):
            return "not shown"
        return "yes" if self.direction > 0 else "no, the opposite"


def answered(table: pd.DataFrame) -> list[Answered]:
    """All questions; the p-values hold together (Holm)."""
    places = relative_ranks(table)
    asked: list[tuple[str, str, pd.Series]] = [
        (question, f"place of {first} less place of {second}", _difference(places, first, second))
        for first, second, question in PAIRS
    ]
    asked += [(question, quantity, of_blocks(table, places)) for question, quantity, of_blocks in OTHERS]
    found = [paired_over_blocks(values) for *_, values in asked]
    adjusted = holm(np.array([each.p for each in found]))
    return [
        Answered(question, quantity, each.median, each.positive, each.blocks, each.direction, float(p))
        for (question, quantity, _), each, p in zip(asked, found, adjusted, strict=True)
    ]


def _difference(places: pd.DataFrame, first: str, second: str) -> pd.Series:
    if first not in places or second not in places:
        return pd.Series(dtype="float64")
    return places[first] - places[second]


def _cost_and_place(table: pd.DataFrame, places: pd.DataFrame) -> pd.Series:
    """Spearman's correlation between passes per sample and place, in each block, of explainers that are no controls."""
    costs = mean_scores(table)[lambda rows: rows.index.get_level_values("metric").isin(COST)]
    passes = -costs.groupby("block").sum(min_count=len(COST))  # a cost that was not measured is not 0
    own = [name for name in places if name not in controls(table)]
    found = {}
    for block in places.index.intersection(passes.index):
        both = pd.DataFrame({"place": places.loc[block, own], "passes": passes.loc[block].reindex(own)}).dropna()
        found[block] = stats.spearmanr(both["place"], both["passes"]).statistic
    return pd.Series(found, dtype="float64")


def _best_control_and_half(table: pd.DataFrame, places: pd.DataFrame) -> pd.Series:
    """The place of the best control less the median place of the explainers that look at the model."""
    ignoring = [name for name in places if name in controls(table)]
    return places[ignoring].max(axis=1) - places.drop(columns=ignoring).median(axis=1)


def _magnitude_and_random(_: pd.DataFrame, places: pd.DataFrame) -> pd.Series:
    return _difference(places, "input_magnitude", "random")


OTHERS: tuple[tuple[str, str, Callable[[pd.DataFrame, pd.DataFrame], pd.Series]], ...] = (
    ("Are dearer explainers better?", "Spearman's rho of passes and place", _cost_and_place),
    (
        BEST_CONTROL,
        "place of the best control less the median place",
        _best_control_and_half,
    ),
    (
        "Is the size of the input a better map than noise?",
        "place of input_magnitude less place of random",
        _magnitude_and_random,
    ),
)
