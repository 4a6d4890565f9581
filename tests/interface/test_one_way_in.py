"""explain, score, evaluate and run take the same way into the engine, and take the same data."""

import pytest
import torch

import harness
from harness.guards import ModelChanged
from harness.jobs.lease import lease
from harness.registry import EXPLAINERS

MODEL = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2 * 4 * 4, 3)).eval()
INPUTS, TARGETS = torch.randn(5, 2, 4, 4), torch.tensor([0, 1, 2, 1, 0])
MORE = {
    "train": torch.randn(7, 2, 4, 4),
    "train_labels": torch.arange(7) % 3,
    "masks": torch.rand(5, 4, 4) > 0.5,
    "truth": torch.randn(5, 4, 4),
    "segments": torch.arange(16).view(4, 4) // 4,
    "value_range": (-5.0, 5.0),
    "labels": torch.tensor([0, 1, 2, 2, 0]),
}


@pytest.fixture
def seen(monkeypatch):
    """The samples that a planted explainer was called with, in order."""
    calls = []

    def planted(model, inputs, targets, *, context):
        """Notes its context."""
        calls.append(context)
        return inputs * 2

    EXPLAINERS["saliency"]  # so that what is registered now is all there is
    monkeypatch.setattr(EXPLAINERS, "_entries", dict(EXPLAINERS._entries))
    EXPLAINERS.register(planted)
    return calls


def same(first, second):
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def test_the_four_show_an_explainer_the_same_samples(seen):
    data = harness.Data(INPUTS, TARGETS, **MORE)
    maps = harness.explain("planted", MODEL, data)
    harness.score("max_sensitivity", MODEL, data, maps, explainer="planted", draws=1, radius=1e-5)
    harness.evaluate(MODEL, data, explainers="planted", metrics="sparseness")
    first, last = seen[0], [samples for samples in seen if len(samples) == len(data)][-1]
    for name in (
        "targets",
        "keys",
        "units",
        "seed",
        "labels",
        "train_labels",
        "train",
        "masks",
        "truth",
        "value_range",
    ):
        assert same(getattr(first, name), getattr(last, name)), name
    assert torch.equal(first.given_segments, last.given_segments) and torch.equal(first.inputs, last.inputs)
    assert len(seen[1]) == 1  # the first sample again, to see whether the map is the explainer's
    again = seen[2]  # noisy inputs of the metric; everything else stays
    assert torch.equal(again.targets[: len(TARGETS)], TARGETS) and same(again.value_range, first.value_range)


def test_every_field_of_data_is_a_keyword_too(seen):
    for name in MORE.keys() - {"train", "train_labels"}:
        harness.explain("planted", MODEL, INPUTS, TARGETS, **{name: MORE[name]})
        harness.explain("planted", MODEL, harness.Data(INPUTS, TARGETS, **{name: MORE[name]}))
        *_, as_keyword, in_data = seen
        field = "given_segments" if name == "segments" else name
        assert getattr(as_keyword, field) is not None and same(getattr(as_keyword, field), getattr(in_data, field))


def test_data_and_tensors_give_the_same_numbers():
    data = harness.Data(INPUTS, TARGETS)
    maps = harness.explain("integrated_gradients", MODEL, INPUTS, TARGETS, steps=4)
    assert torch.equal(harness.explain("integrated_gradients", MODEL, data, steps=4), maps)
    scores = harness.score("deletion", MODEL, INPUTS, TARGETS, maps, steps=4)
    assert torch.equal(harness.score("deletion", MODEL, data, maps, steps=4), scores)
    frame = harness.evaluate(
        MODEL, data, explainers={"integrated_gradients": {"steps": 4}}, metrics={"deletion": {"steps": 4}}
    )
    assert frame["value"].tolist() == scores.tolist()


def test_without_labels_the_targets_are_taken_for_them(seen):
    harness.explain("planted", MODEL, INPUTS, TARGETS)
    assert torch.equal(seen[0].labels, TARGETS)


