"""Models of one's own: made by a function, with weights of a file, or saved as a program."""

import copy
import json
import os
import sys
import textwrap
import warnings
from functools import partial

import pytest
import torch
from PIL import Image
from torch import nn

import harness
from budgets import small
from harness.errors import NotApplicable, UserError
from harness.jobs.plan import Plan
from harness.models.state import needed
from harness.registry import EXPLAINERS
from named_options import model_named

exported, python = model_named("exported"), model_named("python")

MINE = '''
import torch
from torch import nn

from harness.sources import Data, LoadedModel


class Net(nn.Module):
    """Two convolutions with a norm, a residual, ReLUs in place, and dropout that eval mode silences."""

    def __init__(self, width=4, outputs=3):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)
        self.second, self.relu = nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)
        self.drop, self.out = nn.Dropout(0.5), nn.Linear(width, outputs)
        nn.init.normal_(self.norm.running_mean), nn.init.uniform_(self.norm.running_var, 0.5, 2.0)
        nn.init.uniform_(self.norm.weight, 0.5, 2.0), nn.init.normal_(self.norm.bias)

    def forward(self, x):
        x = torch.max_pool2d(self.relu(self.norm(self.first(x))), 2)
        x = x + self.relu(self.second(x))
        return self.out(self.drop(x.mean((2, 3))))


def make(*, width=4):
    return Net(width)


def loaded(*, width=4):
    return LoadedModel(Net(width).eval(), value_range=(0.0, 1.0), classes=("a", "b", "c"))


def scripted():
    return torch.jit.script(Net())


def number():
    return 3


def broken(*, width=4):
    raise RuntimeError("no such luck")


def halved(image):
    return torch.full((3, 8, 8), 0.5)


def images(*, count=3):
    items = torch.rand(count, 3, 8, 8)
    return Data(items, labels=torch.arange(count) % 3, modality="image", value_range=(0.0, 1.0))


NOT_A_FUNCTION = 7
'''

OWN = "own_models"
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")


