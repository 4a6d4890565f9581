"""What large runs cost: ``python tests/speed/scale.py`` writes a table into docs/scale.md; it takes some minutes.

It makes two runs of planted scores with 4,000 cells, one with 20 samples a cell and one with 10 million scores in all,
and calls verbs on them in a new process each. Seconds are those of the processor, with one thread. Memory is the
largest resident size. Numbers of samples as arguments measure runs with these instead, and print their rows.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import numpy as np  # noqa: E402
import yaml  # noqa: E402
from pages import as_table, replaced  # noqa: E402

PAGE, MARK = ROOT / "docs" / "scale.md", "scale table"
EXPLAINERS, METRICS, BLOCKS = 20, 20, 10
FEW, MANY = 20, 2_500  # samples of a cell
HEADS = ("a run of 4,000 cells", "scores in the run", "seconds of the processor", "memory")
MEASURED = """
import resource, sys, time
from contextlib import suppress
exec(sys.argv.pop(1))
own, others = (resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
seconds = sum(each.ru_utime + each.ru_stime for each in (own, others))
print(seconds, max(own.ru_maxrss, others.ru_maxrss) / 2**20, file=sys.stderr)
"""
VERB = "from harness.cli.main import main; status = main(sys.argv[1:]); assert status == 0, status"
PANDAS = """
from pathlib import Path
import pandas as pd
scores = pd.concat([pd.read_parquet(path) for path in Path(sys.argv[1]).glob("many/scores/*.parquet")])
scores.groupby("cell")["value"].agg(["mean", "std"])
"""


def configuration(folder: Path, samples: int) -> list[str]:
    """Writes groups of explainers and metrics, and gives the words that choose them for all blocks but seeds."""
    explainers = {f"blur_{i}": {"name": "blurred_random", "width": 0.01 + i / 1000} for i in range(EXPLAINERS - 1)}
    metrics = {f"deletion_{i}": {"name": "deletion", "steps": i + 2} for i in range(METRICS)}
    for group, items in (("explainer", explainers), ("metric", metrics)):
        (folder / group).mkdir(exist_ok=True)
        (folder / group / "many.yaml").write_text(yaml.safe_dump(items))
    items = ["model=digits_cnn", "dataset=digits", "explainer=many", "metric=many", f"protocol.samples={samples}"]
    return [f"--config-dir={folder}", *items, f"runtime.runs={folder}", "run=many"]


def plant(words: list[str], samples: int) -> None:
    """Writes the rows and scores of all cells as a run would, without measuring."""
    from harness.cli.hydra_config import for_each_job
    from harness.jobs.plan import Plan
    from harness.launching.outcome import write_configs
    from harness.results.store import Store

    os.fsync = lambda descriptor: None  # what is timed writes nothing
    names, draws = [f"digit {i}" for i in range(samples)], np.random.default_rng(0)

    def plant_block(config: dict[str, Any]) -> None:
        config.pop("launcher", None)
        plan = Plan.of(config).with_control()
        store, levels = Store(plan.directory), {each: draws.normal() for each in plan.explainers}
        codes, sticks = {e: plan.subject_code(e) for e in plan.explainers}, {m: plan.stick(m) for m in plan.metrics}
        write_configs([plan])
        for cell in plan.cells:
            values = draws.normal(levels[cell.explainer], 1, samples)
            store.write_scores(cell.id, {"sample": names, "value": values})
            store.append(
                {
                    **{"cell": cell.id, "status": "ok", "model": plan.model.label, "dataset": plan.dataset.label},
                    **{"explainer": cell.explainer.label, "metric": cell.metric.label, "kind": "faithfulness"},
                    **{"unit": "probability", "better": "lower", "task": "classes", "seed": plan.protocol.seed},
                    **{"subject": codes[cell.explainer] + "-0", "stick": sticks[cell.metric], "seconds": 0.1},
                    **{"n": samples, "value": values.mean(), "config": plan.identity(cell.explainer, cell.metric)},
                }
            )

    assert for_each_job([*words, f"protocol.seed={','.join(map(str, range(BLOCKS)))}", "-m"], plant_block) == 0


def measured(code: str, *words: str) -> tuple[float, float]:
    """Seconds of the processor and largest memory (GiB) of code in a new process."""
    # The package's modules are compiled once, and not at each start.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-c", MEASURED, code, *words]
    done = subprocess.run(command, env={**kept, **paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    seconds, memory = map(float, done.stderr.splitlines()[-1].split())
    return seconds, memory


def rows_of(folder: Path, samples: int) -> Iterator[tuple[str, ...]]:
    """The rows of the table for runs with a number of samples."""
    words = configuration(folder, samples)
    plant(words, samples)
    told = lambda what, found: (
        what,
        f"{EXPLAINERS * METRICS * BLOCKS * samples:,}",
        f"{found[0]:.1f}",
        f"{found[1]:.1f} GiB",
    )
    if samples <= FEW:
        measured(VERB, "plan", *words)  # compiles
        for verb in ("plan", "run"):
            one = measured(VERB, verb, *words)
            yield told(f"`harness {verb}` of one of its ten blocks, all done", one)
    run = ["many", f"--runs={folder}"]
    measured(VERB, "table", *run)
    yield told("`harness table`", measured(VERB, "table", *run))
    yield told("`harness report`", measured(VERB, "report", *run))
    yield told("plain pandas: all scores read, mean and deviation of each cell", measured(PANDAS, str(folder)))


def main(numbers: list[str]) -> None:
    """Measure, and write the table or print its rows."""
    rows = []
    for samples in map(int, numbers or (FEW, MANY)):
        with tempfile.TemporaryDirectory() as folder:
            for row in rows_of(Path(folder), samples):
                print(*row, sep=" | ", flush=True)
                rows.append(row)
    if not numbers:
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), MARK, as_table(HEADS, rows)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
