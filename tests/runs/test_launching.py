"""Jobs that a launcher starts in other processes: each by itself, with the results of a run in one process."""

import ast
import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from harness.cli.launch import LaunchContext
from harness.cli.main import main
from harness.cli.slurm_request import request_lines
from harness.errors import UserError
from harness.jobs.job_estimate import JobEstimate
from harness.jobs.lease import lease
from harness.launching import processes, slurm
from harness.launching.jobs import JobCommand, end_in_words, end_processes
from harness.launching.processes import processes_at_once, share_a_device
from harness.launching.settings import LAUNCHERS, Here, Processes, Slurm, launcher_of
from harness.launching.slurm import sbatch_options, sbatch_words, states_of
from harness.results.frames import read, read_cells
from launch_faults import FAULTS, shows

HERE = Path(__file__).parent
BLOCK = ["model=toys:net", "dataset=toys:images", "metric=[sparseness,deletion]", "metric.deletion.steps=4"]
QUIET = ["runtime.lease=share", "runtime.sheet=0", "runtime.threads=1", "launcher=processes"]


def started(folder, *words):
    """``harness run`` of toys in another process, from a folder that hides a module."""
    (folder / "pandas.py").write_text("raise SystemExit('the working folder hides a module')")
    command = [sys.executable, "-P", "-m", "harness", "run", *BLOCK, *QUIET, f"runtime.runs={folder}", *words]
    paths = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    # Its temporary files, and so its leases, are where this process has them.
    environment = {**os.environ, "PYTHONPATH": paths, "TMPDIR": tempfile.gettempdir()}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=-1, stderr=-1, text=True)


@pytest.fixture
def commanded(tmp_path, monkeypatch, capsys):
    """``commanded(*words)``: exit status, table and messages of ``harness run`` of toys in this process.

    Its jobs are processes, but measure without one more each: what a launcher sees of them is the same.
    """
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())  # for the leases of the jobs
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])  # as ``python -P`` has it

    def command(*words):
        status = main(["run", *BLOCK, *QUIET, "runtime.supervise=false", f"runtime.runs={tmp_path}", *words])
        return status, *capsys.readouterr()

    return command


def values_of(run):
    """Every score of a run as its exact number."""
    _, scores = read(run)
    return {(row.cell, row.explainer, row.metric, row.sample): row.value.hex() for row in scores.itertuples()}


@shows("killed")
def test_a_killed_job_takes_no_other_along_and_the_same_command_measures_what_it_lacks(tmp_path, commanded):
    mark = f"explainer.killer_of_supervisors.mark={tmp_path / 'mark'}"
    deadly = ["explainer=hostile:killer_of_supervisors", mark, "explainer.killer_of_supervisors.generation=0"]
    words = ["-m", *deadly, "model.seed=0,1", "run=night"]
    status, table, told = commanded(*words, "launcher.at_once=1")
    assert status == 1, told
    assert (
        "1/2  toys:net(seed=0) on toys:images model.seed=0: killed by signal 9 (SIGKILL)" in told
        and "4 missing" in told
    )
    assert "2/2  toys:net(seed=1) on toys:images model.seed=1: has ended" in told and "Traceback" not in told
    assert table.rstrip().endswith("2 jobs: 4 ok, 4 missing; the same command measures what is missing")
    status, table, told = commanded(*words, "launcher.at_once=2")
    assert status == 0 and table.rstrip().endswith("2 jobs: 8 ok"), told
    assert "1 of 2 jobs have nothing to measure, and are not started" in told
    assert commanded(*words[:-1], "run=here", "launcher=here")[0] == 0
    assert values_of(tmp_path / "night") == values_of(tmp_path / "here") != {}


