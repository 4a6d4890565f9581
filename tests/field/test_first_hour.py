"""The first hour of somebody with a net, a folder and an idea: what is missing is told, with what to type."""

import shlex
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import harness
from harness import registry
from harness.catalogue import CATALOGUES, NOT_READ
from harness.cli.hydra_config import _sweeps_over_plain_names, for_each_job
from harness.cli.main import main
from harness.cli.sections import setting_names
from harness.engine.protocol import Protocol
from harness.errors import UserError
from harness.item_places import modules_of_items
from harness.jobs.accuracy import chance_of_as_many
from harness.jobs.runtime import Runtime
from harness.other_names import OTHER_NAMES
from harness.results.store import Store

HEAVY = ("torch", "pandas", "numpy", "captum", "sklearn", "scipy", "matplotlib", "PIL", "rich")
MINE = """
import torch
from torch import nn


class Brightness(nn.Module):
    def __init__(self, slope):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(float(slope)))

    def forward(self, images):
        bright = images.mean((1, 2, 3))
        return torch.stack([self.slope * (bright - 0.5), self.slope * (0.5 - bright)], 1)


def make(slope=9.0):
    return Brightness(slope)


def bright(model, inputs, targets, *, power=1.0):
    \"\"\"Brightness.\"\"\"
    return inputs**power


def total(batch):
    \"\"\"Sum.\"\"\"
    return batch.attributions.flatten(1).sum(1)


def of_the_model(batch):
    \"\"\"The first output.\"\"\"
    return batch.model(batch.inputs)[:, 0]


def elsewhere(model, inputs, attributions, targets):
    \"\"\"A metric in the signature of another library.\"\"\"
    return attributions.sum()
"""
NET = ["model=mine:make", "model.preprocess=plain", "model.size=8"]
PHOTOS = ["dataset=image_folder", "dataset.path=photos"]
SMALL = ["runtime.lease=share", "runtime.sheet=0", "runtime.chunk=8", "metric=sparseness"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with six photos of two classes and a module with a net, two explainers and two metrics."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(MINE)
    photos_in(tmp_path / "photos", bright=200, dark=50)
    return tmp_path


def photos_in(folder, **classes):
    for name, level in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(3):
            pixels = np.full((12, 14, 3), level + 5 * number, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def run(*arguments):
    return main(["run", *SMALL, *arguments])


def rows(run="main"):
    return list(Store(Path("runs", run)).latest().values())


def one_line(capsys):
    """The one line that tells a mistake."""
    printed = capsys.readouterr().err
    lines = [line for line in printed.splitlines() if line.startswith("harness: ")]
    assert len(lines) == 1 and "Traceback" not in printed, printed
    return lines[0]


# What a command lacks


def test_photos_without_a_preprocessing_are_a_line_that_says_what_to_type_and_leave_nothing(capsys):
    assert run("model=mine:make", *PHOTOS, "explainer=saliency") == 2
    assert "type model.preprocess=imagenet | plain | package.module:function" in one_line(capsys)
    assert not Path("runs").exists()


@pytest.mark.parametrize("lacking", ["dataset.path=nowhere", "model.weights=no.pth", "protocol.target=7"])
def test_whatever_a_command_lacks_leaves_no_row(lacking, capsys):
    assert run(*NET, *PHOTOS, "explainer=saliency", lacking) == 2
    one_line(capsys)
    assert not Path("runs").exists()


def test_data_that_the_only_model_does_not_take_is_a_mistake_and_one_of_several_is_a_row():
    wrong = ["model=cancer_mlp", "dataset=digits", "explainer=saliency"]
    assert run(*wrong) == 2 and not Path("runs").exists()
    assert run("-m", *wrong, "dataset=digits,breast_cancer", "protocol.samples=4") == 0
    assert {row["status"] for row in rows()} == {"ok", "not_applicable"}


def test_weights_as_safetensors_are_read_by_a_plain_install():
    save_file({"slope": torch.tensor(3.0)}, "net.safetensors")
    assert run(*NET, *PHOTOS, "explainer=saliency", "model.weights=net.safetensors") == 0
    needed = [each for each in requires("harness") or [] if "extra ==" not in each]
    assert (
        any(each.startswith("safetensors") for each in needed)
        or "safetensors>="
        in Path(harness.__file__)
        .parents[1]
        .joinpath("pyproject.toml")
        .read_text()
        .partition("[project.optional-dependencies]")[0]
    )


# The control, and chance


def test_random_is_in_every_run_unless_it_is_switched_off():
    assert run(*NET, *PHOTOS, "explainer=[mine:bright]") == 0
    assert {row["explainer"] for row in rows()} == {"bright", "random"}
    assert run(*NET, *PHOTOS, "explainer=saliency", "runtime.control=false", "run=alone") == 0
    assert {row["explainer"] for row in rows("alone")} == {"saliency"}
    assert run(*NET, *PHOTOS, "explainer=[random,edge]", "run=once") == 0
    assert sorted(row["explainer"] for row in rows("once")) == ["edge", "random"]


@pytest.mark.parametrize(
    ("slope", "said", "warned"), [(9.0, "right on 6 of 6 samples (100%)", False), (-9.0, "right on 0 of 6", True)]
)
def test_a_run_says_how_often_the_model_is_right_and_warns_where_that_is_chance(slope, said, warned, capsys):
    assert run(*NET, *PHOTOS, "explainer=saliency", f"+model.options.slope={slope}") == 0
    printed = capsys.readouterr().err
    assert said in printed and "chance is 50% (always answering 'bright', the most frequent label)" in printed
    assert ("not shown to be better than chance" in printed) == warned


def test_samples_of_one_class_say_nothing_about_the_model(folder, capsys):
    photos_in(folder / "dull", bright=200)
    (folder / "names.txt").write_text("bright\ndark\n")
    named = ["model.classes=names.txt", "dataset=image_folder", "dataset.path=dull"]
    assert run(*NET, *named, "explainer=saliency") == 0
    assert "warning: all samples have the label 'bright'" in capsys.readouterr().err


def test_the_chance_of_as_many_right_answers_is_the_binomial_tail():
    assert chance_of_as_many(0, 5, 0.3) == 1
    assert chance_of_as_many(5, 5, 0.5) == pytest.approx(0.5**5)
    assert chance_of_as_many(4, 5, 0.5) == pytest.approx(6 * 0.5**5)


# One's own functions


def test_ones_own_functions_are_chosen_like_any_other_and_an_explainer_that_calls_no_model_made_no_pass():
    own = ["explainer=[saliency,mine:bright]", "explainer.bright.power=3"]
    assert run(*NET, *PHOTOS, *own, "metric=[forward_passes,mine:total,mine:of_the_model]") == 0
    values = {(row["explainer"], row["metric"]): row["value"] for row in rows()}
    assert values["bright", "forward_passes"] == 0 and values["saliency", "forward_passes"] == 1
    assert values["bright", "of_the_model"] == values["saliency", "of_the_model"]
    assert {row["config"]["explainer"].get("power") for row in rows() if row["explainer"] == "bright"} == {3}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["metric=mine:elsewhere"], "takes (model, inputs, attributions, targets), expected elsewhere(batch, *,"),
        (["+metric.own={name: 'mine:elsewhere'}"], "it has batch.model, batch.inputs, batch.targets"),
        (["explainer=mine:total"], "takes (batch), expected total(model, inputs, targets, *,"),
        (["explainer=mine:nothing"], "cannot import 'mine:nothing'"),
        (["explainer=mine:bright", "explainer.bright.powr=3"], "did you mean 'explainer.bright.power'?"),
    ],
)
def test_another_signature_is_told_before_a_model_is_loaded(arguments, told, capsys, monkeypatch):
    monkeypatch.setattr("harness.jobs.runner.load_stage", lambda *_: pytest.fail("a model was loaded"))
    assert run(*NET, *PHOTOS, *arguments) == 2
    assert told in one_line(capsys)


