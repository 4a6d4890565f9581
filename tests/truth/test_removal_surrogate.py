"""Infidelity with a surrogate: unbiased where all removals are known, exact where the truth is, fair to all maps."""

import itertools

import numpy as np
import pytest
import torch

from harness.api import make_batch
from harness.errors import NotApplicable
from harness.messages import heard_by
from harness.metrics import _removal_surrogate
from harness.metrics._squares import count_squares, square_sums, squares_numbered, units_within
from harness.metrics.infidelity import mean_squared_error
from metric_worlds import Additive, Constant, Hash, Interacting, draw, generator, on, samples, scores

SCALINGS = ("none", "optimal", "normalised")
ZERO = {"baseline": "zero"}
WORLDS = {"square": (1, 8, 8), "subset": (10,), "window": (24, 1)}
LARGEST = 3


def all_removals(kind, largest=LARGEST):
    """Every removal of a world, one after the other: (R, units) bool."""
    if kind == "subset":
        return torch.tensor(list(itertools.product((False, True), repeat=10)))
    height, width = (24, 1) if kind == "window" else (8, 8)
    found = []
    for side in range(1, largest + 1):
        for row in range(height - side + 1):
            for column in range(width - side + 1 if kind == "square" else 1):
                place = torch.zeros(height, width, dtype=torch.bool)
                place[row : row + side, column : column + side] = True
                found.append(place.flatten())
    return torch.stack(found)


def truth(kind, model, inputs, maps, scaling, largest=LARGEST):
    """The infidelity (N,) over all removals, from the model's output without each of them, one channel only."""
    removals = all_removals(kind, largest).double()
    values = []
    for one, attributions in zip(inputs, maps, strict=True):
        without = one[None] * (1 - removals).float().view(-1, *one.shape)
        change = (model(one[None]).double() - model(without).double())[:, 0]
        values.append((removals @ attributions.flatten().double(), change))
    predicted, change = (torch.stack(each) for each in zip(*values, strict=True))
    return mean_squared_error(predicted, change, scaling)


def options_of(kind):
    """The options with which ``infidelity`` draws from the removals of a world."""
    return {**ZERO, "perturbation": "subset"} if kind == "subset" else {**ZERO, "largest_side": LARGEST}


def infidelities(kind, model, inputs, maps, seed=0, **options):
    return scores("infidelity", model, inputs, maps, seed=seed, options=options_of(kind) | options).values


def errors_over_seeds(kind, model, inputs, maps, seeds, scalings, **options):
    """For each of the maps and scalings the relative errors (seeds, N) without and with the surrogate.

    All maps are scored on the same samples, so that each seed's surrogate, which knows no maps, is fitted once.
    """
    cases = list(itertools.product(maps, scalings))
    exact = {
        (each, scaling): truth(kind, model, inputs, maps[each], scaling, options.get("largest_side", LARGEST))
        for each, scaling in cases
    }
    found = {case: ([], []) for case in cases}
    for k in range(seeds):
        seen = samples(model, inputs, seed=k)
        for each, scaling in cases:
            for surrogate in (False, True):
                chosen = {**options_of(kind), **options, "scaling": scaling, "surrogate": surrogate}
                values = on("infidelity", make_batch(seen, maps[each], None), **chosen).values
                found[each, scaling][surrogate].append(values / exact[each, scaling] - 1)
    return {case: [torch.stack(values) for values in ways] for case, ways in found.items()}


@pytest.mark.parametrize("kind", WORLDS)
def test_over_many_seeds_the_mean_is_that_of_all_removals_and_the_error_is_half_or_less(kind, seed):
    """The mean over 40 seeds is within 4 standard errors, or 2 %, of the error over all removals."""
    shape = WORLDS[kind]
    model, inputs = Interacting(shape, generator(seed)), draw(shape, seed, 4)
    # Maps that are partly right: those of a linear function are near to the net's own.
    weights = torch.autograd.functional.jacobian(lambda x: model(x)[:, 0].sum(), inputs)
    maps = {"partly right": weights * inputs + 0.1 * draw(shape, seed + 1, 4)}
    for plain, found in errors_over_seeds(kind, model, inputs, maps, 40, SCALINGS, draws=100).values():
        assert (found.mean(0).abs() <= 4 * found.std(0) / 40**0.5 + 0.02).all()
        assert found.square().mean() < 0.5 * plain.square().mean()


