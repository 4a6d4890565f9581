"""What a block's numbers depend on and how to reproduce them: command, code, devices, libraries, settings."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS
from harness.results.frames import configured
from harness.results.report.blocks import ReportBlock, protocol_text
from harness.results.report.elements import folded, note
from harness.results.report.markup import Raw, tag
from harness.results.report.overrides import Unwritable, override_key, override_value, shell_word
from harness.results.run_files import RunFiles, name_damage
from harness.seals import Damaged

SIMPLE_LABEL = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)  # a label that can be a step of an override's path


def command(block: ReportBlock) -> str:
    """A command that asks for the block's cells again: its choices, with every option that differs from the default.

    Options that no override can hold are left out, and named by ``unwritten``.
    """
    parts = [f"run={override_value(block.run)}", *_overrides(block)[0]]
    return " ".join(["harness run", *map(shell_word, parts)])


def unwritten(block: ReportBlock) -> list[str]:
    """The options that the command cannot hold, and why."""
    return _overrides(block)[1]


def _overrides(block: ReportBlock) -> tuple[list[str], list[str]]:
    """The overrides that give the block's configuration, and the options that none can give."""
    first, left_out = block.cells.iloc[0]["config"], []
    parts: list[str] = []
    for group in ("model", "dataset"):
        config = configured(first, group)
        parts.append(f"{group}={override_value(config.get('name', '?'))}")
        parts += _written(group, _configured_options(group, config), left_out)
    for group in ("explainer", "metric"):
        parts += _several(group, block, left_out)
    parts += _written("protocol", configured(first, "protocol"), left_out)
    return parts, left_out


def _several(group: str, block: ReportBlock, left_out: list[str]) -> list[str]:
    """Explainers or metrics: those whose label is their name as choices, others as items with a name."""
    configs = {row[group]: configured(row["config"], group) for row in block.cells.to_dict("records")}
    named = [label for label, config in configs.items() if config.get("name", label) == label]
    parts = [f"{group}={override_value(named)}" if named else f"~{group}"]
    for label, config in configs.items():
        options = _configured_options(group, config)
        if label in named:
            parts += _written(f"{group}.{label}", options, left_out)
            continue
        item = f"{{{','.join(_mapping_texts({'name': config.get('name'), **options}, f'{group} {label}', left_out))}}}"
        step = SIMPLE_LABEL.fullmatch(label)
        parts.append(f"+{group}.{label}={item}" if step else f"+{group}={{{_label_key(label)}:{item}}}")
    return parts


def _label_key(label: str) -> str:
    """A label as a key; where no key can hold it another one, for cells do not depend on what an item is called."""
    try:
        return override_key(label)
    except Unwritable:
        return re.sub(r"\W+", "_", f"_{label}", flags=re.ASCII)


def _written(path: str, options: Mapping[str, Any], left_out: list[str]) -> list[str]:
    return [f"{path}.{name}={text}" for name, text in _override_texts(options, path, left_out)]


def _mapping_texts(options: Mapping[str, Any], path: str, left_out: list[str]) -> list[str]:
    return [f"{name}:{text}" for name, text in _override_texts(options, path, left_out)]


def _override_texts(options: Mapping[str, Any], path: str, left_out: list[str]) -> Iterator[tuple[str, str]]:
    """Options with their values as overrides hold them; what none can hold is named in ``left_out``."""
    for name, value in options.items():
        try:
            yield name, override_value(value)
        except Unwritable as error:
            left_out.append(f"{path}.{name}: {error}")