def test_every_kind_of_function_has_its_signature_checked():
    def odd(first, second, third, fourth):
        pass

    for of_kind in (registry.EXPLAINERS, registry.METRICS, registry.MODELS, registry.DATASETS):
        with pytest.raises(UserError, match=f"{of_kind.kind} odd takes"):
            of_kind.resolve(odd)


def test_an_argument_before_the_star_is_no_option_and_that_is_said():
    def dimmed(model, inputs, targets, power=2.0):
        return inputs

    with pytest.raises(UserError, match=r"power of dimmed is no option.*dimmed\(\.\.\., \*, power=\.\.\.\)"):
        harness.evaluate(
            torch.nn.Flatten().eval(),
            torch.rand(2, 4),
            torch.tensor([0, 1]),
            explainers={"dim": {"name": dimmed, "power": 3.0}},
            metrics="sparseness",
        )


# What is typed by mistake

TYPED = {
    "samples=5": "expected protocol.samples=5",
    "--model digits_cnn": "--model digits_cnn came, expected model=digits_cnn",
    "--samples=5": "expected protocol.samples=5",
    "--device cpu": "expected runtime.device=cpu",
    "dataset=csv": "unknown dataset 'csv': did you mean 'table'?",
    "model=resnet50": "did you mean 'model=torchvision model.architecture=resnet50'?",
    "explainer=ig": "did you mean 'integrated_gradients'?",
    "data=digits": "did you mean dataset=digits?",
    "explainer=rise explainer.lime.samples=5": "lime is not chosen, expected it beside: explainer=[rise,lime]",
    "explainer=rise explainer.samples=5": "expected explainer.rise.samples=5",
    "explainer=rise explainer.rise=500": "expected the value of one option: explainer.rise.samples=500",
    "explainer=perturbations explainer.perturbations.cells=5": "expected it for each of them: explainer.rise.cells=5",
    "metric=srg metric.steps=5": "for all metrics that have it: +metric.shared.steps=5",
    "protocol=5": "expected one of its settings: protocol.samples=5",
    "explainer=rise,lime": "expected the explainers in brackets: explainer=[rise,lime]",
    "explainer=[] explainer.rise.samples=5": "rise is not chosen, expected it beside: explainer=[rise]",
    "explainer=rise +explainer.rise.samples=5": "is there already, expected explainer.rise.samples=5",
    "+model.preprocess=mine:scaled": "+model.preprocess=mine:scaled came, but model.preprocess is there already",
    "factory=mine:make": "expected model.factory=mine:make",
    "model.options.slope=3": "expected +model.options.slope=3",
    "samles=5": "did you mean 'protocol.samples'?",
    "dataset.path=2024": "option path of image_folder is 2024, expected a text, or none; on the command line in quotes",
    "--resolve": "--resolve came without --cfg, expected --cfg job --resolve",
    "-p metric.srg": "-p came without --cfg",
}


