"""TCAV scores: how often a class's logit grows towards a concept, and whether that differs from chance."""

from math import comb

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import NotApplicable, UserError
from harness.explainers._at_layer import MapLayer, mapped
from harness.explainers._cavs import standing_in
from harness.explainers._concepts import RANDOM
from harness.explainers._tabular import check_rows, checked_labels, drawn_rows
from harness.predictor import UNDECIDED, predicted_class
from harness.samples import Samples


def tcav_scores(
    model: nn.Module, context: Samples, layer: MapLayer, vectors: dict[str, Tensor], labels: str, rows: int
) -> pd.DataFrame:
    """TCAV scores of every concept, class and run, with p corrected for the number of concepts: one row each."""
    positive, count = _positive_shares(model, context, layer, vectors, labels, rows)
    frames = []
    for number, total in enumerate(count.tolist()):
        if total:
            scores = {name: shares[number].cpu().numpy() for name, shares in positive.items()}
            frames.append(_significance(scores).assign(**{"class": number, "images": int(total)}))
    return pd.concat(frames, ignore_index=True)[["concept", "class", "run", "score", "p", "images"]]


def _positive_shares(
    model: nn.Module, context: Samples, layer: MapLayer, vectors: dict[str, Tensor], labels: str, rows: int
) -> tuple[dict[str, Tensor], Tensor]:
    """For each concept the share of a class's training images with S > 0, (classes, runs), and their number (classes,).

    S is that of the logit of the image's class: one forward and one backward pass per image.
    """
    chosen = drawn_rows(len(context.train), rows, context.seed).to(context.train.device)
    directions = torch.cat(list(vectors.values())).flatten(1)
    positive, count = [], []
    for some in chosen.split(max(1, context.predictor.chunk)):
        inputs = context.train[some].to(context.inputs)
        classes, outputs = _classes_of_images(context, inputs, some, labels)
        of_some = classes.clamp(min=0)
        slopes = mapped(model, layer, standing_in(context, inputs), lambda _, g: g.flatten(1) @ directions.T, of_some)
        if not slopes.isfinite().all():
            raise UserError("the gradients of the model's outputs for train hold NaN or infinite values")
        members = F.one_hot(of_some, outputs).double() * (classes != UNDECIDED)[:, None]
        positive.append(members.T @ (slopes > 0).double())
        count.append(members.sum(0))
    total = torch.stack(count).sum(0)
    if not total.any():
        raise NotApplicable("the model decides for no class on any training image: its outputs are all the same")
    shares = torch.stack(positive).sum(0) / total.clamp(min=1)[:, None]
    return dict(zip(vectors, shares.split(len(directions) // len(vectors), 1), strict=True)), total


def _classes_of_images(context: Samples, inputs: Tensor, rows: Tensor, labels: str) -> tuple[Tensor, int]:
    """The class of each training image numbered ``rows``, on the device, and the number of classes.

    ``UNDECIDED`` where the model predicts none; UserError for outputs that are not finite, whatever the labels are.
    """
    logits = context.predictor.logits(inputs).view(len(rows), -1)
    check_rows(inputs, logits)
    if labels == "predicted" or logits.shape[1] == 1:
        return predicted_class(logits), logits.shape[1]
    if context.train_labels is None:
        raise NotApplicable(
            "labels=label needs the labels of the training inputs, the data has none (give train_labels=)"
        )
    chosen = context.train_labels.to(rows.device)[rows]
    return checked_labels(chosen, logits.shape[1]).to(logits.device), logits.shape[1]


def _significance(scores: dict[str, np.ndarray]) -> pd.DataFrame:
    """Rows (concept, run, score, p) of one class, from scores (runs,) by concept; RANDOM has no p."""
    names = [name for name in scores if name != RANDOM]
    p = dict(zip(names, holm_corrected([two_sided_p(scores[name], scores[RANDOM]) for name in names]), strict=True))
    rows = [(name, run, score, p.get(name, np.nan)) for name in scores for run, score in enumerate(scores[name])]
    return pd.DataFrame(rows, columns=["concept", "run", "score", "p"])


def two_sided_p(scores: np.ndarray, others: np.ndarray) -> float:
    """p of Welch's t-test that two samples have equal means, but at least that of a permutation test.

    The smallest p of a two-sided permutation test is 2 / (n + m over n). With this bound, scores without any spread do
    not get p = 0.
    """
    from scipy.stats import ttest_ind_from_stats

    rarest = 2 / comb(len(scores) + len(others), len(scores))
    if scores.std() == 0 and others.std() == 0:
        return 1.0 if scores[0] == others[0] else rarest
    moments = [part for each in (scores, others) for part in (each.mean(), each.std(ddof=1), len(each))]
    return max(rarest, float(ttest_ind_from_stats(*moments, equal_var=False).pvalue))


def holm_corrected(values: list[float]) -> list[float]:
    """Holm's (1979) corrected p values, in the order given."""
    order = np.argsort(values, kind="stable")
    corrected = np.maximum.accumulate(np.asarray(values)[order] * np.arange(len(values), 0, -1)).clip(max=1)
    return corrected[np.argsort(order)].tolist()


def most_significant(scores: pd.DataFrame) -> str:
    """The concept with the smallest p in any class; of several, the one whose mean score is farthest from 1/2."""
    means = scores[scores.concept != RANDOM].groupby(["concept", "class"], sort=False)[["p", "score"]].mean()
    means["far"] = -(means.score - 0.5).abs()
    return str(means.sort_values(["p", "far"], kind="stable").index[0][0])
