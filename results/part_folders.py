"""The folders of a run's parts: ``shards/<number>-of-<count>`` and ``rounds/<number>``, each a run of its own."""

import re
from pathlib import Path

from harness.places import MOST_SHARDS, ROUNDS, SHARDS


def shard_counts(run: Path) -> list[int]:
    """The numbers of parts into which the samples of a run were cut, of at most ``MOST_SHARDS``."""
    ends = (path.name.partition("-of-")[2] for path in shard_folders(run))
    return sorted({int(end) for end in ends if re.fullmatch(r"[1-9][0-9]{0,4}", end) and int(end) <= MOST_SHARDS})


def shard_folders(run: Path) -> list[Path]:
    """The folders of a run's shards."""
    return _folders(run / SHARDS, "*-of-*")


def round_folders(run: Path) -> list[Path]:
    """The folders of a run's rounds."""
    return _folders(run / ROUNDS, "[0-9]*")


def _folders(parent: Path, pattern: str) -> list[Path]:
    """The folders in a folder, no links: a run may come from somebody else."""
    return sorted(path for path in parent.glob(pattern) if path.is_dir() and not path.is_symlink())
