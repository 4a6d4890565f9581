"""A benchmark and evaluation harness for explainers (feature-attribution methods).

``explain``, ``score`` and ``evaluate`` work on your own module and tensors; ``run`` does what one
job of ``harness run`` does: it measures a block of cells and leaves them in a run directory.
"""

from pathlib import Path

# In a checkout metrics/, datasets/, results/ and conf/ lie beside this package, not inside it:
# the project's root joins the package's path, so that they import as harness.metrics and so on.
# An installed wheel has them inside, and there the folder above belongs to everybody: leave it out.
if (Path(__file__).parent.parent / "pyproject.toml").is_file():
    __path__.append(str(Path(__file__).parent.parent))

from harness.api import evaluate, explain, run, score  # noqa: E402
from harness.batch import Scores  # noqa: E402
from harness.errors import NotApplicable  # noqa: E402
from harness.registry import dataset, explainer, metric, model  # noqa: E402
from harness.sources import Data  # noqa: E402

__all__ = [
    "Data",
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
