"""Weights of files, read as weights alone, and what every loaded module is made into."""

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

EXPECTED = "expected a state dict saved with torch.save(model.state_dict(), file)"


def ready(module: nn.Module) -> nn.Module:
    """The module in eval mode, frozen, and out of place: explainers need what came before an activation."""
    for part in module.modules():
        if getattr(part, "inplace", False) and not isinstance(part, torch.jit.ScriptModule):
            part.inplace = False
    return module.requires_grad_(False).eval()


def existing_file(path: str | None, what: str) -> Path:
    """The file that an option names; ``what`` is the option and what it should hold."""
    file = Path(path or "").expanduser()
    if not path or not file.is_file():
        raise UserError(f"{path!r} is not a file, expected {what}")
    return file


def load_weights(module: nn.Module, path: Path, name: str, keep: Callable[[str], bool] = lambda key: True) -> nn.Module:
    """Fill a module with the weights of a file, those ``keep`` lets through; each must fit, none may lack."""
    state = {key: tensor for key, tensor in read_state(path).items() if keep(key)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"weights {path} do not fit {name}: {' '.join(str(error).split())[:300]}") from error
    return module


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of a state dict saved with ``torch.save``; nothing is executed."""
    try:
        state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_saved(path)
    except Exception as error:  # whatever a file that is no such thing provokes
        raise UserError(f"weights {path} cannot be read: {_told(error)}; {EXPECTED}") from error
    named = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    if not named or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            f"weights {path} hold a {type(state).__name__} with other things than tensors by name, {EXPECTED}"
        )
    return state


def _read_saved(path: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is no state dict torch warns before it raises
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> object:
    return needed("safetensors.torch", "a .safetensors file", "safetensors").load_file(path)


def _told(error: Exception) -> str:
    text = str(error)
    if "unsupported global" in text.lower():
        return "it holds pickled objects, such as a whole module, and reading those could run code"
    if "TorchScript archives" in text:
        return "it is TorchScript, which model=exported takes"
    return one_line(error)[:200]


def needed(module: str, who: str, requirement: str) -> ModuleType:
    """An optional library's module, or one line that says how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(f"{who} needs {package}, which is not installed: pip install '{requirement}'") from error


@contextmanager
def weights_alone() -> Iterator[None]:
    """Inside, ``torch.load`` refuses all but weights, whoever calls it: some libraries' downloads allow any pickle."""
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
        if before is not None:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before
