"""The page of ``harness choose``: which explainer to use, and the evidence of each step that led there."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from harness.results.numbers import with_interval
from harness.results.report.choice_forest import GainRow, GainTable, is_known
from harness.results.report.choice_race import RACE_LEAD, race_part, unit_in_words
from harness.results.report.choice_sections import candidates_part, conditions_part, metrics_part, tuning_part
from harness.results.report.drawing import number
from harness.results.report.elements import section
from harness.results.report.markup import Raw, tag
from harness.results.report.page import document

SCRIPTS, STYLES = ("page.js", "keys.js", "tables.js"), ("page.css", "choice.css")
MOST_IN_A_CAVEAT = 3  # names of explainers; of more, the caveats of a choice count some
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
    tuned = tables.get("held_out", pd.DataFrame({"used": [], "variant": []}))
    variants = tuned.loc[tuned["used"].astype(bool), "variant"]
    own = int((~candidates["control"].astype(bool) & ~candidates.get("explainer", pd.Series()).isin(variants)).sum())
    samples = sum((facts.get("samples") or {}).values())
    theme = tag("button", "Dark", type="button", id="theme", aria_pressed="false")
    lead = f"{_so_many(own, 'explainer')} considered, {_so_many(samples, 'sample')}, judged by {facts['metric']}"
    return tag(
        "header",
        tag("div", tag("h1", title), tag("p", lead, class_="lead")),
        tag("div", theme, class_="tools"),
        class_="top",
    )


def _so_many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


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
    caption = "The explainers of the answer" if facts["status"] == "answer" else "The best explainers"
    table = _gain_table(caption, rows, facts, "remarks") if rows else ""
    behind = facts.get("unconfirmed") or []
    if len(behind) > MOST_IN_A_CAVEAT:
        caveats.append(tag("li", f"All that were not confirmed: {', '.join(behind)}."))
    lacks = tag("div", tag("h3", "Caveats"), tag("ul", caveats), class_="caveats") if caveats else ""
    return tag("div", told, table, lacks)


def _options_line(facts: Facts) -> Raw:
    """The options of the recommended explainer."""
    options = facts.get("options")
    if not options:
        return Raw("")
    texts = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items()]
    return tag("p", f"Options of {facts['recommended']}: {', '.join(texts)}", class_="fine")


def _gain_table(caption: str, rows: Sequence[GainRow], facts: Facts, head: str) -> Raw:
    control = facts.get("best_control") or ""
    return GainTable(caption, rows, control, facts["metric"], unit_in_words(facts["unit"]), head).html()


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
    told = f"Scores on {_so_many(int(rows['samples'].iloc[0]), 'sample')} that took no part before."
    if facts.get("best_control"):
        told += f" The intervals of all differences hold together with at least {_percent(1 - facts['alpha'])}."
    beaten = {each["explainer"] for each in facts["explainers"] if each["beats_controls"]}
    found = [_confirmed_row(row, row["explainer"] in beaten) for row in rows.to_dict("records")]
    return tag(
        "div", tag("p", told, class_="lead"), _gain_table("Confirmation on fresh samples", found, facts, "verdict")
    )


def _confirmed_row(row: Mapping[str, Any], beats: bool) -> GainRow:
    standing, words = "near", "not shown to be worse" if beats else "not shown to be worse, nor to beat the controls"
    if row["recommended"]:
        standing, words = "first", "recommended"
    elif row["control"]:
        standing, words = "control", "control" if row["against"] else "best control"
    elif row["worse_than"]:
        standing, words = "worse", f"worse than {row['worse_than']}"
    elif row["in_answer"] and beats:
        standing = "choice"
    ends = (row["gain"], row["gain_low"], row["gain_high"])
    return GainRow(row["explainer"], number(row["mean"]), *ends, row["seconds_per_sample"], words, standing)


def _effort_part(facts: Facts, tables: Tables) -> Raw:
    """What it took, for what the samples were, and how to go on."""
    found = [*_spent(facts), *_samples_of_steps(facts, tables)]
    found.append(("alpha", f"{facts['alpha']:g}: at most so likely is the best explainer missing from the answer"))
    metrics = facts["metrics"]
    found.append(("score", f"{facts['metric']}: mean of {', '.join(metrics)}" if len(metrics) > 1 else metrics[0]))
    if facts.get("purpose"):
        found.append(("purpose", PURPOSES.get(facts["purpose"], facts["purpose"])))
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in found]
    more = "The same command with a larger budget= goes on from here: what was measured is used again."
    return tag("div", tag("dl", rows, class_="facts"), tag("p", more) if "race" in tables else "")


def _spent(facts: Facts) -> Iterator[tuple[str, str]]:
    spent, whole = facts.get("evaluations") or 0, facts.get("evaluations_of_the_whole_grid")
    yield "seconds", number(facts.get("seconds"))
    yield "evaluations of the model", f"{spent:,.0f}"
    if is_known(whole) and whole > 0:
        share = f", of which {_percent(spent / whole)} were spent" if spent < whole else ""
        yield "all candidates on all samples", f"about {whole:,.0f} evaluations{share}"


def _samples_of_steps(facts: Facts, tables: Tables) -> Iterator[tuple[str, str]]:
    """How many samples were set apart for each step, and how many of them it took."""
    race, confirmed = tables.get("race", pd.DataFrame()), tables.get("confirmation", pd.DataFrame())
    sizes = facts["samples"]
    yield "samples to test the metrics", f"{sizes['trust']:,}"
    raced, tuned = int(race["samples"].max()) if len(race) else 0, _samples_of_tuning(tables)
    also = f" and tuning {tuned:,}" if tuned else ""
    yield "samples for race and tuning", f"{sizes['race']:,}, of which the race took {raced:,}{also}"
    own, taken = sizes["confirmation"], int(confirmed["samples"].iloc[0]) if len(confirmed) else 0
    if taken > own:
        yield "samples to confirm", f"{own:,}, and {taken - own:,} of the race that were not used before"
    else:
        yield "samples to confirm", f"{own:,}, of which {taken:,} were used"


def _samples_of_tuning(tables: Tables) -> int:
    """The samples of both halves; the last rung takes the whole tuned half."""
    rungs, found = tables.get("tuning", pd.DataFrame()), tables.get("held_out", pd.DataFrame())
    return int(rungs["samples"].max() + found["samples"].max()) if len(rungs) else 0


def _percent(share: float) -> str:
    """A share in percent; small ones are not said to be 0."""
    return f"{100 * share:.0f} %" if share >= 0.01 or share == 0 else "less than 1 %"


Part = Callable[[Facts, Tables], Raw | None]
# Of each section: its name, its word in the navigation, its heading, how to read it, and what makes it.
CHOICE_SECTIONS: tuple[tuple[str, str, str, str, Part], ...] = (
    ("answer", "Answer", "Answer", "", _answer_with_table),
    ("race", "Race", "The race", RACE_LEAD, race_part),
    (
        "metrics",
        "Metrics",
        "Which metrics were trusted",
        "A metric is used if it sees noise: the more noise is mixed into maps, the worse they have to score, step by "
        "step; and noise has to score like random maps, so that the interval of their difference holds 0. This was "
        "tested on samples that took no part in the race.",
        metrics_part,
    ),
    (
        "tuning",
        "Tuning",
        "Tuning",
        "Variants differ from the default in one option. The best one was chosen on one half of the samples; its gain "
        "counts only on the other half, which is held out. Optimism is how much better it looked where it was chosen. "
        "A variant that gains on the held-out half is used: it is confirmed like the others.",
        tuning_part,
    ),
    (
        "confirmation",
        "Confirmation",
        "Confirmation on fresh samples",
        "",
        _confirmation_table,
    ),
    (
        "conditions",
        "Conditions",
        "Conditions",
        "Checks that are no scores: an explainer passes if the whole interval is above or below the bound, as stated.",
        conditions_part,
    ),
    ("candidates", "Candidates", "Candidates", "", candidates_part),
    ("effort", "Effort", "What it took", "", _effort_part),
)
