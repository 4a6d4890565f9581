"""A small net, its data, and explainers that fail in the middle of a race; named in commands as ``faulty:name``."""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from torch import nn

from harness.choosing.split import Split
from harness.sources import Data

SAMPLES, COLUMNS = 100, 12
PLACE = COLUMNS - 1  # the column that tells a sample's place, in hundredths; the net does not look at it


def net(*, seed=0):
    """A little more than a linear model of six columns; ``seed`` says which."""
    first, second = nn.Linear(COLUMNS, COLUMNS), nn.Linear(COLUMNS, 2)
    weights = torch.zeros(PLACE)
    weights[:6] = torch.tensor([3.0, -2.0, 1.5, -1.0, 0.7, 0.5])
    weights = torch.cat([weights.roll(seed), torch.zeros(1)])
    with torch.no_grad():
        first.weight.copy_(0.6 * torch.eye(COLUMNS))
        second.weight.copy_(torch.stack([-weights, weights]) / 2)
        first.bias.zero_(), second.bias.zero_()
    return nn.Sequential(first, nn.Tanh(), second).eval()


def rows(*, count=SAMPLES, one_class=False):
    """Rows with the net's own answers as labels."""
    draw = torch.Generator().manual_seed(1)
    inputs, train = torch.randn(count, COLUMNS, generator=draw), torch.randn(200, COLUMNS, generator=draw)
    inputs[:, PLACE] = torch.arange(count) / 100
    labels = net()(inputs).argmax(1).detach() * (not one_class)
    return Data(inputs, labels=labels, train=train, task="classes")


def later(inputs):
    """Which of these are samples that the race comes to after two rounds (n,) bool."""
    places = torch.tensor(sorted(Split.of(SAMPLES, 0).race[16:]))
    return torch.isin((inputs[:, PLACE] * 100).round().long(), places)


def good(model, inputs, targets, *, power=1.0):
    """Input times gradient, and a little that is its own of each power."""
    inputs = inputs.requires_grad_()
    gradient = torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]
    maps = inputs.detach() * gradient
    return maps.sign() * maps.abs() ** power + 0.02 * power * torch.sin(50 * power * inputs.detach())


def for_two_rounds(power):
    """A good explainer which does something else after two rounds of the race."""

    def decorate(fault):
        def faulty(model, inputs, targets):
            return fault(inputs) if later(inputs).any() else good(model, inputs, targets, power=power)

        faulty.__name__ = faulty.__qualname__ = fault.__name__
        faulty.__module__, faulty.__doc__ = fault.__module__, fault.__doc__
        return faulty

    return decorate


@for_two_rounds(1.15)
def hangs(inputs):
    """Never comes back, and leaves a mark in the file that $HANGS names."""
    Path(os.environ["HANGS"]).touch()
    time.sleep(600)


@for_two_rounds(1.25)
def raises(inputs):
    """Fails."""
    raise RuntimeError("no such luck")


@for_two_rounds(1.35)
def no_numbers(inputs):
    """Gives NaN for all."""
    return torch.full_like(inputs, float("nan"))


@for_two_rounds(1.45)
def some_numbers(inputs):
    """Gives NaN for one."""
    maps = inputs.clone()
    maps[-1] = float("nan")
    return maps


@for_two_rounds(1.55)
def leaves(inputs):
    """Ends the process as if all were well."""
    os._exit(0)


@for_two_rounds(1.65)
def gives_up(inputs):
    """Ends the program."""
    sys.exit("no more")


@for_two_rounds(1.75)
def hoards(inputs):
    """Holds 2 GiB."""
    held = b"x" * 2**31
    time.sleep(600 + len(held) % 2)


@for_two_rounds(1.85)
def patches(inputs):
    """Puts a function of its own in place of torch's: in this process, the model is another one."""
    torch.tanh = lambda values: values
    return inputs.clone()


@for_two_rounds(1.95)
def asks_for_too_much(inputs):
    """Asks for more memory than there is."""
    torch.empty(2**45)


def serve():
    """For each line of JSON on standard input, choose in a process of its own; tells its number.

    The processes are forked from this one, which has imported everything: a start takes no time.
    """
    import harness.choosing.in_run
    import harness.cli.choose  # noqa: F401

    for line in sys.stdin:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
        process = os.fork()
        if process == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _choose_apart(**json.loads(line))
        print(process, flush=True)


def _choose_apart(settings, printed, environment):
    """Choose, in a session of its own; what is printed goes into the file ``printed``, and so does the exit status."""
    from harness.cli.choose import choose_settings
    from harness.errors import UserError
    from harness.jobs.supervisor import Supervisor

    os.setsid()
    os.environ.update(environment)
    place = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(place, 1), os.dup2(place, 2)
    try:
        supervised = settings["runtime"]["supervise"]
        status = Supervisor().measure(settings, False, "choose") if supervised else choose_settings(settings)
    except UserError as error:
        print(f"harness: {error}", file=sys.stderr)
        status = 2
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    print(f"exit status {status}", file=sys.stderr, flush=True)
    os._exit(0)


def answers_nothing():
    """A net that gives NaN."""
    made = net()
    with torch.no_grad():
        made[2].weight.fill_(float("nan"))
    return made


class NaNWherePerturbed(nn.Module):
    """Gives NaN for samples that the race comes to after two rounds when they are not as they were."""

    def __init__(self):
        super().__init__()
        self.inner, self.clean = net(), rows().inputs

    def forward(self, inputs):
        places = (inputs[:, PLACE] * 100).round().long().clamp(0, SAMPLES - 1)
        lost = later(inputs) & (inputs != self.clean[places]).any(1)
        return self.inner(inputs).masked_fill(lost[:, None], float("nan"))


def answers_some():
    """A net that gives NaN for some samples where a metric perturbs them."""
    return NaNWherePerturbed().eval()


def answers_the_same():
    """A net that does not look at its inputs."""
    made = net()
    with torch.no_grad():
        made[0].weight.zero_()
    return made


def leaves_at_once():
    """A net whose making ends the process."""
    os._exit(4)
