"""What the pointing game shows, with a test for each: its rules are exact, and methods point better than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from harness.reproducing.findings import IDENTITY, PATTERN, Claim
from harness.reproducing.studies.pointing_game.coco import COCO_LABEL
from harness.reproducing.studies.pointing_game.points import CENTER, CONTROLS, ORACLE, RANDOM
from harness.reproducing.studies.pointing_game.rules import MOST_EXACT, ClassMean, against_chance, class_mean
from harness.reproducing.studies.pointing_game.scenes import PointingGame
from harness.results.level import ALPHA, holm
from harness.results.numbers import significant

ROUNDING = 1e-12  # of a mean of whole numbers in double precision
NET_ROUNDING = 1e-3  # of logits in single precision, as a share of the largest
TABLE = "TorchRay's pointing-game table (facebookresearch/TorchRay)"


@dataclass(frozen=True)
class Play:
    """A game that was played.

    player     the label of the net; "" where there was none
    controls   a row for each pair of image and class (``control_rows``)
    methods    method -> a row for each pair on which it played (``method_rows``)
    knowledge  a row for each image (``knowledge_rows``); None without a net
    draws      the number of random points for each pair, the same in all games
    """

    game: PointingGame
    player: str
    controls: pd.DataFrame
    methods: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    knowledge: pd.DataFrame | None = None
    draws: int = 1

    def hits(self, name: str) -> pd.DataFrame:
        """The pairs on which a control or method played, with the control's columns and its own column ``hit``."""
        if name in CONTROLS:
            return self.controls.assign(hit=self.controls[name].astype(bool))
        own = self.methods[name][["scene", "class", "hit", "flat"]]
        return self.controls.merge(own.astype({"hit": bool}), on=["scene", "class"])

    def accuracy(self, name: str, difficult: bool = False) -> ClassMean | None:
        """The mean over classes of a control or method; None where it has no pair."""
        pairs = self.hits(name)
        if difficult:
            pairs = pairs[self.in_difficult(pairs)]
        return class_mean(pairs["hit"], pairs["class"], pairs["scene"]) if len(pairs) else None

    def in_difficult(self, pairs: pd.DataFrame) -> list[bool]:
        """Which of the pairs are in the difficult subset."""
        return [self.game.is_difficult(*each) for each in zip(pairs["name"], pairs["class"], strict=True)]

    @property
    def place(self) -> str:
        """What was played on and by whom."""
        return f"{self.game.label}, {self.player}" if self.player else self.game.label


def exact_claims(plays: Sequence[Play]) -> list[Claim]:
    """What holds by the rules of the game alone."""
    return [_oracle_always_hits(plays), _rules_agree(plays), _center_by_distance(plays), _random_by_area(plays)]


def _oracle_always_hits(plays: Sequence[Play]) -> Claim:
    misses = sum(int((~each.hits(ORACLE)["hit"]).sum()) for each in plays)
    pairs = sum(len(each.controls) for each in plays)
    return Claim(
        name="the oracle always hits",
        kind=IDENTITY,
        says="A map that is the region of the class itself hits always, on the way that the maps of all methods go.",
        holds=misses == 0,
        measured=f"{misses} misses in {pairs:,} pairs of image and class, expected 0",
        why="its largest value lies in the region, up to a pixel of the net's grid, which is less than the margin",
        source="algebra",
    )


def _rules_agree(plays: Sequence[Play]) -> Claim:
    tables = [each.controls for each in plays]
    own = [rows for each in plays for rows in each.methods.values()]
    points = sum(int(each["points"].sum()) for each in tables) + sum(map(len, own))
    odd = sum(int(each["odd"].sum()) for each in [*tables, *own])
    return Claim(
        name="the margin by brute force",
        kind=IDENTITY,
        says="A disc of the margin's radius around the point meets the region where the distance to the nearest of all "
        "the region's pixels is less than the margin, and, of controls but the middle, where the metric pointing_game "
        "says so.",
        holds=odd == 0,
        measured=f"{odd} verdicts differ in {points:,} points of methods and controls, expected 0",
        why="three computations of one rule, two for methods and for the middle, which can lie between pixels: squares "
        "of whole and half numbers are exact",
        source="algebra",
    )


def _center_by_distance(plays: Sequence[Play]) -> Claim:
    gaps = []
    for each in plays:
        close = each.controls["middle"] < each.game.margin
        by_distance = np.mean([close[each.controls["class"] == kind].mean() for kind in set(each.controls["class"])])
        gaps.append(abs(each.accuracy(CENTER).value - float(by_distance)))
    return Claim(
        name="the centre by distance",
        kind=IDENTITY,
        says="The control center scores the mean over classes of the share of images in which the middle is nearer to "
        "the class than the margin.",
        holds=max(gaps) <= ROUNDING,
        measured=f"largest difference {significant(max(gaps))}, at most {ROUNDING:g}",
        why="rounding of means in double precision",
        source="algebra",
    )


