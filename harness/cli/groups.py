"""The files of the configuration's groups, each of which is a choice in its group."""

from pathlib import Path

from harness import conf


def group_files(group: str) -> dict[str, str]:
    """The files of a group by name, with the first sentence of the comment at their head."""
    paths = [path for root in conf.__path__ for path in Path(root, group).glob("*.yaml")]
    return {path.stem: _first_sentence(path.read_text(encoding="utf-8")) for path in sorted(paths)}


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
