"""Labels of models and data sets in one run: a label belongs to one model or data set, which keeps it."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from harness.engine.labels import with_options
from harness.engine.selection import Chosen
from harness.errors import UserError
from harness.identity import canonical
from harness.jobs.plan import Plan
from harness.results.label_claims import ASKING, LabelClaim, claims_in
from harness.results.row_labels import MODEL_AND_DATA, Row, labelling_rows, settings_and_labels, settings_in
from harness.results.store import Store

MOST_TURNS = 5  # after which a process keeps the labels that it has claimed last
# How long a process waits for others to give way, which takes them milliseconds, unless they are stopped.
MOST_SECONDS_TO_WAIT, SECONDS_BETWEEN_LOOKS = 10.0, 0.05


def labelled_in_run(plan: Plan, store: Store) -> Plan:
    """The plan with labels for its model and data that fit the rows of its run, and the processes at work on it: see
    ``labelled_among``."""
    claims = claims_in(store.directory)
    check_not_renamed(plan, claims)
    return labelled_among(plan, [*claims, *labelling_rows(store)])


@contextmanager
def claimed_labels(plan: Plan, store: Store) -> Iterator[Plan]:
    """Inside, other processes see what this one calls its model and data; the plan, under labels that fit theirs.

    No lock is needed, which not every file system has (``harness.results.label_claims``).
    """
    claim = LabelClaim(store.directory)
    try:
        plan = _labels_held(plan, claim)
        claim.write(row_of_labels(plan))
        yield plan
    finally:
        claim.withdraw()


def _labels_held(plan: Plan, claim: LabelClaim) -> Plan:
    """The plan under labels that it asks for with its claim until no claim of others is in the way.

    UserError if one that goes before has the label that the user gives, or if one that has to give way does not.
    """
    waited, turns = 0.0, 0
    claim.write({**row_of_labels(plan), ASKING: True})
    while True:
        before, behind = claim.of_others()
        fitting = _fitting_labels(plan, [*before, *behind] if waited >= MOST_SECONDS_TO_WAIT else before)
        if row_of_labels(fitting) != row_of_labels(plan) and turns < MOST_TURNS:
            plan, turns = fitting, turns + 1
            claim.write({**row_of_labels(plan), ASKING: True})
        elif waited >= MOST_SECONDS_TO_WAIT or not _is_in_the_way(plan, behind):
            return plan
        else:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            waited += SECONDS_BETWEEN_LOOKS


def _fitting_labels(plan: Plan, claims: list[Row]) -> Plan:
    """The plan with labels that fit these claims; UserError where one that the user gives does not."""
    check_not_renamed(plan, claims)
    return labelled_among(plan, claims)


def _is_in_the_way(plan: Plan, claims: list[Row]) -> bool:
    """Whether the plan cannot have its labels beside these claims."""
    try:
        return row_of_labels(_fitting_labels(plan, claims)) != row_of_labels(plan)
    except UserError:
        return True


def check_not_renamed(plan: Plan, claims: Iterable[Row]) -> None:
    """UserError if the user gives a label to what a process at work measures under another one."""
    for section, settings, label in (each for claim in claims for each in settings_and_labels(claim)):
        chosen = getattr(plan, section)
        if chosen.named and label != chosen.label and settings == _identity(chosen):
            raise UserError(
                f"{section}.label is {chosen.label!r}, and another command measures this {section} as {label!r} at the "
                "moment: give it the new label when that has ended"
            )


def labelled_among(plan: Plan, rows: Iterable[Row]) -> Plan:
    """The plan with labels for its model and data that fit these rows.

    A model or data set that the rows know keeps its label there, unless the user gives one. A label by itself that
    belongs to another one in the run is followed by the options that differ. UserError where a label that the user
    gives belongs to another one: the tables would mix them.
    """
    rows = list(rows)
    return replace(plan, **{section: _labelled(section, getattr(plan, section), rows) for section in MODEL_AND_DATA})


def row_of_labels(plan: Plan) -> Row:
    """What a row of the plan tells of its model and data set."""
    chosen = {section: getattr(plan, section) for section in MODEL_AND_DATA}
    labels = {section: each.label for section, each in chosen.items()}
    return {**labels, "config": {section: _identity(each) for section, each in chosen.items()}}


def rename_rows(plan: Plan, store: Store) -> list[Row]:
    """Write the rows of the plan's model and data once more under the labels that the user gives now, in one step; the
    rows as they were.

    Nobody else should measure them meanwhile: a new row that came in between would be hidden by the older one under its
    new label.
    """
    named = [section for section in MODEL_AND_DATA if getattr(plan, section).named]
    former, renamed = [], []
    for row in store.latest(named=False).values() if named else ():
        labels = {
            section: getattr(plan, section).label
            for section in named
            if settings_in(row, section) == _identity(getattr(plan, section))
        }
        if any(row.get(section) != label for section, label in labels.items()):
            former.append(row)
            renamed.append({**row, **labels})
    store.append_all(renamed)
    return former


def _labelled(section: str, chosen: Chosen, rows: list[Row]) -> Chosen:
    mine, known = _identity(chosen), dict(_known_labels(section, rows))
    other = known.get(chosen.label, mine)
    if chosen.named:
        if other != mine:
            raise UserError(
                f"{section}.label is {chosen.label!r}, which is another {section} in this run (other options: "
                f"{', '.join(_differing_options(mine, other))}); give another label, or another run=NAME"
            )
        return chosen
    label = next((label for label, identity in known.items() if identity == mine), None)
    if label is None and other != mine:
        label = with_options(
            chosen.label, {name: mine[name] for name in _differing_options(mine, other) if name in mine}
        )
        if label in known:  # it differs from a third one in other options
            label = with_options(chosen.label, mine)
    return chosen if label is None else replace(chosen, label=label)


def _known_labels(section: str, rows: list[Row]) -> Iterable[tuple[str, Any]]:
    """The labels of a section with the settings that they belong to."""
    return ((label, settings) for row in rows for name, settings, label in settings_and_labels(row) if name == section)


def _identity(chosen: Chosen) -> Any:
    """Name and options in the form in which rows keep them."""
    return json.loads(canonical(chosen.identity))


def _differing_options(mine: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [
        name for name in {**mine, **other} if mine.get(name) != other.get(name) or (name in mine) != (name in other)
    ]
