"""The argument and the result of a metric: ``Batch`` (samples with one explainer's attributions) and ``Scores``."""

from collections.abc import Callable, Hashable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.registry import Explainer
from harness.samples import Samples
from harness.units import Units


@dataclass(frozen=True)
class Scores:
    """A metric's result: ``values`` (N,), NaN where the score is undefined; per-sample ``curves`` (N, K) if any.

    tied             (N,) share of the units whose rank among equal attributions was drawn at random, or None
    reason           why values are NaN, in a few words, or ""
    standard_error   (N,) of values that are estimated from fewer evaluations than their definition has, or None
    """

    values: Tensor
    curves: Tensor | None = None
    tied: Tensor | None = None
    reason: str = ""
    standard_error: Tensor | None = None


@runtime_checkable
class ExplainsAgain(Protocol):
    """An explainer with its options, bound to one model (``harness.engine.explain.Explaining``).

    batch_size   samples per call of the explainer
    """

    batch_size: int

    def __call__(self, samples: Samples) -> Tensor:
        """Raw attributions (N, ...) of these samples."""

    def afresh(self, samples: Samples, batch_size: int | None = None) -> "ExplainsAgain":
        """The same explainer, prepared again for these samples and for the model in their predictor."""

    def another(self, name: str, samples: Samples) -> "ExplainsAgain":
        """Another registered explainer at its defaults, prepared for these samples and for the same model."""


@dataclass
class Batch:
    """Samples and their attributions by one explainer.

    attributions   (N, *units) float32, reduced to one number per unit
    raw            (N, ...) float32, as the explainer returned them: the inputs' shape, or one channel
    explainer      the explainer's registry entry with its capabilities; None if the explainer is not known
    options        the explainer's options, defaults included
    explain_again  ``explain_again(samples) -> raw`` runs the explainer on other samples (an ``ExplainsAgain`` also on
                   another model), or None
    own            results computed for this explainer and these samples, shared by its metrics
    everywhere     results computed for this explainer that do not depend on the samples
    cost           the measured cost of the explanation (``harness.engine.cost``), or None
    reduction      how the channels of a unit became one number
    """

    samples: Samples
    attributions: Tensor
    raw: Tensor
    explainer: Explainer | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    explain_again: Callable[[Samples], Tensor] | None = None
    own: MutableMapping[Hashable, Any] = field(default_factory=dict)
    everywhere: MutableMapping[Hashable, Any] = field(default_factory=dict)
    cost: Any = None
    reduction: str = "sum"

    @property
    def model(self) -> nn.Module:
        """The model itself, in eval mode."""
        return self.samples.predictor.module

    @property
    def inputs(self) -> Tensor:
        """The inputs (N, ...)."""
        return self.samples.inputs

    @property
    def targets(self) -> Tensor:
        """The explained class of each sample (N,)."""
        return self.samples.targets

    @property
    def units(self) -> Units:
        """The units that the attributions score."""
        return self.samples.units

    @property
    def masks(self) -> Tensor | None:
        """Masks (N, *units) bool, True on the object, or None."""
        return self.samples.masks

    def __len__(self) -> int:
        return len(self.samples)

    def remember(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The result of ``compute()``, which is called once per ``key`` for this explainer and these samples."""
        if key not in self.own:
            self.own[key] = compute()
        return self.own[key]

    def for_explainer(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The result of ``compute()``, which is called once per ``key`` for this explainer.

        The result must not depend on these samples.
        """
        if key not in self.everywhere:
            self.everywhere[key] = compute()
        return self.everywhere[key]

    def reduced(self, raw: Tensor) -> Tensor:
        """Other raw attributions reduced to one number per unit (N, *units), in the way of this batch."""
        return self.units.reduce(raw, self.reduction)

    def explain(self, samples: Samples) -> Tensor:
        """The explainer's raw attributions for other samples, under its options and the same randomness."""
        self.need_explainer()
        return self.explain_again(samples)

    def need_explainer(self) -> None:
        """Raise NotApplicable if the explainer is not known, or only reads stored attributions."""
        if self.explain_again is None:
            raise NotApplicable("explains again, which attributions given without an explainer cannot do")
        if self.explainer is not None and self.explainer.stored:
            raise NotApplicable(f"explains again, which {self.explainer.name} attributions cannot do")
