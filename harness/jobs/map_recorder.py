"""Saves the maps of the first samples and draws the contact sheet.

The sheet has one row per image or series and one column per explainer. Of texts it has one line per explainer.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.engine.block import Explained
from harness.engine.sample_words import describe_samples
from harness.engine.selection import Chosen
from harness.engine.stage import Stage
from harness.identity import canonical, digest
from harness.jobs.map_index import brightness, index_path, inputs_path, write_index
from harness.jobs.plan import Plan
from harness.jobs.recorders import RowRecorder
from harness.results.run_files import name_damage
from harness.results.store import Store
from harness.seals import Damaged
from harness.units import Units

Row = Mapping[str, Any]
MOST_LINES = 240  # of text on a picture; the HTML page has all texts whose maps are saved


class Sheet:
    """A recorder that passes all results on and saves maps on disk, so that a resumed run can draw all of them."""

    def __init__(self, plan: Plan, stage: Stage, recorder: RowRecorder) -> None:
        self.plan, self.stage, self.recorder = plan, stage, recorder
        self.begins, self.scored, self.failed = recorder.begins, recorder.scored, recorder.failed
        self.renewable = recorder.renewable
        modality, texts = stage.units.modality, stage.model.wording is not None
        self.drawn = modality in ("image", "series") or (modality == "tokens" and texts)
        of_first_samples = not plan.runtime.shard and not plan.round
        saved = of_first_samples and (self.drawn or modality == "table")
        self.count = min(plan.runtime.sheet, stage.count) if saved else 0

    def explained(self, explainer: Chosen, explained: Explained) -> None:
        """Save the first samples' maps, each scaled to a largest magnitude of 1, in half precision."""
        self.recorder.explained(explainer, explained)
        if not self.count:
            return
        maps = _reduced(self.stage, _first(explained.parts, self.count))
        scale = maps.abs().flatten(1).nan_to_num(0).amax(1).clamp_min(1e-30)
        scale = scale.view(-1, *[1] * (maps.dim() - 1))
        self.recorder.store.run_files.write_array(map_path(self.plan, explainer), (maps / scale).half().numpy())

    def index(self) -> None:
        """Write the index of the saved maps, for a report."""
        if self.count:
            paths = {each.label: map_path(self.plan, each) for each in self.plan.explainers}
            existing = {name: path for name, path in paths.items() if path.is_file()}
            write_index(self.recorder.store.run_files, self.plan, self.stage, self.count, existing)

    def draw(self) -> Path | None:
        """Draw the sheet of all the plan's explainers and return its path; None if there is nothing to draw."""
        if not self.count or not self.drawn:
            return None
        path = self.plan.directory / f"{self.plan.name}.png"
        labels = {
            "captions": self._captions(),
            "signed": {e.label for e in self.plan.explainers if e.entry.signed},
            "controls": {e.label for e in self.plan.explainers if e.entry.control},
            "reasons": self._reasons(),
        }
        maps = {e.label: self._maps(e) for e in self.plan.explainers}
        if self.stage.units.modality == "tokens":
            self._draw_texts(path, maps, labels)
        else:
            self._draw_images(path, maps, labels)
        return path

    def _draw_images(self, path: Path, maps: dict[str, np.ndarray | None], labels: dict[str, Any]) -> None:
        from harness.results.lines import drawings, stretched  # imported here: most runs draw no series
        from harness.results.sheet import contact_sheet

        series = self.stage.units.modality == "series"
        if series:
            images = drawings(self.stage.inputs(slice(0, self.count)).numpy())
            maps = {name: None if values is None else stretched(values) for name, values in maps.items()}
        else:
            images = self._images()
        contact_sheet(
            path, images, maps, **labels, title=self.plan.title, subtitle=self._of_all(self.count), drawings=series
        )

    def _draw_texts(self, path: Path, maps: dict[str, np.ndarray | None], labels: dict[str, Any]) -> None:
        """Draw a picture of the first texts, and an HTML page of all texts whose maps are saved."""
        from harness.results.sentences import passages, sentence_page, sentence_sheet

        tokens = [self.stage.model.wording.tokens(self.stage.data.inputs[index]) for index in range(self.count)]
        texts = passages(tokens, maps, **labels)
        few = texts[: max(1, MOST_LINES // len(maps))]
        sentence_page(path.with_suffix(".html"), texts, title=self.plan.title, subtitle=self._of_all(len(texts)))
        sentence_sheet(path, few, title=self.plan.title, subtitle=self._of_all(len(few)))

    def _of_all(self, count: int) -> str:
        return f"{count} of {self.stage.whole_count or self.stage.count} samples"

    def _maps(self, explainer: Chosen) -> np.ndarray | None:
        """The saved maps of an explainer; None if there are none, or too few for this sheet."""
        path = map_path(self.plan, explainer)
        if not path.exists():
            return None
        try:
            maps = self.recorder.store.run_files.array(path).astype("float32")
        except Damaged as error:
            name_damage(path, error, "the picture lacks these maps")
            return None
        return maps[: self.count] if len(maps) >= self.count else None

    def _reasons(self) -> dict[str, str]:
        """Why there are no maps, for each explainer that failed or is not applicable."""
        rows = self.recorder.store.latest()
        last_rows = [(cell.explainer.label, rows.get(cell.id, {})) for cell in self.plan.cells]
        return {label: str(row.get("error")) for label, row in last_rows if row.get("stage") == "explain"}

    def _images(self) -> np.ndarray:
        """The first samples as images in 0..1."""
        return brightness(self.stage, self.stage.inputs(slice(0, self.count))).numpy()

    def _captions(self) -> list[Any]:
        from harness.results.sheet import Caption

        if self.stage.output_count == 1 or not self.stage.task.classed:  # there are no classes to name
            return [Caption(name) for name in self.stage.data.ids[: self.count]]
        return [
            Caption(each["id"], each["label"] or "", each["prediction"], each["confidence"])
            for each in describe_samples(self.stage, self.count)
        ]


def _first(parts: Sequence[Tensor], count: int) -> Tensor:
    """The first ``count`` of maps that are stored in parts; later parts, which may be in files, are not read."""
    taken: list[Tensor] = []
    for part in parts:
        taken.append(part[: count - sum(map(len, taken))])
        if sum(map(len, taken)) == count:
            break
    return torch.cat(taken)


def map_path(plan: Plan, explainer: Chosen) -> Path:
    """The file of an explainer's saved maps."""
    identity = [plan.model.identity, plan.dataset.identity, explainer.identity, plan.protocol.identity]
    return plan.directory / "maps" / f"{digest(canonical(identity))}.npy"


def without_damaged_maps(plan: Plan, store: Store, rows: Mapping[str, Row]) -> dict[str, Row]:
    """The rows without those of explainers whose saved maps are damaged, so that they are explained again.

    Where the index of the maps is damaged, the first cell of the plan is left out, so that the index is written again.
    """
    left_out: set[str] = set()
    for path, cell_ids in _cell_ids_by_map_file(plan).items() if plan.runtime.sheet else ():
        try:
            if path.exists() or path.is_symlink():
                store.run_files.check(path)
        except Damaged as error:
            name_damage(path, error, "it is made again, with the cells that belong to it")
            left_out |= cell_ids
    return {cell_id: row for cell_id, row in rows.items() if cell_id not in left_out}


def _cell_ids_by_map_file(plan: Plan) -> dict[Path, set[str]]:
    index, first = index_path(plan), {plan.cells[0].id}
    of_explainers = {
        map_path(plan, each): {cell.id for cell in plan.cells if cell.explainer is each} for each in plan.explainers
    }
    return {index: first, inputs_path(index): first} | of_explainers


def _reduced(stage: Stage, raw: Tensor) -> Tensor:
    """Maps (N, *units) with one number per position, even if the protocol makes every channel a unit."""
    how = stage.protocol.reduction
    units = Units.of(stage.inputs(slice(0, 1)), stage.units.modality, columns=stage.data.columns)
    return units.reduce(raw, "sum" if how == "none" else how)
