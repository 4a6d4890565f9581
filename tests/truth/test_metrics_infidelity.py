"""Infidelity on linear functions, where its value has a closed form."""

import os

import pytest
import torch

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from harness.metrics._groups import Grouping, make_groups
from harness.metrics._sets import unpack
from harness.metrics.infidelity import noise_draws, removed_sets
from metric_worlds import Additive, Constant, Interacting, draw, explaining, generator, gradient, on, samples, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])
GAUSSIAN = {"perturbation": "gaussian", "convention": "local", "draws": 4000, "relative_noise": 0.5}
REMOVALS = ("square", "subset")
ZERO = {"baseline": "zero"}


@pytest.fixture(params=[SEED, 1], ids=lambda seed: f"seed={seed}")
def seed(request):
    return request.param


def linear(shape, seed, count=3):
    model = Additive(shape, generator=generator(seed))
    return model, draw(shape, seed + 1, count)


def gradients(model, inputs):
    return model.w.detach().expand_as(inputs)


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 4, 5), (5, 4)])
def test_under_gaussian_noise_the_error_of_scaled_gradients_has_a_closed_form(shape, seed):
    model, inputs = linear(shape, seed)
    variance = (0.5 * inputs.flatten(1).std(1, correction=0)).double() ** 2 * model.w.detach().double().square().sum()
    for factor in (1.0, 0.0, 2.5, -1.0):
        found = scores("infidelity", model, inputs, factor * gradients(model, inputs), options=GAUSSIAN).values
        # The mean of 4000 squares of a normal number has a relative standard error of sqrt(2 / 4000).
        assert (
            (found - (1 - factor) ** 2 * variance).abs() <= 4 * (2 / 4000) ** 0.5 * (1 - factor) ** 2 * variance + 1e-6
        ).all()


def test_optimal_scaling_hides_size_and_sign_and_the_normalised_error_lies_between_0_and_1(seed):
    model, inputs = linear((1, 4, 5), seed)
    for factor in (1.0, -3.0, 0.01):
        for scaling in ("optimal", "normalised"):
            options = {**GAUSSIAN, "scaling": scaling}
            found = scores("infidelity", model, inputs, factor * gradients(model, inputs), options=options).values
            assert found.abs().max() < 1e-6
    unrelated = draw((1, 4, 5), seed + 2)
    share = scores("infidelity", model, inputs, unrelated, options={**GAUSSIAN, "scaling": "normalised"}).values
    cosine = torch.cosine_similarity(unrelated.flatten(1), gradients(model, inputs).flatten(1)).double()
    assert ((0 <= share) & (share <= 1)).all()
    assert (share - (1 - cosine**2)).abs().max() < 5 * 2 / 4000**0.5


def test_the_direction_does_not_matter_to_the_rescaled_score_but_to_the_plain_one(seed):
    model, inputs = Interacting((1, 4, 5), generator(seed)), draw((1, 4, 5), seed)
    attributions = draw((1, 4, 5), seed + 1)
    rescaled, reversed_, plain, plain_reversed = (
        scores("infidelity", model, inputs, sign * attributions, options={"scaling": scaling}).values
        for scaling, sign in (("optimal", 1), ("optimal", -1), ("none", 1), ("none", -1))
    )
    torch.testing.assert_close(rescaled, reversed_)
    assert (plain - plain_reversed).abs().min() > 1e-6


@pytest.mark.parametrize("perturbation", REMOVALS)
@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 4, 5), (5, 4)])
def test_contributions_and_gradients_each_have_no_error_in_their_own_convention(shape, perturbation, seed):
    model, inputs = linear(shape, seed)
    contributions = model.contributions(inputs, inputs.mean((-2, -1) if len(shape) == 3 else 1, keepdim=True))
    for convention, maps, exact in (
        ("contribution", contributions, True),
        ("local", gradients(model, inputs), True),
        ("contribution", gradients(model, inputs), False),
        ("local", contributions, False),
    ):
        options = {"perturbation": perturbation, "convention": convention, "baseline": "mean", "largest_side": 3}
        found = scores("infidelity", model, inputs, maps, options=options).values
        assert (found.max() < 1e-6) if exact else (found.min() > 1e-3)


