"""Inputs that go along with each sample: the same numbers as for each sample alone with them built into the model."""

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.errors import UserError
from harness.registry import EXPLAINERS, METRICS

pytestmark = pytest.mark.filterwarnings("ignore:the model has one output")
COUNT, COLUMNS = 5, 4
NOTES = torch.tensor([[0, 3], [2, 1], [3, 3], [1, 0], [2, 2]])  # word ids, whole numbers


class TwoTowers(nn.Module):
    """Classes from an image with a table's row and the ids of two words; each matters and all interact."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.image = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.table, self.words, self.out = nn.Linear(COLUMNS, 16), nn.Embedding(4, 16), nn.Linear(16, 3)
        with torch.no_grad():
            for each in self.parameters():
                each.copy_(torch.randn(each.shape, generator=generator) / each.shape[-1] ** 0.25)
        self.eval()

    def forward(self, image, table, words):
        return self.out(torch.tanh(self.image(image) * self.table(table)) + 0.3 * self.words(words).sum(1))


class BuiltIn(TwoTowers):
    """The towers with the row and the words of one sample built in."""

    def __init__(self, row, words):
        super().__init__()
        self.of_sample = row, words

    def forward(self, image):
        return super().forward(image, *(each.expand(len(image), -1) for each in self.of_sample))


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


IMAGES, TABLE, CLASSES = drawn(COUNT, 2, 6, 6), drawn(COUNT, COLUMNS, seed=2), torch.tensor([0, 1, 2, 1, 0])
MAPS, TOWERS = drawn(COUNT, 2, 6, 6, seed=3), TwoTowers()
TRAIN = drawn(7, 2, 6, 6, seed=4)
MASKS = (torch.arange(36).view(1, 6, 6) % 3 == 0).expand(COUNT, 6, 6)
SEGMENTS = (torch.arange(36).view(6, 6) // 6).expand(COUNT, 6, 6)


def together(targets=CLASSES, **more):
    return harness.Data(IMAGES, targets, modality="image", carried={"table": TABLE, "words": NOTES}, **more)


def alone(n, targets=CLASSES, **more):
    """The model and the data of one sample, with its row and words built in."""
    of_sample = {name: each[n : n + 1] if len(each) == COUNT else each for name, each in more.items()}
    model = BuiltIn(TABLE[n : n + 1], NOTES[n : n + 1])
    return model, harness.Data(IMAGES[n : n + 1], targets[n : n + 1], modality="image", **of_sample)


FEW = {"samples": 72, "steps": 6, "masks": 12, "top": 5, "draws": 5, "trees": 5, "epochs": 2, "weight_seeds": 1}


def few(entry):
    return {name: value for name, value in FEW.items() if isinstance(entry.options.get(name), int)}


def found(call):
    """What a call gives, or its refusal, which is one line."""
    try:
        return call()
    except harness.NotApplicable as refusal:
        assert "\n" not in str(refusal) and len(str(refusal)) < 300
        return str(refusal)


LOCAL = [name for name, entry in EXPLAINERS.items() if entry.scope == "local" and not entry.stored]


@pytest.mark.parametrize("name", LOCAL)
def test_maps_are_those_of_each_sample_with_what_goes_along_built_in(name):
    entry, more = EXPLAINERS[name], {"train": TRAIN, "train_labels": torch.arange(7) % 3}
    options, maps = few(entry), None
    maps = found(lambda: harness.explain(name, TOWERS, together(**more), **options))
    for n in range(COUNT):
        model, data = alone(n, **more)
        expected = found(lambda model=model, data=data: harness.explain(name, model, data, **options))
        if isinstance(maps, str):  # refused: also by a model with the rest built in, or because of what goes along
            assert isinstance(expected, str) or "carried inputs" in maps or "inputs beside" in maps, (maps, expected)
        elif isinstance(expected, torch.Tensor):
            torch.testing.assert_close(maps[n : n + 1], expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name, entry in METRICS.items() if entry.kind != "cost"])
def test_scores_are_those_of_each_sample_with_what_goes_along_built_in(name):
    entry = METRICS[name]
    more = {"train": TRAIN, "train_labels": torch.arange(7) % 3, "masks": MASKS, "segments": SEGMENTS}
    more |= {"truth": MAPS.sum(1)}
    options = few(entry) | ({"similarity": "spearman"} if "similarity" in entry.options else {})
    of = lambda model, data, maps: found(
        lambda: harness.score(name, model, data, maps, explainer="input_x_gradient", **options)
    )
    scores = of(TOWERS, together(**more), MAPS)
    for n in range(COUNT):
        expected = of(*alone(n, **more), MAPS[n : n + 1])
        if isinstance(scores, str):
            assert isinstance(expected, str) or "carried inputs" in scores, (scores, expected)
        elif isinstance(expected, torch.Tensor):
            torch.testing.assert_close(scores[n : n + 1], expected, atol=1e-5, rtol=1e-4, equal_nan=True)


REMOVING = [
    name
    for name, entry in METRICS.items()
    if "baseline" in entry.options and not {"explainer", "train_labels"} & set(entry.needs)
]


def test_all_that_only_calls_the_model_serves_such_models():
    """Nothing above is true because nothing applies."""
    for name in [name for name, entry in EXPLAINERS.items() if entry.scope == "local" and entry.access == "forward"]:
        if "image" not in EXPLAINERS[name].modalities:
            continue
        options = few(EXPLAINERS[name])
        assert isinstance(found(lambda n=name, o=options: harness.explain(n, TOWERS, together(), **o)), torch.Tensor), (
            name
        )
    for name in (name for name in REMOVING if "masks" not in METRICS[name].needs):
        more = {"train": TRAIN} if "train" in METRICS[name].needs else {}
        scores = found(lambda n=name, m=more: harness.score(n, TOWERS, together(**m), MAPS, **few(METRICS[n])))
        assert isinstance(scores, torch.Tensor) or name in ("completeness", "effective_complexity"), (name, scores)


class Watching(TwoTowers):
    """Notes every image with the row that went along with it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, image, table, words):
        self.seen += [(image.detach().clone(), table.detach().clone(), words.detach().clone())]
        return super().forward(image, table, words)