@pytest.mark.parametrize("largest", [LARGEST, 1])
def test_maps_of_one_pixel_that_few_draws_remove_are_scored_without_bias(largest, seed):
    """The mean over 60 seeds is within 4 standard errors of the error over all squares, which is known, and no draw is
    much farther from it than the draws alone are."""
    shape = WORLDS["square"]
    model, inputs = Interacting(shape, generator(seed)), draw(shape, seed, 2)
    maps = {place: torch.zeros(2, *shape) for place in ((0, 0), (4, 4))}
    for place, values in maps.items():
        values[:, 0, *place] = model(inputs)[:, 0].detach().abs().mean()
    options = {"draws": 50 if largest == 1 else 100, "largest_side": largest}
    off = errors_over_seeds("square", model, inputs, maps, 60, ("none",), **options)
    for plain, found in off.values():
        assert (found.mean(0).abs() <= 4 * found.std(0) / 60**0.5 + 0.02).all()
        assert found.square().mean() <= plain.square().mean() and found.abs().max() < 1.2 * plain.abs().max()


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("kind", WORLDS)
def test_a_linear_function_has_the_exact_value(kind, scaling, seed):
    shape = WORLDS[kind]
    model, inputs, maps = Additive(shape, generator=generator(seed)), draw(shape, seed), draw(shape, seed + 1)
    exact = truth(kind, model, inputs, maps, scaling)
    draws = {"square": 450, "subset": 60, "window": 150}[kind]
    found = infidelities(kind, model, inputs, maps, scaling=scaling, draws=draws, surrogate=True)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", WORLDS)
