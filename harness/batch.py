"""What a metric sees: samples, one explainer's attributions for them, and the means to explain again."""

from collections.abc import Callable, Hashable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from harness.errors import NotApplicable
from harness.registry import Explainer
from harness.samples import Samples
from harness.units import Units


@dataclass(frozen=True)
class Scores:
    """A metric's result: ``values`` (N,), NaN where the score is undefined; per-sample ``curves`` (N, K) if any.

    tied     (N,) share of units whose rank was drawn by lot, or None
    reason   why values are NaN, in a few words, or ""
    """

    values: Tensor
    curves: Tensor | None = None
    tied: Tensor | None = None
    reason: str = ""


@runtime_checkable
class ExplainsAgain(Protocol):
    """An explainer with its options at work on one model (``harness.engine.explain.Explaining``).

    batch_size   samples per call of the explainer
    """

    batch_size: int

    def __call__(self, samples: Samples) -> Tensor:
        """Raw attributions (N, ...) of these samples."""

    def afresh(self, samples: Samples, batch_size: int | None = None) -> "ExplainsAgain":
        """The same explainer prepared anew for these samples and the model that predicts them."""


@dataclass
class Batch:
    """Samples and their attributions by one explainer.

    attributions   (N, *units) float32, reduced to one number per unit
    raw            (N, ...) float32, as the explainer gave them: the inputs' shape, or one channel
    explainer      the explainer's entry: its capabilities; None for attributions that came without one
    options        the explainer's options, defaults included
    explain_again  ``explain_again(samples) -> raw`` runs the explainer on other samples (an ``ExplainsAgain`` also on
                   another model), or None
    own            what has been computed for this explainer and these samples, for the metrics that follow
    everywhere     what has been computed for this explainer, whatever the samples
    cost           what the explanation cost, or None (``harness.engine.cost``)
    reduction      how channels became one number per unit
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
        """Where the object is (N, *units) bool, if the data says."""
        return self.samples.masks

    def __len__(self) -> int:
        return len(self.samples)

    def remember(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The result of ``compute``, made once for this explainer and these samples."""
        if key not in self.own:
            self.own[key] = compute()
        return self.own[key]

    def for_explainer(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The result of ``compute``, made once for this explainer: it must not depend on these samples."""
        if key not in self.everywhere:
            self.everywhere[key] = compute()
        return self.everywhere[key]

    def reduced(self, raw: Tensor) -> Tensor:
        """Other raw attributions as numbers per unit (N, *units), reduced as these were."""
        return self.units.reduce(raw, self.reduction)

    def explain(self, samples: Samples) -> Tensor:
        """The explainer's raw attributions for other samples, under its options and the same randomness."""
        self.need_explainer()
        return self.explain_again(samples)

    def need_explainer(self) -> None:
        """Raise NotApplicable for attributions that came without their explainer, or were made before."""
        if self.explain_again is None:
            raise NotApplicable("explains again, which attributions given without an explainer cannot do")
        if self.explainer is not None and self.explainer.stored:
            raise NotApplicable(f"explains again, which {self.explainer.name} attributions cannot do")
