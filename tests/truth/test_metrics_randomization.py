"""Parameter randomisation: what it changes, in which order, what it leaves behind, and what it says."""

import os

import numpy as np
import pytest
import scipy.stats
import torch
from skimage.feature import hog as hog_of_scikit_image
from skimage.metrics import structural_similarity
from torch import nn

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from harness.metrics._chance import chance, shifted_around
from harness.metrics._similarity import (
    Similarity,
    average_ranks,
    hog,
    hog_cell,
    hog_similarity,
    similarity_of,
    spearman,
    ssim,
)
from harness.metrics._weights import grouped, layers, redrawn
from harness.predictor import Predictor
from metric_worlds import draw, explaining, generator, gradient, on, samples, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])
SIMILARITIES = ("spearman", "spearman_abs", "ssim", "hog")
MODES = ("cascading", "bottom_up", "independent")
MOVED = Similarity(lambda maps: maps, lambda first, second: first)  # the displaced maps themselves


@pytest.fixture(params=[SEED, 1], ids=lambda seed: f"seed={seed}")
def seed(request):
    return request.param


def network(seed):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.Tanh(),
            nn.Conv2d(4, 4, 3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(4 * 10 * 10, 8),
            nn.Tanh(),
            nn.Linear(8, 3),
        )
        model[1].weight.data.uniform_(0.5, 2)
        model[1].running_mean.uniform_(-0.3, 0.3)
    return model.eval()


