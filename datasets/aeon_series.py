"""Time series with labels, which come with aeon: a country's power demand, and movements of a wrist."""

import torch
from torch import Tensor

from harness.assets import Wheel, read_members
from harness.datasets._parts import part_of
from harness.registry import dataset
from harness.sources import Data

AEON = Wheel("aeon-1.6.0-py3-none-any.whl", "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409")
ORDER_SEED = 0  # the files are sorted by class; the first samples should not be
SEASONS = {"1": "October to March", "2": "April to September"}
MOTIONS = {name: name.lower() for name in ("Standing", "Running", "Walking", "Badminton")}

Parts = dict[str, tuple[Tensor, Tensor, list[int]]]


@dataset(
    modality="series",
    source="Keogh et al. 2006 (UCR archive ItalyPowerDemand), as aeon 1.6.0 ships it",
    licence="BSD-3-Clause (aeon's); the archive names none",
    samples="67 to train, 1,029 to test",
    classes="winter half-year, summer half-year",
)
def italy_power_demand(*, split: str = "test") -> Data:
    """1,096 days of Italy's demand for electric power, hour by hour, from October to March or from April to September
    (UCR archive; Dau et al. 2019, arXiv 1810.07758).

    Items (1, 24), standardised by mean and deviation of the training part. ``split`` is ``test`` or ``train``, as the
    archive divides them; the training part serves baselines either way. The order is drawn once. Fetched once (6 MB).
    """
    return _data("italy_power_demand", split, load_italy_power_demand(), tuple(SEASONS.values()))


@dataset(
    modality="series",
    source="Clements et al. (UEA archive BasicMotions), as aeon 1.6.0 ships it",
    licence="BSD-3-Clause (aeon's); the archive names none",
    samples="40 to train, 40 to test",
    classes="standing, running, walking, badminton",
)
def basic_motions(*, split: str = "test") -> Data:
    """80 recordings of a smart watch, three axes of acceleration and three of rotation, during four activities (UEA
    archive; Bagnall et al. 2018, arXiv 1811.00075).

    Items (6, 100): ten seconds at 10 Hz, every channel standardised by mean and deviation of the training part.
    ``split`` is ``test`` or ``train``, as the archive divides them; the training part serves baselines either way. The
    order is drawn once. Fetched once (6 MB).
    """
    return _data("basic_motions", split, load_basic_motions(), tuple(MOTIONS.values()))


def load_italy_power_demand() -> Parts:
    """``train`` and ``test`` -> inputs (N, 1, 24), labels (N,), rows of the file."""
    return _load("ItalyPowerDemand", tuple(SEASONS))


def load_basic_motions() -> Parts:
    """``train`` and ``test`` -> inputs (N, 6, 100), labels (N,), rows of the file."""
    return _load("BasicMotions", tuple(MOTIONS))


def _data(name: str, split: str, parts: Parts, classes: tuple[str, ...]) -> Data:
    inputs, labels, rows = part_of(name, parts, split)
    train, train_labels, _ = parts["train"]
    return Data(
        ids=[f"{split}_{row:04}" for row in rows],
        items=inputs,
        labels=labels,
        modality="series",
        classes=classes,
        train=train,
        train_labels=train_labels,
    )


def _load(name: str, classes: tuple[str, ...]) -> Parts:
    files = read_members(AEON, f"aeon/datasets/data/{name}/{name}_T*.ts")
    parts = {part.lower(): _read(_ending(files, f"{part}.ts"), classes) for part in ("TRAIN", "TEST")}
    train = parts["train"][0]
    centre, spread = train.mean((0, 2), keepdim=True), train.std((0, 2), keepdim=True)
    return {part: ((inputs - centre) / spread, *others) for part, (inputs, *others) in parts.items()}


def _ending(files: dict[str, bytes], ending: str) -> str:
    return next(content for name, content in files.items() if name.endswith(ending)).decode()


def _read(text: str, classes: tuple[str, ...]) -> tuple[Tensor, Tensor, list[int]]:
    """Series (N, C, T), labels (N,) and rows in the order drawn, of a file with a line per series: its channels, each
    its numbers with commas, and its class, with colons between them."""
    lines = [line.split(":") for line in text[text.index("@data") :].splitlines()[1:] if line.strip()]
    series = torch.tensor([[[float(number) for number in each.split(",")] for each in line[:-1]] for line in lines])
    labels = torch.tensor([classes.index(line[-1].strip()) for line in lines])
    order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(ORDER_SEED))
    return series[order], labels[order], order.tolist()