def _random_by_area(plays: Sequence[Play]) -> Claim:
    (draws,) = {each.draws for each in plays}
    tables = pd.concat([each.controls for each in plays])
    found = against_chance(tables["random_hits"], tables["near"], draws)
    p, total = 2 * min(found.above, found.below), draws * len(tables)
    return Claim(
        name="random points by area",
        kind=PATTERN,
        says="A random point hits with the probability that the region with its margin covers of the image.",
        holds=p >= 0.0027,
        measured=f"{found.hits:,} of {total:,} random points hit, expected {found.expected:,.1f} from the areas: "
        f"z = {found.z:.2f}, between -3 and 3",
        why="a sum of independent draws with exact probabilities; a right rule fails in 0.27 % of seeds",
        source="algebra",
        n=total,
    )


def same_net(largest: float, gap: float, player: str) -> Claim:
    """That the net read at all places is the net as it was trained, on square images."""
    return Claim(
        name="the net at all places",
        kind=IDENTITY,
        says="With its dense layers as convolutions the net has the logits of torchvision's own on square images.",
        holds=gap <= NET_ROUNDING * largest,
        measured=f"largest difference {significant(gap)} at logits up to {significant(largest)} on 224 x 224 pixels, "
        f"at most a share of {NET_ROUNDING:g} ({player})",
        why="the same sums in another order, in single precision",
        source="algebra",
    )


def pointing_tendencies(play: Play) -> list[Claim]:
    """What holds of the net and the methods, as the table has it."""
    return [_net_knows(play), *_better_than_random(play), *_better_than_center(play)] if play.methods else []


def _net_knows(play: Play) -> Claim:
    right = play.knowledge["right"].dropna()
    more, fewer = int((right > 0.5).sum()), int((right < 0.5).sum())
    return Claim(
        name="the net knows the classes",
        kind=PATTERN,
        says="The net has higher logits for the classes that are in an image than for others.",
        holds=_decided(more, fewer),
        measured=f"{100 * right.mean():.1f} % of pairs of a class that is there and one that is not are in this order; "
        f"more than half in {more:,} images, less in {fewer:,} ({play.place})",
        why=f"two-sided exact sign test over images at {ALPHA:g}; outputs in another order of classes fail it",
        source="what the game takes for granted",
        n=len(right),
    )


def _decided(more: int, fewer: int, p: float | None = None) -> bool | None:
    """Whether there are significantly more than fewer; False for significantly fewer, None if it cannot be told."""
    p = sign_test(more, fewer) if p is None else p
    return more > fewer if p < ALPHA else None


def sign_test(more: int, fewer: int) -> float:
    """The two-sided p-value of the exact sign test."""
    return float(stats.binomtest(more, more + fewer).pvalue) if more + fewer else 1.0


def _better_than_random(play: Play) -> list[Claim]:
    names = list(play.methods)
    pairs = [play.hits(name) for name in names]
    found = [against_chance(each["hit"], each["near"], images=each["scene"]) for each in pairs]
    corrected = holm(np.array([min(1.0, 2 * min(each.above, each.below)) for each in found]))
    return [
        Claim(
            name=f"{name} beats {RANDOM}",
            kind=PATTERN,
            says=f"{name} hits more often than a random point.",
            holds=(each.z > 0) if p < ALPHA else None,
            measured=f"{each.hits:,} of {len(own):,} pairs hit, {each.expected:,.1f} expected of random points: "
            f"z = {each.z:.1f}, p = {significant(p)} ({play.place})",
            why=f"two-sided test against the areas, at {ALPHA:g} after Holm's correction for {len(names)} methods: "
            f"exact for at most {MOST_EXACT:,} pairs, each in an image of its own, else by the normal approximation, "
            "in which pairs of one image may depend on one another",
            source=TABLE,
            n=len(own),
        )
        for name, own, each, p in zip(names, pairs, found, corrected, strict=True)
    ]


def _better_than_center(play: Play) -> list[Claim]:
    known = play.game.label == COCO_LABEL  # in the table DeConvNet is above center on COCO, but below it on VOC
    names = [name for name in play.methods if known or name != "DeConvNet"]
    counts = []
    for name in names:
        pairs = play.hits(name)
        gained = (pairs["hit"].astype(int) - pairs[CENTER].astype(int)).groupby(pairs["scene"]).sum()
        counts.append((int((gained > 0).sum()), int((gained < 0).sum()), len(gained)))
    corrected = holm(np.array([sign_test(more, fewer) for more, fewer, _ in counts]))
    return [
        Claim(
            name=f"{name} beats {CENTER}",
            kind=PATTERN,
            says=f"{name} hits more classes than the middle of the image does.",
            holds=_decided(more, fewer, float(p)),
            measured=f"more in {more:,} images, fewer in {fewer:,}, as many in {count - more - fewer:,}; "
            f"p = {significant(p)} ({play.place})",
            why=f"two-sided exact sign test over images, paired, at {ALPHA:g} after Holm's correction for {len(names)} "
            "methods",
            source=f"{TABLE}, where all methods do, but for DeConvNet on VOC2007",
            n=count,
        )
        for name, (more, fewer, count), p in zip(names, counts, corrected, strict=True)
    ]
