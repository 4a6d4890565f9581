"""``harness.choose``: what it answers where the right answer is known, and what it refuses."""

import json
import time
from contextlib import redirect_stdout
from io import StringIO
from shutil import copytree

import pytest
import torch
from torch import nn

import harness
from harness.cli.main import main
from harness.errors import UserError

STANDARD = ["saliency", "input_x_gradient", "occlusion", "feature_ablation", "integrated_gradients"]


def linear_world(n=120, units=16, seed=0):
    """A classifier of two classes by six of sixteen columns, with its training rows."""
    draw = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(units, 2)).eval()
    weights = torch.zeros(units)
    weights[:6] = torch.tensor([3.0, -2.0, 1.5, -1.0, 0.7, 0.5])
    with torch.no_grad():
        model[0].weight.copy_(torch.stack([-weights, weights]) / 2)
        model[0].bias.zero_()
    inputs, train = torch.randn(n, units, generator=draw), torch.randn(300, units, generator=draw)
    return model, harness.Data(inputs, labels=(inputs @ weights > 0).long(), train=train, task="classes")


@pytest.fixture(scope="module")
def usual():
    """A choice among the standard explainers of the linear world."""
    return harness.choose(*linear_world(), candidates=STANDARD)


def test_on_a_linear_model_an_exact_explainer_is_chosen_and_controls_are_not(usual):
    (_, data), choice = linear_world(), usual
    assert choice.status == "answer"
    # What multiplies weight and input is the right attribution; the gradient alone is the same for every sample.
    assert choice.recommended in ("input_x_gradient", "occlusion", "feature_ablation", "integrated_gradients")
    assert "saliency" not in choice.explainers and "random" not in choice.explainers
    left = choice.evidence["candidates"].set_index("explainer")
    assert not left.loc["random", "in_answer"]
    assert len(str(choice).splitlines()) <= 15 and str(choice).startswith("Use ")
    maps = choice.explain(data.inputs[:3])
    assert maps.shape == data.inputs[:3].shape
    json.dumps(choice.facts(), allow_nan=False)


def test_of_equal_explainers_one_stands_for_all(usual):
    table = usual.evidence["candidates"].set_index("explainer")
    reasons = table.loc[["occlusion", "feature_ablation"], "left_out"]
    assert sum("which stands for both" in each for each in reasons) >= 1


def test_a_choice_is_the_same_each_time(usual):
    first, second = usual, harness.choose(*linear_world(), candidates=STANDARD)
    assert set(first.explainers) == set(second.explainers)  # their order is by time
    assert first.evidence["race"]["wealth"].tolist() == second.evidence["race"]["wealth"].tolist()


def test_a_model_that_guesses_and_one_that_is_constant_have_no_answer():
    model, data = linear_world()
    data.labels = torch.randint(0, 2, (len(data),), generator=torch.Generator().manual_seed(1))
    guessing = harness.choose(model, data, candidates=STANDARD)
    assert guessing.status == "none" and "learnt" in guessing.sentences[0]
    with torch.no_grad():
        model[0].weight.zero_()
    data.labels = None
    constant = harness.choose(model, data, candidates=STANDARD)
    assert constant.status == "none" and "cannot be judged" in constant.sentences[0]


def noise(model, inputs, targets, *, seed=0):
    """Maps that know nothing of the model."""
    return torch.randn(inputs.shape, generator=torch.Generator().manual_seed(7))


def failing(model, inputs, targets):
    """Fails at its first call."""
    raise RuntimeError("no such luck")


def exact(model, inputs, targets):
    """The right map, but for a sample that only the race or the confirmation sees."""
    maps = model[0].weight[targets] * inputs
    return maps.masked_fill((inputs[:, :1] > 1.7), float("nan"))


def close(model, inputs, targets):
    """Nearly the right map."""
    return model[0].weight[targets] * inputs + 0.02 * inputs.flip(1)


@pytest.mark.parametrize("seed", [1, 2])
def test_those_that_were_dropped_for_one_that_lacks_a_score_come_back(seed):
    model, data = linear_world(n=150, seed=seed)
    without = harness.choose(model, data, candidates=[close, "saliency"], tune=False)
    choice = harness.choose(model, data, candidates=[exact, close, "saliency"], tune=False)
    table = choice.evidence["candidates"].set_index("explainer").loc["exact"]
    assert "no score" in table["left_out"] + table["left_race"] or "NaN" in table["left_out"]
    assert choice.recommended == without.recommended == "close"