@pytest.mark.parametrize("typed", TYPED)
def test_what_is_typed_by_mistake_is_answered_by_what_to_type(typed, capsys):
    assert run(*NET, *PHOTOS, *typed.split()) == 2
    assert TYPED[typed] in one_line(capsys)
    assert not Path("runs").exists()


OF_EXPERIMENTS = {
    "experiment=digits model.sede=3": "did you mean 'model.seed'",
    "experiment=digits epochs=3": "expected model.epochs=3",
    "experiment=adult dataset.splt=test": "did you mean 'dataset.split'",
    "experiment=mosaics explainer.tcav.runs=3": "beside: explainer=[oracle,standard,tcav]",
    "experiment=digits model=adult_mlp model.path=3": "available: model.epochs, model.label, model.seed",
    "experiment=series metric=[srg] metric.irof.segments=grid:4": "beside: metric=[srg,irof]",
    "experiment=rise": "experiment=rise is the experiment of a paper: harness reproduce rise",
    "experiment=papers/rise": "experiment=papers/rise is the experiment of a paper: harness reproduce rise",
    "experiment=atlas/digitz": "did you mean 'atlas/digits'",
}


@pytest.mark.parametrize("typed", OF_EXPERIMENTS)
def test_a_mistake_beside_an_experiment_is_answered_by_what_the_experiment_chooses(typed, capsys):
    assert run(*typed.split()) == 2
    assert OF_EXPERIMENTS[typed] in one_line(capsys)
    assert not Path("runs").exists()


