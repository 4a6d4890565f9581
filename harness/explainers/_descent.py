"""Gradients of the probability of a class, which explainers that follow an adversarial path descend or climb."""

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._gradients import gradient_of
from harness.guards import frozen
from harness.predictor import check_outputs, predicted_class
from harness.samples import Samples


def check_classes(context: Samples) -> None:
    """NotApplicable unless exactly one of several classes is right, so that the predicted class can change."""
    if not context.task.exclusive:
        raise NotApplicable(f"an adversarial path needs classes, the model's task is {context.task.name}")


def class_gradients(
    model: nn.Module, context: Samples, points: Tensor, *columns: Tensor
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The predicted classes (rows,), all probabilities (rows, K), and gradients (rows, ...) of some of them.

    The classes are those of ``predicted_class``.

    ``columns`` are tensors of classes (rows,): there is one gradient for each tensor. Points may be of a higher
    precision than the inputs, so that small steps add up.
    """
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        leaf = points.detach().to(context.inputs.dtype, copy=True).requires_grad_()
        outputs = check_outputs(model(leaf.clone()), len(leaf)).float()
        shares = context.task.probabilities(outputs) if outputs.dim() == 2 else None
        if shares is None or shares.shape[1] < 2:
            raise NotApplicable("an adversarial path needs a model of several classes, this one has a single output")
        chosen = [shares.gather(1, column[:, None]) for column in columns]
        found = [gradient_of(each, leaf, keep_graph=True) for each in chosen]
    shares = shares.detach()
    return predicted_class(shares), shares, found
