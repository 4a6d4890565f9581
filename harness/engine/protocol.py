"""The protocol of a block: the settings that change a score and belong to neither model, data, explainer nor metric."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch

from harness.errors import UserError
from harness.option_kinds import check_fields, settings, value_shown
from harness.option_types import Count, NotNegative, Range
from harness.process_guard import gpu_backends

ADDED = {"precision": 0.0, "apart": None}  # settings that came later, and the value with which nothing changes
DTYPES = {"float32": None, "tf32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Protocol:
    """Every setting that changes scores and does not belong to the model, data, explainer or metric.

    samples         number of samples, taken from the start of the data set; None for all
    seed            seed of all random draws
    target          the explained class: ``predicted``, ``label``, ``given`` (the data's own targets), or a class index
    dtype           ``float32``, ``tf32`` (matrix units of a GPU), or mixed precision ``bfloat16`` or ``float16``
    reduction       how channels become one number per unit: ``sum`` (signed), ``abs_sum``, ``max_abs``, ``l2``, or
                    ``none``
    explain_batch   samples per call of an explainer
    precision       above 0, ``harness run`` measures samples in growing rounds until the 95 % interval of every mean of
                    the first metric is at most this far from its mean (``harness.jobs.sample_rounds``); 0 asks for no
                    precision
    apart           the labels of two explainers: ``harness run`` measures samples in rounds until the first metric
                    shows which of them is better (``harness.results.apart``), with a precision or without one; None
                    asks for no such comparison
    """

    samples: Annotated[int, Range(1, 10**9)] | None = None
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    target: Literal["predicted", "label", "given"] | Annotated[int, Range(0, 10**9)] = "predicted"
    dtype: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"
    reduction: Literal["sum", "abs_sum", "max_abs", "l2", "none"] = "sum"
    explain_batch: Count = 10
    precision: NotNegative = 0.0
    apart: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        check_fields("protocol", self)
        if self.apart is None:
            return
        if len(self.apart) != 2 or len(set(self.apart)) != 2:
            raise UserError(f"protocol.apart is {value_shown(list(self.apart))}, expected the labels of two explainers")
        object.__setattr__(self, "apart", tuple(sorted(self.apart)))  # in either order it is the same protocol

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Protocol":
        """A protocol from a mapping of its settings."""
        return settings(cls, "protocol", values)

    def without_rounds(self) -> "Protocol":
        """This protocol, for callers that measure no rounds of samples; UserError if it asks for rounds."""
        if self.precision:
            raise UserError(f"precision is {self.precision:g}, expected 0: only harness run measures samples in rounds")
        if self.apart:
            raise UserError(
                f"apart is {', '.join(self.apart)}, expected none: only harness run measures samples in rounds"
            )
        return self

    @property
    def rounds(self) -> str:
        """The setting for which samples are measured in rounds; "" if they are not."""
        return "precision" if self.precision else "apart" if self.apart else ""

    @property
    def identity(self) -> dict[str, Any]:
        """The settings as they identify a cell: without those of ``ADDED`` that change nothing."""
        return {name: value for name, value in vars(self).items() if name not in ADDED or value != ADDED[name]}


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Use full float32 on the GPU, or TF32 if the protocol asks for it; restore the user's setting afterwards."""
    backends = gpu_backends()
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32" if dtype == "tf32" else "ieee"
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
