"""The model comes back as it went in: bit for bit, and with everything attached where it was."""

import copy
import os

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

import harness
from harness.guards import ModelChanged, ModelGuard, guarded


@pytest.fixture(params=[int(os.environ["HARNESS_TEST_SEED"])], ids=lambda seed: f"seed{seed}")
def model(request):
    torch.manual_seed(request.param)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    net.register_buffer("marks", torch.tensor([float("nan"), -0.0, 1.0]))
    return net


@pytest.fixture
def inputs(model):
    return torch.randn(4, 3, 8, 8)


TARGETS = torch.arange(4)


def plain(model, inputs, targets):
    """Magnitudes."""
    return inputs.abs()


def contents(model):
    """Every tensor under its name, as bytes: NaN equals itself, and 0 is not -0."""
    return {name: (id(t), t.detach().numpy().tobytes()) for name, t in model.state_dict(keep_vars=True).items()}


def train_a_step(model, inputs):
    model(inputs).square().sum().backward()
    return {name: (p.grad, p.grad.clone()) for name, p in model.named_parameters()}


def test_a_model_with_gradients_of_the_users_training_is_explained_and_keeps_them(model, inputs):
    gradients = train_a_step(model, inputs)
    for explainer in (plain, "saliency", "integrated_gradients"):
        harness.explain(explainer, model, inputs, TARGETS)
    for name, parameter in model.named_parameters():
        assert parameter.grad is gradients[name][0] and torch.equal(parameter.grad, gradients[name][1])


def accumulate(model, inputs):
    model(inputs).sum().backward()


def drop(model, inputs):
    model.zero_grad()


def replace_gradients(model, inputs):
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)


@pytest.mark.parametrize("meddle", [accumulate, drop, replace_gradients])
@pytest.mark.parametrize("trained", [True, False])
def test_gradients_that_were_meddled_with_are_told_and_put_back(meddle, trained, model, inputs):
    gradients = train_a_step(model, inputs) if trained else {}
    if meddle is drop and not trained:
        with guarded(model):
            meddle(model, inputs)
        return
    with pytest.raises(ModelChanged, match="gradients"), guarded(model):
        meddle(model, inputs)
    for name, parameter in model.named_parameters():
        grad, value = gradients.get(name, (None, None))
        assert parameter.grad is grad and (grad is None or torch.equal(grad, value))


def new_weight(model):
    model[0].weight = nn.Parameter(torch.zeros_like(model[0].weight))


def new_layer(model):
    model[0] = nn.Conv2d(3, 4, 3)


def more_layers(model):
    model.append(nn.Softmax(1))


def fewer_layers(model):
    del model[4]


def other_order(model):
    layers = dict(model._modules)
    model._modules.clear()
    model._modules.update({name: layers[name] for name in ("0", "2", "1", "3", "4")})


def layer_replaced_and_its_old_weight_overwritten(model):
    model[0].weight.data.fill_(3)
    model[0] = nn.Identity()


def new_buffer(model):
    model[1].running_mean = torch.ones(4)


def buffer_gone(model):
    del model.marks


def whole_number_buffer(model):
    model[1].num_batches_tracked += 1


def nan_overwritten(model):
    model.marks[0] = 0.0


def sign_of_zero(model):
    model.marks[1] = 0.0


def weight_through_data(model):
    model[4].weight.data.mul_(1 + 2**-20)


def weight_becomes_nan(model):
    model[4].weight.data.fill_(float("nan"))


def other_precision(model):
    model.double()


def another_shape(model):
    model[4].bias.data = torch.zeros(7)


def parametrized(model):
    parametrize.register_parametrization(model[0], "weight", nn.Tanh())


def weight_normed(model):
    weight_norm(model[4])


def hooks(model):
    model[2].register_forward_hook(lambda module, inputs, output: output * 2)


def keyword_hooks(model):
    model[2].register_forward_pre_hook(lambda module, inputs, named: None, with_kwargs=True)


def train_mode(model):
    model[1].train()


def frozen(model):
    model.requires_grad_(False)


