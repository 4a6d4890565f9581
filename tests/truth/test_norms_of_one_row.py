"""Gradients through a norm for one image on a CPU: torch's are wrong, every explainer's are those of a batch."""

import pytest
import torch
from torch import nn

import harness
from explainer_worlds import explain_in, model, near
from harness.errors import NotApplicable
from harness.explainers._one_row_norms import right_norm_gradients
from harness.registry import EXPLAINERS
from harness.views.maximisation import Ascent, maximise

TARGETS = torch.tensor([0, 2, 1])
QUICK = {"samples": 6, "steps": 3, "images": 2, "runs": 2, "relu": True}
GIVEN_MORE = {"tcav", "precomputed", "oracle"}  # concepts, stored maps, a truth
BY_GRADIENT = [
    name
    for name, entry in EXPLAINERS.items()
    if entry.access in ("gradient", "activations") and not entry.caveat and name not in GIVEN_MORE
]


class TokensOfImages(nn.Module):
    """A stem of convolution and norm, whose places then become the tokens of an attention, as in LeViT (2104.01136)."""

    def __init__(self, norm):
        super().__init__()
        self.stem, self.norm, self.act = nn.Conv2d(3, 6, 2, 2), norm, nn.ReLU()
        self.mix, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, images):
        tokens = self.norm(self.stem(images)).flatten(2).transpose(1, 2).contiguous()
        shares = torch.softmax(tokens @ tokens.transpose(1, 2), -1)
        return self.out(self.act(tokens + self.mix(shares @ tokens)).mean(1))


def by_function(z):
    mean, variance = torch.linspace(-1, 1, 6).to(z), torch.linspace(0.5, 2, 6).to(z)
    return torch.batch_norm(z, None, None, mean, variance, False, 0.1, 1e-5, False)


NORMS = {
    "batch": lambda: nn.BatchNorm2d(6),
    "instance": lambda: nn.InstanceNorm2d(6),
    "function": lambda: model(by_function),
}


def world(kind):
    net, images = TokensOfImages(NORMS[kind]()).eval(), torch.randn(3, 3, 8, 8)
    if kind == "batch":
        nn.init.uniform_(net.norm.running_var, 0.5, 2), nn.init.uniform_(net.norm.weight, 0.5, 2)
    return net, images


def slope(net, images, targets):
    images = images.clone().requires_grad_()
    return torch.autograd.grad(net(images).gather(1, targets[:, None]).sum(), images)[0]


@pytest.mark.parametrize("kind", NORMS)
def test_plain_torch_still_gives_one_row_another_gradient_and_the_guard_the_right_one(kind, seed):
    net, images = world(kind)
    right = slope(net.double(), images.double().repeat(2, 1, 1, 1), TARGETS.repeat(2))[:3]
    assert near(slope(net, images.double(), TARGETS), right), "three rows are enough"
    net.float()
    assert not near(slope(net, images[:1], TARGETS[:1]), right[:1], 0.05), "torch is mended: the guard can go"
    with right_norm_gradients(images.device):
        assert near(slope(net, images[:1], TARGETS[:1]), right[:1], 1e-4)
    assert near(harness.explain("gradient", net, images[:1], TARGETS[:1]), right[:1], 1e-4)


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_no_explainer_gives_a_sample_another_map_where_its_row_is_alone(name, seed):
    net, images = world("batch")
    options = {option: value for option, value in QUICK.items() if option in EXPLAINERS[name].options}
    try:
        together = explain_in(3, 32, name, net, images, TARGETS, **options)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    for batch_size, chunk in ((1, 32), (3, 1), (2, 2)):  # the last of three is alone
        assert near(explain_in(batch_size, chunk, name, net, images, TARGETS, **options), together, 1e-3)


def test_pictures_of_what_a_unit_likes_follow_the_right_gradient(seed):
    net, images = world("batch")
    likes = lambda inputs: net(inputs)[:, 0]
    options = {"module": net, "axes": (2, 3), "seed": 1}
    one, two = (maximise(likes, (3, 8, 8), count, Ascent(steps=3, jitter=0), **options) for count in (1, 2))
    start = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(start[:1], torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    assert near(one[0], two[0][:1], 1e-3)


def test_a_compiled_model_is_guarded_too(seed):
    net, images = world("batch")
    whole = harness.explain("gradient", net, images, TARGETS)
    compiled = torch.compile(net, backend="eager")
    assert near(harness.explain("gradient", compiled, images[:1], TARGETS[:1]), whole[:1], 1e-4)
