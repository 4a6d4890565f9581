"""FullGrad: the gradients of the input and of all biases, in one map."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._at_layer import enlarged, forward_hook, low_and_span
from harness.explainers._gradients import in_chunks, tell_completeness, zeros_to_sum
from harness.explainers._operations import operations_visible
from harness.predictor import check_outputs, target_logits
from harness.registry import explainer
from harness.samples import Samples

_CONVOLUTIONS, _NORMS = nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm


@dataclass
class BiasedCall:
    """One call of a module with a bias: its output, and the bias in a shape that broadcasts to it."""

    output: Tensor
    bias: Tensor
    spatial: bool


@explainer(access="activations", signed=False, modalities=("image", "series", "volume"), cost="1 F 1 B")
def full_grad(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """FullGrad: input x gradient and bias x gradient of every convolution and batch norm, each made absolute, scaled to
    0..1 and summed (Srinivas and Fleuret 2019, 1905.00780).

    Shape (N, 1, H, W), of a series (N, 1, T), of a volume (N, 1, D, H, W); at least 0; no unit. The full gradient is x
    df/dx and, for each bias b, b df/db at each place. On ReLU nets all of them add up to f(x): the fact
    ``completeness_error`` measures it, linear layers included, before the post-processing. The map does not add up: as
    in the released code each of these tensors is made absolute, scaled to 0..1 within a sample and summed over its
    channels; linear layers are left out. Coarse terms are enlarged with half-pixel centres, in the released code with
    aligned corners. The bias of a batch norm is what it adds in eval mode. Not applicable where no convolution or batch
    norm has a bias, where one works on samples that are folded into several rows, to TorchScript, and where no gradient
    reaches the input.

    Example: pooled(image) has the gradient (1, 1, 0, 0) at the pixels 1 to 4. Its second channel has the bias -2, whose
    gradient is -1 at the last two pixels. Both terms, scaled to 0..1, are summed.

    >>> harness.explain("full_grad", pooled, image, target)
    tensor([[[[0.5000, 1.0000],
              [1.0000, 1.0000]]]])
    """
    errors, maps = [], []
    for of_inputs, of_biases, logits in in_chunks(
        context, lambda rows: _decomposed(model, inputs[rows], targets[rows])
    ):
        spatial = [term for term, is_spatial in of_biases if is_spatial]
        if not spatial:
            raise NotApplicable("no convolution and no batch norm of the model has a bias")
        terms = [enlarged(_rescaled_sum(term), context.units.shape) for term in spatial]
        maps.append(_rescaled_sum(of_inputs) + sum(terms))
        whole = of_inputs.flatten(1).double().sum(1)
        errors.append((whole + sum(term.flatten(1).double().sum(1) for term, _ in of_biases), logits.double()))
    sums, promised = (torch.cat(each) for each in zip(*errors, strict=True))
    tell_completeness(context, sums[:, None], promised)
    return torch.cat(maps)


def _decomposed(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, list[tuple[Tensor, bool]], Tensor]:
    """x df/dx, the products of each bias with its gradients and whether they lie on places, and the logits (n,)."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        operations_visible(model),
        _biases_seen(model, inputs.dim()) as calls,
    ):
        leaf = inputs.detach().clone().requires_grad_()
        logits = target_logits(check_outputs(model(leaf.clone()), len(leaf)), targets)
        used = [call for call in calls if call.output.requires_grad]
        wanted = [leaf, *(call.output for call in used)]
        found = torch.autograd.grad(logits.sum(), wanted, allow_unused=True) if logits.requires_grad else [None]
    if found[0] is None:
        raise NotApplicable("no gradient of the model's output reaches its input")
    if any(len(call.output) != len(leaf) for call in used):
        raise NotApplicable(
            "a layer with a bias works on more or fewer rows than there are samples, so that it is not known which "
            "sample its bias belongs to"
        )
    terms = [
        (call.bias.to(zeros_to_sum(gradient[:0])) * gradient, call.spatial)
        for call, gradient in zip(used, found[1:], strict=True)
        if gradient is not None
    ]
    return inputs.to(zeros_to_sum(inputs[:0])) * found[0], terms, logits.detach()


@contextmanager
def _biases_seen(model: nn.Module, axes: int) -> Iterator[list[BiasedCall]]:
    """Inside, every call of a convolution, linear layer or batch norm with a bias is added to the list."""
    calls: list[BiasedCall] = []

    def note(module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        bias = _bias_of(module)
        last = isinstance(module, nn.Linear)
        shape = [-1 if axis == (output.dim() - 1 if last else 1) else 1 for axis in range(output.dim())]
        calls.append(BiasedCall(output, bias.reshape(shape), not last and output.dim() == axes))
        return output.clone()  # the next layer may work in place

    hooks = [forward_hook(module, note) for module in model.modules() if _has_bias(module)]
    with ExitStack() as stack:
        for hook in hooks:
            stack.enter_context(hook)
        yield calls


def _has_bias(module: nn.Module) -> bool:
    norm = isinstance(module, _NORMS) and module.running_mean is not None
    return norm or (isinstance(module, (_CONVOLUTIONS, nn.Linear)) and isinstance(module.bias, Tensor))


def _bias_of(module: nn.Module) -> Tensor:
    """What a module adds; of a batch norm in eval mode that is its bias less the scaled running mean."""
    if not isinstance(module, _NORMS):
        return module.bias.detach()
    scale = torch.rsqrt(module.running_var + module.eps) * (1 if module.weight is None else module.weight.detach())
    return (0 if module.bias is None else module.bias.detach()) - module.running_mean * scale


def _rescaled_sum(term: Tensor) -> Tensor:
    """Absolute values scaled to 0..1 within each sample, summed over the channels: (n, 1, *grid)."""
    flat = term.abs().flatten(1)
    low, span = low_and_span(flat)
    return ((flat - low) / span).view(term.shape).sum(1, keepdim=True)
