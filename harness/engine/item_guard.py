"""Guards a block against its items: what they raise, what they change, and what they leave behind.

An item is an explainer or a metric. Whatever it raises becomes a ``Failure`` of its cells. The model is put back as it
was. What cannot be put back ends the work of this process (``Spoilt``): a supervised run goes on in a new one.
"""

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from harness.engine.stage import Stage
from harness.errors import NotApplicable, UserError, one_line, printable
from harness.guards import ModelChanged, ModelGuard, isolated_randomness, keeps_buffers_of_its_own
from harness.interrupts import asked_by_user, asked_to_end
from harness.messages import say
from harness.randomness import seed_torch

LONGEST_TRACE = 2**16
PATIENCE_SECONDS = 1.0
SAME_OUTPUTS = 1e-4  # of the largest output; two calls on a GPU can differ by rounding


class Spoilt(UserError):
    """This process cannot measure any further, for a reason that an item has left; finished cells are not touched."""


@dataclass(frozen=True)
class Failure:
    """The error that prevented a result, with its trace as text."""

    error: BaseException
    trace: str


class ItemGuard:
    """Guards one block's model and process.

    renewable   whether the run can go on in a new process
    spoilt      why this process cannot measure any further cells, or ""
    """

    def __init__(self, stage: Stage, renewable: bool = False) -> None:
        self.stage, self.model, self.renewable, self.spoilt = stage, ModelGuard(stage.module), renewable, ""
        self.threads = _own_threads()
        self.outputs = self._steady_outputs()

    def check_model(self, who: str) -> None:
        """Raise ModelChanged if the state of the model has changed, by ``who``."""
        changes = self.model.changes()
        if changes:
            raise ModelChanged(f"the {who} changed the model: {', '.join(changes)}")

    def check_outputs(self, who: str) -> None:
        """Raise ModelChanged if the model answers the first input otherwise than before the block, due to ``who``.

        Its state is as before, so that the reason lies elsewhere, in a function of torch perhaps.
        """
        if self.outputs is None:
            return
        try:
            now = self._probe()
        except Exception as error:
            self.spoilt = f"the model no longer works: {one_line(error)}"
            raise ModelChanged(self.spoilt) from error
        if not _same(self.outputs, now):
            self.spoilt = "its outputs are others than before, although its weights and modules are the same"
            raise ModelChanged(f"the {who} changed what the model computes: {self.spoilt}")

    def failure(self, error: BaseException) -> Failure:
        """The failure that an item's error is, with the model put back; raises the error if the user wants to end."""
        if asked_by_user(error):
            raise error
        try:
            self.model.restore()
        except BaseException as beyond:
            self.spoilt = self.spoilt or one_line(beyond)
        return failure_of(error)

    def end_of_item(self, label: str) -> None:
        """After all cells of an explainer: raise Spoilt if it has left something that would change those of others.

        A thread that goes on counts as such where a new process is to be had; elsewhere it is told.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        left = [thread for thread in _own_threads() - self.threads if not _has_ended(thread, deadline)]
        self.threads.update(left)
        if left:
            words = f"{label} has left a thread at work ({printable(left[0].name)})"
            say(f"{'':>9}{words}")
            self.spoilt = self.spoilt or (words if self.renewable else "")
        if self.spoilt:
            raise Spoilt(self.spoilt)

    @contextmanager
    def failures_noted(self) -> Iterator[list[Failure]]:
        """Inside, an error is an item's: it ends the code inside, and is the one entry of the list."""
        found: list[Failure] = []
        try:
            yield found
            if asked_to_end() is not None:  # an item has swallowed the user's interrupt
                raise KeyboardInterrupt
        except BaseException as error:
            found.append(self.failure(error))

    def _steady_outputs(self) -> Tensor | None:
        """The model's outputs for the first input; None if they are random, so that nothing can be compared."""
        try:
            first, second = self._probe(), self._probe()
        except Exception:  # a model that takes no single input, perhaps; what fails in earnest fails in the cells
            return None
        return first if first is not None and _same(first, second) else None

    def _probe(self) -> Tensor | None:
        """The model's outputs for the first input; None for a model that changes its own state when it is called."""
        if keeps_buffers_of_its_own(self.stage.module):
            return None
        inputs = self.stage.first()[:1]
        carried = {name: values[:1] for name, values in self.stage.first_carried().items()}
        with isolated_randomness(self.stage.device):
            seed_torch(0)
            return self.stage.predictor.live().logits(inputs, carried).double()


def failure_of(error: BaseException) -> Failure:
    """An error with its trace as text; the variables of its frames, which may fill a device's memory, are freed."""
    try:
        trace = "".join(traceback.format_exception(error))[-LONGEST_TRACE:]
    except BaseException:  # an item's own class of errors may raise anything when it is shown
        trace = one_line(error)
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:  # contexts can form a circle
        seen.add(id(each))
        traceback.clear_frames(each.__traceback__)
        each = each.__context__
    return Failure(error, one_line(error) if isinstance(error, NotApplicable) else trace)


def _same(before: Tensor, now: Tensor) -> bool:
    if before.shape != now.shape:
        return False
    return bool((before - now).abs().max() <= SAME_OUTPUTS * before.abs().max().clamp_min(1e-12))


def _own_threads() -> set[threading.Thread]:
    """The threads that Python code has started; those of torch that have only called Python are left out."""
    return {each for each in threading.enumerate() if not isinstance(each, threading._DummyThread)}


def _has_ended(thread: threading.Thread, deadline: float) -> bool:
    thread.join(max(0.0, deadline - time.monotonic()))
    return not thread.is_alive()
