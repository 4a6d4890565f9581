"""Letters that say who is not shown to differ (Piepho 2004, J. Comput. Graph. Stat. 13: insert and absorb)."""

from collections.abc import Callable, Collection
from itertools import chain, combinations, count, islice
from string import ascii_lowercase, ascii_uppercase


def letters_of(order: list[str], differ: Callable[[str, str], bool]) -> dict[str, str]:
    """Name -> letters, where two names share a letter if and only if they do not ``differ``; the first has ``a``."""
    pairs = [set(pair) for pair in combinations(order, 2) if differ(*pair)]
    groups = _maximal(order, pairs)
    marks = dict.fromkeys(order, "")
    for letter, group in zip(_alphabet(len(groups)), groups, strict=True):
        for name in group:
            marks[name] += letter
    return marks


def _maximal(order: list[str], differ: Collection[set[str]]) -> list[list[str]]:
    """The largest groups of names of which no two differ; the group of the first name comes first."""
    groups = [set(order)]
    for pair in differ:
        first, second = pair
        split = [part for group in groups if pair <= group for part in (group - {first}, group - {second})]
        groups = [group for group in groups if not pair <= group] + split
        groups = [group for i, group in enumerate(groups) if not _absorbed(group, groups[:i], groups[i + 1 :])]
    ordered = [[name for name in order if name in group] for group in groups]
    return sorted(ordered, key=lambda group: [order.index(name) for name in group])


def _absorbed(group: set[str], before: list[set[str]], after: list[set[str]]) -> bool:
    """Whether another group contains this one; of equal groups the first stays."""
    return any(group <= other for other in before) or any(group < other for other in after)


def _alphabet(number: int) -> list[str]:
    """The first ``number`` letters, each of one character, so that no two of them can be read as one."""
    others = (chr(code) for code in count(ord("À")))
    return list(islice(chain(ascii_lowercase, ascii_uppercase, filter(str.isalpha, others)), number))
