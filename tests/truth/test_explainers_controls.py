"""Controls know nothing of the model, and are what they say they are."""

import pytest
import torch
from torch import nn

from explainer_worlds import explain, model, near
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.predictor import Predictor
from harness.registry import EXPLAINERS

CONTROLS = ["blurred_random", "center", "edge", "input_magnitude", "random"]
NET = model(lambda inputs: inputs.flatten(1)[:, :3])


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_never_calls_the_model(name, seed):
    x, targets = torch.randn(3, 2, 9, 12), torch.tensor([0, 1, 2])
    samples = samples_of(NET, x, targets, predictor=Predictor(NET))
    asked = samples.predictor.forwards

    class Untouchable(nn.Module):
        def forward(self, inputs):
            raise AssertionError("a control called the model")

    entry = EXPLAINERS[name]
    assert entry.control and entry.access == "none"
    explaining = Explaining(entry, entry.complete({}), Untouchable().eval())
    explaining.prepare(samples)
    found = explaining(samples)
    assert found.shape == (3, 1, 9, 12) and found.isfinite().all() and samples.predictor.forwards == asked
    assert found.flatten(1).std(1).min() > 0


def test_an_edge_is_where_the_image_changes_and_as_steep_as_it_does(seed):
    down, right = torch.randn(2)
    plane = down * torch.arange(7.0)[:, None] + right * torch.arange(9.0)
    x = torch.stack([plane, plane + 5]).expand(1, 2, 7, 9)
    inner = explain("edge", NET, x, torch.tensor([0]))[0, 0, 1:-1, 1:-1]
    assert near(inner, 8 * torch.hypot(down, right).expand(5, 7), 1e-4)
    assert explain("edge", NET, torch.full((1, 3, 5, 5), 2.0), torch.tensor([0])).abs().max() == 0


def test_random_is_standard_normal_and_its_blur_too_at_every_place(seed):
    x, targets = torch.randn(3000, 1, 8, 12), torch.zeros(3000, dtype=torch.long)
    for name, options in (("random", {}), ("blurred_random", {"width": 0.2})):
        found = explain(name, NET, x, targets, **options)[:, 0]
        assert found.mean(0).abs().max() < 5.5 / 3000**0.5
        assert (found.var(0) - 1).abs().max() < 5.5 * (2 / 3000) ** 0.5
        neighbours = (found[:, :, 1:] * found[:, :, :-1]).mean()
        # far from the edge, neighbours under a Gaussian blur of sigma 1.6 correlate by exp(-1 / (4 sigma^2)) = 0.907
        assert abs(float(neighbours) - (0.907 if options else 0.0)) < 0.03


def test_center_is_highest_in_the_middle_and_falls_as_a_gaussian(seed):
    found = explain("center", NET, torch.randn(2, 3, 9, 13), torch.tensor([0, 1]), width=0.5)
    assert torch.equal(found[0], found[1])
    rows, columns = torch.arange(9.0) - 4, torch.arange(13.0) - 6
    expected = torch.exp(-(rows[:, None] ** 2 + columns**2) / (2 * 4.5**2))
    assert near(found[0, 0], expected)


def test_input_magnitude_is_the_norm_over_the_channels(seed):
    x = torch.randn(2, 3, 4, 5)
    assert near(explain("input_magnitude", NET, x, torch.tensor([0, 1])), x.square().sum(1, keepdim=True).sqrt())
    table = torch.randn(2, 6)
    assert torch.equal(explain("input_magnitude", NET, table, torch.tensor([0, 1])), table.abs())
    tokens = torch.randn(2, 6, 4)
    assert near(explain("input_magnitude", NET, tokens, torch.tensor([0, 1])), tokens.norm(dim=2, keepdim=True))


def test_random_serves_every_kind_of_input_and_pictures_only_images(seed):
    for shape in ((6,), (5, 3), (2, 3, 4, 5)):
        x = torch.randn(2, *shape)
        assert explain("random", NET, x, torch.tensor([0, 1])).isfinite().all()
    for name in ("center", "edge", "blurred_random"):
        assert "table" not in EXPLAINERS[name].modalities


def test_a_width_of_nothing_is_refused():
    for name in ("center", "blurred_random"):
        with pytest.raises(ValueError, match="width (of .* )?is 0.0"):
            explain(name, NET, torch.randn(1, 1, 4, 4), torch.tensor([0]), width=0.0)
