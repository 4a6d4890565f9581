"""What does not fit into the device's memory is halved until it does, and gives the same numbers."""

import pytest
import torch
from torch import nn

import harness
from harness.predictor import Predictor

FITS = 3  # inputs of one pass


class Hungry(nn.Module):
    """Takes so much memory that three inputs fit and four do not: on a GPU in truth, on a CPU it says so."""

    def __init__(self, device):
        super().__init__()
        self.net, self.share = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), 0
        if device.type == "cuda":
            torch.cuda.empty_cache()
            free, _ = torch.cuda.mem_get_info(device)
            self.share = int(free / (FITS + 0.5))

    def forward(self, inputs):
        if inputs.is_cuda:
            torch.empty(len(inputs) * self.share, dtype=torch.uint8, device=inputs.device)
        elif len(inputs) > FITS:
            raise torch.OutOfMemoryError(f"{len(inputs)} inputs")
        return self.net(inputs)


@pytest.fixture
def hungry(device):
    return Hungry(device).eval().requires_grad_(False).to(device)


def test_forward_passes_are_halved(hungry, device):
    inputs = torch.randn(16, 3, 2, 2, device=device)
    predictor = Predictor(hungry, chunk=8)
    torch.testing.assert_close(predictor.logits(inputs), hungry.net(inputs))
    assert predictor.halvings == 2 and predictor.chunk == 2 and predictor.forwards == 16


@pytest.mark.parametrize("explainer", ["gradient", "integrated_gradients", "smoothgrad", "occlusion", "kernel_shap"])
def test_an_explainer_gives_the_same_map_as_with_room(explainer, hungry, device):
    inputs, targets = torch.randn(8, 3, 2, 2, device=device), torch.arange(8, device=device) % 3
    expected = harness.explain(explainer, hungry.net, inputs, targets)
    torch.testing.assert_close(harness.explain(explainer, hungry, inputs, targets), expected, rtol=1e-4, atol=1e-5)


def test_a_tuned_evaluation_gives_the_same_scores_as_with_room(hungry, device):
    inputs, targets = torch.randn(8, 3, 2, 2), torch.arange(8) % 3

    def values(model):
        rows = harness.evaluate(
            model, inputs, targets, explainers=["gradient"], metrics=["srg", "sensitivity_n"], tuned=True
        )
        assert set(rows["status"]) == {"ok"}, rows["error"].unique()
        return torch.tensor(rows["value"].to_numpy())

    torch.testing.assert_close(values(hungry), values(hungry.net), rtol=1e-4, atol=1e-5)


def test_one_input_that_does_not_fit_is_said_in_one_line(hungry, device):
    class Starving(Hungry):
        def forward(self, inputs):
            return super().forward(inputs.repeat_interleave(FITS + 1, 0))[:: FITS + 1]

    starving = Starving(device).eval().to(device)
    with pytest.raises(MemoryError, match="does not hold one forward pass of one input"):
        Predictor(starving, chunk=8).logits(torch.randn(4, 3, 2, 2, device=device))
