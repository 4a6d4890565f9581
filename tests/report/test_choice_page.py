"""The page of harness choose: the answer comes first, and every number on it is the evidence's."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import harness
from harness.choosing.race import Race
from harness.registry import EXPLAINERS
from harness.results.numbers import with_interval
from harness.results.report import choice_race
from harness.results.report.choice_page import choice_page
from harness.results.report.choice_plots import apart
from harness.results.report.choice_race import race_part
from harness.results.report.drawing import number

HOSTILE = "<script>alert(1)</script>\"'</b> <img src=http://evil.example/x onerror=alert(1)>"
CANDIDATES = ["saliency", "input_x_gradient", "occlusion", "feature_ablation", "integrated_gradients", "grad_cam"]
WEIGHTS = torch.tensor([3.0, -2.0, 1.5, -1.0, 0.7, 0.5, *[0.0] * 10])  # of the columns
RACE = "look samples explainer measured mean behind_leader wealth state leader round".split()
ROUNDS = (8, 8, 16, 32, 64)
MEANS = {"lrp": 0.42, "ixg": 0.41, "rise": 0.3, "lime": 0.2, "shap": 0.1, "slow": 0.05, "never": 0.4, "random": 0.0}
FAILS = "failed: RuntimeError: out of memory"


class Tables(HTMLParser):
    """The tables of a page: the rows of each by its label, as texts and as the values that they are sorted by.

    What only a narrow screen shows is left out, and so are drawings.
    """

    def __init__(self, page):
        super().__init__()
        self.texts, self.values, self.hidden, self.name, self.open = {}, {}, 0, None, []
        self.feed(page)

    def handle_starttag(self, name, attributes):
        about = dict(attributes)
        away = name == "svg" or "narrow" in (about.get("class") or "").split()
        if self.hidden or away:
            self.hidden += 1
        elif name == "table":
            self.name = about.get("aria-label")
        elif name == "caption":
            self.open = [""]
        elif name == "tr":
            self.texts.setdefault(self.name, []).append([])
            self.values.setdefault(self.name, []).append([])
        elif name in ("th", "td"):
            self.open = [""]
            self.values[self.name][-1].append(about.get("data-value"))

    def handle_data(self, text):
        if self.open and not self.hidden:
            self.open[0] += text

    def handle_endtag(self, name):
        if self.hidden:
            self.hidden -= 1
        elif name == "caption":
            self.name, self.open = self.open[0], []
        elif name in ("th", "td"):
            self.texts[self.name][-1].append(self.open[0])
            self.open = []

    def shown(self, name):
        """The first cell of each row -> the texts of its others, below the headings."""
        return {first: others for first, *others in self.texts[name][1:] if others}

    def sorted_by(self, name, *, keys=1):
        """The texts of the first cells of each row -> the values of its others."""
        rows = zip(self.texts[name][1:], self.values[name][1:], strict=True)
        return {" ".join(texts[:keys]): values[keys:] for texts, values in rows if len(texts) > 1}


def linear_world(count=120):
    """A classifier of two classes by six of sixteen columns, with its training rows."""
    draw = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 2)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.stack([-WEIGHTS, WEIGHTS]) / 2)
        model[0].bias.zero_()
    inputs, train = torch.randn(count, 16, generator=draw), torch.randn(300, 16, generator=draw)
    return model, harness.Data(inputs, labels=(inputs @ WEIGHTS > 0).long(), train=train, task="classes")


def as_page(choice):
    """The facts of a choice as they are written into a run, its evidence, and its page."""
    facts = {"model": "linear", "dataset": "rows", **json.loads(json.dumps(choice.facts()))}
    return facts, choice.evidence, choice_page(facts, choice.evidence)


@pytest.fixture(scope="module")
def found():
    """A choice that has an answer, and went through all steps."""
    model, data = linear_world()
    return as_page(harness.choose(model, data, candidates=CANDIDATES))


def by_heart(model, inputs, targets):
    """The right map for the model of this file, which stays the same when a model has other weights."""
    return inputs * WEIGHTS * (2 * targets.view(-1, 1) - 1)


@pytest.fixture(scope="module")
def refused():
    """A choice without an answer that went through all steps: its only explainer fails the sanity check."""
    known = dict(EXPLAINERS.registered)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EXPLAINERS, "_entries", known)
        EXPLAINERS.register(by_heart, cost="1 F")
        return as_page(harness.choose(*linear_world(60), candidates=["by_heart"]))


@pytest.fixture(scope="module")
def raced():
    """Facts and tables of a race of many rounds: some are dropped, one fails, one enters late, one never does."""
    generator, late = np.random.default_rng(0), ["slow", "never"]
    scores = {name: np.clip(mean + generator.normal(0, 0.05, 128), -1, 1) for name, mean in MEANS.items()}
    race, tables, left, seen = Race(list(MEANS), bounds=(-1, 1), alpha=0.025, late=late), [], {}, 0
    for place, size in enumerate(ROUNDS, start=1):
        if place == 2:
            race.withdraw("rise")
            left["rise"] = FAILS
        race.play({name: scores[name][seen : seen + size] for name in race.taking_part})
        seen += size
        if place == 2:
            for start, end in ((0, 8), (8, 16)):
                race.catch_up("slow", scores["slow"][start:end])
        for drop in race.drop():
            left[drop.name] = f"worse than {drop.by} by {drop.difference:.2g} after {drop.samples} samples"
        tables.append(pd.DataFrame(race.table()).assign(round=place))
    left["never"] = "not measured: it is dear, and the budget did not suffice"
    about = {"left_out": "", "declared_evaluations": 1, "evaluations": 2.0, "seconds_per_sample": 0.1}
    rows = [
        {"explainer": name, "control": name == "random", "in_answer": name == "lrp", "left_race": left.get(name, "")}
        for name in MEANS
    ]
    candidates = pd.DataFrame(rows).assign(**about)
    facts = {"status": "answer", "recommended": "lrp", "unit": "probability", "unconfirmed": ["ixg"]}
    return facts, {"race": pd.concat(tables, ignore_index=True), "candidates": candidates}


def gone(race):
    """Of each explainer that left a race the row of the look at which it did."""
    rows = race[race["state"].isin(["dropped", "withdrawn"])].sort_values("look", kind="stable")
    return rows.drop_duplicates("explainer").set_index("explainer")


def floats(values):
    return [float("nan") if value is None else float(value) for value in values]


def paragraphs(page):
    return re.findall(r"<p[^>]*>(.*?)</p>", page)


def test_the_answer_comes_first_and_in_the_words_of_the_terminal(found):
    facts, _, page = found
    assert facts["status"] == "answer" and page.count("<h1>") == 1
    main = page[page.index('<main id="content"') :]
    assert paragraphs(main)[:2] == [facts["sentences"][0], " ".join(facts["sentences"][1:])]
    assert f'<p class="answer">{facts["sentences"][0]}</p>' in main


def test_the_page_has_a_section_for_each_step_that_was_taken_and_needs_no_network(found, refused):
    for _, tables, page in (found, refused):
        ids = re.findall(r'<section id="(\w+)"', page)
        assert re.findall(r'<a href="#(\w+)">', page) == ids and ids[0] == "answer"
        steps = {"race": "race", "ladder": "metrics", "held_out": "tuning", "confirmation": "confirmation"}
        assert {name for table, name in steps.items() if table in tables} == set(ids) & set(steps.values())
        assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
        assert not re.findall(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", page)


def test_the_explainers_of_the_answer_have_their_scores_gains_costs_and_caveats(found):
    facts, _, page = found
    rows = Tables(page).shown("The explainers of the answer")
    assert list(rows) == [each["explainer"] for each in facts["explainers"]] and list(rows)[0] == facts["recommended"]
    for each in facts["explainers"]:
        score, gain, _, seconds, words = rows[each["explainer"]]
        assert score == with_interval(*each["score"].values())
        assert gain.lstrip("+") == with_interval(*each["gain"].values())
        assert seconds == number(each["seconds_per_sample"])
        uses = ["use this"] if each["explainer"] == facts["recommended"] else []
        assert words == "; ".join([*uses, *each["caveats"]])


def test_the_confirmation_shows_all_that_were_compared(found):
    facts, tables, page = found
    rows = Tables(page).shown("Confirmation on fresh samples")
    evidence = tables["confirmation"].set_index("explainer")
    assert set(rows) == set(evidence.index)
    for name, row in evidence.iterrows():
        mean, gain, _, seconds, words = rows[name]
        assert (mean, seconds) == (number(row["mean"]), number(row["seconds_per_sample"]))
        known = np.isfinite(row["gain"])
        assert gain.lstrip("+") == (with_interval(row["gain"], row["gain_low"], row["gain_high"]) if known else "–")
        assert (words == "best control") == (name == facts["best_control"])
        assert (words == "recommended") == row["recommended"]
        assert not row["worse_than"] or words == f"worse than {row['worse_than']}"
    assert f"Scores on {evidence['samples'].iloc[0]} samples that took no part before." in page
    drawn = page[page.index("Confirmation on fresh samples</caption>") :]
    drawn = re.findall(r'<line x1="([\d.]+)%" x2="([\d.]+)%"[^>]*class="span"/><circle cx="([\d.]+)%"', drawn)
    compared = [name for name in rows if np.isfinite(evidence["gain"][name])]  # controls stand below
    expected = evidence.loc[compared, ["gain_low", "gain_high", "gain"]].to_numpy()
    places = np.array(drawn[: len(compared)], float)
    slope, start = np.polyfit(expected.ravel(), places.ravel(), 1)
    assert slope > 0 and abs(start + slope * expected - places).max() < 0.2  # percent of the drawing's width


def test_each_metric_has_its_ladder_its_tests_and_a_word_whether_it_is_used(found):
    _, tables, page = found
    figures = re.findall(r"<figure>(.*?)</figure>", page)
    evidence = list(tables["ladder"].groupby("metric", sort=False))
    assert len(figures) == len(evidence) > 1
    for figure, (name, rows) in zip(figures, evidence, strict=True):
        first = rows.iloc[0]
        assert f"<title>Ladder of {name}</title>" in figure
        assert (">not used<" in figure) != first["used"] and (first["used"] or first["reason"] in figure)
        told = [f"{noise:.0%} noise: {number(mean)}" for noise, mean in zip(rows["noise"], rows["mean"], strict=True)]
        assert re.findall('data-tip="([^"]*)"', figure) == told
        fall = with_interval(first["drop"], first["drop_low"], first["drop_high"])
        chance = "below 0.0001" if first["p_falls"] < 1e-4 else number(first["p_falls"])
        assert f"falls by {fall} (95 %), p {chance}<" in figure
        power = f"above {number(first['detectable'])} are found with {first['samples_to_confirm']} samples (80 % power)"
        assert power in figure
        heights = [float(y) for y in re.findall('cy="([^"]*)"', figure)]
        assert np.corrcoef(heights, rows["mean"])[0, 1] == pytest.approx(-1, abs=1e-3)  # pixels go down


def test_tables_of_agreement_tuning_and_costs_hold_the_values_of_the_evidence(found):
    facts, tables, _ = found
    # Here the default is the best, so that its gains are 0: others show that none stands in another's place.
    gains = {"gain_tuned": 0.03, "gain_held_out": 0.02, "optimism": 0.01}
    tables = {**tables, "held_out": tables["held_out"].assign(**gains)}
    shown = Tables(choice_page(facts, tables))
    name = next(name for name in shown.texts if name and name.startswith("Agreement"))
    for row in tables["agreement"].to_dict("records"):
        (value,) = shown.sorted_by(name, keys=2)[f"{row['metric']} {row['other']}"]
        assert float(value) == row["tau_b"]
    outcomes = shown.sorted_by("Gain of the best variant over the default")
    assert set(outcomes) == set(tables["held_out"]["explainer"])
    for row in tables["held_out"].to_dict("records"):
        best, *numbers, _ = outcomes[row["explainer"]]
        assert best == (row["variant"] or "–")
        expected = [row[name] for name in ("gain_tuned", "gain_held_out", "optimism", "samples")]
        np.testing.assert_equal(floats(numbers), expected)
    costs = shown.sorted_by("Candidates, the cheapest by declared cost first")
    evidence = tables["candidates"].set_index("explainer")
    assert set(costs) == set(evidence.index[evidence["left_out"] == ""])
    columns = ["declared_evaluations", "evaluations", "seconds_per_sample"]
    for name, (*values, _) in costs.items():
        np.testing.assert_equal(floats(values), evidence.loc[name, columns].to_numpy(float))
    left_out = shown.sorted_by("Left out, with the reason")
    assert {name: why for name, (why,) in left_out.items()} == dict(evidence["left_out"][evidence["left_out"] != ""])


def test_each_rung_of_the_tuning_has_the_means_of_its_variants_and_those_kept_are_bold(found):
    _, tables, page = found
    assert len(tables["tuning"])
    shown = Tables(page)
    for name, rows in tables["tuning"].groupby("explainer"):
        table = shown.sorted_by(f"Means of the variants of {name}; bold: kept")
        by = rows.pivot(index="variant", columns="rung", values="mean").replace(-np.inf, np.nan)
        for variant, values in table.items():
            np.testing.assert_equal(floats(values), by.loc[variant].to_numpy())
        assert set(table) == set(by.index)
        part = page[page.index(f"{name}: the default and its variants") :]
        scored = rows["kept"] & np.isfinite(rows["mean"])
        assert part[: part.index("</details>")].count("mean best") == scored.sum()


def test_conditions_say_which_side_passes_and_what_their_values_are(found, refused):
    for _, tables, page in (found, refused):
        assert len(tables["conditions"])
        shown = Tables(page).sorted_by("Conditions", keys=2)
        texts = {" ".join(row[:2]): row for row in Tables(page).texts["Conditions"]}
        names = {"sanity": "depends on weights and class", "random_logit": "depends on the class"}
        for row in tables["conditions"].to_dict("records"):
            key = f"{row['explainer']} {names.get(row['check'], 'stable under small noise')}"
            verdict, value, low, bound, samples, _ = shown[key]
            assert verdict == row["verdict"]
            np.testing.assert_equal(floats([value, low, bound]), [row["value"], row["ci_low"], row["bound"]])
            assert float(samples) == row["n"]
            side = 1 if texts[key][5].startswith("above ") else -1
            ends = np.array([row["ci_low"], row["ci_high"]])
            if np.isnan(ends).all() and verdict in ("pass", "fail"):  # equal scores, which are judged by their signs
                ends = np.array([row["value"]])
            assert (verdict == "pass") == bool((side * (ends - row["bound"]) > 0).all())
        assert "<b>depends on the class</b>: similarity of the maps" in page


def test_what_it_took_is_the_facts_and_samples_that_were_used(found):
    facts, tables, page = found
    told = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert told["seconds"] == number(facts["seconds"])
    assert told["evaluations of the model"] == f"{facts['evaluations']:,.0f}"
    share = re.search(r"of which (\d+) % were spent", told["all candidates on all samples"])
    assert share is None or int(share[1]) < 100  # more than the whole grid is no share of it
    assert told["samples to test the metrics"] == f"{facts['samples']['trust']}"
    apart, _, used = told["samples for race and tuning"].partition(", of which ")
    assert int(apart) == facts["samples"]["race"]
    tuned = tables["tuning"]["samples"].max() + tables["held_out"]["samples"].max()
    assert used == f"the race took {tables['race']['samples'].max()} and tuning {tuned}"
    numbers = [int(text) for text in re.findall(r"\d+", told["samples to confirm"])]
    confirmed = tables["confirmation"]["samples"].iloc[0]
    assert numbers[0] == facts["samples"]["confirmation"] and confirmed in (numbers[1], sum(numbers))


def test_who_left_the_race_stands_with_round_and_reason_as_in_the_evidence(raced):
    facts, tables = raced
    assert list(tables["race"]) == RACE and set(tables["race"]["state"]) == {"in", "late", "dropped", "withdrawn"}
    page = str(race_part(facts, tables))
    shown, why = Tables(page).sorted_by("Who left the race"), tables["candidates"].set_index("explainer")["left_race"]
    evidence = gone(tables["race"])
    assert set(shown) == set(evidence.index) | {"never"} and {"rise", "slow", "random"} < set(evidence.index)
    for name, row in evidence.iterrows():
        *numbers, reason = shown[name]
        assert floats(numbers) == [row["round"], row["measured"], row["behind_leader"], row["wealth"]]
        assert reason == why[name] and (row["state"] == "dropped") == reason.startswith("worse than")
    assert shown["rise"][-1] == FAILS and shown["never"] == [None, "0", None, None, why["never"]]
    *_, last = tables["race"].groupby("round")
    left = (last[1]["state"] == "in").sum()
    assert f"{left} after round {len(ROUNDS)} ({sum(ROUNDS)} samples)." in page
    rounds = [int(values[0]) for name, values in shown.items() if name not in ("never", "random")]
    assert rounds == sorted(rounds)


def test_lines_of_the_race_go_from_round_to_round_and_end_where_their_explainer_left(raced, monkeypatch):
    facts, tables = raced
    seen, draw = [], choice_race.race_plot
    monkeypatch.setattr(choice_race, "race_plot", lambda lines, *rest: (seen.extend(lines), draw(lines, *rest))[1])
    page = str(race_part(facts, tables))
    lines, race = {line.name: line for line in seen}, tables["race"]
    assert set(lines) == set(MEANS) - {"never"}
    for name, line in lines.items():
        last = gone(race)["look"].get(name, race["look"].max())
        rows = race[(race["explainer"] == name) & (race["measured"] > 0) & (race["look"] <= last)]
        rows = rows.drop_duplicates("measured", keep="last")
        assert line.points == [(n, -gap) for n, gap in zip(rows["measured"], rows["behind_leader"], strict=True)]
    assert lines["slow"].points[0][0] == 16 and lines["rise"].points[-1][0] == 8
    assert [lines[name].standing for name in ("lrp", "ixg", "rise", "random")] == ["first", "stays", "left", "left"]
    assert [name for name, line in lines.items() if line.control] == ["random"]
    assert "recommended" in lines["lrp"].words and "not confirmed" in lines["ixg"].words
    assert page.count("<polyline") >= len(lines) and page.count('role="img"') == len(lines)


def test_a_race_without_a_round_says_so_and_one_that_was_not_reached_is_no_section(raced):
    facts, tables = raced
    assert "No round was played" in race_part(facts, {**tables, "race": pd.DataFrame()})
    assert race_part(facts, {"candidates": tables["candidates"]}) is None


def test_without_an_answer_nothing_is_recommended_but_all_steps_are_shown(refused):
    facts, tables, page = refused
    assert facts["status"] == "none" and 'class="verdict none"' in page and "use this" not in page
    assert list(Tables(page).shown("The best explainers")) == [each["explainer"] for each in facts["explainers"]]
    assert "in the answer" not in page and "recommended" not in "".join(Tables(page).texts["Conditions"][0])
    outcome = Tables(page).shown("Candidates, the cheapest by declared cost first")["by_heart"][-1]
    assert outcome == "not shown to be worse, but not to recommend" and "race" in tables


def test_a_model_that_has_learnt_nothing_has_a_short_page():
    model, data = linear_world()
    data.labels = torch.randint(0, 2, (len(data),), generator=torch.Generator().manual_seed(1))
    facts, tables, page = as_page(harness.choose(model, data, candidates=["saliency", "occlusion"]))
    assert facts["status"] == "none" and set(tables) == {"candidates"}
    assert re.findall(r'<section id="(\w+)"', page) == ["answer", "candidates", "effort"]
    assert "outcome" not in page and "goes on from here" not in page


def test_names_and_reasons_cannot_become_markup(found):
    facts, tables, _ = found
    names = [*tables["candidates"]["explainer"], *tables["ladder"]["metric"].unique(), "tuned:"]
    texts = sorted({*map(str, names), "linear", "rows", "the default is best"}, key=len, reverse=True)

    def spoilt(value):
        if isinstance(value, str):
            return next((value.replace(text, f"{text} {HOSTILE}") for text in texts if text in value), HOSTILE + value)
        if isinstance(value, dict):
            return {key: spoilt(each) if key not in ("status", "sanity") else each for key, each in value.items()}
        return [spoilt(each) for each in value] if isinstance(value, list) else value

    plain = ("state", "verdict", "check")
    bad = {
        name: table.assign(**{c: [spoilt(v) for v in table[c]] for c in table if c not in plain})
        for name, table in tables.items()
    }
    page = choice_page(spoilt(facts), bad)
    body = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page, flags=re.S)
    assert page.count("<script") == len(re.findall(r"<script>", found[2])) + len(re.findall("<script ", found[2]))
    assert "alert(1)" in body and not re.search(r"<img|<b> |onerror=alert\(1\)>|<script>alert", body)
    assert not re.search(r"<[^>]*\sonerror", re.sub(r'"[^"]*"', '""', body))


@pytest.mark.parametrize("width", [400, 800, 1280])
def test_nothing_is_cut_off_in_a_browser(found, raced, browser, tmp_path, width):
    facts, tables, _ = found
    both = pd.concat([tables["candidates"], raced[1]["candidates"]], ignore_index=True)
    more = {**tables, "race": raced[1]["race"], "candidates": both.drop_duplicates("explainer")}
    path, wrong = tmp_path / "choice.html", []
    path.write_text(choice_page(facts, more), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """() => [...document.querySelectorAll("svg[viewBox] text")].filter(text => {
            const own = text.getBoundingClientRect(), all = text.ownerSVGElement.getBoundingClientRect();
            return own.left < all.left - 1 || own.right > all.right + 1 || own.top < all.top - 1
                || own.bottom > all.bottom + 1;
        }).map(text => text.textContent)"""
    )
    assert outside == [] and wrong == []
    page.close()


def test_names_at_the_ends_of_lines_are_moved_apart_as_little_as_needed():
    assert apart([10, 50], 15, 0, 100) == [10, 50]
    assert apart([10, 10, 80], 10, 0, 100) == [5, 15, 80]
    moved = apart([95, 96, 97], 15, 0, 100)
    assert moved[-1] <= 100 and all(b - a >= 15 for a, b in zip(moved, moved[1:], strict=False))
