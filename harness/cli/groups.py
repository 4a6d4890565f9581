"""The files of the configuration's groups, each of which is a choice in its group."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from harness import conf

MOST_FILES = 20_000  # in folders of the user's own that are searched for names
PAPERS = "papers"  # the folder of the experiments of papers, which harness reproduce runs


def group_files(group: str) -> dict[str, str]:
    """The files of a group by name, with the first sentence of the comment at their head."""
    paths = [path for root in conf.__path__ for path in Path(root, group).glob("*.yaml")]
    return {path.stem: _first_sentence(path.read_text(encoding="utf-8")) for path in sorted(paths)}


def experiment_folders() -> dict[str, list[str]]:
    """The folders of experiments that run together, with the names of their experiments; those of papers are no run."""
    paths = sorted(path for root in conf.__path__ for path in Path(root, "experiment").glob("*/*.yaml"))
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(path.parent.name, []).append(f"{path.parent.name}/{path.stem}")
    return {name: names for name, names in folders.items() if name != PAPERS}


def experiments_of_folders() -> dict[str, str]:
    """What each folder of experiments and each of its experiments is, by the names that are typed."""
    found: dict[str, str] = {}
    for folder, names in experiment_folders().items():
        sentences = group_files(f"experiment/{folder}")
        one_of_them = f"one after the other, or one of them ({names[0]}): {', '.join(sentences)}"
        found[folder] = f"{len(names)} experiments, {one_of_them}"
        found |= {f"{folder}/{name}": sentence for name, sentence in sentences.items()}
    return found


def with_folders_spread(arguments: Sequence[str]) -> list[str]:
    """The arguments with a sweep over all experiments of a folder where the folder is named: ``experiment=atlas``."""
    folders = experiment_folders()
    spread = [_all_of_folder(argument, folders) for argument in arguments]
    sweep = ["-m"] if spread != list(arguments) and not {"-m", "--multirun"} & set(arguments) else []
    return [*sweep, *spread]


def _all_of_folder(argument: str, folders: Mapping[str, list[str]]) -> str:
    key, _, value = argument.partition("=")
    return f"{key}={','.join(folders[value])}" if key == "experiment" and value in folders else argument


def names_in_reach(arguments: Sequence[str], own_folders: Sequence[str] = ()) -> set[str] | None:
    """Every word of the arguments, and of the files that they and the first configuration name, directly or not.

    Every item that a configuration composed of these files contains is among them. The files are those of the package
    and of ``own_folders``; None if these hold more than ``MOST_FILES`` files, such as the folder of all runs, and if a
    name may come from elsewhere, such as ``${oc.env:MODEL}``.
    """
    own = list(islice((path for root in own_folders for path in _files_in(root)), MOST_FILES + 1))
    if len(own) > MOST_FILES:
        return None
    own_texts = {path: _text_at(path) for path in own if path.suffix == ".yaml"}
    given = " ".join((*arguments, *own_texts.values()))
    if "${oc." in given:
        return None
    texts: dict[str, list[str]] = {}
    # An experiment that is not asked for may have the name of a model or of a metric, and names most of all items.
    folders = [folder for folder in _group_folders() if folder.name != "experiment" or "experiment" in given]
    of_package = {path: _text_at(path) for folder in folders for path in folder.rglob("*.yaml")}
    for path, text in (of_package | own_texts).items():
        texts.setdefault(path.stem, []).append(text)
    found: set[str] = set()
    waiting = set(re.findall(r"\w+", " ".join((*map(_text_at, _first_files()), *arguments))))
    while waiting:
        found |= waiting
        inside = {word for name in waiting for text in texts.get(name, []) for word in re.findall(r"\w+", text)}
        waiting = inside - found
    return found


def _first_files() -> list[Path]:
    """The files with which Hydra begins."""
    return [path for root in conf.__path__ for path in Path(root).glob("*.yaml")]


def _group_folders() -> list[Path]:
    return [path for root in conf.__path__ for path in Path(root).iterdir() if path.is_dir()]


def _text_at(path: Path) -> str:
    """The text of a file of the configuration without its comments."""
    return re.sub(r"(?m)(^|[ \t])#.*", "", path.read_text(encoding="utf-8", errors="replace"))


def _files_in(root: str) -> Iterator[Path]:
    """All files in a folder, also by links to folders, which Hydra follows as well."""
    for folder, _, names in os.walk(root, followlinks=True):
        yield from (Path(folder, name) for name in names)


def group_defaults(group: str, name: str) -> list[str]:
    """The items and groups that a file of a group contains, as its list ``defaults`` names them."""
    head = _text_of(f"{group}/{name}").partition("defaults:\n")[2]
    block = re.match(r"(?:[ #].*\n|\n)*", head)
    listed = re.findall(r"^ *- *([\w.]+) *$", block[0] if block else "", flags=re.M)
    return [each for each in listed if each != "_self_"]


def choice_in_files(group: str, experiments: Sequence[str]) -> str:
    """What the files choose in a group, as it is typed: the first experiment that chooses there, or the configuration.

    These are the names that hold where the user chooses nothing in the group.
    """
    for name in (*(f"experiment/{each}" for each in experiments), "config"):
        chosen = re.search(rf"^ *- *(?:override )?/?{group}: *(.+?) *$", _text_of(name), flags=re.M)
        if chosen:
            return chosen[1]
    return ""


def _text_of(name: str) -> str:
    """The text of a file of the configuration, named without its ending; empty if there is none."""
    paths = [Path(root, f"{name}.yaml") for root in conf.__path__]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())


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
