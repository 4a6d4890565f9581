"""The sections of the configuration and their settings, known without importing what uses them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import conf
from harness.registry import ABOUT_MODELS

CONFIG_GROUPS = ("model", "dataset", "explainer", "metric", "protocol", "runtime", "launcher", "experiment")
ITEM_GROUPS = ("model", "dataset", "explainer", "metric")
LABELLED_GROUPS = ("explainer", "metric")  # several items each, by label
SETTING_GROUPS = ("protocol", "runtime")
OTHER_GROUP_NAMES = {
    **{f"{name}s": name for name in CONFIG_GROUPS},
    **dict.fromkeys(("data", "set", "data_set"), "dataset"),
    **dict.fromkeys(("net", "network"), "model"),
    **dict.fromkeys(("method", "methods", "attribution", "xai"), "explainer"),
    **dict.fromkeys(("score", "scores", "measure", "measures"), "metric"),
    **dict.fromkeys(("exp", "preset"), "experiment"),
}


def setting_names(section: str, choice: str = "default") -> list[str]:
    """The names of the settings of protocol or runtime, or of a launcher (``choice``), in their order."""
    (path,) = (Path(root, section, f"{choice}.yaml") for root in conf.__path__)
    return re.findall(r"^(\w+):", path.read_text(encoding="utf-8"), flags=re.M)


def section_of_one(group: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The section of the model or the data set ``name``: its label, its options, and the settings of every model."""
    beside = ("label", *ABOUT_MODELS) if group == "model" else ("label",)
    return {"name": name, **dict.fromkeys(beside), **options}


def full_setting(name: str) -> str | None:
    """Where a name without section belongs: a group, or a setting of protocol or runtime; None if it is neither."""
    if name in (*CONFIG_GROUPS, "run"):
        return name
    if name in OTHER_GROUP_NAMES:
        return OTHER_GROUP_NAMES[name]
    return next((f"{section}.{name}" for section in SETTING_GROUPS if name in setting_names(section)), None)
