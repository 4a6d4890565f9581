"""Every experiment of a paper states all that decides its numbers, and its small scale runs."""

import json

import pandas as pd
import pytest
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from harness.cli.main import main
from harness.errors import UserError
from harness.reproducing import paper as papers
from harness.reproducing.findings import IDENTITY
from harness.reproducing.published import COLUMNS, KEY, PROVENANCE, REMEMBERED, published_numbers, tables
from harness.reproducing.reproduce import FACTS, LINES, NUMBERS, reproduce
from harness.reproducing.study import study


def without(stated, name):
    return {key: value for key, value in stated.items() if key != name}


@pytest.mark.parametrize("name", papers.names())
def test_a_paper_states_every_choice_and_its_expectations_name_published_numbers(name):
    stated = OmegaConf.to_container(OmegaConf.load(papers.FOLDER / f"{name}.yaml"))
    found = papers.paper_of(name, stated)
    assert set(found.choices) == set(papers.CHOICES) and study(found.study)
    for each in found.expect:
        assert len(published_numbers(each.table, each.where)) and each.why
    for missing in papers.FIELDS:
        with pytest.raises(UserError, match=missing):
            papers.paper_of(name, without(stated, missing))
    for missing in papers.CHOICES:
        with pytest.raises(UserError, match=missing):
            papers.paper_of(name, {**stated, "choices": without(stated["choices"], missing)})


@pytest.mark.parametrize("name", tables())
def test_a_table_of_published_numbers_has_its_columns_one_row_for_each_thing_and_known_provenance(name):
    rows = published_numbers(name)
    assert set(rows.columns) == set(COLUMNS) and not rows.duplicated(list(KEY)).any()
    assert set(rows["provenance"]) <= set(PROVENANCE) and REMEMBERED not in set(rows["provenance"])
    assert rows["value"].notna().all() and rows.loc[rows["spread"].notna(), "spread_kind"].notna().all()


def different_at_small_scale():
    """One paper of those that run the same study with the same sizes, as one with the user's data and one without."""
    all_papers = [papers.paper(name) for name in papers.names()]
    return sorted({(each.study, str(each.sizes["small"])): each.name for each in all_papers}.values())


@pytest.mark.parametrize("name", different_at_small_scale())
def test_the_small_scale_of_a_paper_runs_holds_and_is_kept(name, tmp_path, monkeypatch):
    found = reproduce(name, scale="small", runs=tmp_path)
    assert found.lines and not found.bad, [each.what for each in found.bad]
    folder = tmp_path / "reproduce" / f"{name}-small"
    assert len(pd.read_csv(folder / LINES)) == len(found.lines)
    assert len(pd.read_csv(folder / NUMBERS)) == len(found.findings.numbers)
    assert json.loads((folder / FACTS).read_text())["verdicts"] == found.counts
    for drawn in found.findings.figures:
        assert (folder / f"{drawn}.png").stat().st_size > 5000
    assert all(each.n or each.kind == IDENTITY for each in found.findings.claims)
    said = []
    monkeypatch.setattr(Figure, "savefig", lambda drawing, path, **given: path.touch())  # to draw again takes long
    again = reproduce(name, scale="small", runs=tmp_path, say=said.append)
    assert not [line for line in said if line.startswith("measuring")]  # it is kept
    pd.testing.assert_frame_equal(again.table(), found.table())


def test_the_verb_lists_runs_and_writes(tmp_path, capsys):
    assert main(["reproduce"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in papers.names()) and "data=FOLDER may hold CSV files" in listed
    assert listed.index("  beexai:") < listed.index("These need data of yours") < listed.index("  rise:")
    files = {kind: tmp_path / f"out.{kind}" for kind in ("html", "markdown", "csv")}
    flags = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    runs = ["--runs", str(tmp_path), "--quiet"]
    assert main(["reproduce", "published_rankings", "scale=small", *flags, *runs]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Published tables, analysed again: ") and "nothing that should hold fails" in told
    assert "<img" in files["html"].read_text() and "Choices that decide the numbers" in files["markdown"].read_text()
    assert len(pd.read_csv(files["csv"])) > 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "unknown experiment of a paper"),
        (["published_rankings", "scale=tiny"], "unknown scale"),
        (["published_rankings", "size=small"], "unknown setting"),
        (["published_rankings", "scale="], "without a value"),
        (["published_rankings", "data=/nowhere"], "needs no data"),
        (["beexai", "data=/nowhere"], "which is not there; expected a folder with CSV files"),
        (["papers/rise"], "harness reproduce rise data=FOLDER, or scale=small"),
        (["scale=small"], "without the name"),
        (["published_rankings", "other"], "one experiment at a time"),
        (["published_rankings", "scale=small", "scale=full"], "came twice"),
        (["published_rankings", "--html", "."], "is a folder"),
        (["--html", "x.html"], "without the name"),
    ],
)
def test_a_mistake_is_told_in_one_line(words, told, capsys, tmp_path):
    assert main(["reproduce", *words, "--runs", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line


@pytest.mark.parametrize("verb", ["run", "plan", "choose"])
@pytest.mark.parametrize("value", ["papers/published_rankings", "[digits,papers/published_rankings]"])
def test_the_file_of_a_paper_is_no_configuration_of_a_run(verb, value, capsys, tmp_path):
    assert main([verb, f"experiment={value}", f"runtime.runs={tmp_path}"]) == 2
    assert "harness reproduce published_rankings" in capsys.readouterr().err
