"""Two runs: nine verdicts on planted cells, and what the command says of them."""

import json
import os

import numpy as np
import pytest

from compared_runs import SAMPLES, verdicts, write_run
from harness.cli.main import main
from harness.errors import UserError
from harness.identity import canonical, cell_id
from harness.jobs.plan import Plan
from harness.registry import EXPLAINERS, METRICS
from harness.results.comparison import VERDICTS, compare_runs

SEED = int(os.environ["HARNESS_TEST_SEED"])


@pytest.fixture
def values():
    generator = np.random.default_rng(SEED)
    level = generator.normal(0.4, 0.2, SAMPLES)
    return level, level + generator.normal(0.1, 0.02, SAMPLES), level + generator.normal(0, 0.3, SAMPLES) + 0.03


def test_every_verdict_is_found_where_it_is_planted(tmp_path, values):
    level, up, noisy = values
    failed, away = {"status": "failed", "error": "boom"}, {"status": "not_applicable", "error": "no"}
    before = {
        "better": (level, {}),
        "worse": (level, {"better": "lower"}),
        "moved": (level, {}),
        "same": (level, {}),
        "broken": (level, {}),
        "fixed": (None, failed),
        "missing": (level, {}),
        "not comparable": (level, {}),
        "gone away": (level, {}),
        "still failing": (None, failed),
    }
    after = {
        "better": (up, {}),
        "worse": (up, {"better": "lower"}),
        "moved": (noisy, {}),
        "same": (level, {}),
        "broken": (None, failed),
        "fixed": (level, {}),
        "new": (level, {}),
        "not comparable": (up, {"stick": "t"}),
        "gone away": (None, away),
        "still failing": (None, failed),
    }
    found, whole = verdicts(tmp_path, before, after)
    assert found.pop("gone away") == "broken" and found.pop("still failing") == "same"
    assert found == {verdict: verdict for verdict in VERDICTS}
    assert whole.cells["verdict"].map(VERDICTS.index).is_monotonic_increasing


def test_a_change_below_a_hundredth_of_the_level_is_none_however_sure(tmp_path, values):
    level = values[0]
    found, _ = verdicts(tmp_path, {"a": (level, {})}, {"a": (level + 0.002, {})})
    assert found == {"a": "same"}


def test_a_metric_without_a_direction_only_moves(tmp_path, values):
    found, _ = verdicts(tmp_path, {"a": (values[0], {"better": None})}, {"a": (values[1], {"better": None})})
    assert found == {"a": "moved"}


def test_one_true_loss_among_dozens_of_cells_is_found(tmp_path):
    generator = np.random.default_rng(SEED)
    cells = {f"c{i}": generator.normal(1, 1, (2, SAMPLES)) for i in range(60)}
    cells["c7"][1] = cells["c7"][0] - 0.5 + 0.2 * generator.normal(size=SAMPLES)
    found, _ = verdicts(tmp_path, {c: (v[0], {}) for c, v in cells.items()}, {c: (v[1], {}) for c, v in cells.items()})
    assert found["c7"] == "worse" and list(found.values()).count("worse") == 1


def test_only_samples_with_a_score_in_both_are_compared_and_the_loss_is_told(tmp_path, values):
    level, up, _ = values
    holes = up.copy()
    holes[:5] = np.nan
    _, whole = verdicts(tmp_path, {"a": (level, {})}, {"a": (holes, {})})
    row = whole.cells.iloc[0]
    assert row["n"] == SAMPLES - 5 and "40 samples had a score in the baseline run, 35 in the new run" in row["note"]
    assert row["change"] == pytest.approx((up - level)[5:].mean())


def test_what_differs_in_the_environment_is_told(tmp_path, values):
    cells = {"a": (values[0], {})}
    write_run(tmp_path / "x", cells, {"python": "3.11", "libraries": {"torch": "2.14"}, "scoring": {"gain": 1}})
    write_run(tmp_path / "y", cells, {"python": "3.11", "libraries": {"torch": "2.15"}, "scoring": {"gain": 2}})
    assert compare_runs(tmp_path / "x", tmp_path / "y").environment == {"libraries.torch": ("2.14", "2.15")}


def test_the_command_says_what_changed_and_fails_where_it_was_asked_to(tmp_path, values, capsys):
    level, up, _ = values
    write_run(tmp_path / "x", {"a": (up, {}), "b": (level, {})})
    write_run(tmp_path / "y", {"a": (level, {}), "b": (level, {})}, {"python": "3.12"})
    command = ["compare", "x", "y", "--runs", str(tmp_path)]
    assert main(command) == 0 and main([*command, "--fail-on", "broken"]) == 0
    assert main([*command, "--fail-on", "worse,broken", "--markdown", str(tmp_path / "c.md")]) == 1
    said = capsys.readouterr().out
    sentence = " ".join(said.partition("\n\n")[0].split())
    assert sentence.startswith("y against x (1 run against 1, 40 samples): 1 of 2 scores got worse, a by srg: 0.4")
    assert "worse [0." in sentence and "the environments differ too (libraries.torch, python)" in sentence
    assert "not listed: 1 same" in said and "▼ worse   a" in said and "= same" not in said
    assert "| ▼ worse | net | data | a | srg |" in (tmp_path / "c.md").read_text()
    assert main([*command, "--all"]) == 0
    said = capsys.readouterr().out
    assert "environment: python: 3.11 → 3.12" in said and "= same    b" in said and "not listed" not in said


