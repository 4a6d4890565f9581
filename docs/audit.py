"""Tries every explainer on twelve architectures and writes what its self-checks show: run ``python docs/audit.py``.

The networks are those of the tests: random weights, small sizes. Explainers have their defaults. It takes about half an
hour on two cores; ``python docs/audit.py resnet18 MLP`` prints the rows of some architectures instead.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pages import replaced

import harness
from harness.completeness import INCOMPLETE
from harness.engine.audit import EXPLODED, SAME
from harness.engine.block import explain_each
from harness.engine.convergence import CONVERGED
from harness.engine.item_guard import ItemGuard
from harness.engine.protocol import Protocol, precision
from harness.engine.selection import choose_several
from harness.engine.stage import Stage, set_stage
from harness.jobs.checking import outcome_row
from harness.models.black_box import loaded_model
from harness.registry import EXPLAINERS
from harness.results.numbers import significant

FOLDER = Path(__file__).parent
PAGE, MARK = FOLDER / "explainers.md", "audit"
SAMPLES, TRAIN, SEED = 2, 64, 0
NOT_A_METHOD = ("precomputed", "oracle")  # a file of maps, and a known truth
OF_ZOO = ("resnet18", "ConvNeXt", "Swin transformer", "vision transformer", "1-D CNN", "MLP")
OF_FIELD = ("BERT", "GPT-2", "Llama", "Gemma", "LSTM", "boosted trees")
NAMES = {"Swin transformer": "Swin", "vision transformer": "ViT", "boosted trees": "trees"}


def architectures() -> dict[str, Callable[[], tuple[Any, harness.Data]]]:
    """Name -> a function that makes the model and the data as a user gives them."""
    for tests in ("zoo", "field"):
        sys.path.append(str(FOLDER.parent / "tests" / tests))
    from architectures import as_a_user_gives_it
    from nets import NETS

    def of_zoo(name: str) -> tuple[Any, harness.Data]:
        net = NETS[name]
        inputs, train = torch.randn(SAMPLES, *net.shape), torch.randn(TRAIN, *net.shape)
        labels = torch.randint(net.classes, (TRAIN,))
        model = enlivened(net.make(), train)
        with torch.no_grad():
            targets = model(inputs).argmax(1)
        data = harness.Data(
            inputs, targets, modality=net.modality, train=train, train_labels=labels, value_range=(-4.0, 4.0)
        )
        return model, data

    return {name: lambda name=name: of_zoo(name) for name in OF_ZOO} | {
        name: lambda name=name: as_a_user_gives_it(name) for name in OF_FIELD
    }


def enlivened(model: torch.nn.Module, inputs: torch.Tensor) -> torch.nn.Module:
    """The model in eval mode, with the BatchNorm statistics of the inputs and weights where a head starts at zero."""
    for part in model.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.momentum = 1.0
        if isinstance(part, torch.nn.Linear) and not part.weight.any():
            torch.nn.init.normal_(part.weight, std=0.1)
    with torch.no_grad():
        model.train()(inputs)
    return model.eval().requires_grad_(False)


def audited(model: Any, data: harness.Data) -> Iterator[dict[str, Any]]:
    """A row for each explainer: its status, flags, and the numbers of its self-checks."""
    names = [name for name in EXPLAINERS if name not in NOT_A_METHOD]
    stage: Stage = set_stage(loaded_model(model), data, Protocol.of({"target": "given"}), torch.device("cpu"))
    stage.compute_outputs()
    chosen = choose_several(EXPLAINERS, names)
    with precision(stage.protocol.dtype):
        for each, outcome in explain_each(stage, chosen, ItemGuard(stage), alone=True, twice=True):
            yield {"explainer": each.label, **outcome_row(outcome)}


def word(row: Mapping[str, Any]) -> str:
    """One architecture's field of the table: what the self-checks flag, or a dot."""
    if row["status"] != "ok":
        return "n/a" if row["status"] == "not_applicable" else "**failed**"
    number = lambda name: row.get(name) if row.get(name) is not None and pd.notna(row.get(name)) else 0.0
    largest = (row["audit"].get("largest_over_output") or {}).get("median") or 0.0
    words = [
        "not finite" if row["not_finite"] else "",
        "constant" if row["constant"] else "",
        f"= {row['equal_to']}" if row.get("equal_to") else "",
        f"sum {significant(row['completeness_error'])}" if number("completeness_error") > INCOMPLETE else "",
        f"values {significant(largest)}" if largest > EXPLODED else "",
        f"alone {row['alone_difference']:.0e}" if number("alone_difference") > SAME else "",
        f"again {row['repeat_difference']:.0e}" if number("repeat_difference") > SAME else "",
        f"seeds {row['convergence']:.2f}" if (number("convergence") or CONVERGED) < CONVERGED else "",
    ]
    return ", ".join(filter(None, words)) or "·"


def main(chosen: list[str]) -> None:
    """Audit all architectures and write the page, or print the rows of those that are named."""
    makers, columns = architectures(), {}
    for name in chosen or makers:
        torch.manual_seed(SEED)
        rows = list(audited(*makers[name]()))
        columns[NAMES.get(name, name)] = {row["explainer"]: word(row) for row in rows}
        print(name, {row["explainer"]: row["error"] for row in rows if row["status"] == "failed"}, flush=True)
    table = pd.DataFrame(columns)
    if chosen:
        print(table.to_string())
    else:
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), MARK, markdown(table)), encoding="utf-8")


def markdown(table: pd.DataFrame) -> str:
    """The table of explainers down and architectures across, after a line of counts."""
    fields = table.to_numpy().ravel()
    counts = {kind: int((fields == kind).sum()) for kind in ("·", "n/a", "**failed**")}
    flagged = fields.size - sum(counts.values())
    head = (
        f"{len(table)} explainers on {table.shape[1]} architectures: {counts['·']} without a flag, {flagged} with one, "
        f"{counts['n/a']} not applicable, {counts['**failed**']} failed."
    )
    lines = [["explainer", *table.columns], ["---"] * (table.shape[1] + 1)]
    lines += [[f"`{name}`", *row] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    return "\n".join([head, "", *(f"| {' | '.join(line)} |" for line in lines)])


if __name__ == "__main__":
    main(sys.argv[1:])