@shows("failing")
def test_shards_are_jobs_and_one_that_fails_fails_the_command(tmp_path, commanded):
    words = ["explainer=[saliency,toys:fragile]", "runtime.shards=2", "protocol.explain_batch=4", "run=shards"]
    status, table, told = commanded(*words, "runtime.supervise=true")  # as it is by default
    assert status == 1
    assert table.rstrip().endswith("2 jobs: 4 ok, 2 failed") and "runtime.shard=1: has ended" in told
    facts = [json.loads(path.read_text()) for path in tmp_path.glob("shards/environment/*.json")]
    cells = read_cells(tmp_path / "shards")
    assert cells.loc[cells["status"] == "failed", "error"].str.contains("MENDED").all()  # the reason
    assert {each["threads"] for each in facts} == {1}  # as runtime.threads says, for any launcher


@shows("ended", "hiding")
def test_jobs_end_in_good_order_with_the_command(tmp_path, commanded):
    slow = ["explainer=[saliency,hostile:sleeper]", f"explainer.sleeper.mark={tmp_path / 'mark'}"]
    words = ["-m", *slow, "model.seed=0,1", "run=night"]
    process = started(tmp_path, *words, "launcher.at_once=2")
    end = time.monotonic() + 300
    while not (tmp_path / "mark.made").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    process.terminate()
    _, told = process.communicate(timeout=300)
    assert process.returncode == 143 and told.rstrip().splitlines()[-1].startswith("harness: interrupted"), told
    logs = [path.read_text() for path in tmp_path.glob("night/jobs/*/*.log")]
    assert any("harness: interrupted; finished cells are on disk" in log for log in logs), logs
    assert not any("Traceback" in log for log in logs)
    status, table, told = commanded(*words, "launcher.at_once=2")
    assert status == 0 and table.rstrip().endswith("2 jobs: 12 ok"), told


@shows("shards")
def test_what_is_wrong_with_a_shard_is_told_once(commanded):
    status, table, told = commanded("explainer=saliency", "runtime.shards=40", "launcher.at_once=1", "--quiet")
    assert status == 2 and table.rstrip() == "40 jobs: 4 missing; correct what was refused"
    assert told.count("expected at most 1: there are 8 samples") == told.count("was refused after") == 1


def test_jobs_that_share_a_device_are_not_started_again_for_costs(commanded):
    words = ["-m", "explainer=saliency", "~metric.deletion", "+metric.seconds_per_sample={}", "model.seed=0,1"]
    hint = (
        "4 untimed; costs have no time where jobs shared a device: launcher=here, or a device for each job, times them"
    )
    with lease(torch.device("cpu"), "share", print):  # as if the two jobs never ran alone
        for more in ("2 jobs, 2 at a time", "2 of 2 jobs have nothing to measure, and are not started"):
            status, table, told = commanded(*words, "launcher.at_once=2")
            assert status == 0 and more in told
            assert table.rstrip().endswith(hint)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Puts programs of one line of shell each before all others."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()

    def put(**lines):
        for name, line in lines.items():
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
            (tmp_path / "bin" / name).chmod(0o755)

    return put


@pytest.fixture
def jobs_of(tmp_path, monkeypatch):
    """The jobs that a command would start, as lists of words."""

    def jobs(*words):
        given = []
        monkeypatch.setattr(processes, "launch", lambda jobs, *others: given.extend(jobs))
        assert main(["run", *BLOCK, *QUIET, f"runtime.runs={tmp_path}", *words]) == 1  # all is missing
        return given

    return jobs


def context_of(job):
    """What a job is told of the command that starts it."""
    return LaunchContext.of(job.arguments[job.arguments.index("--launched") + 1])


def test_a_job_is_the_command_that_its_part_of_the_sweep_would_be(jobs_of):
    seeds = jobs_of("-m", "explainer=saliency", "protocol.seed=5", "protocol.seed=0,1")
    assert [job.plan.protocol.seed for job in seeds] == [0, 1]
    assert [[word for word in job.arguments if "seed" in word][-1] for job in seeds] == [
        "protocol.seed=0",
        "protocol.seed=1",
    ]
    one = jobs_of("explainer=saliency", 'dataset.label="a\\:b"')
    assert [word for word in one[0].arguments if word.startswith("dataset.label")] == ['dataset.label="a\\:b"']
    assert context_of(one[0]) == LaunchContext(False, {}) and context_of(seeds[0]) == LaunchContext(True, {})
    assert context_of(jobs_of("-m", "explainer=saliency", "model.seed=0,1")[0]) == LaunchContext(
        True, {"model": ["seed"]}
    )


