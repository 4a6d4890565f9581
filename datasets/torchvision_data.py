"""The data sets of torchvision, from files that are there already: nothing is ever downloaded."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.errors import UserError, one_line, unknown
from harness.registry import dataset
from harness.sources import Data

SPLITS = ("test", "train", "val")
UNCHECKED = ("LSUN", "LSUNClass")  # unpickle a file in their folder whose content nobody has checked


class Pictures(Sequence):
    """The images of a data set of (image, label) pairs, each made when it is asked for."""

    def __init__(self, pairs: Any) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        return self.pairs[index][0]


@dataset(
    modality="image", source="torchvision.datasets", licence="of the set", samples="of the set", classes="of the set"
)
def torchvision(*, which: str | None = None, root: str | None = None, split: str = "test") -> Data:
    """A classification set of torchvision such as MNIST, CIFAR10, ImageFolder or FakeData, from files on this machine.

    ``which`` is its name in ``torchvision.datasets`` and ``root`` the folder it is given there; ``split`` is test,
    train or val, for sets that are divided. Items are PIL images. Labels are those that the set keeps beside its
    images, or are read image by image where it keeps none. FakeData needs no root: 1,000 noise images of ten classes.
    torchvision unpickles the batches of CIFAR10 and CIFAR100, after it has checked that their MD5 is the published one.

    UserError, with one line, for an unknown set or split, files that are not there (nothing is downloaded), and a set
    whose labels are not classes.
    """
    pairs = _opened(which, root, split)
    if len(pairs) == 0:
        raise UserError(f"torchvision's {which} holds no image under root {root!r}")
    return Data(
        ids=[f"{which}_{number}" for number in range(len(pairs))],
        items=Pictures(pairs),
        labels=_labels(which, pairs),
        modality="image",
        classes=_classes(pairs),
    )


def _opened(which: str | None, root: str | None, split: str) -> Any:
    from torchvision import datasets as sets

    kinds = {name: getattr(sets, name) for name in sets.__all__}
    names = [name for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, sets.VisionDataset)]
    if which in UNCHECKED:
        raise UserError(f"torchvision's {which} unpickles a file in its folder, which could run code; it is not read")
    if which not in names:
        raise unknown("torchvision data set (which=)", which, names)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    make = getattr(sets, which)
    taken = inspect.signature(make).parameters
    given = {"download": False, "root": root, "split": split, "train": split == "train"}
    if "train" in taken and "split" not in taken and split == "val":
        raise UserError(f"torchvision's {which} has no split val, only test and train")
    if "root" in taken and root is None and which != "FakeData":
        raise UserError(f"torchvision's {which} needs root=FOLDER, the folder its files lie in")
    try:
        return make(**{name: value for name, value in given.items() if name in taken})
    except (RuntimeError, OSError, ValueError, TypeError, ImportError) as error:
        raise UserError(
            f"torchvision has no {which} ({split}) under root {root!r}: {_said(error)}; put there what "
            f"torchvision.datasets.{which} expects, nothing is downloaded"
        ) from None


def _labels(which: str, pairs: Any) -> Tensor:
    kept = getattr(pairs, "targets", getattr(pairs, "labels", None))
    labels = (
        kept if kept is not None and len(kept) == len(pairs) else [pairs[number][1] for number in range(len(pairs))]
    )
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)
    if found.shape != (len(pairs),) or found.is_floating_point():
        raise UserError(f"the labels of torchvision's {which} are {labels[0]!r:.60}, ..., expected one class per image")
    return found.long()


def _classes(pairs: Any) -> tuple[str, ...] | None:
    """The names of the classes, where the set tells them; of several names for one class the first."""
    names = getattr(pairs, "classes", None)
    return None if names is None else tuple(str(name if isinstance(name, str) else name[0]) for name in names)


def _said(error: Exception) -> str:
    return one_line(error).replace(" You can use download=True to download it", "")[:200]
