"""One number for sanity: 0 for maps that ignore the model or the class, as good as chance for unrelated maps."""

import pytest
import torch
from torch import nn

import harness
from harness.api import make_batch
from harness.datasets.digits import load_split
from harness.engine.output_cache import OutputCache
from harness.errors import NotApplicable, UserError
from harness.models.digits_cnn import digits_cnn
from metric_worlds import InDouble, explaining, gradient, on, samples, scores

pytestmark = pytest.mark.usefixtures("seed")
SHAPE = (1, 7, 9)


def network(shape=SHAPE, classes=4):
    size = torch.Size(shape).numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 12), nn.Tanh(), nn.Linear(12, classes)).eval()


def batch_of(model, inputs, function=gradient, targets=None):
    by, made = explaining(function, model), samples(model, inputs, targets)
    return make_batch(made, by(made), by)


def measured(model, inputs, function=gradient, targets=None, **options):
    return on("sanity", batch_of(model, inputs, function, targets), **options)


def of_row(maps, inputs):
    """A map for each sample, whatever the model, the class and the company."""
    place = lambda x: (x.flatten(1)[:, None] == inputs.flatten(1)).all(2).long().argmax(1)
    return lambda model, x, targets: maps[place(x.detach())]


def tangled(model, x, targets):
    """A map that has nothing to do with that of any other model or class: noise drawn from weights and class."""
    weights = sum(each.detach().double().abs().sum() for each in model.parameters())
    sizes = 1e6 * (weights + x.detach().double().flatten(1).abs().sum(1)) + 7 * targets
    maps = [torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(int(size))) for size in sizes]
    return torch.stack(maps)


@pytest.mark.parametrize("similarity", ["spearman", "spearman_abs", "ssim", "hog"])
def test_a_map_that_ignores_the_model_scores_0(similarity):
    inputs, maps = torch.randn(4, *SHAPE), torch.randn(4, *SHAPE)
    found = measured(network(), inputs, of_row(maps, inputs), similarity=similarity)
    assert (found.values == 0).all() and found.curves.shape == (4, 6)
    torch.testing.assert_close(found.curves[:, [1, 5]], torch.ones(4, 2, dtype=torch.float64))


@pytest.mark.parametrize(("columns", "options"), [(2, {"displacements": 1}), (3, {}), (4, {}), (5, {})])
def test_a_map_of_few_columns_that_ignores_the_model_scores_0(columns, options):
    inputs, maps = torch.randn(20, columns), torch.rand(20, columns)
    assert (measured(network((columns,)), inputs, of_row(maps, inputs), **options).curves[:, 0] == 0).all()


@pytest.mark.parametrize("columns", [5, 9, 30])
def test_a_map_of_one_column_that_ignores_the_model_scores_0_though_zeros_may_change_places(columns):
    inputs = torch.randn(20, columns)
    maps = nn.functional.one_hot(torch.randint(columns, (20,)), columns).float()
    found = measured(network((columns,)), inputs, of_row(maps, inputs))
    assert (found.curves[:, 0] == 0).all() and (found.curves[:, 3] < 1).all()


@pytest.mark.parametrize(("shape", "possible"), [((2,), 1), ((1, 2, 2), 3), ((1, 1, 3), 2)])
def test_few_units_have_too_few_displacements_unless_fewer_are_asked_for(shape, possible):
    model, inputs = network(shape), torch.randn(40, *shape)
    with pytest.raises(NotApplicable, match=f"probability of 1/{possible + 1} .give displacements={possible} "):
        measured(model, inputs, tangled)
    assert measured(model, inputs, tangled, displacements=possible).values.isfinite().all()


def test_a_map_of_which_few_displaced_ones_differ_is_neither_sane_nor_not():
    inputs, maps = torch.randn(3, 4), torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    found = measured(network((4,)), inputs, of_row(maps, inputs))  # of these 3, 11 and 5 are different
    assert found.values.isnan().tolist() == [True, False, False] and "too few different displacements" in found.reason


def test_a_map_that_ignores_only_the_class_scores_0_as_well():
    fixed = lambda m, x, t: gradient(m, x, torch.zeros_like(t))
    found = measured(network(), torch.randn(4, *SHAPE), fixed)
    assert (found.values == 0).all() and (found.curves[:, 4] == 0).all()


