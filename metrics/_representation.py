"""A model's hidden representation of its inputs: the input of its last layer, or the output of a named one."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapted_model import OTHER_POSITIONS, UNIT_POSITIONS
from harness.errors import NotApplicable, unknown
from harness.metrics._weights import with_hooks
from harness.predictor import Carried
from harness.samples import Samples


def representation(samples: Samples, layer: str | None) -> Samples:
    """The samples for a model whose outputs are the representation, flattened: (N, K).

    It is the output of the layer of that name. Without a name it is the input of the module that is called last among
    those that hold weights themselves. Of several calls of one module the last counts. NotApplicable where there is no
    such module inside the model, where it is not called, and where it gives no tensor with a row for each input.
    """
    model = samples.predictor.module
    if layer is None:
        last = samples.shared("last layer with weights", lambda: _last_called(samples))
        return _seen_by(samples, _Hidden(model, last, of_input=True))
    named = [name for name, _ in model.named_modules() if name]
    if layer not in named:
        raise unknown("layer", layer, named)
    return _seen_by(samples, _Hidden(model, layer, of_input=False))


def _seen_by(samples: Samples, module: nn.Module) -> Samples:
    live = samples.live()
    return replace(live, predictor=replace(live.predictor, module=module))


class _Hidden(nn.Module):
    """The model up to the input of its layer, or its output."""

    def __init__(self, model: nn.Module, name: str, of_input: bool) -> None:
        super().__init__()
        self.model, self.name, self.of_input = model, name, of_input

    def forward(self, inputs: Tensor, *carried: Any) -> Tensor:
        noted: list[Any] = []

        def note(module: nn.Module, arguments: tuple, named: dict[str, Any], *output: Any) -> None:
            value = next(iter((*arguments, *named.values())), None) if self.of_input else output[0]
            noted[:] = [value.clone() if isinstance(value, Tensor) else value]  # later layers may change it in place

        with with_hooks([self.model.get_submodule(self.name)], note, before=self.of_input):
            self.model(inputs, *carried)
        return self._checked(noted, len(inputs), carried[0] if carried else {})

    def _checked(self, noted: list[Any], count: int, carried: Carried) -> Tensor:
        if not noted:
            raise NotApplicable(f"layer {self.name!r} is not called in a forward pass")
        value, what = noted[0], "is given" if self.of_input else "gives"
        if not isinstance(value, Tensor) or not value.dim() or len(value) != count:
            came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise NotApplicable(f"layer {self.name!r} {what} {came} for {count} inputs, not a row for each")
        others = carried.get(OTHER_POSITIONS)
        if others is not None and value.dim() > 2 and value.shape[1] == others.shape[1]:
            # Padding is no unit of a text: the representation must not depend on the length to which it is padded.
            value = value[torch.arange(count, device=value.device)[:, None], carried[UNIT_POSITIONS]]
        return value.reshape(count, -1)


def _last_called(samples: Samples) -> str:
    """The module inside the model with weights of its own whose call begins last."""
    model = samples.predictor.module
    names = {m: name for name, m in model.named_modules() if name and any(True for _ in m.parameters(recurse=False))}
    called: list[str] = []
    with with_hooks(list(names), lambda module, *_: called.append(names[module]), before=True):
        samples.live().take(samples.places.new_zeros(1)).model_outputs()
    if not called:
        raise NotApplicable("no module with weights is called inside the model; name the layer to look at (layer=)")
    return called[-1]
