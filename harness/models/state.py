"""Weights read from files, of which nothing is executed, and the state that every loaded module is put into."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from harness.errors import UserError, one_line
from harness.places import user_path

EXPECTED_STATE = "expected a state dict saved with torch.save(model.state_dict(), file)"


def ready(module: nn.Module) -> nn.Module:
    """The module in eval mode, frozen, and without operations in place, which overwrite what explainers need."""
    for part in module.modules():
        if getattr(part, "inplace", False) and not isinstance(part, torch.jit.ScriptModule):
            part.inplace = False
    return module.requires_grad_(False).eval()


def existing_file(path: str | None, what: str) -> Path:
    """The file ``path``; UserError where it does not exist. ``what`` tells the option and what the file should hold."""
    file = user_path(path or "")
    if not path or not file.is_file():
        raise UserError(f"{path!r} is not a file, expected {what}")
    return file


def load_weights(module: nn.Module, path: Path, name: str, keep: Callable[[str], bool] = lambda key: True) -> nn.Module:
    """Load the weights of a file into a module, those for whose names ``keep`` is true.

    UserError, with ``name`` for the module, where a weight is missing, unexpected or of another shape.
    """
    state = {key: tensor for key, tensor in read_state(path).items() if keep(key)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"weights {path} do not fit {name}: {' '.join(str(error).split())[:300]}") from error
    return module


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of a state dict saved with ``torch.save``; nothing is executed.

    UserError where the file is something else.
    """
    try:
        state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_saved(path)
    except Exception as error:  # torch can raise anything on a file of another kind
        raise UserError(f"weights {path} cannot be read: {_why_unreadable(error)}; {EXPECTED_STATE}") from error
    named = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    if not named or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            f"weights {path} hold a {type(state).__name__} with other things than tensors by name, {EXPECTED_STATE}"
        )
    return state


def _read_saved(path: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about other files before it raises
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> object:
    return needed("safetensors.torch", "a .safetensors file", "safetensors").load_file(path)


def _why_unreadable(error: Exception) -> str:
    text = str(error)
    if "unsupported global" in text.lower():
        return "it holds pickled objects, such as a whole module, and reading those could run code"
    if "TorchScript archives" in text:
        return "it is TorchScript, which model=exported takes"
    return one_line(error)[:200]


def needed(module: str, who: str, requirement: str) -> ModuleType:
    """A module of an optional library; UserError that says how to install the library where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(f"{who} needs {package}, which is not installed: pip install '{requirement}'") from error


@contextmanager
def weights_alone() -> Iterator[None]:
    """Within it ``torch.load`` reads only weights, whoever calls it; some libraries would unpickle anything."""
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
        if before is not None:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before
