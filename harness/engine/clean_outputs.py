"""Computes the model's outputs for unperturbed inputs, and checks that they are usable."""

from typing import Any

import torch
from torch import Tensor

from harness.adapted_model import AdaptedModel
from harness.checks import check_dtype, first_line
from harness.errors import NotApplicable, UserError
from harness.guards import isolated_randomness, keeps_buffers_of_its_own, own_changes_noted
from harness.predictor import Carried, Predictor


def first_answer(adapted: AdaptedModel, inputs: Tensor, carried: Carried, described: str = "") -> Any:
    """What the user's module returns for a few inputs, without gradients.

    NotApplicable if the model does not take inputs of this shape; ``described`` follows the shape in the message. With
    few inputs, an error other than a wrong shape is unlikely; later errors, such as a lack of memory, are failures. The
    first call gives lazy layers their shapes, and guards learn which buffers the model makes and changes by itself,
    also when the size of the batch changes.
    """
    model = adapted.model
    try:
        # Never in inference mode, and without a graph: tensors that the model stores are used with gradients later.
        with torch.inference_mode(False), torch.no_grad(), own_changes_noted(model):
            returned = adapted.returned(inputs.clone(), carried)
            if keeps_buffers_of_its_own(model):
                twice = {name: torch.cat([values, values]) for name, values in carried.items()}
                adapted.returned(torch.cat([inputs, inputs]), twice)
        return returned
    except (UserError, NotApplicable):
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        check_dtype(model, inputs)
        shape = tuple(inputs.shape[1:])
        raise NotApplicable(
            f"the model does not take inputs of shape {shape}{described}: {first_line(error)}"
        ) from None


def random_difference(predictor: Predictor, inputs: Tensor, carried: Carried) -> float:
    """How much the model's outputs for the same inputs differ from call to call, over their largest magnitude.

    0 for a model whose outputs follow from its inputs. The global generators are restored.
    """
    live = predictor.live()  # which counts its own passes
    with isolated_randomness(inputs.device):
        first, second = (live.logits(inputs, carried).double() for _ in range(2))
    largest = float(torch.maximum(first.abs(), second.abs()).max())
    return float((first - second).abs().max()) / largest if largest else 0.0


def clean_outputs(predictor: Predictor, inputs: Tensor, carried: Carried) -> Tensor:
    """The outputs (N, classes) for unperturbed inputs, float32 on the CPU; UserError if one is not finite."""
    outputs = predictor.logits(inputs, carried).cpu()
    if not outputs.isfinite().all():
        raise UserError("the model's outputs for clean inputs hold NaN or infinite values")
    return outputs if outputs.dim() == 2 else outputs.unsqueeze(1)
