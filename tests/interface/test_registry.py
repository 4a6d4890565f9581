"""The registry: bundles of options, a failed import, and misspelt names."""

from dataclasses import dataclass, field

import pytest
import torch

import harness
from harness.errors import UserError, unknown
from harness.identity import canonical
from harness.options import bundles_of, options_of
from harness.registry import EXPLAINERS, METRICS, Entry, Registry


@dataclass(frozen=True)
class Path:
    """Options of a path."""

    steps: int = 10
    baseline: str = "zero"


def ends_of(model, inputs, targets, *, path=Path(steps=4), power: float = 1.0):
    """A map that tells its options."""
    return inputs * 0 + path.steps + power * len(path.baseline)


def test_fields_of_a_bundle_are_options_with_the_defaults_of_this_function():
    assert dict(options_of(ends_of)) == {"steps": 4, "baseline": "zero", "power": 1.0}
    entry = Entry("ends_of", ends_of, options_of(ends_of))
    chosen = entry.complete({"steps": 7, "power": 2})
    assert entry.keywords(chosen) == {"path": Path(7, "zero"), "power": 2.0}
    with pytest.raises(UserError, match="option steps of ends_of is 'many', expected a whole number"):
        entry.complete({"steps": "many"})


def shares_of(model, inputs, targets, *, percents: tuple[float, ...] = (10, 50)):
    """A map that ignores its options."""


def test_numbers_as_a_list_a_text_and_a_single_one_are_the_same_setting():
    entry = Entry("shares_of", shares_of, options_of(shares_of))
    written = [[10, 20.5], (10.0, 20.5), "10 20.5", " 1e1  20.5", ["10", 20.5]]
    identities = {canonical(entry.complete({"percents": percents})) for percents in written}
    assert identities == {'{"percents":[10,20.5]}'}
    assert {entry.complete({"percents": one})["percents"] for one in (30, 30.0, "30", [30])} == {(30,)}
    assert entry.complete({}) == {"percents": (10, 50)}
    for wrong in ("10,20", "ten", ["ten"], [[10]], {"ten": 10}):
        with pytest.raises(UserError, match="percents of shares_of is .*, expected a list, each a finite number"):
            entry.complete({"percents": wrong})


def test_a_function_with_a_bundle_is_called_by_the_names_of_its_options():
    model, inputs = torch.nn.Linear(3, 2).eval(), torch.ones(2, 3)
    maps = harness.explain(ends_of, model, inputs, torch.zeros(2, dtype=torch.long), steps=5, baseline="mean")
    assert maps.tolist() == [[9.0] * 3] * 2


def test_an_option_with_two_homes_is_an_error():
    def twice(model, inputs, targets, *, path=Path(), steps=3):
        """Two steps."""

    with pytest.raises(UserError, match="has the option 'steps' twice"):
        options_of(twice)


@dataclass(frozen=True)
class Hidden:
    """A field that nobody can give."""

    steps: int = field(default=3, init=False)


@dataclass(frozen=True)
class Nested:
    """A bundle in a bundle."""

    path: Path = Path()


@dataclass(frozen=True)
class Reserved:
    """A field with a name that a configuration uses itself."""

    over: int = 1


@dataclass
class Changing:
    """A default that somebody could change."""

    steps: int = 3


@pytest.mark.parametrize(
    ("bundle", "words"),
    [
        (Hidden(), "has the field 'steps', which is no option"),
        (Nested(), "has the field 'path', which is no option"),
        (Reserved(), "has the field 'over', which the harness uses itself"),
        (Changing(), "can be changed, expected a frozen dataclass"),
    ],
)
def test_what_cannot_be_a_bundle_is_refused_in_one_line(bundle, words):
    def explain(model, inputs, targets, *, chosen=bundle):
        """Anything."""

    with pytest.raises(UserError, match=words) as caught:
        options_of(explain)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("percents", [None, True, [10, True], "ten", [[10]]])
def test_percentages_are_numbers(percents):
    with pytest.raises(UserError, match="expected a list, each a number above 0 and below 100"):
        METRICS["road"].complete({"percents": percents})


def test_no_registered_item_loses_an_option_between_its_names_and_its_keywords():
    for registry in (EXPLAINERS, METRICS):
        for entry in registry.values():
            keywords = entry.keywords(entry.complete({}))
            taken = {name: value for name, value in keywords.items() if name not in bundles_of(entry.function)}
            fields = {name for keyword in bundles_of(entry.function) for name in vars(keywords[keyword])}
            assert taken.keys() | fields == set(entry.options), entry.name


def test_after_a_failed_import_the_next_look_up_tries_again(tmp_path, monkeypatch):
    package = tmp_path / "some_explainers"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "broken.py").write_text("raise RuntimeError('not yet')")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry("explainer", Entry, "some_explainers")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not yet"):
            registry["any"]


def test_a_misspelt_name_is_answered_by_the_nearest_three_and_the_command_that_lists_all():
    with pytest.raises(UserError) as caught:
        EXPLAINERS["grad_cam_p"]
    text = str(caught.value)
    assert "'grad_cam_pp'" in text and text.endswith("names: harness list explainers") and len(text) < 200
    expected = "unknown verb 'rum': did you mean 'run'? available: plan, run"
    assert str(unknown("verb", "rum", ["run", "plan"])) == expected
