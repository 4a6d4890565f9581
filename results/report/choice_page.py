"""The page of ``harness choose``: which explainer to use, and the evidence of each step that led there."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from harness.results.numbers import with_interval
from harness.results.report.choice_forest import GainRow, GainTable, is_known
from harness.results.report.choice_race import RACE_LEAD, race_part
from harness.results.report.choice_sections import candidates_part, conditions_part, metrics_part, tuning_part
from harness.results.report.drawing import number
from harness.results.report.elements import section
from harness.results.report.markup import Raw, tag
from harness.results.report.page import document

SCRIPTS, STYLES = ("page.js", "keys.js", "tables.js"), ("page.css", "choice.css")
UNIT_WORDS = {"probability": "class probability"}
STEPS_IN_WORDS = {"trust": "to test the metrics", "race": "for the race and tuning", "confirmation": "to confirm"}
PURPOSES = {
    "debug": "debug: signed and complete maps are preferred",
    "report": "report: maps that depend on the class and are stable are preferred",
    "realtime": "realtime: only maps within a time",
}
Tables = Mapping[str, pd.DataFrame]
Facts = Mapping[str, Any]


def choice_page(facts: Facts, tables: Tables) -> str:
    """The whole page as HTML.

    ``facts`` are those of a choice with the labels ``model`` and ``dataset``, ``tables`` its evidence; a section whose
    step was not reached does not appear.
    """
    shown, parts = [], []
    for name, word, heading, lead, part in CHOICE_SECTIONS:
        body = part(facts, tables)
        if body:
            shown.append((name, word))
            parts.append(section(name, heading, lead, body))
    title = f"Choice of an explainer: {facts['model']} on {facts['dataset']}"
    skip = tag("a", "Skip to the content", href="#content", class_="skip")
    links = tag("nav", [tag("a", word, href=f"#{name}") for name, word in shown], aria_label="Sections")
    body = [skip, _choice_top(title, facts, tables), links, tag("main", parts, id="content", tabindex=-1)]
    return document(title, body, {}, scripts=SCRIPTS, styles=STYLES)


def _choice_top(title: str, facts: Facts, tables: Tables) -> Raw:
    candidates = tables.get("candidates", pd.DataFrame({"control": []}))
    own = int((candidates["control"] == False).sum())  # noqa: E712
    samples = sum((facts.get("samples") or {}).values())
    theme = tag("button", "Dark", type="button", id="theme", aria_pressed="false")
    lead = f"{own:,} explainers considered, {samples:,} samples, judged by {facts['metric']}"
    return tag(
        "header",
        tag("div", tag("h1", title), tag("p", lead, class_="lead")),
        tag("div", theme, class_="tools"),
        class_="top",
    )


def _answer_with_table(facts: Facts, tables: Tables) -> Raw:
    """The sentences, the explainers of the answer with their gains, and what the answer lacks."""
    first, *others = facts["sentences"]
    told = tag(
        "article",
        tag("p", first, class_="answer"),
        tag("p", " ".join(others)) if others else "",
        _options_line(facts),
        class_="verdict" if facts["status"] == "answer" else "verdict none",
    )
    caveats = [tag("li", text) for text in facts["caveats"]]
    rows = [_member_row(each, facts) for each in facts["explainers"]]
    table = _gain_table("The explainers of the answer", rows, facts, "caveats") if rows else ""
    lacks = tag("div", tag("h3", "Caveats"), tag("ul", caveats), class_="caveats") if caveats else ""
    return tag("div", told, table, lacks)


def _options_line(facts: Facts) -> Raw:
    """The options of the recommended explainer."""
    options = facts.get("options")
    if not options:
        return Raw("")
    texts = [f"{name}={value}" for name, value in options.items()]
    return tag("p", f"Options of {facts['recommended']}: {', '.join(texts)}", class_="fine")


def _gain_table(caption: str, rows: Sequence[GainRow], facts: Facts, head: str) -> Raw:
    control = facts.get("best_control") or ""
    unit = UNIT_WORDS.get(facts["unit"], facts["unit"])
    return GainTable(caption, rows, control, facts["metric"], unit or "", head).html()


def _member_row(member: Mapping[str, Any], facts: Facts) -> GainRow:
    gain, score = member["gain"] or {}, [member["score"][each] for each in ("mean", "low", "high")]
    name = member["explainer"]
    words = "; ".join(member["caveats"])
    if name == facts["recommended"]:
        standing, words = "first", "; ".join(filter(None, ("use this", words)))
    else:
        standing = "choice" if member["beats_controls"] and member["sanity"] != "fail" else "near"
    known = [gain.get(each) for each in ("mean", "low", "high")]
    text = with_interval(*score) if all(map(is_known, score)) else number(score[0])
    return GainRow(name, text, *known, member["seconds_per_sample"], words, standing)


def _confirmation_table(facts: Facts, tables: Tables) -> Raw | None:
    """All that were measured on the samples of the confirmation; None where none were."""
    rows = tables.get("confirmation", pd.DataFrame())
    if rows.empty:
        return None
    words = f"{int(rows['samples'].iloc[0]):,} samples, which took no part before"
    found = [_confirmed_row(row) for row in rows.to_dict("records")]
    return tag(
        "div", tag("p", f"{words}.", class_="fine"), _gain_table(f"Confirmation on {words}", found, facts, "verdict")
    )


def _confirmed_row(row: Mapping[str, Any]) -> GainRow:
    standing, words = "near", "not shown to be worse"
    if row["recommended"]:
        standing, words = "first", "recommended"
    elif row["control"]:
        standing, words = "control", "control" if row["against"] else "best control"
    elif row["worse_than"]:
        standing, words = "worse", f"worse than {row['worse_than']}"
    elif row["in_answer"] and row["gain_low"] > 0:
        standing = "choice"
    ends = (row["gain"], row["gain_low"], row["gain_high"])
    return GainRow(row["explainer"], number(row["mean"]), *ends, row["seconds_per_sample"], words, standing)


def _effort_part(facts: Facts, tables: Tables) -> Raw:
    """What it took, for what the samples were, and how to go on."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in _effort_facts(facts)]
    more = (
        "The same command goes on from here. With a larger budget=, measured scores are used again, and the answer may "
        "name fewer explainers."
    )
    return tag("div", tag("dl", rows, class_="facts"), tag("p", more))


