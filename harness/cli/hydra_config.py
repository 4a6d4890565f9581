"""The only module that knows Hydra: composes configurations and sweeps over them."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.cli.groups import group_files
from harness.engine.protocol import Protocol
from harness.engine.selection import OVER, standard_choices
from harness.errors import UserError, unknown
from harness.jobs.plan import Runtime
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS

CONFIG_GROUPS = ("model", "dataset", "explainer", "metric", "protocol", "runtime", "experiment")
REGISTRIES = {"model": MODELS, "dataset": DATASETS, "explainer": EXPLAINERS, "metric": METRICS}
SETTINGS = {"protocol": Protocol, "runtime": Runtime}
SHARED = "shared"  # the key beside the metrics under which options for all of them stand


def for_each_job(arguments: Sequence[str], job: Callable[[dict[str, Any]], int | None]) -> int:
    """Compose the configuration that command-line ``arguments`` describe, and call ``job`` with it as plain values.

    With ``-m`` the job is called for every combination of a sweep, by Hydra's launcher. The highest exit status that a
    job returned (None counts as 0) is returned. A UserError of one job is printed, counts as 2, and does not end a
    sweep. Raises UserError, in one line, for anything Hydra does not understand.
    """
    _offer_registry()
    statuses = [0]
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # Hydra expects overrides side by side: a -m between them goes first.
    sys.argv = ["harness", *sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # then Hydra raises errors, and does not print and exit
    try:
        with _help_of_any_type():
            hydra.main(version_base="1.3", config_path="pkg://harness.conf", config_name="config")(
                _task(job, statuses)
            )()
    except (HydraException, OmegaConfBaseException) as error:
        raise _hydra_mistake(error, arguments) from None
    except ValueError as error:  # metric=null
        if not str(error).startswith("Config group override"):
            raise
        raise _hydra_mistake(error, arguments) from None
    finally:
        sys.argv = before[0]
        os.environ.pop("HYDRA_FULL_ERROR")
        if before[1] is not None:
            os.environ["HYDRA_FULL_ERROR"] = before[1]
    return max(statuses)


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


def _task(job: Callable[[dict[str, Any]], int | None], statuses: list[int]) -> Callable[[DictConfig], None]:
    """The function that Hydra calls for each job."""

    def task(config: DictConfig) -> None:
        try:
            statuses.append(job(_plain_settings(config)) or 0)
        except UserError as error:
            print(f"harness: {error}", file=sys.stderr)
            statuses.append(2)

    return task


def _plain_settings(config: DictConfig) -> dict[str, Any]:
    """The configuration as ``Plan.of`` takes it."""
    settings = OmegaConf.to_container(config, resolve=True)
    settings.pop("experiment", None)
    settings |= {group: _with_bridged_names(chosen) for group, chosen in settings.items() if group in REGISTRIES}
    return settings | {"metric": _with_shared(settings.get("metric"))}


def _with_shared(metrics: Any) -> Any:
    """The metrics without the section ``shared``; its values are added to each metric that has the option and no value.

    Registered metrics have them already, since their defaults are references (``_own_or_shared``). Here metrics under
    a label of the user's get them, whose section lists only what the user set. An option whose default is None follows
    the explainer, and takes no shared value. Raises UserError for an option that no chosen metric has.
    """
    if not isinstance(metrics, Mapping) or SHARED not in metrics:
        return metrics
    chosen = {label: options for label, options in metrics.items() if label != SHARED}
    shared = metrics[SHARED] or {}
    if not isinstance(shared, Mapping):
        raise UserError(f"metric.{SHARED} is {shared!r}, expected a mapping of options to values")
    known: set[str] = set()
    for label, options in chosen.items():
        if options is not None and not isinstance(options, Mapping):
            continue  # Plan.of raises the error
        options = options or {}
        entry = METRICS.resolve(options.get("name", label))
        known |= {option for option, default in entry.options.items() if default is not None}
        chosen[label] = {n: value for n, value in shared.items() if entry.options.get(n) is not None} | dict(options)
    for name in shared:
        if name not in known:
            raise unknown(f"option of the chosen metrics in metric.{SHARED}", name, known)
    return chosen


def _own_or_shared(metric: str, option: str, *, _root_: DictConfig) -> Any:
    """The value of a metric's option that the user does not set: that of ``metric.shared``, or else the default."""
    shared, default = OmegaConf.select(_root_, f"metric.{SHARED}"), METRICS[metric].options[option]
    if default is not None and isinstance(shared, DictConfig) and option in shared:
        return shared[option]
    return list(default) if isinstance(default, tuple) else default  # a list, as a file or the user would write it