class Patches(nn.Module):
    """A small transformer with parameters of its own that no ``reset_parameters`` reaches."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.class_token = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 6, 8) * 0.02)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.scale = nn.Parameter(torch.full((8,), 0.1))
        self.temperature = nn.Parameter(torch.tensor(2.0))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), self.embed(x)], 1) + self.position
        return self.head(self.block(tokens)[:, 0] * self.scale) * self.temperature


def mprt(model, inputs, function=gradient, batch=None, **options):
    by = explaining(function, model)
    made = samples(model, inputs)
    batch = batch or make_batch(made, by(made), by)
    return on("parameter_randomization", batch, **options)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def spying(seen):
    """An explainer that notes the weights it is called with."""
    return lambda model, inputs, targets: (seen.append(weights(model)), inputs)[1]


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_an_explainer_that_does_not_look_at_the_model_is_found_out(similarity, mode, seed):
    noise = draw((1, 12, 12), seed + 1)
    found = mprt(network(seed), draw((1, 12, 12), seed), lambda m, x, t: noise, mode=mode, similarity=similarity)
    torch.testing.assert_close(found.curves, torch.ones(3, 5, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.values, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_gradient_loses_its_map_and_the_unrandomised_model_does_not_count(seed):
    found = mprt(network(seed), draw((1, 12, 12), seed), stages=0)
    assert found.curves.shape == (3, 5)
    torch.testing.assert_close(found.values, found.curves.mean(1))
    assert (found.curves[:, -1].abs() < 0.5).all() and (found.curves < 0.999).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("running_statistics", ["keep", "reset"])
def test_the_weights_come_back_bit_for_bit_also_after_a_failure(mode, running_statistics, seed):
    model, inputs = network(seed), draw((1, 12, 12), seed)
    before, state, calls = weights(model), torch.get_rng_state(), []

    def fails_at_the_third(model, inputs, targets):
        calls.append(weights(model))
        if len(calls) == 4:
            raise RuntimeError("no map")
        return gradient(model, inputs, targets)

    with pytest.raises(RuntimeError):
        mprt(model, inputs, fails_at_the_third, mode=mode, running_statistics=running_statistics)
    assert same(before, weights(model)) and torch.equal(state, torch.get_rng_state())
    assert not same(before, calls[-1])
    mprt(model, inputs, mode=mode, running_statistics=running_statistics)
    assert same(before, weights(model)) and all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_layers_are_randomised_from_either_end_cumulatively_or_one_at_a_time(mode, seed):
    model, inputs, seen = network(seed), draw((1, 12, 12), seed), []
    before = weights(model)

    def spy(model, inputs, targets):
        seen.append({name for name, tensor in weights(model).items() if not torch.equal(tensor, before[name])})
        return gradient(model, inputs, targets)

    mprt(model, inputs, spy, mode=mode, stages=0)
    own = [{f"{i}.weight", f"{i}.bias"} for i in (8, 6, 3, 1, 0)]
    own[3] -= {"1.bias"}  # 0 before and after
    own = own[::-1] if mode == "bottom_up" else own
    expected = [own[k] if mode == "independent" else set().union(*own[: k + 1]) for k in range(5)]
    assert seen == [set(), *expected]


def test_running_statistics_are_kept_unless_they_are_reset(seed):
    model, inputs = network(seed), draw((1, 12, 12), seed)
    before = weights(model)
    for choice in ("keep", "reset"):
        seen = []
        mprt(model, inputs, spying(seen), running_statistics=choice)
        assert torch.equal(seen[-1]["1.running_mean"], before["1.running_mean"]) == (choice == "keep")


def test_layers_are_ordered_by_when_they_run_and_not_by_when_they_were_made():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(5, 3), nn.Linear(4, 5)

        def forward(self, x):
            return self.last(self.first(x))

    model = Backwards().eval()
    assert layers(Predictor(model), torch.randn(2, 4)) == [["last"], ["first"]]
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_every_parameter_of_a_transformer_is_covered_and_changes(seed):
    torch.manual_seed(seed)
    model, inputs = Patches().eval(), draw((5, 4), seed)
    found = layers(Predictor(model), inputs)
    assert found[0] == ["head"] and found[-1] == [""] and ["block.self_attn", "block.self_attn.out_proj"] in found
    pairs = [pair for layer in found for pair in redrawn(model, layer, 0, "keep")]
    assert {id(old) for old, _ in pairs} == {id(parameter) for parameter in model.parameters()}
    changed = {
        name for name, p in model.named_parameters() for old, new in pairs if old is p and not torch.equal(p, new)
    }
    same_again = {name for name, p in model.named_parameters()} - changed
    assert same_again <= {name for name, p in model.named_parameters() if (p == 0).all() or "norm" in name}
    assert {
        "class_token",
        "position",
        "scale",
        "temperature",
        "block.self_attn.in_proj_weight",
        "head.weight",
    } <= changed
    curve = mprt(model, inputs, stages=0).curves
    assert curve.isfinite().all() and (curve < 0.9999).any(0).all()


def test_redrawn_parameters_keep_their_mean_and_spread():
    class Token(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(3 + 0.5 * torch.randn(4000))

    model = Token()
    ((old, new),) = redrawn(model, [""], 0, "keep")
    assert old is model.token and not torch.equal(old, new)
    assert new.mean().item() == pytest.approx(3, abs=0.05) and new.std().item() == pytest.approx(0.5, rel=0.08)


def test_random_weights_depend_on_their_seed_and_on_nothing_else(seed):
    model, inputs = network(seed), draw((1, 12, 12), seed)
    first = mprt(model, inputs).curves
    torch.rand(7)
    assert torch.equal(mprt(model, inputs).curves, first)
    assert not torch.equal(mprt(model, inputs, weight_seed=1).curves, first)
    alone = mprt(model, inputs[1:2]).curves
    # Rounding may swap two nearly equal ranks of 144, which moves a rank correlation by less than 0.001.
    torch.testing.assert_close(alone, first[1:2], rtol=0, atol=2e-3)


class Tied(nn.Module):
    """Two layers that share a weight."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.last.weight = self.first.weight

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


def test_a_parameter_that_two_layers_share_is_randomised_with_the_upper_one():
    model, seen = Tied().eval(), []
    mprt(model, draw((4,), 0), spying(seen), stages=0)
    assert not torch.equal(seen[0]["last.weight"], seen[1]["last.weight"])
    assert torch.equal(seen[1]["first.weight"], seen[2]["first.weight"])
    assert not torch.equal(seen[1]["first.bias"], seen[2]["first.bias"])


def test_one_at_a_time_a_shared_parameter_is_random_with_either_of_its_layers():
    model, seen = Tied().eval(), []
    mprt(model, draw((4,), 0), spying(seen), stages=0, mode="independent")
    assert not any(torch.equal(seen[0]["first.weight"], each["first.weight"]) for each in seen[1:])


