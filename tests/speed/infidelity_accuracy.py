"""Error of infidelity: ``python tests/speed/infidelity_accuracy.py`` writes a table in docs/speed.md.

The score of every sample and explainer is measured with many draws, which stands for the error over all squares or
subsets, and with few draws under several seeds, by these alone and with ``surrogate=true``. The error is the squared
distance from the score of many draws, as a share of that score squared, less what the many draws themselves are off.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs"), str(Path(__file__).parent)]

import pandas as pd  # noqa: E402
from pages import as_table, replaced  # noqa: E402

from harness.engine.selection import choose_one  # noqa: E402
from harness.registry import DATASETS, MODELS  # noqa: E402
from harness.results.numbers import significant  # noqa: E402
from subset_accuracy import PAGE, REFERENCE_SEED, SEEDS, measured_scores  # noqa: E402

MARK = "infidelity accuracy table"
# Model and data set, number of samples, perturbation, draws of the reference, draws that are compared.
SUBJECTS = {
    "MLP, Adult": ("adult_mlp", "adult", 20, "subset", 8000, (50, 200)),
    "CNN, digits": ("digits_cnn", "digits", 20, "square", 8000, (50, 100, 200)),
    "CNN, digits, subsets": ("digits_cnn", "digits", 20, "subset", 8000, (100, 200)),
    "MLP, XAI-TRIS": ("xai_tris_mlp", "xai_tris", 20, "square", 8000, (50, 100, 200)),
    "MLP, XAI-TRIS, subsets": ("xai_tris_mlp", "xai_tris", 20, "subset", 8000, (100, 200)),
    "CNN, power demand": ("series_cnn", "italy_power_demand", 20, "square", 8000, (50, 100, 200)),
    "CNN, power demand, subsets": ("series_cnn", "italy_power_demand", 20, "subset", 8000, (50, 200)),
    "CNN, MNIST": ("mnist_cnn", "mnist_zeros_ones", 6, "square", 8000, (50, 100, 200)),
    "EfficientNet-Lite0, photographs": ("lite0", "photos", 3, "square", 1500, (100, 200)),
}
SCALINGS = ("none", "normalised")


def rows(name: str) -> list[tuple[str, ...]]:
    """The rows of a subject, one for each number of draws."""
    model, dataset, count, perturbation, many, few = SUBJECTS[name]
    model, data = (choose_one(*each).make() for each in ((MODELS, {"name": model}), (DATASETS, {"name": dataset})))
    metric = {"name": "infidelity", "perturbation": perturbation}
    exact = {scaling: {**metric, "scaling": scaling, "draws": many} for scaling in SCALINGS}
    reference, twin = (measured_scores(model, data, exact, count, REFERENCE_SEED + more) for more in (0, 1))
    off = (twin / reference - 1).pow(2).mean() / 2
    ways = {
        f"{scaling} {draws} {way}": {**metric, "scaling": scaling, "draws": draws, "surrogate": way}
        for scaling in SCALINGS
        for draws in few
        for way in (False, True)
    }
    scores = pd.concat([_relative(measured_scores(model, data, ways, count, seed), reference) for seed in SEEDS])
    found = []
    for draws in few:
        cells = []
        for scaling in SCALINGS:
            alone, surrogate = (
                scores[f"{scaling} {draws} {way}"].pow(2).mean() - off[scaling] for way in (False, True)
            )
            surrogate = max(surrogate, off[scaling])  # the reference shows no error that is smaller than its own
            cells += [significant(alone), significant(surrogate), f"{alone / surrogate:.2g}"]
        found.append((name, perturbation, f"{draws}", *cells))
        print(*found[-1], sep=" | ", flush=True)
    return found


def _relative(scores: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """The distance of scores, a column for each scaling, draws and way, from those of many draws, as a share."""
    return pd.DataFrame({name: scores[name] / reference[name.split()[0]] - 1 for name in scores})


def main() -> None:
    """Measure all subjects and write the table."""
    heads = ("subject", "perturbation", "draws")
    of_scaling = ("draws alone", "with a surrogate", "draws alone / surrogate")
    heads += tuple(f"{scaling}: {head}" for scaling in SCALINGS for head in of_scaling)
    table = as_table(heads, [row for name in SUBJECTS for row in rows(name)])
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), MARK, table), encoding="utf-8")


if __name__ == "__main__":
    main()
