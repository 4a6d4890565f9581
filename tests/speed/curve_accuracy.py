"""Error of curves from fewer evaluations: ``python tests/speed/curve_accuracy.py`` writes a table into docs/speed.md.

The area under the curve of every sample, explainer and order of removal is measured at all 32 steps, at 16 even steps,
and with ``standard_error``. The error is the distance from the area of all steps.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from pages import as_table, replaced  # noqa: E402

import harness  # noqa: E402
from harness.engine.selection import choose_one  # noqa: E402
from harness.registry import DATASETS, MODELS  # noqa: E402
from harness.results.numbers import significant  # noqa: E402

PAGE, MARK = ROOT / "docs" / "speed.md", "curve accuracy table"
# Model, data set, number of samples, options of both.
SUBJECTS = {
    "CNN, digits": ("digits_cnn", "digits", 50, {}),
    "CNN, zeros and ones of MNIST": ("mnist_cnn", "mnist_zeros_ones", 20, {}),
    "CNN, shapes on photographs": ("pasted_cnn", "pasted", 20, {}),
    "MLP, XAI-TRIS": ("xai_tris_mlp", "xai_tris", 50, {}),
    "CNN, XAI-TRIS, xor": ("xai_tris_cnn", "xai_tris", 50, {"scenario": "xor", "backdrop": "correlated"}),
    "EfficientNet-Lite0, photographs": ("lite0", "photos", 6, {}),
}
EXPLAINERS = ("saliency", "input_x_gradient", "integrated_gradients", "lrp", "random")
STEPS = 32
WAYS = {
    "all": {"steps": STEPS},
    "16 even steps": {"steps": STEPS // 2},
    "standard_error=0.005": {"steps": STEPS, "standard_error": 0.005},
    "standard_error=0.01": {"steps": STEPS, "standard_error": 0.01},
}


@contextmanager
def counted(module) -> Iterator[list[int]]:
    """Collects the number of inputs of every pass of a model."""
    rows: list[int] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    yield rows
    hook.remove()


def measured(name: str) -> dict[str, pd.DataFrame]:
    """The scores of a subject in each way; ``attrs["evaluations"]`` is their number per curve, end points left out."""
    model, dataset, count, options = SUBJECTS[name]
    model, data = (
        choose_one(*each).make()
        for each in ((MODELS, {"name": model, **options}), (DATASETS, {"name": dataset, **options}))
    )
    found = {}
    without_curves = _inputs_without_curves(model, data, count)
    for way, given in WAYS.items():
        metrics = {order: {"name": "deletion", "order": order, **given} for order in ("morf", "lerf")}
        found[way], passes = _evaluated(model, data, count, metrics)
        curves = count * len(EXPLAINERS) * len(metrics)
        found[way].attrs["evaluations"] = (passes - without_curves) / curves
    return found


def _inputs_without_curves(model, data, count: int) -> int:
    """The number of inputs that the model is given where no curve is measured."""
    return _evaluated(model, data, count, {"sparseness": {}})[1]


def _evaluated(model, data, count: int, metrics: dict) -> tuple[pd.DataFrame, int]:
    module = getattr(model, "module", model)
    with counted(module) as rows, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = harness.evaluate(model, data, explainers=EXPLAINERS, metrics=metrics, samples=count)
    return frame, sum(rows)


def row(name: str) -> tuple[str, ...]:
    """A subject's row: evaluations of each way, mean error, and how often the area is within two standard errors."""
    found = measured(name)
    cells = [name]
    for way, frame in list(found.items())[1:]:
        gap = (frame["value"] - found["all"]["value"]).abs()
        cells += [f"{frame.attrs['evaluations']:.1f}", significant(float(gap.mean()))]
        if "standard_error" in WAYS[way]:
            cells.append(f"{100 * (gap <= 2 * frame['standard_error'] + 1e-9).mean():.0f} %")
    print(*cells, sep=" | ", flush=True)
    return tuple(cells)


def main() -> None:
    """Measure all subjects and write the table."""
    heads = ["subject"]
    for way in list(WAYS)[1:]:
        heads += [f"{way}: evaluations", "mean error"]
        if "standard_error" in WAYS[way]:
            heads.append("within 2 standard errors")
    table = as_table(tuple(heads), [row(name) for name in SUBJECTS])
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), MARK, table), encoding="utf-8")


if __name__ == "__main__":
    main()
