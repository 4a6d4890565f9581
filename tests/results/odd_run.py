"""One odd run: failures, cells that do not apply, ties, samples without a score, controls, rows of a library, counts,
an explainer with several cells, and two protocols."""

from pathlib import Path

import numpy as np

from harness.results.statistics import summarise
from harness.results.store import Store

SAMPLES = 24
METRICS = {
    "srg": ("faithfulness", "higher", "probability"),
    "aopc": ("faithfulness", "higher", "probability"),
    "deletion": ("faithfulness", "lower", "probability"),
    "sparseness": ("complexity", "higher", "gini"),
    "effective_complexity": ("complexity", None, "units"),
    "infidelity": ("faithfulness", "lower", "probability"),
    "seconds_per_sample": ("cost", "lower", "seconds"),
    "forward_passes": ("cost", "lower", "passes"),
}


def odd_run(directory: Path, seed: int) -> Path:
    """Write the run; two protocols, which differ in their seed."""
    store = Store(directory)
    for protocol_seed in (0, 1):
        for place, (explainer, metric, scores, more) in enumerate(_cells(np.random.default_rng([seed, protocol_seed]))):
            _write(store, f"{protocol_seed}{place:05d}", explainer, metric, scores, protocol_seed, more)
    return directory


def _cells(generator: np.random.Generator) -> list[tuple]:
    level, noise = generator.normal(0.5, 0.1, SAMPLES), lambda size: generator.normal(0, size, SAMPLES)
    tie, lacking = level + noise(0.03), np.where(np.arange(SAMPLES) < 3, np.nan, level)
    nothing = np.full(SAMPLES, np.nan)
    library = {"audit": {"source": "captum", "caveat": "gives something else"}}
    cells = [
        ("random", "srg", level - 0.4, {}),
        ("lime", "srg", tie, {}),
        ("rise", "srg", tie, {}),
        ("saliency", "srg", level - 0.1, {"flags": ["a hook never fired"]}),
        ("edge", "srg", level - 0.45, {}),
        ("grad_cam", "srg", None, {"status": "not_applicable", "error": "needs a spatial layer"}),
        ("edge", "deletion", None, {"status": "failed", "error": "RuntimeError: boom"}),
        ("grad_cam", "deletion", None, {"status": "not_applicable", "error": "needs a spatial layer"}),
        ("random", "deletion", level * 0 + 0.3, {}),
        ("lime", "deletion", 0.8 - level, {}),
        ("rise", "deletion", 0.8 - lacking, {"error": "no change"}),
        ("lime", "sparseness", level, {}),  # a control is ahead here
        ("rise", "sparseness", level + noise(0.2), {}),
        ("random", "sparseness", level + 1, {}),
        ("saliency", "sparseness", level - 0.3, {}),
        ("captum_saliency", "sparseness", level + 2, library),
        ("lime", "infidelity", nothing, {"error": "no variance"}),
        ("lime", "effective_complexity", np.arange(SAMPLES), {}),
        ("rise", "effective_complexity", np.arange(SAMPLES), {}),
        ("smoothgrad", "aopc", level - 0.05, {"steps": 8}),
        ("smoothgrad", "aopc", level - 0.06, {"steps": 16}),
        ("lime", "aopc", level, {}),
    ]
    for place, explainer in enumerate(("lime", "rise", "random", "saliency")):
        cells.append((explainer, "seconds_per_sample", np.full(SAMPLES, 0.1 * 10.0**-place), {}))
        cells.append((explainer, "forward_passes", np.full(SAMPLES, 1234.0 * (place + 1)), {}))
    return cells


def _write(store: Store, cell: str, explainer: str, metric: str, scores, seed: int, more: dict) -> None:
    kind, better, unit = METRICS[metric]
    options = {"steps": more["steps"]} if "steps" in more else {}
    row = {
        "cell": f"{cell}{explainer}{metric}",
        "model": "net",
        "dataset": "data",
        "explainer": explainer,
        "metric": metric,
        "kind": kind,
        "better": better,
        "unit": unit,
        "status": "ok",
        "error": "",
        "flags": [],
        "stick": "s",
        "device": "cpu",
        "n": 0,
        "n_invalid": 0,
        "config": {
            "explainer": {"name": explainer, **options},
            "metric": {"name": metric},
            "protocol": {"samples": SAMPLES, "seed": seed},
        },
    }
    if scores is not None:
        values = np.asarray(scores, dtype=float)
        store.write_scores(row["cell"], {"sample": [f"s{place}" for place in range(SAMPLES)], "value": values})
        row |= summarise(values) | ({"ci_low": None, "ci_high": None} if kind == "cost" else {})
    store.append(row | {name: value for name, value in more.items() if name != "steps"})
