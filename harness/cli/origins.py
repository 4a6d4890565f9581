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
        return {path for argument in HydraConfig.get().overrides.task for path in typed_paths(argument)}

    @cached_property
    def _in_own_files(self) -> set[str]:
        """What the user's files among those of this job set."""
        hydra, sources = HydraConfig.get(), _sources()
        overrides = [*hydra.overrides.hydra, *hydra.overrides.task]
        loader, found = GlobalHydra.instance().config_loader(), set[str]()
        for each in loader.compute_defaults_list(hydra.job.config_name, overrides, RunMode.RUN).defaults:
            path = str(each.config_path)
            source = next((source for source in sources if source.is_config(path)), None)
            if source is not None and _is_the_users(source):
                content = OmegaConf.to_container(source.load_config(path).config, resolve=False)
                found |= set(_paths(each.package or "", content))
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