CHANGES = [
    new_weight,
    new_layer,
    more_layers,
    fewer_layers,
    other_order,
    layer_replaced_and_its_old_weight_overwritten,
    new_buffer,
    buffer_gone,
    whole_number_buffer,
    nan_overwritten,
    sign_of_zero,
    weight_through_data,
    weight_becomes_nan,
    other_precision,
    another_shape,
    parametrized,
    weight_normed,
    hooks,
    keyword_hooks,
    train_mode,
    frozen,
]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_was_changed_is_told_and_put_back(change, model, inputs):
    before, outputs, kinds = contents(model), model(inputs), [(m, type(m)) for m in model.modules()]

    def meddler(model, inputs, targets):
        """Changes the model."""
        change(model)
        return inputs

    with pytest.raises(ModelChanged, match="the explainer changed the model: "):
        harness.explain(meddler, model, inputs, TARGETS)
    assert contents(model) == before
    assert [(m, type(m)) for m in model.modules()] == kinds
    assert not any(m.training for m in model.modules()) and all(p.requires_grad for p in model.parameters())
    assert torch.equal(model(inputs), outputs)
    harness.explain("saliency", model, inputs, TARGETS)


def test_an_explainer_after_one_that_replaced_a_layer_scores_as_if_it_had_been_alone(model, inputs):
    def meddler(model, inputs, targets):
        """Replaces a layer."""
        new_layer(model)
        return inputs

    def values(explainers):
        frame = harness.evaluate(model, inputs, TARGETS, explainers=explainers, metrics="deletion")
        return frame[frame["explainer"] == "saliency"]["value"].tolist()

    alone = values({"saliency": {"name": "saliency"}})
    after = values({"first": {"name": meddler}, "saliency": {"name": "saliency"}})
    assert alone == after and all(value == value for value in after)


@pytest.mark.parametrize("change", [weight_through_data, hooks, new_weight, train_mode])
def test_a_model_is_put_back_when_the_explainer_fails_too(change, model, inputs):
    before = contents(model)
    with pytest.raises((ModelChanged, ZeroDivisionError)), guarded(model):
        change(model)
        raise ZeroDivisionError
    assert contents(model) == before and ModelGuard(model).changes() == [] and not model[2]._forward_hooks
    assert not model[1].training


@pytest.mark.parametrize("change", ["parametrization removed", "original overwritten", "nothing"])
def test_a_parametrized_model_is_guarded_like_any_other(change, model, inputs):
    weight_norm(model[0])
    guard, outputs = ModelGuard(model), model(inputs)
    if change == "parametrization removed":
        parametrize.remove_parametrizations(model[0], "weight")
    if change == "original overwritten":
        model[0].parametrizations.weight.original1.data.mul_(2)
    assert (guard.changes() == []) == (change == "nothing")
    guard.restore()
    assert guard.changes() == [] and parametrize.is_parametrized(model[0])
    assert torch.equal(model(inputs), outputs)


def test_a_hooks_own_handle_still_removes_it_after_the_model_was_put_back(model):
    handle = model[2].register_forward_hook(lambda module, inputs, output: None)
    with pytest.raises(ModelChanged, match="hooks"), guarded(model):
        handle.hooks_dict_ref().clear()
    assert len(model[2]._forward_hooks) == 1
    handle.remove()
    assert not model[2]._forward_hooks


def test_a_model_that_cannot_be_put_back_is_an_error(model, monkeypatch):
    guard = ModelGuard(model)
    model[0].weight.data.fill_(3)
    monkeypatch.setattr("harness.guards._put_back", lambda tensor, copy: None)
    with pytest.raises(ModelChanged, match="beyond repair: the values of 0.weight"):
        guard.restore()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_scripted_model_is_guarded(model, inputs):
    scripted = torch.jit.trace(copy.deepcopy(model), inputs)
    with pytest.raises(ModelChanged, match="values"), guarded(scripted):
        next(scripted.parameters()).data.fill_(3)
    assert torch.allclose(scripted(inputs), model(inputs), atol=1e-6)
