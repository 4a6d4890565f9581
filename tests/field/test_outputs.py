"""Which of the tensors that a model returns is explained: every form of the same output gives the same numbers."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import harness
from harness import LoadedModel
from harness.errors import UserError
from harness.registry import EXPLAINERS

INPUTS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1, 2, 1])
MAPS = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


@dataclass
class Answer:
    """What a model of one's own may return."""

    logits: Tensor
    hidden: Tensor
    loss: Tensor | None = None


Pair = namedtuple("Pair", "logits features")
Odd = namedtuple("Odd", "scores features")
Inception = namedtuple("Inception", "logits aux_logits")


class Returns(nn.Module):
    """A linear classifier that returns its logits and its features in some form."""

    def __init__(self, form):
        super().__init__()
        self.layer, self.form = nn.Linear(3, 3), form
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[2.0, -1.0, 0.5], [-1.0, 1.5, 1.0], [0.5, 0.25, -2.0]]))
            self.layer.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
        self.eval()

    def forward(self, x):
        return self.form(self.layer(x), x * 2)


CERTAIN = {
    "a tensor": lambda z, f: z,
    "a tuple of one": lambda z, f: (z,),
    "a list of one": lambda z, f: [z],
    "a tuple with None": lambda z, f: (None, z),
    "a dict with logits": lambda z, f: {"loss": None, "logits": z, "features": f},
    "a dict with out": lambda z, f: OrderedDict(out=z, aux=f),
    "a dict of one": lambda z, f: {"prediction": z},
    "the same tensor twice": lambda z, f: {"scores": z, "again": z},
    "a dataclass": lambda z, f: Answer(z, f),
    "a namedtuple": lambda z, f: Pair(z, f),
    "an object": lambda z, f: SimpleNamespace(logits=z, hidden_states=(f, f)),
    "Inception with None": lambda z, f: Inception(z, None),
    "Inception in training": lambda z, f: Inception(z, -z),
    "one place of a map": lambda z, f: z[:, :, None, None],
    "one place of a volume": lambda z, f: z[:, :, None, None, None],
}
NAMED = {
    "a key": (lambda z, f: {"features": f, "scores": z}, "scores"),
    "an index": (lambda z, f: (f, z), 1),
    "an index as text, as the command line has it": (lambda z, f: [f, z], "1"),
    "an attribute": (lambda z, f: SimpleNamespace(features=f, scores=z), "scores"),
    "a field of a dataclass that is not the usual one": (lambda z, f: Answer(f, z), "hidden"),
    "a field of a namedtuple": (lambda z, f: Odd(z, f), "scores"),
    "not logits": (lambda z, f: {"logits": f, "calibrated": z}, "calibrated"),
    "the only tensor": (lambda z, f: {"prediction": z}, "prediction"),
}
MODELS = {name: Returns(form) for name, form in CERTAIN.items()}
MODELS |= {name: LoadedModel(Returns(form), output=output) for name, (form, output) in NAMED.items()}
PLAIN = Returns(CERTAIN["a tensor"])


@pytest.mark.parametrize("name", MODELS)
def test_maps_and_scores_are_those_of_the_logits_alone(name):
    for explainer in ("integrated_gradients", "occlusion", "lrp"):
        expected = harness.explain(explainer, PLAIN, INPUTS, CLASSES)
        assert torch.allclose(harness.explain(explainer, MODELS[name], INPUTS, CLASSES), expected, atol=1e-6)
    for metric in ("deletion", "faithfulness_estimate"):
        expected = harness.score(metric, PLAIN, INPUTS, CLASSES, MAPS, baseline="zero")
        assert torch.allclose(harness.score(metric, MODELS[name], INPUTS, CLASSES, MAPS, baseline="zero"), expected)
    frame = harness.evaluate(
        MODELS[name], INPUTS, CLASSES, explainers="gradient", metrics={"srg": {"baseline": "zero"}}
    )
    assert set(frame.status) == {"ok"}


@pytest.mark.parametrize("name", CERTAIN)
def test_an_ending_in_softmax_is_noticed_in_every_form(name):
    model = Returns(lambda z, f: CERTAIN[name](z.softmax(1), f))
    with pytest.raises(UserError, match="model.task=probabilities"):
        harness.explain("gradient", model, INPUTS, CLASSES)


