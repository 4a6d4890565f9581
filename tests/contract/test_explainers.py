"""What every registered explainer promises, on every modality it serves."""

import copy

import pytest
import torch

import harness
from harness.registry import EXPLAINERS
from pairs import DECLINED, DENSE, SERVED, SERVED_DENSE, WITH_PAIRS, Case, small_options

served = pytest.mark.parametrize("pair", **SERVED)
declined = pytest.mark.parametrize("pair", **DECLINED)


def explained(entry, case, rows=slice(None), seed=0, targets=None, **options):
    """Attributions of some of the case's samples, or a skipped test where the explainer declines."""
    try:
        return harness.explain(
            entry.function,
            case.model,
            harness.Data(
                case.inputs[rows],
                case.targets[rows] if targets is None else targets,
                modality=case.modality,
                train_labels=case.train_labels,
                truth=case.truth[rows],
            ),
            seed=seed,
            train=case.train,
            **small_options(entry, case.modality) | options,
        )
    except harness.NotApplicable as reason:
        assert str(reason)
        pytest.skip(f"not applicable to {case.kind}: {reason}")


def keeps(explainer, promise):
    """Skip the rest for a library's row that is declared to break this promise."""
    if promise in explainer.breaks:
        pytest.skip(f"{explainer.source} is known to break it: {explainer.caveat}")


def assert_close(first, second):
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4 * float(second.abs().max().clamp_min(1e-12)))


# Behind the layer of these nets all is linear, so that the gradients there are the same for every noisy copy.
BLIND_TO_NOISE = ("smoothgrad_cam_pp",)


first_maps = {}  # of the first test, by explainer, kind of net and seed: those of all samples together in the second


@served
def test_its_maps_are_finite_of_an_accepted_shape_and_those_of_the_seed_and_it_changes_nothing(explainer, case):
    state, inputs, random = copy.deepcopy(case.model.state_dict()), case.inputs.clone(), torch.random.get_rng_state()
    first = explained(explainer, case)
    first_maps[explainer.name, case.kind, case.seed] = first.clone()
    assert all(torch.equal(state[name], tensor) for name, tensor in case.model.state_dict().items())
    assert torch.equal(case.inputs, inputs) and torch.equal(torch.random.get_rng_state(), random)
    assert not any(module._forward_hooks or module._backward_hooks for module in case.model.modules())
    assert all(parameter.grad is None for parameter in case.model.parameters())

    assert case.units.reduce(first).shape == (5, *case.units.shape)
    assert first.isfinite().all() and first.dtype == torch.float32

    again, other = (explained(explainer, case, seed=seed) for seed in (0, 4))
    assert torch.equal(first, again)
    keeps(explainer, "nonzero")
    assert first.abs().sum() > 0
    if not explainer.stochastic:
        assert torch.equal(first, other)
    elif (
        explainer.scope == "local" and explainer.name not in BLIND_TO_NOISE
    ):  # shares of few rows, as global explainers give, may coincide
        assert not torch.equal(first, other)


@served
def test_a_sample_alone_is_explained_as_in_company_and_in_any_order(explainer, case):
    keeps(explainer, "company")
    together = first_maps.get((explainer.name, case.kind, case.seed))
    together = explained(explainer, case) if together is None else together
    for rows in ([2], [4, 0, 3]):
        assert_close(explained(explainer, case, rows), together[rows])


# Their maps depend on the class, but are led by what is not: sizes of weights, a weight above 0 for most channels, or
# each token's own share.
WEAKLY_PER_CLASS = {
    *("gradient_x_weight", "grad_cam_pp", "smoothgrad_cam_pp", "score_cam", "vit_cx"),
    "transformer_attribution",
}
# After few steps a mask follows from its area alone.
TO_SEE_A_CLASS = {"extremal_perturbation": {"steps": 150, "areas": 0.1}}


@pytest.mark.parametrize("pair", **SERVED_DENSE)
def test_maps_of_two_classes_differ_as_their_logits_do_unless_it_declares_one_map(explainer, dense_case):
    keeps(explainer, "nonzero")
    if explainer.stored:
        pytest.skip("its maps are those of one class")
    likely = dense_case.model(dense_case.inputs).argsort(1)
    options = TO_SEE_A_CLASS.get(explainer.name, {})
    top, last = (explained(explainer, dense_case, targets=likely[:, place], **options) for place in (-1, 0))
    if not explainer.per_class:
        return assert_close(top, last)
    maps = (dense_case.units.reduce(each).flatten(1).double() for each in (top, last))
    likeness = torch.nn.functional.cosine_similarity(*maps).abs().mean()  # opposite maps are one map as well
    assert likeness < (0.9999 if explainer.name in WEAKLY_PER_CLASS else 0.99)


def test_z_plus_in_dense_layers_too_is_what_the_test_above_would_find():
    case = Case("table", 0, nets=DENSE)
    likely = case.model(case.inputs).argsort(1)
    maps = [harness.explain("lrp", case.model, case.inputs, likely[:, place], rule="zplus") for place in (-1, 0)]
    assert torch.nn.functional.cosine_similarity(*maps).abs().mean() > 0.99


@declined
def test_it_declines_modalities_it_does_not_declare(explainer, case):
    with pytest.raises(harness.NotApplicable):
        harness.explain(explainer.function, case.model, harness.Data(case.inputs, case.targets, modality=case.modality))


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
def test_only_a_row_with_a_caveat_may_break_a_promise(explainer):
    assert set(explainer.breaks) <= {"company", "nonzero"}
    assert not explainer.breaks or (explainer.caveat and explainer.source != "harness")


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
def test_its_docstring_and_options_can_be_listed(explainer):
    assert explainer.summary.endswith(".") and len(explainer.summary) < 400
    assert all(value is None or isinstance(value, int | float | str | tuple) for value in explainer.options.values())


@pytest.mark.parametrize("pair", **WITH_PAIRS)
def test_its_interactions_are_symmetric_and_each_row_sums_to_what_its_units_have_in_the_map(explainer, case):
    data = harness.Data(case.inputs, case.targets, modality=case.modality)
    options = {**small_options(explainer, case.modality), "baseline": "zero"}
    found = harness.interactions(case.model, data, explainer=explainer.function, **options)
    maps = case.units.reduce(harness.explain(explainer.function, case.model, data, **options))
    assert len(found.units[0]) == len(set(found.units[0])) == found.values.shape[1]
    assert_close(found.values, found.values.mT)
    assert_close(found.values.sum((1, 2)), maps.flatten(1).sum(1))
    if found.values.shape[1] == case.units.count:  # each unit is a segment
        assert_close(found.values.sum(2), maps.flatten(1))
