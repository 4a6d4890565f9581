"""The interface for notebooks, on the user's own module, tensors and functions."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import harness


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()


@pytest.fixture
def inputs():
    return torch.randn(6, 3, 8, 8)


TARGETS = torch.arange(6) % 5


def my_explainer(model, inputs, targets, *, power=1.0):
    """Magnitudes."""
    return inputs.abs() ** power


def my_metric(batch, *, scale=2.0):
    """Sums."""
    return scale * batch.attributions.flatten(1).sum(1)


def test_registered_and_own_functions_explain_alike(model, inputs):
    named = harness.explain("saliency", model, inputs, TARGETS)
    own = harness.explain(my_explainer, model, inputs, TARGETS, power=2.0)
    assert named.shape == own.shape == inputs.shape
    assert torch.allclose(own, inputs**2)


def test_registered_and_own_metrics_score_alike(model, inputs):
    attributions = harness.explain("saliency", model, inputs, TARGETS)
    assert harness.score("deletion", model, inputs, TARGETS, attributions, steps=4).shape == (6,)
    own = harness.score(my_metric, model, inputs, TARGETS, attributions, scale=3.0)
    torch.testing.assert_close(own, 3 * attributions.double().flatten(1).sum(1))


def test_evaluate_gives_one_row_per_sample_and_metric(model, inputs):
    frame = harness.evaluate(
        model,
        inputs,
        TARGETS,
        explainers=["saliency", my_explainer, {"name": my_explainer, "label": "squared", "power": 2.0}],
        metrics={"srg": {"steps": 4}, "mine": {"name": my_metric}},
        seed=3,
        explain_batch=4,
    )
    assert len(frame) == 6 * 3 * 2 and set(frame["status"]) == {"ok"}
    assert list(frame["explainer"].unique()) == ["saliency", "my_explainer", "squared"]
    one = frame[(frame["explainer"] == "squared") & (frame["metric"] == "mine")]["value"]
    np.testing.assert_allclose(one, 2 * (inputs**2).flatten(1).sum(1), rtol=1e-5)


def test_evaluate_equals_explaining_and_scoring_by_hand(model, inputs):
    frame = harness.evaluate(model, inputs, TARGETS, explainers=["smoothgrad"], metrics={"srg": {"steps": 4}}, seed=5)
    attributions = harness.explain("smoothgrad", model, inputs, TARGETS, seed=5)
    by_hand = harness.score("srg", model, inputs, TARGETS, attributions, seed=5, steps=4)
    np.testing.assert_allclose(frame["value"], by_hand, atol=1e-6)


def test_a_cell_that_does_not_apply_or_fails_has_rows_that_say_so(model, inputs):
    def broken(model, inputs, targets):
        raise RuntimeError("boom")

    frame = harness.evaluate(
        model,
        inputs,
        TARGETS,
        explainers=[broken, {"name": "exact_shapley", "segments": "unit", "label": "exact_shapley"}, "saliency"],
        metrics=["sparseness"],
    )
    told = frame.groupby("explainer")[["status", "error"]].first()
    assert told.loc["broken"].tolist() == ["failed", "RuntimeError: boom"]
    assert told.loc["exact_shapley", "status"] == "not_applicable" and "segments" in told.loc["exact_shapley", "error"]
    assert told.loc["saliency", "status"] == "ok"


def test_one_sample_and_one_class_are_enough(inputs):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 1)).eval()
    frame = harness.evaluate(
        model,
        inputs[:1],
        torch.zeros(1, dtype=torch.long),
        explainers=["gradient", "occlusion"],
        metrics={"deletion": {"score": "logit"}, "by_probability": {"name": "deletion"}},
    )
    frame = frame.set_index(["explainer", "metric"])
    assert set(frame.xs("deletion", level=1)["status"]) == {"ok"}
    # A number has no probability: the metric's default score is the output itself.
    assert frame.xs("by_probability", level=1)["value"].equals(frame.xs("deletion", level=1)["value"])


def test_segments_and_masks_of_the_users_own_are_used(model, inputs):
    halves = (torch.arange(64).view(8, 8) // 32).expand(6, 8, 8)
    drops = harness.explain("feature_ablation", model, inputs, TARGETS, segments=halves)
    assert all(len(each.unique()) <= 2 for each in drops[:, 0])


MISTAKES = {
    "model in training mode": (lambda m, x, t: (m.train(), x, t), "training mode"),
    "not a model": (lambda m, x, t: (3, x, t), "model is a int, expected a torch.nn.Module"),
    "a function that fails": (lambda m, x, t: (torch.relu, x, t), "raised TypeError"),
    "whole numbers": (lambda m, x, t: (m, x.long(), t), "give other inputs as floats: inputs.float()"),
    "no samples": (lambda m, x, t: (m, x[:0], t[:0]), "at least one sample"),
    "not finite": (lambda m, x, t: (m, x / 0, t), "6 of 6 inputs hold NaN or infinite"),
    "too few targets": (lambda m, x, t: (m, x, t[:3]), "expected class indices or numbers (6,)"),
    "targets out of range": (lambda m, x, t: (m, x, t + 3), "class 7, expected 0 to 4: the model has 5 outputs"),
    "negative targets": (lambda m, x, t: (m, x, t - 1), "class -1, expected 0 to 4"),
    "real targets": (lambda m, x, t: (m, x, t.float()), "for class indices give whole numbers"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_model_inputs_and_targets_are_one_line(mistake, model, inputs):
    spoil, expected = MISTAKES[mistake]
    arguments = spoil(model, inputs, TARGETS)
    for call in (
        lambda: harness.explain("saliency", *arguments),
        lambda: harness.score("sparseness", *arguments, torch.rand(6, 8, 8)),
        lambda: harness.evaluate(*arguments, explainers=["saliency"], metrics=["sparseness"]),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("attributions", "expected"),
    [
        (torch.rand(6, 7, 8), "attributions have shape"),
        (torch.rand(5, 8, 8), "one map for each of 6"),
        (torch.full((6, 8, 8), float("nan")), "attributions of 6 of 6 samples hold NaN"),
        ([[0.0]] * 6, "list, expected a tensor"),
    ],
)
def test_wrong_attributions_are_one_line(attributions, expected, model, inputs):
    with pytest.raises(ValueError, match=expected):
        harness.score("sparseness", model, inputs, TARGETS, attributions)


def test_an_unknown_option_or_name_tells_the_choices(model, inputs):
    with pytest.raises(ValueError, match="unknown option of smoothgrad 'step': .*available: noise, samples"):
        harness.explain("smoothgrad", model, inputs, TARGETS, step=3)
    with pytest.raises(ValueError, match="unknown explainer 'smothgrad': did you mean 'smoothgrad'"):
        harness.explain("smothgrad", model, inputs, TARGETS)
    with pytest.raises(ValueError, match="option baseline of occlusion is 'blakc', .*; did you mean 'black'"):
        harness.explain("occlusion", model, inputs, TARGETS, baseline="blakc")
    with pytest.raises(ValueError, match="unknown protocol setting 'seeds'"):
        harness.evaluate(model, inputs, TARGETS, explainers=["saliency"], metrics=["srg"], seeds=1)


def test_a_constant_attribution_is_scored_by_lot_and_flagged(model, inputs):
    def flat(model, inputs, targets):
        return torch.ones_like(inputs)

    frame = harness.evaluate(model, inputs, TARGETS, explainers=[flat], metrics=["srg", "sensitivity_n"])
    frame = frame.set_index("metric")
    assert frame["flags"].str.contains("6 of 6 attributions are constant").loc["srg"].all()
    assert (frame.loc["srg", "tied"] == 1).all() and frame.loc["srg", "valid"].all()
    without = frame.loc["sensitivity_n"]
    assert not without["valid"].any() and set(without["status"]) == {"not_applicable"}
    assert without["error"].str.startswith("no sample has a score: ").all()


class Overflowing(nn.Module):
    """Logits that are infinite as soon as a pixel is 0."""

    def forward(self, inputs):
        return inputs.flatten(1)[:, :2].masked_fill((inputs == 0).flatten(1).any(1)[:, None], float("inf"))


def test_scores_that_break_down_have_failed_and_are_not_called_not_applicable(inputs):
    options = {"explainers": ["input_magnitude"], "metrics": {"deletion": {"baseline": "zero", "score": "logit"}}}
    frame = harness.evaluate(Overflowing().eval(), inputs, torch.zeros(len(inputs), dtype=torch.long), **options)
    assert set(frame["status"]) == {"failed"} and frame["error"].str.contains("not finite|undefined").all()


def told(caught):
    return [str(each.message) for each in caught if "these options" in str(each.message)]


@pytest.mark.parametrize("metric", ["avg_sensitivity", "completeness"])
def test_a_map_that_the_explainer_would_not_give_with_these_options_is_noticed(metric, model, inputs):
    made_with, targets = {"baseline": "mean", "steps": 7}, torch.arange(len(inputs)) % 2
    maps = harness.explain("integrated_gradients", model, inputs, targets, **made_with)
    given = (metric, model, inputs, targets, maps)
    with pytest.warns(UserWarning, match="give explainer_options="):
        harness.score(*given, explainer="integrated_gradients")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        harness.score(*given, explainer="integrated_gradients", explainer_options=made_with)
    assert not told(caught)


def from_torchs_generator(model, inputs, targets):
    return torch.rand_like(inputs)


@pytest.mark.parametrize("explainer", ["smoothgrad", "random", from_torchs_generator])
def test_a_random_map_is_the_same_again(explainer, model, inputs):
    targets = torch.arange(len(inputs)) % 2
    maps = harness.explain(explainer, model, inputs, targets)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        harness.score("sparseness", model, inputs, targets, maps, explainer=explainer)
        harness.score("sparseness", model, inputs, targets, maps.sum(1), explainer=explainer)  # reduced before
    assert not told(caught)


def not_served(model, inputs, targets):
    raise harness.NotApplicable("serves no such model")


def broken(model, inputs, targets):
    raise RuntimeError("an operand has no gradient")


@pytest.mark.parametrize(
    ("explainer", "why"), [(not_served, "serves no such model"), (broken, "RuntimeError: an operand has no gradient")]
)
def test_that_a_map_could_not_be_compared_is_told_with_the_reason(explainer, why, model, inputs):
    targets = torch.arange(len(inputs)) % 2
    with pytest.warns(UserWarning, match=f"not compared with those of {explainer.__name__}, .*{why}"):
        found = harness.score("sparseness", model, inputs, targets, inputs, explainer=explainer)
    assert found.isfinite().all()


class AlwaysDropping(nn.Module):
    """A dropout that eval mode does not stop."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, inputs):
        return nn.functional.dropout(self.net(inputs), 0.5, training=True)


def test_a_model_whose_outputs_are_random_is_flagged_on_every_score(model, inputs):
    targets = torch.arange(len(inputs)) % 2
    chosen = {"explainers": ["saliency", "random"], "metrics": ["sparseness", "deletion"]}
    frame = harness.evaluate(AlwaysDropping(model).eval(), inputs, targets, **chosen)
    assert frame["flags"].astype(str).str.contains("outputs are random").all()
    assert not harness.evaluate(model, inputs, targets, **chosen)["flags"].astype(str).str.contains("random:").any()
    with pytest.warns(UserWarning, match="outputs are random"):
        harness.score("sparseness", AlwaysDropping(model).eval(), inputs, targets, torch.rand_like(inputs))