NOT_CERTAIN = {
    "two in a tuple": (lambda z, f: (z, f), None, r"tuple of 0 \(4, 3\), 1 \(4, 3\).*model.output=0.*output=0\)"),
    "two in a dict": (lambda z, f: {"a": z, "b": f}, None, r"dict of a \(4, 3\), b \(4, 3\).*model.output=a.*'a'"),
    "two fields": (lambda z, f: Odd(z, f), None, "model.output=scores"),
    "no tensor": (lambda z, f: {"loss": None}, None, "no tensors"),
    "a text": (lambda z, f: "cat", None, "str"),
    "nothing": (lambda z, f: None, None, "NoneType"),
    "a key that is not there": (lambda z, f: {"scores": z}, "logits", "output is 'logits'.*scores"),
    "an index that is not there": (lambda z, f: (z, f), 2, "output is 2"),
    "an index of a tensor": (lambda z, f: z, 1, "output is 1.*one tensor"),
    "class maps": (lambda z, f: z[:, :, None, None].expand(-1, -1, 2, 2), None, "say task=segmentation"),
    "tokens": (lambda z, f: z[:, None].expand(-1, 5, -1), None, r"returned \(4, 5, 3\)"),
    "the mean of the batch": (lambda z, f: z.mean(0), None, r"returned \(3,\) for"),
    "a number": (lambda z, f: z.sum(), None, r"returned \(\) for"),
}


@pytest.mark.parametrize("name", NOT_CERTAIN)
def test_what_is_not_certain_is_asked_in_one_line_that_names_what_came(name):
    form, output, expected = NOT_CERTAIN[name]
    model = LoadedModel(Returns(form), output=output)
    expected = expected.replace("(4, 3)", "(1, 3)").replace("(4, 5, 3)", "(1, 5, 3)").replace(r"\(4", r"\(1")
    for call in (
        lambda: harness.explain("gradient", model, INPUTS, CLASSES),
        lambda: harness.score("deletion", model, INPUTS, CLASSES, MAPS, baseline="zero"),
        lambda: harness.evaluate(model, INPUTS, CLASSES, explainers="gradient", metrics="srg"),
    ):
        with pytest.raises(UserError, match=expected) as refusal:
            call()
        assert "\n" not in str(refusal.value)


def test_output_is_a_setting_of_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_pair.py").write_text(
        "import test_outputs as forms\nimport harness\n\n\n"
        "def model():\n    return forms.Returns(lambda z, f: {'features': f, 'scores': z})\n\n\n"
        "def data():\n    return harness.Data(forms.INPUTS, forms.CLASSES)\n"
    )
    config = {
        "dataset": "users_pair:data",
        "explainer": ["gradient"],
        "metric": {"srg": {"baseline": "zero"}},
        "runtime": {"runs": str(tmp_path), "quiet": True, "sheet": 0},
    }
    with pytest.raises(UserError, match="model.output=features"):
        harness.run({**config, "model": "users_pair:model"})
    directory = harness.run({**config, "model": {"name": "users_pair:model", "output": "scores"}})
    assert set(harness.results.frames.read_cells(directory).status) == {"ok"}


class OneNumber(nn.Module):
    """A small transformer on images with one output, as (N, 1) or as (N,)."""

    def __init__(self):
        super().__init__()
        self.stem, self.act, self.out = nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Linear(8, 1)
        self.mix, self.vector = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), False

    def forward(self, images):
        tokens = self.act(self.stem(images)).flatten(2).transpose(1, 2)
        out = self.out(self.mix(tokens).mean(1))
        return out[:, 0] if self.vector else out


@pytest.mark.parametrize("name", [name for name, entry in EXPLAINERS.items() if entry.access == "gradient"])
def test_one_output_has_the_same_map_as_a_vector_and_as_a_column(name):
    net, images = OneNumber().eval(), torch.randn(3, 3, 12, 12)
    data = harness.Data(images, torch.zeros(3, dtype=torch.long), train=images.flip(0), task="regression")
    few = {option: value for option, value in {"samples": 3, "steps": 3}.items() if option in EXPLAINERS[name].options}
    column = map_or_reason(name, net, data, few)
    net.vector = True
    vector = map_or_reason(name, net, data, few)
    assert type(vector) is type(column)
    assert vector == column if isinstance(column, str) else torch.allclose(vector, column, atol=1e-6)


def map_or_reason(name, net, data, options):
    try:
        return harness.explain(name, net, data, **options)
    except harness.NotApplicable as reason:
        return str(reason)
