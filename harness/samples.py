"""A batch of samples and everything that follows from them and the model, but not from an explainer.

Explainers see it as ``context``, metrics as ``batch.samples``. What is computed here once serves them all.
"""

from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from harness.baselines import make_baseline
from harness.errors import NotApplicable, UserError
from harness.facts import Facts
from harness.infilling import infill, is_infilling
from harness.kept import KeptOutputs
from harness.predictor import Predictor, pick
from harness.randomness import sample_keys, stream
from harness.segments import Segments, make_segments
from harness.units import Units, gather_segments


@dataclass
class Samples:
    """Inputs (N, ...) with their targets (N,), on the model's device.

    keys            (N,) int64, what the randomness of each sample hangs on
    labels          (N,) what the data says each sample is, or None; the explained class may be another
    train           training inputs (R, ...) for baselines and background sets, or None
    train_labels    their labels (R,), class indices, or numbers where the model has a single output; or None
    unit_names      names of the units (the columns of a table), or None
    value_range     lowest and highest value an input can have, per channel or overall, or None
    masks           (N, *units) bool, where the object is, or None
    truth           (N, *units) float, the known right attribution of each sample's label, or None
    given_segments  (N, *units) int64, or None
    places          (N,) which sample of the data set each one is
    ids             the names of all samples of the data set, which ``places`` count, or None
    fillers         what a removed token can become: name -> embedding (D,); None where inputs are no texts
    memo            what has been computed for these samples and is kept as long as the block
    block           what has been computed for all samples of the block
    kept            where tracked outputs that no attribution decides are kept from run to run, or None
    scratch         the same for what is large and cheap to make again
    facts           where an explainer's facts about its own work go, or None where nobody asks
    """

    inputs: Tensor
    targets: Tensor
    predictor: Predictor
    units: Units
    seed: int = 0
    keys: Tensor | None = None
    labels: Tensor | None = None
    train: Tensor | None = None
    train_labels: Tensor | None = None
    unit_names: tuple[str, ...] | None = None
    value_range: tuple[Any, Any] | None = None
    masks: Tensor | None = None
    truth: Tensor | None = None
    given_segments: Tensor | None = None
    places: Tensor | None = None
    ids: Sequence[str] | None = None
    fillers: Mapping[str, Tensor] | None = None
    memo: MutableMapping[Hashable, Any] = field(default_factory=dict)
    block: MutableMapping[Hashable, Any] = field(default_factory=dict)
    kept: KeptOutputs | None = None
    scratch: dict[Hashable, Any] = field(default_factory=dict)
    facts: Facts | None = None

    def __post_init__(self) -> None:
        if self.keys is None:
            self.keys = sample_keys(self.inputs)
        if self.places is None:
            self.places = torch.arange(len(self.inputs), device=self.inputs.device)

    def __len__(self) -> int:
        return len(self.inputs)

    def shared(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The result of ``compute``, made once per block: for all explainers and metrics that ask with this key."""
        if key not in self.memo:
            self.memo[key] = compute()
        return self.memo[key]

    def for_block(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The result of ``compute``, made once for all samples of the block, of which these may be only some.

        It must depend on nothing but the block's data and its model as it was loaded: on no sample, and not on weights
        that a metric changes for a while.
        """
        if key not in self.block:
            self.block[key] = compute()
        return self.block[key]

    def outputs(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Tracked outputs that no attribution decides: ``shared``, and kept from run to run where the run asks for it.

        ``key`` holds every option that decides them; samples, seed, model and code are taken care of.
        """
        keep = self.kept
        return self.shared(key, compute if keep is None else lambda: keep.load_or_make(self, key, compute))

    def tell(self, **facts: Any) -> None:
        """Note facts about an explainer's work (``harness.facts``): a tensor (N,) is one number per sample."""
        if self.facts is not None:
            self.facts.tell(facts)

    def baseline(self, chosen: str | Tensor, draw: int = 0) -> Tensor:
        """The baseline (N, ...) of that name, or the given tensor; ``draw`` numbers the draws of random ones.

        NotApplicable for one that fills in from the units that are left (``harness.infilling``): it is no one tensor.
        """
        if isinstance(chosen, Tensor):
            return make_baseline(self, chosen)
        key = ("baseline", chosen, draw)
        if key not in self.scratch:
            self.scratch[key] = make_baseline(self, chosen, draw)
        return self.scratch[key]

    def segments(self, spec: str | Tensor) -> Segments:
        """The segments that ``spec`` names (``harness.segments``)."""
        if isinstance(spec, Tensor):
            return make_segments(self, spec)
        return self.shared(("segments", spec), lambda: make_segments(self, spec))

    def input_range(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of the data, broadcastable to inputs.

        As declared; else, for tables, the training data's per column; else each sample's own.
        """
        if self.value_range is not None:
            return tuple(self._bound(torch.as_tensor(bound).to(self.inputs)) for bound in self.value_range)
        if self.units.modality == "table" and self.train is not None:
            return self.train.amin(0).to(self.inputs), self.train.amax(0).to(self.inputs)
        flat = self.inputs.flatten(1)
        shape = [-1] + [1] * (self.inputs.dim() - 1)
        return flat.amin(1).view(shape), flat.amax(1).view(shape)

    def _bound(self, bound: Tensor) -> Tensor:
        """A bound of the value range so that it broadcasts to inputs: one number, one per channel, or an input's
        shape."""
        axis, shape = Units.of(self.inputs, self.units.modality).channel_axis, self.inputs.shape[1:]
        if bound.dim() == 1 and axis is not None and len(bound) == shape[axis - 1]:
            return bound.view([-1 if place == axis else 1 for place in range(1, self.inputs.dim())])
        fits = bound.dim() in (0, len(shape)) and all(b in (1, s) for b, s in zip(bound.shape, shape, strict=False))
        if not fits:
            came = tuple(bound.shape)
            raise UserError(
                f"a bound of value_range has shape {came}, expected a number, one per channel, or {tuple(shape)}"
            )
        return bound

    def stream(self, use: str) -> Tensor:
        """The keys (N,) for one use of randomness (``harness.randomness``)."""
        return stream(self.keys, self.seed, use)

    def clean(self, score: str = "logit") -> Tensor:
        """The score (N,) of the unperturbed inputs."""
        return pick(self.intact(), score)

    def intact(self) -> Tensor:
        """Tracked outputs (N, 3) of the unperturbed inputs."""
        return self.outputs("clean", lambda: self.track(1, lambda sample, draw: self.inputs[sample]))[:, 0]

    def emptied(self, baseline: str | Tensor, draw: int = 0) -> Tensor:
        """Tracked outputs (N, 3) with every unit removed: of the baseline alone."""
        nothing = lambda sample, _: self.inputs.new_zeros(len(sample), *self.units.shape, dtype=torch.bool)
        return self.shared(("emptied", baseline, draw), lambda: self.masked(1, nothing, baseline, draw))[:, 0]

    def track(self, draws: int, build: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Tracked outputs (N, draws, 3) of inputs that ``build(sample, draw)`` makes for pairs of index vectors
        (rows,)."""
        count = len(self) * draws
        tracked = self.predictor.track(
            count, lambda rows: build(rows // draws, rows % draws), self.targets.repeat_interleave(draws)
        )
        return tracked.view(len(self), draws, -1)

    def remover(self, baseline: str | Tensor, draw: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
        """``remove(sample, kept)``: inputs (rows, ...) of the samples numbered ``sample`` (rows,) without some units.

        ``kept`` (rows, *units) is bool, True where the unit stays, or a weight in [0, 1] that mixes the input with the
        baseline. ``draw`` numbers the draws of random baselines.
        """
        filling = is_infilling(baseline)
        removed = None if filling else self.baseline(baseline, draw)

        def remove(sample: Tensor, kept: Tensor) -> Tensor:
            kept = self.units.expand(kept)
            if filling:
                return infill(self.joint(), baseline, sample, kept, draw)
            mix = torch.where if kept.dtype == torch.bool else _blend
            return mix(kept, self.inputs[sample], removed[sample])

        return remove

    def masked(
        self, draws: int, keep: Callable[[Tensor, Tensor], Tensor], baseline: str | Tensor, imputation: int = 0
    ) -> Tensor:
        """Tracked outputs (N, draws, 3) of partly removed inputs.

        ``keep(sample, draw)`` gives what ``remover`` takes: (rows, *units), True where the unit stays, or a weight.
        """
        remove = self.remover(baseline, imputation)
        return self.track(draws, lambda sample, draw: remove(sample, keep(sample, draw)))

    def coalitions(self, masks: Tensor, segments: Segments, baseline: str | Tensor) -> Tensor:
        """Tracked outputs (N, M, 3) with only some segments present: ``masks`` (N or 1, M, K) bool, True where
        present."""
        own = len(masks) > 1 or len(self) == 1

        def keep(sample: Tensor, draw: Tensor) -> Tensor:
            return gather_segments(masks[sample if own else torch.zeros_like(sample), draw], segments.labels[sample])

        return self.masked(masks.shape[1], keep, baseline)

    def take(self, rows: Tensor) -> "Samples":
        """Some of the samples, with nothing remembered."""
        return self.with_inputs(self.inputs[rows], rows)

    def with_inputs(self, inputs: Tensor, rows: Tensor) -> "Samples":
        """Other inputs (M, ...) that stand for the samples numbered ``rows`` (M,): their targets and their
        randomness."""
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
            places=self.places[rows],
            memo={},
            scratch={},
        )

    def live(self) -> "Samples":
        """The same samples on the model itself rather than its scoring copy, with nothing remembered of its outputs.

        Nor are facts: a metric's own explanations are not those that the facts are about.
        """
        return replace(self, predictor=self.predictor.live(), memo={}, facts=None, kept=None)

    def joint(self) -> "Samples":
        """The same samples with the channels of a unit taken together, also where the protocol makes each one a
        unit."""
        units = Units.of(self.inputs, self.units.modality, columns=self.units.columns)
        return self if units == self.units else replace(self, units=units, memo={}, scratch={})

    def need(self, *modalities: str) -> None:
        """Raise NotApplicable unless the inputs are of one of these kinds."""
        if self.units.modality not in modalities:
            raise NotApplicable(f"needs {' or '.join(modalities)} inputs, these are {self.units.modality}")


def _blend(weight: Tensor, inputs: Tensor, baseline: Tensor) -> Tensor:
    return torch.lerp(baseline, inputs, weight.to(inputs.dtype).expand_as(inputs))
