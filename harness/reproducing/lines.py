"""Ours beside theirs: a line for each published number and each claim, with its verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import UserError
from harness.reproducing.findings import IDENTITY, Claim, Findings
from harness.reproducing.published import KEY, published_numbers

REPRODUCED, DIFFERS, HOLDS, FAILS, NOT_COMPARABLE = VERDICTS = (
    "reproduced",
    "differs",
    "pattern holds",
    "pattern fails",
    "not comparable",
)
SMALL = "small scale: fewer data, or other ones, than in the paper"
SURE = 1.96  # standard errors: our number is outside the tolerance where all of its 95 % interval is


@dataclass(frozen=True)
class Expectation:
    """Which published numbers a study measures, and how near ours have to be.

    table       the name of the table in ``results/reference``
    where       columns of the table -> the value, or the values, of the rows that count
    ours        columns of our numbers -> the value that all our rows have, such as ``{setting: local}``
    words       columns of the table -> {their word: ours}; a row with another word is not measured
    same        columns of the table whose words are ours too
    tolerance   the largest difference, in units of the number; with ``relative``, as a share of the published one
    why         why this tolerance
    unlike      why ours cannot be compared with theirs at all: other data, other weights, a known defect; "" if it can
    """

    table: str
    tolerance: float
    why: str
    where: Mapping[str, Any]
    words: Mapping[str, Mapping[str, str]]
    ours: Mapping[str, str]
    same: Sequence[str] = ()
    relative: bool = False
    unlike: str = ""


@dataclass(frozen=True)
class Line:
    """One line of a reproduction: a published number beside ours, or a claim with its test.

    verdict  one of VERDICTS; an identity is reproduced or differs
    reason   why it is this verdict, where that is not plain from the numbers
    bad      whether something that should hold does not
    claim    whether it is a claim
    """

    what: str
    verdict: str
    reason: str = ""
    ours: float = float("nan")
    spread: float = float("nan")
    spread_kind: str = ""
    n: int | None = None
    theirs: float = float("nan")
    their_spread: float = float("nan")
    their_spread_kind: str = ""
    their_n: str = ""
    tolerance: float = float("nan")
    why: str = ""
    measured: str = ""
    provenance: str = ""
    source: str = ""
    note: str = ""
    tried: str = ""
    bad: bool = False
    claim: bool = False


def lines_of(findings: Findings, expectations: Sequence[Expectation], *, small: bool) -> list[Line]:
    """Claims first, then every published number of the expectations that the study measures."""
    found = [_line_of_claim(each) for each in findings.claims]
    for each in expectations:
        found += _lines_beside(findings.numbers, each, small=small)
    return found


def _line_of_claim(claim: Claim) -> Line:
    if claim.holds is None:
        verdict, reason = NOT_COMPARABLE, "the test cannot tell"
    elif claim.kind == IDENTITY:
        verdict, reason = REPRODUCED if claim.holds else DIFFERS, ""
    else:
        verdict, reason = HOLDS if claim.holds else FAILS, ""
    if not claim.expected:
        known = "it holds, which was not expected" if claim.holds else "it was not expected to hold here"
        reason = "; ".join(filter(None, (reason, known)))
    return Line(
        what=claim.says,
        verdict=verdict,
        reason=reason,
        n=claim.n,
        measured=claim.measured,
        why=claim.why,
        source=claim.source,
        tried=claim.tried,
        bad=claim.holds is False and claim.expected,
        claim=True,
    )


def _lines_beside(numbers: pd.DataFrame, expectation: Expectation, *, small: bool) -> Iterator[Line]:
    rows = published_numbers(expectation.table, expectation.where)
    own = numbers
    for column, value in expectation.ours.items():
        own = own[own[column] == value]
    places = _places_of_numbers(own, [*expectation.words, *expectation.same])
    measured = 0
    for row in rows.to_dict("records"):
        wanted = [words.get(row[column]) for column, words in expectation.words.items()]
        chosen = places.get((*wanted, *(row[column] for column in expectation.same)), [])
        if len(chosen) > 1:
            raise UserError(
                f"{len(chosen)} of our numbers stand for one of {expectation.table}: {[row[each] for each in KEY]}"
            )
        if chosen:
            measured += 1
            yield _line_beside(own.iloc[chosen[0]], row, expectation, small=small)
    if not measured:
        raise UserError(f"the study measures none of the {len(rows)} numbers of {expectation.table} that are expected")


def _places_of_numbers(numbers: pd.DataFrame, columns: Sequence[str]) -> dict[tuple[Any, ...], list[int]]:
    """The values in these columns -> the rows that have them."""
    found: dict[tuple[Any, ...], list[int]] = {}
    # Without columns every row has the same, empty key.
    keys = numbers[list(columns)].itertuples(index=False, name=None) if columns else [()] * len(numbers)
    for place, key in enumerate(keys):
        found.setdefault(key, []).append(place)
    return found


def _line_beside(ours: pd.Series, theirs: Mapping[str, Any], expectation: Expectation, *, small: bool) -> Line:
    tolerance = expectation.tolerance * (abs(theirs["value"]) if expectation.relative else 1.0)
    verdict, reason = verdict_on(
        float(ours["value"]),
        float(np.hypot(standard_error(*ours[["spread", "spread_kind", "n"]]), _their_error(theirs))),
        float(theirs["value"]),
        tolerance,
        expectation.unlike or (SMALL if small else ""),
    )
    return Line(
        what=_published_in_words(theirs),
        verdict=verdict,
        reason=reason,
        ours=float(ours["value"]),
        spread=float(ours["spread"]),
        spread_kind=ours["spread_kind"],
        n=None if pd.isna(ours["n"]) else int(ours["n"]),
        theirs=float(theirs["value"]),
        their_spread=float(theirs["spread"]),
        their_spread_kind=_text(theirs["spread_kind"]),
        their_n=_text(theirs["n_images"]),
        tolerance=tolerance,
        why=expectation.why,
        provenance=theirs["provenance"],
        source=f"{theirs['paper']}, {_text(theirs['arxiv'])}, {theirs['source']}".replace(", ,", ","),
        note=_text(theirs["note"]),
        bad=verdict == DIFFERS,
    )


def _published_in_words(theirs: Mapping[str, Any]) -> str:
    """Explainer and metric of a published number, and in brackets its table, model and data, in the table's words."""
    known = {each: theirs[each] for each in KEY if isinstance(theirs[each], str)}
    what = ", ".join(known[each] for each in ("explainer", "metric") if each in known)
    where = ", ".join(known[each] for each in ("table_or_figure", "model", "dataset") if each in known)
    return f"{what} ({where})" if where else what