CHOSEN = {
    "experiment=series metric=[srg]": ("srg",),  # the experiment sets options of irof and seg_sensitivity_n
    "experiment=reviews explainer=[rise] metric=[srg]": ("srg",),  # the experiment adds feature_ablation_drop
    "experiment=nightly metric=[srg,curves]": ("deletion", "srg"),
    "experiment=atlas/digits metric=[srg] +metric.mine={name:deletion}": ("mine", "srg"),
}


@pytest.mark.parametrize("typed", CHOSEN)
def test_beside_an_experiment_what_is_chosen_is_all_that_is_measured(typed, capsys):
    """The options that an experiment sets for items of its own choice choose none of them."""
    found = []
    for_each_job(typed.split(), found.append)
    metrics, explainers = found[0]["metric"], found[0]["explainer"]
    if "curves" in typed:
        assert set(CHOSEN[typed]) < set(metrics) and "sensitivity_n" not in metrics
    else:
        assert set(metrics) == set(CHOSEN[typed])
    assert set(explainers) == {"rise"} or "explainer=" not in typed


def test_a_folder_of_experiments_is_a_sweep_over_all_of_them():
    found = []
    for_each_job(["experiment=atlas", "protocol.seed=1", "metric=[srg]"], found.append)
    named = {(each["model"]["name"], each["dataset"]["name"]) for each in found}
    assert len(found) == len(named) and len(named) >= 12
    assert all(each["model"].get("seed", 1) == 1 for each in found)


@pytest.mark.parametrize(
    "typed",
    [
        "-m protocol.seed=0,1 model=digits_cnn,xai_tris_mlp explainer=rise metric=srg",
        "experiment=digits,series -m explainer=rise metric=[srg]",
    ],
)
def test_a_sweep_over_names_is_what_its_parts_would_be(typed, monkeypatch):
    """Hydra sweeps over plain names at once; the order, too, is that of one sweep after the other."""
    at_once, parts = [], []
    for_each_job(typed.split(), at_once.append)
    monkeypatch.setattr("harness.cli.hydra_config._sweeps_over_plain_names", lambda arguments: False)
    for_each_job(typed.split(), parts.append)
    assert at_once == parts and len(parts) == 2 ** typed.count(",")


SWEPT_AT_ONCE = {
    "-m model=digits_cnn,xai_tris_mlp protocol.seed=0,1": True,
    "-m experiment=digits,atlas/logic metric=[srg]": True,
    "-m model=digits_cnn,mine.py:net": False,
    "-m explainer=[rise],[saliency]": False,
    "-m experiment=digits,null": False,
    "-m experiment=glob(*)": False,
    "-m launcher=slurm,here launcher.hours=1": False,
    "-m model=digits_cnn,lite0 model=lite0": False,
    "--config-dir own -m experiment=e1,e2": False,
}


@pytest.mark.parametrize("typed", SWEPT_AT_ONCE)
def test_hydra_itself_sweeps_over_plain_names_alone(typed):
    assert _sweeps_over_plain_names(typed.split()) is SWEPT_AT_ONCE[typed]


def test_a_sweep_over_experiments_of_ones_own_has_their_own_sweeps(tmp_path):
    (tmp_path / "experiment").mkdir()
    choices = "# @package _global_\ndefaults:\n  - override /model: digits_cnn\n  - override /dataset: digits\n"
    (tmp_path / "experiment" / "e1.yaml").write_text(
        f"{choices}hydra:\n  sweeper:\n    params:\n      protocol.seed: 0,1\n"
    )
    (tmp_path / "experiment" / "e2.yaml").write_text(f"{choices}protocol:\n  seed: 7\n")
    found = []
    for_each_job([f"--config-dir={tmp_path}", "-m", "experiment=e1,e2", "explainer=rise", "metric=srg"], found.append)
    assert [each["protocol"]["seed"] for each in found] == [0, 1, 7]


