"""The loaded model and data of which views are drawn, and the folder of the pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.engine.sample_words import names_of_columns
from harness.engine.selection import Chosen
from harness.engine.stage import Stage

DRAWN_SAMPLES = 3  # whose activations, attributions and interactions are drawn


@dataclass
class Scene:
    """A loaded model and data of which views are drawn.

    stage       model and data
    title       names both in a few words
    folder      of the pictures
    name        with which the names of their files begin
    explainers  of the plan
    layers      whose activations are drawn, or None to choose up to six
    scores      faithfulness scores of the run per sample of this model and data; empty if there is no run
    chosen      the explainer by whose score features are coloured, or None for the first that has one
    """

    stage: Stage
    title: str
    folder: Path
    name: str
    explainers: Sequence[Chosen]
    layers: Sequence[str] | None
    scores: pd.DataFrame
    chosen: str | None = None

    def path(self, kind: str) -> Path:
        """The file of a picture."""
        return self.folder / f"{self.name}-{kind.replace('/', '_')}.png"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the outputs: classes, or class 0, class 1, ..."""
        return tuple(names_of_columns(self.stage))

    @property
    def value_range(self) -> tuple[Any, Any]:
        """Lowest and highest value of an input, as tensors; None twice if not known."""
        known = self.stage.model.value_range or self.stage.data.value_range
        return (None, None) if known is None else tuple(torch.as_tensor(bound).float() for bound in known)

    def captions(self, count: int) -> list[str]:
        """A caption for each of the first samples: its name, and the predicted class where there are several."""
        names, several = self.class_names, self.stage.task.classed and self.stage.output_count > 1
        classes = [f" → {names[p]}" if several else "" for p in self.stage.predictions[:count].tolist()]
        return [f"{name}{predicted}" for name, predicted in zip(self.stage.data.ids[:count], classes, strict=True)]

    @property
    def drawn_range(self) -> tuple[Any, Any]:
        """``value_range`` as arrays."""
        return tuple(None if bound is None else bound.cpu().numpy() for bound in self.value_range)

    def drawable(self, inputs: Tensor) -> np.ndarray:
        """Inputs as they are drawn: series as (n, T, C), all others as they are."""
        values = inputs.detach().float().cpu().numpy()
        return values.transpose(0, 2, 1) if self.stage.units.modality == "series" else values
