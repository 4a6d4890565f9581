"""A batch of samples with results that depend on samples and model, but not on an explainer.

Explainers receive it as ``context``, metrics as ``batch.samples``. Each result is computed once and shared by them all.
"""

from collections.abc import Callable, Hashable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.adapted_model import OTHER_POSITIONS
from harness.facts import Facts
from harness.messages import once_for_all
from harness.predictor import Carried, Predictor, averaged, pick
from harness.removal.background import Background
from harness.removal.baselines import make_baseline
from harness.removal.infilling import infill, is_infilling
from harness.removal.originals import Originals
from harness.removal.segments import Segments, make_segments
from harness.task import Task
from harness.units import gather_segments

MOST_ROWS = 2**20  # tracked at once over a background: bounds the memory at 12 MB


class KeepsOutputs(Protocol):
    """A cache of model outputs on disk (``harness.engine.output_cache``)."""

    def load_or_make(self, samples: "Samples", key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """The cached tracked outputs for ``key``; if there are none, the result of ``compute()``."""


@dataclass
class Samples(Originals):
    """Inputs (N, ...) with their targets (N,) and their model, on the model's device.

    ``harness.removal.originals.Originals`` describes the fields that need no model. The others are:

    targets         (N,) the explained class of each sample
    predictor       calls the model
    labels          (N,) the label of each sample in the data, or None; the explained class may be another one
    train_labels    labels (R,) of the training inputs: class indices, or numbers if the model has a single output; or
                    None
    unit_names      names of the units (the columns of a table), or None
    masks           (N, *units) bool, True on the object, or None
    truth           (N, *units) float, the true attribution for each sample's label, or None
    places          (N,) the index of each sample in the data set
    ids             the names of all samples of the data set, indexed by ``places``, or None
    memo            results for these samples, stored until the block ends
    output_cache    disk cache of tracked outputs that do not depend on attributions, or None
    facts           collects the facts that an explainer reports, or None
    present         (N, T) bool, False where a position is no unit (padding, special tokens), or None if all are units
    carried         what goes to the model with each sample and is not explained: name -> (N, ...)
    """

    targets: Tensor
    predictor: Predictor
    labels: Tensor | None = field(default=None, kw_only=True)
    train_labels: Tensor | None = field(default=None, kw_only=True)
    unit_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    masks: Tensor | None = field(default=None, kw_only=True)
    truth: Tensor | None = field(default=None, kw_only=True)
    places: Tensor | None = field(default=None, kw_only=True)
    ids: Sequence[str] | None = field(default=None, kw_only=True)
    memo: MutableMapping[Hashable, Any] = field(default_factory=dict, kw_only=True)
    output_cache: KeepsOutputs | None = field(default=None, kw_only=True)
    facts: Facts | None = field(default=None, kw_only=True)
    present: Tensor | None = field(default=None, kw_only=True)
    carried: Carried = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.places is None:
            self.places = torch.arange(len(self.inputs), device=self.inputs.device)

    def shared(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The result of ``compute()``, called once per block and shared by all explainers and metrics with this key."""
        if key not in self.memo:
            with once_for_all(key):
                self.memo[key] = compute()
        return self.memo[key]

    def outputs(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Tracked outputs that do not depend on attributions: ``shared``, and cached on disk if the run asks for it.

        ``key`` must hold every option that the outputs depend on. Samples, seed, model and code need not be in it.
        """
        cache = self.output_cache
        return self.shared(key, compute if cache is None else lambda: cache.load_or_make(self, key, compute))

    def tell(self, **facts: Any) -> None:
        """Report facts about an explainer's work (``harness.facts``): a tensor (N,) is one number per sample."""
        if self.facts is not None:
            self.facts.tell(facts)

    def tell_pairs(self, interactions: Tensor, segments: Segments) -> None:
        """Report the interactions (N, K, K) of these segments, whose row sums are the attributions."""
        if self.facts is not None and self.facts.pairs is not None:
            self.facts.pairs.append((self.places, segments.labels, interactions))

    def baseline(self, chosen: str | Tensor, draw: int = 0) -> Tensor:
        """The baseline (N, ...) of a name, or from a tensor; ``draw`` is the number of the draw of a random one.

        Raises NotApplicable for a name of ``harness.removal.infilling``: such a baseline depends on the units that
        remain and is no fixed tensor.
        """
        if isinstance(chosen, Tensor):
            return make_baseline(self, chosen)
        key = ("baseline", chosen, draw)
        if key not in self.scratch:
            self.scratch[key] = make_baseline(self, chosen, draw)
        return self.scratch[key]

    def segments(self, spec: str | Tensor) -> Segments:
        """The segments that ``spec`` names (``harness.removal.segments``)."""
        if isinstance(spec, Tensor):
            return make_segments(self, spec)
        return self.shared(("segments", spec), lambda: make_segments(self, spec))

    def clean(self, score: str = "output") -> Tensor:
        """The score (N,) of the unperturbed inputs."""
        return pick(self.intact(), score)

    def intact(self) -> Tensor:
        """Tracked outputs (N, 3) of the unperturbed inputs."""
        return self.outputs("clean", lambda: self.track(1, lambda sample, draw: self.inputs[sample]))[:, 0]

    def emptied(self, baseline: str | Tensor | Background, draw: int = 0) -> Tensor:
        """Tracked outputs (N, 3) with every unit removed, which are those of the baseline."""
        nothing = lambda sample, _: self.inputs.new_zeros(len(sample), *self.units.shape, dtype=torch.bool)
        return self.shared(("emptied", baseline, draw), lambda: self.masked(1, nothing, baseline, draw))[:, 0]

    def track(self, draws: int, build: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Tracked outputs (N, draws, 3) of the inputs that ``build(sample, draw)`` makes.

        ``sample`` and ``draw`` are index vectors (rows,) of equal length; ``build`` returns inputs (rows, ...).
        """
        sample = torch.arange(len(self), device=self.inputs.device).repeat_interleave(draws)
        return self.track_rows(sample, lambda rows: build(rows // draws, rows % draws)).view(len(self), draws, -1)

    def track_rows(self, sample: Tensor, build: Callable[[Tensor], Tensor]) -> Tensor:
        """Tracked outputs (rows, 3) of the inputs that ``build(rows)`` makes of the samples ``sample`` (rows,)."""
        of_rows = lambda rows: {name: values[sample[rows]] for name, values in self.carried.items()}
        return self.predictor.track(len(sample), build, self.targets[sample], of_rows if self.carried else None)

    def model_outputs(self, inputs: Tensor | None = None, sample: Tensor | None = None) -> Tensor:
        """The model's outputs (rows, K) or (rows,) for the samples, or for other inputs (rows, ...) made of them.

        ``sample`` (rows,) says which sample each input was made of; by default the samples in their order.
        """
        rows = slice(None) if sample is None else sample
        carried = {name: values[rows] for name, values in self.carried.items()}
        return self.predictor.logits(self.inputs if inputs is None else inputs, carried)

    @property
    def ragged(self) -> bool:
        """Whether samples of the data differ in their number of units, as texts of different length do."""
        return OTHER_POSITIONS in self.carried

    @property
    def task(self) -> Task:
        """The task of the model."""
        return self.predictor.task

    def remover(self, baseline: str | Tensor, draw: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
        """A function ``remove(sample, kept)`` that returns inputs (rows, ...) with some units removed.

        ``sample`` (rows,) are indices of samples. ``kept`` (rows, *units) is bool, True where the unit stays, or a
        weight in [0, 1] that mixes the input with the baseline. ``draw`` is the number of a random baseline's draw.
        """
        filling = is_infilling(baseline)
        removed = None if filling else self.baseline(baseline, draw)

        def remove(sample: Tensor, kept: Tensor) -> Tensor:
            kept = self.units.expand(kept)
            if filling:
                return infill(self.joint(), baseline, sample, kept, draw)
            return _blend(kept, self.inputs[sample], removed[sample])

        return remove

    def masked(
        self,
        draws: int,
        keep: Callable[[Tensor, Tensor], Tensor],
        baseline: str | Tensor | Background,
        imputation: int = 0,
    ) -> Tensor:
        """Tracked outputs (N, draws, 3) of inputs with some units removed, averaged over a background if it is one.

        ``keep(sample, draw)`` returns ``kept`` of ``remover``: (rows, *units), True where the unit stays, or a weight.
        """
        if isinstance(baseline, Background):
            return self._over_background(draws, keep, baseline.inputs(self))
        remove = self.remover(baseline, imputation)
        return self.track(draws, lambda sample, draw: remove(sample, keep(sample, draw)))

    def _over_background(self, draws: int, keep: Callable[[Tensor, Tensor], Tensor], background: Tensor) -> Tensor:
        """Tracked outputs (N, draws, 3), the means over a background (R, ...) in the place of the removed units."""
        count, means = len(background), []
        for some in torch.arange(draws, device=self.inputs.device).split(max(1, MOST_ROWS // (len(self) * count))):

            def build(sample: Tensor, draw: Tensor, some: Tensor = some) -> Tensor:
                # What is kept is the same for neighbouring rows, which differ in the background alone.
                pairs, pair = torch.unique_consecutive(sample * len(some) + draw // count, return_inverse=True)
                kept = self.units.expand(keep(pairs // len(some), some[pairs % len(some)]))[pair]
                return _blend(kept, self.inputs[sample], background[draw % count])

            tracked = self.track(len(some) * count, build)
            means.append(averaged(tracked.view(len(self), len(some), count, -1), 2))
        return torch.cat(means, 1)

    def coalitions(self, masks: Tensor, segments: Segments, baseline: str | Tensor | Background) -> Tensor:
        """Tracked outputs (N, M, 3) of inputs that keep the segments where ``masks`` (N or 1, M, K), bool, is True."""
        own = len(masks) > 1 or len(self) == 1

        def keep(sample: Tensor, draw: Tensor) -> Tensor:
            return gather_segments(masks[sample if own else torch.zeros_like(sample), draw], segments.labels[sample])

        return self.masked(masks.shape[1], keep, baseline)

    def take(self, rows: Tensor) -> "Samples":
        """The samples with these indices, without stored results."""
        return self.with_inputs(self.inputs[rows], rows)

    def with_inputs(self, inputs: Tensor, rows: Tensor) -> "Samples":
        """Samples with other inputs (M, ...) and the targets, labels and random keys of the samples ``rows`` (M,)."""
        pick_rows = lambda values: None if values is None else values[rows]
        return replace(
            self,
            inputs=inputs,
            targets=self.targets[rows],
            keys=self.keys[rows],
            labels=pick_rows(self.labels),
            masks=pick_rows(self.masks),
            truth=pick_rows(self.truth),
            given_segments=pick_rows(self.given_segments),
            present=pick_rows(self.present),
            places=self.places[rows],
            carried={name: values[rows] for name, values in self.carried.items()},
            memo={},
            scratch={},
        )

    def other_inputs(
        self, inputs: Tensor, targets: Tensor, *, labels: Tensor | None = None, keys: Tensor | None = None
    ) -> "Samples":
        """Inputs (M, ...) that are none of the samples, such as training inputs, for the same model and protocol."""
        return replace(
            self,
            inputs=inputs,
            targets=targets,
            labels=labels,
            keys=keys,
            masks=None,
            truth=None,
            given_segments=None,
            places=None,
            present=None,
            carried={},
            memo={},
            scratch={},
            facts=None,
            output_cache=None,
        )

    def live(self) -> "Samples":
        """The same samples with the model itself in place of its scoring copy, and without stored results.

        Facts are not collected: they describe the scored attributions and not those that a metric computes itself.
        """
        return replace(self, predictor=self.predictor.live(), memo={}, facts=None, output_cache=None)

    def joint(self) -> "Samples":
        """The same samples with all channels of a position in one unit, even if the protocol makes each one a unit."""
        joined = super().joint()
        return self if joined is self else replace(joined, memo={})


def _blend(kept: Tensor, inputs: Tensor, removed: Tensor) -> Tensor:
    """The inputs where they are kept, else what is removed; ``kept`` is bool, or a weight between them."""
    if kept.dtype == torch.bool:
        return torch.where(kept, inputs, removed)
    return torch.lerp(removed, inputs, kept.to(inputs.dtype).expand_as(inputs))
