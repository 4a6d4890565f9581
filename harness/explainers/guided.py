"""Explainers that send the target's logit back through ReLUs by a rule of their own: guided backpropagation, deconvnet.

``harness.explainers._relus`` says which operations are ReLUs. The papers have no rule for other activations (leaky
ReLU, GELU, SiLU, ...): these keep their plain derivative and are listed as ``unruled`` in the fact ``operations``.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._gradients import gradient_of, in_chunks
from harness.explainers._operations import exact, traced
from harness.explainers._relus import relu_rules
from harness.predictor import target_logits
from harness.registry import explainer
from harness.samples import Samples

# way_back(x, y): a tensor with the value of y, the ReLU of x, whose derivative is the rule
WayBack = Callable[[Tensor, Tensor], Tensor]


@explainer(convention="local", cost="1 F 1 B")
def guided_backprop(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """Guided backpropagation: the gradient of the target's logit, of which every ReLU passes back only what is
    positive, and only where it was open (Springenberg et al. 2014, 1412.6806).

    Inputs' shape; signed; logit per unit of input. A capped ReLU is open between 0 and its cap. The fact
    ``operations`` counts the operations with the rule, and others without one: the rule then covers only part of the
    model. Not applicable to models without a ReLU on the way from the input, and as ``gradient``.

    Example: f(x) = relu(x1 + x2) - relu(x2) + relu(x1 - x2) at (1, 3). The gradient -1 at the second ReLU is dropped,
    the third ReLU is closed, and (1, 1) is left from the first one.

    >>> harness.explain("guided_backprop", relu_net, x, target)
    tensor([[1., 1.]])
    """
    return guided_gradient(model, inputs, targets, context)


@explainer(convention="local", cost="1 F 1 B")
def deconvnet(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """Deconvnet: the gradient of the target's logit, of which every ReLU passes back only what is positive, whether it
    was open or not (Zeiler and Fergus 2013, 1311.2901).

    Inputs' shape; signed; logit per unit of input. Max pooling passes back to the place of its maximum. Facts and
    limits as of ``guided_backprop``.

    Example: f(x) = relu(x1 + x2) - relu(x2) + relu(x1 - x2) at (1, 3). The gradient -1 at the second ReLU is dropped;
    the first gives (1, 1), and the third (1, -1) although it is closed.

    >>> harness.explain("deconvnet", relu_net, x, target)
    tensor([[2., 0.]])
    """
    return _through_relus(model, inputs, targets, context, exact)


def guided_gradient(model: nn.Module, inputs: Tensor, targets: Tensor, context: Samples) -> Tensor:
    """The maps of ``guided_backprop``, in the inputs' shape, with the same facts and limits."""
    return _through_relus(model, inputs, targets, context, lambda x, y: y)


def _through_relus(model: nn.Module, inputs: Tensor, targets: Tensor, context: Samples, way_back: WayBack) -> Tensor:
    """The gradient with ``way_back`` for the derivative of ReLUs, which pass back only what is positive."""
    rules = relu_rules(lambda x, y, cap: _only_positive(way_back(x, y)))

    def of_rows(rows: Tensor) -> Tensor:
        outputs, leaf, operations = traced(model, inputs[rows], rules)
        counts = operations.report()
        if not counts["ruled"]:
            others = ", ".join(sorted(counts["unruled"])) or "none with a rule in any method"
            raise NotApplicable(f"no ReLU on the way from the input, nothing to guide (operations seen: {others})")
        context.tell(operations=counts)
        return gradient_of(target_logits(outputs, targets[rows]), leaf)

    return torch.cat(list(in_chunks(context, of_rows)))


def _only_positive(y: Tensor) -> Tensor:
    """The same tensor, through which only positive gradients pass back."""
    if y.requires_grad:  # it does not where the model works under no_grad
        y.register_hook(lambda gradient: gradient if gradient is None else gradient.clamp(min=0))
    return y
