"""Invariance to a shift that the model takes off again: which explainers keep their map, and how others change."""

import pytest
import torch
from torch import nn

from harness.api import make_batch
from harness.engine.explain import Explaining
from harness.errors import NotApplicable, UserError
from harness.registry import EXPLAINERS
from metric_worlds import SHAPES, Additive, Interacting, draw, explaining, generator, gradient, on, samples, scores

pytestmark = pytest.mark.usefixtures("seed")
BOTH = pytest.mark.parametrize("shift", ["constant", "texture"])


def invariance(model, inputs, explainer, *, options=None, explainer_options=None, targets=None, **more):
    found = samples(model, inputs, targets, **more)
    if callable(explainer):
        by = explaining(explainer, model)
    else:
        entry = EXPLAINERS[explainer]
        by = Explaining(entry, entry.complete(explainer_options or {}), model)
        by.prepare(found)
    return on("input_invariance", make_batch(found, by(found), by), **(options or {}))


def invariant(found):
    assert (found.values < 1e-4).all() and len(found.values) == 3


def padded(seed):
    """A net whose first layer pads with zeros, so that no bias could take up a shift at the border."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(144, 3),
    ).eval()


class Spy:
    """Keeps the inputs and the model's answers of each time it is asked."""

    def __init__(self):
        self.inputs, self.outputs = [], []

    def __call__(self, model, inputs, targets):
        self.inputs.append(inputs.clone())
        self.outputs.append(model(inputs).detach())
        return gradient(model, inputs, targets)

    @property
    def shift(self):
        return self.inputs[1] - self.inputs[0]


@BOTH
def test_the_model_answers_shifted_inputs_as_it_answers_the_inputs_themselves(shift, seed):
    spy, net, inputs = Spy(), padded(seed), draw((3, 6, 6), seed)
    invariance(net, inputs, spy, options={"shift": shift, "shift_size": 2.5})
    torch.testing.assert_close(spy.outputs[1], spy.outputs[0], rtol=1e-4, atol=1e-5)
    plain = spy.shift
    torch.testing.assert_close(plain, plain[:1].expand_as(plain), rtol=0, atol=1e-5)  # one model for all samples
    if shift == "constant":
        torch.testing.assert_close(plain, torch.full_like(plain, 2.5), rtol=0, atol=1e-5)
    else:
        assert plain.abs().max() <= 2.5 + 1e-5 and plain[0].min() < -1.2 and plain[0].max() > 1.2
        assert plain[0].std().item() == pytest.approx(2.5 / 3**0.5, rel=0.25)


@BOTH
@pytest.mark.parametrize("kind", SHAPES)
def test_the_gradient_is_invariant(kind, shift, seed):
    model, inputs = Interacting(SHAPES[kind], generator(seed)), draw(SHAPES[kind], seed)
    invariant(invariance(model, inputs, gradient, options={"shift": shift}))


@BOTH
@pytest.mark.parametrize("name", ["gradient", "saliency", "grad_cam", "hires_cam", "random", "center"])
def test_what_looks_at_derivatives_activations_or_nothing_is_invariant_even_where_layers_pad(name, shift, seed):
    invariant(invariance(padded(seed), draw((3, 6, 6), seed), name, options={"shift": shift}))


@pytest.mark.parametrize("layer", ["0", "2", "3"])
def test_layers_keep_their_names(layer, seed):
    net, inputs = padded(seed), draw((3, 6, 6), seed)
    for name in ("grad_cam", "layer_cam"):
        invariant(invariance(net, inputs, name, explainer_options={"layer": layer}))


@BOTH
@pytest.mark.parametrize("size", [0.5, -2.0])
def test_on_a_linear_model_input_times_gradient_changes_by_the_shift_times_the_weights(size, shift, seed):
    model, inputs, spy = Additive((3, 6, 5), generator=generator(seed)), draw((3, 6, 5), seed), Spy()
    options = {"shift": shift, "shift_size": size}
    found = invariance(model, inputs, "input_x_gradient", options=options).values
    invariance(model, inputs, spy, options=options)
    w = model.w.detach().double()
    expected = (spy.shift * w).flatten(1).norm(dim=1) / (inputs * w).flatten(1).norm(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    zero = invariance(model, inputs, "integrated_gradients", options=options).values
    torch.testing.assert_close(zero, expected, rtol=1e-4, atol=0)  # from zero the same contributions
    quantity = invariance(model, inputs, "input_magnitude", options=options).values
    assert (quantity > 0.01).all()  # a control that reads the input and never asks the model


@pytest.mark.parametrize("baseline", ["mean", "train_mean", "uniform_noise"])
def test_integrated_gradients_are_invariant_just_where_their_baseline_moves_along(baseline, seed):
    model, inputs = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed)
    data = {"train": draw((3, 6, 5), seed + 1, 20), "value_range": (-3.0, 3.0)}
    invariant(invariance(model, inputs, "integrated_gradients", explainer_options={"baseline": baseline}, **data))
    for fixed in ("zero", draw((3, 6, 5), seed + 2)[0]):
        found = invariance(model, inputs, "integrated_gradients", explainer_options={"baseline": fixed}, **data)
        assert (found.values > 0.05).all()


