"""A Slurm and a Ray on this machine, for the tests of launchers; tests/cluster/slurm.sh and ray.sh start and stop them.

``pytest -m cluster`` runs these tests only, ``-m "not cluster"`` all others. Where a program is missing they are
skipped.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# With the programs of this Python's environment, whether it is activated or not, and Slurm's daemons.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
KILL_SECONDS = 5  # KillWait of slurm.sh: from SIGTERM to SIGKILL
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("cluster")


def _script(name, *arguments):
    """The words that a script of this folder prints; where it fails, an error with what it says."""
    # Its errors go to a file: a daemon that kept a pipe would never let it end.
    with tempfile.TemporaryFile("w+") as errors:
        environment = {**os.environ, "PATH": PATH}
        done = subprocess.run(
            [HERE / name, *arguments], stdout=subprocess.PIPE, stderr=errors, env=environment, text=True, timeout=120
        )
        errors.seek(0)
        assert done.returncode == 0, errors.read().strip()
    return done.stdout.split()


@contextmanager
def _cluster(script):
    """The variables that clients of the cluster need in their environment, where they are while it runs."""
    folder = tempfile.mkdtemp(prefix="harness-", dir="/tmp")  # a short path, for sockets lie in it
    with pytest.MonkeyPatch.context() as environment:
        try:
            variables = dict(word.split("=", 1) for word in _script(script, "start", folder))
            for name, value in variables.items():
                environment.setenv(name, value)
            yield variables
        finally:
            _script(script, "stop", folder)
    shutil.rmtree(folder)


@dataclass(frozen=True)
class Slurm:
    """One node of two cpus, with the partitions "main" (no time limit) and "short" (an hour)."""

    conf: Path
    node: str

    @staticmethod
    def ask(*command):
        """What one of Slurm's commands prints; an error where it fails."""
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def states(self, job=None):
        """By its id, the state of each job that Slurm still knows, one per element of an array, as ``12_3``.

        It forgets a job MinJobAge (300 seconds) after its end, and an element that is cancelled while others of its
        array are pending with it at once.
        """
        lines = self.ask("squeue", "--states=all", "--array", "--noheader", "--format=%i|%T").split()
        states = dict(line.split("|") for line in lines)
        return {id: state for id, state in states.items() if job is None or id.split("_")[0] == str(job)}

    def wait(self, condition, seconds=60):
        """The states of all jobs, once condition(states) is true."""
        end = time.monotonic() + seconds
        while not condition(states := self.states()):
            assert time.monotonic() < end, f"not within {seconds} s: {states}"
            time.sleep(0.2)
        return states

    def wait_for(self, job, state, seconds=60):
        return self.wait(lambda states: states.get(str(job)) == state, seconds)

    def cancel(self, job, signal=None):
        """Ends a job or an element of an array; with signal, as "USR2", only sends it to the steps of the job."""
        self.ask("scancel", *([f"--signal={signal}"] if signal else []), str(job))

    def drain(self):
        """Jobs that run go on, and no other starts."""
        self.ask("scontrol", "update", f"nodename={self.node}", "state=drain", "reason=test")

    def fail(self):
        """The node is gone for Slurm, and what runs on it is lost."""
        self.ask("scontrol", "update", f"nodename={self.node}", "state=down", "reason=test")

    def resume(self):
        self.ask("scontrol", "update", f"nodename={self.node}", "state=resume")

    def time_limit(self, job, minutes):
        """Sets it for a job, pending or running. Slurm looks every 30 seconds: with 0, a job ends within as many.

        With 1, a job whose signal is due 60 or more seconds before its end has it within 30 seconds.
        """
        self.ask("scontrol", "update", f"jobid={job}", f"timelimit={minutes}")

    def requeue(self, job):
        """Ends a job that runs and lets it start again, five seconds later at the earliest."""
        self.ask("scontrol", "requeue", str(job))

    def clear(self):
        """No job is left pending or running, and the node takes new ones."""
        subprocess.run(["scancel", "--user", str(os.getuid())], check=True, timeout=60)
        self.wait(lambda states: ENDED.issuperset(states.values()), seconds=KILL_SECONDS + 30)
        state = self.ask("sinfo", "--noheader", "--partition=main", "--format=%T")
        if "drain" in state or "down" in state:
            self.resume()


@pytest.fixture(scope="session")
def slurm():
    programs = ("munged", "slurmctld", "slurmd", "sbatch")
    missing = [program for program in programs if shutil.which(program, path=PATH) is None]
    if missing:
        pytest.skip(f"Slurm is not installed ({', '.join(missing)}): tests/cluster/slurm.sh install")
    with _cluster("slurm.sh") as variables:
        node = Slurm.ask("sinfo", "--noheader", "--partition=main", "--format=%n").strip()
        yield Slurm(Path(variables["SLURM_CONF"]), node)


@pytest.fixture(autouse=True)
def _no_jobs_left(request):
    """After a test with Slurm none of its jobs is left, whatever became of the test."""
    yield
    if "slurm" in request.fixturenames:
        request.getfixturevalue("slurm").clear()


@pytest.fixture(scope="session")
def ray_cluster():
    """The address of a Ray of two nodes with one cpu each; clients find it in their environment as well."""
    if shutil.which("ray", path=PATH) is None:
        pytest.skip("Ray is not installed (ray): pip install ray")
    with _cluster("ray.sh") as variables:
        yield variables["RAY_ADDRESS"]
