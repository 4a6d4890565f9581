"""Peak memory of explainers of images at ResNet-50: ``python tests/speed/explainer_memory.py`` fills docs/speed.md.

One call explains 16 inputs of 3 x 224 x 224 pixels on a CPU, at small budgets: the number of draws and steps hardly
changes the memory, as they are processed in chunks. It is the largest resident memory of the process above that before
the call, in MB. All explainers take an hour of one core: with the path of a file as argument, each is written into it
once it is measured, and those in it are not measured again.
"""

import resource
import sys
import warnings
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs"), str(Path(__file__).parent)]

from pages import as_table, replaced  # noqa: E402

from bounds import ready  # noqa: E402
from harness.engine.cost import explain_measured  # noqa: E402
from harness.errors import NotApplicable, one_line  # noqa: E402
from harness.predictor import default_chunk  # noqa: E402
from harness.registry import MODELS  # noqa: E402
from test_explainers_speed import MEASURED, explaining_of  # noqa: E402

PAGE, MARK = ROOT / "docs" / "speed.md", "memory table"
COUNT = 16
BUDGETS = {"samples": 32, "permutations": 2, "steps": 4, "repeats": 1, "draws": 4}
FEWER = {"sobol_attribution": {"samples": 2}}  # each sample takes as many passes as there are segments
LEFT_OUT = ("ablation_cam", "agi", "score_cam", "vit_cx", "exact_shapley")  # thousands of passes for a sample
COLUMNS = 3  # of explainers side by side


def main(log: Path | None) -> None:
    """Measure all explainers that are not in the log, and write the table, from the least memory to the most."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    device = torch.device("cpu")
    model = ready(MODELS["torchvision"].function(architecture="resnet50").module, device)
    inputs, targets = torch.randn(COUNT, 3, 224, 224), torch.zeros(COUNT, dtype=torch.long)
    with torch.no_grad():
        model(inputs)  # what the libraries keep from their first call
    found = dict(line.split() for line in log.read_text().splitlines()) if log and log.exists() else {}
    for name in MEASURED:
        if name in LEFT_OUT or name in found:
            continue
        try:
            explaining, samples = explaining_of(
                name, model, inputs, targets, default_chunk(inputs), BUDGETS | FEWER.get(name, {})
            )
            found[name] = f"{explain_measured(explaining, samples, 0.0, True)[1].peak_memory_mb[0].item():.0f}"
        except NotApplicable as reason:
            print(f"{name}: {one_line(reason)}", flush=True)
            continue
        if log:
            with log.open("a") as file:
                file.write(f"{name} {found[name]}\n")
        whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(f"{name}: {found[name]} MB (the process so far at most {whole:.0f} MB)", flush=True)
        write_memory_table(found)  # also of a measurement that is ended before all are measured


def write_memory_table(found: dict[str, str]) -> None:
    """Put the megabytes of each explainer into the page, from the least to the most."""
    names = sorted(found, key=lambda name: float(found[name]))
    rows = -(-len(names) // COLUMNS)
    cells = [[f"`{name}`", f"{float(found[name]):,.0f}"] for name in names] + [["", ""]] * (rows * COLUMNS - len(names))
    lines = [tuple(cell for part in range(COLUMNS) for cell in cells[row + part * rows]) for row in range(rows)]
    table = as_table(("explainer", "MB") * COLUMNS, lines)
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), MARK, table), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
