"""A benchmark and evaluation harness for explainers (feature-attribution methods).

``explain``, ``score`` and ``evaluate`` work on your own module and tensors. ``run`` does what one job of
``harness run`` does: it measures a block of cells and writes them into a run directory.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a checkout, metrics/, datasets/, results/ and conf/ lie beside this package, not inside it. The project's root is
# added to the package's path, so that they import as harness.metrics and so on. An installed wheel holds them inside,
# and the folder above it is shared with other packages: it must not be added.
__path__ = [*__path__, *(str(root) for root in Path(__file__).parents[1:2] if (root / "pyproject.toml").is_file())]

if TYPE_CHECKING:
    from harness.api import choose, evaluate, explain, interactions, run, score
    from harness.batch import Scores
    from harness.errors import NotApplicable
    from harness.facts import Facts
    from harness.registry import dataset, explainer, metric, model
    from harness.sources import Data, LoadedModel

__all__ = [
    "Data",
    "Facts",
    "LoadedModel",
    "NotApplicable",
    "Scores",
    "choose",
    "dataset",
    "evaluate",
    "explain",
    "explainer",
    "interactions",
    "metric",
    "model",
    "run",
    "score",
]
__version__ = "0.1.0"

# What the package offers by name, and where it is defined. It is imported when it is first used, so that a command that
# only lists names or shows a help text does not wait for torch.
_HOMES = {
    **dict.fromkeys(("choose", "evaluate", "explain", "interactions", "run", "score"), "harness.api"),
    **dict.fromkeys(("dataset", "explainer", "metric", "model"), "harness.registry"),
    "Scores": "harness.batch",
    "NotApplicable": "harness.errors",
    "Facts": "harness.facts",
    **dict.fromkeys(("Data", "LoadedModel"), "harness.sources"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