def verdict_on(ours: float, error: float, theirs: float, tolerance: float, unlike: str = "") -> tuple[str, str]:
    """The verdict on a number and its reason.

    ``error`` is the standard error of the difference of the two, 0 where both are exact and NaN where it is not known.
    Ours is reproduced within the tolerance; it differs where the 95 % interval of the difference lies outside; and it
    cannot be compared where that interval reaches into the tolerance, or for a reason that is given as ``unlike``.
    """
    if unlike:
        return NOT_COMPARABLE, unlike
    if not np.isfinite(ours):
        return NOT_COMPARABLE, "no number could be measured"
    distance = abs(ours - theirs)
    if distance <= tolerance:
        return REPRODUCED, ""
    if not np.isfinite(error):
        return NOT_COMPARABLE, "outside the tolerance, and it is not known how certain our number is"
    if distance - SURE * error > tolerance:
        return DIFFERS, ""
    return NOT_COMPARABLE, "outside the tolerance, but its 95 % interval is not: more samples are needed"


def standard_error(spread: float, kind: str, n: float | None) -> float:
    """The standard error of a mean by its spread: 0 for one without, which is exact; NaN where it cannot be known."""
    if kind == "none":
        return 0.0
    if kind == "standard error":
        return float(spread)
    return float(spread / np.sqrt(n)) if n and n > 1 else float("nan")


def _their_error(theirs: Mapping[str, Any]) -> float:
    """The standard error of a published number where it has one, else 0: then the tolerance has to allow for it."""
    known = _text(theirs["spread_kind"]).startswith("standard error") and np.isfinite(theirs["spread"])
    return float(theirs["spread"]) if known else 0.0


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if pd.isna(value) else str(value)
