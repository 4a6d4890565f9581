"""Drawings of a choice: the race, with a line for each explainer, and the ladder of a metric."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.results.fonts import shortened
from harness.results.report.drawing import Scale, number, spanning, tick
from harness.results.report.markup import Raw, tag

STEP = 200, 250  # from one number of samples to the next in the drawing of the race: at least and at most
BEFORE, ABOVE, BELOW = 70, 14, 50  # room for the axes
AFTER = 190, 330  # room for the names of those that stay: at least and at most
LEAST_HIGH = 420
LINE = 15.5  # from one name to the next
LETTER, BESIDE = 8.3, 26  # the width of a letter on a narrow screen, where letters are larger; what a name needs beside
LADDER_WIDE, LADDER_HIGH = 300, 158
LADDER_LEFT, LADDER_RIGHT, LADDER_LOW = 60, 20, 42


@dataclass(frozen=True)
class RaceLine:
    """How an explainer fared: ``points`` are numbers of samples and mean differences to the leader.

    standing  ``first`` for the recommended one, ``choice`` in the answer, ``stays`` not dropped, ``left``
    control   whether it does not look at the model
    words     what pointing at its end says
    """

    name: str
    points: Sequence[tuple[int, float]]
    standing: str
    control: bool
    words: str

    @property
    def kind(self) -> str:
        """Its class in the style sheet."""
        return f"{self.standing} control" if self.control else self.standing


def race_plot(lines: Sequence[RaceLine], name: str, y_title: str) -> Raw:
    """The race: those that left are drawn first, so that those that stay lie above them."""
    stops = sorted({samples for line in lines for samples, _ in line.points})
    columns = [[line for line in lines if line.points[-1][0] == stop] for stop in stops]
    step = _room_for([line for column in columns[:-1] for line in column], *STEP)
    after = _room_for(columns[-1], *AFTER)
    high = max(LEAST_HIGH, ABOVE + BELOW + LINE * (max(map(len, columns)) + 1))
    first = BEFORE if len(stops) > 1 else BEFORE + step  # one look stands in the middle of its axis
    x = {stop: first + step * place for place, stop in enumerate(stops)}
    wide = x[stops[-1]] + after
    y = spanning([0.0, *(value for line in lines for _, value in line.points)], high - BELOW, ABOVE)
    last = ["left", "stays", "choice", "first"]
    drawn = sorted(lines, key=lambda line: last.index(line.standing))
    marks = [*_race_axes(x, y, wide - after + 10, high, y_title), *(_race_line(line, x, y) for line in drawn)]
    rooms = [after if stop == stops[-1] else step for stop in stops]
    names = [each for column, room in zip(columns, rooms, strict=True) for each in _names(column, x, y, high, room)]
    about = {"viewBox": f"0 0 {wide} {high:g}", "class_": "plot race", "role": "group", "aria_label": name}
    return tag("svg", tag("title", name), marks, names, **about, style=f"--wide:{wide}px")


def _room_for(lines: Sequence[RaceLine], least: int, most: int) -> int:
    """The room that the names at the ends of lines take, within limits."""
    longest = max((len(line.name) for line in lines), default=0)
    return min(most, max(least, round(BESIDE + LETTER * longest)))


def _race_axes(x: dict[int, float], y: Scale, right: float, high: float, y_title: str) -> list[Raw]:
    bottom = high - BELOW
    drawn = [tag("line", x1=BEFORE, x2=right, y1=bottom, y2=bottom, class_="axis")]
    for value in y.ticks:
        at = y(value)
        drawn.append(tag("line", x1=BEFORE, x2=right, y1=at, y2=at, class_="grid" if value else "grid zero"))
        drawn.append(tag("text", tick(value), x=BEFORE - 8, y=at + 4, class_="tick", text_anchor="end"))
    for samples, at in x.items():
        drawn.append(tag("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, class_="axis"))
        drawn.append(tag("text", f"{samples:,}", x=at, y=bottom + 18, class_="tick", text_anchor="middle"))
    title = {"class_": "title", "text_anchor": "middle"}
    middle = (ABOVE + bottom) / 2
    drawn.append(tag("text", "samples on which an explainer was measured", x=(BEFORE + right) / 2, y=high - 8, **title))
    drawn.append(tag("text", y_title, x=16, y=middle, transform=f"rotate(-90 16 {middle})", **title))
    return drawn


def _race_line(line: RaceLine, x: dict[int, float], y: Scale) -> Raw:
    points = " ".join(f"{x[samples]},{y(value)}" for samples, value in line.points)
    return tag("polyline", points=points, class_=f"way {line.kind}")


def _names(lines: Sequence[RaceLine], x: dict[int, float], y: Scale, high: float, room: float) -> list[Raw]:
    """The ends of the lines that end at one number of samples: a mark each, and its name where no other stands."""
    lines = sorted(lines, key=lambda line: -line.points[-1][1])
    ends = [y(line.points[-1][1]) for line in lines]
    places, drawn = apart(ends, LINE, ABOVE, high - BELOW - 4), []
    for line, end, place in zip(lines, ends, places, strict=True):
        at = x[line.points[-1][0]]
        if abs(end - place) > 2:
            drawn.append(tag("polyline", points=f"{at},{end} {at + 12},{place} {at + 16},{place}", class_="stem"))
        text = shortened(line.name, int((room - BESIDE) / LETTER))
        drawn.append(tag("text", text, x=at + 19, y=round(place + 4, 1), class_=f"name {line.kind}"))
        about = {"tabindex": 0, "role": "img", "data_tip": line.words, "aria_label": line.words}
        drawn.append(_end_mark(line, at, end, about))
    return drawn


def _end_mark(line: RaceLine, at: float, end: float, about: dict) -> Raw:
    """A cross for one that left, a dot for one that stays."""
    if line.standing != "left":
        return tag("circle", cx=at, cy=end, r=5, class_=f"end {line.kind}", **about)
    cross = f"M{at - 4},{end - 4}l8,8m0,-8l-8,8"
    return tag("path", d=cross, class_=f"end {line.kind}", **about)


def apart(places: Sequence[float], room: float, low: float, high: float) -> list[float]:
    """Places in ascending order, moved as little as needed to be ``room`` apart, within ``low`` and ``high``."""
    groups: list[list[float]] = []  # the sum of the wished places, each less its own offset, and how many
    for place in places:
        groups.append([place, 1])
        while len(groups) > 1 and _start(groups[-2]) + room * groups[-2][1] > _start(groups[-1]):
            total, count = groups.pop()
            groups[-1] = [groups[-1][0] + total - room * groups[-1][1] * count, groups[-1][1] + count]
    found = [_start(group) + room * number for group in groups for number in range(int(group[1]))]
    found = [max(place, low + room * number) for number, place in enumerate(found)]
    return [min(place, high - room * (len(found) - 1 - number)) for number, place in enumerate(found)]


def _start(group: list[float]) -> float:
    return group[0] / group[1]


def ladder_plot(name: str, steps: Sequence[tuple[float, float]], y: tuple[float, float], *, used: bool) -> Raw:
    """The mean score of maps against the share of noise in them; ``y`` are the ends that all ladders share."""
    at = Scale(0, 1, LADDER_LEFT, LADDER_WIDE - LADDER_RIGHT)
    bottom = LADDER_HIGH - LADDER_LOW
    up = spanning(y, bottom, 10)
    drawn = []
    for value in up.ticks[:: 1 + (len(up.ticks) > 4)]:
        line = {"x1": at(0), "x2": at(1), "y1": up(value), "y2": up(value)}
        drawn.append(tag("line", **line, class_="grid" if value else "grid zero"))
        drawn.append(tag("text", tick(value), x=at(0) - 7, y=up(value) + 4, class_="tick", text_anchor="end"))
    for share, _ in steps:
        drawn.append(tag("text", f"{share:.0%}", x=at(share), y=bottom + 18, class_="tick", text_anchor="middle"))
    middle, title = (10 + bottom) / 2, {"text_anchor": "middle"}
    drawn.append(tag("text", "share of noise", x=(at(0) + at(1)) / 2, y=LADDER_HIGH - 5, **title))
    drawn.append(tag("text", "mean score", x=12, y=middle, transform=f"rotate(-90 12 {middle})", **title))
    kind = "line" if used else "line unused"
    drawn.append(tag("polyline", points=" ".join(f"{at(a)},{up(b)}" for a, b in steps), class_=kind))
    drawn += [
        tag("circle", cx=at(a), cy=up(b), r=3.5, class_=f"{kind} end", data_tip=f"{a:.0%} noise: {number(b)}")
        for a, b in steps
    ]
    about = {"viewBox": f"0 0 {LADDER_WIDE} {LADDER_HIGH}", "role": "img", "aria_label": name}
    return tag("svg", tag("title", name), drawn, **about)
