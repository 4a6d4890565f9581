"""Jobs on a real Slurm and a real Ray: whatever ends them, the same command measures what is missing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.launching.slurm import SECONDS_BETWEEN_QUESTIONS
from harness.results.frames import read

TOYS = Path(__file__).parents[1] / "runs"
sys.path.insert(0, str(TOYS))

from launch_faults import shows  # noqa: E402

BLOCK = ["model=toys:net", "dataset=toys:images", "metric=sparseness", "runtime.lease=share", "runtime.sheet=0"]
SLURM = ["launcher=slurm", "launcher.gpus=0", "launcher.cpus=1", "launcher.memory=1", "launcher.at_once=2"]
PATIENCE = 600  # seconds, on a machine with other work


def started(folder, *words):
    """``harness run`` of toys in another process."""
    command = [sys.executable, "-m", "harness", "run", *BLOCK, f"runtime.runs={folder}", *words]
    paths = os.pathsep.join([str(TOYS.parents[1]), str(TOYS)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=-1, stderr=-1, text=True)


def ended(process):
    """Exit status, last line of the table and messages of a command that is waited for."""
    table, told = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in told, told
    return process.returncode, table.rstrip().rpartition("\n")[2], told


def values_of(run):
    """Every score of a run as its exact number."""
    _, scores = read(run)
    return {(row.cell, row.explainer, row.sample): row.value.hex() for row in scores.itertuples()}


def waited_for(condition, command=None):
    """What a condition gives when it gives something; an error if a command that is to bring it has ended."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        assert command is None or command.poll() is None, command.communicate()
        time.sleep(0.2)
    raise AssertionError("it did not come")


def states_with(slurm, state):
    """The jobs in a state."""
    return {job for job, each in slurm.states().items() if each == state}


@shows("cancelled", "drained")
def test_an_array_survives_a_cancelled_job_and_a_drained_node(slurm, tmp_path):
    words = ["-m", "explainer=saliency", "model.seed=0,1,2,3,4,5,6,7", "run=night", *SLURM]
    first = started(tmp_path, *words)
    cancelled = waited_for(lambda: [job for job, state in slurm.states().items() if state == "RUNNING"], first)[0]
    slurm.cancel(cancelled)
    waited_for(lambda: list(tmp_path.glob("night/cells/*.jsonl")), first)
    slurm.drain()  # what runs goes on, what waits has to wait
    before = states_with(slurm, "RUNNING")
    time.sleep(5)
    assert states_with(slurm, "RUNNING") <= before and states_with(slurm, "PENDING")
    slurm.resume()
    status, last, told = ended(first)
    assert status == 1 and last == "8 jobs: 14 ok, 2 missing; the same command measures what is missing"
    assert told.count("has ended") + told.count("CANCELLED in Slurm") == 8
    status, last, _ = ended(started(tmp_path, *words))
    assert (status, last) == (0, "8 jobs: 16 ok")
    ended(started(tmp_path, *words[:3], "run=here", "runtime.supervise=false"))
    assert values_of(tmp_path / "night") == values_of(tmp_path / "here") != {}


@shows("time_limit")
def test_a_job_at_its_time_limit_comes_into_the_queue_again_and_goes_on(slurm, tmp_path):
    slow = ["explainer=[saliency,hostile:sleeper]", f"explainer.sleeper.mark={tmp_path / 'mark'}"]
    command = started(tmp_path, *slow, "run=night", *SLURM, "launcher.partition=short", "launcher.hours=0.5")
    waited_for((tmp_path / "mark.made").exists, command)
    (job,) = states_with(slurm, "RUNNING")
    assert slurm.ask("squeue", "--noheader", f"--jobs={job}", "--format=%P %l").split() == ["short", "30:00"]
    slurm.time_limit(job, 1)  # only the first attempt can reach it, however slow the machine is
    waited_for(lambda: job in states_with(slurm, "PENDING"), command)
    slurm.time_limit(job, 30)
    status, last, told = ended(command)
    assert (status, last) == (0, "1 jobs: 3 ok") and told.count("begins on") == 2, told
    (log,) = tmp_path.glob("night/jobs/*/1.log")
    assert "interrupted; finished cells are on disk" in log.read_text()


@shows("left")
def test_a_command_that_is_ended_leaves_its_jobs_to_slurm(slurm, tmp_path):
    slow = ["explainer=[saliency,hostile:sleeper]", "explainer.sleeper.seconds=20"]
    words = ["-m", *slow, f"explainer.sleeper.mark={tmp_path / 'mark'}", "model.seed=0,1", "run=night", *SLURM]
    first = started(tmp_path, *words)
    waited_for((tmp_path / "mark.made").exists, first)
    first.send_signal(signal.SIGINT)
    status, _, told = ended(first)
    assert status == 130 and "the jobs go on in Slurm: harness watch shows them, scancel" in told
    status, _, told = ended(started(tmp_path, *words))
    assert status == 2 and "Slurm has jobs of this run already" in told
    waited_for(lambda: not set(slurm.states().values()) & {"RUNNING", "PENDING", "COMPLETING"})
    status, last, told = ended(started(tmp_path, *words))
    assert (status, last) == (0, "2 jobs: 6 ok") and "2 of 2 jobs have nothing to measure" in told


@shows("lost_node")
def test_a_node_that_fails_costs_what_ran_on_it(slurm, tmp_path):
    slow = ["explainer=[saliency,hostile:sleeper]", f"explainer.sleeper.mark={tmp_path / 'mark'}"]
    words = ["-m", *slow, "model.seed=0,1,2", "run=night", *SLURM, "launcher.at_once=1"]
    first = started(tmp_path, *words)
    waited_for((tmp_path / "mark.made").exists, first)
    time.sleep(2 * SECONDS_BETWEEN_QUESTIONS)  # the command has seen the job begin
    slurm.fail()
    status, last, told = ended(first)
    assert (status, last) == (0, "3 jobs: 9 ok") and told.count("begins on") == 4, told


@shows("killed", "lost", "too_large")
def test_a_cluster_of_ray_measures_and_a_killed_job_takes_no_other_along(ray_cluster, tmp_path):
    deadly = ["explainer=hostile:killer_of_supervisors", f"explainer.killer_of_supervisors.mark={tmp_path / 'mark'}"]
    words = ["-m", *deadly, "model.seed=0,1,2", "run=night"]
    ray = ["launcher=ray", f"launcher.address={ray_cluster}", "launcher.cpus=1"]
    status, last, told = ended(started(tmp_path, *words, *ray))
    assert last == "3 jobs: 4 ok, 2 missing; the same command measures what is missing", told
    assert status == 1 and told.count("killed by signal 9 (SIGKILL)") == 1 and told.count("begins on") == 3, told
    status, _, told = ended(started(tmp_path, *words, *ray, "launcher.cpus=64"))
    assert status == 2 and "launcher.cpus=64 and launcher.gpus=0 are more than any node of Ray has, expected" in told
    (tmp_path / "mark.made").unlink()  # now Ray's own process is killed, which runs the command of a job
    status, last, told = ended(started(tmp_path, *words, *ray, "explainer.killer_of_supervisors.generation=2"))
    assert (status, last) == (0, "3 jobs: 6 ok"), told
    assert told.count("lost in Ray") == 1, told
