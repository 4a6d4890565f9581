"""Error of correlations over random subsets: ``python tests/speed/subset_accuracy.py`` writes a table in docs/speed.md.

The score of every sample and explainer is measured with many draws, which stands for the correlation over all subsets,
and with few draws under several seeds, by these alone and with ``surrogate=true``. The error is the squared distance
from the score of many draws, less what these themselves are off.
"""

import sys
import warnings
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from pages import as_table, replaced  # noqa: E402

import harness  # noqa: E402
from harness.engine.selection import choose_one  # noqa: E402
from harness.registry import DATASETS, MODELS  # noqa: E402
from harness.results.numbers import significant  # noqa: E402

PAGE, MARK = ROOT / "docs" / "speed.md", "subset accuracy table"
SENSITIVITY = {"name": "sensitivity_n", "sizes": 5}
CORRELATION = {"name": "faithfulness_correlation"}
# Model and data set, number of samples, groups of a sample, metric, draws of the reference, draws that are compared.
SUBJECTS = {
    "MLP, Adult, columns": ("adult_mlp", "adult", 20, 12, SENSITIVITY, 8000, (10, 20, 100)),
    "CNN, digits, pixels": ("digits_cnn", "digits", 20, 64, SENSITIVITY, 8000, (20, 100)),
    "MLP, XAI-TRIS, pixels": ("xai_tris_mlp", "xai_tris", 20, 64, SENSITIVITY, 8000, (20, 100)),
    "CNN, power demand, hours": ("series_cnn", "italy_power_demand", 20, 24, SENSITIVITY, 8000, (20, 100)),
    "CNN, MNIST, patches": (
        "mnist_cnn",
        "mnist_zeros_ones",
        6,
        196,
        SENSITIVITY | {"granularity": "patch"},
        4000,
        (20, 100),
    ),
    "EfficientNet-Lite0, photographs, patches": (
        "lite0",
        "photos",
        3,
        196,
        CORRELATION | {"granularity": "patch"},
        1500,
        (100, 400),
    ),
}
# They draw nothing: their maps are the same under every seed.
EXPLAINERS = ("saliency", "input_x_gradient", "integrated_gradients", "input_magnitude")
SEEDS = (0, 1, 2)
REFERENCE_SEED = 99


def rows(name: str) -> list[tuple[str, ...]]:
    """The rows of a subject, one for each number of draws."""
    model, dataset, count, groups, metric, many, few = SUBJECTS[name]
    model, data = (choose_one(*each).make() for each in ((MODELS, {"name": model}), (DATASETS, {"name": dataset})))
    twins = {"first": {**metric, "draws": many}}
    reference = measured_scores(model, data, twins, count, REFERENCE_SEED)["first"]
    off = (reference - measured_scores(model, data, twins, count, REFERENCE_SEED + 1)["first"]).pow(2).mean() / 2
    ways = {(draws, way): {**metric, "draws": draws, "surrogate": way} for draws in few for way in (False, True)}
    labelled = {f"{draws} {way}": options for (draws, way), options in ways.items()}
    scores = pd.concat(
        [measured_scores(model, data, labelled, count, seed) - reference.to_numpy()[:, None] for seed in SEEDS]
    )
    found = []
    for draws in few:
        alone, surrogate = (scores[f"{draws} {way}"].pow(2).mean() - off for way in (False, True))
        ratio = alone / max(surrogate, off)  # the reference cannot show an error that is smaller than its own
        cells = (f"{draws}", significant(alone), significant(max(surrogate, off)), f"{ratio:.2g}")
        found.append((name, f"{groups}", *cells))
        print(*found[-1], sep=" | ", flush=True)
    return found


def measured_scores(model, data, metrics: dict, count: int, seed: int) -> pd.DataFrame:
    """The scores, a column for each metric and a row for each explainer and sample."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = harness.evaluate(model, data, explainers=EXPLAINERS, metrics=metrics, samples=count, seed=seed)
    return frame.pivot(index=["explainer", "sample"], columns="metric", values="value")


def main() -> None:
    """Measure all subjects and write the table."""
    heads = (
        "subject",
        "groups",
        "draws of a size",
        "error: draws alone",
        "with a surrogate",
        "draws alone / surrogate",
    )
    table = as_table(heads, [row for name in SUBJECTS for row in rows(name)])
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), MARK, table), encoding="utf-8")


if __name__ == "__main__":
    main()