@pytest.mark.parametrize("bounds", [(-3.0, 3.0), (torch.tensor([-3.0, -2, -1]), torch.tensor([1.0, 2, 3]))], ids=len)
def test_under_a_texture_the_datas_range_and_training_inputs_move_but_an_inputs_own_mean_does_not(bounds, seed):
    model, inputs = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed)
    data = {"train": draw((3, 6, 5), seed + 1, 20), "value_range": bounds}

    def found(baseline):
        given = {"explainer_options": {"baseline": baseline}, "options": {"shift": "texture"}}
        return invariance(model, inputs, "integrated_gradients", **given, **data)

    invariant(found("uniform_noise"))
    invariant(invariance(model, inputs, "expected_gradients", options={"shift": "texture"}, **data))
    assert (found("mean").values > 1e-3).all()


def test_a_stochastic_explainer_keeps_its_draws(seed):
    net, inputs = padded(seed), draw((3, 6, 6), seed)
    invariant(invariance(net, inputs, "smoothgrad", explainer_options={"samples": 5}, value_range=(-3.0, 3.0)))


def test_every_sample_and_company_meets_the_texture_of_the_seed(seed):
    model, inputs = Additive((3, 6, 5), generator=generator(seed)), draw((3, 6, 5), seed, 4)
    whole = invariance(model, inputs, "input_x_gradient", options={"shift": "texture"}).values
    for rows in ([2], [3, 0]):
        part = invariance(model, inputs[rows], "input_x_gradient", options={"shift": "texture"}).values
        torch.testing.assert_close(part, whole[rows], rtol=1e-6, atol=0)
    other = invariance(model, inputs, "input_x_gradient", options={"shift": "texture"}, seed=1).values
    assert (other != whole).all()


def test_libraries_that_hand_in_baselines_beside_the_inputs_are_shifted_with_them(seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Softplus(), nn.Linear(8, 3)).eval()
    inputs = draw((3, 6, 6), seed)
    library = invariance(net, inputs, "captum_deep_lift").values
    torch.testing.assert_close(library, invariance(net, inputs, "deep_lift").values, rtol=1e-3, atol=1e-4)
    invariant(invariance(net, inputs, "captum_deep_lift", explainer_options={"baseline": "mean"}))


def test_the_model_comes_back_without_the_shift_even_after_an_error(seed):
    net, inputs, calls = padded(seed), draw((3, 6, 6), seed), []
    before = net(inputs)

    def breaking(model, x, targets):
        calls.append(1)
        if len(calls) > 1:
            raise ZeroDivisionError("on purpose")
        return x

    with pytest.raises(ZeroDivisionError):
        invariance(net, inputs, breaking)
    assert torch.equal(net(inputs), before) and not net._forward_pre_hooks
    assert invariance(net, inputs, "input_x_gradient").values.isfinite().all()
    assert torch.equal(net(inputs), before) and not net._forward_pre_hooks


def test_what_was_prepared_for_the_model_itself_is_kept(seed):
    net, inputs = padded(seed), draw((3, 6, 6), seed)
    found = samples(net, inputs)
    by = Explaining(EXPLAINERS["grad_cam"], EXPLAINERS["grad_cam"].complete({}), net)
    by.prepare(found)
    prepared = by.prepared
    on("input_invariance", make_batch(found, by(found), by))
    assert by.prepared is prepared


def test_what_an_explainer_prepares_is_prepared_afresh_for_the_shifted_data(seed):
    model, inputs, prepared = Interacting((7,), generator(seed)), draw((7,), seed), []
    data = {"train": draw((7,), seed + 1, 20)}

    def prepare(model, context):
        prepared.append(context.train.mean(0))
        return prepared[-1]

    from_mean = lambda model, x, targets, *, prepared=None: x - prepared
    found = samples(model, inputs, **data)
    by = explaining(from_mean, model, prepare=prepare)
    by.prepare(found)
    invariant(on("input_invariance", make_batch(found, by(found), by), shift_size=3.0))
    torch.testing.assert_close(prepared[1], prepared[0] + 3)


def test_a_map_of_zeros_has_no_relative_change(seed):
    inputs = draw((1, 6, 5), seed)
    zeros = invariance(Interacting((1, 6, 5)), inputs, lambda m, x, t: x * (x.amax((1, 2, 3), True) > 9))
    assert zeros.values.isnan().all() and "0 throughout" in zeros.reason
    broken = scores(
        "input_invariance",
        Interacting((1, 6, 5)),
        inputs,
        inputs,
        by=explaining(lambda m, x, t: torch.full_like(x, float("nan")), None),
    )
    assert broken.values.isnan().all() and "not finite" in broken.reason


def test_mistakes_are_told_and_maps_without_an_explainer_do_not_apply(seed):
    model, inputs = Interacting((3, 6, 5)), draw((3, 6, 5), seed)
    with pytest.raises(UserError, match="did you mean 'texture'"):
        invariance(model, inputs, gradient, options={"shift": "textur"})
    with pytest.raises(UserError, match="size (of .* )?is 0"):
        invariance(model, inputs, gradient, options={"shift_size": 0.0})
    with pytest.raises(UserError, match="as the explainer gives them"):
        scores("input_invariance", model, inputs, inputs[:, :1], by=explaining(gradient, model))
    with pytest.raises(NotApplicable):
        scores("input_invariance", model, inputs, inputs)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_an_explanation_that_is_not_finite_for_the_shifted_input_has_no_score(value, seed):
    inputs = draw((7,), seed)
    broken = lambda m, x, t: x if torch.equal(x, inputs) else torch.full_like(x, value)
    found = invariance(Interacting((7,)), inputs, broken)
    assert found.values.isnan().all() and "not finite" in found.reason