def test_what_a_layers_own_initialiser_leaves_alone_is_redrawn():
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.scale = nn.Parameter(torch.rand(4))

    model = nn.Sequential(Scaled())
    assert all(not torch.equal(old, new) for old, new in redrawn(model, ["0"], 0, "keep"))
    assert len(redrawn(model, ["0"], 0, "keep")) == 3


def test_layers_of_one_shape_meet_different_random_weights():
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5)).eval()
    (_, first), _, (_, last), _ = redrawn(model, ["0", "2"], 0, "keep")
    assert not torch.equal(first, last)


def test_a_layer_that_runs_twice_is_placed_by_its_last_run():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.one(self.other(self.one(x)))

    assert layers(Predictor(Twice().eval()), torch.randn(2, 4)) == [["one"], ["other"]]


@pytest.mark.parametrize(
    ("count", "most", "sizes"), [(5, 0, [1] * 5), (5, 8, [1] * 5), (5, 2, [3, 2]), (9, 4, [3, 2, 2, 2])]
)
def test_layers_are_grouped_evenly_into_stages(count, most, sizes):
    found = grouped([[str(i)] for i in range(count)], most)
    assert [len(stage) for stage in found] == sizes and sum(found, []) == [str(i) for i in range(count)]


def test_all_similarities_and_chance_cost_one_run_of_explanations(seed):
    model, inputs, calls = network(seed), draw((1, 12, 12), seed), []
    by = explaining(lambda m, x, t: (calls.append(1), gradient(m, x, t))[1], model)
    made = samples(model, inputs)
    batch = make_batch(made, by(made), by)
    found = {name: on("parameter_randomization", batch, similarity=name).values for name in SIMILARITIES}
    by_chance = {name: on("chance_similarity", batch, similarity=name).values for name in SIMILARITIES}
    assert len(calls) == 1 + 5
    assert all((by_chance[name] != found[name]).all() for name in SIMILARITIES)
    assert not torch.equal(found["spearman"], found["spearman_abs"])


def test_the_target_stays_or_follows_the_random_model(seed):
    model, inputs = network(seed), draw((1, 12, 12), seed, 12)
    for target in ("fixed", "reargmax"):
        seen = []

        def spy(model, inputs, targets, seen=seen):
            seen.append((targets, model(inputs).argmax(1)))
            return gradient(model, inputs, targets)

        mprt(model, inputs, spy, explained_class=target)
        for targets, own in seen[1:]:
            assert torch.equal(targets, own if target == "reargmax" else torch.zeros(12, dtype=torch.long))


def test_what_an_explainer_prepares_is_prepared_afresh_for_each_random_model(seed):
    model, inputs = network(seed), draw((1, 12, 12), seed)
    prepared = lambda model, context: model[8].weight.detach().clone()
    by = explaining(lambda m, x, t, *, prepared: x * prepared.sum(), model, prepare=prepared)
    made = samples(model, inputs)
    by.prepare(made)
    kept = by.prepared
    batch = make_batch(made, by(made), by)
    assert on("parameter_randomization", batch).curves.abs().min() > 0.99  # the sign may turn, the order stays
    assert by.prepared is kept
    by = explaining(
        lambda m, x, t, *, prepared: x + 100 * prepared[0, :1, None, None] * x.flip(1, 2), model, prepare=prepared
    )
    by.prepare(made)
    assert on("parameter_randomization", make_batch(made, by(made), by)).curves.max() < 0.9999


def test_constant_maps_have_no_similarity_and_say_so(seed):
    for similarity in SIMILARITIES:
        found = mprt(network(seed), draw((1, 12, 12), seed), lambda m, x, t: torch.ones_like(x), similarity=similarity)
        assert found.values.isnan().all() and "constant" in found.reason
    sometimes = lambda m, x, t: gradient(m, x, t) * (1.0 if float(m[8].weight.detach().sum()) == full else 0.0)
    model = network(seed)
    full = float(model[8].weight.detach().sum())
    found = mprt(model, draw((1, 12, 12), seed), sometimes, mode="independent")
    assert found.curves[:, 0].isnan().all() and found.curves[:, 1:].isfinite().all() and found.values.isnan().all()


