"""Keeps the first samples' maps of each explainer, and draws them: photos or series down and explainers across, texts
with a line for each explainer."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.engine.block import Explained
from harness.engine.selection import Chosen
from harness.engine.stage import Stage
from harness.identity import canonical, digest
from harness.jobs.map_index import brightness, write_index
from harness.jobs.plan import Plan
from harness.jobs.recorders import RowRecorder
from harness.results.disk import whole_file
from harness.units import Units

MOST_LINES = 240  # on a picture of texts; its page has those of all texts that maps are kept of


class Sheet:
    """A recorder that passes everything on, and besides keeps maps on disk, so that a resumed run draws them all."""

    def __init__(self, plan: Plan, stage: Stage, recorder: RowRecorder) -> None:
        self.plan, self.stage, self.recorder = plan, stage, recorder
        self.scored, self.failed = recorder.scored, recorder.failed
        modality, texts = stage.units.modality, stage.model.wording is not None
        self.drawn = modality in ("image", "series") or (modality == "tokens" and texts)
        self.count = min(plan.runtime.sheet, stage.count) if self.drawn or modality == "table" else 0

    def explained(self, explainer: Chosen, explained: Explained) -> None:
        """Keep the first samples' maps, each scaled to a largest magnitude of 1, in half precision."""
        self.recorder.explained(explainer, explained)
        if not self.count:
            return
        maps = _reduced(self.stage, torch.cat([part[: self.count] for part in explained.parts])[: self.count])
        scale = maps.abs().flatten(1).nan_to_num(0).amax(1).clamp_min(1e-30)
        scale = scale.view(-1, *[1] * (maps.dim() - 1))
        with whole_file(self._path(explainer)) as temporary, open(temporary, "wb") as file:
            np.save(file, (maps / scale).half().numpy(), allow_pickle=False)

    def index(self) -> None:
        """Write beside the maps what they are of, for a report."""
        if self.count:
            paths = {each.label: self._path(each) for each in self.plan.explainers}
            made = {name: path for name, path in paths.items() if path.is_file()}
            write_index(self.plan, self.stage, self.count, made)

    def draw(self) -> Path | None:
        """Draw the sheet of all the plan's explainers; gives its path, or None where there is nothing to draw."""
        if not self.count or not self.drawn:
            return None
        path = self.plan.directory / f"{self.plan.name}.png"
        said = {
            "captions": self._captions(),
            "signed": {e.label for e in self.plan.explainers if e.entry.signed},
            "controls": {e.label for e in self.plan.explainers if e.entry.control},
            "reasons": self._reasons(),
        }
        maps = {e.label: self._maps(e) for e in self.plan.explainers}
        if self.stage.units.modality == "tokens":
            self._draw_texts(path, maps, said)
        else:
            self._draw_images(path, maps, said)
        return path

    def _draw_images(self, path: Path, maps: dict[str, np.ndarray | None], said: dict[str, Any]) -> None:
        from harness.results.lines import drawings, stretched  # a run that draws nothing need not load what draws
        from harness.results.sheet import contact_sheet

        series = self.stage.units.modality == "series"
        if series:
            images = drawings(self.stage.inputs(slice(0, self.count)).numpy())
            maps = {name: None if values is None else stretched(values) for name, values in maps.items()}
        else:
            images = self._images()
        contact_sheet(
            path, images, maps, **said, title=self.plan.title, subtitle=self._of_all(self.count), drawings=series
        )

    def _draw_texts(self, path: Path, maps: dict[str, np.ndarray | None], said: dict[str, Any]) -> None:
        """A picture of the first texts, and beside it a page of all that maps are kept of."""
        from harness.results.sentences import passages, sentence_page, sentence_sheet

        tokens = [self.stage.model.wording.tokens(self.stage.data.inputs[index]) for index in range(self.count)]
        found = passages(tokens, maps, **said)
        few = found[: max(1, MOST_LINES // len(maps))]
        sentence_page(path.with_suffix(".html"), found, title=self.plan.title, subtitle=self._of_all(len(found)))
        sentence_sheet(path, few, title=self.plan.title, subtitle=self._of_all(len(few)))

    def _of_all(self, count: int) -> str:
        return f"{count} of {self.stage.count} samples"

    def _path(self, explainer: Chosen) -> Path:
        identity = [self.plan.model.identity, self.plan.dataset.identity, explainer.identity, vars(self.plan.protocol)]
        return self.plan.directory / "maps" / f"{digest(canonical(identity))}.npy"

    def _maps(self, explainer: Chosen) -> np.ndarray | None:
        """The maps kept of an explainer; None where there are none, or too few for this sheet."""
        path = self._path(explainer)
        maps = np.load(path, allow_pickle=False).astype("float32") if path.is_file() else np.empty(0)
        return maps[: self.count] if len(maps) >= self.count else None

    def _reasons(self) -> dict[str, str]:
        rows = self.recorder.store.latest()
        found = [(job.explainer.label, rows.get(job.cell, {})) for job in self.plan.jobs]
        return {label: str(row.get("error")) for label, row in found if row.get("stage") == "explain"}

    def _images(self) -> np.ndarray:
        """The first samples as images in 0..1."""
        return brightness(self.stage, self.stage.inputs(slice(0, self.count))).numpy()

    def _captions(self) -> list[Any]:
        from harness.results.sheet import Caption

        stage, names = self.stage, self.stage.model.classes or self.stage.data.classes
        if stage.outputs.shape[1] == 1:  # one output: there are no classes to name
            return [Caption(name) for name in stage.data.ids[: self.count]]
        name = lambda index: names[index] if names else f"class {index}"
        labels = (
            [""] * self.count if stage.labels is None else [name(int(label)) for label in stage.labels[: self.count]]
        )
        predicted, confidence = [name(int(p)) for p in stage.predictions], stage.outputs.softmax(1).amax(1).tolist()
        columns = zip(stage.data.ids, labels, predicted, confidence, strict=False)
        return [Caption(*column) for column in list(columns)[: self.count]]


def _reduced(stage: Stage, raw: Tensor) -> Tensor:
    """Maps (N, *units), also where the protocol makes every channel a unit of its own."""
    how = stage.protocol.reduction
    units = Units.of(stage.inputs(slice(0, 1)), stage.units.modality, columns=stage.data.columns)
    return units.reduce(raw, "sum" if how == "none" else how)
