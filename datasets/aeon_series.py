"""Labelled time series that come with aeon: a country's power demand, and movements recorded by a smart watch."""

from typing import Literal

import torch
from torch import Tensor

from harness.assets import Wheel, read_members
from harness.datasets._parts import part_of
from harness.registry import dataset
from harness.sources import Data

AEON = Wheel("aeon-1.6.0-py3-none-any.whl", "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409")
ORDER_SEED = 0  # of a random order: the files are sorted by class, and the first samples should be of all classes
SEASONS = {"1": "October to March", "2": "April to September"}
MOTIONS = {name: name.lower() for name in ("Standing", "Running", "Walking", "Badminton")}

SeriesParts = dict[str, tuple[Tensor, Tensor, list[int]]]


@dataset(
    modality="series",
    source="Keogh et al. 2006 (UCR archive ItalyPowerDemand), as aeon 1.6.0 ships it",
    licence="not stated in the files; aeon, which ships them, is under BSD-3-Clause",
    samples="67 to train, 1,029 to test",
    classes="winter half-year, summer half-year",
)
def italy_power_demand(*, split: Literal["test", "train"] = "test") -> Data:
    """1,096 days of Italy's demand for electric power, hour by hour, from October to March or from April to September
    (UCR archive; Dau et al. 2019, arXiv 1810.07758).

    Items (1, 24), standardised by mean and standard deviation of the training part. ``split`` is ``test`` or ``train``,
    as the archive divides them: the part whose samples are explained. Baselines draw from the training part in either
    case. The samples are in a fixed random order. The data are fetched once (6 MB).
    """
    return _series_data("italy_power_demand", split, load_italy_power_demand(), tuple(SEASONS.values()))


@dataset(
    modality="series",
    source="Clements et al. (UEA archive BasicMotions), as aeon 1.6.0 ships it",
    licence="not stated in the files; aeon, which ships them, is under BSD-3-Clause",
    samples="40 to train, 40 to test",
    classes="standing, running, walking, badminton",
)
def basic_motions(*, split: Literal["test", "train"] = "test") -> Data:
    """80 recordings of a smart watch, three axes of acceleration and three of rotation, during four activities (UEA
    archive; Bagnall et al. 2018, arXiv 1811.00075).

    Items (6, 100): ten seconds at 10 Hz, every channel standardised by mean and standard deviation of the training
    part. ``split`` is ``test`` or ``train``, as the archive divides them: the part whose samples are explained.
    Baselines draw from the training part in either case. The samples are in a fixed random order. The data are fetched
    once (6 MB).
    """
    return _series_data("basic_motions", split, load_basic_motions(), tuple(MOTIONS.values()))


def load_italy_power_demand() -> SeriesParts:
    """``train`` and ``test`` -> inputs (N, 1, 24), labels (N,), rows of the file."""
    return _standardised_parts("ItalyPowerDemand", tuple(SEASONS))


def load_basic_motions() -> SeriesParts:
    """``train`` and ``test`` -> inputs (N, 6, 100), labels (N,), rows of the file."""
    return _standardised_parts("BasicMotions", tuple(MOTIONS))


def _series_data(name: str, split: str, parts: SeriesParts, classes: tuple[str, ...]) -> Data:
    inputs, labels, rows = part_of(name, parts, split)
    train, train_labels, _ = parts["train"]
    return Data(
        ids=[f"{split}_{row:04}" for row in rows],
        inputs=inputs,
        labels=labels,
        modality="series",
        classes=classes,
        train=train,
        train_labels=train_labels,
    )


def _standardised_parts(name: str, classes: tuple[str, ...]) -> SeriesParts:
    files = read_members(AEON, f"aeon/datasets/data/{name}/{name}_T*.ts")
    parts = {part.lower(): _parsed_series(_content_of(files, f"{part}.ts"), classes) for part in ("TRAIN", "TEST")}
    train = parts["train"][0]
    centre, spread = train.mean((0, 2), keepdim=True), train.std((0, 2), keepdim=True)
    return {part: ((inputs - centre) / spread, *others) for part, (inputs, *others) in parts.items()}


def _content_of(files: dict[str, bytes], ending: str) -> str:
    return next(content for name, content in files.items() if name.endswith(ending)).decode()


def _parsed_series(text: str, classes: tuple[str, ...]) -> tuple[Tensor, Tensor, list[int]]:
    """Series (N, C, T), labels (N,) and row numbers of a .ts file, in a random order.

    The file has one line per series: the channels and then the class, separated by colons; the numbers of a channel are
    separated by commas.
    """
    lines = [line.split(":") for line in text[text.index("@data") :].splitlines()[1:] if line.strip()]
    series = torch.tensor([[[float(number) for number in each.split(",")] for each in line[:-1]] for line in lines])
    labels = torch.tensor([classes.index(line[-1].strip()) for line in lines])
    order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(ORDER_SEED))
    return series[order], labels[order], order.tolist()