@pytest.mark.parametrize("name", [name for name, entry in EXPLAINERS.items() if not entry.stored])
def test_no_explainer_passes_a_training_input_with_the_row_of_a_sample(name):
    """Where a training input meets the model, it would need a row of its own, which nobody has given."""
    model = Watching()
    data = harness.Data(
        IMAGES,
        CLASSES,
        carried={"table": TABLE, "words": NOTES},
        train=TRAIN,
        train_labels=torch.arange(7) % 3,
    )
    refusal = found(lambda: harness.explain(name, model, data, **few(EXPLAINERS[name])))
    for image, table, words in model.seen:
        rows = (table[:, None] == TABLE).all(2)
        assert rows.any(1).all() and ((words[:, None] == NOTES).all(2) == rows).all()  # a sample's row, with its words
        if isinstance(refusal, str):
            continue
        whole = (image.flatten(1)[:, None] == TRAIN.flatten(1)).all(2)
        assert name in TO_A_TRAINING_INPUT or not whole.any()


# Whose path or removal ends at a training input, as the baseline of the sample that is explained.
TO_A_TRAINING_INPUT = {"expected_gradients", "deep_lift_shap", "captum_gradient_shap", "captum_deep_lift_shap"}


def test_evaluate_and_any_number_and_order_of_rows():
    order = torch.tensor([3, 0, 0, 4, 2])
    shuffled = harness.Data(
        IMAGES[order], CLASSES[order], carried={"table": TABLE[order], "words": NOTES[order]}, ids=list("abcde")
    )
    measured = lambda data, **more: harness.evaluate(
        TOWERS, data, explainers=["integrated_gradients", "occlusion"], metrics=["srg", "sensitivity_n"], **more
    )
    values = lambda frame: frame.value.to_numpy().reshape(4, COUNT)
    expected = values(measured(together()))
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(values(measured(shuffled)), expected[:, order.numpy()], atol=1e-5)
    np.testing.assert_allclose(values(measured(together(), explain_batch=2)), expected, atol=1e-5)
    np.testing.assert_allclose(values(measured(together(), tuned=True)), expected, atol=1e-4)


class OfDict(nn.Module):
    """The towers with one dict as their input."""

    def __init__(self):
        super().__init__()
        self.towers = TOWERS
        self.eval()

    def forward(self, batch):
        return self.towers(batch["image"], batch["table"], batch["words"])


