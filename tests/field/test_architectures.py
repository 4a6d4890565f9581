"""The small models of published architectures: what everything that is tried on them relies on."""

import pytest
import torch
from torch import nn

import harness
from architectures import ARCHITECTURES, as_a_user_gives_it
from harness.registry import EXPLAINERS


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


TEXT_MODELS = ("BERT", "GPT-2", "Llama", "Gemma", "ESM")
THROUGH_ATTENTION = ("lrp", "attn_lrp", "cp_lrp", "transformer_attribution", "attention_rollout", "deep_lift")


@pytest.mark.filterwarnings("ignore:tokens that are no")
@pytest.mark.parametrize("name", TEXT_MODELS)
def test_attention_that_adds_the_least_number_at_masked_places_is_explained_like_fused_attention(name):
    model, data = as_a_user_gives_it(name)
    for explainer in THROUGH_ATTENTION:
        maps = []
        for form in ("sdpa", "eager"):
            model.set_attn_implementation(form)
            maps.append(harness.explain(explainer, model, data))
        assert maps[1].isfinite().all() and maps[0].abs().sum() > 0
        assert (maps[1] - maps[0]).abs().max() < 1e-3 * maps[0].abs().max(), explainer


class WithOneTable(nn.Module):
    """The two towers with one table for every image, whose layers the explained image does not pass through."""

    def __init__(self, made):
        super().__init__()
        self.towers, self.table = made.module, made.carried["table"][:1]
        self.eval()

    def forward(self, image):
        return self.towers(image, table=self.table.expand(len(image), -1))


@pytest.mark.parametrize("name", [name for name in EXPLAINERS if name.startswith("captum_")])
def test_captum_explains_a_model_with_layers_beside_the_way_of_the_input_or_says_why_not(name):
    made = ARCHITECTURES["two towers"]()
    options = {"samples": 9} if "samples" in EXPLAINERS[name].options else {}
    options |= {"segments": "grid:2"} if "segments" in EXPLAINERS[name].options else {}
    try:
        maps = harness.explain(name, WithOneTable(made), made.inputs, made.targets, train=made.inputs, **options)
    except harness.NotApplicable as error:
        assert "\n" not in str(error)
    else:
        assert maps.shape == made.inputs.shape and maps.isfinite().all()


def _outputs(made, rows):
    outputs = made.module(made.inputs[rows], **{key: each[rows] for key, each in made.carried.items()})
    return getattr(outputs, "logits", outputs)
