"""Which cells the blocks of a run have, from the configurations in it, or from what its processes have announced.

A cell is known here by its settings as text, and not by the hash of them: nothing that measures is imported.
"""

import json
import math
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import printable
from harness.places import JOBS, MOST_SHARDS, TIME_OF_LAUNCH
from harness.results.run_files import RunFiles, check_sound
from harness.results.store import plain
from harness.seals import Damaged

SUFFIX = ".own"  # of the file beside a configuration that every command writes anew
TENSOR = "tensor"
MOST_BYTES = 1 << 24  # of a configuration
ENCODER = json.JSONEncoder(sort_keys=True)


class CellPair(NamedTuple):
    """The explainer and the metric of a cell: their settings as text."""

    explainer: str
    metric: str


class CellSettings(NamedTuple):
    """A cell by its settings: ``block`` is the text of those of model, data set and protocol."""

    block: str
    pair: CellPair


@dataclass(frozen=True)
class BlockPlan:
    """One block: a model on a data set under a protocol.

    block       the settings of model, data set and protocol as text
    labels      the labels of model and data set
    protocol    the settings of the protocol
    explainers  settings as text -> label
    metrics     the same
    shards      the number of parts into which its samples are cut; 1 if they are not
    used        when a command has last used this configuration, in seconds since 1970
    written     when its file was written, which is done once
    further     further cells of the block -> labels: those of other configurations, and those that were announced
    """

    block: str
    labels: tuple[str, str]
    protocol: Mapping[str, Any]
    explainers: Mapping[str, str]
    metrics: Mapping[str, str]
    shards: int = 1
    used: float = 0.0
    written: float = 0.0
    further: Mapping[CellPair, tuple[str, str]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Model and data set."""
        return " on ".join(self.labels)

    @property
    def in_rounds(self) -> bool:
        """Whether samples are measured in growing rounds."""
        return bool(self.protocol.get("precision") or self.protocol.get("apart"))

    @cached_property
    def pairs(self) -> dict[CellPair, tuple[str, str]]:
        """The cells of the block, with the labels of explainer and metric."""
        planned = {
            CellPair(explainer, metric): (of_explainer, of_metric)
            for explainer, of_explainer in self.explainers.items()
            for metric, of_metric in self.metrics.items()
        }
        return {**self.further, **planned}


@dataclass(frozen=True)
class LaunchTimes:
    """When a launcher was started, and a time when it ``had_written`` all configurations (seconds since 1970)."""

    began: float
    had_written: float

    def wrote(self, plan: BlockPlan) -> bool:
        """Whether a configuration is one of the launch, as far as times tell.

        The launcher uses those of all its jobs before the first job begins. One that was first written later is of
        another command, or has the cells of a job under other labels.
        """
        return plan.used >= self.began and plan.written <= self.had_written


def newest_launch(run: Path) -> LaunchTimes | None:
    """The last launch into a run; None if there was none.

    A launcher makes a folder in ``jobs``, named by the time in UTC, then it writes the configurations, and then each
    job makes its log in that folder (in that of the first of several runs).
    """
    launches = {path: began for path in (run / JOBS).glob("*") if (began := _time_in_name(path)) is not None}
    if not launches:
        return None
    newest = max(launches, key=lambda path: path.name)
    # The name is by the clock of the launcher's machine. Files have the clock of the configurations,
    # but the folder changes once more when somebody removes an old launch.
    began = min(launches[newest], _changed(run / JOBS))
    logs = [changed for path in newest.glob("*.log") if (changed := _changed(path))]
    return LaunchTimes(began, min(logs, default=math.inf))


def settings_of_cell(config: Any) -> CellSettings | None:
    """The settings in the ``config`` of a row; None if it does not tell them."""
    config = _parsed_text(config) if isinstance(config, str) else config
    names = ("model", "dataset", "protocol", "explainer", "metric")
    if not isinstance(config, Mapping) or not all(isinstance(config.get(name), Mapping) for name in names):
        return None
    try:
        check_sound(config)
    except Damaged:
        return None
    *block, explainer, metric = (_as_text(config[name]) for name in names)
    return CellSettings("\n".join(block), CellPair(explainer, metric))


def plan_in(run: Path, path: Path) -> BlockPlan | None:
    """The block in a file of the folder ``config`` of a run, shard or round; None where it is damaged or no block."""
    return read_plan(RunFiles(run), path)


def read_plan(files: RunFiles, path: Path) -> BlockPlan | None:
    """What ``plan_in`` gives, for one of several files of the same run."""
    if not _is_readable(path):
        return None
    try:
        config, (written, marked) = files.text(path), times_of_plan(path)
        model, dataset, protocol = (dict(config[name]) for name in ("model", "dataset", "protocol"))
        labels = printable(model.pop("label")), printable(dataset.pop("label"))
        explainers, metrics = (_settings_to_label(config[name]) for name in ("explainer", "metric"))
        shards = (config.get("runtime") or {}).get("shards")
    except (Damaged, KeyError, TypeError, ValueError, AttributeError):
        return None
    cut = isinstance(shards, int) and 1 < shards <= MOST_SHARDS
    block = "\n".join(_as_text(plain(each)) for each in (model, dataset, protocol))
    times = max(written, marked), written
    return BlockPlan(block, labels, protocol, explainers, metrics, int(shards) if cut else 1, *times)


def times_of_plan(path: Path) -> tuple[float, float]:
    """When the file of a configuration, and the mark beside it, were written (seconds since 1970; 0 without one)."""
    return _changed(path), _changed(path.with_name(path.name + SUFFIX))


def newest_plans(plans: Iterable[BlockPlan], launch: LaunchTimes | None = None) -> dict[str, BlockPlan]:
    """The plan of each block that was used last, in the order in which the blocks were used.

    With a ``launch``, it has also the cells of the other configurations that the launch has written for the block: each
    job has one, and those of a sweep over explainers or metrics are of one block.
    """
    in_order = sorted(plans, key=lambda plan: plan.used)
    newest, further = {plan.block: plan for plan in in_order}, defaultdict[str, dict](dict)
    for plan in in_order:
        if launch is not None and plan is not newest[plan.block] and launch.wrote(plan):
            further[plan.block] |= plan.pairs
    newest |= {block: replace(newest[block], further=cells) for block, cells in further.items()}
    return dict(sorted(newest.items(), key=lambda item: item[1].used))


def with_announced(
    plan: BlockPlan | None,
    block: str,
    labels: tuple[str, str],
    announced: Mapping[CellPair, tuple[str, str]],
    shards: int,
) -> BlockPlan:
    """The plan of a block with the cells that a process has announced; without a plan these are all that is known."""
    if plan is None:
        protocol = _parsed_text(block.rpartition("\n")[2])
        plan = BlockPlan(block, labels, protocol if isinstance(protocol, dict) else {}, {}, {}, shards)
    return replace(plan, further={**plan.further, **announced})


def titles_of(plans: Iterable[BlockPlan]) -> dict[str, str]:
    """The title of each block; those of the same model and data set are followed by what differs in their protocols."""
    by_title = defaultdict[str, list[BlockPlan]](list)
    for plan in plans:
        by_title[plan.title].append(plan)
    found = {}
    for title, alike in by_title.items():
        differing = _differing_names([plan.protocol for plan in alike])
        for plan in alike:
            told = ", ".join(printable(f"{name}={plan.protocol[name]}") for name in differing if name in plan.protocol)
            found[plan.block] = f"{title} ({told})" if told else title
    return found


def _differing_names(protocols: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that are not the same in all protocols."""
    names, first = sorted({name for protocol in protocols for name in protocol}), protocols[0]
    return [name for name in names if any(protocol.get(name) != first.get(name) for protocol in protocols)]


def _settings_to_label(items: Mapping[str, Any]) -> dict[str, str]:
    return {_as_text(plain(dict(settings))): printable(label) for label, settings in items.items()}


def _as_text(settings: Any) -> str:
    text = ENCODER.encode(settings)
    return ENCODER.encode(_comparable(settings)) if TENSOR in text else text


def _comparable(value: Any) -> Any:
    """Settings without the content of tensors, of which a configuration has the text and a row the hash."""
    if isinstance(value, dict):
        return TENSOR if value.keys() == {TENSOR} else {name: _comparable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_comparable(each) for each in value]
    return TENSOR if isinstance(value, str) and value.startswith(f"{TENSOR}(") else value


def _parsed_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_readable(path: Path) -> bool:
    """Whether it is a file of a size that a configuration can have: a pipe or a device would be read without end."""
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= MOST_BYTES


def _time_in_name(path: Path) -> float | None:
    """The time that is the name of a launch's folder, in seconds since 1970; None for another name."""
    try:
        return datetime.strptime(path.name, TIME_OF_LAUNCH).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
