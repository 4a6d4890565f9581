"""Percentages as an option: text, which a command line can take and a cell's identity can hold."""

from harness.errors import UserError


def percentages(text: str) -> tuple[float, ...]:
    """The numbers of ``text``, percentages above 0 and up to 100 with spaces between them."""
    try:
        found = tuple(float(word) for word in str(text).split())
    except ValueError:
        found = ()
    if not found or not all(0 < percent <= 100 for percent in found):
        raise UserError(f"percents are {text!r}, expected numbers up to 100 with spaces between them, like 10 50 90")
    return found