def test_the_explainer_declares_its_convention_and_maps_without_one_are_contributions(seed):
    model, inputs = linear((1, 4, 5), seed)
    by = explaining(gradient, model, convention="local")
    assert scores("infidelity", model, inputs, gradients(model, inputs), by=by, options=ZERO).values.max() < 1e-6
    contributions = model.contributions(inputs, torch.zeros_like(inputs))
    assert scores("infidelity", model, inputs, contributions, options=ZERO).values.max() < 1e-6
    noisy = {"perturbation": "gaussian"}
    assert scores("infidelity", model, inputs, gradients(model, inputs), by=by, options=noisy).values.max() < 1e-6
    with pytest.raises(NotApplicable):
        scores("infidelity", model, inputs, contributions, options=noisy)


def test_maps_with_one_channel_stand_for_all_channels_under_noise_and_for_their_sum_under_removal(seed):
    model, inputs = linear((3, 4, 5), seed)
    model.w.data = model.w.data[:1].expand(3, 4, 5).clone()
    one = model.w.detach()[:1].expand(3, 1, 4, 5)
    assert scores("infidelity", model, inputs, one, options=GAUSSIAN).values.max() < 1e-6
    contributions = model.contributions(inputs, torch.zeros_like(inputs)).sum(1, keepdim=True)
    assert scores("infidelity", model, inputs, contributions, options=ZERO).values.max() < 1e-6


@pytest.mark.parametrize("scaling", ["none", "optimal", "normalised"])
@pytest.mark.parametrize("perturbation", [*REMOVALS, "gaussian"])
def test_the_batched_score_equals_a_loop_over_draws(perturbation, scaling, seed):
    model, inputs, draws = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed), 12
    attributions = draw((3, 6, 5), seed + 1)
    options = {
        "perturbation": perturbation,
        "scaling": scaling,
        "draws": draws,
        "largest_side": 4,
        "convention": "local",
    }
    options |= ZERO
    found = scores("infidelity", model, inputs, attributions, options=options, chunk=5).values
    made = samples(model, inputs)
    for i in range(3):
        errors = []
        for m in range(draws):
            if perturbation == "gaussian":
                step = noise_draws(made, 0.2)(torch.tensor([i]), torch.tensor([m]))[0]
            else:
                sets = unpack(removed_sets(made, make_groups(made, Grouping()), perturbation, draws, 4), 30)
                step = inputs[i] * sets[i, m].view(6, 5)
            change = (model(inputs[i][None]).double() - model((inputs[i] - step)[None]).double())[0, 0].item()
            errors.append(((step * attributions[i]).double().sum().item(), change))
        s, D = torch.tensor(errors, dtype=torch.float64).T
        factor = 1 if scaling == "none" else (D * s).mean() / (s * s).mean()
        expected = ((D - factor * s) ** 2).mean() / ((D * D).mean() if scaling == "normalised" else 1)
        assert found[i].item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)


def test_squares_are_drawn_evenly_from_all_squares_of_all_sides(seed):
    made = samples(Interacting((1, 4, 5)), draw((1, 4, 5), seed, 2))
    sets = unpack(removed_sets(made, make_groups(made, Grouping()), "square", 20000, 3), 20).view(2, -1, 4, 5)
    side = sets.flatten(2).sum(2).sqrt()
    expected = torch.tensor([4 * 5, 3 * 4, 2 * 3]) / 38
    for k in (1, 2, 3):
        assert ((side == k).float().mean(1) - expected[k - 1]).abs().max() < 5 * 0.5 / 20000**0.5
    assert ((side == 1) | (side == 2) | (side == 3)).all()
    corners = (sets & (side == 1)[..., None, None]).flatten(2).float().mean(1)
    assert (corners - 1 / 38).abs().max() < 5 * (1 / 38 / 20000) ** 0.5
    compact = sets.any(-1).sum(-1) * sets.any(-2).sum(-1)
    assert torch.equal(compact, sets.flatten(2).sum(2))