def test_what_cannot_be_asked_is_said(seed):
    inputs = draw((1, 12, 12), seed)
    with pytest.raises(NotApplicable):
        scores("parameter_randomization", network(seed), inputs, inputs)
    with pytest.raises(NotApplicable):
        mprt(nn.Flatten(), draw((1, 2, 2), seed), lambda m, x, t: x)
    table = nn.Linear(4, 3)
    for similarity in ("ssim", "hog"):
        with pytest.raises(NotApplicable):
            mprt(table, draw((4,), seed), similarity=similarity)
    assert mprt(table, draw((4,), seed)).curves.shape == (3, 1)
    for options in (
        {"mode": "both"},
        {"similarity": "cosine"},
        {"weight_seeds": 0},
        {"explained_class": "own"},
        {"running_statistics": "x"},
        {"stages": -1},
    ):
        with pytest.raises(UserError):
            mprt(network(seed), inputs, **options)


def test_spearman_equals_scipys_with_and_without_ties(seed):
    for maps in (
        torch.randn(2, 5, 40, generator=generator(seed)),
        torch.randint(0, 6, (2, 5, 40), generator=generator(seed)),
    ):
        expected = [scipy.stats.spearmanr(a, b).statistic for a, b in zip(*maps.double(), strict=True)]
        torch.testing.assert_close(spearman(*maps), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
        assert average_ranks(maps[0])[0].tolist() == scipy.stats.rankdata(maps[0][0]).tolist()


@pytest.mark.parametrize("shape", [(28, 28), (11, 30), (40, 17)])
def test_ssim_equals_scikit_images(shape, seed):
    first, second = torch.randn(2, 4, *shape, generator=generator(seed))
    second = second + first
    scaled = [
        (maps - maps.amin((1, 2), True)) / (maps.amax((1, 2), True) - maps.amin((1, 2), True))
        for maps in (first.double(), second.double())
    ]
    expected = [
        structural_similarity(
            a.numpy(), b.numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
        )
        for a, b in zip(*scaled, strict=True)
    ]
    torch.testing.assert_close(ssim(first, second), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)


def test_ssim_of_small_maps_uses_the_largest_window_that_fits(seed):
    first, second = torch.randn(2, 4, 6, 9, generator=generator(seed))
    found = ssim(first, second)
    assert found.isfinite().all() and (found < 0.99).all()
    torch.testing.assert_close(ssim(first, 5 * first + 2), torch.ones(4, dtype=torch.float64))
    for i in range(4):
        assert found[i].item() == pytest.approx(_ssim_by_hand(first[i].double(), second[i].double(), 5), abs=1e-12)
    with pytest.raises(NotApplicable):
        ssim(first[:, :2], second[:, :2])


def _ssim_by_hand(first, second, side):
    first, second = ((m - m.min()) / (m.max() - m.min()) for m in (first, second))
    axis = torch.arange(side, dtype=torch.float64) - side // 2
    window = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 1.5**2))
    window, local = window / window.sum(), []
    for row in range(first.shape[0] - side + 1):
        for column in range(first.shape[1] - side + 1):
            a, b = (m[row : row + side, column : column + side] for m in (first, second))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            both = (window * (a - mean_a) * (b - mean_b)).sum()
            local.append(
                (2 * mean_a * mean_b + 1e-4)
                * (2 * both + 9e-4)
                / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
            )
    return torch.stack(local).mean().item()


def test_several_sets_of_random_weights_are_averaged(seed):
    model, inputs = network(seed), draw((1, 12, 12), seed)
    each = [mprt(model, inputs, weight_seed=number).curves for number in (4, 5, 6)]
    found = mprt(model, inputs, weight_seed=4, weight_seeds=3)
    torch.testing.assert_close(found.curves, torch.stack(each).mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.values, found.curves.mean(1), rtol=0, atol=1e-12)


def test_from_either_end_the_last_stage_is_the_same_model(seed):
    model, inputs = network(seed), draw((1, 12, 12), seed)
    down, up = (mprt(model, inputs, mode=mode).curves for mode in ("cascading", "bottom_up"))
    assert torch.equal(down[:, -1], up[:, -1]) and not torch.equal(down[:, 0], up[:, 0])
    once = mprt(model, inputs, stages=1).curves
    assert torch.equal(once[:, 0], down[:, -1])


