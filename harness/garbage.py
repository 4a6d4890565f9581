"""Python's garbage collector, kept from searching through all libraries again and again while they are imported."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected_later() -> Iterator[None]:
    """Inside, no garbage is searched for; what exists at the end is not searched through later.

    It is for the start of a command: importing torch makes some 500,000 objects that stay, and each search through them
    takes a tenth of a second. Inside a measurement memory would grow.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
