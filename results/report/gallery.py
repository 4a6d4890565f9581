"""The gallery: samples down and explainers across, each explainer's best and worst cases by the headline metric."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from harness.results import words
from harness.results.report import tiles
from harness.results.report.blocks import ReportBlock
from harness.results.report.drawing import number
from harness.results.report.elements import note
from harness.results.report.known import known_of, place_of
from harness.results.report.markup import Raw, soft, tag
from harness.results.report.run_maps import RunMaps, maps_of_block

MOST_TILES, MOST_SAMPLES, FEW_SAMPLES = 400, 16, 8


@dataclass(frozen=True)
class Gallery:
    """A block's gallery: its part of the page, None where no maps were kept, and per tile its texts (``title says
    trust``)."""

    part: Raw | None
    tiles: dict[str, dict[str, str]]


def gallery(block: ReportBlock, most_tiles: int = MOST_TILES) -> Gallery:
    """The gallery of a block; it says which maps cannot be read."""
    run_maps = maps_of_block(block.directory, block.model, block.dataset, block.protocol)
    if run_maps is None or not run_maps.maps or not run_maps.samples:
        unread = run_maps.unread if run_maps else []
        return Gallery(tag("div", [note(text) for text in unread]) if unread else None, {})
    explainers = [name for name in block.explainers if name in run_maps.maps]
    if not explainers:
        return Gallery(note("The maps that the run kept are of explainers without a cell."), {})
    values = _sample_values(block, explainers)
    extremes = _best_and_worst(block, run_maps, explainers, values)
    chosen = _chosen_places(run_maps, extremes, max(1, min(MOST_SAMPLES, most_tiles // len(explainers))))
    view = _View(block, run_maps, explainers, values, extremes)
    make = view.passages if run_maps.modality == "tokens" else view.grid
    body = make(chosen)
    about = tag(
        "p",
        f"{len(chosen)} of {len(run_maps.samples)} samples with maps. ",
        _colours(run_maps),
        f" ▲ marks an explainer's best and ▼ its worst of these samples by {block.headline}." if extremes else "",
        " Click a tile to read the explanation in words.",
        class_="lead",
    )
    unread = [note(text) for text in run_maps.unread]
    return Gallery(tag("div", about, body, unread), view.tiles)


def _colours(run_maps: RunMaps) -> str:
    signed = "Red speaks for the class, blue against it. "
    unsigned = set(run_maps.maps) - run_maps.signed
    plain = "Maps without a sign show strength only." if unsigned else ""
    return (signed if run_maps.signed else "") + plain


def _sample_values(block: ReportBlock, explainers: Sequence[str]) -> pd.DataFrame:
    """The headline metric's scores, samples down and explainers across, signed so that higher is better."""
    if block.headline not in block.matrices:
        return pd.DataFrame()
    signed = block.matrices[block.headline].signed
    found = signed[[name for name in explainers if name in signed]]
    return found.set_axis(found.index.astype(str))


def _best_and_worst(
    block: ReportBlock, run_maps: RunMaps, explainers: Sequence[str], values: pd.DataFrame
) -> dict[tuple[str, str], str]:
    """(explainer, sample) to ``best`` or ``worst`` among the samples that maps were kept of."""
    there = values.loc[[id_of(sample) for sample in run_maps.samples if id_of(sample) in values.index]]
    found = {}
    for name in explainers:
        own = there[name].dropna() if name in there else pd.Series(dtype=float)
        if len(own) > 1 and own.max() > own.min():
            found |= {(name, str(own.idxmin())): "worst", (name, str(own.idxmax())): "best"}
    return found


def _chosen_places(run_maps: RunMaps, extremes: dict[tuple[str, str], str], most: int) -> list[int]:
    """Places of the samples shown: those that are the best or worst case of most explainers, then the first."""
    votes = Counter(sample for _, sample in extremes)
    order = sorted(range(len(run_maps.samples)), key=lambda place: (-votes[id_of(run_maps.samples[place])], place))
    voted = [place for place in order if votes[id_of(run_maps.samples[place])]]
    return sorted(order[: min(most, max(FEW_SAMPLES, len(voted)))])


def id_of(sample: dict[str, Any]) -> str:
    """A sample's name."""
    return str(sample.get("id", "?"))


