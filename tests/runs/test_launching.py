"""Jobs that a launcher starts in other processes: each by itself, with the results of a run in one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from harness.cli.main import main
from harness.launching import processes
from harness.launching.processes import processes_at_once
from harness.launching.settings import LAUNCHERS, Here, Processes, Slurm, launcher_of
from harness.launching.slurm import sbatch_options, states_of
from harness.results.frames import read

HERE = Path(__file__).parent
BLOCK = ["model=toys:net", "dataset=toys:images", "metric=[sparseness,deletion]", "metric.deletion.steps=4"]
QUIET = ["runtime.lease=share", "runtime.sheet=0", "launcher=processes"]


def started(folder, *words):
    """``harness run`` of toys in another process."""
    command = [sys.executable, "-m", "harness", "run", *BLOCK, *QUIET, f"runtime.runs={folder}", *words]
    paths = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=-1, stderr=-1, text=True)


def values_of(run):
    """Every score of a run as its exact number."""
    _, scores = read(run)
    return {(row.cell, row.explainer, row.metric, row.sample): row.value.hex() for row in scores.itertuples()}


def test_a_killed_job_takes_no_other_along_and_the_same_command_measures_what_it_lacks(tmp_path):
    deadly = ["explainer=hostile:killer_of_supervisors", f"explainer.killer_of_supervisors.mark={tmp_path / 'mark'}"]
    words = ["-m", *deadly, "model.seed=0,1", "run=night"]
    first = started(tmp_path, *words, "launcher.at_once=1")
    table, told = first.communicate(timeout=300)
    assert first.returncode == 1, told
    assert (
        "1/2  toys:net(seed=0) on toys:images model.seed=0: killed by signal 9 (SIGKILL)" in told
        and "4 lacking" in told
    )
    assert "2/2  toys:net(seed=1) on toys:images model.seed=1: has ended" in told and "Traceback" not in told
    assert table.rstrip().endswith("2 jobs: 4 ok, 4 lacking; the same command measures what is lacking")
    again = started(tmp_path, *words, "launcher.at_once=2")
    table, told = again.communicate(timeout=300)
    assert again.returncode == 0 and table.rstrip().endswith("2 jobs: 8 ok"), told
    assert "1 of 2 jobs have nothing to measure, and are not started" in told
    here = started(tmp_path, *words[:-1], "run=here", "launcher=here")
    here.communicate(timeout=300)
    assert values_of(tmp_path / "night") == values_of(tmp_path / "here") != {}


def test_shards_are_jobs_and_one_that_fails_fails_the_command(tmp_path):
    words = ["explainer=[saliency,toys:fragile]", "runtime.shards=2", "protocol.explain_batch=4", "run=shards"]
    process = started(tmp_path, *words)
    table, told = process.communicate(timeout=300)
    assert process.returncode == 1
    assert table.rstrip().endswith("2 jobs: 4 ok, 2 failed") and "runtime.shard=1: has ended" in told


def test_jobs_end_with_the_command_that_has_started_them(tmp_path):
    process = started(tmp_path, "explainer=hostile:hoarder", "run=night")  # it takes ten minutes
    while not list(tmp_path.glob("night/working/*.jsonl")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "the same command resumes" in told
    (log,) = tmp_path.glob("night/jobs/*/1.log")
    assert "interrupted; finished cells are on disk" in log.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("launcher=slum", "unknown launcher 'slum': did you mean 'slurm'?"),
        ("launcher=slurm launcher.partiton=gpu", "did you mean 'launcher.partition'"),
        ("launcher.at_once=3", "expected launcher=processes launcher.at_once=3 or launcher=slurm launcher.at_once=3"),
        ("launcher=slurm launcher.gpus=-1", "launcher.gpus is -1, expected a whole number from 0"),
        ("launcher=slurm +launcher.more.array=1", "launcher.more has 'array', expected long names of options"),
        ("launcher=slurm +launcher.more.partition=1", "launcher.more has 'partition', expected long names"),
        ("-m hydra/launcher=submitit_slurm", "hydra/launcher=submitit_slurm came, expected launcher=slurm"),
        ("-m hydra/launcher=joblib", "expected launcher=processes"),
        ("-m launcher=processes,slurm", "have different settings of launcher, expected the same for all"),
        ("launcher=slurm", "launcher=slurm needs the commands of Slurm, and there is no sbatch"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_anything_is_started(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(processes, "launch", lambda *given: None)
    monkeypatch.setenv("PATH", str(tmp_path))  # no Slurm here
    assert main(["run", *words.split(), *BLOCK, "explainer=saliency", f"runtime.runs={tmp_path}"]) == 2
    told_by_harness = [line for line in capsys.readouterr().err.splitlines() if line.startswith("harness: ")]
    assert len(told_by_harness) == 1 and told in told_by_harness[0]
    assert not list(tmp_path.glob("*/cells"))


def test_other_verbs_and_cells_do_not_see_the_launcher(tmp_path, capsys):
    words = [*BLOCK, "explainer=saliency", f"runtime.runs={tmp_path}"]
    assert main(["plan", *words]) == main(["plan", *words, "launcher=slurm", "launcher.partition=gpu"]) == 0
    first, second = capsys.readouterr().out.split("toys:net on toys:images")[1:]
    assert first == second


def test_each_launcher_has_its_settings_in_a_file_with_the_same_defaults():
    folder = HERE.parents[1] / "conf" / "launcher"
    assert {path.stem for path in folder.glob("*.yaml")} == set(LAUNCHERS)
    for name, settings in LAUNCHERS.items():
        section = OmegaConf.to_container(OmegaConf.load(folder / f"{name}.yaml"))
        assert section.keys() == {"name", *settings.__dataclass_fields__}
        assert launcher_of(section) == settings()
    assert launcher_of(None) == Here()


def test_what_sbatch_is_asked_for():
    from submitit.slurm.slurm import _make_sbatch_string

    settings = Slurm(hours=0.5, gpus=2, memory=1.5, partition="long", more={"nodelist": "n1"}, setup=["module load x"])
    text = _make_sbatch_string("run", "folder", map_count=3, **sbatch_options(settings))
    asked = {line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")}
    expected = {"time=30", "gpus-per-node=2", "cpus-per-task=8", "mem=1536MB", "partition=long", "nodelist=n1"}
    assert expected | {"array=0-2%3", "job-name=harness", "signal=USR2@90"} <= asked
    assert "module load x" in text
    assert not any(name.startswith("gpus") for name in sbatch_options(Slurm(gpus=0)))


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("echo '7_0|RUNNING|n1'; echo '7_1|PENDING|'", {"7_0": ("RUNNING", "n1"), "7_1": ("PENDING", "")}),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", {}),  # ended, and forgotten
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", None),
        ("true", {}),
    ],
)
def test_what_slurm_says_of_its_jobs(answer, found, tmp_path, monkeypatch):
    program = tmp_path / "squeue"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert states_of("7") == found


def test_how_many_processes_measure_at_once(monkeypatch):
    at_once = lambda most, jobs: processes_at_once(Processes(most), jobs)
    monkeypatch.setattr(processes, "_cores", lambda: 8)
    assert [at_once(None, 9), at_once(None, 2), at_once(5, 9), at_once(20, 9)] == [4, 2, 5, 9]
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 3)
    assert at_once(None, 9) == 3