def _configured_options(group: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a choice that are not the registered defaults; all of them where no defaults are known."""
    registry = {"model": MODELS, "dataset": DATASETS, "explainer": EXPLAINERS, "metric": METRICS}[group]
    missing = object()
    try:
        defaults = registry[config.get("name")].options
    except UserError:  # not registered, or of a library that is not installed here
        defaults = {}
    own = {key: value for key, value in config.items() if key != "name"}
    return {key: value for key, value in own.items() if not _same_value(defaults.get(key, missing), value)}


def _same_value(default: Any, value: Any) -> bool:
    """Whether a value read from JSON is the default: 1 is not ``true``; a tuple was written as a list."""
    default = list(default) if isinstance(default, tuple) else default
    return default == value and isinstance(default, bool) == isinstance(value, bool)


def origin_facts(block: ReportBlock) -> list[tuple[str, str]]:
    """Names and values of what the numbers depend on."""
    cells = block.cells
    several = lambda name: ", ".join(dict.fromkeys(str(v) for v in cells[name].dropna() if str(v))) or "not known"
    dirty = set(cells["dirty"].dropna())
    state = "with uncommitted changes" if True in dirty else "clean" if dirty else "state not known"
    commit = several("commit")
    return [
        ("run", block.run),
        ("protocol", protocol_text(block)),
        ("commit", f"{commit}, {state}" if commit != "not known" else commit),
        ("code version of the measurement (stick)", several("stick")),
        ("code and weights that were measured (subject)", _first_few(several("subject"))),
        ("device", several("device")),
        ("torch", several("torch")),
        ("scoring batch", several("batch_size")),
        ("measured", _measured_when(cells)),
        ("missing scores", _missing_scores(cells)),
        *_environments(block),
    ]


def _first_few(text: str, most: int = 4) -> str:
    parts = text.split(", ")
    return text if len(parts) <= most else f"{', '.join(parts[:most])} and {len(parts) - most} more"


def _missing_scores(cells) -> str:
    ok = cells["status"] == "ok"
    if ok.all() and not cells["n_invalid"].fillna(0).any():
        return "none: every cell was measured, and every sample has a score"
    return f"{int((~ok).sum())} of {len(cells)} cells, and samples of {int((cells['n_invalid'] > 0).sum())} others"


def _measured_when(cells) -> str:
    times = sorted(str(time) for time in cells["finished"].dropna())
    if not times:
        return "not known"
    first, last = (time[:19].replace("T", " ") for time in (times[0], times[-1]))
    return f"{first} to {last} UTC"


def _environments(block: ReportBlock) -> list[tuple[str, str]]:
    found = []
    for name in dict.fromkeys(block.cells["environment"].dropna()):
        path = block.directory / "environment" / f"{name}.json"
        if re.fullmatch(r"\w+", str(name)) and path.exists():
            facts = _environment_facts(block.directory, path)
            found += [(key, _in_one_line(value)) for key, value in facts.items() if key != "device"]
    return list(dict.fromkeys(found))


def _environment_facts(run: Path, path: Path) -> dict[str, Any]:
    try:
        found = RunFiles(run).text(path)
    except Damaged as error:
        name_damage(path, error, "what it says of the machine is not shown")
        return {"environment": f"{path.name} cannot be read"}
    return found if isinstance(found, dict) else {}


def _in_one_line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_one_line(each)}" for key, each in value.items()) or "none"
    return str(value)


def origin_part(block: ReportBlock) -> Raw:
    """The command, the facts and, folded, every option."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in origin_facts(block)]
    options = {
        group: {row[group]: configured(row["config"], group) for row in block.cells.to_dict("records")}
        for group in ("model", "dataset", "explainer", "metric")
    }
    text = json.dumps(options, indent=1, default=str, ensure_ascii=False)
    copy = tag("button", "Copy", type="button", class_="copy", data_copy=f"command-{block.key}")
    lacking = unwritten(block)
    beyond = f"No command line can hold these options, which Every option shows: {'; '.join(lacking)}."
    return tag(
        "div",
        tag("p", "This command measures the same cells:"),
        tag("div", tag("pre", tag("code", command(block), id=f"command-{block.key}")), copy, class_="command"),
        note(beyond) if lacking else "",
        tag("dl", rows, class_="facts"),
        folded("Every option", tag("pre", text)),
    )