# On import, since a launcher may run the task in another process, which imports this module and calls nothing else.
OmegaConf.register_new_resolver("own_or_shared", _own_or_shared, replace=True)


def _with_bridged_names(chosen: Any) -> Any:
    """The choices with ``quantus.IROF`` as one name: Hydra reads the dot as a step into a section."""
    if not isinstance(chosen, dict):
        return chosen
    joined = dict(chosen)
    for prefix in {name.partition(".")[0] for name in METRICS.bridged()} & joined.keys():
        joined |= {f"{prefix}.{name}": options for name, options in (joined.pop(prefix) or {}).items()}
    return joined


def _offer_registry() -> None:
    """Make every registered name a choice in its config group, with its options and their defaults."""
    store = ConfigStore.instance()
    for name, entry in EXPLAINERS.items():
        store.store(group="explainer", name=name, node={name: dict(entry.options)})
    for name, entry in METRICS.items():
        switch = {OVER: None} if standard_choices(entry) else {}
        store.store(group="metric", name=name, node={name: {**_looked_up(name, entry.options), **switch}})
    for name in METRICS.bridged():
        prefix, _, rest = name.partition(".")
        store.store(group="metric", name=name, node={prefix: {rest: _looked_up(name, _bridged_options(name))}})
    for group, registry in (("model", MODELS), ("dataset", DATASETS)):
        for name, entry in registry.items():
            store.store(group=group, name=name, node={"name": name, **entry.options})


def _looked_up(metric: str, options: Mapping[str, Any]) -> dict[str, str]:
    """For each option a reference that gives its value when it is read; a value that the user sets replaces it."""
    return {option: f"${{own_or_shared:{metric},{option}}}" for option in options}


def _bridged_options(name: str) -> dict[str, Any]:
    """The options of another library's metric; none where the library is not installed: choosing it is an error."""
    try:
        return dict(METRICS[name].options)
    except UserError:
        return {}


def _hydra_mistake(error: Exception, arguments: Sequence[str]) -> UserError:
    """The error for a misspelt choice or setting with the nearest names; for others Hydra's text on one line."""
    text = " ".join(str(error).split())
    choice = re.search(r"Could not (?:find|load) '(\w+)/([^']*)'", text)
    if choice and choice[1] in CONFIG_GROUPS:
        group = choice[1]
        return unknown(group, choice[2], _choices_of(group), f"harness list {group}s")
    setting = re.search(r"Could not override '([\w.]+)'", text)
    known, listing = _known_settings(setting[1], arguments) if setting else ([], "")
    if known:
        return unknown("setting", setting[1], known, listing)
    cause = " ".join(str(error.__cause__ or "").split())
    return UserError(text if cause in text else f"{text} {cause}")


def _choices_of(group: str) -> list[str]:
    """What can be chosen in a config group: registered names and the files of the group."""
    names = {*REGISTRIES[group], *REGISTRIES[group].bridged()} if group in REGISTRIES else set()
    return sorted({*names, *group_files(group)})


def _known_settings(path: str, arguments: Sequence[str]) -> tuple[list[str], str]:
    """The settings beside a misspelt one, in full, and the command that lists them; none in an unknown section."""
    section, _, rest = path.partition(".")
    if section in SETTINGS:
        return [f"{section}.{name}" for name in SETTINGS[section].__dataclass_fields__], "harness run --help"
    if section in ("model", "dataset"):
        chosen = [each.partition("=")[2] for each in arguments if each.startswith(f"{section}=")]
        names, prefix = chosen[-1:], section
    else:  # an item of ours, or of another library as quantus.X
        names = [rest.partition(".")[0], rest.rpartition(".")[0]]
        prefix = f"{section}.{{}}"
    for name in names:
        if section in REGISTRIES and name in REGISTRIES[section]:
            options = [f"{prefix.format(name)}.{option}" for option in REGISTRIES[section][name].options]
            return options, f"harness list {section}s {name}"
    return [], ""
