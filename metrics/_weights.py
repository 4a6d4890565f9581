"""A model's layers in the order they run, and random weights for them."""

import copy
import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harness.as_written import as_written
from harness.errors import NotApplicable
from harness.predictor import Carried, Predictor


def layers(predictor: Predictor, inputs: Tensor, carried: Carried | None = None) -> list[list[str]]:
    """Names of the modules that hold parameters themselves, layer by layer, the last to run first.

    Modules are ordered by the time at which their call on the first of ``inputs`` begins. A module that is never called
    itself, like an attention's output projection, belongs to the nearest module around it that is.
    """
    module = predictor.module
    called = _call_times(predictor, inputs[:1], {name: values[:1] for name, values in (carried or {}).items()})
    by_call: dict[int, list[str]] = {}
    for name, part in module.named_modules():
        if any(True for _ in part.parameters(recurse=False)):
            by_call.setdefault(_call_of(name, called), []).append(name)
    if not by_call:
        raise NotApplicable("the model has no parameters to randomise")
    return [by_call[call] for call in sorted(by_call, reverse=True)]


def grouped(layer_names: list[list[str]], most: int) -> list[list[str]]:
    """The layers in at most ``most`` groups of even size, one group per layer if 0."""
    count = len(layer_names)
    numbers = torch.arange(count).tensor_split(min(most or count, count))
    return [[name for number in group.tolist() for name in layer_names[number]] for group in numbers]


def redrawn(model: nn.Module, stage: list[str], seed: int, running_statistics: str) -> list[tuple[Tensor, Tensor]]:
    """Every tensor of the named modules that is randomised, with its new values on the CPU.

    Parameters that a module's own ``reset_parameters`` initialises get these values; all others (class tokens,
    positional embeddings, layer scales, attention's in-projections) are drawn from a normal distribution with the mean
    and standard deviation of their present values. With ``running_statistics="reset"`` buffers are initialised as well.
    """
    return [pair for name in stage for pair in _redrawn(model.get_submodule(name), name, seed, running_statistics)]


def _call_times(predictor: Predictor, inputs: Tensor, carried: Carried) -> dict[str, int]:
    """When each module's last call began, by name."""
    called: dict[str, int] = {}
    names = {part: name for name, part in predictor.module.named_modules()}
    clock = itertools.count()

    def note(part: nn.Module, *_: object) -> None:
        called[names[part]] = next(clock)

    with with_hooks(list(names), note, before=True):
        predictor.live().logits(inputs, carried)
    return called


@contextmanager
def with_hooks(modules: list[nn.Module], hook: Callable[..., None], before: bool) -> Iterator[None]:
    """Inside, the hook is called before or after every module; compiled models run module by module."""
    register = nn.Module.register_forward_pre_hook if before else nn.Module.register_forward_hook
    handles = []
    try:
        for module in modules:
            handles.append(register(module, hook, with_kwargs=True))
        with as_written():
            yield
    finally:
        for handle in handles:
            handle.remove()


def _call_of(name: str, called: dict[str, int]) -> int:
    while name not in called:
        name = name.rpartition(".")[0]
    return called[name]


def _redrawn(part: nn.Module, name: str, seed: int, running_statistics: str) -> Iterator[tuple[Tensor, Tensor]]:
    # A model gets the same random weights whether it is compiled or not.
    own_name = ".".join(word for word in name.split(".") if word != "_orig_mod")
    digest = hashlib.blake2b(f"{seed}/{own_name}".encode(), digest_size=8).digest()
    with torch.random.fork_rng([]), torch.no_grad():
        # The CPU's generator alone, so that the weights are the same whatever the device.
        torch.default_generator.manual_seed(int.from_bytes(digest, "little"))
        fresh = _initialised(part) if hasattr(part, "reset_parameters") else {}
        values = {
            own: fresh[own] if own in fresh else _like(parameter)
            for own, parameter in part.named_parameters(recurse=False)
        }
    yield from ((getattr(part, own), value) for own, value in values.items())
    if running_statistics == "reset":
        yield from ((buffer, fresh[own]) for own, buffer in part.named_buffers(recurse=False) if own in fresh)


def _initialised(part: nn.Module) -> dict[str, Tensor]:
    """The module's own tensors as its ``reset_parameters`` leaves them, without those that it does not change."""
    twin = copy.deepcopy(part).cpu()
    for parameter in twin.parameters(recurse=False):
        parameter.fill_(float("nan"))
    twin.reset_parameters()
    own = itertools.chain(twin.named_parameters(recurse=False), twin.named_buffers(recurse=False))
    return {name: tensor.detach() for name, tensor in own if not tensor.isnan().any()}


def _like(parameter: Tensor) -> Tensor:
    """Normal draws with the mean and standard deviation of the values; where these are all equal, with their size for
    standard deviation."""
    values = parameter.detach().cpu().float()
    spread = values.std(correction=0)
    return values.mean() + torch.randn(values.shape) * (spread if spread > 0 else values.mean().abs())