class _View:
    """Draws tiles, and collects their texts."""

    def __init__(
        self, block: ReportBlock, run_maps: RunMaps, explainers: list[str], values: pd.DataFrame, extremes: dict
    ) -> None:
        self.block, self.run_maps, self.explainers, self.values, self.extremes = (
            block,
            run_maps,
            explainers,
            values,
            extremes,
        )
        self.known = {name: known_of(block, name) for name in explainers}
        self.tiles: dict[str, dict[str, str]] = {}

    def grid(self, chosen: Sequence[int]) -> Raw:
        """Samples down, explainers across."""
        heads = [tag("th", "sample", scope="col")]
        heads += [
            tag(
                "th",
                soft(name),
                tag("span", "control", class_="word") if name in self.block.controls else "",
                scope="col",
            )
            for name in self.explainers
        ]
        rows = [
            tag(
                "tr",
                tag("th", self._input(place), self._caption(place), scope="row"),
                [tag("td", self._tile(place, name)) for name in self.explainers],
            )
            for place in chosen
        ]
        caption, kind = tag("caption", f"Maps of {self.block.heading}"), f"gallery {self.run_maps.modality}"
        inner = tag("table", caption, tag("thead", tag("tr", heads)), tag("tbody", rows), class_=kind)
        return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label="Maps")

    def passages(self, chosen: Sequence[int]) -> Raw:
        """Texts down, a line for each explainer."""
        return tag(
            "div",
            [
                tag(
                    "div",
                    tag("h4", self._caption(place)),
                    [self._tile(place, name, wide=True) for name in self.explainers],
                    class_="passage",
                )
                for place in chosen
            ],
            class_="passages",
        )

    def _tile(self, place: int, name: str, wide: bool = False) -> Raw:
        sample = self.run_maps.samples[place]
        key, values = f"{self.block.key}-{place}-{self.explainers.index(name)}", self.run_maps.maps[name][place]
        self.tiles[key] = {
            "title": f"{name} on {id_of(sample)}",
            "says": map_in_words(self.run_maps, place, name),
            "trust": words.trust(replace(self.known[name], **place_of(self.block, name, id_of(sample)))),
        }
        extreme = self.extremes.get((name, id_of(sample)))
        mark = tag("span", {"best": "▲ best", "worst": "▼ worst"}[extreme], class_="extreme") if extreme else ""
        value = _shown_score(self.values, name, id_of(sample), self.block)
        below = tag("span", [mark, " " if extreme else "", number(value) if value is not None else ""])
        picture = self._picture(place, name, values)
        who = tag("span", f"{name}: ", class_="who") if wide else ""
        return tag(
            "button",
            who,
            picture,
            " " if wide else "",
            below,
            type="button",
            data_tile=key,
            class_="tile line-tile" if wide else "tile",
            data_tip=self.tiles[key]["says"],
            aria_label=f"{name} on {id_of(sample)}: in words",
        )

    def _picture(self, place: int, name: str, values: np.ndarray) -> Raw:
        run_maps, signed, about = self.run_maps, name in self.run_maps.signed, f"map of {name}"
        if not np.isfinite(values).all():
            return tag("span", "not finite", class_="hole")
        if run_maps.modality == "image":
            return tiles.heat(
                None if run_maps.inputs is None else run_maps.inputs[place], _summed_channels(values), signed, about
            )
        if run_maps.modality == "tokens" and run_maps.tokens:
            return tiles.passage(run_maps.tokens[place], values, signed)
        if run_maps.modality == "series" and run_maps.inputs is not None:
            return tiles.series(run_maps.inputs[place], values.reshape(-1), signed, about)
        return tiles.bar_tile(unit_names(run_maps, values), values.reshape(-1), signed, about)

    def _input(self, place: int) -> Raw | str:
        run_maps = self.run_maps
        if run_maps.inputs is None or run_maps.modality not in ("image", "series"):
            return ""
        about = f"input {id_of(run_maps.samples[place])}"
        draw = tiles.photo if run_maps.modality == "image" else lambda x, text: tiles.series(x, None, True, text)
        return draw(run_maps.inputs[place], about)

    def _caption(self, place: int) -> Raw:
        sample = self.run_maps.samples[place]
        label, prediction, sure = (sample.get(name) for name in ("label", "prediction", "confidence"))
        wrong = label is not None and prediction is not None and label != prediction
        words_below = [] if label is None else [f"label {label}"]
        words_below += (
            []
            if prediction is None
            else [f"predicted {prediction}" + (f" ({sure:.2f})" if _is_finite_number(sure) else "")]
        )
        return tag(
            "span", id_of(sample), tag("span", ", ".join(words_below), class_="word" + (" wrong" if wrong else ""))
        )


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _summed_channels(values: np.ndarray) -> np.ndarray:
    """A map as (h, w), channels summed where they are units of their own."""
    return values.sum(0) if values.ndim == 3 else values


def unit_names(run_maps: RunMaps, values: np.ndarray) -> list[str]:
    """Names of a map's units, or their numbers where they have no names or not one each."""
    named = [str(name) for name in run_maps.unit_names or ()]
    return named if len(named) == values.size else [f"unit {place}" for place in range(values.size)]


def map_in_words(run_maps: RunMaps, place: int, name: str) -> str:
    """What an explainer's map says of a kept sample."""
    values, sample = run_maps.maps[name][place], run_maps.samples[place]
    target = sample.get("target")
    about = {"signed": name in run_maps.signed, "target": "the class" if target is None else f"{target}"}
    if run_maps.modality == "image":
        return words.says(_summed_channels(values), **about)
    if run_maps.modality == "series":
        return words.says(values.reshape(-1), **about)
    names = (
        (run_maps.tokens or [])[place]
        if run_maps.modality == "tokens" and run_maps.tokens
        else unit_names(run_maps, values)
    )
    return words.says(values.reshape(-1)[: len(names)], names=names, **about)


def _shown_score(values: pd.DataFrame, name: str, sample: str, block: ReportBlock) -> float | None:
    if name not in values or sample not in values.index or not np.isfinite(values.loc[sample, name]):
        return None
    sign = -1 if block.better(block.headline) == "lower" else 1
    return float(sign * values.loc[sample, name])
