"""The two things that can be said instead of a number: "this cannot be" and "you made a mistake"."""

from collections.abc import Iterable
from difflib import get_close_matches


class NotApplicable(Exception):
    """This explainer or metric cannot serve this model or data; the reason becomes a row, not a failure."""


class UserError(ValueError):
    """A mistake in what the user gave, told in one line: what was wrong, what came, what is expected."""


def unknown(kind: str, name: object, choices: Iterable[str]) -> UserError:
    """The error for a misspelt name: it says what came, the likeliest meaning and every choice."""
    choices = sorted(choices)
    close = get_close_matches(str(name), choices, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return UserError(f"unknown {kind} {name!r}: {hint}available: {', '.join(choices) or 'none'}")


def one_line(error: BaseException) -> str:
    """An exception as one line: its kind, unless its words were written for the user, and its message."""
    text = printable(error) or "no message"
    return text if isinstance(error, UserError | NotApplicable) else f"{type(error).__name__}: {text}"


def printable(text: object) -> str:
    """A text on one line without control characters, which could command the terminal that shows it."""
    return "".join(letter for letter in " ".join(str(text).split()) if letter.isprintable() or letter == " ")
