"""Checks of options that several metrics have."""

from collections.abc import Iterable

from harness.errors import UserError, unknown


def check_choice(option: str, value: str, choices: Iterable[str]) -> None:
    """Raise UserError for a value that is not among an option's choices."""
    if value not in choices:
        raise unknown(option, value, choices)


def check_draws(**numbers: int) -> None:
    """Raise UserError for a number of draws below 1, given by the name of its option."""
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f"{name} is {number}, expected at least 1")
