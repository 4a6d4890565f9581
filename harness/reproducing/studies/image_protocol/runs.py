"""The runs of a paper on images: its blocks cut into parts of some images each, timed first, measured, and read."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import harness.api
from harness.engine.reading import read_inputs
from harness.identity import canonical, digest
from harness.jobs.finished import finished_rows
from harness.jobs.lease import choose_device, devices_named, lease
from harness.jobs.plan import Plan
from harness.models.black_box import loaded_model
from harness.places import file_name
from harness.reproducing.findings import numbers_of
from harness.reproducing.studies.image_protocol.folder import (
    ExpectedFolder,
    checked_images,
    chosen_images,
    digest_of_ids,
    images_of_listing,
    keep_listing,
    root_of_classes,
)
from harness.reproducing.studies.shared.image_nets import with_files_of_user
from harness.reproducing.study import StudySetting
from harness.results.frames import read_cells, read_scores
from harness.results.store import Store

LISTED = f"{images_of_listing.__module__}:{images_of_listing.__name__}"
SCORED = ["explainer", "metric"]
WHOLLY_UNDEFINED = "no sample has a score"  # so begins the reason of a cell whose scores are all undefined
TIMED_IMAGES, TIMED_PASSES = 4, 2  # of the forward passes that the time is estimated from


@dataclass(frozen=True)
class ImageBlock:
    """One network on one set of images with explainers and metrics, as a paper's file states it.

    setting    the name under which its numbers stand
    parts      what ``harness.run`` takes, for some of the images each
    dataset    the name of the data set in numbers
    images     number of images
    """

    setting: str
    parts: Sequence[Mapping[str, Any]]
    dataset: str
    images: int


@dataclass
class MeasuredImages:
    """All scores of a paper's blocks.

    scores    a row for each block, explainer, metric and image, with the columns ``setting`` (the name of the block),
              ``model``, ``dataset``, ``explainer``, ``metric``, ``image`` (its id), ``part``, ``value`` (NaN where it
              is undefined) and ``curve``
    blocks    the names of the blocks
    sizes     what the paper's file says for this scale; ``unmeasured`` are names of settings that only the full scale
              measures
    notes     sentences for the findings
    """

    scores: pd.DataFrame
    blocks: Sequence[str]
    sizes: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def first(self) -> pd.DataFrame:
        """The scores of the first block, on which claims rest that are about one network."""
        return self.scores[self.scores["setting"] == self.blocks[0]]

    def numbers(self) -> pd.DataFrame:
        """The mean of each explainer and metric in each block, with its standard error."""
        keys = ["setting", "model", "dataset", "explainer", "metric"]
        groups = self.scores.groupby(keys, sort=False)
        rows = [{**dict(zip(keys, key, strict=True)), **mean_with_error(own["value"])} for key, own in groups]
        return numbers_of(self.with_unmeasured(rows))

    def with_unmeasured(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Rows of numbers, and rows without a value for the settings that only the full scale measures."""
        blank = list(dict.fromkeys((row["explainer"], row["metric"]) for row in rows))
        settings = self.sizes.get("unmeasured", ())
        lacking = [{"setting": s, "explainer": e, "metric": m, "n": 0} for s in settings for e, m in blank]
        return [*rows, *lacking]


