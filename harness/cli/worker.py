"""A worker of a supervised run: gets jobs from its supervisor, one after the other, and measures them."""

import contextlib
import ctypes
import faulthandler
import json
import os
import pickle
import signal
import sys
import traceback
from typing import Any

from harness.errors import UserError
from harness.garbage import collected_later
from harness.interrupts import noting_signals
from harness.jobs.channel import Channel, FarConsole, FarFile, Watched
from harness.jobs.worker_process import DUMP_SIGNAL, TOKEN

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def work() -> None:
    """Measure jobs until one has been measured or the supervisor has no more."""
    owner, messages, stacks, _ = json.loads(sys.argv[1])
    _end_with(owner)
    faulthandler.enable(stacks)
    faulthandler.register(DUMP_SIGNAL, stacks)
    jobs, nothing = os.fdopen(os.dup(0), "rb"), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for descriptor in (messages, stacks):  # a program that an item starts gets neither
        os.set_inheritable(descriptor, False)
    channel = Channel(messages, os.environ[TOKEN])
    with collected_later():
        import harness.jobs.runner  # noqa: F401 - while the supervisor composes the configuration

    while True:
        try:
            job = pickle.load(jobs)
        except EOFError:
            return
        watched = Watched(channel, owner, job["tried"], job["stopped"])
        with noting_signals((signal.SIGTERM,)):
            done = _measured_job(job, watched)
        if done is None:
            return
        channel.send(done=done, measured=watched.measured)
        if watched.measured:
            return


def _measured_job(job: dict[str, Any], watched: Watched) -> int | None:
    """Measure a job; its exit status, or None if something else was told."""
    from harness.cli.choose import choose_settings
    from harness.cli.estimate_process import estimate_settings
    from harness.cli.run import measure_settings
    from harness.engine.item_guard import Spoilt

    output, errors = job["terminals"]
    results, console = FarFile(watched.channel, output), FarConsole(watched.channel, errors)
    try:
        if job["work"] == "choose":
            return choose_settings(job["settings"], watched, console, results)
        if job["work"] == "estimate":
            return estimate_settings(job["settings"], job["in_sweep"], watched, console)
        return measure_settings(job["settings"], job["in_sweep"], watched, console, results, of_all=job["of_all"])
    except Spoilt as spoilt:
        watched.channel.send(renew=str(spoilt))
    except UserError as error:
        watched.channel.send(refused=str(error), mistake=error.status == UserError.status)
    except KeyboardInterrupt:  # the supervisor is ending
        pass
    except BaseException:
        watched.channel.send(trace=traceback.format_exc())
        return 1
    return None


def _end_with(owner: int) -> None:
    """Let the system end this process when its supervisor ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != owner:
        os._exit(1)
