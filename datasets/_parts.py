"""The parts that a data set is divided into."""

from collections.abc import Mapping
from typing import TypeVar

from harness.errors import unknown

Part = TypeVar("Part")


def part_of(name: str, parts: Mapping[str, Part], split: str) -> Part:
    """The part called ``split`` of the data set ``name``; UserError that lists the parts where there is none."""
    if split not in parts:
        raise unknown(f"split of {name}", split, parts)
    return parts[split]
