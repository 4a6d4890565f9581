"""The environment that Quantus 0.6 needs for a call, and the removal of its traces afterwards."""

import importlib
import importlib.metadata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch

from harness.errors import UserError
from harness.guards import isolated_randomness
from harness.randomness import batch_seed
from harness.samples import Samples

SUPPORTED = (0, 6)
# Names that numpy 2.4 has removed and Quantus still uses.
REMOVED_NAMES = {"trapz": np.trapezoid, "NaN": np.nan}


def quantus_version() -> tuple[int, ...]:
    """The version of the installed Quantus, which is not imported; UserError where it is missing or not 0.6."""
    try:
        installed = importlib.metadata.version("quantus")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            "metrics quantus.* need Quantus, which is not installed: pip install 'harness[quantus]'"
        ) from None
    version = tuple(int(part) for part in installed.split(".")[:3] if part.isdigit())
    if version[:2] != SUPPORTED:
        raise UserError(f"quantus is {installed}, expected 0.6, whose options and returns the bridge knows")
    return version


def load_quantus() -> ModuleType:
    """The library, imported when it is first asked for, without its warnings."""
    quantus_version()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("quantus")


@contextmanager
def quantus_environment(samples: Samples) -> Iterator[None]:
    """Inside, numpy has the names that Quantus uses, and generators are seeded by the protocol and the samples.

    Afterwards numpy, the generators and the filters of warnings are restored, and its caches hold no model.
    """
    seed = batch_seed(samples.keys, samples.seed)
    with _removed_numpy_names(), isolated_randomness(samples.inputs.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            _forget_models()


@contextmanager
def _removed_numpy_names() -> Iterator[None]:
    missing = {name: value for name, value in REMOVED_NAMES.items() if not hasattr(np, name)}
    for name, value in missing.items():
        setattr(np, name, value)
    try:
        yield
    finally:
        for name in missing:
            delattr(np, name)


def _forget_models() -> None:
    """Empty the caches of the class that wraps models: each would hold its model until the process ends."""
    wrapper = importlib.import_module("quantus.helpers.model.pytorch_model").PyTorchModel
    for member in vars(wrapper).values():
        if hasattr(member, "cache_clear"):
            member.cache_clear()