def test_once_every_removal_was_drawn_the_value_is_exact_whatever_the_function(kind, seed):
    shape, inputs = WORLDS[kind], draw(WORLDS[kind], seed)
    maps = draw(shape, seed + 1)
    draws = 20 * len(all_removals(kind))
    for scaling in SCALINGS:
        found = infidelities(kind, Hash(), inputs, maps, scaling=scaling, draws=draws, surrogate=True)
        torch.testing.assert_close(found, truth(kind, Hash(), inputs, maps, scaling), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", WORLDS)
def test_maps_that_predict_every_change_have_no_error_and_normalised_errors_lie_between_0_and_1(kind, seed):
    shape = WORLDS[kind]
    model, inputs = Additive(shape, g=torch.sin, generator=generator(seed)), draw(shape, seed)
    contributions = model.contributions(inputs, torch.zeros_like(inputs))
    for scaling, factor in (("none", 1), ("optimal", -3), ("normalised", 0.01)):
        found = infidelities(kind, model, inputs, factor * contributions, scaling=scaling, surrogate=True)
        assert found.abs().max() < 1e-6
    net = Interacting(shape, generator(seed))
    for k in range(10):
        found = infidelities(kind, net, inputs, draw(shape, k), scaling="normalised", draws=50, surrogate=True)
        assert ((found >= 0) & (found <= 1 + 1e-9)).all()
        assert infidelities(kind, net, inputs, draw(shape, k), draws=50, surrogate=True).min() >= 0


@pytest.mark.parametrize("kind", WORLDS)
def test_what_cannot_be_predicted_is_scored_by_the_draws_alone(kind, seed):
    inputs, maps = draw(WORLDS[kind], seed), draw(WORLDS[kind], seed + 1)
    said = []
    with heard_by(said.append):
        found = infidelities(kind, Hash(), inputs, maps, draws=50, surrogate=True)
    assert torch.equal(found, infidelities(kind, Hash(), inputs, maps, draws=50))
    assert len(said) == 1 and said[0].startswith("surrogate: used for 0 of 3 samples")


def test_too_few_draws_are_scored_as_they_are(seed):
    for kind, shape, draws in (("square", (1, 8, 8), 30), ("subset", (100,), 80)):
        model, inputs, maps = Additive(shape, generator=generator(seed)), draw(shape, seed), draw(shape, seed + 1)
        plain, found = (
            infidelities(kind, model, inputs, maps, draws=draws, surrogate=surrogate) for surrogate in (False, True)
        )
        assert torch.equal(plain, found)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("kind", WORLDS)
def test_scores_do_not_depend_on_the_other_samples(kind, listed, seed, monkeypatch):
    if not listed:
        monkeypatch.setattr(_removal_surrogate, "LISTED", 1)
    shape = WORLDS[kind]
    model, inputs, maps = Interacting(shape, generator(seed)), draw(shape, seed), draw(shape, seed + 1)
    together = infidelities(kind, model, inputs, maps, surrogate=True)
    alone = infidelities(kind, model, inputs[1:2], maps[1:2], surrogate=True)
    torch.testing.assert_close(alone, together[1:2], rtol=1e-6, atol=1e-9)
    assert not torch.equal(together, infidelities(kind, model, inputs, maps))


@pytest.mark.parametrize("kind", ["square", "subset"])
def test_removals_that_are_too_many_to_be_listed_are_drawn(kind, seed, monkeypatch):
    monkeypatch.setattr(_removal_surrogate, "LISTED", 1)
    monkeypatch.setattr(_removal_surrogate, "MOST", 90)  # the others are predicted by the process
    shape = WORLDS[kind]
    model, inputs, maps = Interacting(shape, generator(seed)), draw(shape, seed, 8), draw(shape, seed + 1, 8)
    exact = truth(kind, model, inputs, maps, "none")
    error = [
        (infidelities(kind, model, inputs, maps, k, draws=250, surrogate=surrogate) / exact - 1).square().mean()
        for surrogate in (False, True)
        for k in range(5)
    ]
    assert sum(error[5:]) < 0.8 * sum(error[:5])


def test_where_nothing_changes_there_is_nothing_to_predict(seed):
    for kind, shape in WORLDS.items():
        inputs = draw(shape, seed)
        still = infidelities(kind, Constant(), inputs, inputs, scaling="optimal", surrogate=True)
        assert still.isnan().all()
        model, blank = Interacting(shape, generator(seed)), inputs.clone()
        blank[0] = 0  # its own baseline
        found = infidelities(kind, model, blank, draw(shape, seed), surrogate=True)
        assert found.isnan().tolist() == [True, False, False]
        assert infidelities(kind, model, inputs, 0 * inputs, scaling="optimal", surrogate=True).isnan().all()


def test_gaussian_noise_has_no_surrogate():
    inputs = draw((1, 4, 5), 0)
    options = {"perturbation": "gaussian", "convention": "local", "surrogate": True}
    with pytest.raises(NotApplicable, match="surrogate=false"):
        scores("infidelity", Interacting((1, 4, 5)), inputs, inputs, options=options)


@pytest.mark.parametrize("shape", [(7, 5), (9,)])
def test_squares_are_numbered_once_each_and_summed_as_their_units_are(shape, seed):
    squares = squares_numbered(torch.arange(count_squares(shape, 4))[None], shape, 4)
    within = units_within(squares, shape)
    assert len(within[0].flatten(1).unique(dim=0)) == squares.shape[1] == len(within[0])
    assert set(squares[0, :, -1].tolist()) == {1, 2, 3, 4}
    values = draw(shape, seed, 2)
    expected = values.double().flatten(1) @ within[0].flatten(1).double().T
    torch.testing.assert_close(square_sums(values, squares), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(7, 5), (9,)])
def test_the_covariance_of_squares_is_the_sum_over_their_places(shape):
    squares = squares_numbered(torch.arange(count_squares(shape, 3))[None], shape, 3)
    drawn = _removal_surrogate.Squares(squares, squares, True, shape)
    within = units_within(squares, shape)[0].flatten(1).double()
    places = torch.cartesian_prod(*(torch.arange(length).double() for length in shape)).view(-1, len(shape))
    apart = (places[:, None] - places).abs().sum(-1)
    covariances = list(drawn.covariances(squares[0]))
    for share in _removal_surrogate.REACHES:
        reach = share * min(shape)
        near = torch.exp(-apart / reach) if reach else (apart == 0).double()
        alike = within @ near @ within.T
        alike = alike / alike.diagonal().mean()
        for curvature in _removal_surrogate.CURVATURES:
            found = covariances.pop(0)(squares[0], squares[0])
            torch.testing.assert_close(found, alike + curvature * alike.square(), rtol=1e-9, atol=1e-9)


