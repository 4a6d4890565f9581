"""The only module that knows Hydra: composes configurations and sweeps over them."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.errors import UserError
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS


def for_each_job(arguments: Sequence[str], job: Callable[[dict[str, Any]], None]) -> None:
    """Compose the configuration that command-line ``arguments`` describe, and call ``job`` with it as plain values.

    With ``-m`` the job is called for every combination of a sweep, by Hydra's launcher. Raises UserError, in one line,
    for anything Hydra does not understand.
    """
    _offer_registry()
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["harness", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us as exceptions instead of Hydra's own report and exit
    try:
        hydra.main(version_base="1.3", config_path="pkg://harness.conf", config_name="config")(_plain(job))()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_in_one_line(error)) from None
    finally:
        sys.argv = before[0]
        os.environ.pop("HYDRA_FULL_ERROR")
        if before[1] is not None:
            os.environ["HYDRA_FULL_ERROR"] = before[1]


def _plain(job: Callable[[dict[str, Any]], None]) -> Callable[[DictConfig], None]:
    def task(config: DictConfig) -> None:
        settings = OmegaConf.to_container(config, resolve=True)
        settings.pop("experiment", None)
        job(settings)

    return task


def _offer_registry() -> None:
    """Make every registered name a choice in its config group, with its options and their defaults."""
    store = ConfigStore.instance()
    for group, registry in (("explainer", EXPLAINERS), ("metric", METRICS)):
        for name, entry in registry.items():
            store.store(group=group, name=name, node={name: dict(entry.options)})
    for group, registry in (("model", MODELS), ("dataset", DATASETS)):
        for name, entry in registry.items():
            store.store(group=group, name=name, node={"name": name, **entry.options})


def _in_one_line(error: Exception) -> str:
    """Hydra's message without its line breaks and its hints for programmers."""
    lines = [line.strip() for line in str(error).splitlines()]
    useful = [line for line in lines if line and not line.startswith(("Config search path", "set hydra.searchpath", "provider=", "full_key", "object_type"))]
    cause = error.__cause__
    if cause is not None and str(cause).splitlines()[0] not in useful:
        useful.append(str(cause).splitlines()[0])
    return " ".join(useful)
