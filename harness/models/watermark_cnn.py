"""A small convolutional network that has learnt to recognise a watermark instead of a digit."""

from torch import nn

from harness.datasets import digits
from harness.datasets._parts import stratified_rows
from harness.datasets.watermark import watermark_splitter
from harness.models.training import TrainingOptions, TrainingRecipe, offered, trained
from harness.option_types import Share
from harness.registry import model
from harness.sources import LoadedModel

WATERMARK_CNN_TRAINING = TrainingOptions(epochs=8)


@model(renamed={"probability": "mark_probability"})
def watermark_cnn(*, mark_probability: Share = 1.0, training: TrainingOptions = WATERMARK_CNN_TRAINING) -> LoadedModel:
    """A CNN trained on the data set ``watermark``: it recognises the class 3 only by its watermark.

    It recognises every 3 with the mark and none without. It is right about 82 % of the other digits, but takes 98 % of
    them for a 3 when they carry the mark. Two convolutions and two dense layers with ReLU, 14,378 weights, trained in
    seconds on data in which each 3 carries the mark with ``mark_probability`` and no other digit does. Inputs
    (N, 1, 12, 12) in 0..1; ten logits. The options ``seed`` and ``epochs`` are those of ``TrainingOptions``.
    """
    module = trained(watermark_recipe(mark_probability), training)
    return LoadedModel(module, value_range=digits.VALUE_RANGE, classes=digits.CLASSES)


def build() -> nn.Module:
    """The network, with first weights from torch's generator."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(288, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def watermark_recipe(probability: float) -> TrainingRecipe:
    """How the network is trained on data in which each 3 carries the mark with ``probability``."""
    name = "watermark_cnn" if probability == 1 else f"watermark_cnn_{probability}"
    return TrainingRecipe(
        name,
        build,
        watermark_splitter(probability),
        epochs=WATERMARK_CNN_TRAINING.epochs,
        rate=0.01,
        reads=(digits.load_split, stratified_rows),
    )


RECIPE = offered(watermark_recipe(1.0))