def test_markup_in_names_and_errors_stays_text_in_the_markdown(tmp_path, values):
    evil = "<script>alert(1)</script>|x"
    write_run(tmp_path / "x", {evil: (values[0], {})})
    write_run(tmp_path / "y", {evil: (None, {"status": "failed", "error": evil})})
    assert main(["compare", "x", "y", "--runs", str(tmp_path), "--markdown", str(tmp_path / "c.md")]) == 0
    assert "<script>" not in (tmp_path / "c.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x", "y", "--fail-on", "worst"], "worst"),
        (["x", "x"], "came twice"),
        (["x", "nowhere"], "no run"),
    ],
)
def test_mistakes_are_one_line(tmp_path, values, capsys, arguments, said):
    for name in ("x", "y"):
        write_run(tmp_path / name, {"a": (values[0], {})})
    assert main(["compare", *arguments, "--runs", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_run_without_rows_is_one_line(tmp_path, values):
    write_run(tmp_path / "x", {"a": (values[0], {})})
    (tmp_path / "y" / "cells").mkdir(parents=True)
    assert compare_runs(tmp_path / "x", tmp_path / "y").counts["missing"] == 1
    assert json.dumps(compare_runs(tmp_path / "x", tmp_path / "y").environment) is not None


def test_unknown_runs_are_refused(tmp_path):
    with pytest.raises(UserError):
        from harness.results.frames import find_run

        find_run("nowhere", tmp_path)


def test_samples_that_lose_their_score_are_told_and_many_of_them_break_a_cell(tmp_path, values):
    level, *_ = values
    lacking = lambda n: np.where(np.arange(SAMPLES) < n, np.nan, level)
    before = {"all": (level, {}), "most": (level, {}), "one": (level, {}), "back": (lacking(30), {})}
    after = {"all": (lacking(SAMPLES), {}), "most": (lacking(30), {}), "one": (lacking(1), {}), "back": (level, {})}
    found, whole = verdicts(tmp_path, before, after)
    assert found == {"all": "broken", "most": "broken", "one": "moved", "back": "fixed"}
    assert (
        whole.cells.set_index("cell").loc["most", "note"]
        == f"{SAMPLES} samples had a score in the baseline run, {SAMPLES - 30} in the new run"
    )


def test_an_environment_that_cannot_be_read_is_told(tmp_path, values):
    runs = [write_run(tmp_path / name, {"same": (values[0], {})}) for name in ("before", "after")]
    for path in (runs[1] / "environment").glob("*.json"):
        path.write_text("{broken")
    told = compare_runs(*runs).environment
    assert "cannot be read" in str(told.values()) and told["python"] == ("3.11", None)


def test_nothing_that_a_run_holds_can_command_the_terminal(tmp_path, values, capsys):
    evil = "\x1b[31mred\x1b]0;title\x07\nsecond line"
    failed = {"status": "failed", "error": evil, "explainer": evil}
    write_run(tmp_path / "before", {"a": (values[0], {"explainer": evil})})
    write_run(tmp_path / "after", {"a": (None, failed)}, {evil: evil})
    for verb in ("compare before after", "table after", "table after --long", "report after"):
        main([*verb.split(), "--runs", str(tmp_path)])
        shown = capsys.readouterr().out
        assert "\x1b" not in shown and "\nsecond" not in shown and "\x07" not in shown


def test_a_run_from_before_an_option_was_renamed_is_compared_with_one_of_today(tmp_path, values):
    plan = Plan.of({"model": "digits_cnn", "dataset": "digits", "explainer": "lime", "metric": "srg"})
    config = json.loads(canonical(plan.identity(plan.explainers[0], plan.metrics[0])))
    former = {new: old for old, new in EXPLAINERS["lime"].renamed.items()}
    assert former
    old = {**config, "explainer": {former.get(name, name): value for name, value in config["explainer"].items()}}
    today, earlier = plan.cells[0].id, cell_id(old)
    assert today != earlier
    before, after = {earlier: (values[0], {"config": old})}, {today: (values[1], {"config": config})}
    assert verdicts(tmp_path, before, after)[0] == {today: "better"}


WITH_ADDED = [("metric", name) for name, entry in METRICS.items() if entry.added] + [
    ("explainer", name) for name, entry in EXPLAINERS.items() if entry.added
]


@pytest.mark.parametrize(("section", "name"), WITH_ADDED)
def test_a_run_from_before_an_option_was_added_is_compared_with_what_does_the_same_today(
    section, name, tmp_path, values
):
    entry = {"metric": METRICS, "explainer": EXPLAINERS}[section][name]
    chosen = {"explainer": "lime", "metric": "srg"} | {section: {name: dict(entry.added)}}
    plan = Plan.of({"model": "digits_cnn", "dataset": "digits", **chosen})
    config = json.loads(canonical(plan.identity(plan.explainers[0], plan.metrics[0])))
    old = {**config, section: {option: each for option, each in config[section].items() if option not in entry.added}}
    today, earlier = plan.cells[0].id, cell_id(old)
    assert entry.added and today != earlier
    before, after = {earlier: (values[0], {"config": old})}, {today: (values[1], {"config": config})}
    assert verdicts(tmp_path, before, after)[0] == {today: "better"}
