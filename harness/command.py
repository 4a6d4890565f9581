"""Where the command ``harness`` begins. Ctrl-C and SIGTERM end it in one line, while modules are still imported too."""

import atexit
import contextlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def begin() -> None:
    """Run the command line and end with its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    from harness.cli.main import main

    status = main()
    if status > 128:
        _end_interrupted(status)
    sys.exit(status)


def _end_interrupted(status: int) -> NoReturn:
    """End with the status of an interrupted command.

    Python itself would end by the signal where a KeyboardInterrupt has passed through ``exec`` of a text, as in a
    module that makes a dataclass while it is imported, although the exception was handled later.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader has ended
            stream.flush()
    os._exit(status)


def _end(number: int, frame: FrameType | None) -> None:
    """End at once: nothing has begun yet, and an import that is interrupted may swallow an exception."""
    os.write(2, b"harness: interrupted\n")
    os._exit(128 + number)
