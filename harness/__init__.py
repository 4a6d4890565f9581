"""A benchmark and evaluation harness for explainers (feature-attribution methods).

``explain``, ``score`` and ``evaluate`` work on your own module and tensors. ``run`` does what one job of
``harness run`` does: it measures a block of cells and writes them into a run directory.
"""

from pathlib import Path

# In a checkout, metrics/, datasets/, results/ and conf/ lie beside this package, not inside it. The project's root is
# added to the package's path, so that they import as harness.metrics and so on. An installed wheel holds them inside,
# and the folder above it is shared with other packages: it must not be added.
__path__ = [*__path__, *(str(root) for root in Path(__file__).parents[1:2] if (root / "pyproject.toml").is_file())]

from harness.api import evaluate, explain, run, score
from harness.batch import Scores
from harness.errors import NotApplicable
from harness.registry import dataset, explainer, metric, model
from harness.sources import Data, LoadedModel

__all__ = [
    "Data",
    "LoadedModel",
    "NotApplicable",
    "Scores",
    "dataset",
    "evaluate",
    "explain",
    "explainer",
    "metric",
    "model",
    "run",
    "score",
]
__version__ = "0.1.0"
