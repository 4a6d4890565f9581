"""What is asked for: a block's model, data, explainers, metrics and protocol, and the cells that follow."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.checks import settings
from harness.code_version import code_of, measuring_code
from harness.engine.selection import Chosen, Job, choose_one, choose_several
from harness.engine.stage import Protocol
from harness.errors import UserError, unknown
from harness.identity import canonical, cell_id, digest, files_of
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS

SECTIONS = ("model", "dataset", "explainer", "metric", "protocol", "runtime", "run")
MOST_ATTEMPTS = 2


@dataclass(frozen=True)
class Runtime:
    """How a block is run; none of it is part of a cell's identity.

    device       ``auto``, ``cpu``, ``cuda`` or ``cuda:N``
    chunk        model evaluations per forward pass; None to find the best by a short calibration
    threads      of the CPU; None for the library's choice
    lease        ``wait`` for a device that another run holds, or ``share`` it and give up timings
    warm_up      whether each explainer is called once before it is timed
    retry        measure cells that failed twice once more
    sheet        photos on the contact sheet; 0 for none
    max_failed   failed cells that still count as success, for the exit status
    runs         the folder in which runs lie
    outputs      a folder for model outputs that no attribution decides, kept from run to run; None to keep none
    quiet        say nothing but errors
    """

    device: str = "auto"
    chunk: int | None = None
    threads: int | None = None
    lease: str = "wait"
    warm_up: bool = True
    retry: bool = False
    sheet: int = 20
    max_failed: int = 0
    runs: str = "runs"
    outputs: str | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        for name, least in (("chunk", 1), ("threads", 1), ("sheet", 0), ("max_failed", 0)):
            value = getattr(self, name)
            may_be_left = name in ("chunk", "threads") and value is None
            if not may_be_left and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise UserError(f"runtime.{name} is {value!r}, expected a whole number from {least}")
        for name in ("device", "lease", "runs"):
            if not isinstance(getattr(self, name), str):
                raise UserError(f"runtime.{name} is {getattr(self, name)!r}, expected text")
        if not isinstance(self.outputs, str | None):
            raise UserError(f"runtime.outputs is {self.outputs!r}, expected a folder")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Runtime":
        """Runtime settings from a mapping."""
        return settings(cls, "runtime", given)


@dataclass
class Plan:
    """Everything one block needs to know before a model is loaded."""

    model: Chosen
    dataset: Chosen
    explainers: list[Chosen]
    metrics: list[Chosen]
    protocol: Protocol
    runtime: Runtime = field(default_factory=Runtime)
    run: str = "main"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Plan":
        """A plan from a plain nested mapping, as Hydra composes it; every mistake in it is one line."""
        for name in config:
            if name not in SECTIONS:
                raise unknown("section of the configuration", name, SECTIONS)
        for name in SECTIONS[:4]:
            if not config.get(name):
                raise UserError(f"the configuration names no {name}, expected {name}=NAME (harness list {name}s)")
        return cls(
            choose_one(MODELS, config["model"]),
            choose_one(DATASETS, config["dataset"]),
            choose_several(EXPLAINERS, config["explainer"]),
            choose_several(METRICS, config["metric"]),
            Protocol.of(config.get("protocol") or {}),
            Runtime.of(config.get("runtime") or {}),
            _run_name(config.get("run", "main")),
        )

    @property
    def directory(self) -> Path:
        """Where the run lands."""
        return Path(os.path.expanduser(self.runtime.runs)) / self.run

    @property
    def title(self) -> str:
        """The block in a few words."""
        return f"{self.model.label} on {self.dataset.label}"

    @property
    def name(self) -> str:
        """The block as a part of file names."""
        protocol = "" if self.protocol == Protocol() else "-" + digest(canonical(vars(self.protocol)))[:6]
        return re.sub(r"[^\w.=+-]+", "_", f"{self.model.label}-{self.dataset.label}")[:120] + protocol

    def identity(self, explainer: Chosen, metric: Chosen) -> dict[str, Any]:
        """Everything that decides the numbers of a cell."""
        return {
            "model": self.model.identity,
            "dataset": self.dataset.identity,
            "explainer": explainer.identity,
            "metric": metric.identity,
            "protocol": vars(self.protocol),
        }

    @cached_property
    def jobs(self) -> list[Job]:
        """All cells of the block."""
        return [Job(e, m, cell_id(self.identity(e, m))) for e in self.explainers for m in self.metrics]

    def stick(self, metric: Chosen) -> str:
        """The code version of the measurement: of metric, data set with the files it names, and what makes scores."""
        code = code_of(metric.entry.function, self.dataset.entry.function)
        return digest(measuring_code(), code, str(metric.entry.version), self._data_files)

    def subject_code(self, explainer: Chosen) -> str:
        """Fingerprint of what is measured, as far as it is known before loading: code of explainer and model, and the
        files they name."""
        code = code_of(explainer.entry.function, *self.model.functions)
        return digest(code, self._model_files, self._explainer_files[explainer])

    @cached_property
    def _data_files(self) -> str:
        return files_of(self.dataset.options)

    @cached_property
    def _explainer_files(self) -> dict[Chosen, str]:
        return {explainer: files_of(explainer.options) for explainer in self.explainers}

    @cached_property
    def _model_files(self) -> str:
        return files_of(self.model.options)

    def state(self, job: Job, row: Mapping[str, Any] | None, weights: str | None = None) -> str:
        """``new``, ``done``, ``stale``, ``retry``, ``failed`` or ``not_applicable``, from the cell's last row."""
        if row is None:
            return "new"
        code, _, row_weights = str(row.get("subject") or "").partition("-")
        same_weights = weights is None or not row_weights or row_weights == weights
        if row.get("stick") != self.stick(job.metric) or code != self.subject_code(job.explainer) or not same_weights:
            return "stale"
        if row.get("status") != "failed":
            disturbed = job.metric.entry.kind == "cost" and row.get("status") == "ok" and not row.get("n")
            return "retry" if disturbed else "done" if row.get("status") == "ok" else "not_applicable"
        attempt = row.get("attempt")
        tried_enough = isinstance(attempt, int) and attempt >= MOST_ATTEMPTS
        again = row.get("stage") == "load" or not tried_enough or self.runtime.retry
        return "retry" if again else "failed"

    def pending(self, rows: Mapping[str, Mapping[str, Any]], weights: str | None = None) -> list[Job]:
        """The cells that have to be measured, given each cell's last row."""
        return [job for job in self.jobs if self.state(job, rows.get(job.cell), weights) in ("new", "stale", "retry")]


def _run_name(name: Any) -> str:
    name = str(name)
    if not name or Path(name).name != name or name in (".", "..", "latest", "previous"):
        raise UserError(f"run is {name!r}, expected the name of one folder (and not latest or previous)")
    return name