@pytest.mark.parametrize("displacements", [4, 19])
def test_unrelated_maps_pass_as_often_as_the_displacements_say(displacements):
    found = measured(network(), torch.randn(300, *SHAPE), tangled, displacements=displacements, weight_seeds=2)
    share, expected = found.curves[:, 0].mean().item(), 1 - 1 / (1 + displacements)
    spread = (expected * (1 - expected) / 600) ** 0.5
    assert abs(share - expected) < 5 * spread
    assert abs(found.curves[:, 1].mean().item()) < 0.05 and (found.curves[:, 4] == 1).all()
    assert torch.equal(found.values, found.curves[:, [0, 4]].amin(1))


# Of 20 units there are 19 shifts and of 3 columns 5 other orders; of so few columns equal similarities are frequent.
@pytest.mark.parametrize(
    ("shape", "by_chance"), [((1, 4, 5), 1 / 20), ((1, 2, 3), 1 / 6), ((3,), 1 / 6), ((4,), 1 / 20), ((6,), 1 / 20)]
)
def test_unrelated_maps_of_few_units_fail_no_more_often_than_the_displacements_say(shape, by_chance):
    found = measured(network(shape), torch.randn(800, *shape), tangled, weight_seeds=2)
    failed, spread = 1 - found.curves[:, 0].mean().item(), (by_chance * (1 - by_chance) / 1600) ** 0.5
    assert failed < by_chance + 4 * spread
    assert len(shape) == 1 or failed > by_chance - 4 * spread


def test_the_share_counts_the_random_models_and_the_classes():
    model, inputs = network(), torch.randn(5, *SHAPE)
    own = model[3].weight.detach().clone()
    seen, maps = [], torch.randn(9, *SHAPE)

    def function(model, x, targets):
        """The model's own map for itself, one random model and one other class; else another map."""
        if torch.equal(model[3].weight, own):
            return maps[torch.where(targets == 0, 0, targets - 1)]  # class 1 has the map of class 0
        seen.append(float(model[3].weight.detach().sum()))
        same = len(set(seen)) == 1
        return maps[[0 if same else 4 + len(set(seen))] * len(x)]

    found = measured(model, inputs, function, weight_seeds=3, displacements=19)
    shares = found.curves[:, 0]
    assert (shares <= 2 / 3 + 1e-12).all() and (shares * 3).round().sub(shares * 3).abs().max() < 1e-9
    torch.testing.assert_close(found.curves[:, 4], torch.full((5,), 2 / 3, dtype=torch.float64))
    # The first random model has the very map of the model: similarity 1 for one of three.
    assert (found.curves[:, 1] > (1 - 2) / 3).all()


def test_what_is_compared_is_what_the_other_metrics_say():
    model, inputs = network(), torch.randn(4, *SHAPE)
    batch = batch_of(model, inputs)
    curves = on("sanity", batch).curves
    options = {"stages": 1, "weight_seeds": 3}
    torch.testing.assert_close(curves[:, 1], on("parameter_randomization", batch, **options).values)
    torch.testing.assert_close(curves[:, 2], on("chance_similarity", batch, **options).values)
    torch.testing.assert_close(curves[:, 5], on("random_logit", batch).values)
    assert (curves[:, 3] > curves[:, 2]).all()


def test_maps_are_explained_once_for_all_metrics_that_ask():
    calls = []
    batch = batch_of(network(), torch.randn(2, *SHAPE), lambda m, x, t: (calls.append(1), gradient(m, x, t))[1])
    for name in ("sanity", "efficient_parameter_randomization", "random_logit"):
        on(name, batch)
    on("parameter_randomization", batch, stages=1, weight_seeds=3)
    assert len(calls) == 1 + 3 + 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("max_sensitivity", {"draws": 3}),
        ("random_logit", {}),
        ("smooth_parameter_randomization", {"draws": 3, "similarity": "spearman"}),
    ],
)
def test_what_is_explained_again_leaves_nothing_to_be_kept_from_run_to_run(name, options, tmp_path):
    def drops(model, x, targets, *, context):
        return x * context.clean()[:, None]

    model = network((9,))
    by, made = explaining(drops, model), samples(model, torch.randn(4, 9), value_range=(-2.0, 2.0))
    made.output_cache = OutputCache(tmp_path, "model")
    batch, own = make_batch(made, by(made), by), len(list(tmp_path.iterdir()))
    on(name, batch, **options)
    assert own == 1 == len(list(tmp_path.iterdir()))


