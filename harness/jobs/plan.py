"""The plan of a block: model, data, explainers, metrics and protocol from a configuration, and the block's cells."""

from collections.abc import Mapping, Sized
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.code_version import code_of, measuring_code
from harness.engine.protocol import DTYPES, Protocol
from harness.engine.selection import Cell, Chosen, choose_one, choose_several
from harness.errors import UserError, unknown
from harness.identity import canonical, cell_id, digest, files_of
from harness.jobs.part_rows import check_shards
from harness.jobs.runtime import Runtime
from harness.option_kinds import value_shown
from harness.places import ROUNDS, check_run_name, file_name, shard_folder, user_path
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS

SECTIONS = ("model", "dataset", "explainer", "metric", "protocol", "runtime", "run")
MOST_ATTEMPTS = 2
PENDING = ("new", "stale", "retry")  # the states of cells that are to be measured
LONGEST_BLOCK_NAME = 120  # bytes
CONTROL = "random"
FORM_IN_MIXED_PRECISION = "that of full precision"  # before, it was the model itself


@dataclass
class Plan:
    """One block as it is configured, before a model is loaded.

    already_measured   ids of the cells that a shard or round leaves out, because the whole run has them
    round              the number of the round that is measured (``harness.jobs.sample_rounds``), or None
    outdated           ids of the cells of a part that another part has by other weights: the loaded model decides
    """

    model: Chosen
    dataset: Chosen
    explainers: list[Chosen]
    metrics: list[Chosen]
    protocol: Protocol
    runtime: Runtime = field(default_factory=Runtime)
    run: str = "main"
    already_measured: frozenset[str] = frozenset()
    round: int | None = None
    outdated: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Plan":
        """A plan from a plain nested mapping, as Hydra composes it; UserError for a mistake in it."""
        if not isinstance(config, Mapping):
            raise UserError(f"the configuration is {value_shown(config)}, expected a mapping of {', '.join(SECTIONS)}")
        for name in config:
            if name not in SECTIONS:
                raise unknown("section of the configuration", name, SECTIONS)
        for name in SECTIONS[:4]:
            if config.get(name) is None or (isinstance(config[name], Sized) and not len(config[name])):
                raise UserError(f"the configuration names no {name}, expected {name}=NAME (harness list {name}s)")
        settings = {name: config[name] for name in ("protocol", "runtime") if config.get(name) is not None}
        protocol, runtime = Protocol.of(settings.get("protocol", {})), Runtime.of(settings.get("runtime", {}))
        if protocol.rounds and runtime.shards > 1:
            raise UserError(
                f"protocol.{protocol.rounds} and runtime.shards are both set, expected one: samples are measured in "
                "rounds or in shards"
            )
        if protocol.samples:  # the data set may have fewer, which is known when it is loaded
            check_shards(runtime.shards, protocol.samples, protocol.explain_batch)
        plan = cls(
            choose_one(MODELS, config["model"]),
            choose_one(DATASETS, config["dataset"]),
            choose_several(EXPLAINERS, config["explainer"]),
            choose_several(METRICS, config["metric"]),
            protocol,
            runtime,
            check_run_name("run", str(config.get("run", "main"))),
        )
        if protocol.apart:
            _check_apart(plan)
        return plan

    def with_control(self) -> "Plan":
        """The plan with the control ``random`` as its last explainer, unless it is chosen or switched off.

        What scores no better than random maps explains nothing, so that every comparison needs them.
        """
        if not self.runtime.control or any(each.entry is EXPLAINERS[CONTROL] for each in self.explainers):
            return self
        taken = any(each.label == CONTROL for each in self.explainers)
        control = choose_one(EXPLAINERS, {"name": CONTROL, "label": f"{CONTROL}_control" if taken else CONTROL})
        return replace(self, explainers=[*self.explainers, control])

    @property
    def place(self) -> Path:
        """The run directory as the user has written it, for messages; of a shard or round its folder in it."""
        whole = user_path(self.runtime.runs) / self.run
        if self.round is not None:
            return whole / ROUNDS / str(self.round)
        return whole if self.runtime.shard is None else whole / shard_folder(self.runtime.shard, self.runtime.shards)

    @cached_property
    def directory(self) -> Path:
        """The run directory, absolute: an item may change the working folder."""
        return self.place.absolute()

    @property
    def run_directory(self) -> Path:
        """The directory of the whole run, absolute: that of the plan itself, unless it is a shard or a round."""
        return self.directory.parents[1] if self.is_part else self.directory

    @property
    def is_part(self) -> bool:
        """Whether it is a shard or a round: a run of its own in a folder of the whole run."""
        return self.runtime.shard is not None or self.round is not None

    @property
    def title(self) -> str:
        """The block's title: model and data set."""
        return f"{self.model.label} on {self.dataset.label}"

    @property
    def name(self) -> str:
        """The block's name in file names."""
        protocol = "" if self.protocol == Protocol() else "-" + digest(canonical(self.protocol.identity))[:6]
        return file_name(f"{self.model.label}-{self.dataset.label}", LONGEST_BLOCK_NAME) + protocol

    def identity(self, explainer: Chosen, metric: Chosen) -> dict[str, Any]:
        """All settings that the numbers of a cell depend on."""
        return {
            "model": self.model.identity,
            "dataset": self.dataset.identity,
            "explainer": explainer.identity,
            "metric": metric.identity,
            "protocol": self.protocol.identity,
        }

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells of the block."""
        cells = [Cell(e, m, cell_id(self.identity(e, m))) for e in self.explainers for m in self.metrics]
        return [cell for cell in cells if cell.id not in self.already_measured]

    def stick(self, metric: Chosen) -> str:
        """The code version of the measurement with a metric, stored in the column ``stick``.

        It is a fingerprint of the metric, of the data set with its files, and of the modules that compute scores. In
        mixed precision it has a tag more, since models score on a folded copy, where they did not before.
        """
        if metric not in self._sticks:
            self._sticks[metric] = self._stick_of(metric)
        return self._sticks[metric]

    def _stick_of(self, metric: Chosen) -> str:
        code = code_of(metric.entry.function, self.dataset.entry.function)
        form = [FORM_IN_MIXED_PRECISION] if DTYPES[self.protocol.dtype] else []
        return digest(measuring_code(metric.entry.kind), code, str(metric.entry.version), self._data_files, *form)

    def subject_code(self, explainer: Chosen) -> str:
        """Fingerprint of the code of explainer and model and of the files that they name, without the weights.

        The column ``subject`` holds it, followed by the fingerprint of the weights.
        """
        code = code_of(explainer.entry.function, *self.model.functions)
        return digest(code, self._model_files, self._explainer_files[explainer])

    @cached_property
    def _sticks(self) -> dict[Chosen, str]:
        return {}  # filled as they are asked for: metrics that are not measured need not be there

    @cached_property
    def _data_files(self) -> str:
        return files_of(self.dataset.options)

    @cached_property
    def _explainer_files(self) -> dict[Chosen, str]:
        return {explainer: files_of(explainer.options) for explainer in self.explainers}

    @cached_property
    def _model_files(self) -> str:
        return files_of(self.model.options)

    def state(self, cell: Cell, row: Mapping[str, Any] | None, weights: str | None = None) -> str:
        """``new``, ``done``, ``stale``, ``retry``, ``failed`` or ``not_applicable``, from the cell's last row.

        ``weights`` is the fingerprint of the loaded weights; None if the model is not loaded.
        """
        if row is None:
            return "new"
        if weights is None and cell.id in self.outdated:
            return "stale"
        code, _, row_weights = str(row.get("subject") or "").partition("-")
        same_weights = weights is None or not row_weights or row_weights == weights
        if row.get("stick") != self.stick(cell.metric) or code != self.subject_code(cell.explainer) or not same_weights:
            return "stale"
        if row.get("status") != "failed":
            disturbed = cell.metric.entry.kind == "cost" and row.get("status") == "ok" and not row.get("n")
            return "retry" if disturbed else "done" if row.get("status") == "ok" else "not_applicable"
        attempt = row.get("attempt")
        tried_enough = isinstance(attempt, int) and attempt >= MOST_ATTEMPTS
        again = row.get("stage") == "load" or not tried_enough or self.runtime.retry
        return "retry" if again else "failed"

    def pending(self, rows: Mapping[str, Mapping[str, Any]], weights: str | None = None) -> list[Cell]:
        """The cells to measure, from each cell's last row."""
        return [cell for cell in self.cells if self.state(cell, rows.get(cell.id), weights) in PENDING]


def _check_apart(plan: Plan) -> None:
    """UserError if the protocol tells explainers apart that are not measured, or by a metric that prefers none."""
    labels = [each.label for each in plan.with_control().explainers]
    for name in plan.protocol.apart:
        if name not in labels:
            raise unknown("explainer of protocol.apart", name, labels)
    metric = plan.metrics[0]
    if metric.entry.direction(metric.options) is None:
        raise UserError(
            f"protocol.apart needs a first metric that tells which explainer is better, which {metric.label} does not"
        )
