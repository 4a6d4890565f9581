"""Small random nets with two or three classes for every kind of input, and what a refusal asks for."""

import re

import torch
from torch import nn

import harness
from harness.units import Units


class MeanOfTokens(nn.Module):
    """Logits from the mean over tokens (N, T, D)."""

    def __init__(self, classes):
        super().__init__()
        self.hidden, self.relu, self.out = nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, classes)

    def forward(self, x):
        return self.out(self.relu(self.hidden(x)).mean(1))


def dense(numbers, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(numbers, 64), nn.ReLU(), nn.Linear(64, classes))


NETS = {
    "image": ((3, 12, 12), lambda k: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), *dense(8 * 144, k))),
    "table": ((6,), lambda k: dense(6, k)),
    "tokens": ((6, 5), MeanOfTokens),
    "series": ((2, 20), lambda k: nn.Sequential(nn.Conv1d(2, 6, 3, padding=1), nn.ReLU(), *dense(120, k))),
    "other": ((2, 2, 2, 2, 2), lambda k: dense(32, k)),
}
COUNT = 4


class World:
    """A net and inputs of one kind, with or without training inputs, and what else a refusal may ask for.

    What the user has given so far is in ``data`` (fields of ``harness.Data``) and ``options`` (of the item).
    """

    def __init__(self, kind, classes, train=False):
        shape, make = NETS[kind]
        self.kind, self.model, self.inputs = kind, make(classes).eval(), torch.randn(COUNT, *shape)
        with torch.no_grad():
            self.targets = self.model(self.inputs).argmax(1)
        maps, units = torch.randn_like(self.inputs), Units.of(self.inputs, kind).shape
        self.maps = maps - maps.flatten(1).mean(1).view(-1, *[1] * len(shape))  # of both signs
        masks = torch.rand(COUNT, *units) < 0.5
        masks.flatten(1)[:, :2] = torch.tensor([True, False])  # neither empty nor full
        self.answers = {
            "train": torch.randn(12, *shape),
            "train_labels": torch.arange(12) % classes,
            "masks": masks,
            "truth": torch.randn(COUNT, *units) * masks,
            "value_range": (-4.0, 4.0),
            "baseline": "zero",
            "epochs": 200,
        }
        self.data = {name: self.answers[name] for name in ("train", "train_labels") if train}
        self.options = {}

    @property
    def given(self):
        return harness.Data(self.inputs, self.targets, modality=self.kind, **self.data)

    def give(self, names):
        """Do what a refusal asks for."""
        for name, value in names.items():
            known = harness.Data.__dataclass_fields__
            answer = self.answers[name] if not value else float(value) if value.isdigit() else value
            (self.data if name in known else self.options)[name] = answer


def asked_for(refusal):
    """What a refusal asks to be given: name -> value, or an empty text where the value is left to the user.

    It is one line, and asks for one thing: ``(give baseline=)``, ``(give similarity=spearman)``. Labelled training
    inputs count as one thing.
    """
    text = str(refusal)
    assert "\n" not in text and 0 < len(text) < 250, text
    asked = re.findall(r"\(give (?:a lower |more )?(\w+)=(\w*)(?: and (\w+)=)?\)", text)
    assert len(asked) <= 1 and text.count("give ") == len(asked), f"asks for several things: {text}"
    names = {} if not asked else {asked[0][0]: asked[0][1]} | ({asked[0][2]: ""} if asked[0][2] else {})
    assert len(names) == 1 or names.keys() <= {"train", "train_labels"}, text
    return names


def tried_with_what_it_asks_for(call, world):
    """What ``call(world)`` returns once it has all that it asked for, or the refusal that asks for nothing."""
    for _ in range(4):
        try:
            return call(world)
        except (harness.NotApplicable, harness.errors.UserError) as refusal:
            names = asked_for(refusal)
            if not names:
                return refusal
            asked_again = names.keys() & (world.data.keys() | world.options.keys())
            assert not asked_again, f"asks again for what it was given: {refusal}"
            world.give(names)
    raise AssertionError("asks for one thing after the other")