@pytest.mark.parametrize("shape", [(6, 6), (8, 8), (13, 29), (28, 28), (50, 43)])
@pytest.mark.parametrize("kind", ["smooth", "steps", "sparse"])
def test_hog_equals_scikit_images(shape, kind, seed):
    maps = torch.randn(4, *shape, generator=generator(seed), dtype=torch.float64)
    maps = {"smooth": maps, "steps": maps.round(), "sparse": maps.clamp(min=0.5)}[kind]
    side = hog_cell(shape)
    expected = [hog_of_scikit_image(each.numpy(), pixels_per_cell=(side, side)) for each in maps]
    torch.testing.assert_close(hog(maps, side), torch.from_numpy(np.stack(expected)), rtol=0, atol=1e-6)


def test_the_similarity_of_hog_vectors_is_spearmans_of_maps_scaled_to_their_range(seed):
    first, second = torch.randn(2, 4, 28, 28, generator=generator(seed))
    torch.testing.assert_close(hog_similarity(first, 4 * first), torch.ones(4, dtype=torch.float64))
    scaled = [
        (maps - maps.amin((1, 2), True)) / (maps.amax((1, 2), True) - maps.amin((1, 2), True))
        for maps in (first.double(), second.double())
    ]
    expected = [
        scipy.stats.spearmanr(*(hog_of_scikit_image(each.numpy(), pixels_per_cell=(2, 2)) for each in pair)).statistic
        for pair in zip(*scaled, strict=True)
    ]  # their cells are summed in single precision, which may swap two nearly equal ranks of 11,664
    torch.testing.assert_close(hog_similarity(first, second), torch.tensor(expected).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("side", "cell"), [(6, 2), (8, 2), (28, 2), (56, 4), (224, 16)])
def test_hog_cells_are_a_fourteenth_of_the_side(side, cell):
    assert hog_cell((side, side + 9)) == hog_cell((side + 3, side)) == cell


def test_maps_of_fewer_than_three_cells_have_no_hog(seed):
    with pytest.raises(NotApplicable, match="6 x 6"):
        similarity_of("hog", (5, 9))
    with pytest.raises(NotApplicable):
        hog(torch.randn(2, 5, 9), 2)


@pytest.mark.parametrize("shape", [(7,), (4, 5), (2, 3, 4)])
def test_a_displaced_map_is_rolled_around_its_edges(shape, seed):
    maps, count = torch.randn(3, *shape, generator=generator(seed)), torch.Size(shape).numel()
    axes = tuple(range(len(shape)))
    for shift in range(count):
        by = [-int(step) for step in np.unravel_index(shift, shape)]
        expected = torch.roll(maps, by, dims=tuple(axis + 1 for axis in axes))
        assert torch.equal(shifted_around(maps, torch.full((3,), shift)), expected)


@pytest.mark.parametrize("shape", [(1, 4, 3), (6, 2)])
def test_by_chance_maps_are_as_similar_as_all_displacements_are_on_average(shape, seed):
    made = samples(nn.Flatten(), draw(shape, seed))
    count = made.units.count
    before, after = torch.randn(2, 3, *made.units.shape, generator=generator(seed + 1))
    alike = similarity_of("spearman", made.units.shape)
    found = chance(made, before, after, alike, 1000)
    # Over all displacements and none, centred ranks cancel; what is left of them without none is known.
    expected = -alike(before, after) / (count - 1)
    assert ((found.mean(1) - expected).abs() < 5 * found.std(1) / 1000**0.5).all()
    assert all(len(row.unique()) <= count - 1 for row in found.round(decimals=9))
    if len(shape) == 3:  # all shifts, each once
        assert found.shape == (3, count - 1)
        torch.testing.assert_close(found.mean(1), expected)


