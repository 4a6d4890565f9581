"""What Quantus 0.6 needs around a call, and what must not be left behind by it."""

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

KNOWN = (0, 6)
# Names that numpy 2.4 has no more and Quantus still calls.
GONE = {"trapz": np.trapezoid, "NaN": np.nan}


def quantus_version() -> tuple[int, ...]:
    """The version of Quantus that is installed, without importing it; UserError where it is none that is known."""
    try:
        found = importlib.metadata.version("quantus")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            "metrics quantus.* need Quantus, which is not installed: pip install 'harness[quantus]'"
        ) from None
    version = tuple(int(part) for part in found.split(".")[:3] if part.isdigit())
    if version[:2] != KNOWN:
        raise UserError(f"quantus is {found}, expected 0.6, whose options and returns the bridge knows")
    return version


def load_quantus() -> ModuleType:
    """The library, imported when it is first asked for, without its warnings."""
    quantus_version()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("quantus")


@contextmanager
def at_home(samples: Samples) -> Iterator[None]:
    """Inside, Quantus finds the numpy it was written for and generators seeded by the protocol and the samples.

    Afterwards numpy, the generators and the filters of warnings are as they were, and no model is held in its caches.
    """
    seed = batch_seed(samples.keys, samples.seed)
    with _numpy_of_old(), isolated_randomness(samples.inputs.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            _forget_models()


@contextmanager
def _numpy_of_old() -> Iterator[None]:
    missing = {name: value for name, value in GONE.items() if not hasattr(np, name)}
    for name, value in missing.items():
        setattr(np, name, value)
    try:
        yield
    finally:
        for name in missing:
            delattr(np, name)


def _forget_models() -> None:
    """Empty the caches of the class that wraps models: each would keep its model for the life of the process."""
    wrapper = importlib.import_module("quantus.helpers.model.pytorch_model").PyTorchModel
    for member in vars(wrapper).values():
        if hasattr(member, "cache_clear"):
            member.cache_clear()