def usually_right(model, inputs, targets):
    """The right map, but the reverse of it for a few samples."""
    maps = model[0].weight[targets] * inputs
    return torch.where(inputs[:, :1] > 1.9, -maps, maps)


@pytest.mark.parametrize("seed", [4, 5])
def test_one_that_was_left_for_equal_scores_stays_in_the_answer(seed):
    model, data = linear_world(n=200, seed=seed)
    choice = harness.choose(model, data, candidates=[usually_right, "input_x_gradient", "saliency"], tune=False)
    assert "input_x_gradient" in choice.explainers


def test_where_a_control_wins_that_is_the_reason():
    model, data = linear_world(n=150)
    with torch.no_grad():  # the outputs rise with the size of every column, which a control shows as well
        net = nn.Sequential(Sizes(), *model).eval()
    data.labels = net(data.inputs).argmax(1)
    choice = harness.choose(net, data, candidates=["gradient", "smoothgrad"], tune=False)
    assert choice.status == "none" and choice.recommended is None
    assert "controls" in choice.sentences[0] or "cannot be judged" in choice.sentences[0]


class Sizes(nn.Module):
    """The sizes of the numbers."""

    def forward(self, inputs):
        return inputs.abs()


def test_where_all_candidates_are_dear_the_cheapest_of_them_start():
    model, data = linear_world(n=40)
    few = {"background": 0}
    dear = [{"name": "shapley_sampling", **few}, {"name": "kernel_shap", **few}]
    choice = harness.choose(model, data, candidates=dear, tune=False)
    assert choice.recommended in ("shapley_sampling(background=0)", "kernel_shap(background=0)")
    failing_too = harness.choose(model, data, candidates=[failing, *dear], tune=False)
    assert failing_too.recommended in choice.explainers


def test_a_candidate_cannot_have_the_name_of_a_control():
    def random(model, inputs, targets):
        return inputs

    model, data = linear_world(n=40)
    with pytest.raises(UserError, match="called random, as a control is"):
        harness.choose(model, data, candidates=[random, "saliency"])
    only = harness.choose(model, data, candidates=["random", "input_magnitude"])
    assert only.status == "none" and "Only controls" in only.sentences[0]


def test_scores_are_told_as_the_metric_gives_them():
    model, data = linear_world()
    choice = harness.choose(model, data, candidates=["occlusion", "saliency"], metric="deletion", tune=False)
    facts = choice.facts()
    assert facts["better"] == "lower" and 0 < facts["explainers"][0]["score"]["mean"] < 1
    assert facts["explainers"][0]["gain"]["mean"] > 0


def test_further_inputs_are_explained_as_those_that_were_judged():
    model, data = linear_world()
    choice = harness.choose(model, data, candidates=["input_x_gradient", "saliency"], tune=False)
    rows = data.inputs[:4]
    targets = model(rows).argmax(1)
    weights = model[0].weight.detach()
    assert torch.allclose(choice.explain(rows), weights[targets] * rows, atol=1e-6)
    assert torch.allclose(choice.explain(rows, 1 - targets), weights[1 - targets] * rows, atol=1e-6)
    assert torch.allclose(choice.explain(harness.Data(rows, targets)), weights[targets] * rows, atol=1e-6)


def test_samples_that_have_no_score_whatever_the_map_is_are_left_out_for_all():
    draw = torch.Generator().manual_seed(5)
    images = torch.rand(100, 1, 6, 6, generator=draw)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[:, :9] = torch.randn(3, 9, generator=draw)
    masks = torch.zeros(100, 6, 6, dtype=torch.bool)
    masks.flatten(1)[:, :9] = True
    masks[::9] = False  # these images have no object: no explainer can find it
    data = harness.Data(images, masks=masks)
    choice = harness.choose(
        model, data, candidates=["gradient", "saliency", "occlusion"], metric="relevance_mass", tune=False
    )
    assert choice.status == "answer" and choice.recommended in ("saliency", "gradient", "occlusion")
    assert 20 < choice.basis.confirmation.family.n < sum(choice.basis.split.values())
    assert "points at what the label names better than the best control" in choice.sentences[0]
    assert any("Without labels" in line for line in choice.caveats)
    assert choice.basis.course.raced >= choice.basis.course.scores.notna().any(axis=1).sum()


class Slow(nn.Module):
    """Takes a hundredth of a second for each input."""

    def forward(self, inputs):
        time.sleep(0.01 * len(inputs))
        return inputs


