"""Variants of the small models: each differs from the model in what its name says, with the effect it is known for."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.errors import NotApplicable, UserError
from harness.jobs.plan import Plan
from harness.models import variant as variants
from harness.models.distilled import distil
from harness.models.training import RECIPES, TrainingRecipe, reproducible, train_network
from harness.models.variant import LEVELS, prune
from harness.registry import MODELS
from named_options import model_named

OF = "cancer_mlp"  # trained in a fifth of a second


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def made(kind, level=None, of=OF, **options):
    return model_named("variant")(of=of, change=kind, level=level, **options).module


def split(part, of=OF):
    len(MODELS)
    return RECIPES[of].load_split()[part][:2]


def accuracy(module, part="test", of=OF):
    inputs, labels = split(part, of)
    with torch.inference_mode():
        return (module(inputs).argmax(1) == labels).float().mean().item()


def weights(module):
    return torch.cat([weight.flatten() for weight in module.parameters()])


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("kind", LEVELS)
def test_every_variant_is_a_frozen_model_with_the_inputs_and_outputs_of_the_original(kind, seed):
    options = {"epochs": 2} if kind == "random_labels" else {}
    loaded, original = model_named("variant")(of=OF, change=kind, **options), model_named(OF)()
    inputs = split("test")[0][:5]
    assert loaded.module(inputs).shape == original.module(inputs).shape
    assert loaded.classes == original.classes
    assert not loaded.module.training and not any(weight.requires_grad for weight in loaded.module.parameters())
    # one sample at a time gives what a batch gives
    alone = torch.cat([loaded.module(one[None]) for one in inputs])
    assert torch.allclose(alone, loaded.module(inputs), atol=1e-5)


def test_no_variation_and_no_pruning_are_the_model_bit_for_bit():
    original = model_named(OF)().module
    assert same(made("none"), original) and same(made("pruned", 0.0), original)


def test_a_network_without_weights_is_constant():
    outputs = made("pruned", 1.0)(split("test")[0])
    assert torch.equal(outputs, outputs[:1].expand_as(outputs))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_pruning_removes_the_smallest_weights_of_all_layers_together_and_no_bias(share):
    original = model_named(OF)().module
    pruned = prune(original, share)
    before, after = ([p.flatten() for p in m.parameters() if p.dim() > 1] for m in (original, pruned))
    before, after = torch.cat(before), torch.cat(after)
    gone = after == 0
    assert gone.sum() == round(share * len(before))
    assert before[gone].abs().max() <= before[~gone].abs().min()
    assert torch.equal(before[~gone], after[~gone])
    biases = zip(original.parameters(), pruned.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in biases if a.dim() == 1)
    assert same(original, model_named(OF)().module)  # a copy was pruned


def test_torch_prunes_the_same_weights():
    from torch.nn.utils import prune as oracle

    original, theirs = model_named(OF)().module, model_named(OF)().module.requires_grad_(True)
    parts = [(part, "weight") for part in theirs if hasattr(part, "weight")]
    oracle.global_unstructured(parts, oracle.L1Unstructured, amount=0.7)
    mine = [part.weight for part in prune(original, 0.7) if hasattr(part, "weight")]
    assert all(torch.equal(a, part.weight) for a, (part, _) in zip(mine, parts, strict=True))


def test_more_pruning_costs_accuracy_on_digits():
    parts = [accuracy(made("pruned", level, of="digits_cnn"), of="digits_cnn") for level in (0.0, 0.5, 0.9, 1.0)]
    assert parts[0] > 0.97 and parts[1] > 0.95 and parts[2] < 0.6 and parts[3] < 0.15


def test_an_l1_penalty_leaves_more_weights_near_zero_and_an_l2_penalty_smaller_ones():
    small = {
        kind: (weights(made(kind, level)).abs() < 1e-3).float().mean() for kind, level in (("none", None), ("l1", 1e-3))
    }
    assert small["l1"] > 3 * small["none"] + 0.1
    assert weights(made("l2", 0.05)).square().sum() < 0.8 * weights(made("none")).square().sum()
    assert accuracy(made("l1", 1e-3)) > 0.9


def test_the_shallow_network_is_smaller_and_still_right():
    assert len(weights(made("shallow"))) == 266
    assert accuracy(made("shallow")) > 0.9
    with torch.inference_mode():
        assert len(weights(RECIPES["digits_cnn"].shallow())) == 1370


def test_a_distilled_tree_gives_what_scikit_learn_gives(seed):
    from sklearn.tree import DecisionTreeRegressor

    module, inputs = model_named(OF)().module, split("train")[0]
    tree = distil(module, inputs, depth=5, seed=seed)
    fitted = DecisionTreeRegressor(max_depth=5, random_state=seed).fit(inputs.numpy(), module(inputs).numpy())
    elsewhere = torch.randn(200, inputs.shape[1])
    for given in (inputs, elsewhere):
        assert torch.allclose(tree(given), torch.from_numpy(fitted.predict(given.numpy())).float(), atol=1e-6)


def test_deeper_trees_follow_the_model_more_closely():
    inputs = split("train")[0]
    agreeing = [
        (made("distilled_tree", depth)(inputs).argmax(1) == made("none")(inputs).argmax(1)).float().mean()
        for depth in (1, 4, 10)
    ]
    assert agreeing[0] < agreeing[1] <= agreeing[2] and agreeing[2] > 0.98


def test_a_trees_gradient_is_zero_and_not_missing():
    inputs = split("test")[0][:4].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(made("distilled_tree")(inputs).sum(), inputs)
    assert not gradient.any()


def test_gradients_of_a_tree_are_flagged_as_constant(tmp_path):
    import harness
    from harness.results.frames import read_cells

    folder = harness.run(
        {
            "model": {"name": "variant", "of": OF, "change": "distilled_tree"},
            "dataset": "breast_cancer",
            "explainer": ["gradient", "kernel_shap"],
            "metric": ["sparseness", "srg"],
            "protocol": {"samples": 6},
            "runtime": {"runs": str(tmp_path), "quiet": True, "lease": "share"},
        }
    )
    cells = read_cells(folder).set_index(["explainer", "metric"])
    assert "6 of 6 attributions are constant" in cells.loc[("gradient", "srg"), "flags"]
    assert "6 of 6 attributions are constant" not in cells.loc[("kernel_shap", "srg"), "flags"]


def test_randomised_weights_are_those_before_training_and_hang_on_the_seed(seed):
    assert same(made("randomised", seed=seed), train_network(replace(RECIPES[OF], epochs=1, rate=0.0), seed=seed))
    assert not same(made("randomised", seed=seed), made("randomised", seed=seed + 1))


def test_random_labels_are_learnt_by_heart_and_teach_nothing(seed):
    module = made("random_labels", seed=seed)
    inputs, labels = split("train")
    with reproducible(seed):
        RECIPES[OF].build()
        permuted = labels[torch.randperm(len(labels))]
    with torch.inference_mode():
        assert (module(inputs).argmax(1) == permuted).float().mean() > 0.95
    assert accuracy(module) < 0.7  # one class alone is 0.63


def attacked(module, inputs, labels, size):
    """FGSM, written here once more."""
    inputs = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(module(inputs), labels), inputs)
    return (inputs + size * gradient.sign()).detach()


def test_adversarial_training_makes_answers_survive_an_attack():
    inputs, labels = split("test", "digits_cnn")
    survived = {}
    for kind in ("none", "adversarial"):
        module = made(kind, of="digits_cnn", **({"level": 0.1} if kind == "adversarial" else {}))
        survived[kind] = (module(attacked(module, inputs, labels, 0.1)).argmax(1) == labels).float().mean()
    assert survived["adversarial"] > survived["none"] + 0.15


def test_the_level_shows_in_the_label_of_a_table():
    plan = Plan.of(
        {
            "model": {"name": "variant", "change": "pruned", "level": 0.5},
            "dataset": "digits",
            "explainer": "random",
            "metric": "sparseness",
        }
    )
    assert plan.model.label == "variant(change=pruned, level=0.5)"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"of": "digit_cnn"}, "unknown model of which there are variants 'digit_cnn': did you mean 'digits_cnn'"),
        ({"of": "lite0"}, "unknown model of which there are variants 'lite0'"),
        ({"change": "prunned"}, "did you mean 'pruned'?"),
        ({"change": "pruned", "level": 1.5}, "level is 1.5, expected a share from 0 to 1"),
        ({"change": "pruned", "level": float("nan")}, "level of variant is nan, expected a number from 0"),
        (
            {"change": "distilled_tree", "level": float("inf")},
            "level of variant is inf, expected a number from 0",
        ),
        ({"change": "l1", "level": -0.1}, "level of variant is -0.1, expected a number from 0"),
        ({"change": "shallow", "level": 0.1}, "level is 0.1, expected none: a variant of kind shallow has no level"),
        ({"change": "distilled_tree", "level": 2.5}, "level is 2.5, expected a whole number of decisions from 1"),
    ],
)
def test_a_wrong_option_is_one_line(options, words):
    with pytest.raises(UserError) as error:
        model_named("variant")(**options)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def another(monkeypatch):
    """A model that is trained for itself under a name that is no registered model's, without a smaller network."""
    monkeypatch.setattr(variants, "RECIPES", dict(RECIPES))
    recipe = RECIPES[OF]
    bare = TrainingRecipe("bare_mlp", recipe.build, recipe.load_split, epochs=1, decay=1e-3)
    variants.RECIPES["bare_mlp"] = bare
    return "bare_mlp"


