"""Runs jobs in worker processes and outlives them: what ends a worker costs the cells it was measuring, and no other.

This process imports neither torch nor any item, so that it stays small and nothing an item does can reach it. A worker
announces each piece of work before it starts (``harness.results.announcements``). If it dies, hangs or takes too much
memory meanwhile, its supervisor writes the announced rows, with the reason, and a new worker measures the rest.
"""

import os
import signal
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any

from harness.errors import NotMeasured
from harness.interrupts import pausing_others, signals_ignored
from harness.jobs.limits import Limits
from harness.jobs.runtime import Runtime
from harness.jobs.watch import Watch
from harness.jobs.worker_process import WorkerProcess


class Supervisor:
    """Measures one job after another. A worker that had something to measure is not used for another job."""

    def __init__(self) -> None:
        self.worker: WorkerProcess | None = None
        self.fatal = defaultdict[str, list[str]](list)  # folder of a run -> cells that ended a worker in a part of it

    def start(self) -> WorkerProcess:
        """The worker; a new one gets ready while the caller does something else."""
        self.worker = self.worker or WorkerProcess()
        return self.worker

    def measure(self, settings: Mapping[str, Any], in_sweep: bool, work: str = "run", *, of_all: bool = True) -> int:
        """Do for one job what ``harness run`` does, ``harness choose`` or an estimate; its exit status.

        Without ``of_all`` further shards of the command follow, and the last one prints the table.
        Raises UserError for a mistake in the settings, and NotMeasured if worker after worker ends before it has
        measured anything.
        """
        runtime = Runtime.of(settings.get("runtime") or {})  # refused here, before a limit ends a worker
        limits = Limits(runtime.cell_timeout, runtime.memory)
        watch, done = Watch(limits, runtime.quiet, repeats=work != "run", fatal=self.fatal), 0
        terminals = (sys.stdout.isatty(), sys.stderr.isatty())
        job = {"work": work, "settings": settings, "in_sweep": in_sweep, "of_all": of_all, "terminals": terminals}
        job |= {"tried": watch.failed_cells(), "stopped": ""}
        try:
            while True:
                self.start().give(job)
                with pausing_too(self.worker.process.pid, limits):
                    watch.follow(self.worker)
                if watch.status is not None:
                    return watch.status
                self.end()
                before, done = done, watch.amount_done()
                if done == before:  # the last worker has done nothing: a further one would not either
                    raise NotMeasured(f"the run's process has ended: {watch.reason}")
                job |= {"tried": watch.failed_cells(), "stopped": watch.folder}
        finally:
            try:
                if watch.status is None:
                    self.end()
                elif watch.measured:
                    self._let_go()
            finally:  # not before the worker has ended: it could announce something that nobody removes
                watch.close()

    def end(self) -> None:
        """End the worker, if there is one, and what it has started."""
        if self.worker is not None:
            with signals_ignored():
                self.worker.end()
                self.worker.close()
                self.worker = None

    def _let_go(self) -> None:
        """Let a worker end that has done its job."""
        self.worker.wait()
        self.worker.close()
        self.worker = None


def pausing_too(worker: int, limits: Limits) -> AbstractContextManager[None]:
    """Inside, Ctrl-Z stops the worker as well, and it goes on with its supervisor; the pause counts for no limit."""

    def send(number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(worker, number)

    def go_on(seconds: float) -> None:
        send(signal.SIGCONT)
        limits.pauses(seconds)

    return pausing_others(lambda: send(signal.SIGSTOP), go_on)
