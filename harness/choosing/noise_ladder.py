"""The degradation ladder: maps of an explainer, mixed with more and more noise."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from torch import Tensor, nn

from harness.choosing.headline import sign_of
from harness.choosing.measuring import Measuring, Part
from harness.engine.explain import Explaining
from harness.engine.selection import Chosen
from harness.randomness import normal
from harness.registry import Explainer
from harness.samples import Samples

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)  # the share of noise on each step of the ladder


def noise_ladder(
    measuring: Measuring, part: Part, table: pd.DataFrame, explainers: Mapping[str, Chosen], metric: Chosen
) -> np.ndarray:
    """The scores (n, levels) of the ladder: each half of the samples by the best explainer on the other half."""
    sign, scores = sign_of(metric), np.full((len(part), len(LEVELS)), np.nan)
    halves = half_of_each(len(part))
    for half in (0, 1):
        here, there = np.flatnonzero(halves == half), np.flatnonzero(halves != half)
        source = explainers[table.iloc[there].mean().idxmax()]
        steps = [mixed_with_noise(source, level) for level in LEVELS]
        own = Part(f"{part.name} ladder {metric.label} {half + 1}", tuple(part.rows[place] for place in here))
        measured = measuring.measure(own, steps, [metric])
        for number, step in enumerate(steps):
            values = measured.values.get((step.label, metric.label))
            if values is not None:
                scores[here, number] = sign * values
    return scores


def half_of_each(count: int) -> np.ndarray:
    """In which half each of so many samples is (count,)."""
    return np.arange(count) % 2


def mixed_with_noise(source: Chosen, level: float) -> Chosen:
    """An explainer: the maps of another, mixed with a share ``level`` of noise of the same size."""

    def noisy_maps(
        model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, source_of: str, noise: float
    ) -> Tensor:
        """Maps mixed with standard normal noise, the same draws at every level."""
        explaining = Explaining(source.entry, source.options, model, len(inputs))
        explaining.prepare(context)
        maps = context.units.reduce(explaining(context))
        size = maps.flatten(1).square().mean(1).sqrt().clamp_min(1e-30)
        maps = maps / size.view(-1, *[1] * (maps.dim() - 1))
        drawn = normal(context.stream("noisy ladder"), *context.units.shape).to(maps)
        return context.units.as_map((1 - noise) * maps + noise * drawn)

    options = {"source_of": source.label, "noise": level}
    entry = Explainer(
        "noisy", noisy_maps, options, access=source.entry.access, modalities=source.entry.modalities, control=False
    )
    return Chosen(f"{source.label} with {level:.0%} noise", entry, options)
