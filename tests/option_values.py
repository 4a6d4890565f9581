"""Values of options that make no sense, and values at the edge of those that do."""

from collections.abc import Iterator
from typing import Any

from harness.option_kinds import AnyOf, Kind, Many, Number, Text, Words, YesOrNo

NAN, INF = float("nan"), float("inf")
# No option takes these, whatever it is.
SENSELESS = [NAN, INF, -INF, object(), b"text", 1j, {1}, 10**400, -(10**400), [NAN], [[[1]]], (None,), print]
# Beside these, by the kind of value that an option has.
WRONG = {
    bool: [0, 1, 0.0, "true", "yes", [], [True], {}, {"a": 1}, 10**9],
    int: [True, False, 2.5, 10**18, -(10**9), "many", "3", "", [3], [], {"a": 3}, {}],
    float: [True, False, 1e300, -1e300, 10**100, "much", "0.5", "", [0.5, 0.5], [], {"a": 1}, {}],
    str: [3, 0.5, True, [3], {"a": "b"}, {}],
    tuple: [True, (), [], [True], "ten", [[10]], {"ten": 10}, [NAN], [10, INF], [-10], [10**9]],
}


def alternatives(kind: Kind) -> tuple[Kind, ...]:
    """The kinds of which a value may be."""
    return tuple(each for own in kind.kinds for each in alternatives(own)) if isinstance(kind, AnyOf) else (kind,)


def plain_type(default: Any, kind: Kind) -> type | None:
    """The type of the values of an option, from its default, or from its kind where the default is None."""
    if default is not None:
        return type(default)
    types = {YesOrNo: bool, Text: str, Words: str, Many: None}
    found = [
        (int if each.whole else float) if isinstance(each, Number) else types.get(type(each))
        for each in alternatives(kind)
    ]
    return next((each for each in found if each), None)


def edges(kind: Kind) -> Iterator[Any]:
    """The least values of a kind, with the next ones, the largest share, and every word."""
    for each in alternatives(kind):
        if isinstance(each, Number):
            yield from _edges_of_numbers(each)
        elif isinstance(each, Many) and isinstance(each.each, Number):
            yield from ((value,) for value in _edges_of_numbers(each.each))
        elif isinstance(each, Words):
            yield from each.choices
        elif isinstance(each, YesOrNo):
            yield from (False, True)
        elif isinstance(each, Text) and each.form:
            yield from (*each.form.plain, *(f"{word}:1" for word in each.form.sized))


def _edges_of_numbers(kind: Number) -> Iterator[Any]:
    least, most = kind.within.least, kind.within.most
    if kind.whole:
        yield from (value for value in (least, least + 1) if kind.takes(value))
        return
    width = min(most - least, 1.0)
    candidates = (least, least + 1e-6 * width, least + 0.01 * width, *([most] if most <= 1 else []))
    yield from dict.fromkeys(float(value) for value in candidates if kind.takes(float(value)))
