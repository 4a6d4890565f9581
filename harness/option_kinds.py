"""Kinds of values: which values an option takes, from its annotation, or from its default where it has no annotation.

What is no ``int``, ``float``, ``bool``, ``str``, ``Literal``, ``None``, tuple, sequence, mapping or tensor, or a union
of these, takes anything.
"""

import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from harness.errors import UserError, printable, unknown
from harness.option_types import Range, Sized

LONGEST_SHOWN = 80  # letters of a wrong value


class Kind:
    """A set of values; as a text, what is expected of a value, for messages and lists."""

    def takes(self, value: Any) -> bool:
        """Whether the value belongs to it."""
        return True

    def words(self) -> tuple[str, ...]:
        """The words that it takes, if these can be counted."""
        return ()

    def __str__(self) -> str:
        return "anything"


@dataclass(frozen=True)
class Number(Kind):
    """Numbers in a range; whole ones, or all."""

    whole: bool
    within: Range = Range()

    def takes(self, value: Any) -> bool:
        """Whether it is a number of this kind; True and False are none."""
        number = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        return number and value in self.within

    def __str__(self) -> str:
        if self.within == Range():
            return "a whole number" if self.whole else "a finite number"
        return f"a {'whole ' * self.whole}number {self.within}"


@dataclass(frozen=True)
class YesOrNo(Kind):
    """True and False."""

    def takes(self, value: Any) -> bool:
        """Whether it is True or False; 0 and 1 are not."""
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class Words(Kind):
    """Some words, or some whole numbers."""

    choices: tuple[str | int, ...]

    def takes(self, value: Any) -> bool:
        """Whether it is one of the words."""
        return type(value) in (str, int) and value in self.choices

    def words(self) -> tuple[str, ...]:
        """The words."""
        return tuple(map(str, self.choices))

    def __str__(self) -> str:
        return " or ".join(self.words()) if len(self.choices) < 3 else f"one of {', '.join(self.words())}"


@dataclass(frozen=True)
class Text(Kind):
    """Texts: all, or those of ``form``."""

    form: Sized | None = None

    def takes(self, value: Any) -> bool:
        """Whether it is a text of this form."""
        return isinstance(value, str) and (self.form is None or value in self.form)

    def words(self) -> tuple[str, ...]:
        """The words that the form has."""
        return (*self.form.plain, *(f"{word}:N" for word in self.form.sized)) if self.form else ()

    def __str__(self) -> str:
        return f"one of {self.form}" if self.form else "a text"


@dataclass(frozen=True)
class Nothing(Kind):
    """None."""

    def takes(self, value: Any) -> bool:
        """Whether it is None."""
        return value is None

    def __str__(self) -> str:
        return "none"


@dataclass(frozen=True)
class Many(Kind):
    """Lists and tuples of values of one kind."""

    each: Kind
    least: int = 0

    def takes(self, value: Any) -> bool:
        """Whether it is a list or a tuple of such values, of the least length or longer."""
        return isinstance(value, list | tuple) and len(value) >= self.least and all(map(self.each.takes, value))

    def __str__(self) -> str:
        return f"a list, each {self.each}"


@dataclass(frozen=True)
class Mapped(Kind):
    """Mappings."""

    def takes(self, value: Any) -> bool:
        """Whether it is a mapping."""
        return isinstance(value, Mapping)

    def __str__(self) -> str:
        return "a mapping"


@dataclass(frozen=True)
class Instance(Kind):
    """Objects of a class, which is known by its name: the class need not be imported."""

    name: str

    def takes(self, value: Any) -> bool:
        """Whether the value's class, or one that it inherits from, has the name."""
        return any(each.__name__ == self.name for each in type(value).__mro__)

    def __str__(self) -> str:
        return f"a {self.name[0].lower()}{self.name[1:]}"


@dataclass(frozen=True)
class AnyOf(Kind):
    """Values of any of several kinds."""

    kinds: tuple[Kind, ...]

    def takes(self, value: Any) -> bool:
        """Whether one of the kinds takes it."""
        return any(each.takes(value) for each in self.kinds)

    def words(self) -> tuple[str, ...]:
        """The words of all kinds."""
        return tuple(word for each in self.kinds for word in each.words())

    def __str__(self) -> str:
        return ", or ".join(map(str, self.kinds))


ANYTHING = Kind()


def check_value(what: str, value: Any, kind: Kind) -> None:
    """UserError in one line if the value of ``what`` is not of its kind."""
    if kind.takes(value):
        return
    raise UserError(f"{what} is {value_shown(value)}, expected {kind}{_advice(what, value, kind)}")


