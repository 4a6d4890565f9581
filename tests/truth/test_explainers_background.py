"""A background of training inputs in the place of what is removed: the values are those of the marginal expectation."""

import pytest
import torch
from torch import nn

import harness
from explainer_worlds import model, near, smooth_net
from harness.registry import EXPLAINERS
from harness.removal.background import USUAL_ROWS

# Each with options under which its value of a unit on an additive model is what the unit adds.
VALUES = {
    "feature_ablation": {},
    "exact_shapley": {},
    "kernel_shap": {"samples": 64},
    "shapley_sampling": {"permutations": 2},
    "lime": {"penalty": 0.0, "samples": 200},
}
SHAPLEY = {name: VALUES[name] for name in ("exact_shapley", "kernel_shap", "shapley_sampling")}
SHAPES = {"table": (6,), "tokens": (6, 2), "series": (2, 6), "image": (1, 2, 3), "volume": (1, 1, 2, 3)}
TARGETS = torch.tensor([0, 2, 1])


class Additive(nn.Module):
    """Class c's logit is a sum of one curve for each number of an input: no interactions."""

    def __init__(self, shape):
        super().__init__()
        self.w, self.v = torch.randn(3, *shape), torch.randn(3, *shape)

    def parts(self, inputs, classes):
        return self.w[classes] * inputs + self.v[classes] * torch.sin(2 * inputs)

    def forward(self, inputs):
        return torch.stack([self.parts(inputs, c).flatten(1).sum(1) for c in range(3)], 1)


def correlation(one, other):
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


@pytest.mark.parametrize("modality", SHAPES)
@pytest.mark.parametrize("name", VALUES)
def test_an_additive_models_units_get_what_they_add_less_its_mean_over_the_background(name, modality, seed):
    net, train = Additive(SHAPES[modality]).eval(), torch.randn(9, *SHAPES[modality])
    data = harness.Data(torch.randn(3, *SHAPES[modality]), TARGETS, modality=modality, train=train)
    found = harness.explain(name, net, data, background=9, segments="unit", **VALUES[name])
    added = net.parts(data.inputs, TARGETS)
    mean = torch.stack([net.parts(train, c).mean(0) for c in TARGETS])
    expected = added - mean
    axis = {"tokens": 2, "table": None}.get(modality, 1)
    assert near(found, expected if axis is None else expected.sum(axis, keepdim=True), 1e-4)


@pytest.mark.parametrize("score", ["logit", "probability", "log_odds"])
@pytest.mark.parametrize("name", SHAPLEY)
def test_values_sum_to_the_score_less_its_mean_over_the_background(name, score, seed):
    net, train, x = smooth_net(7), 2 * torch.randn(12, 7), torch.randn(3, 7)
    of = {"logit": lambda z: z, "probability": lambda z: z.softmax(1), "log_odds": lambda z: torch.logit(z.softmax(1))}
    at = lambda rows, c: of[score](net(rows).detach().double())[:, c]
    expected = torch.stack([at(x[row : row + 1], c)[0] - at(train, c).mean() for row, c in enumerate(TARGETS)])
    options = SHAPLEY[name] | {"background": 12, "score": score}
    found = harness.explain(name, net, x, TARGETS, train=train, **options)
    assert near(found.sum(1), expected, 1e-4)
    own = harness.score("completeness", net, x, TARGETS, found, train=train, explainer=name, explainer_options=options)
    assert float(own.abs().max()) < 1e-4 * float(expected.abs().max()), "it is what the metric compares the sum with"


@pytest.mark.parametrize("name", VALUES)
def test_over_a_background_a_map_is_the_mean_of_those_to_each_of_its_inputs(name, seed):
    """The values of a game are linear in the game, under the same coalitions."""
    net, train, x = smooth_net(5), torch.randn(4, 5), torch.randn(3, 5)
    found = harness.explain(name, net, x, TARGETS, train=train, background=4, **VALUES[name])
    each = [harness.explain(name, net, x, TARGETS, train=train, baseline=row, **VALUES[name]) for row in train]
    assert near(found, torch.stack(each).mean(0), 1e-4)


def test_a_table_with_training_inputs_has_a_background_by_default_unless_a_baseline_is_chosen(seed):
    net, train, x = smooth_net(5), torch.randn(30, 5), torch.randn(3, 5)
    explain = lambda name, **options: harness.explain(name, net, x, TARGETS, train=train, **SHAPLEY[name], **options)
    for name in SHAPLEY:
        assert torch.equal(explain(name), explain(name, background=USUAL_ROWS)), name
        mean = explain(name, background=0)
        assert not near(explain(name), mean, 1e-3)
        assert torch.equal(mean, explain(name, baseline="train_mean"))


TAKES_ROWS = [name for name, entry in EXPLAINERS.items() if "background" in entry.options and entry.source == "harness"]


@pytest.mark.parametrize("name", TAKES_ROWS)
def test_a_background_is_the_same_for_all_samples_and_seeds(name, seed):
    net, train, x = smooth_net(5), torch.randn(40, 5), torch.randn(3, 5)
    explain = lambda inputs, targets, seed: harness.explain(
        name, net, inputs, targets, train=train, background=3, seed=seed
    )
    found = explain(x, TARGETS, 0)
    assert near(
        torch.cat([explain(x[row : row + 1], TARGETS[row : row + 1], 0) for row in (2, 0, 1)])[[1, 2, 0]], found
    )
    if not EXPLAINERS[name].stochastic:
        assert torch.equal(explain(x, TARGETS, 1), found)
    elif name in SHAPLEY:  # the sum is exact under every seed
        assert near(explain(x, TARGETS, 1).sum(1), found.sum(1), 1e-4)


def test_values_over_many_rows_are_those_over_the_data_and_not_over_one_random_row(seed):
    net, train, x = smooth_net(8), torch.randn(400, 8), 0.5 * torch.randn(6, 8)
    targets = torch.arange(6) % 3
    draw = lambda **options: harness.explain("exact_shapley", net, x, targets, train=train, **options)
    over_all, many, one = (draw(**of) for of in ({"background": 400}, {}, {"baseline": "train_sample"}))
    assert correlation(many, over_all) > 0.97 > 0.8 > correlation(one, over_all)


def test_what_cannot_be_is_said_in_one_line(seed):
    net, x = smooth_net(5), torch.randn(3, 5)
    explain = lambda **options: harness.explain("kernel_shap", net, x, TARGETS, **options)
    with pytest.raises(harness.NotApplicable, match="background=7 needs training inputs"):
        explain(background=7)
    with pytest.raises(ValueError, match="background=7 takes the place of the baseline"):
        explain(background=7, baseline="zero", train=x)
    for wrong in (-1, 2.5, "all", True):
        with pytest.raises(ValueError, match="background (of .* )?is .*"):
            explain(background=wrong, train=x)


def test_columns_of_several_numbers_are_replaced_as_a_whole(seed):
    """Of f = product of the numbers of a one-hot column and another: absent, the column is one row's, not a mixture."""
    net = model(lambda x: torch.stack([x[:, :2].amax(1) * x[:, 2], -x[:, 2]], 1))
    train = torch.tensor([[1.0, 0, 1], [0, 1, 3]])
    x, target = torch.tensor([[1.0, 0, 5]]), torch.tensor([0])
    found = harness.explain("exact_shapley", net, harness.Data(x, target, columns=(0, 0, 1)), train=train)
    assert near(found, torch.tensor([[0.0, 3.0]])), "each row is one-hot, so the column changes nothing"
