"""A run as somebody else could have made it: every kind of file, and any content in them, with right checksums.

A checksum is no signature: whoever changes a file can compute its seal.
"""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from harness.results.rows import REAL_COLUMNS, WHOLE_COLUMNS
from harness.results.run_files import text_digest
from harness.results.statistics import summarise
from harness.results.store import Store
from harness.seals import MARK, ZEROS, sealed

PLANTED = "planted_module"  # whose import leaves a mark
SAMPLES, KEPT = 12, 3
TERMINAL = "\x1b[2J\x1b]0;owned\x07\x9b31m\x7f\u202e\u2028"  # commands to a terminal, and marks of direction
MARKUP = (
    "</script><script>planted()</script><planted onload=planted()>'\" onmouseover=planted() x='"
    "<a href=javascript:planted()>]]>-->"
)
TEXTS = [
    *(f"{PLANTED}:run", PLANTED, f"{PLANTED}:", f"{PLANTED}.x:run", "{'name': 'exported'}", "${oc.env:HOME}"),
    *("", ".", "..", "../../outside", "/etc/passwd", "a/b", "\0", "x" * 3000, TERMINAL, MARKUP, "javascript:planted()"),
    *("ok", "failed", "higher", "lower", "cost", "check", "sanity", "srg", "deletion", "random", "quantus.IROF", "nan"),
    *("0001-01-01", "9999-12-31T23:59:59+14:00", "2026-11-29T10:00:00", "[1]", "{}", '{"a": 1}', "1e999", "=1+1", "`|"),
]
NUMBERS = [0, -1, 3, 2**63 - 1, 2**64, 10**200, 0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), -float("inf")]
KEYS = ["name", "seed", "steps", "samples", "tables", "repeats", "source", "caveat", "median", f"{PLANTED}:run", "<b>"]
EXPLAINERS = ("saliency", "rise", "random")
METRICS = (("srg", "probability", 0), ("deletion", "probability", 9), ("seconds", "s", 0))  # unit, points of a curve

texts = st.sampled_from(TEXTS) | st.text(max_size=10)
numbers = st.sampled_from(NUMBERS) | st.integers() | st.floats()
contents = st.recursive(
    texts | numbers | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=3),
    max_leaves=6,
)
# Each change is the number of a place, what is done there, and a content.
changes = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(("put", "put", "add", "drop")), contents), min_size=1, max_size=3
)


def write_run(directory: Path) -> Path:
    """Explainers with scores, curves, costs, tables and maps, and two that have none."""
    store, generator = Store(directory), np.random.default_rng(0)
    environment = store.write_environment({"python": "3.11", "libraries": {"torch": "2.15"}, "device": "cpu"})
    for explainer in EXPLAINERS:
        repeats = pd.DataFrame({"unit": ["a", "a", "b", "b"], "value": [1.0, 2.0, 3.0, 5.0]})
        audit = {"tables": {"repeats": store.write_table(explainer, "repeats", repeats)}, "convergence": {"mean": 1}}
        for metric, unit, points in METRICS:
            row, values = _row(explainer, metric, unit, environment), generator.normal(size=SAMPLES)
            store.write_scores(row["cell"], _scores(values, generator.random((SAMPLES, points)) if points else None))
            store.append({**row, "audit": audit, **summarise(values)})
    for explainer, status in (("edge", "failed"), ("grad_cam", "not_applicable")):
        store.append({**_row(explainer, "srg", "probability", environment), "status": status, "error": "no reason"})
    _write_maps(store, generator)
    store.write_config("digits_cnn-digits", json.dumps(configuration(), indent=1))
    _announce(directory, [_row("lime", "srg", "probability", environment)])
    return directory


def configuration() -> dict[str, Any]:
    """The configuration of the run's block."""
    return {
        "model": {"name": "digits_cnn", "label": "digits_cnn"},
        "dataset": {"name": "digits", "label": "digits"},
        "explainer": {name: {"name": name} for name in ("saliency", "rise")},
        "metric": {"srg": {"name": "srg"}},
        "protocol": {"samples": SAMPLES, "seed": 0, "target": "predicted"},
        "runtime": {"shards": 2, "runs": "runs"},
        "run": "theirs",
    }


def _row(explainer: str, metric: str, unit: str, environment: str) -> dict[str, Any]:
    about = {"model": "digits_cnn", "dataset": "digits", "explainer": explainer, "metric": metric}
    kind = "cost" if metric == "seconds" else "faithfulness"
    config = {name: {"name": label, "options": {"depth": [1, "a"]}} for name, label in about.items()}
    return about | {
        **{"cell": f"{explainer}-{metric}", "kind": kind, "unit": unit, "better": "lower" if unit == "s" else "higher"},
        **{"status": "ok", "stage": "", "error": "", "flags": ["a flag"], "stick": "s", "subject": "code-weights"},
        **{"device": "cpu", "torch": "2.15", "commit": "c", "dirty": False, "environment": environment, "seed": 0},
        **{"n": 0, "n_invalid": 0, "seconds": 0.1, "attempt": 1, "batch_size": 8, "task": "classes"},
        "config": {**config, "protocol": {"samples": SAMPLES, "seed": 0, "target": "predicted"}},
    }


