"""The folders of a run's parts: ``shards/<number>-of-<count>`` and ``rounds/<number>``, each a run of its own.

Folders with other names are no parts: a run may come from somebody else, and names are shown in a terminal.
"""

import re
from pathlib import Path

from harness.places import MOST_SHARDS, ROUNDS, SHARDS

SHARD, ROUND = re.compile(r"([0-9]{1,5})-of-([0-9]{1,5})"), re.compile(r"[0-9]{1,9}")


def shard_counts(run: Path) -> list[int]:
    """The numbers of parts into which the samples of a run were cut, of at most ``MOST_SHARDS``."""
    ends = (path.name.partition("-of-")[2] for path in shard_folders(run))
    return sorted({int(end) for end in ends if re.fullmatch(r"[1-9][0-9]{0,4}", end) and int(end) <= MOST_SHARDS})


def shard_folders(run: Path) -> list[Path]:
    """The folders of a run's shards."""
    return _folders(run / SHARDS, SHARD)


def round_folders(run: Path) -> list[Path]:
    """The folders of a run's rounds."""
    return _folders(run / ROUNDS, ROUND)


def shard_of(folder: Path) -> tuple[int, int] | None:
    """The number of the shard that a folder holds, and how many there are; None for a folder that holds none."""
    found = SHARD.fullmatch(folder.name) if folder.parent.name == SHARDS else None
    return (int(found[1]), int(found[2])) if found else None


def round_of(folder: Path) -> int | None:
    """The number of the round that a folder holds; None for a folder that holds none."""
    return int(folder.name) if folder.parent.name == ROUNDS and ROUND.fullmatch(folder.name) else None


def _folders(parent: Path, names: re.Pattern[str]) -> list[Path]:
    """The folders in a folder that have such names, no links."""
    found = (path for path in parent.glob("*") if names.fullmatch(path.name))
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())
