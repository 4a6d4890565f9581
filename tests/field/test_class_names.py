"""A label means the output of its name; what cannot be compared by name is said or refused."""

from itertools import permutations

import pytest
import torch

from harness.engine.class_names import with_labels_of_outputs
from harness.engine.protocol import Protocol
from harness.engine.stage import set_stage
from harness.errors import UserError
from harness.messages import heard_by
from harness.registry import DATASETS, MODELS
from harness.sources import Data, LoadedModel

ANIMALS = ("cat", "dog", "zebra")
ONE_HOT = torch.eye(3)
# Models of our own with the data set they were trained on, small enough to load here. `None` is the model's own name.
OWN_PAIRS = {"digits_cnn": "digits", "cancer_mlp": "breast_cancer", "cancer_linear": "breast_cancer"}


def heard(data, names, outputs=None):
    """The data for a model with these names of outputs, and what was said."""
    lines = []
    with heard_by(lines.append):
        matched = with_labels_of_outputs(data, names, len(names) if outputs is None else outputs)
    return matched, lines


def refusal(*args, **options):
    with pytest.raises(UserError) as caught:
        heard(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("order", list(permutations(ANIMALS)))
@pytest.mark.parametrize("few", [1, 2, 3])
def test_a_model_that_is_always_right_is_right_whatever_its_order(order, few):
    classes = ANIMALS[:few]  # the model may know more classes than the data has
    data = Data(ONE_HOT[:few], labels=torch.arange(few), targets=torch.arange(few), classes=classes)
    columns = [ANIMALS.index(name) for name in order]
    model = torch.nn.Linear(3, 3, bias=False).eval()
    model.weight.data = ONE_HOT[columns]  # output k answers to the animal that the model calls its k-th
    for target in ("label", "given"):
        loaded = LoadedModel(model, classes=order)
        stage = set_stage(loaded, data, Protocol(target=target), torch.device("cpu"))
        assert torch.equal(stage.predictions, stage.labels) and torch.equal(stage.predictions, stage.targets)
        assert stage.data.classes == order  # so that every later use shows the right name
    assert data.labels.tolist() == list(range(few))  # the user's own data stays as it was


def test_training_labels_and_independent_labels_are_put_into_the_order_of_the_outputs():
    data = Data(ONE_HOT, labels=torch.tensor([0, 1, 2]), train_labels=torch.tensor([2, 2, 0]), classes=ANIMALS)
    matched, lines = heard(data, ("zebra", "cat", "dog"))
    assert matched.labels.tolist() == [1, 2, 0] and matched.train_labels.tolist() == [0, 0, 1] and not lines
    several = Data(ONE_HOT, labels=torch.tensor([[1, 0, 1], [0, 0, 1], [0, 1, 0]]), classes=ANIMALS)
    assert heard(several, ("zebra", "cat", "dog"))[0].labels.tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert "no labels of the model's outputs 'emu'" in refusal(several, ("zebra", "cat", "dog", "emu"))


@pytest.mark.parametrize(
    "own, theirs",
    [
        ("tench", "tench, Tinca tinca"),
        ("great white shark", "Great-White_Shark"),
        ("T-shirt", "t shirt"),
        (" ok ", "OK"),
    ],
)
def test_another_spelling_of_a_name_is_the_same_name(own, theirs):
    for names in ((own, "other"), (theirs, "other")):
        other = [theirs, own][names[0] == theirs]
        matched, lines = heard(Data(ONE_HOT, labels=torch.tensor([0, 1, 0]), classes=names), ("other", other))
        assert matched.labels.tolist() == [1, 0, 1] and not lines


def test_signs_are_no_spelling():
    refusal(Data(ONE_HOT, labels=torch.tensor([0, 1, 0]), classes=("B-", "B+")), ("B", "A"))
    assert "no output named '-1'" in refusal(
        Data(ONE_HOT, labels=torch.zeros(3).long(), classes=("-1", "two")), ("1", "two")
    )


def test_a_name_that_the_model_lacks_is_refused_and_an_unused_one_is_not():
    data = Data(ONE_HOT, labels=torch.tensor([0, 1, 0]), classes=ANIMALS)
    line = refusal(data, ("cat", "emu", "zebra"))
    assert "no output named 'dog' (1 of 2 classes" in line and "model.classes=FILE" in line
    assert heard(data, ("dog", "cat", "emu"))[0].labels.tolist() == [1, 0, 1]


def test_a_name_of_two_outputs_and_two_names_of_one_output_are_refused():
    data = Data(ONE_HOT, labels=torch.tensor([0, 1, 0]), classes=("crane", "dog"))
    assert "the name of 2 outputs" in refusal(data, ("crane", "crane", "dog"))
    both = Data(ONE_HOT, labels=torch.tensor([0, 1, 0]), classes=("Cat", "cat"))
    assert "are both the name of the model's output 0" in refusal(both, ("cat", "dog"))
    same = ("crane", "crane", "dog")  # the same list of names: nothing to compare
    assert heard(Data(ONE_HOT, labels=torch.tensor([1, 0, 2]), classes=same), same)[0].labels.tolist() == [1, 0, 2]


def test_a_long_list_in_the_same_order_with_a_few_other_names_is_the_same_list():
    names = [f"{letter}x{letter}" for letter in "abcdefghijkl"]
    theirs = ["quite another", *names[1:]]
    matched, lines = heard(Data(ONE_HOT, labels=torch.tensor([0, 5, 11]), classes=tuple(names)), theirs)
    assert matched.labels.tolist() == [0, 5, 11] and "'axa' is output 0 ('quite another')" in lines[0]
    refusal(Data(ONE_HOT, labels=torch.tensor([0, 5, 11]), classes=tuple(names)), [theirs[0], *theirs[:0:-1]])


@pytest.mark.parametrize(
    "classes, names",
    [
        (ANIMALS, None),
        (None, ANIMALS),
        (ANIMALS, ("LABEL_0", "LABEL_1", "LABEL_2")),
        (("0", "1", "2"), ANIMALS),
        (("1", "2", "3"), None),
        (("class 4", "class 7", "class 9"), ANIMALS),
    ],
)
def test_matching_by_order_alone_is_said_once(classes, names):
    data = Data(ONE_HOT, labels=torch.tensor([2, 0, 1]), classes=classes)
    matched, lines = heard(data, names, 3)
    assert matched.labels.tolist() == [2, 0, 1] and len(lines) == 1 and "output 0" in lines[0]
    assert matched.classes == (names or classes)


@pytest.mark.parametrize(
    "classes, names", [(None, None), (("0", "1", "2"), None), (None, ("LABEL_0", "LABEL_1", "LABEL_2"))]
)
def test_numbers_without_names_are_places_and_need_no_word(classes, names):
    data = Data(ONE_HOT, labels=torch.tensor([2, 0, 1]), classes=classes)
    assert heard(data, names, 3)[0].labels.tolist() == [2, 0, 1] and not heard(data, names, 3)[1]


@pytest.mark.parametrize("classes", [("cat", "dog"), ("n01440764", "n02102040"), ("1", "3")])
@pytest.mark.parametrize("names", [None, ("tench", "goldfish", "shark"), ("LABEL_0", "LABEL_1", "LABEL_2")])
def test_an_order_of_two_classes_says_nothing_about_three_outputs(classes, names):
    data = Data(ONE_HOT, labels=torch.tensor([0, 1, 0]), classes=classes)
    assert "the model" in refusal(data, names, outputs=3)


def test_data_without_labels_is_not_matched_and_takes_the_names_of_the_model():
    matched, lines = heard(Data(ONE_HOT, classes=("a", "b")), ANIMALS)
    assert matched.classes == ANIMALS and not lines
    numbers = Data(ONE_HOT, labels=torch.rand(3), classes=None)
    assert heard(numbers, ("price",))[0] is numbers and not heard(numbers, ("price",))[1]


def test_two_names_of_a_single_output_are_matched_and_other_names_left_alone():
    data = Data(ONE_HOT, labels=torch.tensor([0, 1, 1]), classes=("cat", "dog"))
    assert heard(data, ("dog", "cat"), outputs=1)[0].labels.tolist() == [1, 0, 0]
    assert heard(data, ("dog",), outputs=1)[0] is data and heard(data, None, outputs=1)[0] is data


def test_names_and_outputs_that_differ_in_number_and_labels_without_a_name_are_refused():
    data = Data(ONE_HOT, labels=torch.tensor([0, 1, 2]), classes=("cat", "dog"))
    assert "4 outputs and 3 names" in refusal(data, ANIMALS, outputs=4)
    assert "labels hold class 2, but the data names 2" in refusal(data, ANIMALS)


@pytest.mark.parametrize("model, data", OWN_PAIRS.items())
def test_our_own_models_and_data_match_by_name(model, data):
    loaded, samples = MODELS[model].function(), DATASETS[data].function()
    lines = []
    with heard_by(lines.append):
        stage = set_stage(loaded, samples, Protocol(samples=50, target="label"), torch.device("cpu"))
    assert float((stage.predictions == stage.labels[:50]).float().mean()) > 0.9
    assert not [line for line in lines if "order" in line or "places" in line]


NUMBERED = {("1", "2", "3"): [1, 2, 1], ("-1", "1"): [1, 1], ("1", "0"): [0, 1]}  # names of outputs, and labels


@pytest.mark.parametrize("names", NUMBERED)
def test_numbers_that_could_be_names_or_places_of_outputs_are_asked_for(names):
    labels = NUMBERED[names]
    message = refusal(Data(torch.zeros(len(labels), 2), torch.tensor(labels)), names)
    assert "is a name or a place is not known" in message and "classes=('" in message
    places = torch.arange(len(names)).flip(0)
    matched, _ = heard(Data(torch.zeros(len(names), 2), places, classes=names), names)
    assert torch.equal(matched.targets, places)


def test_numbers_that_are_no_names_of_outputs_are_their_places():
    matched, _ = heard(Data(torch.zeros(2, 2), torch.tensor([0, 1])), ("-1", "1"))
    assert matched.targets.tolist() == [0, 1]