def mean_with_error(values: pd.Series | np.ndarray) -> dict[str, Any]:
    """Mean, standard error and n of the values that are defined, as columns of a number."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return {"n": 0}
    spread = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")
    return {"value": float(known.mean()), "spread": spread, "spread_kind": "standard error", "n": len(known)}


def measured_images(setting: StudySetting) -> MeasuredImages:
    """Check the data, say how long it takes, measure what is not measured yet, and read all scores."""
    notes: list[str] = []
    blocks = [_block(setting, stated, notes) for stated in setting.sizes["blocks"]]
    _measure(setting, blocks)
    scores = pd.concat([_block_scores(block, notes) for block in blocks], ignore_index=True)
    return MeasuredImages(scores, [block.setting for block in blocks], setting.sizes, notes)


def _block(setting: StudySetting, stated: Mapping[str, Any], notes: list[str]) -> ImageBlock:
    """A block as ``harness.run`` takes it, in parts; the images of the user's folder are checked and listed."""
    config = {
        **{each: stated[each] for each in ("explainer", "metric", "protocol")},
        "model": with_files_of_user(stated["model"], setting.data),
        "runtime": {"runs": str(setting.folder), "quiet": True, "sheet": 0, "warm_up": False, "control": False},
    }
    dataset = stated["dataset"]
    if isinstance(dataset, str):  # a registered data set
        whole = {**config, "dataset": dataset, "run": _run_of(config["model"], dataset)}
        return ImageBlock(stated["setting"], [whole], dataset, _image_count(Plan.of(whole)))
    path, told = _listing(setting, dataset["rule"], dataset["count"])
    if told not in notes:
        notes.append(told)
    config["run"] = _run_of(config["model"], str(path))
    first, last, size = dataset.get("from", 0), dataset.get("to", dataset["count"]), setting.sizes["part"]
    parts = [_part_of_block(config, path, start, min(size, last - start)) for start in range(first, last, size)]
    return ImageBlock(stated["setting"], parts, dataset["label"], last - first)


def _part_of_block(config: Mapping[str, Any], path: Path, first: int, count: int) -> dict[str, Any]:
    """What ``harness.run`` takes for some images of a listing."""
    label = f"{path.stem} {first}-{first + count - 1}"
    return {**config, "dataset": {"name": LISTED, "path": str(path), "first": first, "count": count, "label": label}}


def _run_of(model: Mapping[str, Any], data: str) -> str:
    """The name of the run of a network on some data: within a run a label stands for one network or data set only."""
    return f"{file_name(str(model.get('label', model['name'])))}-{digest(canonical(model), data)}"


def _image_count(plan: Plan) -> int:
    count = plan.dataset.options.get("count") or len(plan.dataset.make())
    return min(count, plan.protocol.samples or count)


def _listing(setting: StudySetting, rule: str, count: int) -> tuple[Path, str]:
    """The file that lists the images which a rule chooses, and a sentence about them."""
    root = root_of_classes(setting.data)
    chosen = chosen_images(checked_images(root, ExpectedFolder(**setting.sizes["folder"])), rule, count)
    path = keep_listing(chosen, root, setting.folder / f"images-{rule}-{count}.csv")
    classes = chosen["label"].nunique()
    return path, (
        f"{count:,} images of {classes:,} classes, rule {rule}, {chosen['file'].iloc[0]} to {chosen['file'].iloc[-1]}; "
        f"hash of the ids {digest_of_ids(chosen)}"
    )


def _measure(setting: StudySetting, blocks: Sequence[ImageBlock]) -> None:
    """Run the parts that have cells to measure; before, say about how long they take."""
    pending = _pending_parts(blocks)
    if not pending:
        return
    setting.say(told_time([part for _, part in pending], setting.sizes["evaluations"]))
    for number, (name, part) in enumerate(pending, 1):
        setting.say(f"measuring {Plan.of(part).title}, {name}: part {number} of {len(pending)}")
        harness.api.run(part)


def _pending_parts(blocks: Sequence[ImageBlock]) -> list[tuple[str, Mapping[str, Any]]]:
    """The parts with cells to measure, each once in a run, with the name of their block."""
    rows: dict[Path, Mapping[str, Mapping[str, Any]]] = {}
    pending: dict[tuple[Path, tuple[str, ...]], tuple[str, Mapping[str, Any]]] = {}
    for block in blocks:
        for part in block.parts:
            plan = Plan.of(part)
            if plan.directory not in rows:
                rows[plan.directory] = finished_rows(Store(plan.directory))
            cell_ids = tuple(cell.id for cell in plan.pending(rows[plan.directory]))
            if cell_ids:
                pending.setdefault((plan.directory, cell_ids), (block.setting, part))
    return list(pending.values())


