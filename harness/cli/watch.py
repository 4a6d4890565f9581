"""``harness watch``: how far a run is, while it goes on and afterwards, from its files alone."""

import argparse
import math
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from harness.cli.parser import RUN_HELP, Parser, add_runs_folder, add_verb
from harness.errors import UserError, printable
from harness.interrupts import asked_to_end

if TYPE_CHECKING:
    from harness.results.run_progress import RunFollower, RunProgress

WIDTH, WIDEST, NARROWEST = 80, 120, 60  # characters in a line: in a log, and at most and at least in a terminal
SWEEP_SECONDS = 30.0  # in which the next block of a sweep begins
EXAMPLES = {
    "harness watch": "the latest run, again and again until everything is done or Ctrl-C",
    "harness watch night --every 30": "the run night, every 30 seconds",
    "harness watch night --once": "the run night as it is now",
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "watch",
        "show how far a run is: what is done, what is being measured, what failed, when it ends",
        """
All jobs of a run are shown together: for each block (a model on a data set), and each of its shards or rounds, how many
cells are done, not applicable, failed and left; which processes are at work, on what and for how long; why cells
failed; and when the run will end, by what the cells so far have taken and how many processes are at work. It is read
from the files of the run, on any machine that sees them, and nothing is written.

In a terminal it is shown until everything is done or Ctrl-C. With --once, or where the output is no terminal, it is
printed once. The exit status, with --once too, is 0 if nothing is left and nothing failed, 1 if there are failed cells
or cells left, whatever runtime.max_failed says, and 2 if there is no run yet.""",
        EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN", nargs="?", default="latest", help=f"{RUN_HELP} (default: latest)")
    parser.add_argument("--once", action="store_true", help="print it once, as it is now")
    parser.add_argument(
        "--every", metavar="SECONDS", type=_seconds, default=2.0, help="how often it is refreshed (default: 2)"
    )
    add_runs_folder(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Show the run; 1 if there are failed cells or cells left."""
    from harness.results.run_progress import RunFollower, folder_to_follow

    follower = RunFollower(folder_to_follow(chosen.run, chosen.runs))
    progress = _print_once(follower) if chosen.once or not sys.stdout.isatty() else _show(follower, chosen.every)
    counts = progress.counts
    return int(bool(counts.left or counts.failed or not counts.cells))


def _print_once(follower: "RunFollower") -> "RunProgress":
    from harness.cli.watch_text import progress_lines

    progress = follower.look()
    if not progress.blocks:
        raise UserError(
            f"{printable(follower.directory)} holds no configuration and no cells yet, expected a run that has begun"
        )
    print("\n".join(progress_lines(progress, WIDTH)))
    return progress


def _show(follower: "RunFollower", every: float) -> "RunProgress":
    """Show the progress in the same place, until everything is done or the user ends it; what was shown last."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from harness.cli.watch_text import progress_lines

    progress, since = follower.look(), time.monotonic()
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        try:
            while True:
                size = shutil.get_terminal_size()
                width = min(max(size.columns, NARROWEST), WIDEST)
                text = "\n".join(progress_lines(progress, width, size.lines - 1))
                live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
                if not _is_over(progress):
                    since = time.monotonic()
                if time.monotonic() - since >= (SWEEP_SECONDS if progress.sweep else 0.0) and _is_over(progress):
                    return progress
                time.sleep(every)
                progress = follower.look()
        except KeyboardInterrupt:
            if asked_to_end() == signal.SIGTERM:
                raise
            return progress


def _is_over(progress: "RunProgress") -> bool:
    """Whether cells are known of which none is left, and nobody is at work."""
    return progress.counts.cells > 0 and not progress.counts.left and not progress.alive


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"came as {text!r}, expected seconds from 0.1 to 86400")
    return seconds