@pytest.mark.parametrize(
    ("act", "words"),
    {
        "targets twice": (
            lambda: harness.explain("saliency", MODEL, harness.Data(INPUTS, TARGETS), TARGETS),
            "targets came beside harness.Data",
        ),
        "train twice": (
            lambda: harness.explain(
                "saliency", MODEL, harness.Data(INPUTS, TARGETS, train=MORE["train"]), train=MORE["train"]
            ),
            "train came twice",
        ),
        "no targets": (
            lambda: harness.explain("saliency", MODEL, harness.Data(INPUTS)),
            "no targets: give the outputs to explain",
        ),
        "names of another number": (
            lambda: harness.evaluate(
                MODEL, harness.Data(INPUTS, TARGETS, ids=["a"]), explainers="edge", metrics="complexity"
            ),
            "ids are 1, expected one for each of 5 inputs",
        ),
        "truth of another shape": (
            lambda: harness.explain("saliency", MODEL, harness.Data(INPUTS, TARGETS, truth=torch.zeros(5, 3))),
            r"truth is \(5, 3\), expected one number per unit, a tensor \(5, 4, 4\)",
        ),
        "the same name twice": (
            lambda: harness.explain("saliency", MODEL, harness.Data(INPUTS, TARGETS, ids=list("abcda"))),
            "two samples have the id 'a'",
        ),
        "a kind of input that does not exist": (
            lambda: harness.explain("saliency", MODEL, harness.Data(INPUTS, TARGETS, modality="picture")),
            "unknown modality 'picture'",
        ),
        "a range of one number": (
            lambda: harness.explain("saliency", MODEL, harness.Data(INPUTS, TARGETS, value_range=3)),
            "value_range is 3, expected the lowest and the highest value",
        ),
        "inputs that are no sequence": (lambda: harness.explain("saliency", MODEL, harness.Data(3, TARGETS)), "int"),
        "the name of segments in evaluate": (
            lambda: harness.evaluate(MODEL, INPUTS, TARGETS, explainers="edge", metrics="srg", segments="grid:2"),
            "segments are 'grid:2', expected a tensor",
        ),
        "labels of another number": (
            lambda: harness.explain("saliency", MODEL, harness.Data(INPUTS, TARGETS, labels=TARGETS[:2])),
            r"labels are torch.int64 \(2,\), expected class indices or numbers \(5,\)",
        ),
    }.values(),
)
def test_what_does_not_fit_is_said_in_one_line(act, words):
    with pytest.raises(ValueError, match=words) as caught:
        act()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("targets", [[0, 1, 2, 1, 0], TARGETS.numpy(), TARGETS.int()], ids=["list", "numpy", "int32"])
def test_targets_in_data_may_come_in_any_form_that_says_the_same(targets):
    expected = harness.explain("input_x_gradient", MODEL, INPUTS, TARGETS)
    assert torch.equal(harness.explain("input_x_gradient", MODEL, harness.Data(INPUTS, targets)), expected)
    frame = harness.evaluate(MODEL, harness.Data(INPUTS, targets), explainers="edge", metrics="complexity")
    assert frame["target"].tolist() == TARGETS.tolist()


def test_as_many_samples_as_channels_leave_no_doubt_about_segments():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 4, 3)).eval()
    inputs, segments = torch.randn(3, 3, 4, 4), torch.arange(48).view(3, 4, 4) // 12
    options = {"reduction": "none", "granularity": "segment", "segments": segments, "steps": 4, "baseline": "zero"}
    together = harness.score("deletion", model, inputs, TARGETS[:3], inputs, **options)
    alone = [
        harness.score("deletion", model, inputs[i : i + 1], TARGETS[i : i + 1], inputs[i : i + 1], **options)
        for i in range(3)
    ]
    assert torch.allclose(together, torch.cat(alone))


def test_a_metric_that_changes_its_inputs_changes_nobody_elses():
    def greedy(batch):
        """Empties its inputs."""
        batch.samples.inputs.zero_()
        return batch.attributions.flatten(1).sum(1)

    before = INPUTS.clone()
    harness.score(greedy, MODEL, INPUTS, TARGETS, INPUTS)
    frame = harness.evaluate(MODEL, INPUTS, TARGETS, explainers="input_magnitude", metrics=[greedy, "complexity"])
    assert torch.equal(INPUTS, before) and set(frame["status"]) == {"ok"}


class Slices:
    """Masks that are read when they are asked for."""

    def __init__(self, masks):
        self.masks = masks

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, where):
        return self.masks[where]


def test_masks_that_are_read_lazily_are_checked_when_they_are_read():
    score = lambda masks: harness.score("pointing_game", MODEL, harness.Data(INPUTS, TARGETS, masks=masks), INPUTS)
    assert torch.equal(score(Slices(MORE["masks"].float())), score(MORE["masks"]))
    with pytest.raises(ValueError, match=r"masks are \(5, 3, 3\), expected a tensor \(5, 4, 4\)"):
        score(Slices(torch.ones(5, 3, 3)))
    with pytest.raises(ValueError, match="masks are 6, expected one for each of 5 samples"):
        score(Slices(torch.ones(6, 4, 4)))


def test_a_model_that_is_changed_while_an_explainer_prepares_is_noticed_and_put_back(monkeypatch):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32, 3)).eval()
    weight = model[1].weight.detach().clone()

    def spoil(model, context, /):
        model[1].weight.data.zero_()

    def prepared_badly(model, inputs, targets, *, prepared):
        """Spoils the model before it explains."""
        return inputs

    monkeypatch.setattr(EXPLAINERS, "_entries", dict(EXPLAINERS._entries))
    EXPLAINERS.register(prepared_badly, prepare=spoil)
    acts = [
        lambda: harness.explain("prepared_badly", model, INPUTS, TARGETS),
        lambda: harness.score("sparseness", model, INPUTS, TARGETS, INPUTS, explainer="prepared_badly"),
    ]
    for act in acts:
        with pytest.raises(ModelChanged):
            act()
        assert torch.equal(model[1].weight, weight)


def test_timings_beside_another_run_are_not_called_undisturbed():
    times = lambda: harness.evaluate(MODEL, INPUTS, TARGETS, explainers="saliency", metrics="seconds_per_sample")
    assert times()["value"].notna().all()
    with lease(torch.device("cpu"), "wait", print):
        beside = times()
    assert beside["value"].isna().all() and "shared" in beside["error"].iloc[0]
