"""Computes the model's outputs for unperturbed inputs, and checks that they are usable."""

from torch import Tensor

from harness.checks import check_dtype, first_line
from harness.errors import NotApplicable, UserError
from harness.guards import keeps_buffers_of_its_own, own_changes_noted
from harness.predictor import Predictor


def first_outputs(predictor: Predictor, one: Tensor) -> Tensor:
    """The outputs for a single input; NotApplicable if the model does not take an input of this shape.

    With one input, an error other than a wrong shape is unlikely. Later errors, such as a lack of memory, are failures.
    It is the first call of the model: lazy layers get their shapes, and guards learn which buffers it makes and changes
    by itself, also when the size of the batch changes.
    """
    model = predictor.module
    try:
        with own_changes_noted(model):
            outputs = predictor.logits(one)
            if keeps_buffers_of_its_own(model):
                predictor.logits(one.repeat(2, *[1] * (one.dim() - 1)))
        return outputs
    except UserError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        check_dtype(model, one)
        shape = tuple(one.shape[1:])
        raise NotApplicable(f"the model does not take inputs of shape {shape}: {first_line(error)}") from None


def clean_outputs(predictor: Predictor, inputs: Tensor) -> Tensor:
    """The outputs (N, classes) for unperturbed inputs, float32 on the CPU; UserError if one is not finite."""
    outputs = predictor.logits(inputs).cpu()
    if not outputs.isfinite().all():
        raise UserError("the model's outputs for clean inputs hold NaN or infinite values")
    return outputs if outputs.dim() == 2 else outputs.unsqueeze(1)