def test_what_is_trained_without_being_a_model_of_its_own_has_variants_too(another):
    assert made("pruned", 0.5, of=another)(split("test")[0][:2]).shape == (2, 2)


def test_a_model_without_a_smaller_network_has_no_shallow_variant(another):
    with pytest.raises(NotApplicable, match="bare_mlp has no smaller network"):
        made("shallow", of=another)


def test_a_model_that_is_more_than_its_network_has_no_variants(monkeypatch):
    recipe = replace(RECIPES[OF], build=RECIPES["digits_cnn"].build)
    monkeypatch.setattr(variants, "RECIPES", {OF: recipe})
    with pytest.raises(NotApplicable, match="cancer_mlp is more than the network that is trained"):
        made("pruned", 0.5)


def test_the_code_of_the_model_counts_as_the_variants():
    plain = {"dataset": "digits", "explainer": "saliency", "metric": "srg"}
    plans = {of: Plan.of({**plain, "model": {"name": "variant", "of": of}}) for of in ("digits_cnn", "cancer_mlp")}
    codes = {of: plan.subject_code(plan.explainers[0]) for of, plan in plans.items()}
    assert codes["digits_cnn"] != codes["cancer_mlp"]  # the options are no part of it, only the code
    assert RECIPES["cancer_mlp"].build in plans["cancer_mlp"].model.functions
