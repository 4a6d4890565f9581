"""A run whose samples are cut into shards, on one machine or on several, has the results of the uncut run."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness
from harness.cli.main import main
from harness.engine import stage as stages
from harness.errors import UserError
from harness.results.frames import read
from harness.results.rows import row_line
from harness.results.statistics import interval_on_scale, limits_in
from harness.results.store import Store

STATISTICS = [
    "status",
    "value",
    "std",
    "ci_low",
    "ci_high",
    "n",
    "n_invalid",
    "stage",
    "error",
    "unit",
    "better",
    "least",
    "most",
    "kind",
]
TIMES = ("seconds_per_sample", "setup_seconds", "peak_memory_mb")


@pytest.fixture
def block(config, monkeypatch):
    """Explainers and metrics that give scores, some scores, none, and refusals; three images are scored together."""
    monkeypatch.setattr(stages, "CHUNK_BYTES", 3 * 4 * 3 * 36)
    config["explainer"] |= {"half": {"name": "toys:half_finite"}, "declines": {"name": "toys:not_for_you"}}
    config["metric"] |= {"undefined": {"name": "toys:undefined"}, "srg": {"steps": 4}, "forward_passes": {}}
    return config


def cut(config, count, number=None, **changes):
    """The configuration of a run in shards, or of one of its shards."""
    return {**config, "runtime": {**config["runtime"], "shards": count, "shard": number}, **changes}


def exact(directory):
    """Every number of a run, as its exact value."""
    cells, scores = read(directory)
    cells, scores = (each[~each["metric"].isin(TIMES)] for each in (cells, scores))
    rows = {(row["explainer"], row["metric"]): [repr(row[name]) for name in STATISTICS] for _, row in cells.iterrows()}
    for (explainer, _), texts in rows.items():
        if explainer == "half":  # its error says how many samples of a shard are not finite
            texts.pop(STATISTICS.index("error"))
    values = {
        (row.explainer, row.metric, row.sample): (
            float(row.value).hex(),
            row.valid,
            row.target,
            None if row.curve is None else [float(height).hex() for height in row.curve],
        )
        for row in scores.itertuples()
    }
    return rows, values


def contents(directory, *folders):
    """The bytes of the files in some folders of a run."""
    return {path.relative_to(directory): path.read_bytes() for name in folders for path in (directory / name).iterdir()}


def assert_same(first, second):
    """Fails with the first difference of two runs."""
    for one, other in zip(exact(first), exact(second), strict=True):
        assert one.keys() == other.keys()
        assert [(key, one[key], other[key]) for key in one if one[key] != other[key]][:1] == []


@pytest.mark.parametrize("count", [2, 3])
def test_all_shards_together_give_the_numbers_of_the_whole_bit_for_bit(block, count):
    whole, shards = harness.run({**block, "run": "whole"}), harness.run(cut(block, count))
    assert_same(shards, whole)
    assert len(exact(whole)[1]) > 8


def test_rows_and_scores_tell_what_a_metric_can_score_and_rows_without_it_have_intervals_without_limits(block):
    run = harness.run(cut(block, 2))
    cells, scores = read(run)
    limits = dict(zip(cells["metric"], cells[["least", "most"]].to_numpy().tolist(), strict=True))
    assert limits["srg"] == [-1, 1] and limits["forward_passes"][0] == 0 and np.isnan(limits["total"]).all()
    assert (scores.loc[scores["metric"] == "srg", ["least", "most"]].to_numpy() == [-1, 1]).all()
    for row in cells[(cells["status"] == "ok") & (cells["kind"] != "cost")].to_dict("records"):
        values = scores.loc[scores["cell"] == row["cell"], "value"].to_numpy()
        told = [row["ci_low"], row["ci_high"]]
        np.testing.assert_equal(told, interval_on_scale(values[np.isfinite(values)], limits_in(row)))
    earlier = {name: value for name, value in cells.iloc[0].items() if name not in ("least", "most")}
    assert limits_in(earlier) == (-np.inf, np.inf)


def test_shards_begin_where_the_samples_are_cut_that_are_scored_together(block):
    block["protocol"] = {"explain_batch": 2}
    whole, shards = harness.run({**block, "run": "whole"}), harness.run(cut(block, 3))
    assert_same(shards, whole)
    sizes = [len(read(shards / "shards" / f"{number}-of-3")[1].drop_duplicates("sample")) for number in range(3)]
    assert sizes == [3, 3, 2]


def test_shards_can_be_measured_in_any_order_and_the_last_one_joins_them(block):
    whole = harness.run({**block, "run": "whole"})
    for number in (2, 0):
        run = harness.run(cut(block, 3, number))
        assert not Store(run).latest(), "a cell is in the run when all shards have it"
    run = harness.run(cut(block, 3, 1))
    assert_same(run, whole)


def test_a_shard_that_is_done_is_not_measured_again_nor_is_a_run_that_is_done(block, monkeypatch):
    del block["explainer"]["half"]  # its failures would be tried again
    run = harness.run(cut(block, 2, 0))
    before = Store(run / "shards" / "0-of-2").latest()
    harness.run(cut(block, 2))
    assert {cell: row["finished"] for cell, row in Store(run / "shards" / "0-of-2").latest().items()} == {
        cell: row["finished"] for cell, row in before.items()
    }
    monkeypatch.setattr("harness.jobs.runner.load_stage", lambda *_: pytest.fail("a model was loaded"))
    done = exact(run)
    harness.run(cut(block, 2))
    harness.run(block)
    assert exact(run) == done


def test_cells_that_the_run_has_are_no_cells_of_its_shards(block):
    del block["explainer"]["half"]  # its failures would be tried again
    run = harness.run({**block, "metric": {"total": {"name": "toys:total"}}})
    harness.run(cut(block, 2))
    assert set(read(run / "shards" / "0-of-2")[0]["metric"]) == {"drop", "undefined", "srg", "forward_passes"}
    assert_same(run, harness.run({**block, "run": "whole"}))


def test_a_cell_that_fails_in_one_shard_has_failed_until_that_shard_is_measured_again(block, tmp_path, monkeypatch):
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    block["explainer"] = {"fragile": {"name": "toys:fragile"}}
    (tmp_path / "mended").touch()
    harness.run(cut(block, 2, 0))
    (tmp_path / "mended").unlink()
    run = harness.run(cut(block, 2, 1))
    failed = read(run)[0]
    assert set(failed["status"]) == {"failed"} and "not mended yet" in failed["error"].iloc[0]
    assert any((run / "errors").iterdir())
    (tmp_path / "mended").touch()
    harness.run(cut(block, 2))
    assert_same(run, harness.run({**block, "run": "whole"}))


def test_shards_of_different_weights_are_not_joined(block, monkeypatch, capsys):
    block["runtime"]["quiet"] = False
    harness.run(cut(block, 2, 0))
    monkeypatch.setenv("RETRAINED", "1")
    run = harness.run(cut(block, 2, 1))
    assert not Store(run).latest()
    assert "different code or weights" in capsys.readouterr().err
    assert_same(harness.run(cut(block, 2)), harness.run({**block, "run": "whole"}))


def test_a_command_fails_whose_shards_do_not_join_and_the_same_command_measures_the_older_ones(
    tmp_path, capsys, monkeypatch
):
    words = ["run", "model=toys:net", "dataset=toys:images", "explainer=saliency", "metric=sparseness"]
    words += [f"runtime.runs={tmp_path}", "runtime.lease=share", "runtime.supervise=false", "runtime.sheet=0"]
    words += ["protocol.explain_batch=2", "runtime.shards=4"]
    for number in (0, 1):
        assert main([*words, f"runtime.shard={number}"]) == 0
    monkeypatch.setenv("RETRAINED", "1")
    assert main(words) == 1
    told = capsys.readouterr()
    assert "the shards of 2 cells are of different code or weights" in told.err and "results:" not in told.out
    for _ in range(2):  # and once more, when all is done
        assert main(words) == 0 and capsys.readouterr().out.count("results:") == 1


@pytest.mark.parametrize("supervise", ["true", "false"])
def test_a_sweep_over_shards_ends_as_its_last_job_and_prints_one_table(supervise, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    words = ["run", "model=toys:net", "dataset=toys:images", "explainer=saliency", "metric=sparseness"]
    words += [f"runtime.runs={tmp_path}", "runtime.lease=share", f"runtime.supervise={supervise}", "runtime.sheet=0"]
    words += ["protocol.explain_batch=2", "runtime.shards=3"]
    assert main([*words, "-m", "runtime.shard=0,1"]) == 0 and "results:" not in capfd.readouterr().out
    monkeypatch.setenv("RETRAINED", "1")
    assert main([*words, "runtime.shard=2"]) == 1
    for sweep in ("0,1", "0,1", "range(0,3)"):  # the first shard differs from the second one until that is measured too
        assert main([*words, "-m", f"runtime.shard={sweep}"]) == 0
        assert capfd.readouterr().out.count("results:") == 1


def test_a_cell_that_an_earlier_command_has_failed_is_mended_by_a_sweep_over_shards(tmp_path, monkeypatch):
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    words = ["run", "model=toys:net", "dataset=toys:images", "explainer=toys:fragile", "metric=sparseness"]
    words += [f"runtime.runs={tmp_path}", "runtime.lease=share", "runtime.supervise=false", "runtime.sheet=0"]
    words += ["protocol.explain_batch=2", "runtime.shards=2"]
    assert main([*words, "-m", "runtime.shard=0,1"]) == 1
    (tmp_path / "mended").touch()
    assert main([*words, "runtime.shard=0"]) == 1, "the other shard is still a failed one"
    assert main([*words, "-m", "runtime.shard=0,1"]) == 0
    (tmp_path / "mended").unlink()
    assert main([*words, "run=other"]) == 1
    (tmp_path / "mended").touch()
    assert main([*words, "run=other"]) == 0, "the second shard has failed when the first one is measured again"


def test_runs_of_two_machines_are_joined_with_their_shards(block, tmp_path, capsys):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, numbers in ((one, [0, 2]), (other, [1])):
        for number in numbers:
            here = cut(block, 3, number)
            harness.run({**here, "runtime": {**here["runtime"], "runs": str(folder)}})
    before = sorted(path for path in other.rglob("*") if path.is_file())
    assert main(["merge", str(one / "night"), str(other / "night"), "--into", "night", "--runs", str(tmp_path)]) == 0
    assert "20 cells joined" in capsys.readouterr().out
    assert_same(tmp_path / "night", harness.run({**block, "run": "whole"}))
    assert sorted(path for path in other.rglob("*") if path.is_file()) == before
    assert main(["verify", "night", "--runs", str(tmp_path)]) == 0


def test_runs_of_other_cells_are_joined_and_an_ok_row_counts_more_than_a_failed_one(block, tmp_path, monkeypatch):
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    block["explainer"] = {"fragile": {"name": "toys:fragile"}}
    harness.run({**block, "run": "first"})
    (tmp_path / "mended").touch()
    harness.run({**block, "run": "second", "explainer": {**block["explainer"], "twice": {"name": "toys:gradient_map"}}})
    main(["merge", "first", "second", "--into", "both", "--runs", str(tmp_path)])
    cells = read(tmp_path / "both")[0]
    assert set(cells["explainer"]) == {"fragile", "twice"} and "failed" not in set(cells["status"])


@pytest.mark.parametrize(
    "texts",
    [["merge", "a", "b"], ["merge", "night", "--into", "x/y"], ["merge", "a", "b", "--into", ".."], ["merge", "night"]],
)
def test_merging_says_what_is_missing(texts, block, tmp_path, capsys):
    harness.run(block)
    for name in ("a", "b"):
        shutil.copytree(tmp_path / "night", tmp_path / name)
    assert main([*texts, "--runs", str(tmp_path)]) == 2
    assert "expected" in capsys.readouterr().err


def test_merging_a_run_that_lacks_a_shard_says_so(block, tmp_path, capsys):
    harness.run(cut(block, 2, 0))
    assert main(["merge", "night", "--runs", str(tmp_path)]) == 1
    assert "lack a shard" in capsys.readouterr().out


def test_a_newer_row_of_the_run_stays_when_shards_are_joined_again(block, tmp_path, monkeypatch):
    run = harness.run(cut(block, 2))
    monkeypatch.setenv("RETRAINED", "1")
    block["metric"]["more"] = {"name": "toys:total", "scale": 3.0}
    harness.run(block)
    newer = exact(run)
    main(["merge", "night", "--runs", str(tmp_path)])
    assert exact(run) == newer


def test_shards_of_which_one_is_newer_stay_as_they_are_until_they_are_measured(block, tmp_path, monkeypatch):
    harness.run(cut(block, 2, 0))
    monkeypatch.setenv("RETRAINED", "1")
    run = harness.run(cut(block, 2, 1))
    shards = [run / "shards" / f"{number}-of-2" for number in range(2)]
    before = [exact(shard) for shard in shards]
    for _ in range(2):
        assert main(["merge", "night", "--runs", str(tmp_path)]) == 1
    assert [exact(shard) for shard in shards] == before
    harness.run(cut(block, 2, 0))
    assert exact(shards[1]) == before[1] and exact(shards[0]) != before[0]
    assert_same(run, harness.run({**block, "run": "whole"}))


def test_a_shard_with_damaged_scores_is_not_joined_until_it_is_measured_again(block, capsys):
    del block["explainer"]["half"]  # its failures would be tried again
    harness.run(cut(block, 2, 0))
    for path in (Path(block["runtime"]["runs"]) / "night" / "shards" / "0-of-2" / "scores").iterdir():
        path.write_bytes(path.read_bytes()[:-40])
    run = harness.run(cut(block, 2, 1))
    assert not any(row["status"] == "ok" for row in Store(run).latest().values())
    assert main(["merge", "night", "--runs", str(run.parent)]) == 1
    assert "have a shard whose files are damaged" in capsys.readouterr().out
    assert_same(harness.run(cut(block, 2)), harness.run({**block, "run": "whole"}))


def test_choosing_has_no_shards(block, capsys):
    words = [
        "model=digits_cnn",
        "dataset=digits",
        f"runtime.runs={block['runtime']['runs']}",
        "runtime.supervise=false",
    ]
    assert main(["choose", *words, "runtime.shards=2"]) == 2
    assert "runtime.shards is 2, expected 1" in capsys.readouterr().err


def test_merging_reads_and_writes_nothing_outside_of_the_runs(block, tmp_path):
    run = harness.run({**block, "runtime": {**block["runtime"], "sheet": 2}})
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (run / "maps" / "link.npy").symlink_to(secret)
    (run / "shards").mkdir()
    (run / "shards" / "0-of-2").symlink_to(tmp_path)
    (run / "shards" / "0-of-99999999999999999999").mkdir()
    row = {**next(iter(Store(run).latest().values())), "cell": "../../../out"}
    (file,) = (run / "cells").glob("*.jsonl")
    with file.open("ab") as end:
        end.write(row_line(row))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["merge", "night", "--into", "copy", "--runs", str(tmp_path)]) == 0
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(tmp_path / "copy") for path in new) and len(new) > 4
    assert not (tmp_path / "copy" / "maps" / "link.npy").exists()


def test_more_shards_than_batches_of_samples_are_refused(block):
    with pytest.raises(UserError, match="expected at most 3: there are 8 samples, of which 3 are explained together"):
        harness.run(cut(block, 4))
    with pytest.raises(UserError, match=r"runtime.shard is 2 of runtime.shards=2, expected 0 to 1"):
        harness.run(cut(block, 2, 2))


def test_the_first_shard_saves_the_maps_of_the_first_samples(block):
    block["runtime"]["sheet"] = 2
    run, whole = harness.run(cut(block, 2)), harness.run({**block, "run": "whole"})
    names = lambda folder: (
        {path.name for path in (folder / "maps").iterdir()} | {path.name for path in folder.glob("*.png")}
    )
    assert names(run) == names(whole) and len(names(run)) > 2
    assert not (run / "shards" / "1-of-2" / "maps").exists()
    assert len(list((run / "config").glob("*.json"))) == 1


def test_maps_and_tables_are_those_of_the_scores_that_were_joined(block, monkeypatch):
    block["runtime"]["sheet"], block["explainer"]["tabled"] = 2, {"name": "toys:tabled"}
    monkeypatch.setenv("RETRAINED", "1")
    harness.run(cut(block, 2, 0))
    monkeypatch.delenv("RETRAINED")
    harness.run(block)
    before = contents(harness.run(block), "maps", "tables")
    monkeypatch.setenv("RETRAINED", "1")
    block["metric"]["more"] = {"name": "toys:total", "scale": 3.0}
    run = harness.run(cut(block, 2))
    assert contents(run, "maps", "tables").keys() == before.keys()
    assert contents(run, "maps").items() <= contents(run / "shards" / "0-of-2", "maps").items()


def test_the_command_and_a_sweep_over_shards_give_the_scores_of_the_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(harness.__file__).parents[1]), str(Path(__file__).parent)])
    )
    words = ["model=repeated:net", "dataset=repeated:images", "explainer=[gradient,random]", "metric=[deletion]"]
    words += [f"runtime.runs={tmp_path}", "protocol.explain_batch=2", "runtime.lease=share"]
    assert main(["run", *words, "run=cut", "runtime.shards=3"]) == 0
    told = capsys.readouterr()
    assert "shard 2 of 3 is done; 2 of 2 cells have all shards" in told.err
    assert told.out.count("results:") == 1
    assert main(["run", "-m", *words, "run=swept", "runtime.shards=2", "runtime.shard=0,1"]) == 0
    assert main(["run", *words, "run=whole"]) == 0
    whole, *others = (
        read(tmp_path / name)[1].set_index(["explainer", "sample"])["value"] for name in ("whole", "cut", "swept")
    )
    for other in others:
        pd.testing.assert_series_equal(other, whole, rtol=1e-5, check_index_type=False)