@pytest.mark.parametrize("shape", [(1, 4, 5), (4,), (5,)])
def test_no_displacement_is_drawn_twice(shape, seed):
    made = samples(nn.Flatten(), draw(shape, seed))
    maps = torch.arange(made.units.count).view(1, *made.units.shape).expand(3, *made.units.shape)
    moved = chance(made, maps, maps, MOVED, 19)
    assert moved.shape[:2] == (3, 19)
    assert all(
        len({tuple(map_.flatten().tolist()) for map_ in (own, *each)}) == 20
        for own, each in zip(maps, moved, strict=True)
    )


def test_a_map_of_one_unit_cannot_be_displaced(seed):
    made = samples(nn.Linear(1, 2), draw((1,), seed))
    with pytest.raises(NotApplicable, match="single unit"):
        chance(made, made.inputs, made.inputs, MOVED, 3)


def test_columns_of_a_table_are_displaced_by_permuting_them(seed):
    made = samples(nn.Linear(30, 2), draw((30,), seed))
    before = torch.randn(3, 30, generator=generator(seed))
    moved = chance(made, before, before, MOVED, 4)
    for row, each in zip(before, moved, strict=True):
        assert all(torch.equal(one.sort().values, row.sort().values) for one in each)
        assert len({tuple(one.tolist()) for one in each} | {tuple(row.tolist())}) == 5


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_columns_never_all_stay_where_they_are(columns, seed):
    made = samples(nn.Linear(columns, 2), draw((columns,), seed))
    before = torch.arange(columns).expand(3, -1)
    moved = chance(made, before, before, MOVED, 300)
    assert (moved != before[:, None]).any(2).all()
    assert len({tuple(each.tolist()) for each in moved[0]}) == torch.arange(1, columns + 1).prod() - 1


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_maps_are_made_ready_once_for_all_displacements_and_to_the_same_effect(similarity, seed):
    made, calls = samples(nn.Flatten(), draw((1, 12, 13), seed)), []
    before, after = torch.randn(2, 3, 12, 13, generator=generator(seed))
    alike = similarity_of(similarity, (12, 13))
    counting = Similarity(lambda maps: (calls.append(1), alike.prepare(maps))[1], alike.compare)
    found = chance(made, before, after, counting, 6)
    moved = chance(made, before, after, Similarity(lambda maps: maps, lambda first, _: first.flatten(1)), 6)
    expected = torch.stack([alike(each.view_as(before), after) for each in moved.unbind(1)], 1)
    assert len(calls) == 2
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_compiled_model_has_the_layers_and_the_scores_of_its_own(seed):
    torch.manual_seed(seed)
    model, inputs = Patches().eval(), draw((5, 4), seed)
    compiled = torch.compile(model, backend="eager")
    with torch.inference_mode():
        compiled(inputs[:1])  # compiled before anybody listens
    names = [[f"_orig_mod.{name}".rstrip(".") for name in layer] for layer in layers(Predictor(model), inputs)]
    assert layers(Predictor(compiled), inputs) == names
    expected = mprt(model, inputs, stages=0).curves
    torch.testing.assert_close(mprt(compiled, inputs, stages=0).curves, expected, rtol=0, atol=0.11)
    torch._dynamo.reset()


def test_chance_does_not_see_that_a_map_ignores_the_model(seed):
    inputs, noise = draw((1, 12, 12), seed), draw((1, 12, 12), seed + 1)
    model = network(seed)
    by = explaining(lambda m, x, t: noise, model)
    made = samples(model, inputs)
    found = on("chance_similarity", make_batch(made, by(made), by), displacements=400)
    assert found.curves.shape == (3, 5)
    assert (found.curves == found.curves[:, :1]).all()
    torch.testing.assert_close(found.values, torch.full((3,), -1 / 143, dtype=torch.float64), rtol=0, atol=0.03)


def test_chance_is_a_samples_own_and_needs_at_least_one_displacement(seed):
    model, inputs = network(seed), draw((1, 12, 12), seed)

    def by_chance(inputs, **options):
        by, made = explaining(gradient, model), samples(model, inputs)
        return on("chance_similarity", make_batch(made, by(made), by), **options)

    together = by_chance(inputs).curves
    torch.testing.assert_close(by_chance(inputs[2:]).curves, together[2:], rtol=0, atol=2e-3)
    with pytest.raises(UserError):
        by_chance(inputs, displacements=0)