def told_time(parts: Sequence[Mapping[str, Any]], stated: Mapping[str, Any]) -> str:
    """One line: about how long the parts take, from a few forward passes of each network.

    ``stated`` holds model evaluations per image: ``explainer`` and ``metric`` by label, those of a metric for each
    explainer, and ``shared`` once for all. A backward pass counts as two.
    """
    seconds, evaluations, of_network = 0.0, 0.0, {}
    for part in parts:
        plan = Plan.of(part)
        if plan.model.label not in of_network:
            of_network[plan.model.label] = seconds_of_pass(plan)
        own = _image_count(plan) * evaluations_per_image(plan, stated)
        evaluations += own
        seconds += own * of_network[plan.model.label]
    networks = ", ".join(f"{name} {1000 * each:.3g} ms" for name, each in of_network.items())
    device = choose_device(Plan.of(parts[0]).runtime.device)
    return (
        f"about {_duration(seconds)} for {evaluations:,.0f} model evaluations on {device} ({networks} each); the same "
        "command goes on after a kill"
    )


def evaluations_per_image(plan: Plan, stated: Mapping[str, Any]) -> float:
    """Model evaluations per image of a plan's cells, as they are stated by label."""
    explaining = sum(stated["explainer"].get(each.label, 0) for each in plan.explainers)
    scoring = sum(stated["metric"].get(each.label, 0) for each in plan.metrics)
    return stated.get("shared", 0) + explaining + scoring * len(plan.explainers)


def seconds_of_pass(plan: Plan) -> float:
    """Seconds per image of a forward pass, the fastest of a few, by the network as it was loaded."""
    model, data = loaded_model(plan.model.make()), plan.dataset.make()
    taken = []
    with lease(devices_named(plan.runtime.device), "share", lambda text: None) as alone, torch.no_grad():
        module = model.module.to(alone.device)
        inputs = read_inputs(model, data, slice(0, min(TIMED_IMAGES, len(data)))).to(alone.device)
        for _ in range(1 + TIMED_PASSES):
            start = time.perf_counter()
            module(inputs).sum().item()  # waits until the device is done
            taken.append(time.perf_counter() - start)
    return min(taken[1:]) / len(inputs)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{max(1, round(seconds))} s"


def _block_scores(block: ImageBlock, notes: list[str]) -> pd.DataFrame:
    """The scores of a block's parts; cells without scores, and undefined scores, are told in notes."""
    part_of = {cell.id: number for number, part in enumerate(block.parts) for cell in Plan.of(part).cells}
    directory = Plan.of(block.parts[0]).directory
    rows_of_run = read_cells(directory)
    own = rows_of_run[rows_of_run["cell"].isin(part_of)]
    undefined = own[(own["status"] == "not_applicable") & own["error"].str.startswith(WHOLLY_UNDEFINED)]
    lost = own[(own["status"] != "ok") & ~own["cell"].isin(undefined["cell"])]
    for (explainer, metric), rows in lost.groupby(SCORED, sort=False):
        notes.append(f"{explainer} has no {metric} in {len(rows)} of {len(block.parts)} parts: {rows['error'].iloc[0]}")
    read = read_scores(directory, own)
    scores = pd.DataFrame(
        {
            "explainer": read["explainer"].astype(str),
            "metric": read["metric"].astype(str),
            "part": [part_of[cell_id] for cell_id in read["cell"]],
            "image": read["sample"].astype(str),
            "value": read["value"].to_numpy(),
            "curve": list(read["curve"]),
        }
    )
    images = scores[["part", "image"]].drop_duplicates()
    blank = undefined.assign(part=[part_of[cell_id] for cell_id in undefined["cell"]], value=np.nan, curve=None)
    blank = blank[[*SCORED, "part", "value", "curve"]].merge(images, on="part")
    scores = pd.concat([scores, blank], ignore_index=True)
    # An explainer that lacks a part would stand for other images than the others.
    lacking = pd.MultiIndex.from_frame(scores[SCORED]).isin(pd.MultiIndex.from_frame(lost[SCORED]))
    scores = scores[~lacking].assign(setting=block.setting, model=own["model"].iloc[0], dataset=block.dataset)
    for (explainer, metric), rows in scores[scores["value"].isna()].groupby(SCORED, sort=False):
        notes.append(f"{metric} of {explainer} is undefined for {len(rows):,} of {block.images:,} images")
    return scores
