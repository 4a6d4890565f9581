"""The data sets of torchvision, from files on this machine: nothing is downloaded."""

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from harness.errors import UserError, one_line, unknown
from harness.photographs import as_shown
from harness.registry import dataset
from harness.sources import Data

UNCHECKED = ("LSUN", "LSUNClass")  # they unpickle a file in their folder without checking it


class Pictures(Sequence):
    """The images of a data set of (image, label) pairs, each read when it is accessed, upright as viewers show it."""

    def __init__(self, pairs: Any) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        return as_shown(self.pairs[index][0])


@dataset(
    name="torchvision",
    modality="image",
    source="torchvision.datasets",
    licence="of the set",
    samples="of the set",
    classes="of the set",
)
def torchvision_set(
    *, which: str | None = None, root: str | None = None, split: Literal["test", "train", "val"] = "test"
) -> Data:
    """A classification set of torchvision such as MNIST, CIFAR10, ImageFolder or FakeData, from files on this machine.

    ``which`` is the name of the data set in ``torchvision.datasets`` and ``root`` the folder of its files. ``split`` is
    test, train or val, for data sets that are divided. Items are PIL images. Labels are the list of labels that the
    data set holds, or are read image by image where there is none. FakeData needs no root: it is 1,000 noise images of
    ten classes. torchvision unpickles the files of CIFAR10 and CIFAR100, after it has compared their MD5 with the
    published one.

    UserError for an unknown data set or split, for files that do not exist (nothing is downloaded), and for a data set
    whose labels are not classes.
    """
    pairs = _open_torchvision_set(which, root, split)
    if len(pairs) == 0:
        raise UserError(f"torchvision's {which} holds no image under root {root!r}")
    return Data(
        ids=[f"{which}_{number}" for number in range(len(pairs))],
        inputs=Pictures(pairs),
        labels=_class_of_images(which, pairs),
        modality="image",
        classes=_names_of_classes(pairs),
    )


def _open_torchvision_set(which: str | None, root: str | None, split: str) -> Any:
    from torchvision import datasets as sets

    kinds = {name: getattr(sets, name) for name in sets.__all__}
    names = [name for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, sets.VisionDataset)]
    if which in UNCHECKED:
        raise UserError(f"torchvision's {which} unpickles a file in its folder, which could run code; it is not read")
    if which not in names:
        raise unknown("torchvision data set (which=)", which, names)
    make = getattr(sets, which)
    taken = inspect.signature(make).parameters
    arguments = {"download": False, "root": root, "split": split, "train": split == "train"}
    if "train" in taken and "split" not in taken and split == "val":
        raise UserError(f"torchvision's {which} has no split val, only test and train")
    if "root" in taken and root is None and which != "FakeData":
        raise UserError(f"torchvision's {which} needs root=FOLDER, the folder its files lie in")
    try:
        return make(**{name: value for name, value in arguments.items() if name in taken})
    except (RuntimeError, OSError, ValueError, TypeError, ImportError) as error:
        raise UserError(
            f"torchvision has no {which} ({split}) under root {root!r}: {_without_download_hint(error)}; put there "
            f"what torchvision.datasets.{which} expects, nothing is downloaded"
        ) from None


def _class_of_images(which: str, pairs: Any) -> Tensor:
    labels = getattr(pairs, "targets", getattr(pairs, "labels", None))
    if labels is None or len(labels) != len(pairs):
        labels = [pairs[number][1] for number in range(len(pairs))]
    try:
        indices = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        indices = torch.empty(0)
    if indices.shape != (len(pairs),) or indices.is_floating_point():
        raise UserError(f"the labels of torchvision's {which} are {labels[0]!r:.60}, ..., expected one class per image")
    return indices.long()


def _names_of_classes(pairs: Any) -> tuple[str, ...] | None:
    """The names of the classes, or None where the data set has none; of several names for one class the first."""
    names = getattr(pairs, "classes", None)
    return None if names is None else tuple(str(name if isinstance(name, str) else name[0]) for name in names)


def _without_download_hint(error: Exception) -> str:
    return one_line(error).replace(" You can use download=True to download it", "")[:200]
