"""The files of the configuration's groups, each of which is a choice in its group."""

import re
from collections.abc import Sequence
from pathlib import Path

from harness import conf


def group_files(group: str) -> dict[str, str]:
    """The files of a group by name, with the first sentence of the comment at their head."""
    paths = [path for root in conf.__path__ for path in Path(root, group).glob("*.yaml")]
    return {path.stem: _first_sentence(path.read_text(encoding="utf-8")) for path in sorted(paths)}


def names_in_reach(arguments: Sequence[str]) -> set[str]:
    """Every word of the arguments, and of the files that they and the first configuration name, directly or not.

    Every item that a configuration composed of these files contains is among them.
    """
    texts: dict[str, list[str]] = {}
    for root in conf.__path__:
        for path in Path(root).rglob("*.yaml"):
            texts.setdefault(path.stem, []).append(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    waiting = {"config", *re.findall(r"\w+", " ".join(arguments))}
    while waiting:
        found |= waiting
        inside = {word for name in waiting for text in texts.get(name, []) for word in re.findall(r"\w+", text)}
        waiting = inside - found
    return found


def group_defaults(group: str, name: str) -> list[str]:
    """The items and groups that a file of a group contains, as its list ``defaults`` names them."""
    texts = [
        path.read_text(encoding="utf-8") for root in conf.__path__ for path in Path(root, group).glob(f"{name}.yaml")
    ]
    head = "\n".join(texts).partition("defaults:\n")[2]
    block = re.match(r"(?:[ #].*\n|\n)*", head)
    listed = re.findall(r"^ *- *([\w.]+) *$", block[0] if block else "", flags=re.M)
    return [each for each in listed if each != "_self_"]


def _first_sentence(text: str) -> str:
    words = []
    for line in text.splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# "))
    sentence, full_stop, _ = (" ".join(words) + " ").partition(". ")
    return sentence.strip().removesuffix(".")
