"""The passes a cost cell tells are those that ran, however the explainer called the model, or they are not told."""

import copy
import os

import pytest
import torch
from torch import nn

from harness.api import samples_of
from harness.engine.cost import UNCOUNTED, explain_measured
from harness.engine.explain import Explaining
from harness.errors import NotApplicable
from harness.registry import EXPLAINERS

N = 5
SMALL = {"samples": 24, "permutations": 6}


class Tally(torch.autograd.Function):
    """The identity, which counts for itself how many rows come by on the way there and back."""

    @staticmethod
    def forward(ctx, outputs, seen):
        ctx.seen = seen
        seen["forward"] += len(outputs)
        return outputs.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.seen["backward"] += len(gradient)
        return gradient, None


class Net(nn.Module):
    """A small network that counts its own rows in ``seen``."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 3),
        )
        self.seen = {"forward": 0, "backward": 0}

    def forward(self, inputs):
        return Tally.apply(self.layers(inputs), self.seen)


@pytest.fixture
def world():
    """A network, and samples it is to be explained on; HARNESS_TEST_SEED repeats a draw."""
    seed = int(os.environ["HARNESS_TEST_SEED"])
    print(f"HARNESS_TEST_SEED={seed}")
    torch.manual_seed(seed)
    net = Net().eval()
    samples = samples_of(net, torch.randn(N, 3, 12, 12), torch.randint(3, (N,)), train=torch.randn(20, 3, 12, 12))
    return net, samples


def measured(explainer, net, samples):
    """The cost of explaining all samples, set-up apart."""
    entry = EXPLAINERS.resolve(explainer)
    small = {name: value for name, value in SMALL.items() if isinstance(entry.options.get(name), int)}
    if entry.options.get("segments") == "auto":
        small["segments"] = "grid:3"
    if entry.options.get("steps", 0) > 100:
        small["steps"] = 5
    explaining = Explaining(entry, entry.complete(small), net)
    explaining.prepare(samples)
    if hasattr(net, "seen"):
        net.seen.update(forward=0, backward=0)
    return explain_measured(explaining, samples, 0.0, True)[1]


def counts(cost):
    (forwards,), (backwards,) = (set((passes * N).round().tolist()) for passes in (cost.forwards, cost.backwards))
    return forwards, backwards


def gradient_of(call, inputs, targets):
    inputs.requires_grad_()
    return torch.autograd.grad(call(inputs).gather(1, targets[:, None]).sum(), inputs)[0]


@pytest.mark.parametrize(
    "name", [name for name, entry in EXPLAINERS.items() if "image" in entry.modalities and entry.scope == "local"]
)
def test_the_passes_of_every_registered_explainer_are_those_the_model_saw(name, world):
    net, samples = world
    try:
        cost = measured(name, net, samples)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    assert counts(cost) == (net.seen["forward"], net.seen["backward"])
    assert (net.seen["forward"] > 0) == (EXPLAINERS[name].access != "none") and cost.reason == ""


def deep_copy(model, inputs, targets):
    return gradient_of(copy.deepcopy(model), inputs, targets)


def output_by_output(model, inputs, targets):
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x).sum(0), inputs)
    return jacobian.movedim(0, 1)[torch.arange(N), targets]


@pytest.mark.parametrize("explainer, expected", [(deep_copy, (N, N)), (output_by_output, (N, 3 * N))])
def test_passes_through_a_deep_copy_and_one_output_after_the_other_are_counted(explainer, expected, world):
    assert counts(measured(explainer, *world)) == expected


def layer_by_layer(model, inputs, targets):
    return gradient_of(lambda x: model.layers[1:](model.layers[0](x)), inputs, targets)


def layers_beside_the_model(model, inputs, targets):
    model.layers[0](inputs)
    return gradient_of(model, inputs, targets)


def forward_by_name(model, inputs, targets):
    return gradient_of(model.forward, inputs, targets)


def copied_layers(model, inputs, targets):
    return gradient_of(copy.deepcopy(model.layers), inputs, targets)


def one_sample_after_the_other_by_vmap(model, inputs, targets):
    def logit(x, target):
        return model.layers(x[None])[0].gather(0, target[None])[0]

    return torch.func.vmap(torch.func.grad(logit))(inputs, targets)


@pytest.mark.parametrize(
    "explainer",
    [layer_by_layer, layers_beside_the_model, forward_by_name, copied_layers, one_sample_after_the_other_by_vmap],
)
def test_work_outside_the_models_own_call_leaves_the_passes_unknown_and_says_why(explainer, world):
    cost = measured(explainer, *world)
    assert cost.forwards.isnan().all() and cost.backwards.isnan().all() and cost.reason == UNCOUNTED
    assert cost.seconds.isfinite().all()


def vmapped_calls(model, inputs, targets):
    def logit(x, target):
        return model(x[None])[0].gather(0, target[None])[0]

    return torch.func.vmap(torch.func.grad(logit))(inputs, targets)


def jacobian_at_once(model, inputs, targets):
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x).sum(0), inputs, vectorize=True)
    return jacobian.movedim(0, 1)[torch.arange(N), targets]


def no_call_at_all(model, inputs, targets):
    return inputs


def weights_alone(model, inputs, targets):
    return inputs * model[1].weight[targets].view_as(inputs)


@pytest.mark.parametrize("explainer", [vmapped_calls, jacobian_at_once, forward_by_name, weights_alone])
def test_the_passes_of_a_plain_stack_are_unknown_under_function_transforms_and_where_none_was_seen(explainer):
    net = nn.Sequential(nn.Flatten(), nn.Linear(27, 3)).eval()
    samples = samples_of(net, torch.randn(N, 3, 3, 3), torch.randint(3, (N,)))
    cost = measured(explainer, net, samples)
    assert cost.forwards.isnan().all() and cost.backwards.isnan().all() and cost.reason == UNCOUNTED


def test_an_explainer_that_reads_no_weight_made_no_pass():
    net = nn.Sequential(nn.Flatten(), nn.Linear(27, 3)).eval()
    samples = samples_of(net, torch.randn(N, 3, 3, 3), torch.randint(3, (N,)))
    cost = measured(no_call_at_all, net, samples)
    assert (cost.forwards == 0).all() and (cost.backwards == 0).all() and not cost.reason


def test_counting_leaves_no_hook_behind_even_after_an_error(world):
    net, samples = world

    def broken(model, inputs, targets):
        model(inputs)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measured(broken, net, samples)
    measured("gradient", net, samples)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


def test_a_transformer_keeps_its_fused_path_while_it_is_counted():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
    net = nn.Sequential(encoder, nn.Flatten(), nn.Linear(32, 3)).eval().requires_grad_(False)
    hooked = []

    def looks(model, inputs, targets):
        hooked.extend(part for part in encoder.layers[0].modules() if part._forward_pre_hooks or part._forward_hooks)
        model(inputs)
        return inputs

    cost = measured(looks, net, samples_of(net, torch.randn(N, 4, 8), torch.randint(3, (N,)), modality="tokens"))
    assert hooked == [] and counts(cost) == (N, 0)