def test_noise_on_a_table_is_measured_in_the_spread_of_its_columns(seed):
    scale = torch.tensor([1.0, 100.0, 0.01])
    train, inputs = draw((3,), seed, 500) * scale, draw((3,), seed + 1) * scale
    noise = noise_draws(samples(Interacting((3,)), inputs, train=train), 0.2)
    drawn = noise(torch.zeros(4000, dtype=torch.long), torch.arange(4000))
    torch.testing.assert_close(drawn.std(0), 0.2 * train.std(0), rtol=0.06, atol=0)
    with pytest.raises(NotApplicable):
        scores("infidelity", Interacting((3,)), inputs, inputs, options=GAUSSIAN)


def test_more_draws_narrow_the_score(seed):
    model, inputs = Interacting((1, 6, 5), generator(seed)), draw((1, 6, 5), seed, 1)
    attributions = draw((1, 6, 5), seed + 1, 1)
    spread = [
        torch.cat(
            [
                scores("infidelity", model, inputs, attributions, seed=k, options={"draws": count}).values
                for k in range(40)
            ]
        ).std()
        for count in (5, 500)
    ]
    assert 4 < spread[0] / spread[1] < 25  # 10, give or take


def test_undefined_and_impossible_cases_say_so():
    inputs = draw((1, 4, 5), 0)
    zero = scores(
        "infidelity", Interacting((1, 4, 5)), inputs, torch.zeros_like(inputs), options={"scaling": "optimal"}
    )
    assert zero.values.isnan().all() and zero.reason
    assert scores("infidelity", Interacting((1, 4, 5)), inputs, torch.zeros_like(inputs)).values.isfinite().all()
    still = scores("infidelity", Constant(), inputs, inputs, options={"scaling": "normalised"})
    assert still.values.isnan().all() and still.reason
    with pytest.raises(NotApplicable):
        scores("infidelity", Interacting((4,)), draw((4,), 0), draw((4,), 1))
    noiseless = {"perturbation": "gaussian", "convention": "local", "relative_noise": 0.0}
    for options in (
        {"perturbation": "salt"},
        {"scaling": "some"},
        {"convention": "global"},
        {"largest_side": 0},
        {"draws": 0},
        noiseless,
    ):
        with pytest.raises(UserError):
            scores("infidelity", Interacting((1, 4, 5)), inputs, inputs, options=options)


@pytest.mark.parametrize("perturbation", [*REMOVALS, "gaussian"])
def test_a_second_explainer_and_another_scaling_cost_no_forward_pass(perturbation):
    made = samples(Interacting((1, 6, 5)), draw((1, 6, 5), 0))
    for explainer in range(2):
        batch = make_batch(made, draw((1, 6, 5), explainer), None)
        for scaling in ("none", "optimal"):
            on("infidelity", batch, perturbation=perturbation, convention="local", scaling=scaling, draws=30)
    assert made.predictor.forwards == 3 * (30 + 1)


@pytest.mark.parametrize("perturbation", REMOVALS)
def test_where_nothing_changes_there_is_nothing_to_predict(perturbation):
    maps = draw((1, 4, 5), 0)
    still = scores("infidelity", Constant(), maps, maps, options={"perturbation": perturbation, "scaling": "optimal"})
    assert still.values.isnan().all() and still.reason
    inputs = maps.clone()
    inputs[0] = 0  # its own baseline
    found = scores("infidelity", Interacting((1, 4, 5)), inputs, maps, options={"perturbation": perturbation})
    assert found.values.isnan().tolist() == [True, False, False] and found.reason
