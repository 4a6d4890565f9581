"""Calls an explainer with its options and the arguments that it asks for, and checks its result.

The global random generators of torch, numpy and Python are seeded for each call, from the protocol's seed and the
content of the batch. So an explainer that draws from them gives the same maps for the same batch, but a sample's map
depends on the other samples in the batch. Draws of ``harness.randomness`` with ``context.stream(...)`` do not depend on
the batch.
"""

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.adapted_model import OTHER_POSITIONS
from harness.engine.present_units import (
    groups_of_units,
    maps_of_all,
    only_units,
    ordered_by_pattern,
    units_of_maps,
    whole_samples,
)
from harness.errors import NotApplicable, UserError
from harness.explainers._one_row_norms import right_norm_gradients
from harness.guards import isolated_randomness
from harness.messages import sign_of_life
from harness.options import wants
from harness.predictor import Carried
from harness.process_guard import settings_kept
from harness.randomness import batch_seed, seed_torch
from harness.registry import EXPLAINERS, Explainer
from harness.samples import Samples


@dataclass
class Explaining:
    """One explainer with its options, bound to one model.

    batch_size      samples per call
    prepared        the result of the entry's ``prepare``, computed once per block
    reads_weights   whether the explainer uses the model's weights in any way; None before the check
    refusal         why some samples, such as those with few units, have only NaN as attributions; None if all have some
    """

    entry: Explainer
    options: Mapping[str, Any]
    model: nn.Module
    batch_size: int = 16
    prepared: Any = field(default=None, init=False)
    reads_weights: bool | None = field(default=None, init=False)
    refusal: NotApplicable | None = field(default=None, init=False)
    _channels: int | None = field(default=None, init=False)

    def prepare(self, samples: Samples) -> None:
        """Check that the explainer accepts this kind of input, and do its preparation."""
        samples.need(*self.entry.modalities)
        if self.entry.prepare is not None:
            if self._by_position and OTHER_POSITIONS in samples.carried:  # as in explain, of which this is a part
                samples = whole_samples(samples)
            # Preparation looks at the model by means of the first sample; it may not pass other inputs beside it.
            with settings_kept(), self._with_gradients(samples.inputs.device), self._with_carried(samples, 1):
                self.prepared = self.entry.prepare(self.model, samples.joint(), **self.keywords(samples))

    def keywords(self, samples: Samples) -> dict[str, Any]:
        """The options as arguments of the function; a score that the model's task does not have follows the task."""
        return self.entry.keywords(samples.task.with_score(self.entry.options, self.options))

    def afresh(self, samples: Samples, batch_size: int | None = None) -> "Explaining":
        """The same explainer, prepared again for these samples and for the model in their predictor."""
        anew = replace(self, model=samples.predictor.module, batch_size=batch_size or self.batch_size)
        anew.prepare(samples)
        return anew

    def another(self, name: str, samples: Samples) -> "Explaining":
        """Another registered explainer at its defaults, prepared for these samples and for the same model."""
        entry = EXPLAINERS[name]
        other = Explaining(entry, entry.complete({}), samples.predictor.module, self.batch_size)
        other.prepare(samples)
        return other

    def __call__(self, samples: Samples) -> Tensor:
        """Raw attributions (N, ...), float32 on the inputs' device, for any number of samples."""
        batches = (order := ordered_by_pattern(samples)).split(self.batch_size)
        if len(batches) == 1:
            return self.explain(samples)
        return torch.cat([self.explain(samples.take(rows)) for rows in batches])[order.argsort()]

    def explain(self, samples: Samples) -> Tensor:
        """Raw attributions of one batch; 0 at positions that are no units.

        It is one call of the explainer, or one for each pattern of units, or for each sample if samples carry different
        inputs: an explainer passes rows in any number and order, and it must be known whose rows they are.
        """
        samples = samples.joint()  # an explainer does not know whether channels are scored jointly
        if self._by_position:
            if OTHER_POSITIONS in samples.carried:
                return units_of_maps(self.explain(whole_samples(samples)), samples)
            if samples.present is not None:
                return only_units(self.explain(replace(samples, present=None)), samples)
        if samples.present is not None:
            return self._explain_groups(samples)
        if len(samples) > 1 and not _carry_the_same(samples.carried):
            one_by_one = torch.arange(len(samples), device=samples.inputs.device).split(1)
            return torch.cat([self._call(samples.take(row)) for row in one_by_one])
        return self._call(samples)

    @property
    def _by_position(self) -> bool:
        """Whether the explainer needs all positions of a text: it reads the model's layers, or stored maps."""
        return self.entry.access == "activations" or self.entry.stored

    def _explain_groups(self, samples: Samples) -> Tensor:
        """Raw attributions (N, T, ...) of samples that are explained in groups of equal patterns of units."""
        groups, parts = groups_of_units(samples), []
        for rows, units_only in sorted(groups, key=lambda group: -group[1].units.count):
            raw = self._explain_or_refuse(units_only)
            parts.append((rows, maps_of_all(raw, units_only)))
        order = torch.cat([rows for rows, _ in parts]).argsort()
        return torch.cat([raw for _, raw in parts])[order]

    def _explain_or_refuse(self, samples: Samples) -> Tensor:
        """Raw attributions of samples with one pattern of units, NaN if the explainer is not applicable to these alone.

        This holds where it has explained samples with more units before; a text of one token is an example.
        """
        axis = samples.units.channel_axis
        try:
            raw = self.explain(samples)
        except NotApplicable as refusal:
            if self._channels is None:
                raise
            self.refusal = refusal
            shape = list(samples.inputs.shape)
            shape[axis] = self._channels
            return samples.inputs.new_full(shape, float("nan"))
        self._channels = raw.shape[axis]
        return raw

    def _call(self, samples: Samples) -> Tensor:
        """Raw attributions of samples in a single call of the explainer."""
        function, handed_in = self.entry.function, {}
        for name, value in (("context", samples), ("prepared", self.prepared), ("seed", samples.seed)):
            if wants(function, name):
                handed_in[name] = value
        gradients = self._with_gradients(samples.inputs.device)
        with settings_kept(), _generators_of(samples), gradients, self._with_carried(samples):
            # The explainer gets copies, so that it may change them.
            own = samples.inputs.clone(), samples.targets.clone()
            try:
                answer = function(self.model, *own, **handed_in, **self.keywords(samples))
            except NotApplicable as refusal:
                if refusal.maps is None:
                    raise
                self.refusal, answer = refusal, refusal.maps
        sign_of_life()
        return self._checked(answer, samples)

    @contextmanager
    def _with_gradients(self, device: torch.device) -> Iterator[None]:
        """Allow gradients inside, in whatever mode the caller is, and let recurrent layers and norms give right ones.

        cuDNN's kernels for recurrent layers compute no gradients in eval mode; torch's own kernels, used instead, do.
        """
        kernels, recurrent = torch.backends.cudnn, any(isinstance(part, nn.RNNBase) for part in self.model.modules())
        before, kernels.enabled = kernels.enabled, kernels.enabled and not recurrent
        wants_gradients = self.entry.access in ("gradient", "activations")
        try:
            with torch.inference_mode(False), torch.enable_grad():
                with right_norm_gradients(device) if wants_gradients else nullcontext():
                    yield
        finally:
            kernels.enabled = before

    def _with_carried(self, samples: Samples, most_rows: float = math.inf) -> AbstractContextManager[None]:
        """Inside, all rows that pass through the model go with the carried inputs of these samples, which are equal."""
        if not samples.carried:
            return nullcontext()
        return self.model.with_carried({name: values[:1] for name, values in samples.carried.items()}, most_rows)

    def _checked(self, answer: Any, samples: Samples) -> Tensor:
        if isinstance(answer, np.ndarray):
            answer = torch.from_numpy(answer)
        if not isinstance(answer, Tensor):
            raise UserError(
                f"explainer {self.entry.name} returned a {type(answer).__name__}, expected a tensor (N, ...)"
            )
        if answer.numel() == 0:
            raise NotApplicable("the explainer returned no attributions at all")
        # A copy: an explainer may return the same tensor from every call, or one that it goes on to change.
        answer = answer.detach().to(samples.inputs.device, torch.float32, copy=True)
        if len(answer) != len(samples):
            raise UserError(
                f"explainer {self.entry.name} returned {len(answer)} attributions for {len(samples)} samples"
            )
        return samples.units.check(answer)


def _carry_the_same(carried: Carried) -> bool:
    """Whether all samples carry the same."""
    return all(bool((values == values[:1]).all()) for values in carried.values())


@contextmanager
def _generators_of(samples: Samples) -> Iterator[None]:
    """Seed the global random generators for these samples, and restore their states afterwards."""
    seed = batch_seed(samples.keys, samples.seed)
    with isolated_randomness(samples.inputs.device):
        seed_torch(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
