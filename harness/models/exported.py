"""Models as programs in a file: TorchScript and torch.export."""

import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError, one_line
from harness.models.preprocessing import PREPROCESSING, PreprocessingOptions, output_names, preprocessing
from harness.models.state import existing_file
from harness.registry import model
from harness.sources import LoadedModel

MODE_ARGUMENTS = ("training", "train")  # arguments of operations that have two modes, such as dropout


class Program(nn.Module):
    """A program wrapped as a module, on which hooks, copies and guards work; programs themselves do not allow these."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        if isinstance(program, torch.jit.ScriptModule):
            program.eval()
        for part in self.modules():  # a program of torch.export has one mode, but is marked as in training
            part.training = False

    def train(self, mode: bool = True) -> "Program":
        """The program, whose mode cannot be changed."""
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits that the program gives."""
        return self.program(inputs)


@model(imports=("preprocess",))
def exported(
    *, path: str | None = None, trust: bool = False, prepared: PreprocessingOptions = PREPROCESSING
) -> LoadedModel:
    """A model saved as a program: TorchScript (``torch.jit.save``) or a file of ``torch.export.save`` (``.pt2``).

    ``path`` is the file. The program maps float batches of any size to logits; with ``torch.export`` the batch axis
    must be exported as dynamic. ``PreprocessingOptions`` describes ``preprocess``, ``size``, ``mean``, ``std`` and
    ``classes``.

    Such a file is a program: reading or calling it can do on this machine whatever you can do. So it is refused,
    unread, unless ``trust`` is true: you trust its source. Weights (a state dict, safetensors) hold no program and
    need no trust. The layers of a program cannot be observed: explainers and metrics that need layers, or the
    operations of a TorchScript program, are not applicable; those that need gradients or outputs work. UserError
    for a file that is no program, a batch of fixed size, and a program saved in training mode.
    """
    file = existing_file(path, "path=FILE, a TorchScript or torch.export program")
    if trust is not True:
        raise UserError(
            f"{file} is a program, which can do anything on this machine when it is read; if you trust its source, "
            "type model.trust=true"
        )
    program = _export_program(file) if _is_export(file) else _script_program(file)
    module = Program(program).requires_grad_(False)
    function, value_range = preprocessing(prepared)
    return LoadedModel(module, function, value_range, output_names(prepared.classes))


def _is_export(file: Path) -> bool:
    """Whether a file is of torch.export: an archive that names this format."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        formats = [name for name in archive.namelist() if name.endswith("archive_format")]
        return any(archive.read(name) == b"pt2" for name in formats)


def _script_program(file: Path) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of TorchScript, which is not developed any more
            program = torch.jit.load(file, map_location="cpu")
    except Exception as error:  # torch can raise anything on a file of another kind
        raise _no_program(file, error) from error
    _refuse_training_mode(file, _scripted_flags(program.eval()))
    return program


def _export_program(file: Path) -> nn.Module:
    try:
        exported = torch.export.load(file)
    except Exception as error:
        raise _no_program(file, error) from error
    _refuse_training_mode(file, _exported_flags(exported))
    _refuse_fixed_batch(file, exported)
    return exported.module()


def _no_program(file: Path, error: Exception) -> UserError:
    return UserError(
        f"{file} cannot be read: {one_line(error)[:200]}; expected a program saved with torch.jit.save or "
        "torch.export.save (a state dict goes beside a factory: model=python model.factory=... model.weights=FILE)"
    )


def _scripted_flags(program: torch.jit.ScriptModule) -> Iterator[tuple[str, Any]]:
    """The operations of a TorchScript program that have two modes, with the mode if the program fixes it, else None."""
    graph = program.inlined_graph
    for kind in ("dropout", "batch_norm", "feature_dropout", "alpha_dropout"):
        for node in graph.findAllNodes(f"aten::{kind}"):
            flag = list(node.inputs())[5 if kind == "batch_norm" else 2]
            yield kind, flag.toIValue() if flag.node().kind() == "prim::Constant" else None


def _exported_flags(exported: torch.export.ExportedProgram) -> Iterator[tuple[str, Any]]:
    """The operations of a program of torch.export that have two modes, with the value of the argument that sets it."""
    for node in exported.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for place, argument in enumerate(schema.arguments if schema else ()):
            if argument.name in MODE_ARGUMENTS:
                value = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
                yield schema.name.removeprefix("aten::"), value


def _refuse_training_mode(file: Path, flags: Iterator[tuple[str, Any]]) -> None:
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
