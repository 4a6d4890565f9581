"""Computes the model's outputs for unperturbed inputs, and checks that they are usable."""

from typing import Any

import torch
from torch import Tensor

from harness.adapted_model import AdaptedModel
from harness.checks import first_line
from harness.errors import NotApplicable, UserError
from harness.predictor import Carried, Predictor


def first_answer(adapted: AdaptedModel, inputs: Tensor, carried: Carried) -> Any:
    """What the user's module returns for a few inputs, with its autograd graph where it has gradients.

    NotApplicable if the model does not take inputs of this shape. With few inputs, an error other than a wrong shape is
    unlikely; later errors, such as a lack of memory, are failures.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad():
            return adapted.returned(inputs.clone().requires_grad_(inputs.is_floating_point()), carried)
    except (UserError, NotApplicable):
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        shape = tuple(inputs.shape[1:])
        raise NotApplicable(f"the model does not take inputs of shape {shape}: {first_line(error)}") from None


def clean_outputs(predictor: Predictor, inputs: Tensor, carried: Carried) -> Tensor:
    """The outputs (N, classes) for unperturbed inputs, float32 on the CPU; UserError if one is not finite."""
    outputs = predictor.logits(inputs, carried).cpu()
    if not outputs.isfinite().all():
        raise UserError("the model's outputs for clean inputs hold NaN or infinite values")
    return outputs if outputs.dim() == 2 else outputs.unsqueeze(1)