@pytest.fixture
def mine(tmp_path, monkeypatch, seed):
    """A module of the user's own that can be imported in this test alone; gives its file."""
    (tmp_path / f"{OWN}.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, OWN, raising=False)
    yield tmp_path / f"{OWN}.py"
    sys.modules.pop(OWN, None)


@pytest.fixture
def net(mine, seed):
    """A network of the user's, with random weights."""
    return python(factory=f"{OWN}:make", seed=seed % 1000).module


@pytest.fixture
def programs(net, tmp_path):
    """The network saved as TorchScript and with torch.export: name -> path."""
    paths = {"script": tmp_path / "net.pt", "trace": tmp_path / "traced.pt", "export": tmp_path / "net.pt2"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(net).save(paths["script"])
        torch.jit.trace(net, torch.rand(2, 3, 8, 8)).save(paths["trace"])
        any_batch = ({0: torch.export.Dim.AUTO},)
        torch.export.save(
            torch.export.export(net, (torch.rand(2, 3, 8, 8),), dynamic_shapes=any_batch), paths["export"]
        )
    return {name: str(path) for name, path in paths.items()}


def refusal(call, **options):
    with pytest.raises(UserError) as caught:
        call(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def made(**options):
    return python(**{"factory": f"{OWN}:make", **options})


# What the factory gives.


def test_a_model_comes_from_a_factory_with_its_options_ready_to_be_explained(mine):
    module = made(options={"width": 6}).module
    assert module.first.out_channels == 6
    assert not any(part.training or getattr(part, "inplace", False) for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_what_the_factory_draws_depends_on_the_seed_alone(mine, seed):
    inputs, before = torch.rand(2, 3, 8, 8), torch.get_rng_state()
    first, again, other = (made(seed=number).module(inputs) for number in (seed, seed, seed + 1))
    assert torch.equal(first, again) and not torch.equal(first, other) and torch.equal(before, torch.get_rng_state())


def test_a_loaded_model_keeps_what_it_says_unless_told_otherwise(mine, tmp_path):
    own = python(factory=f"{OWN}:loaded")
    assert own.classes == ("a", "b", "c") and own.value_range == (0.0, 1.0) and own.preprocess is None
    (tmp_path / "names.txt").write_text("ant\nbee\n\ncat\n")
    told = python(factory=f"{OWN}:loaded", classes=str(tmp_path / "names.txt"), preprocess="plain", size=8)
    assert told.classes == ("ant", "bee", "", "cat")  # an output without a name keeps its place
    assert told.preprocess(Image.new("RGB", (9, 9), "white")).shape == (3, 8, 8)


@pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
def test_weights_of_a_file_give_the_outputs_they_were_saved_with(mine, net, tmp_path, seed, file):
    if file.endswith(".pt"):
        torch.save(net.state_dict(), tmp_path / file)
    else:
        pytest.importorskip("safetensors.torch").save_file(net.state_dict(), tmp_path / file)
    inputs = torch.rand(2, 3, 8, 8)
    again = made(weights=str(tmp_path / file), seed=seed + 1).module
    assert torch.equal(again(inputs), net(inputs)) and not torch.equal(made(seed=seed + 1).module(inputs), net(inputs))


# What is no model.


def test_a_factory_that_is_none_is_one_line(mine):
    assert "needs model.factory=" in refusal(python)
    assert "cannot import 'nowhere:make'" in refusal(python, factory="nowhere:make")
    assert "cannot import" in refusal(made, factory=f"{OWN}:mak")
    assert "is a int, expected a function" in refusal(made, factory=f"{OWN}:NOT_A_FUNCTION")
    assert "number: model is a int, expected a torch.nn.Module" in refusal(made, factory=f"{OWN}:number")
    said = refusal(made, factory=f"{OWN}:broken", options={"width": 2})
    assert "RuntimeError: no such luck" in said and "{'width': 2}" in said
    assert "unexpected keyword argument 'depth'" in refusal(made, options={"depth": 3})
    assert "expected a mapping" in refusal(made, options=3)


def test_weights_that_do_not_fit_name_their_keys(mine, net, tmp_path):
    state = net.state_dict()
    state["second.wait"] = state.pop("second.weight")
    torch.save(state, tmp_path / "weights.pt")
    said = refusal(made, weights=str(tmp_path / "weights.pt"))
    assert f"do not fit {OWN}:make" in said and "second.wait" in said and "second.weight" in said
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    assert "size mismatch for first.weight" in refusal(made, weights=str(tmp_path / "weights.pt"), options={"width": 5})
    assert "is not a file, expected weights=FILE" in refusal(made, weights=str(tmp_path / "nothing.pt"))


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_file_that_holds_a_pickled_module_or_runs_code_is_refused_unread(mine, net, tmp_path):
    for number, content in enumerate((net, {"first.weight": Bomb(tmp_path / "went off")})):
        torch.save(content, tmp_path / f"{number}.pt")
        said = refusal(made, weights=str(tmp_path / f"{number}.pt"))
        assert "holds pickled objects" in said and "torch.save(model.state_dict(), file)" in said
    assert not (tmp_path / "went off").exists()


def test_files_of_another_kind_are_told_apart(mine, programs, tmp_path):
    assert "TorchScript, which model=exported takes" in refusal(made, weights=programs["script"])
    (tmp_path / "text.pt").write_text("not weights at all")
    (tmp_path / "text.safetensors").write_text("not weights at all")
    for name in ("text.pt", "text.safetensors"):
        said = refusal(made, weights=str(tmp_path / name))
        assert "cannot be read" in said and "pickled objects" not in said
    with pytest.raises(UserError, match=r"which is not installed: pip install 'harness\[nothing\]'"):
        needed("no_such_library", "model=nothing", "harness[nothing]")


# Preprocessing.


def test_a_preset_resizes_cuts_out_the_middle_and_scales(mine):
    image = Image.new("RGB", (300, 200), "black")
    image.paste((255, 255, 255), (140, 90, 160, 110))
    whole = made(preprocess="imagenet")
    inputs = whole.preprocess(image)
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert inputs.shape == (3, 224, 224)
    torch.testing.assert_close(inputs[:, :1, :1], (0 - mean) / deviation)
    torch.testing.assert_close(inputs[:, 112:113, 112:113], (1 - mean) / deviation)
    for bound, value in zip(whole.value_range, (0.0, 1.0), strict=True):
        torch.testing.assert_close(bound, (value - mean) / deviation)


def test_size_mean_and_deviation_can_be_ones_own_and_one_of_each_is_grey(mine):
    image = Image.new("RGB", (40, 60), (255, 0, 0))
    colour = made(preprocess="plain", size=10, mean=[0.5, 0.25, 0.0], std=0.5).preprocess(image)
    torch.testing.assert_close(colour, torch.tensor([1.0, -0.5, 0.0]).view(3, 1, 1).expand(3, 10, 10))
    grey = made(preprocess="plain", size=10, mean=[0.5], std=[0.5])
    assert grey.preprocess(image).shape == (1, 10, 10) and grey.value_range[1].tolist() == [[[1.0]]]


def test_a_function_of_ones_own_prepares_the_items(mine):
    assert torch.equal(made(preprocess=f"{OWN}:halved").preprocess(None), torch.full((3, 8, 8), 0.5))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preprocess": "imagenett"}, "did you mean 'imagenet'"),
        ({"size": 8}, "size came without preprocess"),
        ({"preprocess": "plain", "size": 0}, "size of python is 0, expected a whole number from 1"),
        ({"preprocess": "plain", "mean": [0.5, 0.5]}, "mean is [0.5, 0.5], expected a number, a list of three"),
        ({"preprocess": "plain", "std": [1.0, 0.0, 1.0]}, "std of python is [1.0, 0.0, 1.0], expected"),
        ({"preprocess": f"{OWN}:halved", "size": 3}, "came with size"),
        ({"preprocess": "nowhere:f"}, "cannot import"),
        ({"preprocess": f"{OWN}:NOT_A_FUNCTION"}, "is not a function"),
        ({"classes": "nowhere.txt"}, "is not a file"),
    ],
)
def test_a_mistake_in_the_preprocessing_is_one_line(mine, options, words):
    assert words in refusal(made, **options)


# What a cell is identified by.


def plan(model, explainer="gradient"):
    return Plan.of({"model": model, "dataset": f"{OWN}:images", "explainer": explainer, "metric": "srg"})


def subject(model):
    """The fingerprint of the model's code and files, as another process would find it."""
    sys.modules.pop(OWN, None)
    block = plan(model)
    return block.subject_code(block.explainers[0])


def test_the_options_of_the_factory_are_part_of_a_cells_identity(mine):
    model = {"name": "python", "factory": f"{OWN}:make"}
    cells = {plan({**model, "options": options}).cells[0].id for options in (None, {"width": 4}, {"width": 5})}
    assert len(cells) == 3


def test_a_change_in_the_users_own_file_makes_cells_stale_and_a_comment_does_not(mine, tmp_path):
    (tmp_path / "own_items.py").write_text("def halved(image):\n    return image\n")
    model = {"name": "python", "factory": f"{OWN}:make", "preprocess": "own_items:halved"}
    before = subject(model)
    mine.write_text(MINE + "\n# a remark\n")
    assert subject(model) == before
    mine.write_text(MINE.replace("x + self.relu", "x - self.relu"))
    changed = subject(model)
    assert changed != before
    (tmp_path / "own_items.py").write_text("def halved(image):\n    return image / 2\n")
    sys.modules.pop("own_items")
    assert subject(model) not in (before, changed)
    sys.modules.pop("own_items")


def test_files_that_options_name_count_with_their_content(mine, tmp_path):
    weights = tmp_path / "weights.pt"
    for model in (
        {"name": "python", "factory": f"{OWN}:make", "weights": str(weights)},
        {"name": "python", "factory": f"{OWN}:make", "options": {"checkpoint": str(weights)}},
        {"name": "exported", "path": str(weights)},
    ):
        weights.write_bytes(b"one")
        before = subject(model)
        assert subject(model) == before
        weights.write_bytes(b"two")
        assert subject(model) != before


def test_a_model_of_ones_own_is_chosen_on_the_command_line(mine, tmp_path, capsys, monkeypatch):
    from harness.cli.main import main

    monkeypatch.chdir(tmp_path)
    chosen = ["model=python", f"model.factory={OWN}:make", "dataset=digits"]
    small = ["explainer=gradient", "metric=complexity", "runtime.lease=share", "protocol.samples=2"]
    assert main(["plan", "-m", *chosen, *small, "+model.options.width=5,6"]) == 0
    told = capsys.readouterr().out
    assert all(f"{OWN}:make(options={{'width': {width}}}) on digits" in told for width in (5, 6))
    assert main(["plan", *chosen, *small, "+model.factori=x"]) == 2
    assert "did you mean 'factory'" in capsys.readouterr().err


# Programs.


@pytest.mark.parametrize("kind", ["script", "trace", "export"])
def test_a_program_gives_the_outputs_of_the_model_for_any_batch(net, programs, kind):
    module, inputs = exported(trust=True, path=programs[kind]).module, torch.rand(7, 3, 8, 8)
    for count in (1, 2, 7):
        torch.testing.assert_close(module(inputs[:count]), net(inputs[:count]))
    assert not any(part.training for part in module.eval().modules()) and not module.train().training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    torch.testing.assert_close(copy.deepcopy(module)(inputs), net(inputs))


@pytest.mark.parametrize("kind", ["script", "export"])
def test_every_explainer_gives_the_map_of_the_model_itself_or_does_not_apply(net, programs, kind, seed):
    module = exported(trust=True, path=programs[kind]).module
    inputs, targets = torch.rand(2, 3, 8, 8), torch.tensor([0, 2])
    applied = set()
    for name, entry in EXPLAINERS.items():
        if entry.source != "harness":
            continue
        given = {"inputs": inputs, "targets": targets, "seed": seed % 1000, **small(entry, samples=130)}
        explain = partial(harness.explain, name, **given)
        try:
            found = explain(model=module)
        except NotApplicable:
            continue
        torch.testing.assert_close(found, explain(model=net), rtol=1e-3, atol=1e-5, msg=f"{{}} of {name}".format)
        applied.add(name)
    assert applied >= {"gradient", "integrated_gradients", "smoothgrad", "occlusion", "rise", "kernel_shap", "lime"}
    operations = {"lrp", "deep_lift", "guided_backprop", "deconvnet"}
    assert applied & operations == (operations if kind == "export" else set())
    assert not applied & {"grad_cam", "score_cam", "tcav", "guided_grad_cam"}  # layers of a program cannot be watched


@pytest.mark.parametrize("kind", ["script", "export"])
def test_a_whole_run_on_a_program_fails_nowhere(mine, programs, kind, tmp_path):
    metrics = "srg", "parameter_randomization", "relative_representation_stability", "forward_passes", "complexity"
    folder = harness.run(
        {
            "model": {"name": "exported", "trust": True, "path": programs[kind]},
            "dataset": f"{OWN}:images",
            "explainer": ["gradient", "occlusion", "grad_cam", "lrp", "random"],
            "metric": list(metrics),
            "runtime": {"runs": str(tmp_path), "quiet": True, "lease": "share", "sheet": 0, "chunk": None},
        }
    )
    rows = [json.loads(line) for file in (folder / "cells").glob("*.jsonl") for line in file.read_text().splitlines()]
    status = {(row["explainer"], row["metric"]): row["status"] for row in rows}
    assert len(status) == 25 and "failed" not in status.values()
    assert {status[each, "srg"] for each in ("gradient", "occlusion", "random")} == {"ok"}
    assert {metric for (each, metric), said in status.items() if each == "gradient" and said == "ok"} >= {
        "srg",
        "parameter_randomization",
        "forward_passes",
        "complexity",
    }
    assert {said for (each, _), said in status.items() if each == "grad_cam"} == {"not_applicable"}


def test_a_factory_may_give_a_script(mine):
    module = python(factory=f"{OWN}:scripted").module
    inputs, targets = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    assert harness.explain("gradient", module, inputs, targets).abs().sum() > 0
    with pytest.raises(NotApplicable, match="scripted"):
        harness.explain("lrp", module, inputs, targets)


def test_a_program_for_one_size_of_batch_is_told_how_to_export(net, tmp_path):
    torch.export.save(torch.export.export(net, (torch.rand(2, 3, 8, 8),)), tmp_path / "fixed.pt2")
    said = refusal(exported, trust=True, path=str(tmp_path / "fixed.pt2"))
    assert "exported for batches of 2" in said and "torch.export.Dim.AUTO" in said


def test_a_program_of_two_inputs_is_one_line(tmp_path, seed):
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    pair = (torch.rand(2, 3), torch.rand(2, 3))
    axes = ({0: torch.export.Dim.AUTO}, {0: torch.export.Dim.AUTO})
    torch.export.save(torch.export.export(Two(), pair, dynamic_shapes=axes), tmp_path / "two.pt2")
    assert "takes 2 inputs" in refusal(exported, trust=True, path=str(tmp_path / "two.pt2"))


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm2d(3)], ids=["dropout", "batch_norm"])
def test_a_program_saved_in_training_mode_is_refused(layer, tmp_path, seed):
    net = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(2)).train()
    inputs = torch.rand(2, 3, 4, 4)
    net(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, inputs, check_trace=False).save(tmp_path / "net.pt")
        program = torch.export.export(net, (inputs,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, tmp_path / "net.pt2")
    for name in ("net.pt", "net.pt2"):
        assert "was saved in training mode" in refusal(exported, trust=True, path=str(tmp_path / name))


def test_what_is_no_program_is_one_line(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text(textwrap.dedent("not a program"))
    for name in ("weights.pt", "text.pt"):
        said = refusal(exported, trust=True, path=str(tmp_path / name))
        assert "expected a program saved with torch.jit.save" in said
    assert "is not a file, expected path=FILE" in refusal(exported)


@pytest.mark.parametrize("kind", ["script", "trace", "export"])
@pytest.mark.parametrize("trust", [False, None])
def test_a_program_is_refused_unread_unless_it_is_trusted(programs, monkeypatch, kind, trust):
    for load in (torch.jit, torch.export):
        monkeypatch.setattr(load, "load", lambda *_, **__: pytest.fail("the program was read"))
    said = refusal(exported, path=programs[kind], **({} if trust is None else {"trust": trust}))
    assert "is a program" in said and "model.trust=true" in said


def test_a_program_whose_sizes_follow_its_inputs_is_read(tmp_path, seed):
    class Halved(nn.Module):
        def forward(self, x):
            return nn.functional.interpolate(x, scale_factor=0.5).mean((2, 3)) * x.shape[2]

    dynamic = torch.export.Dim.AUTO
    program = torch.export.export(Halved(), (torch.rand(2, 3, 8, 9),), dynamic_shapes=({0: dynamic, 2: dynamic},))
    torch.export.save(program, tmp_path / "sizes.pt2")
    inputs = torch.rand(3, 3, 12, 9)
    assert torch.equal(exported(trust=True, path=str(tmp_path / "sizes.pt2")).module(inputs), Halved()(inputs))


def test_weights_by_number_are_one_line(mine, tmp_path):
    torch.save({0: torch.rand(2)}, tmp_path / "numbers.pt")
    assert "other things than tensors by name" in refusal(
        python, factory=f"{OWN}:make", weights=str(tmp_path / "numbers.pt")
    )


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("ran",)
