"""Which cells the blocks of a run have, from the configurations in it, or from what its processes have announced.

A cell is known here by its settings as text, and not by the hash of them: nothing that measures is imported.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import printable
from harness.places import MOST_SHARDS
from harness.results.run_files import RunFiles
from harness.results.store import plain
from harness.seals import Damaged

SUFFIX = ".own"  # of the file beside a configuration that every command writes anew
TENSOR = "tensor"
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
    announced   cells that processes have announced, which are no cells of the configuration -> labels
    """

    block: str
    labels: tuple[str, str]
    protocol: Mapping[str, Any]
    explainers: Mapping[str, str]
    metrics: Mapping[str, str]
    shards: int = 1
    used: float = 0.0
    announced: Mapping[CellPair, tuple[str, str]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Model and data set."""
        return " on ".join(self.labels)

    @property
    def in_rounds(self) -> bool:
        """Whether samples are measured in growing rounds."""
        return bool(self.protocol.get("precision"))

    @cached_property
    def pairs(self) -> dict[CellPair, tuple[str, str]]:
        """The cells of the block, with the labels of explainer and metric."""
        planned = {
            CellPair(explainer, metric): (of_explainer, of_metric)
            for explainer, of_explainer in self.explainers.items()
            for metric, of_metric in self.metrics.items()
        }
        return {**self.announced, **planned}


def settings_of_cell(config: Any) -> CellSettings | None:
    """The settings in the ``config`` of a row; None if it does not tell them."""
    config = _parsed_text(config) if isinstance(config, str) else config
    names = ("model", "dataset", "protocol", "explainer", "metric")
    if not isinstance(config, Mapping) or not all(isinstance(config.get(name), Mapping) for name in names):
        return None
    *block, explainer, metric = (_as_text(config[name]) for name in names)
    return CellSettings("\n".join(block), CellPair(explainer, metric))


def plan_in(run: Path, path: Path) -> BlockPlan | None:
    """The block in a file of the folder ``config`` of a run, shard or round; None where it is damaged or no block."""
    try:
        config, used = RunFiles(run).text(path), max(map(_changed, (path, path.with_name(path.name + SUFFIX))))
        model, dataset, protocol = (dict(config[name]) for name in ("model", "dataset", "protocol"))
        labels = printable(model.pop("label")), printable(dataset.pop("label"))
        explainers, metrics = (_settings_to_label(config[name]) for name in ("explainer", "metric"))
        shards = (config.get("runtime") or {}).get("shards")
    except (Damaged, KeyError, TypeError, ValueError, AttributeError):
        return None
    cut = isinstance(shards, int) and 1 < shards <= MOST_SHARDS
    block = "\n".join(_as_text(plain(each)) for each in (model, dataset, protocol))
    return BlockPlan(block, labels, protocol, explainers, metrics, int(shards) if cut else 1, used)


def newest_plans(plans: Iterable[BlockPlan]) -> dict[str, BlockPlan]:
    """The plan of each block that was used last, in the order in which the blocks were used."""
    in_order = sorted(plans, key=lambda plan: plan.used)
    newest = {plan.block: plan for plan in in_order}
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
    return replace(plan, announced={**plan.announced, **announced})


def titles_of(plans: Iterable[BlockPlan]) -> dict[str, str]:
    """The title of each block; those of the same model and data set are followed by what differs in their protocols."""
    plans, found = list(plans), {}
    for plan in plans:
        alike = [each.protocol for each in plans if each.title == plan.title]
        names = sorted({name for protocol in alike for name in protocol})
        differing = [name for name in names if any(each.get(name) != plan.protocol.get(name) for each in alike)]
        told = ", ".join(printable(f"{name}={plan.protocol[name]}") for name in differing if name in plan.protocol)
        found[plan.block] = f"{plan.title} ({told})" if told else plan.title
    return found


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


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
