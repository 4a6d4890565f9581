"""The inputs that units are removed from, with everything that baselines and segments need."""

from collections.abc import Callable, Hashable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from harness.errors import NotApplicable, UserError
from harness.modalities import MODALITIES
from harness.randomness import sample_keys, stream
from harness.units import UndecidedUnits, Units


@dataclass
class Originals:
    """Inputs (N, ...) before anything is removed; ``harness.samples.Samples`` adds a model and targets.

    units           the units of the inputs
    seed            seed of all random draws
    keys            (N,) int64, the key of each sample's random numbers; by default a hash of its content
    train           training inputs (R, ...) for baselines and background sets, or None
    value_range     lowest and highest value an input can have, per channel or overall, or None
    given_segments  (N, *units) int64, the data's own segments, or None
    fillers         embeddings that can replace a removed token: name -> (D,), or None
    block           results shared by all samples of the block
    scratch         results for these samples, stored as long as this object exists
    """

    inputs: Tensor
    units: Units = field(kw_only=True)
    seed: int = field(default=0, kw_only=True)
    keys: Tensor | None = field(default=None, kw_only=True)
    train: Tensor | None = field(default=None, kw_only=True)
    value_range: tuple[Any, Any] | None = field(default=None, kw_only=True)
    given_segments: Tensor | None = field(default=None, kw_only=True)
    fillers: Mapping[str, Tensor] | None = field(default=None, kw_only=True)
    block: MutableMapping[Hashable, Any] = field(default_factory=dict, kw_only=True)
    scratch: dict[Hashable, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if self.keys is None:
            self.keys = sample_keys(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)

    def for_block(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The result of ``compute()``, called once per block, whichever of the block's samples these are.

        The result may depend on the block's data and on the model as it was loaded. It must not depend on these samples
        or on weights that a metric changes for a while.
        """
        if key not in self.block:
            self.block[key] = compute()
        return self.block[key]

    def stream(self, use: str) -> Tensor:
        """The keys (N,) for one use of randomness (``harness.randomness``)."""
        return stream(self.keys, self.seed, use)

    def input_range(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of the data, in a shape that broadcasts to inputs.

        It is the declared range. Without one it is the range of each number in the training inputs for tables and
        inputs of unknown axes, of each channel of each sample for series, and else of each sample. NotApplicable for a
        table with neither a declared range nor training inputs: a range across its columns is that of none of them.
        """
        if self.value_range is not None:
            return tuple(self._bound(torch.as_tensor(bound).to(self.inputs)) for bound in self.value_range)
        if self.own_scales:
            train = self.training_inputs("the range of values")
            return train.amin(0), train.amax(0)
        over = self.scaled_together()
        return self.inputs.amin(over, keepdim=True), self.inputs.amax(over, keepdim=True)

    @property
    def own_scales(self) -> bool:
        """Whether every number of an input is a quantity of its own: in tables, and where the axes are not known."""
        return Units.of(self.inputs, self.units.modality).channel_axis is None

    def scaled_together(self) -> list[int]:
        """The axes of one input over which numbers have a scale in common: not over the channels of a series."""
        kept = 1 if self.units.modality == "series" else None
        return [axis for axis in range(1, self.inputs.dim()) if axis != kept]

    def training_inputs(self, what: str) -> Tensor:
        """The training inputs, from which ``what`` is known for each number by itself; NotApplicable without them."""
        if self.train is None:
            kind = "a table's columns" if self.units.modality == "table" else "inputs of unknown axes"
            raise NotApplicable(f"{what} of {kind} comes from training inputs, and the data has none (give train=)")
        return self.train.to(self.inputs)

    def _bound(self, bound: Tensor) -> Tensor:
        """A bound of the value range (a number, one per channel, or in an input's shape), broadcast to inputs."""
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

    def joint(self) -> "Originals":
        """The same inputs with all channels of a position in one unit, even if the protocol makes each one a unit."""
        if isinstance(self.units, UndecidedUnits):
            return self
        units = Units.of(self.inputs, self.units.modality, columns=self.units.columns)
        return self if units == self.units else replace(self, units=units, scratch={})

    def need(self, *modalities: str) -> None:
        """Raise NotApplicable unless the inputs are of one of these kinds."""
        if isinstance(self.units, UndecidedUnits) and set(modalities) >= set(MODALITIES):
            return
        if self.units.modality not in modalities:
            raise NotApplicable(f"needs {' or '.join(modalities)} inputs, these are {self.units.modality}")
