"""The two things that can be said instead of a number: "this cannot be" and "you made a mistake"."""

from collections.abc import Iterable
from difflib import get_close_matches


class NotApplicable(Exception):
    """This explainer or metric cannot serve this model or data; the reason becomes a row, not a failure."""


class UserError(ValueError):
    """A mistake in what the user gave, told in one line: what was wrong, what came, what is expected."""


MOST_LISTED = 12


def unknown(kind: str, name: object, choices: Iterable[str], listing: str = "") -> UserError:
    """The error for a misspelt name: what came, the nearest names, and what there is.

    More than twelve names are not listed where ``listing`` is the command that lists them.
    """
    choices = sorted(choices)
    close = [repr(each) for each in get_close_matches(str(name), choices, n=3)]
    nearest = f"did you mean {' or '.join(close)}? " if close else ""
    if listing and len(choices) > MOST_LISTED:
        return UserError(f"unknown {kind} {name!r}: {nearest}{len(choices)} names: {listing}")
    return UserError(f"unknown {kind} {name!r}: {nearest}available: {', '.join(choices) or 'none'}")


def one_line(error: BaseException) -> str:
    """An exception as one line: its kind, unless its words were written for the user, and its message."""
    text = printable(error) or "no message"
    return text if isinstance(error, UserError | NotApplicable) else f"{type(error).__name__}: {text}"


def printable(text: object) -> str:
    """A text on one line without control characters, which could command the terminal that shows it."""
    return "".join(letter for letter in " ".join(str(text).split()) if letter.isprintable() or letter == " ")