def _effort_facts(facts: Facts) -> list[tuple[str, str]]:
    spent, whole = facts.get("evaluations"), facts.get("evaluations_of_the_whole_grid")
    found = [("seconds", number(facts.get("seconds"))), ("evaluations of the model", f"{spent or 0:,.0f}")]
    if is_known(whole) and whole > 0:
        found.append(
            (
                "all candidates on all samples",
                f"{whole:,.0f} evaluations, of which {(spent or 0) / whole:.0%} were spent",
            )
        )
    found += [(f"samples {STEPS_IN_WORDS.get(step, step)}", f"{count:,}") for step, count in facts["samples"].items()]
    found.append(("alpha", f"{facts['alpha']:g}: at most so likely is the best explainer missing from the answer"))
    found.append(("score", f"{facts['metric']}: mean of {', '.join(facts['metrics'])}"))
    if facts.get("purpose"):
        found.append(("purpose", PURPOSES.get(facts["purpose"], facts["purpose"])))
    return found


Part = Callable[[Facts, Tables], Raw | None]
# Of each section: its name, its word in the navigation, its heading, how to read it, and what makes it.
CHOICE_SECTIONS: tuple[tuple[str, str, str, str, Part], ...] = (
    ("answer", "Answer", "Answer", "", _answer_with_table),
    ("race", "Race", "The race", RACE_LEAD, race_part),
    (
        "metrics",
        "Metrics",
        "Which metrics were trusted",
        "A metric is used if it sees noise: maps mixed with more and more noise have to score worse, step by step, and "
        "two random maps the same. This was tested on samples that took no part in the race.",
        metrics_part,
    ),
    (
        "tuning",
        "Tuning",
        "Tuning",
        "Variants differ from the default in one option. Half of the samples of the race chose the best variant; its "
        "gain counts only on the other half. Optimism is how much better it looked where it was chosen.",
        tuning_part,
    ),
    (
        "confirmation",
        "Confirmation",
        "Confirmation on fresh samples",
        "Mean gain over the best control; the intervals of all pairs hold together.",
        _confirmation_table,
    ),
    (
        "conditions",
        "Conditions",
        "Conditions",
        "Checks that are no scores: an explainer passes if its interval lies on the right side of the bound.",
        conditions_part,
    ),
    ("candidates", "Candidates", "Candidates", "", candidates_part),
    ("effort", "Effort", "What it took", "", _effort_part),
)