def test_what_hydra_reads_reaches_the_jobs(jobs_of, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nprotocol: {seed: 7}\n")
    (job,) = jobs_of("explainer=saliency", f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine")
    assert job.plan.protocol.seed == 7 and f"hydra.searchpath=[file://{tmp_path}]" in job.arguments


@shows("same_label")
def test_models_of_different_jobs_have_labels_that_tell_them_apart(jobs_of, tmp_path, capsys, monkeypatch):
    (tmp_path / "experiment").mkdir()
    for seed in (0, 1):
        text = f"# @package _global_\nmodel: {{seed: {seed}}}\n"
        (tmp_path / "experiment" / f"e{seed}.yaml").write_text(text)
    first, second = jobs_of("--config-dir", str(tmp_path), "-m", "explainer=saliency", "experiment=e0,e1")
    assert [first.plan.model.label, second.plan.model.label] == ["toys:net", "toys:net(seed=1)"]
    assert context_of(first).labels == {} and context_of(second).labels == {"model": "toys:net(seed=1)"}
    monkeypatch.setattr(processes, "launch", lambda *given: pytest.fail("a job was started"))
    command = ["run", *BLOCK, *QUIET, f"runtime.runs={tmp_path}", "-m", "explainer=saliency"]
    assert main([*command, "model.label=m", "model.seed=0,1"]) == 2
    assert "model.label is 'm', which is another model in this run" in capsys.readouterr().err


def test_a_job_measures_under_the_label_that_it_is_given(tmp_path):
    about = json.dumps({"in_sweep": True, "swept": {}, "labels": {"model": "toys:net(seed=1)"}})
    words = [*BLOCK, *QUIET[:-1], "explainer=saliency", "model.seed=1", f"runtime.runs={tmp_path}", "run=night"]
    assert main(["run", "--launched", about, *words]) == 0
    assert set(read_cells(tmp_path / "night")["model"]) == {"toys:net(seed=1)"}


def test_finished_rows_have_their_new_label_before_jobs_run_side_by_side(tmp_path, monkeypatch, programs, capsys):
    words = [*BLOCK, *QUIET[:-1], f"runtime.runs={tmp_path}"]
    models = lambda: list(read_cells(tmp_path / "main")["model"].unique())
    assert main(["run", *words, "explainer=saliency", "--quiet"]) == 0 and models() == ["toys:net"]
    (tmp_path / "main" / "scores").rename(tmp_path / "lost")  # a row whose scores are lost keeps its label too
    began = []

    def launch(jobs, launcher, reports):
        reports.ready()
        began.extend([len(jobs), *models()])

    monkeypatch.setattr(processes, "launch", launch)
    launched = ["run", *words, "launcher=processes", "--quiet", "-m"]
    assert main([*launched, "model.label=mine", "explainer=saliency,input_x_gradient"]) == 1
    assert began == [2, "mine"]
    assert main([*launched, "explainer=saliency,input_x_gradient"]) == 1 and began[2:] == [2, "mine"]
    (tmp_path / "lost").rename(tmp_path / "main" / "scores")
    array = tmp_path / "main" / "jobs" / "20260101-000000.000000" / "array"
    array.parent.mkdir(parents=True)
    array.write_text("7")
    programs(squeue="echo '7_0|RUNNING|n1'")  # which may write rows at any moment
    for launcher in ("processes", "here"):
        command = [*launched, f"launcher={launcher}", "model.label=ours", "explainer=saliency"]
        assert main(command) == 2 and "Slurm has jobs of this run already" in capsys.readouterr().err
    programs(squeue="true")
    assert main([*launched, "model.label=ours", "explainer=saliency"]) == 0 and len(began) == 4 and models() == ["ours"]
    shards = ["runtime.shards=2", "protocol.explain_batch=4", "launcher=here", "--quiet"]
    assert main(["run", *words, *shards, "model.label=cut", "explainer=saliency"]) == 0 and models() == ["cut"]


@shows("precision")
def test_a_precision_is_reached_by_one_job_for_each_block(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(processes, "launch", lambda *given: pytest.fail("a job was started"))
    command = ["run", *BLOCK, *QUIET, f"runtime.runs={tmp_path}", "protocol.precision=0.1", "-m"]
    assert main([*command, "explainer=saliency,input_x_gradient"]) == 2
    assert "several jobs measure toys:net on toys:images, expected one job for each block" in capsys.readouterr().err


def test_a_sweep_over_explainers_measures_the_control_once(jobs_of):
    named, chosen = jobs_of("-m", "explainer=saliency,random")  # a later job chooses the control itself
    assert [each.label for each in named.plan.explainers] == ["saliency"]
    first, second = jobs_of("-m", "explainer=saliency,input_x_gradient")
    assert [each.label for each in first.plan.explainers] == ["saliency", "random"]
    assert [each.label for each in second.plan.explainers] == ["input_x_gradient"]
    assert "++runtime.control=false" in second.arguments and "++runtime.control=false" not in first.arguments


def test_who_decides_the_number_of_threads_of_a_job(jobs_of, monkeypatch):
    threads = lambda job: job.command(3).environment["OMP_NUM_THREADS"]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (chosen,), (free,) = jobs_of("explainer=saliency"), jobs_of("explainer=saliency", "runtime.threads=null")
    assert (threads(chosen), threads(free)) == ("1", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert (threads(chosen), threads(free)) == ("1", "2")


@pytest.mark.parametrize(
    "text",
    [
        *("foo", "3", "{}", '{"in_sweep": 1, "swept": {}}', '{"in_sweep": true, "swept": [1]}'),
        '{"in_sweep": true, "swept": {"model": "seed"}}',
        '{"in_sweep": true, "swept": {}, "labels": {"modle": "m"}}',
    ],
)
def test_what_no_launcher_hands_over_is_refused(text, capsys):
    assert main(["run", "--launched", text]) == 2
    assert "--launched came with" in capsys.readouterr().err


@shows("hiding")
def test_what_a_node_imports_to_run_a_command_is_no_library():
    code = "import sys, harness.launching.slurm, harness.launching.ray_tasks; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True, env=environment)
    libraries = {"torch", "numpy", "pandas", "hydra", "omegaconf", "rich", "captum", "pyarrow"}
    assert not libraries & set(done.stdout.decode().split())


def test_each_fault_of_the_page_has_a_test():
    files = [Path(__file__), HERE.parent / "cluster" / "test_launchers.py"]
    shown = [
        ast.literal_eval(f"({found},)")
        for file in files
        for found in re.findall(r"^@shows\((.*)\)$", file.read_text(), re.M)
    ]
    assert {name for names in shown for name in names} == set(FAULTS)


def test_how_a_job_has_ended_is_said_for_every_status():
    assert [end_in_words(code) for code in (0, 1, 2, 137)] == ["", "", "was refused", "ended with status 137"]
    assert [end_in_words(-9), end_in_words(-35)] == ["killed by signal 9 (SIGKILL)", "killed by signal 35"]


@shows("deaf")
def test_a_job_that_does_not_end_when_it_is_asked_is_killed():
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=-1)
    process.stdout.readline()
    end_processes([process], patience=0.2)
    assert process.returncode == -signal.SIGKILL


def test_what_is_no_number_of_an_array_is_none(tmp_path):
    """A run may come from somebody else: a pipe is not waited for, and a link not followed."""
    folders = [tmp_path / "jobs" / str(number) for number in range(6)]
    for folder in folders:
        folder.mkdir(parents=True)
    os.mkfifo(folders[0] / "array")
    (folders[1] / "array").mkdir()
    (folders[2] / "array").write_bytes(b"\xff\xfe")
    (folders[3] / "array").write_text("7" * 1000)
    (folders[4] / "array").write_text("12\n")
    (folders[5] / "array").symlink_to(folders[4] / "array")
    assert slurm._last_array(tmp_path) == "12"
    (folders[4] / "array").write_text("harness-20260101-000000.000000 --user=all")
    assert slurm._last_array(tmp_path) == ""
    (folders[4] / "array").write_text("harness-20260101-000000.000000")
    assert slurm._last_array(tmp_path) == "harness-20260101-000000.000000"
    slurm.check_no_jobs_in_slurm([tmp_path])  # there is no squeue, or it knows no such array


@shows("silent_slurm")
def test_a_run_that_slurm_still_has_is_not_started_again(tmp_path, jobs_of, programs, capsys, monkeypatch):
    programs(sbatch="true", srun="true", scontrol="true")
    array = tmp_path / "b" / "jobs" / "20260101-000000.000000" / "array"
    array.parent.mkdir(parents=True)
    array.write_text("7")
    command = ["run", *BLOCK, "explainer=saliency", f"runtime.runs={tmp_path}", "launcher=slurm", "-m", "run=a,b"]
    for line, told in (
        ("echo '7_0|PENDING|'", "Slurm has jobs of this run already, number 7"),
        ("exit 1", "squeue does not tell whether Slurm still has array 7 of this run"),
    ):
        programs(squeue=line)
        assert main(command) == 2 and told in capsys.readouterr().err
        assert not list(tmp_path.glob("a/jobs")) + list(tmp_path.glob("b/config/*.json"))  # what watch reads
    programs(squeue="echo '7_0|RUNNING|n1'")
    for launcher in ("processes", "ray"):  # whose jobs would measure the same cells
        other = [f"launcher={launcher}" if word == "launcher=slurm" else word for word in command]
        assert main(other) == 2 and "Slurm has jobs of this run already" in capsys.readouterr().err
        assert not list(tmp_path.glob("a/jobs")) + list(tmp_path.glob("b/config/*.json"))
    here = [word for word in command if not word.startswith(("launcher", "run="))]
    assert main([*here, "run=b", "protocol.seed=0,1", "protocol.samples=-1"]) == 2
    assert capsys.readouterr().err.count("Slurm has jobs of this run, number 7: cells that neither") == 1
    launches = lambda: sorted(path for run in "ab" for path in (tmp_path / run / "jobs").glob("*"))
    programs(squeue="echo '7_0|COMPLETED|'")
    assert main(command) == 2  # this sbatch says nothing
    assert "Slurm refused the jobs" in capsys.readouterr().err and launches() == [array.parent]
    programs(squeue="true", sbatch="echo Submitted batch job 9")  # whose jobs have ended, and measured nothing
    assert main(command) == 1 and "Slurm has 2 jobs, number 9" in capsys.readouterr().err
    assert [path.name for path in launches()][0] == launches()[-1].name and len(launches()) == 3
    assert {path.read_text() for path in tmp_path.glob("*/jobs/*/array")} == {"7", "9"}
    assert all((path / "array").exists() for path in launches())
    known = launches()
    assert main([*command[:-3], "launcher=here", "runtime.sheet=0", "--quiet", "run=a"]) == 0
    programs(sbatch="true")  # which refuses what run b lacks; the logs would be in run a, whose job is done
    assert main(command) == 2 and launches() == known


def test_rows_keep_their_labels_when_the_launch_is_refused(tmp_path, monkeypatch, capsys):
    words = ["run", *BLOCK, f"runtime.runs={tmp_path}", "--quiet"]
    assert main([*words, *QUIET[:-1], "explainer=saliency"]) == 0
    seen = []

    def refuse(jobs, launcher, reports):
        reports.ready()
        seen.append(set(read_cells(tmp_path / "main")["model"]))
        raise UserError("Slurm refused the jobs")

    monkeypatch.setattr(processes, "launch", refuse)
    named = [*words, *QUIET, "-m", "model.label=mine", "dataset.label=ours", "explainer=saliency,input_x_gradient"]
    assert main(named) == 2
    cells = read_cells(tmp_path / "main")
    assert seen == [{"mine"}] and set(cells["model"]) == {"toys:net"} and set(cells["dataset"]) == {"toys:images"}
    assert not list(tmp_path.glob("main/jobs/*"))


@shows("not_started")
def test_a_job_that_cannot_be_started_is_told_in_one_line(commanded, monkeypatch):
    def refuse(command):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(JobCommand, "start", refuse)
    status, table, told = commanded("-m", "explainer=saliency", "model.seed=0,1")
    assert status == 1 and told.count("could not be started: BlockingIOError") == 2 and "Traceback" not in told
    assert table.rstrip() == "2 jobs: 8 missing; the same command measures what is missing"


@shows("unnumbered")
@pytest.mark.parametrize("fault", ["ended", "sbatch", "disk"])
def test_jobs_that_slurm_has_are_known_although_their_number_is_not(fault, tmp_path, programs, capsys, monkeypatch):
    """sbatch has accepted them, and the command is ended before it knows; or sbatch tells an error all the same."""
    at_work = "case \"$*\" in *--name=harness-2*) echo '9_0|PENDING|';; esac"
    submit = "exit 1" if fault == "sbatch" else "echo Submitted batch job 9"
    programs(sbatch=submit, srun="true", scontrol="true", squeue=at_work)
    write = slurm._write_array

    def ended(jobs, array):
        if array.isdigit():
            raise KeyboardInterrupt if fault == "ended" else UserError("the disk is full")
        write(jobs, array)

    monkeypatch.setattr(slurm, "_write_array", ended)
    monkeypatch.setattr(slurm, "_follow", lambda *given: None)
    command = ["run", *BLOCK, "explainer=saliency", f"runtime.runs={tmp_path}", "launcher=slurm", "-m", "run=a,b"]
    assert main(command) == {"ended": 130, "sbatch": 1, "disk": 1}[fault]
    told = capsys.readouterr().err
    assert ("Slurm may have the jobs, named harness-2" in told) == (fault == "sbatch"), told
    for run in ("a,b", "b"):
        assert main([*command[:-1], f"run={run}"]) == 2
        told = capsys.readouterr().err
        assert "Slurm has jobs of this run already, named harness-2" in told and "scancel --name=harness-2" in told
    programs(squeue="true", sbatch="exit 1")
    assert main(command) == 2 and "Slurm refused the jobs" in capsys.readouterr().err


def test_what_goes_on_when_the_command_is_ended_is_said(tmp_path, monkeypatch, capsys):
    def ended(*given):
        raise KeyboardInterrupt("the jobs go on in Slurm")

    monkeypatch.setattr(processes, "launch", ended)
    assert main(["run", *BLOCK, *QUIET, "explainer=saliency", f"runtime.runs={tmp_path}"]) == 130
    assert capsys.readouterr().err.endswith("harness: interrupted; the jobs go on in Slurm\n")


@shows("mistake")
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
    monkeypatch.setattr(processes, "launch", lambda *given: pytest.fail("a job was started"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no Slurm here
    assert main(["run", *words.split(), *BLOCK, "explainer=saliency", f"runtime.runs={tmp_path}"]) == 2
    told_by_harness = [line for line in capsys.readouterr().err.splitlines() if line.startswith("harness: ")]
    assert len(told_by_harness) == 1 and told in told_by_harness[0]
    assert not list(tmp_path.iterdir())


def test_other_verbs_and_cells_do_not_see_the_launcher(tmp_path, capsys):
    words = [*BLOCK, "explainer=saliency", f"runtime.runs={tmp_path}"]
    assert main(["plan", *words]) == main(["plan", *words, "launcher=ray", "launcher.gpus=1"]) == 0
    first, second = capsys.readouterr().out.split("toys:net on toys:images")[1:]
    assert first == second
    assert main(["choose", *BLOCK, f"runtime.runs={tmp_path}", "launcher=ray"]) == 2
    assert "launcher=ray came, expected none: a choice is made in one process" in capsys.readouterr().err


def test_a_plan_tells_the_request_to_slurm_and_what_of_it_is_too_little(tmp_path, capsys):
    words = [*BLOCK, "explainer=saliency", f"runtime.runs={tmp_path}", "-m", "model.seed=0,1", "launcher=slurm"]
    assert main(["plan", *words, "runtime.shards=2", "launcher.at_once=3", "launcher.partition=gpu"]) == 0
    *_, first, second = capsys.readouterr().out.splitlines()
    assert not list(tmp_path.iterdir())  # a plan writes nothing into a run
    assert first == "launcher=slurm would submit 4 jobs as one array, 3 at a time, each with"
    words = ["--cpus-per-task=8", "--gpus-per-node=1", "--mem=32768MB", "--partition=gpu", "--requeue", "--time=720"]
    assert sorted(second.split()) == words
    estimate = JobEstimate("a block", "cpu", 1, 8, parts=[9_000.0], memory=(3.0, None))
    *_, time, memory = request_lines(Slurm(hours=0.5, requeues=2, memory=2), 1, [estimate])
    assert time == (
        "warning: the longest job takes 2.50 h here, so that it comes into the queue again 5 times, and "
        "launcher.requeues=2 is too few; launcher.hours=4 leaves it time"
    )
    assert memory == "warning: a job holds 3.0 GiB here; launcher.memory=4 is enough for it"
    assert len(list(request_lines(Slurm(), 1, [estimate]))) == 2
    fits = JobEstimate("a block", "cpu", 1, 8, parts=[3_510.0], memory=(3.0, None))
    assert len(list(request_lines(Slurm(hours=1), 1, [fits]))) == 2, "a job ends 90 seconds before its time limit"
    *_, time = request_lines(Slurm(hours=1), 1, [JobEstimate("a block", "cpu", 1, 8, parts=[3_511.0])])
    assert "comes into the queue again once; launcher.hours=2 leaves it time" in time
    *_, time = request_lines(Slurm(hours=0.01), 1, [fits])
    assert time.endswith("so that launcher.hours=0.01 leaves it none; launcher.hours=2 does")


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
    assert "module load x" in text and {word.removeprefix("--") for word in sbatch_words(settings)} <= asked
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
def test_what_slurm_says_of_its_jobs(answer, found, programs):
    programs(squeue=answer)
    assert states_of("7") == found


def test_how_many_processes_measure_at_once(jobs_of, monkeypatch):
    (job,), (alone,) = jobs_of("explainer=saliency"), jobs_of("explainer=saliency", "runtime.lease=wait")
    (on_cpu,) = jobs_of("explainer=saliency", "runtime.device=cpu")
    at_once = lambda most, jobs, job=job: processes_at_once(Processes(most), [job] * jobs)
    monkeypatch.setattr(processes, "_cores", lambda: 8)
    assert [at_once(None, 9), at_once(None, 2), at_once(5, 9), at_once(20, 9)] == [4, 2, 5, 9]
    assert share_a_device(Processes(), [job] * 2) and not share_a_device(Processes(), [job])
    assert not share_a_device(Processes(), [alone] * 2) and not share_a_device(Processes(1), [job] * 2)
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 3)
    assert at_once(None, 9) == 3 and not share_a_device(Processes(), [job] * 2)
    assert at_once(None, 9, on_cpu) == 4 and share_a_device(Processes(), [on_cpu] * 2)


PAUSED = """
import os, sys
from harness.interrupts import noting_signals, pausing_others
say = lambda text: os.write(1, text.encode() + b"\\n")
with noting_signals():
    try:
        with pausing_others(lambda: say("stopped"), lambda seconds: say("go on")):
            say("ready")
            sys.stdin.read()
    except KeyboardInterrupt:
        say("ended")
"""


def test_what_was_paused_goes_on_when_the_command_is_ended_meanwhile():
    """``kill %1`` in a shell sends SIGTERM and SIGCONT: jobs that stayed stopped could not hear that they shall end."""
    process = subprocess.Popen([sys.executable, "-c", PAUSED], stdin=-1, stdout=-1, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTSTP)
    assert process.stdout.readline() == "stopped\n"
    os.waitpid(process.pid, os.WUNTRACED)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=60)[0].splitlines() == ["go on", "ended"]