def test_a_sweep_over_launchers_keeps_their_settings():
    found = []
    words = ["-m", "launcher=slurm,processes", "launcher.at_once=1", "model=digits_cnn", "dataset=digits", "metric=srg"]
    for_each_job(words, found.append, with_launcher=True)
    assert [each["launcher"]["at_once"] for each in found] == [1, 1]


@pytest.mark.parametrize("name", ["a,b", "a=b", "a#b", "Bücher", "a [1]", "a(1)", "it's", 'the "best"', "a&b; c"])
def test_a_name_with_any_sign_is_told_as_it_is_typed_and_then_works(name, folder, capsys):
    photos_in(folder / name, bright=200, dark=50)
    arguments = [*NET, "dataset=image_folder", f"dataset.path={name}", "explainer=saliency"]
    assert run(*arguments) == 2
    told = one_line(capsys)
    told = told.partition("in quotes: ")[2] or told.partition("as one text: ")[2]
    typed = next(word.rstrip(";") for word in shlex.split(told) if word.startswith("dataset.path="))
    assert run(*[typed if each.startswith("dataset.path") else each for each in arguments]) == 0
    assert {row["dataset"] for row in rows()} == {name}


def test_every_other_name_means_something_that_is_there():
    for kind, names in OTHER_NAMES.items():
        for name, meant in names.items():
            assert name not in CATALOGUES[kind] and meant.partition(" ")[0] in CATALOGUES[kind], name


# What is given to the functions of Python in another form

IMAGES, CLASSES = torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 0])


@pytest.mark.parametrize(
    ("inputs", "targets", "more", "told"),
    [
        (pd.DataFrame({"age": [1.0, 2.0]}), [0, 1], {}, "inputs.to_numpy()"),
        (torch.utils.data.TensorDataset(IMAGES, CLASSES), None, {}, "torch.stack([x for x, _ in dataset])"),
        (IMAGES, torch.eye(2)[CLASSES], {}, "labels.argmax(1)"),
        (IMAGES, CLASSES, {"modalty": "image"}, "did you mean 'modality', a field of harness.Data?"),
        (IMAGES, CLASSES, {"task": "multiclass"}, "did you mean 'classes'?"),
        (IMAGES, CLASSES, {"task": "softmax"}, "did you mean 'probabilities'?"),
    ],
)
def test_what_is_given_in_another_form_is_refused_with_the_form_to_give(inputs, targets, more, told):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2)).eval()
    with pytest.raises(UserError) as error:
        harness.explain("gradient", net, inputs, targets, **more)
    assert told in str(error.value)


def test_an_unknown_region_is_refused_with_the_known_ones():
    segmenter = torch.nn.Conv2d(3, 2, 1).eval()
    with pytest.raises(UserError, match="unknown region 'mask': did you mean 'masks'"):
        harness.explain("gradient", segmenter, IMAGES, 1, task="segmentation", region="mask")


# Titles


def test_what_one_brings_is_called_by_what_one_names_and_a_label_renames_it_without_measuring(capsys, monkeypatch):
    arguments = [*NET, *PHOTOS, "explainer=saliency"]
    assert run(*arguments) == 0
    assert "mine:make on photos" in capsys.readouterr().out
    cells = {row["cell"] for row in rows()}
    monkeypatch.setattr("harness.jobs.runner.load_stage", lambda *_: pytest.fail("a model was loaded"))
    assert run(*arguments, "model.label=Bright net") == 0
    assert "Bright net on photos" in capsys.readouterr().out
    assert {row["cell"] for row in rows()} == cells and {row["model"] for row in rows()} == {"Bright net"}
    assert run(*arguments) == 0 and {row["model"] for row in rows()} == {"Bright net"}


