"""What ``harness run launcher=slurm`` would ask of Slurm, as ``harness plan`` prints it."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.cli.estimate_text import parallel_seconds, time_in_words

if TYPE_CHECKING:
    from harness.jobs.job_estimate import JobEstimate
    from harness.launching.settings import Slurm


def request_lines(settings: "Slurm", jobs: int, estimates: Sequence["JobEstimate"]) -> Iterator[str]:
    """The request for a number of jobs, and where it is less than they are estimated to need on this machine."""
    from harness.launching.slurm import WARNING_SECONDS, minutes_of_job, sbatch_words

    at_once = min(settings.at_once, jobs)
    yield f"launcher=slurm would submit {jobs} jobs as one array, {at_once} at a time, each with"
    yield f"  {' '.join(sbatch_words(settings))}"
    longest = max(parallel_seconds(estimates), default=0.0)
    at_work = 60 * minutes_of_job(settings) - WARNING_SECONDS  # then a job ends what it measures
    hours = math.ceil((1.5 * longest + WARNING_SECONDS) / 3_600)
    if longest and at_work <= 0:
        yield (
            f"warning: a job ends {WARNING_SECONDS} s before its time limit, so that launcher.hours={settings.hours:g} "
            f"leaves it none; launcher.hours={hours} does"
        )
    elif longest > at_work:
        again = math.ceil(longest / at_work) - 1
        times = "once" if again == 1 else f"{again} times"
        told = f"the longest job takes {time_in_words(longest)} here, so that it comes into the queue again {times}"
        enough = "" if again <= settings.requeues else f", and launcher.requeues={settings.requeues} is too few"
        yield f"warning: {told}{enough}; launcher.hours={hours} leaves it time"
    memory = max((each.memory[0] for each in estimates if each.memory[0] > settings.memory), default=0.0)
    if memory:
        yield f"warning: a job holds {memory:.1f} GiB here; launcher.memory={math.ceil(1.25 * memory)} is enough for it"
