"""The only module that knows Hydra: composes configurations and sweeps over them."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness import conf
from harness.choosing import OVER, standard_choices
from harness.errors import UserError, unknown
from harness.plan import Runtime
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS
from harness.stage import Protocol

REGISTRIES = {"model": MODELS, "dataset": DATASETS, "explainer": EXPLAINERS, "metric": METRICS}
SETS = {"protocol": (), "runtime": (), "experiment": ()}
SETTINGS = {"protocol": Protocol, "runtime": Runtime}


def for_each_job(arguments: Sequence[str], job: Callable[[dict[str, Any]], None]) -> None:
    """Compose the configuration that command-line ``arguments`` describe, and call ``job`` with it as plain values.

    With ``-m`` the job is called for every combination of a sweep, by Hydra's launcher. Raises UserError, in one line,
    for anything Hydra does not understand.
    """
    _offer_registry()
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # Hydra takes its overrides in one piece: a -m between them goes first.
    sys.argv = ["harness", *sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us as exceptions instead of Hydra's own report and exit
    try:
        with _help_of_any_type():
            hydra.main(version_base="1.3", config_path="pkg://harness.conf", config_name="config")(_plain(job))()
    except (HydraException, OmegaConfBaseException) as error:
        raise _told(error) from None
    except ValueError as error:  # so it refuses metric=null
        if not str(error).startswith("Config group override"):
            raise
        raise _told(error) from None
    finally:
        sys.argv = before[0]
        os.environ.pop("HYDRA_FULL_ERROR")
        if before[1] is not None:
            os.environ["HYDRA_FULL_ERROR"] = before[1]


@contextmanager
def _help_of_any_type() -> Iterator[None]:
    """Let Hydra add its option ``--shell-completion``.

    Its help is an object that makes its text when it is printed. From Python 3.14 on argparse checks the help of every
    option that is added, and refuses one that is not text (Hydra 1.3.8 and older).
    """
    parser, name = argparse.ArgumentParser, "_check_help"
    check = getattr(parser, name, None)
    if check is None:  # Python 3.13 and older do not look at the help of an option that is added
        yield
        return
    setattr(parser, name, lambda self, action: check(self, action) if isinstance(action.help, str) else None)
    try:
        yield
    finally:
        setattr(parser, name, check)


def _plain(job: Callable[[dict[str, Any]], None]) -> Callable[[DictConfig], None]:
    def task(config: DictConfig) -> None:
        settings = OmegaConf.to_container(config, resolve=True)
        settings.pop("experiment", None)
        job(settings | {group: _joined(chosen) for group, chosen in settings.items() if group in REGISTRIES})

    return task


def _joined(chosen: Any) -> Any:
    """Choices by name, of other libraries too: Hydra reads the dot in ``quantus.IROF`` as a step into a section."""
    if not isinstance(chosen, dict):
        return chosen
    found = dict(chosen)
    for prefix in {name.partition(".")[0] for name in METRICS.bridged()} & found.keys():
        found |= {f"{prefix}.{name}": options for name, options in (found.pop(prefix) or {}).items()}
    return found


def _offer_registry() -> None:
    """Make every registered name a choice in its config group, with its options and their defaults."""
    store = ConfigStore.instance()
    for name, entry in EXPLAINERS.items():
        store.store(group="explainer", name=name, node={name: dict(entry.options)})
    for name, entry in METRICS.items():
        switch = {OVER: None} if standard_choices(entry) else {}
        store.store(group="metric", name=name, node={name: {**entry.options, **switch}})
    for name in METRICS.bridged():
        prefix, _, rest = name.partition(".")
        store.store(group="metric", name=name, node={prefix: {rest: _options(name)}})
    for group, registry in (("model", MODELS), ("dataset", DATASETS)):
        for name, entry in registry.items():
            store.store(group=group, name=name, node={"name": name, **entry.options})


def _options(name: str) -> dict[str, Any]:
    """A bridged metric's options; none where its library is not installed, which whoever chooses it is told."""
    try:
        return dict(METRICS[name].options)
    except UserError:
        return {}


def _told(error: Exception) -> UserError:
    """Hydra's error in our words where it is a misspelt choice or setting, else in its own on one line."""
    text = " ".join(str(error).split())
    choice = re.search(r"Could not (?:find|load) '(\w+)/([^']*)'", text)
    if choice and choice[1] in REGISTRIES | SETS:
        return unknown(choice[1], choice[2], _choices(choice[1]))
    setting = re.search(r"Could not override '([\w.]+)'", text)
    known = _known_settings(setting[1]) if setting else None
    if known:
        return unknown("setting", setting[1], known)
    cause = " ".join(str(error.__cause__ or "").split())
    return UserError(text if cause in text else f"{text} {cause}")


def _choices(group: str) -> list[str]:
    """What can be chosen in a config group: registered names and the files of the group."""
    files = [path.stem for root in conf.__path__ for path in Path(root, group).glob("*.yaml")]
    names = {*REGISTRIES[group], *REGISTRIES[group].bridged()} if group in REGISTRIES else ()
    return sorted({*names, *files})


def _known_settings(path: str) -> list[str]:
    """The settings beside a misspelt one, in full; none where the section itself is unknown."""
    section, _, rest = path.partition(".")
    if section in SETTINGS:
        return [f"{section}.{name}" for name in SETTINGS[section].__dataclass_fields__]
    for name in (rest.partition(".")[0], rest.rpartition(".")[0]):  # of an item of ours, or of quantus.X
        if section in REGISTRIES and name in REGISTRIES[section]:
            return [f"{section}.{name}.{option}" for option in REGISTRIES[section][name].options]
    return []