def test_two_of_the_same_name_are_told_apart_by_what_differs(folder, capsys):
    photos_in(folder / "more" / "photos", bright=180, dark=60)
    assert run(*NET, *PHOTOS, "explainer=saliency") == 0
    assert run(*NET, *PHOTOS, "explainer=saliency", "dataset.path=more/photos", "model.size=6") == 0
    blocks = {(row["model"], row["dataset"]) for row in rows()}
    assert blocks == {("mine:make", "photos"), ("mine:make(size=6)", "photos(path=more/photos)")}
    assert run("-m", *NET, *PHOTOS, "explainer=saliency", "model.size=6,7", "run=sizes") == 0
    assert {row["model"] for row in rows("sizes")} == {"mine:make(size=6)", "mine:make(size=7)"}
    capsys.readouterr()
    assert run(*NET, *PHOTOS, "explainer=saliency", "model.size=7", "model.label=mine:make") == 2
    assert "model.label is 'mine:make', which is another model in this run" in one_line(capsys)


# Answers before anything heavy is imported

AT_ONCE = (
    "",
    "--help",
    "rum",
    "run --help",
    "table --help",
    "list explainers",
    "list metrics srg",
    "list models nothing",
    "list datasets",
    "list experiments",
    "run explainer=rize",
    "run model=digits_cn",
    "run explainer=rise explainer.rise.smaples=3",
    "run +explainer.mine={name:rize}",
    "run explainer=rise explainer.rise.samples=many",
    "run samples=5",
    "run --cfg job",
    "table --sampels",
    "compare a b --fail-on wrse",
)


def test_names_lists_and_helps_import_nothing_heavy():
    code = f"""
import sys
from harness.cli.main import main
for command in {AT_ONCE!r}:
    main(command.split())
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    assert not heavy, (command, heavy)
"""
    root = str(Path(harness.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}"], capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


@pytest.mark.parametrize("kind", list(CATALOGUES))
def test_the_catalogue_says_what_the_registry_says(kind):
    catalogue, entries = CATALOGUES[kind], CATALOGUES[kind].registry
    assert list(catalogue) == list(entries) and catalogue.bridged() == entries.bridged()
    for name, entry in entries.items():
        read = catalogue._read(name)
        assert read is not None, f"{name} cannot be read without importing it; declare it by plain values"
        assert list(read.options.items()) == list(entry.options.items()) and read.summary == entry.summary
        for field in set(vars(entry)) - {"function", "options", "bundles", *NOT_READ}:
            declared, found = getattr(entry, field), getattr(read, field)
            assert (found(entry.options) if callable(found) else found) == (
                declared(entry.options) if callable(declared) else declared
            ), (name, field)


@pytest.mark.parametrize("kind", list(CATALOGUES))
def test_an_item_is_where_the_text_of_its_module_says(kind):
    registry = CATALOGUES[kind].registry
    homes = {name: entry.function.__module__ for name, entry in registry.items()}
    own = {name: module for name, module in homes.items() if module.startswith(f"{registry.package}.")}
    assert modules_of_items(kind, registry.package) == own and len(own) > 20


def test_the_name_of_an_item_cannot_be_taken_even_before_it_is_imported(monkeypatch):
    def saliency(model, inputs, targets):
        """Another one."""

    monkeypatch.setattr(registry.EXPLAINERS, "_entries", {})
    with pytest.raises(UserError, match="'saliency' is already registered by harness.explainers.gradient"):
        registry.EXPLAINERS.register(saliency)


def test_an_item_is_imported_without_the_others():
    code = """
import sys
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS
assert EXPLAINERS["saliency"].name == "saliency" and "srg" in METRICS and "digits" in DATASETS
found = {name for name in sys.modules if name.startswith(("harness.explainers.", "harness.metrics."))}
assert {name for name in found if "._" not in name} == {"harness.explainers.gradient"}, found
assert MODELS["digits_cnn"].name == "digits_cnn" and len(EXPLAINERS) > 70
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_the_files_of_settings_name_every_setting():
    assert setting_names("protocol") == list(Protocol.__dataclass_fields__)
    assert setting_names("runtime") == list(Runtime.__dataclass_fields__)


def test_the_package_offers_its_functions_and_its_modules_by_name():
    for name in harness.__all__:
        assert getattr(harness, name) is not None
    assert harness.registry is registry
    with pytest.raises(AttributeError, match="has no attribute 'explian'"):
        harness.explian()
