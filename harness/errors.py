"""The errors of the package, ``NotApplicable``, ``UserError`` and ``NotMeasured``, and helpers for their messages."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class NotApplicable(Exception):
    """This explainer or metric does not work for this model or data. A row records the reason; it is not a failure.

    ``maps`` (N, ...): attributions of the samples that could be explained, NaN for the others; None if there are none.
    """

    def __init__(self, reason: str = "", maps: Any = None) -> None:
        super().__init__(reason)
        self.maps = maps


class UserError(ValueError):
    """A mistake in what the user gave; its one line says what was wrong, what came and what is expected."""

    status = 2  # of a command that ends with it


class NotMeasured(UserError):
    """What is asked for could not be measured, which need not be the user's mistake: memory, a download, a signal."""

    status = 1


# The reason of a score that a metric could not compute because a number was not finite.
OUTPUTS_NOT_FINITE = "the model's outputs for perturbed inputs, or their log-odds, are not finite"
NO_SCORE = "every score is undefined"  # where no reason is known
MOST_LISTED = 12
LONGEST_NAME = 200  # letters of an unknown name that are shown
LONGEST_TEXT = 10_000  # letters of an error's message that are read


def unknown(kind: str, name: object, choices: Iterable[str], listing: str = "", meant: Iterable[str] = ()) -> UserError:
    """The error for an unknown name, with the nearest known names and the list of all known names.

    If there are more than twelve names and ``listing`` is given (the command that lists them), it replaces the list.
    ``meant`` are names that are known to be meant by this one; they replace the nearest ones.
    """
    choices, shown = sorted(choices), printable(repr(name))[:LONGEST_NAME]
    close = [repr(each) for each in meant] or [repr(each) for each in get_close_matches(str(name), choices, n=3)]
    nearest = f"did you mean {' or '.join(close)}? " if close else ""
    if listing and len(choices) > MOST_LISTED:
        return UserError(f"unknown {kind} {shown}: {nearest}see all {len(choices)} names: {listing}")
    return UserError(f"unknown {kind} {shown}: {nearest}available: {', '.join(choices) or 'none'}")


def one_line(error: BaseException) -> str:
    """An exception as one line: its class and message; only the message if it is one of this module's errors."""
    text = printable(error) or "no message"
    return text if isinstance(error, UserError | NotApplicable) else f"{printable(type(error).__name__)}: {text}"


def encodable(text: object) -> str:
    """A text that can be written as UTF-8: a byte of a file name that is none is written as ``\\xff``."""
    try:
        return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a character of two parts, which stands for no byte
        return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def printable(text: object) -> str:
    """A text on one line, without control characters, which a terminal would obey, and without halves of letters."""
    letters = _letters_of(text)
    if letters.isprintable() and "  " not in letters and letters == letters.strip():  # most texts, and much faster
        return letters
    return "".join(letter for letter in " ".join(letters.split()) if letter.isprintable())


def _letters_of(value: object) -> str:
    """The text of an object, at most LONGEST_TEXT letters; what is wrong with it if it has none."""
    try:
        return str(value)[:LONGEST_TEXT]
    except BaseException as error:  # an item's own class of errors may raise anything
        return f"(its text cannot be shown: str() raised {type(error).__name__})"
