"""Data sets and models as the command line makes them: by their names and the names of their options."""

from collections.abc import Callable
from typing import Any

from harness.registry import DATASETS, MODELS, Registry
from harness.sources import Data, LoadedModel


def data_set(name: str) -> Callable[..., Data]:
    """A function of the options of a data set."""
    return _maker(DATASETS, name)


def model_named(name: str) -> Callable[..., LoadedModel]:
    """A function of the options of a model."""
    return _maker(MODELS, name)


def _maker(registry: Registry, name: str) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        entry = registry[name]
        return entry.function(**entry.keywords(entry.complete(options)))

    return make