ALL = {"image": IMAGES, "table": TABLE, "words": NOTES}
FORMS = {
    "a tuple": (TOWERS, (IMAGES, TABLE, NOTES), {"explained": 0}),
    "a dict as keywords": (TOWERS, ALL, {"explained": "image"}),
    "a dict as the one argument": (OfDict(), ALL, {"explained": "image"}),
    "arrays": (TOWERS, {name: each.numpy() for name, each in ALL.items()}, {"explained": "image"}),
    "carried by keyword": (TOWERS, IMAGES, {"carried": {"table": TABLE, "words": NOTES}}),
    "carried by place": (TOWERS, IMAGES, {"carried": {1: TABLE, 2: NOTES}}),
    "carried arrays": (TOWERS, IMAGES.numpy(), {"carried": {"table": TABLE.numpy(), "words": NOTES.numpy()}}),
    "part carried": (TOWERS, {"image": IMAGES, "table": TABLE}, {"explained": "image", "carried": {"words": NOTES}}),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_the_same_inputs_give_the_same_maps_and_scores(form):
    model, inputs, more = FORMS[form]
    data = harness.Data(inputs, CLASSES, **more)
    assert torch.equal(
        harness.explain("integrated_gradients", model, data),
        harness.explain("integrated_gradients", TOWERS, together()),
    )
    assert torch.equal(harness.score("srg", model, data, MAPS), harness.score("srg", TOWERS, together(), MAPS))


def test_each_input_can_be_the_explained_one():
    for explained, shape in (("image", IMAGES.shape), ("table", TABLE.shape)):
        data = harness.Data(ALL, CLASSES, explained=explained)
        assert harness.explain("gradient", TOWERS, data).shape == shape


def test_targets_are_taken_in_every_form():
    expected = harness.explain("gradient", TOWERS, together())
    for targets in (CLASSES.tolist(), CLASSES.numpy(), CLASSES.int(), CLASSES[:, None]):
        assert torch.equal(harness.explain("gradient", TOWERS, together(targets)), expected)
    of_one = harness.explain("gradient", TOWERS, together(2))
    assert torch.equal(of_one, harness.explain("gradient", TOWERS, together(torch.full((COUNT,), 2))))
    lists = harness.Data(IMAGES.flatten(1).tolist(), CLASSES)
    net = nn.Linear(72, 3).eval()
    assert torch.allclose(harness.explain("gradient", net, lists), net.weight[CLASSES])


REFUSED = {
    "which of two tables": ((TABLE, TABLE), {}, "explained=0"),
    "which of a dict": ({"image": IMAGES, "table": TABLE, "words": NOTES}, {}, "explained="),
    "a name that is none": (ALL, {"explained": "picture"}, "'picture'.*'image'"),
    "two at once": (ALL, {"explained": ["image", "table"]}, "one after another"),
    "too few rows": (IMAGES, {"carried": {"table": TABLE[:3], "words": NOTES}}, r"'table' has shape \(3, 4\)"),
    "a name that forward lacks": (IMAGES, {"carried": {"ages": TABLE}}, "does not take 'ages'"),
    "a text": (IMAGES, {"carried": {"table": "none", "words": NOTES}}, "'table' is a str"),
    "the place of the explained one": (IMAGES, {"carried": {0: TABLE, 1: NOTES}}, "places 0, 0, 1.*expected"),
    "a place left out": (IMAGES, {"carried": {2: NOTES}}, "places 0, 2 .*expected each of 0, 1 once"),
    "a place below 0": (IMAGES, {"carried": {-1: NOTES}}, "places 0, -1 .*expected"),
    "an input that came twice": ((IMAGES, TABLE, NOTES), {"explained": 0, "carried": {1: TABLE}}, "1 came twice"),
    "a name and a place": ({"image": IMAGES}, {"carried": {0: TABLE}}, "'image' has a name.*name them all"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_certain_is_asked_in_one_line(what):
    inputs, more, expected = REFUSED[what]
    with pytest.raises(UserError, match=expected) as refusal:
        harness.explain("gradient", TOWERS, harness.Data(inputs, CLASSES, **more))
    assert "\n" not in str(refusal.value)
