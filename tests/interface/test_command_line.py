"""The command line as its user meets it: what it prints, its exit status, and one line for a mistake."""

import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from harness import conf
from harness.cli import groups, hydra_config
from harness.cli.groups import names_in_reach
from harness.cli.main import main
from harness.cli.override_text import own_folders
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS

SMALL = [
    "model=digits_cnn",
    "dataset=digits",
    "protocol.samples=6",
    "runtime.chunk=32",
    "runtime.lease=share",
    "runtime.sheet=0",
    "runtime.control=false",
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Runs land in the test's own folder."""
    monkeypatch.chdir(tmp_path)


def harness(*arguments):
    return main(list(arguments))


def run(*arguments):
    return harness("run", *SMALL, *arguments)


def test_a_run_prints_its_progress_its_table_and_where_the_rows_are(capsys):
    assert run("explainer=[saliency,random]", "metric=[sparseness,seconds_per_sample]") == 0
    printed = capsys.readouterr()
    assert "1/2  saliency" in printed.err and "2/2  random" in printed.err
    for part in ("saliency", "random (control)", "sparseness ↑", "seconds_per_sample ↓", "#1", "runs/main"):
        assert part in printed.out


def test_quiet_says_nothing_but_the_table(capsys):
    assert run("explainer=saliency", "metric=sparseness", "--quiet") == 0
    printed = capsys.readouterr()
    assert printed.err == "" and "sparseness" in printed.out


def test_the_same_command_again_has_nothing_to_do(capsys):
    for _ in range(2):
        run("explainer=saliency", "metric=sparseness")
    assert "all 1 cells are done" in capsys.readouterr().err


def test_plan_tells_cells_by_state(capsys):
    run("explainer=saliency", "metric=sparseness")
    capsys.readouterr()
    assert harness("plan", *SMALL, "explainer=[saliency,gradient]", "metric=[sparseness,complexity]") == 0
    assert "4 cells in runs/main: 3 new, 1 done" in capsys.readouterr().out
    sweep = ("--multirun", "protocol.seed=0,1", "runtime.threads=1,2")  # threads make no other cells
    assert harness("plan", *SMALL, *sweep, "explainer=saliency", "metric=[sparseness,complexity]") == 0
    assert "all 4 jobs of the sweep: 4 cells: 3 new, 1 done" in capsys.readouterr().out


def test_options_from_the_command_line_reach_the_cell(capsys):
    assert run("explainer=integrated_gradients", "explainer.integrated_gradients.steps=4", "metric=forward_passes") == 0
    (row,) = (json.loads(line) for path in Path("runs/main/cells").iterdir() for line in path.open())
    assert row["value"] == 4 and row["config"]["explainer"] == {
        "name": "integrated_gradients",
        "steps": 4,
        "baseline": "zero",
        "method": "gausslegendre",
    }


def test_the_same_explainer_twice_with_other_options(capsys):
    few, many = (
        "+explainer.ig4={name:integrated_gradients,steps:4}",
        "+explainer.ig8={name:integrated_gradients,steps:8}",
    )
    assert run("explainer=saliency", few, many, "metric=forward_passes") == 0
    printed = capsys.readouterr().out
    assert "ig4" in printed and "ig8" in printed


def test_a_sweep_does_every_combination_and_goes_on_where_model_and_data_do_not_fit(capsys):
    sweep = ["model=digits_cnn,cancer_mlp", "dataset=digits,breast_cancer", "explainer=saliency", "metric=sparseness"]
    assert harness("run", *SMALL[2:], *sweep, "-m") == 0
    printed = capsys.readouterr()
    assert "digits_cnn on digits" in printed.out and "cancer_mlp on breast_cancer" in printed.out
    cells = pd.DataFrame(
        [json.loads(line) for path in Path("runs/main/cells").iterdir() for line in path.open()]
    ).set_index(["model", "dataset"])
    assert cells["status"].to_dict() == {
        ("digits_cnn", "digits"): "ok",
        ("digits_cnn", "breast_cancer"): "not_applicable",
        ("cancer_mlp", "digits"): "not_applicable",
        ("cancer_mlp", "breast_cancer"): "ok",
    }


def test_table_prints_and_writes_csv_and_parquet_of_cells_and_samples(capsys):
    run("explainer=[saliency,random]", "metric=[sparseness,complexity]")
    assert harness("table") == 0 and "sparseness" in capsys.readouterr().out
    assert harness("table", "main", "--csv", "cells.csv", "--parquet", "cells.parquet") == 0
    assert harness("table", "latest", "--samples", "--csv", "samples.csv") == 0
    assert len(pd.read_csv("cells.csv")) == len(pd.read_parquet("cells.parquet")) == 4
    assert len(pd.read_csv("samples.csv")) == 24


@pytest.mark.parametrize("kind", ["explainers", "metrics", "models", "datasets"])
def test_list_names_everything_with_options_and_what_it_is(kind, capsys):
    from harness import registry

    assert harness("list", kind) == 0
    printed = capsys.readouterr().out
    for name, entry in getattr(registry, kind.upper()).items():
        assert f"\n{name}\n    {entry.summary}" in "\n" + printed
        assert all(f"{option}=" in printed for option in entry.options)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_that_it_can_be_resumed(number, status, capsys, monkeypatch):
    monkeypatch.setattr("harness.jobs.runner.load_stage", lambda *arguments: os.kill(os.getpid(), number))
    assert run("explainer=saliency", "metric=sparseness") == status
    assert capsys.readouterr().err.endswith("finished cells are on disk, the same command resumes\n")


@pytest.mark.parametrize(("ending", "status"), [(None, 0), (3, 3), ("the data is not there", 2)])
def test_a_module_that_ends_the_process_is_heard(ending, status, monkeypatch, capsys):
    monkeypatch.setattr("harness.cli.plan.execute", lambda chosen: sys.exit(ending))
    assert main(["plan", *SMALL]) == status
    assert (capsys.readouterr().err == f"harness: {ending}\n") == isinstance(ending, str)


EACH_VERB = """
import json, os, sys
from harness.cli import main

for verb in json.loads(sys.argv[1]):
    assert main(verb) == 0, verb
    print("END")
    sys.path[:] = [path for path in sys.path if path != os.getcwd()]  # as a new process begins
    sys.modules.pop("mine", None)
"""


def test_an_explainer_of_ones_own_is_named_by_its_import(tmp_path):
    (tmp_path / "mine.py").write_text(
        'def bright(model, inputs, targets, *, power=1.0):\n    """Brightness."""\n    return inputs**power\n'
    )
    own = ["explainer=saliency", '+explainer.mine={name: "mine:bright", power: 3.0}']
    verbs = [["plan", *SMALL, "metric=sparseness"], ["check", *SMALL], ["run", *SMALL, "metric=sparseness"]]
    command = [sys.executable, "-P", "-c", EACH_VERB, json.dumps([[*verb, *own] for verb in verbs])]
    elsewhere = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}  # the working directory is not on the path
    done = subprocess.run(command, env=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *printed, _ = done.stdout.split("END\n")
    assert len(printed) == 3 and all("mine" in each for each in printed)


def test_flags_stand_before_or_behind_what_they_belong_to(capsys):
    assert run("explainer=[saliency,random]", "metric=sparseness", "--quiet") == 0
    for arguments in (["main", "--csv", "a.csv"], ["--csv", "a.csv", "main"], ["--csv=a.csv", "main"]):
        Path("a.csv").unlink(missing_ok=True)
        assert harness("table", *arguments) == 0 and len(pd.read_csv("a.csv")) == 2
    for arguments in (["-m", *SMALL, "protocol.seed=0,1"], [*SMALL, "-m", "protocol.seed=0,1"]):
        capsys.readouterr()
        assert harness("plan", *arguments) == 0
        assert capsys.readouterr().out.count("digits_cnn on digits: ") == 2


def test_overrides_reach_hydra_as_they_are(capsys):
    odd = '+explainer.odd={name: rise, samples: -3, note: "-m --quiet"}'
    arguments = [*SMALL, odd, "~metric.srg", "protocol.target=-1", "--cfg", "job"]
    assert harness("run", *arguments) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["explainer"]["odd"] == {"name": "rise", "samples": -3, "note": "-m --quiet"}
    assert shown["protocol"]["target"] == -1 and "srg" not in shown["metric"] and "deletion" in shown["metric"]
    assert shown["metric"]["deletion"]["baseline"] == METRICS["deletion"].options["baseline"]  # no reference to it


def test_the_hint_after_a_run_finds_it_again(capsys):
    assert run("explainer=[saliency,random]", "metric=sparseness", "--quiet", "runtime.runs=else where") == 0
    hint = capsys.readouterr().out.splitlines()[-1].partition("harness table ")[2]
    assert harness("table", *shlex.split(hint)) == 0 and "sparseness" in capsys.readouterr().out


def test_a_sweep_over_an_options_values_keeps_its_blocks_apart(capsys):
    assert run("-m", "model.seed=0,1", "explainer=saliency", "metric=sparseness") == 0
    assert "digits_cnn(seed=1) on digits" in capsys.readouterr().out


def test_a_failed_cell_is_exit_status_one(capsys, monkeypatch):
    from harness.registry import METRICS

    def explode(batch):
        """Fails."""
        raise RuntimeError("boom")

    monkeypatch.setitem(METRICS._entries, "sparseness", METRICS.entry("sparseness", explode, {}))
    assert run("explainer=saliency", "metric=sparseness") == 1
    assert "RuntimeError: boom" in capsys.readouterr().err


MISTAKES = {
    "a verb": (["rum"], "unknown verb 'rum': did you mean 'run'?"),
    "a model": (["run", "model=lite1"], "unknown model 'lite1': did you mean 'lite0'", "names: harness list models"),
    "an explainer": (
        ["run", "explainer=saliencyy"],
        "unknown explainer 'saliencyy': did you mean 'saliency'",
        "names: harness list explainers",
    ),
    "a metric in a list": (
        ["run", "metric=[srg,deletions]"],
        "unknown metric 'deletions': did you mean 'deletion' or",
        "names: harness list metrics",
    ),
    "an option": (
        ["run", "explainer=rise", "explainer.rise.smaples=3"],
        "unknown setting 'explainer.rise.smaples': did you mean 'explainer.rise.samples'",
        "explainer.rise.cells",
    ),
    "no override": (["run", "digits"], "'digits' is no override, expected GROUP=NAME", "harness run --help"),
    "an option of the model": (
        ["run", "model=digits_cnn", "model.sede=3"],
        "unknown setting 'model.sede': did you mean 'model.seed'",
    ),
    "an option of a metric with many": (
        ["run", "metric=quantus.AvgSensitivity", "metric.quantus.AvgSensitivity.nr_smaples=3"],
        "did you mean 'metric.quantus.AvgSensitivity.nr_samples'",
        "names: harness list metrics quantus.AvgSensitivity",
    ),
    "a new option": (
        ["run", "explainer=rise", "+explainer.rise.smaples=3"],
        "unknown option of rise 'smaples'",
        "samples",
    ),
    "a protocol setting": (
        ["run", "protocol.seeds=3"],
        "unknown setting 'protocol.seeds'",
        "did you mean 'protocol.seed'",
    ),
    "no metric": (["run", "metric=null"], "metric=null came, expected metric=NAME (harness list metrics)"),
    "none of a library's": (
        ["run", "metric=quantus.IROF", "metric.quantus=null"],
        "the configuration names no metric, expected metric=NAME",
    ),
    "an experiment": (
        ["run", "experiment=digit"],
        "unknown experiment 'digit': did you mean 'digits'",
        "names: harness list experiments",
    ),
    "a sweep without jobs": (
        ["run", "-m", "experiment=glob(atlas/*)"],
        "this sweep has no jobs",
        "harness list shows the names",
    ),
    "a group": (["run", "explainers=rise"], "unknown section 'explainers': did you mean explainer=rise?"),
    "an option's kind": (
        ["run", *SMALL, "explainer=rise", "explainer.rise.samples=many"],
        "'many'",
        "expected a whole number",
    ),
    "a score": (
        ["run", *SMALL, "metric=deletion", "protocol.target=lable"],
        "'lable'",
        "predicted, label, given, or a whole number",
    ),
    "a class": (["run", *SMALL, "protocol.target=12"], "class 12, expected 0 to 9"),
    "a device": (["run", *SMALL, "runtime.device=tpu7"], "runtime.device is 'tpu7'"),
    "a run's name": (["run", *SMALL, "run=../x"], "run is '../x'"),
    "a run to show": (["table", "nowhere"], "no run 'nowhere'"),
    "a kind to list": (["list", "explainer"], "unknown kind 'explainer': did you mean 'explainers'"),
    "no kind to list": (["list"], "harness list came without a kind, expected one of explainers, metrics, models"),
    "a name to list": (["list", "metrics", "deletoin"], "unknown metric 'deletoin': did you mean 'deletion'"),
    "an experiment to list": (["list", "experiments", "nigthly"], "did you mean 'nightly'", "harness list experiments"),
    "a flag": (["table", "--sampels"], "unknown flag of harness table '--sampels': did you mean '--samples'"),
    "a flag with a value": (
        ["compare", "a", "b", "--failon=worse"],
        "unknown flag of harness compare '--failon': did you mean '--fail-on'",
        "available: --all, --csv",
    ),
    "a flag of a verb that Hydra reads": (
        ["run", "--quite"],
        "unknown flag of harness run '--quite': did you mean '--quiet'",
    ),
    "a flag of Hydra": (["plan", "--multrun"], "did you mean '--multirun'", "names: harness plan --help"),
    "a choice of a flag": (["run", "--cfg", "jobs"], "unknown --cfg 'jobs': did you mean 'job'"),
    "a flag without its value": (["table", "--csv"], "--csv came without a value, expected --csv FILE"),
    "a number": (["table", "--by", "label", "--least", "few"], "argument --least: invalid int value: 'few'"),
    "two tables": (["table", "--samples", "--by", "label"], "not allowed with argument --samples"),
    "one run too many": (
        ["table", "a", "b"],
        "harness: 'b' is one argument too many; harness table --help explains it",
    ),
    "a missing run": (
        ["compare"],
        "harness: the following arguments are required: BASE; harness compare --help explains it",
    ),
    "a verdict": (
        ["trend", "a", "b", "--fail-on", "wrse"],
        "unknown verdict of --fail-on 'wrse': did you mean 'worse'",
    ),
    "a folder": (["run", "dataset=image_folder", "dataset.path=nowhere"], "nowhere"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line_that_names_the_choices(mistake, capsys):
    arguments, *expected = MISTAKES[mistake]
    assert harness(*arguments) == 2
    printed = capsys.readouterr().err
    line = [line for line in printed.splitlines() if line.startswith("harness: ")]
    assert len(line) == 1 and "Traceback" not in printed
    for part in expected:
        assert part in line[0]


@pytest.mark.parametrize("batch", [[], ["hydra.sweeper.max_batch_size=1"]], ids=["", "in batches"])
@pytest.mark.parametrize(
    ("swept", "told"),
    [
        ("explainer=glob(nothing*)", "this sweep has no jobs"),
        ("protocol.seed=range(3,3)", "this sweep has no jobs"),
        ("explainer.saliency.nothing=1,2", "nothing"),
        ("hydra.sweeper.max_batch_size=0", "max_batch_size is 0, expected 1 or more"),
    ],
)
def test_a_sweep_that_is_refused_says_so_in_one_line_and_writes_nothing(swept, told, batch, capsys):
    assert run("-m", "explainer=saliency", "metric=sparseness", *batch, swept) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and told in err and not list(Path().iterdir())


def test_list_explainers_says_in_a_line_what_each_one_declares(capsys):
    assert harness("list", "explainers", "deep_lift_shap", "random") == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert (
        "local; needs of the model: gradient; inputs: image, table, tokens, series, volume, other; signed; "
        "sums to f(x) - mean f(r); draws random numbers; passes per sample (F forward, B backward): samples x (2 F 1 B)"
        in lines
    )
    assert any(line.startswith("local; needs of the model: nothing;") for line in lines)


def test_a_metric_over_choices_and_gaps_between_groups_are_tables_of_their_own(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = [
        "run",
        "model=digits_cnn",
        "dataset=digits",
        "explainer=[input_x_gradient,random]",
        "metric=srg",
        "metric.srg.steps=4",
        "metric.srg.over={baseline:[zero,mean],score:[logit]}",
        "protocol.samples=12",
        "run=choices",
        "--quiet",
    ]
    assert main(run) == 0
    capsys.readouterr()
    assert main(["table", "choices", "--choices", "--csv", "choices.csv"]) == 0
    found = pd.read_csv("choices.csv")
    assert found["settings"].tolist() == [2, 2] and found["metric"].tolist() == ["srg", "srg"]
    assert found.set_index("explainer")["above_controls"].isna().to_dict() == {
        "input_x_gradient": False,
        "random": True,
    }
    assert main(["table", "choices", "--by", "target", "--least", "1"]) == 0
    shown = capsys.readouterr().out
    assert "gap_low" in shown and "srg[baseline=mean,score=logit]" in shown
    assert main(["table", "choices", "--by", "target", "--choices"]) == 2
    assert "not allowed with" in capsys.readouterr().err
    assert main(["table", "choices", "--by", "sex"]) == 2
    assert "available: correct, label, prediction, target" in capsys.readouterr().err


def test_verdicts_under_two_protocols_stand_apart(capsys):
    for samples in (6, 4):
        run("explainer=[saliency,random]", "metric=deletion", "--quiet", f"protocol.samples={samples}")
    assert harness("table", "--choices", "--csv", "choices.csv") == 0
    found = pd.read_csv("choices.csv")
    assert found["settings"].tolist() == [1] * 4 and found["protocol"].nunique() == 2


def test_a_table_about_scores_that_a_run_lacks_says_so(capsys):
    assert run("explainer=saliency", "metric=relevance_mass", "--quiet") == 0
    capsys.readouterr()
    assert harness("table", "--choices") == 0
    assert capsys.readouterr().out == "no rows: the run has no scores for this table\n"


def test_a_registered_name_is_one_metric_and_options_reach_it_in_its_family_too(capsys):
    assert harness("plan", *SMALL, "explainer=gradient", "metric=sanity", "metric.sanity.weight_seeds=3") == 0
    assert "1 cells in" in capsys.readouterr().out
    assert harness("plan", *SMALL, "explainer=gradient", "metric=sanity_checks", "metric.sanity.weight_seeds=3") == 0
    assert "21 cells in" in capsys.readouterr().out


def test_no_family_hides_a_registered_name():
    groups = {"explainer": EXPLAINERS, "metric": METRICS, "model": MODELS, "dataset": DATASETS}
    for group, registry in groups.items():
        files = {path.stem for root in conf.__path__ for path in Path(root, group).glob("*.yaml")}
        assert not files & set(registry), group


def test_composing_once_gives_what_hydra_composes_and_leaves_it_as_it_was(monkeypatch, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nhydra: {mode: MULTIRUN}\n")
    small = ["model=digits_cnn", "dataset=digits", "metric=srg", "run=x"]
    before = Plugins.instantiate_sweeper, Hydra.get_mode
    for words, jobs in (
        (["explainer=saliency"], 1),
        (["-m", "explainer=saliency", "protocol.seed=1,0,1"], 3),
        (["-m", "explainer=saliency,rise", "protocol.seed=0,1", "hydra.sweeper.max_batch_size=1"], 4),
        (["--config-dir", str(tmp_path), "experiment=mine", "explainer=saliency", "protocol.seed=0,1"], 2),
    ):
        once, plain = [], []
        assert hydra_config.for_each_job([*words, *small], once.append) == 0
        with monkeypatch.context() as changes:
            changes.setattr(hydra_config, "_composing_once", lambda mode_is_typed: nullcontext())
            assert hydra_config.for_each_job([*words, *small], plain.append) == 0
        assert once == plain and len(once) == jobs
        assert (Plugins.instantiate_sweeper, Hydra.get_mode) == before
        assert "__deepcopy__" not in vars(ConfigStore)


def test_a_file_that_makes_a_command_a_sweep_is_known_without_composing_it():
    for word, may in (("experiment=tradeoff", True), ("hydra.mode=MULTIRUN", True), ("experiment=digits", False)):
        assert hydra_config._files_may_sweep([word], names_in_reach([word])) == may
    assert hydra_config._files_may_sweep([], None)  # files that are not known may say anything


def test_names_in_folders_of_the_users_own_are_found_and_of_too_many_files_none(tmp_path, monkeypatch):
    """Only what is in reach is offered to Hydra: an experiment of the user's own, its group, and what that names."""
    far = tmp_path / "far"
    for name, text in {
        "experiment/mine": "# @package _global_\ndefaults: [{override /explainer: several}, {override /metric: sum}]\n",
        "metric/sum": "defaults: [srg]\n",
        "explainer/unused": "defaults: [not_named]\n",
    }.items():
        (tmp_path / f"{name}.yaml").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    far.mkdir()
    (far / "several.yaml").write_text("defaults: [lime]\n")
    (tmp_path / "explainer").mkdir(exist_ok=True)
    (tmp_path / "explainer" / "linked").symlink_to(far)  # Hydra follows links
    words = [f"--config-dir={tmp_path}", "experiment=mine", "model=digits_cnn", "dataset=digits"]
    assert own_folders(words) == own_folders(["-cd", str(tmp_path)]) == [str(tmp_path)]
    for more in ("--info", "-cn=other", "hydra.searchpath=[x]", "metric=glob(s*)"):
        assert own_folders([*words, more]) is None
    assert names_in_reach([*words, "explainer=${oc.env:NAME}"], [str(tmp_path)]) is None
    reached = names_in_reach(words, [str(tmp_path)])
    assert {"lime", "srg"} <= reached and "not_named" not in reached
    (tmp_path / "explainer" / "mine.yaml").write_text("defaults: ['${oc.env:NAME}']\n")
    assert names_in_reach(words, [str(tmp_path)]) is None
    (tmp_path / "explainer" / "mine.yaml").unlink()
    monkeypatch.setattr(groups, "MOST_FILES", 3)
    assert names_in_reach(words, [str(tmp_path)]) is None
