"""What a block's numbers depend on and how to get them again: command, code, devices, libraries, settings."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

from harness.errors import printable
from harness.results.frames import configured
from harness.results.report.blocks import ReportBlock, protocol_text
from harness.results.report.elements import folded
from harness.results.report.markup import Raw, tag

LEFT_OUT = ("name",)


def command(block: ReportBlock) -> str:
    """A command that asks for the block's cells again: its choices, with every option that differs from the default."""
    first = block.cells.iloc[0]["config"]
    parts = [f"run={block.run}"]
    for group in ("model", "dataset"):
        parts += _single(group, configured(first, group))
    for group, column in (("explainer", "explainer"), ("metric", "metric")):
        parts += _several(group, block, column)
    parts += [f"protocol.{name}={_text(value)}" for name, value in configured(first, "protocol").items()]
    return " ".join(["harness run", *(shlex.quote(printable(part)) for part in parts)])


def _single(group: str, config: dict[str, Any]) -> list[str]:
    name = config.get("name", "?")
    return [f"{group}={name}"] + [f"{group}.{key}={_text(value)}" for key, value in _options(group, config).items()]


def _several(group: str, block: ReportBlock, column: str) -> list[str]:
    configs = {row[column]: configured(row["config"], group) for row in block.cells.to_dict("records")}
    plain = [label for label, config in configs.items() if config.get("name", label) == label]
    parts = [f"{group}=[{','.join(plain)}]"]
    for label, config in configs.items():
        options = _options(group, config)
        if label in plain:
            parts += [f"{group}.{label}.{key}={_text(value)}" for key, value in options.items()]
        else:
            whole = {"name": config.get("name"), **options}
            parts.append(f"+{group}.{_text(label)}={{{','.join(f'{k}:{_text(v)}' for k, v in whole.items())}}}")
    return parts


def _options(group: str, config: dict[str, Any]) -> dict[str, Any]:
    """The options of a choice that are not the registered defaults; all of them where it is not registered."""
    from harness import registry

    entries = {
        "model": registry.MODELS,
        "dataset": registry.DATASETS,
        "explainer": registry.EXPLAINERS,
        "metric": registry.METRICS,
    }[group]
    name = config.get("name")
    defaults = entries[name].options if name in entries else {}
    missing = object()
    return {key: value for key, value in config.items() if key not in LEFT_OUT and defaults.get(key, missing) != value}


def _text(value: Any) -> str:
    """A value as the command line takes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value)
    return text if re.fullmatch(r"[\w.+-]+", text) else json.dumps(text)


def facts(block: ReportBlock) -> list[tuple[str, str]]:
    """Name and value of what the numbers depend on."""
    cells = block.cells
    several = lambda name: ", ".join(dict.fromkeys(str(v) for v in cells[name].dropna() if str(v))) or "not known"
    dirty = set(cells["dirty"].dropna())
    state = "with changes that are not committed" if True in dirty else "clean" if dirty else "state not known"
    commit = several("commit")
    return [
        ("run", block.run),
        ("protocol", protocol_text(block)),
        ("commit", f"{commit}, {state}" if commit != "not known" else commit),
        ("measuring code (stick)", several("stick")),
        ("measured code and weights (subject)", _few(several("subject"))),
        ("device", several("device")),
        ("torch", several("torch")),
        ("scoring batch", several("batch_size")),
        ("measured", _when(cells)),
        *_environments(block),
    ]


def _few(text: str, most: int = 4) -> str:
    parts = text.split(", ")
    return text if len(parts) <= most else f"{', '.join(parts[:most])} and {len(parts) - most} more"


def _when(cells) -> str:
    times = sorted(str(time) for time in cells["finished"].dropna())
    if not times:
        return "not known"
    first, last = (time[:19].replace("T", " ") for time in (times[0], times[-1]))
    return f"{first} to {last} UTC"


def _environments(block: ReportBlock) -> list[tuple[str, str]]:
    found = []
    for name in dict.fromkeys(block.cells["environment"].dropna()):
        path = block.directory / "environment" / f"{name}.json"
        if re.fullmatch(r"\w+", str(name)) and path.is_file():
            found += [(key, _flat(value)) for key, value in _read(path).items() if key != "device"]
    return list(dict.fromkeys(found))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"environment": f"{path.name} cannot be read"}
    return found if isinstance(found, dict) else {}


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(each)}" for key, each in value.items()) or "none"
    return str(value)


def origin_part(block: ReportBlock) -> Raw:
    """The command, the facts and, folded, every option."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts(block)]
    options = {
        group: {row[group]: configured(row["config"], group) for row in block.cells.to_dict("records")}
        for group in ("model", "dataset", "explainer", "metric")
    }
    text = json.dumps(options, indent=1, default=str, ensure_ascii=False)
    copy = tag("button", "Copy", type="button", class_="copy", data_copy=f"command-{block.key}")
    return tag(
        "div",
        tag("p", "This command measures the same cells:"),
        tag("div", tag("pre", tag("code", command(block), id=f"command-{block.key}")), copy, class_="command"),
        tag("dl", rows, class_="facts"),
        folded("Every option", tag("pre", text)),
    )
