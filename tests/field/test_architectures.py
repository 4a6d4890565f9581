"""The small models of published architectures: what everything that is tried on them relies on."""

import pytest
import torch

from architectures import ARCHITECTURES


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_maps_each_row_by_itself_with_what_is_carried_with_it(name):
    made = ARCHITECTURES[name]()
    outputs = _outputs(made, torch.arange(len(made.inputs)))
    rows = torch.arange(7) % len(made.inputs)
    assert not made.module.training
    assert len(made.targets) == len(made.inputs) and all(
        len(each) == len(made.inputs) for each in made.carried.values()
    )
    assert outputs.is_floating_point() and outputs.isfinite().all()
    assert torch.allclose(_outputs(made, rows.flip(0)), outputs[rows.flip(0)], atol=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_its_outputs_depend_on_its_inputs(name):
    made = ARCHITECTURES[name]()
    rows = torch.arange(len(made.inputs))
    before = _outputs(made, rows)
    made.inputs[:] = made.inputs.roll(1, 0)
    assert (_outputs(made, rows) - before).abs().max() > 1e-3


def _outputs(made, rows):
    outputs = made.module(made.inputs[rows], **{key: each[rows] for key, each in made.carried.items()})
    return getattr(outputs, "logits", outputs)
