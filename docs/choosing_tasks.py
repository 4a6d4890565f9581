"""Tasks with a planted truth, on which ``harness choose`` is proved: is the truly best explainer in the answer?

``tasks()`` returns them. Each is made from its seed alone, offline, in about a third of a second or less. The model is
the planted function itself, with weights set by hand, or a small net that was trained for a moment. The truth of a
sample is the exact Shapley value of the explained output of that very model (``choosing_terms.py``), against what the
metrics put in the place of a removed unit: the training mean of a table, an image's own mean.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import choosing_nets as nets
import choosing_worlds as worlds
import torch
from choosing_terms import CALIBRATION_ROWS, EASY_SPREAD, HARD_SPREAD, TRAINING_ROWS, World, finished
from torch import Generator, nn

import harness

SAMPLES = 400
WEAK_SPREAD, CONSTANT_SPREAD = 0.6, 0.02


@dataclass(frozen=True)
class Task:
    """A model and data for which an explainer has to be chosen.

    name       unique
    family     what the function is like
    kind       ``easy``, ``hard``, ``no_good_explainer`` or ``untrained``; pure noise is ``untrained`` too
    expected   ``answer``: real methods beat the controls and the model beats chance; ``none``: one of these is not so
    units      the number of columns or pixels
    seed       what all is drawn from, together with the name
    variant    what makes it hard or easy; a family has several
    outputs    1 for a number, else the number of classes
    samples    N
    """

    name: str
    family: str
    kind: str
    expected: str
    units: int
    seed: int
    variant: str
    outputs: int
    samples: int = SAMPLES

    def make(self) -> tuple[nn.Module, harness.Data]:
        """The model, in eval mode, and the data, the same each time."""
        draw = Generator().manual_seed(zlib.crc32(self.name.encode()))
        rows = CALIBRATION_ROWS + TRAINING_ROWS + self.samples
        plan = worlds.Plan(self.variant, self.units, rows, self.outputs)
        easy = self.kind in ("easy", "no_good_explainer")
        spread = {"weak": WEAK_SPREAD, "constant": CONSTANT_SPREAD}.get(
            self.variant, EASY_SPREAD if easy else HARD_SPREAD
        )
        with torch.no_grad():
            world = FAMILIES[self.family].build(plan, draw)
            return finished(world, draw, spread=spread, regression=self.outputs == 1, noisy=not easy)


@dataclass(frozen=True)
class Family:
    """How the tasks of a family are made.

    build      makes the world of a plan
    variants   variant -> kind of task
    units      the numbers of units, in turn
    outputs    the numbers of outputs, in turn
    count      how many tasks there are by default
    """

    build: Callable[[worlds.Plan, Generator], World]
    variants: Mapping[str, str]
    units: tuple[int, ...]
    outputs: tuple[int, ...] = (2, 2, 2, 1)
    count: int = 24

    def tasks(self, name: str, count: int, samples: int) -> Iterator[Task]:
        """``count`` tasks: the variants in turn; after each round of them, the next number of units."""
        variants = list(self.variants.items())
        for seed in range(count):
            turn, place = divmod(seed, len(variants))
            variant, kind = variants[place]
            units = SIZES.get((name, variant), self.units)
            units = units[(turn + place) % len(units)]
            outputs = OUTPUTS.get((name, variant), self.outputs)
            outputs = outputs[(turn + place) % len(outputs)]
            expected = "answer" if kind in ("easy", "hard") else "none"
            label = f"{name}-{variant}-{units}-{'number' if outputs == 1 else f'{outputs}classes'}-seed{seed}"
            yield Task(label, name, kind, expected, units, seed, variant, outputs, samples)


def _kinds(easy: str = "", hard: str = "", **others: str) -> dict[str, str]:
    kinds = {"easy": easy, "hard": hard, **others}
    return {variant: kind for kind, names in kinds.items() for variant in names.split()}


WIDE = (4, 8, 16, 32, 64, 128, 256)
FAMILIES = {
    "linear": Family(
        worlds.linear,
        _kinds("independent uniform", "noise_columns correlated redundant shifted weak"),
        WIDE,
        count=24,
    ),
    "additive": Family(
        worlds.additive,
        _kinds("smooth uniform", "curved steps saturated correlated redundant noise_columns shifted"),
        WIDE,
        count=24,
    ),
    "interactions": Family(
        worlds.interactions,
        _kinds("main_effects minima", "products chain triples correlated noise_columns"),
        (8, 16, 32, 64, 128),
        count=24,
    ),
    "logic": Family(
        worlds.logic, _kinds("and_or", "xor mixed levels wide_or noise_columns"), (8, 16, 32, 64, 12), count=24
    ),
    "causal": Family(worlds.causal, _kinds("linear", "nonlinear network"), (8, 16, 32, 64), count=18),
    "cnn": Family(
        worlds.cnn, _kinds("patterns", "faint distractors max_pooled four_classes"), (64, 144, 256), count=20
    ),
    "trained": Family(
        nets.trained, _kinds("plain smooth", "products deep correlated overfitted"), (4, 6, 8, 10), count=24
    ),
    "opaque": Family(
        nets.opaque,
        _kinds("", "chaotic magnitude", no_good_explainer="parity hash copies image_hash"),
        (16, 64, 128, 32),
        (2,),
        count=24,
    ),
    "untrained": Family(nets.untrained, _kinds(untrained="mlp deep_mlp cnn"), (6, 8, 32, 64), (2, 2, 3), count=24),
    "noise": Family(nets.noise, _kinds(untrained="memorised linear constant filters"), (6, 8, 32, 64), (2,), count=20),
}
# Where a variant needs other numbers of units or outputs than its family.
SIZES = {
    ("interactions", "triples"): (9, 18, 36, 60),
    ("causal", "network"): (7,),
    ("logic", "levels"): (10, 20, 40),
    ("cnn", "four_classes"): (64, 144),
    ("opaque", "hash"): (64, 128, 256),
    ("opaque", "image_hash"): (64, 144, 256),
    ("opaque", "chaotic"): (6, 8),
    ("untrained", "cnn"): (64, 144),
    ("noise", "filters"): (64, 144),
}
OUTPUTS = {("cnn", "four_classes"): (4,)}


def tasks(counts: Mapping[str, int] | None = None, *, samples: int = SAMPLES) -> list[Task]:
    """All tasks, or another number of those of some families; ``samples`` is N."""
    counts = {name: family.count for name, family in FAMILIES.items()} | dict(counts or {})
    return [task for name, count in counts.items() for task in FAMILIES[name].tasks(name, count, samples)]


def truth_metric(task: Task) -> str | None:
    """The metric by which an explainer is truly best; None where the right attribution is not known, or is flat."""
    flat = task.kind == "no_good_explainer"
    large = task.units > nets.MOST_ENUMERATED and task.variant not in ("cnn", "filters", "linear")
    return None if flat or (task.kind == "untrained" and large) else "truth_correlation"
