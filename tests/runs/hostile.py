"""Explainers, metrics and a model that do what nothing may do to a run; named as ``hostile:name``."""

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

import toys
from toys import gradient_map, total


def segfault(model, inputs, targets):
    """Reads address 0."""
    ctypes.string_at(0)


def exit_status(model, inputs, targets):
    """Ends the process as if all were well, with words that nobody has asked for."""
    print("good bye")
    os._exit(0)


def dies_at(model, inputs, targets, *, sample, count):
    """Ends the process when it is given this one of ``count`` images."""
    deadly = toys.images(count=count).inputs[sample]
    if (inputs.detach() == deadly).flatten(1).all(1).any():
        os._exit(4)
    return gradient_map(model, inputs, targets)


def is_first(mark):
    """Whether no process has asked before: it makes a file beside ``mark``, since a file ``mark`` is part of a cell."""
    with contextlib.suppress(FileExistsError):
        open(f"{mark}.made", "x").close()
        return True
    return False


def killer_of_supervisors(model, inputs, targets, *, mark, generation=1):
    """Kills the process that watches over it, an earlier ancestor, or with generation 0 its own, the first time."""
    if is_first(mark):
        ancestor = os.getppid() if generation else os.getpid()
        for _ in range(generation - 1):
            ancestor = int(Path(f"/proc/{ancestor}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(ancestor, signal.SIGKILL)
        time.sleep(60)
    return gradient_map(model, inputs, targets)


def sleeper(model, inputs, targets, *, mark, seconds=600):
    """Sleeps, the first time."""
    if is_first(mark):
        time.sleep(seconds)
    return gradient_map(model, inputs, targets)


def endless(model, inputs, targets):
    """Prints without end: 100 MB as fast as it can, and then more than anybody reads."""
    printed = 0
    while True:
        printed += os.write(1, b"again " * 1000)
        time.sleep(0.005 * (printed > 10**8))


def hoarder(model, inputs, targets):
    """Holds 2 GiB in a child process."""
    if os.fork() == 0:
        held = b"x" * 2**31
        time.sleep(600 + len(held) % 2)
        os._exit(0)
    time.sleep(600)


def closer(model, inputs, targets):
    """Closes every file of the process."""
    os.closerange(0, 256)
    return gradient_map(model, inputs, targets)


def scribbler(model, inputs, targets):
    """Writes into every file of the process: words, words without an end, and what a supervisor might understand."""
    for number in range(3, 40):
        for words in (b"hello world\n", b'{"done": 0, "measured": true}\n', b"[1, 2]\n", b"{" * 5000 + b"\n", b"half"):
            with contextlib.suppress(OSError):
                os.write(number, words)
    return gradient_map(model, inputs, targets)


def liar(model, inputs, targets):
    """Tells the supervisor, in words of the harness, that the run is done."""
    gc.unfreeze()  # else it is not found among the objects from before the libraries were imported
    (channel,) = (each for each in gc.get_objects() if type(each).__name__ == "Channel")
    channel.send(done=0, measured=True)
    time.sleep(600)


def leaver(model, inputs, targets):
    """Leaves a process behind, without environment and in a session of its own, whose parent has ended."""
    code = f"import os, time\nif os.fork() == 0:\n os.setsid(); time.sleep(600)  # left-under-{os.getppid()}"
    subprocess.run([sys.executable, "-ISc", code], env={}, check=True)
    return gradient_map(model, inputs, targets)


def lingering(model, inputs, targets):
    """Leaves a thread that will change the weights."""

    def spoil():
        time.sleep(60)
        model[0].weight.data.zero_()

    threading.Thread(target=spoil, daemon=True, name="lingering").start()
    return gradient_map(model, inputs, targets)


def patched_torch(model, inputs, targets):
    """Puts a function of its own in place of torch's."""
    torch.nn.functional.relu = lambda values, inplace=False: values
    return gradient_map(model, inputs, targets)


def keyboard(model, inputs, targets):
    """Raises what Ctrl-C raises."""
    raise KeyboardInterrupt


def generator_exit(model, inputs, targets):
    """Raises what ends a generator."""
    raise GeneratorExit("enough")


def system_exit(model, inputs, targets):
    """Raises what ends a program."""
    sys.exit("no more")


class Panic(BaseException):
    """No Exception, as an error of a library in Rust is none."""


def panic(model, inputs, targets):
    """Raises it."""
    raise Panic("called `unwrap` on nothing")


class Unspeakable(Exception):
    """Has no text."""

    def __str__(self):
        raise self

    __repr__ = __str__


def unspeakable(model, inputs, targets):
    """Raises an error that cannot be printed."""
    raise Unspeakable


def surrogate(model, inputs, targets):
    """Raises an error whose text no file can hold."""
    raise ValueError("half \ud800 a letter\x1b[2J")


def circle(model, inputs, targets):
    """Raises an error that is the cause of its cause."""
    first, second = ValueError("hen"), ValueError("egg")
    first.__cause__ = first.__context__ = second
    second.__cause__ = second.__context__ = first
    raise first


def forking(model, inputs, targets):
    """Forks, and raises in the child."""
    child = os.fork()
    if child == 0:
        raise RuntimeError("raised in a child")
    os.waitpid(child, 0)
    return gradient_map(model, inputs, targets)


def forking_silently(model, inputs, targets):
    """Forks, and both go on."""
    os.fork()
    return gradient_map(model, inputs, targets)


def threaded(model, inputs, targets):
    """Changes the weights from a thread."""
    maps = gradient_map(model, inputs, targets)
    thread = threading.Thread(target=model[0].weight.data.zero_)
    thread.start()
    thread.join()
    return maps


def settings(model, inputs, targets):
    """The gradients, and changes every setting of the process that it can."""
    maps = gradient_map(model, inputs, targets)
    torch.set_default_device("meta")
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    torch.manual_seed(7)
    os.chdir("/")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return maps


def deaf(model, inputs, targets):
    """Closes standard output and error."""
    sys.stdout.close()
    sys.stderr.close()
    with contextlib.suppress(OSError):
        os.close(1)
    return gradient_map(model, inputs, targets)


def patched_forward(model, inputs, targets):
    """Puts another forward in place of the model's."""
    maps = gradient_map(model, inputs, targets)
    model.forward = lambda inputs: inputs.flatten(1)[:, :4]
    return maps


def patched_class(model, inputs, targets):
    """Puts another forward in place of that of a class."""
    torch.nn.ReLU.forward = lambda self, inputs: inputs
    return gradient_map(model, inputs, targets)


BUFFERS = {}


def one_buffer(model, inputs, targets):
    """The gradients, in the same memory for every batch."""
    buffer = BUFFERS.setdefault(inputs.shape, torch.empty_like(inputs))
    return buffer.copy_(gradient_map(model, inputs, targets))


def in_place(model, inputs, targets, *, context):
    """The gradients; all that was given is zeroed."""
    maps = gradient_map(model, inputs.clone(), targets.clone())
    for given in (inputs, targets, context.inputs, context.targets):
        given.detach().zero_()
    return maps


def zeroing(batch):
    """The sum, and then there is nothing left to sum."""
    scores = total(batch)
    shared = batch.samples.shared("shared", lambda: torch.zeros(len(batch)))
    for given in (batch.attributions, batch.raw, batch.inputs, batch.targets):
        given.zero_()
    shared.add_(1)
    return scores


def sharing(batch):
    """The sum, of everything that other metrics get too."""
    shared = batch.samples.shared("shared", lambda: torch.zeros(len(batch)))
    return total(batch) + batch.inputs.flatten(1).sum(1) + batch.targets + shared


def killed(batch):
    """Is killed, as for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt(batch):
    """Raises what Ctrl-C raises."""
    raise KeyboardInterrupt


def lost_net():
    """Raises what a download that fails raises."""
    raise OSError("no such host")


def dying_net():
    """A model that takes the process with it."""
    os._exit(4)


def net_once(*, mark):
    """A model that takes the process with it when it is loaded for the second time."""
    if not is_first(mark):
        os._exit(4)
    return toys.net()


def slow(model, inputs, targets):
    """Takes its time, in a child process too."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
        os._exit(0)
    print("at work", flush=True)
    time.sleep(600)


net, images = toys.net, toys.images