def test_errors_are_those_of_processes_without_the_removal(seed):
    shape, kept = (6, 6), torch.arange(12) * 5
    squares = squares_numbered(kept[None], shape, 3)
    removals = _removal_surrogate.Squares(squares, squares, True, shape)
    changes = draw((12,), seed, 1)[0].double()
    _, expected = _removal_surrogate._process_of_removals(removals, squares[0], changes)
    missed = {}
    for prior in removals.covariances(squares[0]):
        covariance = prior(squares[0], squares[0])
        weight = covariance.diagonal().sqrt() / covariance.diagonal().sqrt().mean()
        for noise in _removal_surrogate.NOISES:
            others = torch.empty_like(changes)
            for left_out in range(12):
                rest = torch.arange(12) != left_out
                solved = torch.linalg.solve((covariance + torch.diag(noise * weight))[rest][:, rest], changes[rest])
                others[left_out] = covariance[left_out, rest] @ solved
            missed[((changes - others).square() / weight).mean().item()] = others
    torch.testing.assert_close(expected, missed[min(missed)], rtol=1e-5, atol=1e-6)


def test_a_mean_is_corrected_by_coefficients_of_its_controls_that_are_shrunk_towards_1(seed):
    """Against a regression by numpy: over the different evaluated removals, and over the others with a small weight,
    where the values are the sum of the controls."""
    numbers = draw((12,), seed, 5).double()
    values, first, second = numbers[:3, :8]
    distinct = torch.tensor([True, True, False, True, True, True, False, True])
    others, unseen = numbers[3:], torch.tensor([True] * 7 + [False] * 5)
    expected = _removal_surrogate.PredictedChanges(
        values[None], torch.tensor([True]), distinct[None], values[None], others[:1], unseen[None]
    )
    controls = [(first[None], others[:1]), (second[None], others[1:]), (0 * first[None] + 2, 0 * others[:1] + 2)]
    own, rest = torch.stack([first, second], 1)[distinct].numpy(), others[:, unseen].T.numpy()
    apart, weight = (lambda each: each - each.mean(0)), (_removal_surrogate.PRIOR_DRAWS / 7) ** 0.5
    design = np.concatenate([apart(own), weight * apart(rest)])
    known = np.concatenate([apart(values[distinct].numpy()), weight * apart(rest.sum(1))])
    coefficients = np.linalg.lstsq(design, known, rcond=None)[0]
    of_all = 5 / 12 * own.mean(0) + 7 / 12 * rest.mean(0)  # five of the twelve others were evaluated
    exact = values[distinct].mean().item() + coefficients @ (of_all - own.mean(0))
    assert expected.mean(values[None], controls).item() == pytest.approx(exact, rel=1e-6)
    assert expected.mean(values[None]) == values[distinct].mean()


def test_a_large_pixel_that_hardly_any_draw_removes_is_scored_without_bias(seed):
    """Alone and on a good map: the part that it has in the error is known. Few draws, or none, would tell another."""
    shape = WORLDS["square"]
    model, inputs = Interacting(shape, generator(seed)), draw(shape, seed, 2)
    weights = torch.autograd.functional.jacobian(lambda x: model(x)[:, 0].sum(), inputs)
    maps = {"alone": torch.zeros(2, *shape), "on a good map": weights * inputs}
    for values in maps.values():
        values[:, 0, 0, 0] += 3 * (weights * inputs).abs().flatten(1).sum(1)
    for off in errors_over_seeds("square", model, inputs, maps, 40, SCALINGS, draws=100).values():
        plain, found = (each.nan_to_num(0) for each in off)  # NaN: no draw removes it
        assert (found.mean(0).abs() <= 4 * found.std(0) / 40**0.5 + 0.01).all()
        assert found.square().mean() <= plain.square().mean() + 1e-5


def test_no_factor_is_worse_than_0(seed):
    """With ``optimal`` maps are multiplied by the factor with the least error, and 0 is one of them."""
    model, inputs = Interacting((1, 8, 8), generator(seed)), draw((1, 8, 8), seed, 4)
    for k in range(10):
        maps = draw((1, 8, 8), 100 + k, 4)
        of_map, of_zero = (
            infidelities("square", model, inputs, each, k, scaling=scaling, draws=60, surrogate=True)
            for each, scaling in ((maps, "optimal"), (0 * maps, "none"))
        )
        assert (of_map <= of_zero * (1 + 1e-6)).all()


def test_repeated_removals_count_once():
    drawn = torch.tensor([[3, 1], [2, 2], [3, 1], [2, 2], [0, 1]])
    first, fresh = _removal_surrogate._first_of_each(drawn, torch.tensor([[0, 1], [9, 9], [3, 1]]))
    assert first.tolist() == [True, True, False, False, True] and fresh.tolist() == [False, True, False]
