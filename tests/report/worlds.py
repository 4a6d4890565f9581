"""Runs written through the store as a measured run is, and maps as a run keeps them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.results.run_files import RunFiles
from harness.results.statistics import summarise
from harness.results.store import Store

KINDS = {
    "srg": ("faithfulness", "higher"),
    "deletion": ("faithfulness", "lower"),
    "sparseness": ("complexity", "higher"),
    "seconds_per_sample": ("cost", "lower"),
}
PROTOCOL = {"samples": 24, "seed": 0, "target": "predicted"}


def write_cell(
    store: Store,
    explainer: str,
    metric: str,
    values: np.ndarray,
    *,
    ids: Sequence[str] | None = None,
    curves: np.ndarray | None = None,
    model: str = "net",
    dataset: str = "data",
    kind: str | None = None,
    better: str | None = None,
    labels: Sequence[int] | None = None,
    quick: bool = False,
    **columns: object,
) -> None:
    """One ok cell with its scores; ``quick`` leaves the interval to a normal one."""
    cell = name_of(model, dataset, explainer, metric)
    count = len(values)
    ids = list(ids) if ids is not None else [f"s{place:04d}" for place in range(count)]
    labels = list(labels) if labels is not None else [place % 2 for place in range(count)]
    store.write_scores(
        cell,
        {
            "sample": ids,
            "value": values,
            "target": labels,
            "prediction": labels,
            "label": labels,
            "valid": np.isfinite(values),
            "curve": curves,
        },
    )
    known = KINDS.get(metric, ("faithfulness", "higher"))
    summary = _quick(values) if quick else summarise(values)
    store.append(
        {
            **about(model, dataset, explainer, metric),
            **summary,
            "kind": kind or known[0],
            "better": better or known[1],
            "unit": "probability",
            "status": "ok",
            **columns,
        }
    )


def _quick(values: np.ndarray) -> dict[str, float | int]:
    mean, half = values.mean(), 1.96 * values.std() / len(values) ** 0.5
    return {
        "value": mean,
        "std": values.std(),
        "ci_low": mean - half,
        "ci_high": mean + half,
        "n": len(values),
        "n_invalid": 0,
    }


def write_hole(store: Store, explainer: str, metric: str, status: str, error: str, **names: str) -> None:
    """A cell without a score."""
    model, dataset = names.get("model", "net"), names.get("dataset", "data")
    kind, better = KINDS.get(metric, ("faithfulness", "higher"))
    store.append(
        {
            **about(model, dataset, explainer, metric),
            "status": status,
            "stage": "explain",
            "error": error,
            "kind": kind,
            "better": better,
            "unit": "probability",
        }
    )


def about(model: str, dataset: str, explainer: str, metric: str) -> dict[str, object]:
    """What all rows say of their cell."""
    config = {
        "model": {"name": model},
        "dataset": {"name": dataset},
        "explainer": {"name": explainer},
        "metric": {"name": metric},
        "protocol": PROTOCOL,
    }
    return {
        "cell": name_of(model, dataset, explainer, metric),
        "model": model,
        "dataset": dataset,
        "explainer": explainer,
        "metric": metric,
        "config": config,
        "commit": "abc1234",
        "dirty": False,
        "device": "a processor x 1",
        "stick": "s",
        "subject": "t",
        "torch": "2",
        "flags": [],
    }


def name_of(*parts: str) -> str:
    """A cell's name, which is also that of a file."""
    return "".join(f"{sum((place + 1) * ord(letter) for place, letter in enumerate(part)):06x}" for part in parts)


def small_run(directory: Path, seed: int, *, n: int = 24, means: Mapping[str, float] | None = None) -> Path:
    """A run of one block: good and fair explainers, a control, curves, costs, holes."""
    store, generator = Store(directory), np.random.default_rng([seed, n])
    means = means or {"lime": 0.6, "rise": 0.55, "saliency": 0.2, "random": 0.0}
    difficulty = generator.normal(0, 0.05, n)
    for place, (name, mean) in enumerate(means.items()):
        values = mean + difficulty + generator.normal(0, 0.05, n)
        curves = np.linspace(0, 1, 9)[None] * values[:, None] + generator.normal(0, 0.02, (n, 9))
        write_cell(store, name, "srg", values, curves=curves)
        write_cell(store, name, "deletion", 0.8 - values, curves=1 - curves)
        cost = np.full(n, 10.0 ** (-place - 1))
        write_cell(store, name, "seconds_per_sample", cost, ci_low=None, ci_high=None)
        if name != "saliency":
            write_cell(store, name, "sparseness", generator.uniform(0, 1, n))
    write_hole(store, "saliency", "sparseness", "not_applicable", "saliency has no sparseness here")
    for metric in ("srg", "deletion"):
        write_hole(store, "grad_cam", metric, "failed", "ValueError: no layer was found")
    return directory


def keep_maps(
    directory: Path,
    maps: Mapping[str, np.ndarray],
    *,
    modality: str = "image",
    inputs: np.ndarray | None = None,
    ids: Sequence[str] | None = None,
    tokens: list[list[str]] | None = None,
    unit_names: list[str] | None = None,
    unsigned: Sequence[str] = (),
    model: str = "net",
    dataset: str = "data",
) -> None:
    """Maps as a run keeps them."""
    folder, files = directory / "maps", RunFiles(directory)
    count = len(next(iter(maps.values())))
    ids = ids or [f"s{place:04d}" for place in range(count)]
    entries = {}
    for place, (label, values) in enumerate(maps.items()):
        files.write_array(folder / f"m{place}.npy", values.astype(np.float16))
        entries[label] = {"file": f"m{place}.npy", "signed": label not in unsigned, "control": label == "random"}
    if inputs is not None:
        files.write_array(folder / "inputs.npy", inputs)
    samples = [{"id": each, "label": "cat", "prediction": "cat", "target": "cat", "confidence": 0.9} for each in ids]
    about = {
        "model": model,
        "dataset": dataset,
        "protocol": PROTOCOL,
        "modality": modality,
        "samples": samples,
        "inputs": None if inputs is None else "inputs.npy",
        "tokens": tokens,
        "unit_names": unit_names,
        "explainers": entries,
    }
    files.write_json(folder / f"{model}-{dataset}.json", about)
