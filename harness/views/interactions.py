"""The view of interactions: for each of the first samples a matrix of pairs, and the strongest pairs in words."""

from pathlib import Path

import torch

from harness.engine.explain import Explaining
from harness.engine.interactions import Interactions, interactions_of, pair_in_words
from harness.engine.selection import Chosen
from harness.errors import NotApplicable, one_line
from harness.guards import isolated_randomness
from harness.messages import say
from harness.views.scene import DRAWN_SAMPLES, Scene

TOLD_PAIRS = 5


def view_interactions(scene: Scene) -> list[Path]:
    """Matrices of the first samples by every chosen explainer that computes interactions of pairs."""
    chosen = [each for each in scene.explainers if each.entry.pairs]
    if not chosen:
        raise NotApplicable("no explainer of pairs was chosen (explainer=interactions)")
    paths, reasons = [], []
    for each in chosen:
        try:
            paths += _draw(scene, each.label, _interactions(scene, each))
        except NotApplicable as error:
            reasons.append(f"{each.label}: {one_line(error)}")
    if not paths:
        raise NotApplicable("; ".join(reasons))
    for reason in reasons:
        say(f"the view of interactions leaves out {reason}")
    return paths


def _interactions(scene: Scene, chosen: Chosen) -> Interactions:
    stage = scene.stage
    _, samples = next(stage.chunks())
    samples = samples.take(torch.arange(min(DRAWN_SAMPLES, stage.count), device=stage.device))
    with isolated_randomness(stage.device):
        explaining = Explaining(chosen.entry, chosen.options, stage.module, stage.protocol.explain_batch)
        explaining.prepare(samples)
        return interactions_of(stage, samples, explaining)


def _draw(scene: Scene, label: str, found: Interactions) -> list[Path]:
    from harness.results.interactions import draw_interactions

    paths = []
    for row, caption in enumerate(scene.captions(len(found.ids))):
        pairs = [pair_in_words(*pair) for pair in found.strongest(row, TOLD_PAIRS)]
        say(f"{label} on {found.ids[row]}: {'; '.join(pairs) or 'no pairs'}")
        paths += draw_interactions(
            scene.path(f"interactions-{label}-{found.ids[row]}"),
            found.values[row].cpu().numpy(),
            found.units[row],
            pairs,
            title=f"{scene.title}: {caption}, {label}",
        )
    return paths
