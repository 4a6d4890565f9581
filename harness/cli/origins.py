"""Where the values of a composed configuration come from: this package, the user's files or the command line."""

from collections.abc import Iterator, Mapping
from enum import IntEnum
from functools import cached_property
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import ChoiceSweep
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import OmegaConf

from harness.cli.override_text import parsed_overrides

OWN_PACKAGE = "harness.conf"


class Origin(IntEnum):
    """Who set a value; the later one overrides."""

    PACKAGE = 0
    FILE = 1  # of the user's
    TYPED = 2


class Origins:
    """The origin of each value of the job that Hydra runs now; found out when it is first asked for."""

    def __call__(self, path: str) -> Origin:
        """Who set the value at a path, such as ``metric.infidelity.draws``, last."""
        if path in self._typed:
            return Origin.TYPED
        return Origin.FILE if path in self._in_own_files else Origin.PACKAGE

    @cached_property
    def _typed(self) -> set[str]:
        return {path for argument in self._overrides for path in typed_paths(argument)}

    def is_chosen(self, group: str, label: str) -> bool:
        """Whether a label comes from the files of its group, so from what was chosen there, or was added with a +.

        Otherwise an experiment alone names it, as it sets options of the items of its own choice.
        """
        path = f"{group}.{label}"
        return path in self._in_group_files or path in self._added

    def option_typed(self, group: str, label: str) -> str | None:
        """The argument that sets an option of a label, as it was typed; None where there is none."""
        return next((each for each in self._overrides if each.startswith(f"{group}.{label}.")), None)

    @cached_property
    def _added(self) -> set[str]:
        return {path for each in self._overrides if each.startswith("+") for path in typed_paths(each)}

    @property
    def _overrides(self) -> list[str]:
        return list(HydraConfig.get().overrides.task)

    @cached_property
    def _in_own_files(self) -> set[str]:
        """What the user's files among those of this job set."""
        return {path for *_, source, paths in self._files if _is_the_users(source) for path in paths}

    @cached_property
    def _in_group_files(self) -> set[str]:
        """What files of groups set; those of experiments are left out."""
        return {path for file, _, paths in self._files if not file.startswith("experiment/") for path in paths}

    @cached_property
    def _files(self) -> list[tuple[str, ConfigSource, list[str]]]:
        """The files of this job: path, source and the paths of the values that each sets."""
        hydra, sources = HydraConfig.get(), _sources()
        overrides = [*hydra.overrides.hydra, *hydra.overrides.task]
        loader, found = GlobalHydra.instance().config_loader(), []
        for each in loader.compute_defaults_list(hydra.job.config_name, overrides, RunMode.RUN).defaults:
            path = str(each.config_path)
            source = next((source for source in sources if source.is_config(path)), None)
            if source is not None:
                content = OmegaConf.to_container(source.load_config(path).config, resolve=False)
                found.append((path, source, list(_paths(each.package or "", content))))
        return found


def _sources() -> list[ConfigSource]:
    """The places of configuration files of the job that runs now, in the order in which Hydra looks there."""
    kinds = {kind.scheme(): kind for kind in Plugins.instance().discover(ConfigSource)}
    listed = HydraConfig.get().runtime.config_sources
    return [kinds[each.schema](each.provider, f"{each.schema}://{each.path}") for each in listed]


def typed_paths(argument: str) -> list[str]:
    """The paths that an argument sets: its key, and the keys of mappings in its value; none for a flag."""
    if argument.startswith("-") or not ("=" in argument or argument.startswith("~")):
        return []
    key = argument.lstrip("~+").partition("=")[0]
    if "{" not in argument:
        return [key]
    values = [override.value() for override in parsed_overrides([argument])]
    each = [one for value in values for one in (value.list if isinstance(value, ChoiceSweep) else [value])]
    return list(dict.fromkeys(path for value in each for path in _paths(key, value)))


def _paths(start: str, value: Any) -> Iterator[str]:
    """A path and all that lie below it."""
    yield start
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _paths(f"{start}.{name}" if start else str(name), inner)


def _is_the_users(source: ConfigSource) -> bool:
    """Whether a source of files is neither this package's nor the store of registered items."""
    return source.scheme() == "file" or (source.scheme() == "pkg" and source.path != OWN_PACKAGE)