def _advice(what: str, value: Any, kind: Kind) -> str:
    """The nearest word to a text that is none of the words, and how a number is typed where a text is expected."""
    if isinstance(value, str):
        close = get_close_matches(value[:LONGEST_SHOWN], kind.words(), n=1)
        other = close and close[0].partition(":")[0] != value.partition(":")[0]
        return f"; did you mean {close[0]!r}?" if other else ""
    shown = value_shown(value)
    if type(value) in (bool, int, float) and len(shown) < LONGEST_SHOWN and not kind.words() and kind.takes(shown):
        name = what.partition(" of ")[0].removeprefix("option ")
        return f"; on the command line in quotes: '{name}=\"{value}\"'"
    return ""


def value_shown(value: Any) -> str:
    """A value on one line of a message, cut if it is long."""
    try:
        text = printable(repr(value))
    except Exception:  # a number of more digits than Python writes, or an object of the user's
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def kinds_of(function: Callable[..., Any], options: Mapping[str, Any], bundles: Iterable[Any]) -> dict[str, Kind]:
    """The kind of each option of a function, whose bundles are ``bundles``; ``options`` are the defaults."""
    annotations = _annotations(function)
    for bundle in bundles:
        annotations |= _annotations(type(bundle))
    return {name: kind_of(annotations.get(name), default) for name, default in options.items()}


def _annotations(owner: Any) -> dict[str, Any]:
    """The annotations of a function or a class, texts resolved; those that cannot be resolved are left out."""
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except (NameError, TypeError, AttributeError):  # a name for type checkers only, or an object without annotations
        written = getattr(owner, "__annotations__", {})
        return {name: each for name, each in written.items() if not isinstance(each, str)}


def kind_of(annotation: Any, *default: Any) -> Kind:
    """The kind that an annotation declares; without one, that of the default. A default belongs to its kind."""
    kind = _kind_of_annotation(annotation) if annotation is not None else _kind_of_default(*default)
    return AnyOf((kind, *(_Just(each) for each in default))) if not all(map(kind.takes, default)) else kind


@dataclass(frozen=True)
class _Just(Kind):
    """One value, and what equals it."""

    value: Any

    def takes(self, value: Any) -> bool:
        return value is self.value or (type(value) is type(self.value) and bool(value == self.value))

    def __str__(self) -> str:
        return value_shown(self.value)


def _kind_of_default(default: Any) -> Kind:
    """The kind of an option without annotation."""
    if isinstance(default, bool):
        return YesOrNo()
    if isinstance(default, int | float):
        return Number(whole=isinstance(default, int))
    if isinstance(default, tuple) and default and all(isinstance(each, int | float) for each in default):
        return Many(Number(whole=False), least=1)
    return ANYTHING


def _kind_of_annotation(annotation: Any) -> Kind:
    plain = {bool: YesOrNo(), int: Number(True), float: Number(False), str: Text(), type(None): Nothing()}
    if annotation is None or (isinstance(annotation, type) and annotation in plain):
        return plain[annotation or type(None)]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _limited(_kind_of_annotation(inner[0]), inner[1:])
    if origin is Literal:
        return Words(inner)
    if origin in (Union, types.UnionType):
        return _united([_kind_of_annotation(each) for each in inner])
    if origin in (tuple, list, Sequence):
        return Many(_kind_of_annotation(inner[0]), least=origin is tuple)
    if origin is Mapping or annotation is Mapping:
        return Mapped()
    return Instance("Tensor") if getattr(annotation, "__name__", "") == "Tensor" else ANYTHING


def _united(kinds: list[Kind]) -> Kind:
    """Any of the kinds, whose words are joined."""
    if any(type(each) is Kind for each in kinds):
        return ANYTHING
    words = tuple(word for each in kinds if isinstance(each, Words) for word in each.choices)
    joined = [Words(words)] * bool(words) + [each for each in kinds if not isinstance(each, Words)]
    return joined[0] if len(joined) == 1 else AnyOf(tuple(joined))


def _limited(kind: Kind, notes: tuple[Any, ...]) -> Kind:
    """A kind within the range, or of the form, that stands beside it."""
    for note in notes:
        if isinstance(note, Range) and isinstance(kind, Number):
            kind = Number(kind.whole, note)
        elif isinstance(note, Sized) and isinstance(kind, Text):
            kind = Text(note)
    return kind


def check_fields(section: str, settings: Any) -> None:
    """UserError in one line if a field of a dataclass of settings is not of the kind of its annotation."""
    annotations = _annotations(type(settings))
    for each in fields(settings):
        if each.name in annotations and not is_dataclass(getattr(settings, each.name)):
            check_value(f"{section}.{each.name}", getattr(settings, each.name), kind_of(annotations[each.name]))


def settings(cls: type, kind: str, values: Any) -> Any:
    """A dataclass of settings from a mapping; the error for an unknown name lists the known ones."""
    if not isinstance(values, Mapping):
        raise UserError(f"{kind} is {value_shown(values)}, expected a mapping of settings to values")
    for name in values:
        if name not in cls.__dataclass_fields__:
            raise unknown(f"{kind} setting", name, cls.__dataclass_fields__)
    return cls(**values)