SMOOTH = {"similarity": "spearman", "draws": 3}


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("smooth_parameter_randomization", SMOOTH, {**SMOOTH, "noise": 0.5}),
        ("smooth_parameter_randomization", SMOOTH, {**SMOOTH, "draws": 4}),
        ("smooth_parameter_randomization", SMOOTH, {**SMOOTH, "weight_seed": 1}),
        ("random_logit", {"draws": 1}, {"other": "runner_up"}),
        ("random_logit", {"draws": 1}, {"draws": 2}),
        ("efficient_parameter_randomization", {}, {"explained_class": "reargmax"}),
        ("sanity", {}, {"weight_seed": 7}),
    ],
)
def test_what_one_call_remembers_is_not_taken_for_another_calls(name, first, second):
    model, inputs = network(), torch.randn(6, *SHAPE)
    batch = batch_of(model, inputs)
    before = on(name, batch, **first)
    after, afresh = on(name, batch, **second), on(name, batch_of(model, inputs), **second)
    assert torch.equal(after.curves, afresh.curves) and not torch.equal(after.curves, before.curves)


@pytest.mark.parametrize("distinct", [-1.0, 0.2, 1.0])
def test_a_class_counts_as_distinct_under_the_bound(distinct):
    batch = batch_of(network(), torch.randn(6, *SHAPE))
    found, similar = on("sanity", batch, distinct=distinct), on("random_logit", batch).curves
    torch.testing.assert_close(found.curves[:, 4], (similar < distinct).double().mean(1))


def test_a_model_with_one_output_is_judged_by_its_weights_alone():
    found = measured(network(classes=1), torch.randn(4, *SHAPE), tangled)
    assert found.curves[:, 4:].isnan().all() and torch.equal(found.values, found.curves[:, 0]) and not found.reason


def test_a_constant_map_is_neither_sane_nor_not():
    inputs, maps = torch.randn(3, *SHAPE), torch.randn(3, *SHAPE)
    maps[1] = 1
    found = measured(network(), inputs, of_row(maps, inputs))
    assert found.values.isnan().tolist() == [False, True, False] and "constant" in found.reason


@pytest.mark.parametrize("shape", [(3, 8, 6), (9,), (7, 4)])
def test_a_sample_alone_scores_as_in_company(shape):
    model, inputs, targets = InDouble(network(shape)).eval(), torch.randn(5, *shape), torch.randint(4, (5,))
    together = measured(model, inputs, targets=targets).curves
    alone = torch.cat([measured(model, inputs[k : k + 1], targets=targets[k : k + 1]).curves for k in range(5)])
    torch.testing.assert_close(alone[:, [1, 2, 3, 5]], together[:, [1, 2, 3, 5]], rtol=0, atol=2e-2)


def test_on_a_trained_net_gradients_are_sane_and_edges_and_guided_backprop_are_not():
    inputs, targets = load_split()["test"][:2]
    found = harness.evaluate(
        digits_cnn().module,
        harness.Data(inputs[:20], targets[:20], value_range=(0.0, 1.0)),
        metrics=["sanity"],
        explainers=["gradient", "integrated_gradients", "guided_backprop", "edge", "random"],
    )
    means = found.groupby("explainer").value.mean()
    assert means["gradient"] > 0.7 and means["integrated_gradients"] > 0.6
    assert means["guided_backprop"] < 0.2 and means["edge"] == means["random"] == 0


def test_what_cannot_be_asked_is_said():
    model, inputs = network(), torch.randn(3, *SHAPE)
    for options in ({"distinct": 1.2}, {"weight_seeds": 0}, {"draws": 0}, {"displacements": 0}, {"similarity": "x"}):
        with pytest.raises(UserError):
            measured(model, inputs, **options)
    with pytest.raises(NotApplicable):
        scores("sanity", model, inputs, inputs)
    with pytest.raises(NotApplicable):
        measured(network((7,)), torch.randn(3, 7), similarity="hog")