def test_a_budget_of_seconds_that_scoring_alone_exceeds_is_refused():
    model, data = linear_world(n=60)
    slow = nn.Sequential(Slow(), *model).eval()
    with pytest.raises(UserError, match="budget is 20s, which is too small to say anything: 4 explainers"):
        harness.choose(slow, data, candidates=["gradient", "saliency"], budget="20s")


def test_a_budget_of_evaluations_is_kept_or_refused():
    model, data = linear_world(n=200)
    for budget in (2_000, 40_000, 80_000, 200_000):
        try:
            choice = harness.choose(model, data, candidates=[*STANDARD, "lime", "kernel_shap"], budget=budget)
        except UserError as refused:
            assert "too small" in str(refused)
            continue
        assert choice.facts()["evaluations"] <= 1.1 * budget


def test_explainers_that_know_nothing_are_not_recommended_and_one_that_fails_is_left_out():
    model, data = linear_world()
    choice = harness.choose(model, data, candidates=["saliency", noise, failing])
    table = choice.evidence["candidates"].set_index("explainer")
    assert "no such luck" in table.loc["failing", "left_out"]
    assert choice.recommended != "noise"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"budget": "soon"}, "budget is 'soon', expected a time"),
        ({"budget": 10}, "too small to say anything"),
        ({"purpose": "fun"}, "purpose"),
        ({"alpha": 0}, "alpha"),
        ({"metric": "complexity"}, "does not tell which explainer is better"),
        ({"metric": ["srg", "deletion"]}, "2 metrics"),
        ({"candidates": ["salency"]}, "saliency"),
    ],
)
def test_a_mistake_is_refused_in_one_line(more, words):
    model, data = linear_world()
    with pytest.raises(UserError, match=words) as told:
        harness.choose(model, data, **{"candidates": ["saliency"], **more})
    assert "\n" not in str(told.value)


def test_too_few_samples_are_refused():
    model, data = linear_world(n=19)
    with pytest.raises(UserError, match="19 samples came, choosing an explainer needs at least 20"):
        harness.choose(model, data, candidates=["saliency"])


COMMAND = [
    *("choose", "model=digits_cnn", "dataset=digits", "protocol.samples=60", "tune=false", "budget=null", "--quiet"),
    *("candidates=[saliency,occlusion,gradient]", "runtime.supervise=false", "--json"),
]


def commanded(runs):
    """The exit status and the printed answer of a choice in a folder of runs."""
    with redirect_stdout(StringIO()) as printed:
        status = main([*COMMAND, f"runtime.runs={runs}"])
    return status, json.loads(printed.getvalue())


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """The folder of runs in which the command has chosen, its exit status and its answer."""
    runs = tmp_path_factory.mktemp("answered")
    return runs, *commanded(runs)


def test_the_command_answers_and_the_same_again_measures_nothing(answered):
    runs, status, facts = answered
    assert status in (0, 3) and (status == 0) == (facts["status"] == "answer")
    run = runs / "choice"
    assert (run / "choice.html").is_file() and json.loads((run / "choice.json").read_text())["model"] == "digits_cnn"
    assert {path.stem for path in (run / "evidence").glob("*.csv")} >= {"candidates", "ladder", "race", "confirmation"}
    lines = (run / "choosing" / "spent.jsonl").read_text()
    again = commanded(runs)
    assert (run / "choosing" / "spent.jsonl").read_text() == lines
    assert again[0] == status and again[1]["explainers"] == facts["explainers"]


def test_a_choice_that_was_cut_off_goes_on_and_comes_to_the_same(answered, tmp_path):
    runs, _, whole = answered
    copytree(runs / "choice", tmp_path / "choice")
    cells = sorted((tmp_path / "choice" / "choosing" / "cells").glob("*.jsonl"))[0]
    rows = cells.read_bytes().splitlines(keepends=True)
    cells.write_bytes(b"".join(rows[: len(rows) // 2]))  # as after a kill
    before = (tmp_path / "choice" / "choosing" / "spent.jsonl").read_text()
    _, resumed = commanded(tmp_path)
    assert (tmp_path / "choice" / "choosing" / "spent.jsonl").read_text() != before, "it has measured what was cut off"
    scores = lambda facts: [(each["explainer"], each["score"]["mean"]) for each in facts["explainers"]]
    assert scores(resumed) == scores(whole)