def _scores(values: np.ndarray, curves: np.ndarray | None) -> dict[str, Any]:
    return {
        "sample": [f"s{place}" for place in range(SAMPLES)],
        "value": values,
        "target": [0, 1, 2] * (SAMPLES // 3),
        "groups": ['{"sex": "f"}', '{"sex": "m"}'] * (SAMPLES // 2),
        **({} if curves is None else {"curve": curves}),
    }


def _write_maps(store: Store, generator: np.random.Generator) -> None:
    folder, files = store.directory / "maps", store.run_files
    files.write_array(folder / "block-inputs.npy", generator.integers(0, 255, (KEPT, 8, 8, 3), dtype=np.uint8))
    for explainer in ("saliency", "rise"):
        files.write_array(folder / f"{explainer}.npy", generator.normal(size=(KEPT, 8, 8)).astype(np.float16))
    index = {
        **{"model": "digits_cnn", "dataset": "digits", "modality": "image", "inputs": "block-inputs.npy"},
        "protocol": {"samples": SAMPLES, "seed": 0, "target": "predicted"},
        "samples": [{"id": f"s{n}", "label": "a", "prediction": "b", "confidence": 0.5} for n in range(KEPT)],
        **{"tokens": None, "unit_names": None},
        "explainers": {
            name: {"file": f"{name}.npy", "signed": True, "control": False} for name in ("rise", "saliency")
        },
    }
    files.write_json(folder / "block.json", index)


def _announce(directory: Path, rows: list[dict[str, Any]]) -> None:
    path = directory / "working" / "20261129T100000.000000-elsewhere.1-77-abcdef12.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps([row | {"stage": "score"} for row in rows]) + "\n")


def rewrite_rows(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Put other rows in the place of those of a run, each with a right seal."""
    for path in (run / "cells").glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        path.write_bytes(b"".join(sealed_json(change(row), row["cell"]) + b"\n" for row in rows))


def rewrite_texts(run: Path, change: Callable[[Any], Any]) -> None:
    """Put other contents into configurations and environments, under the names that are right for them."""
    for path in (*(run / "config").glob("*.json"), *(run / "environment").glob("*.json")):
        text = json.dumps(change(json.loads(path.read_text()))).encode()
        path.unlink()
        start = path.stem.rpartition("-")[0]
        path.with_name(f"{start}-{text_digest(text)}.json" if start else f"{text_digest(text)}.json").write_bytes(text)


def rewrite_index(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Put another content into the index of maps, with a right seal."""
    for path in (run / "maps").glob("*.json"):
        path.write_bytes(sealed_json(change(json.loads(path.read_bytes())), f"maps/{path.stem}"))


def rewrite_announcements(run: Path, change: Callable[[Any], Any]) -> None:
    """Let processes announce something else."""
    for path in (run / "working").glob("*.jsonl"):
        path.write_text(json.dumps([change(row) for row in json.loads(path.read_text())]) + "\n")


def sealed_json(values: Any, name: Any) -> bytes:
    """A mapping as JSON with a seal for a name; what is no mapping without one."""
    if not isinstance(values, dict):
        return json.dumps(values).encode()
    name = quote(str(values.get("cell", name)), safe="", errors="replace")
    seal = f"{MARK.decode()}{ZEROS.decode()} {name};"
    return sealed(json.dumps({**values, "seal": seal}).encode())


def without_seals(run: Path) -> Path:
    """The run as an older version wrote it, without checksums: then files are parsed whatever their bytes are."""
    for path in run.glob("*/*"):
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(MARK, b"harness-none "))
    for path in (run / "cells").glob("*.jsonl"):
        path.rename(path.with_name("x.jsonl"))
    return run


def changed(values: Any, steps: list[tuple[int, str, Any]]) -> Any:
    """The values with a content put in, added or dropped at some places, however deep."""
    for number, way, content in copy.deepcopy(steps):
        places = list(_places(values))
        if not places:
            return content
        holder, key = places[number % len(places)]
        if way == "drop":
            del holder[key]
        elif way == "add" and isinstance(holder, dict):
            holder[KEYS[number % len(KEYS)]] = content
        else:
            holder[key] = content
    return values


def changed_row(row: dict[str, Any], steps: list[tuple[int, str, Any]], text: str, number: float) -> dict[str, Any]:
    """A row with other contents that are still of the kind of their columns, so that it is read."""
    kept = [name for name, value in row.items() if isinstance(value, str) and name not in ("seal", "cell", "finished")]
    place = steps[0][0]
    row |= {kept[place % len(kept)]: text, REAL_COLUMNS[place % 5]: number, WHOLE_COLUMNS[place % 5]: place - 10}
    row["flags"] = [text]
    for name in ("config", "audit"):
        if isinstance(row.get(name), dict):
            row[name] = changed(row[name], steps)
    return row


def changed_bytes(content: bytes, places: list[tuple[int, int]], kept: float) -> bytes:
    """The content with other bytes at some places, cut off behind a part of it."""
    other = bytearray(content)
    for place, byte in places:
        other[place % len(other)] = byte
    return bytes(other[: max(1, int(kept * len(other)))])


def with_texts(value: Any, added: str, *, but: tuple[str, ...] = ()) -> Any:
    """The value with something added to every text in it, but to those of some keys."""
    if isinstance(value, dict):
        return {name: each if name in but else with_texts(each, added, but=but) for name, each in value.items()}
    if isinstance(value, list):
        return [with_texts(each, added, but=but) for each in value]
    return value + added if isinstance(value, str) else value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in [*value] if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])
