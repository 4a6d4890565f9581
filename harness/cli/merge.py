"""``harness merge``: join runs, and the shards of a run."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.parser import RUN_HELP, Parser, add_runs_folder, add_verb, some_text
from harness.errors import UserError
from harness.places import SHARDS, check_run_name

if TYPE_CHECKING:  # it imports pandas
    from harness.results.merging import Merged

EXAMPLES = {
    "harness merge tuesday": "write the cells that all shards of runs/tuesday have into the run",
    "harness merge node1/runs/night node2/runs/night --into night": (
        "join the runs of two machines, and their shards, into runs/night"
    ),
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "merge",
        "join runs of several machines, and the shards of a run",
        """
A run with runtime.shards is joined by the shard that ends last, if all shards write to the same folder. This verb does
it where they do not: it copies what the runs hold into one run, and joins the shards there. With --into, the other
runs are not changed. A row that is ok replaces one that is not applicable, and either replaces a failed one; of equal
ones, that of the run named first counts, and so does its label of a model or data set. Where runs have one label for
different ones, nothing is joined. The exit status is 1 if cells lack a shard, or if their shards are damaged or of
different code or weights.""",
        EXAMPLES,
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--into", metavar="NAME", type=some_text, help="the run to write (one RUN: that run)")
    add_runs_folder(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Join the runs; 1 if something is missing."""
    from harness.results.frames import find_run
    from harness.results.merging import copied_cells, merge_shards
    from harness.results.part_folders import shard_counts
    from harness.results.plain_text import drawable
    from harness.results.row_labels import check_labels_differ

    if chosen.into is not None:
        check_run_name("--into", chosen.into)
    sources = [_run_or_shards(name, chosen.runs, find_run) for name in chosen.run]
    if len(sources) > 1 and not chosen.into:
        raise UserError(f"{len(sources)} runs came, expected --into NAME, the run that they are joined into")
    target = Path(chosen.runs) / chosen.into if chosen.into else sources[0]
    others = [source for source in sources if source.resolve() != target.resolve()]
    if others:
        check_labels_differ([target, *others])
    copied = sum(copied_cells(source, target) for source in others)
    counts, missing = shard_counts(target), 0
    if copied or len(sources) > 1:
        number = "1 run" if len(sources) == 1 else f"{len(sources)} runs"
        print(f"{copied} cells copied from {number} into {drawable(target)}")
    for count in counts:
        found = merge_shards(target, count)
        missing += found.lacking + found.damaged + found.mixed + found.absent
        print(f"{count} shards: {found.written} cells joined{_but(found)}")
    if not counts and len(sources) == 1 and not chosen.into:
        raise UserError(f"{target} has no shards, expected a run with runtime.shards, or several runs and --into NAME")
    return int(missing > 0)


def _but(found: "Merged") -> str:
    words = {
        "{} lack a shard": found.lacking,
        "{} have a shard whose files are damaged": found.damaged,
        "{} have shards of different code or weights": found.mixed,
        "{} shards hold nothing": found.absent,
    }
    told = [text.format(count) for text, count in words.items() if count]
    return f"; {', '.join(told)}" if told else ""


def _run_or_shards(name: str, runs: str, find_run: Any) -> Path:
    """The run of that name; also one that has shards and no cell yet."""
    places = (Path(runs) / name, Path(name))
    return next((path for path in places if (path / SHARDS).is_dir()), None) or find_run(name, runs)
