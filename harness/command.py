"""Where the command ``harness`` begins. Ctrl-C and SIGTERM end it in one line, while modules are still imported too."""

import os
import signal
import sys
from types import FrameType


def begin() -> None:
    """Run the command line and end with its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    from harness.cli.main import main

    sys.exit(main())


def _end(number: int, frame: FrameType | None) -> None:
    """End at once: nothing has begun yet, and an import that is interrupted may swallow an exception."""
    os.write(2, b"harness: interrupted\n")
    os._exit(128 + number)
