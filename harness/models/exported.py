"""Models as programs in a file: TorchScript and torch.export."""

import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError, one_line
from harness.models._program_text import check_program
from harness.models.preprocessing import preprocessing, read_names
from harness.models.state import existing_file, weights_alone
from harness.registry import model
from harness.sources import LoadedModel

BY_CHANCE = ("training", "train")  # the arguments of operations that say so: dropout and norms over the batch


class Program(nn.Module):
    """A program as a module of its own: hooks, copies and guards work on it, which programs do not allow of them."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        if isinstance(program, torch.jit.ScriptModule):
            program.eval()
        for part in self.modules():  # what torch.export made has no modes, but the marks of one
            part.training = False

    def train(self, mode: bool = True) -> "Program":
        """A program stays what it was saved as."""
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits that the program gives."""
        return self.program(inputs)


@model(imports=("preprocess",))
def exported(
    *,
    path: str | None = None,
    preprocess: str | None = None,
    size: int | None = None,
    mean: Any = None,
    std: Any = None,
    classes: str | None = None,
) -> LoadedModel:
    """A model saved as a program: TorchScript (``torch.jit.save``) or a file of ``torch.export.save`` (``.pt2``).

    The program maps float batches of any size to logits: with ``torch.export`` the batch axis must be exported as
    dynamic. ``preprocess``, ``size``, ``mean``, ``std`` and ``classes`` are those of the model ``python``.

    Reading the file unpickles tensors alone, and a file of ``torch.export`` whose sizes, guards or operations are other
    than formulas and torch's own is refused, as torch would evaluate them as Python. The program is executed, though,
    whenever the model is called: among torch's operations are some that read and write files, so that a program, like
    other software, should come from where one trusts. Layers of a program cannot be watched: explainers and metrics
    that need them, or the operations of TorchScript, are not applicable; those by gradients and perturbations work.
    UserError, in one line, for a file that is neither, a batch of fixed size, and a program saved in training mode.
    """
    file = existing_file(path, "path=FILE, a TorchScript or torch.export program")
    program = _exported(file) if _is_export(file) else _scripted(file)
    module = Program(program).requires_grad_(False)
    function, value_range = preprocessing(preprocess, size, mean, std)
    return LoadedModel(module, function, value_range, read_names(classes))


def _is_export(file: Path) -> bool:
    """Whether a file is of torch.export: an archive that names its format so."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        formats = [name for name in archive.namelist() if name.endswith("archive_format")]
        return any(archive.read(name) == b"pt2" for name in formats)


def _scripted(file: Path) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that TorchScript will not be developed further
            program = torch.jit.load(file, map_location="cpu")
    except Exception as error:  # whatever a file that is no such thing provokes
        raise _neither(file, error) from error
    _refuse_chance(file, _scripted_flags(program.eval()))
    return program


def _exported(file: Path) -> nn.Module:
    try:
        check_program(file)
        with weights_alone():  # torch would read anything where that fails
            exported = torch.export.load(file)
    except UserError:
        raise
    except Exception as error:
        raise _neither(file, error) from error
    _refuse_chance(file, _exported_flags(exported))
    _refuse_fixed_batch(file, exported)
    return exported.module()


def _neither(file: Path, error: Exception) -> UserError:
    return UserError(
        f"{file} cannot be read: {one_line(error)[:200]}; expected a program saved with torch.jit.save or "
        "torch.export.save (a state dict goes beside a factory: model=python model.factory=... model.weights=FILE)"
    )


def _scripted_flags(program: torch.jit.ScriptModule) -> Iterator[tuple[str, Any]]:
    """Operations of a TorchScript program that have two modes, and which one is written into it, if one is."""
    graph = program.inlined_graph
    for kind in ("dropout", "batch_norm", "feature_dropout", "alpha_dropout"):
        for node in graph.findAllNodes(f"aten::{kind}"):
            flag = list(node.inputs())[5 if kind == "batch_norm" else 2]
            yield kind, flag.toIValue() if flag.node().kind() == "prim::Constant" else None


def _exported_flags(exported: torch.export.ExportedProgram) -> Iterator[tuple[str, Any]]:
    for node in exported.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for place, argument in enumerate(schema.arguments if schema else ()):
            if argument.name in BY_CHANCE:
                given = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
                yield schema.name.removeprefix("aten::"), given


def _refuse_chance(file: Path, flags: Iterator[tuple[str, Any]]) -> None:
    for kind, flag in flags:
        if flag is True:
            raise UserError(
                f"{file} was saved in training mode: its {kind} depends on chance or on the batch; call model.eval() "
                "before exporting"
            )


def _refuse_fixed_batch(file: Path, exported: torch.export.ExportedProgram) -> None:
    wanted = exported.graph_signature.user_inputs
    shapes = [tuple(node.meta["val"].shape) for node in exported.graph.nodes if node.name in wanted]
    if len(shapes) != 1:
        raise UserError(f"{file} takes {len(shapes)} inputs, expected a program of one: a float batch")
    if isinstance(shapes[0][0], int):
        raise UserError(
            f"{file} was exported for batches of {shapes[0][0]}, expected any: export it with "
            "dynamic_shapes=({0: torch.export.Dim.AUTO},) and an example batch of 2 or more"
        )
