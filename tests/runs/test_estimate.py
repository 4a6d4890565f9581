"""What a plan will cost: exact on planted costs, and the passes of a real block to the last one."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.cli import run as run_verb
from harness.cli.estimate_text import estimate_lines, size_in_words, time_in_words
from harness.cli.main import main
from harness.engine.cost import PassCounter
from harness.jobs import runner
from harness.jobs.blocks import run_block
from harness.jobs.calibration import estimate_job
from harness.jobs.cost_lines import BatchLine, CostLine
from harness.jobs.forecast import Forecast, Measurement, Piece, Shape, Workload, is_worth_it, next_size, warmed
from harness.jobs.job_estimate import JobEstimate, wall_seconds
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress

BATCH, PICTURES, REPEATED = 10, 20, 4
CELLS = frozenset({("one", "srg"), ("one", "road"), ("two", "srg")})


def vector(*numbers):
    return np.array(numbers, dtype=float)


def repeated(explainer, samples):
    """Only the second explainer is stochastic."""
    return min(REPEATED, max(1, samples // 2)) if explainer == "two" else 0


def of_maps(name, samples):
    """A call takes 3 s, and a sample 0.5 s, 7 passes forward and 2 backward; twice that by the second explainer."""
    return (2 if name == "two" else 1) * (-(-samples // BATCH) * vector(3, 0, 0) + samples * vector(0.5, 7, 2))


def planted(samples):
    """The pieces of a block by formulas of the number of samples."""
    pieces = {
        Piece("load"): vector(11, 0, 0),
        Piece("outputs"): samples * vector(0.1, 1, 0) + vector(2, 0, 0),
        Piece("pictures"): min(samples, PICTURES) * vector(0.25, 0, 0),
        Piece("rest"): vector(0.125, 6, 0),
    }
    for name in ("one", "two"):
        again = of_maps(name, count) + vector(5, 0, 0) if (count := repeated(name, samples)) else vector(0, 0, 0)
        pieces |= {
            Piece("set-up", name): vector(5, 0, 0),
            Piece("warm-up", name): vector(1, 1, 1) + min(samples, BATCH) * vector(0.5, 7, 2),
            Piece("maps", name): of_maps(name, samples),
            Piece("checks", name): vector(0.5, 2, 0) + samples * vector(0.01, 1, 0) + again,
        }
    for name, metric in CELLS:
        pieces[Piece("scores", name, metric)] = vector(4, 8, 0) + samples * vector(0.75, 32, 1)
    return pieces


def measurement(samples, **others):
    """The planted block on so many samples."""
    growth = {"one": 10.0 + 20 * min(samples, BATCH), "two": 5.0}
    facts = {"growth": growth, "memory": (1.0, None), "score_bytes": 300 * samples + 900, "other_bytes": 5000}
    return Measurement(samples, planted(samples), **{**facts, **others})


def forecast(*sizes, **others):
    return Forecast([measurement(each, **others) for each in sizes], Shape(BATCH, PICTURES, repeated))


@pytest.mark.parametrize("sizes", [(1, 4), (2, 4), (4, 20), (1, 4, 20)])
@pytest.mark.parametrize("samples", [20, 40, 500])
def test_planted_costs_are_predicted_exactly(sizes, samples):
    """Passes always; seconds too where both sizes are within a batch, so that they tell the cost of a call."""
    expected, found = sum(planted(samples).values()), forecast(*sizes).taken(Workload(CELLS, samples))
    np.testing.assert_allclose(found[1:], expected[1:], rtol=1e-12)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12 if sizes[-1] < BATCH else 0.01)


def test_larger_sizes_of_full_batches_tell_what_is_paid_once_in_making_maps():
    points = [(each, vector(100, 0, 0) + of_maps("one", each)) for each in (20, 80)]
    np.testing.assert_allclose(BatchLine.through(points, BATCH).at(1000), vector(100, 0, 0) + of_maps("one", 1000))


def test_only_pending_cells_cost():
    some = Workload(frozenset({("one", "srg")}), 500)
    left_out = [each for each in planted(500) if each.explainer == "two" or each.metric == "road"]
    expected = sum(taken for piece, taken in planted(500).items() if piece not in left_out)
    np.testing.assert_allclose(forecast(1, 4).taken(some), expected)
    assert not forecast(1, 4).taken(Workload(frozenset(), 500)).any()


def test_each_part_pays_once_what_is_paid_once():
    whole, half = Workload(CELLS, 400), Workload(CELLS, 200)
    found = forecast(1, 4)
    np.testing.assert_allclose(2 * found.taken(half) - found.taken(whole), found.paid_once(whole))
    assert 11 + 2 * 5 <= found.paid_once(whole)[0] <= found.taken(whole)[0]


def test_explainers_and_metrics_share_the_time_of_what_is_theirs():
    found, work = forecast(1, 4), Workload(CELLS, 500)
    shares = found.shares([work])
    total, pieces = found.taken(work)[0], planted(500)
    of = lambda **wanted: sum(t[0] for p, t in pieces.items() if all(getattr(p, n) == v for n, v in wanted.items()))
    assert shares["scoring by srg"] == pytest.approx(of(kind="scores", metric="srg") / total)
    assert shares["explaining two"] == pytest.approx(of(explainer="two", metric="") / total)
    general = of(explainer="")
    assert sum(shares.values()) == pytest.approx(1 - general / total)


def test_noise_makes_no_cost_negative():
    falling = CostLine.through([(1, vector(5, 5, 5)), (4, vector(3, 3, 3))])
    np.testing.assert_array_equal(falling.at(1000), vector(3, 3, 3))
    steep = CostLine.through([(1, vector(1, 0, 0)), (4, vector(10, 0, 0))])
    assert (steep.once >= 0).all() and steep.at(4)[0] == 10


def test_a_machine_that_was_busier_for_one_measurement_does_not_bend_the_line_of_passes():
    """A sample takes 100 passes of 0.02 s; the first measurement took three times as long as it should."""
    points = [(1, vector(3 * 2, 100, 0)), (4, vector(4 * 2, 400, 0))]
    assert CostLine.through(points).at(1000)[0] == pytest.approx(8 + 996 * 2 / 3)
    steady = CostLine.through(points).steadied(4, 0.02)
    np.testing.assert_allclose(steady.at(1000), vector(2000, 100_000, 0))
    np.testing.assert_allclose(steady.at(4), points[1][1])
    unexplained = CostLine.through(points).steadied(4, 0.01)  # half of the time
    assert unexplained.at(1000)[0] == pytest.approx((2000 + 8 + 996 * 2 / 3) / 2)
    without_passes = CostLine.through([(1, vector(1, 0, 0)), (4, vector(2, 0, 0))])
    assert without_passes.steadied(4, 0.02) is without_passes


def test_a_piece_that_failed_on_the_smaller_set_counts_by_its_share_of_the_samples():
    small, large = measurement(1), measurement(4)
    lost = Piece("scores", "one", "srg")
    small = replace(small, taken={piece: taken for piece, taken in small.taken.items() if piece != lost})
    found = Forecast([small, large], Shape(BATCH, PICTURES, repeated)).taken(Workload(frozenset({lost_cell(lost)}), 8))
    assert np.isfinite(found).all() and (found > 0).all()


def lost_cell(piece):
    return piece.explainer, piece.metric


def test_memory_is_the_peak_and_the_further_growth_of_a_full_batch():
    process, device = forecast(1, 4).memory(500)
    assert process == pytest.approx(1 + (210 - 90) / 1024) and device is None
    assert forecast(1, 4, memory=(1.0, 2.0)).memory(500) == (1.0, pytest.approx(2 + (210 - 90) / 1024))
    assert forecast(4, 20).memory(500)[0] == 1.0
    assert forecast(1, 4, growth={"one": float("nan")}).memory(500)[0] == 1.0


def test_scores_of_parts_lie_on_the_disk_twice():
    whole, halves = [Workload(CELLS, 500)], [Workload(CELLS, 250)] * 2
    assert forecast(1, 4).disk(whole) == pytest.approx(300 * 500 + 900 + 5000)
    assert forecast(1, 4).disk(halves) == pytest.approx(2 * (300 * 250 + 900 + 5000) + 300 * 500 + 900)
    third = [Workload(frozenset({("one", "srg")}), 500)]
    assert forecast(1, 4).disk(third) == pytest.approx(forecast(1, 4).disk(whole) / 3)


def sizes_of(samples, batch=BATCH, seconds=0.0):
    sizes = []
    while (size := next_size(sizes, samples, batch, seconds)) is not None:
        sizes.append(size)
    return sizes


def test_sizes_grow_in_full_batches_and_leave_at_least_half_of_the_samples():
    assert sizes_of(5000) == [1, 4, 20, 80, 320, 1280]
    assert sizes_of(40) == [1, 4, 20] and sizes_of(20) == [1, 4, 10] and sizes_of(12) == [1, 3, 6]
    assert sizes_of(3) == [1, 2] and sizes_of(2) == [1, 2] and sizes_of(1) == [1] and not sizes_of(0)
    assert sizes_of(1000, batch=64) == [1, 4, 16, 64, 256]
    assert sizes_of(1000, seconds=200)[:2] == [1, 2]


@pytest.mark.parametrize("at_most", [0, 1e9])
def test_a_calibration_takes_a_small_share_of_the_time_or_seconds(at_most):
    about, unsettled = {"settled": True, "at_most": at_most}, {"settled": False, "at_most": at_most}
    assert is_worth_it(5, 10, 1000, **about) and not is_worth_it(5, 10, 20, **about)
    assert is_worth_it(100, 60, 4000, **about) and not is_worth_it(100, 60, 1000, **about)
    assert not is_worth_it(200, 150, 1e6, **about)
    assert is_worth_it(50, 30, 1000, **unsettled) and not is_worth_it(50, 30, 100, **unsettled)


def test_a_line_that_predicts_too_little_does_not_end_the_calibration_that_corrects_it():
    assert is_worth_it(2, 5, total=3, settled=False, at_most=100) and not is_worth_it(6, 5, 3, False, at_most=100)
    assert not is_worth_it(2, 5, total=3, settled=True, at_most=100), "then the line is known"
    assert not is_worth_it(2, 5, total=3, settled=False, at_most=12), "it is worth no more than half of the work"


@pytest.mark.parametrize("samples", [20, 40, 500])
def test_what_the_first_measurement_takes_longer_is_paid_once(samples):
    """Here each piece takes 9 seconds longer the first time, which a line to the second size would tell as falling."""
    cold, warm = measurement(1), measurement(1)
    late = {piece: taken + vector(9, 0, 0) * (piece.kind != "load") for piece, taken in cold.taken.items()}
    first, further = warmed(replace(cold, taken=late), warm)
    assert further == 9 * sum(piece.kind != "load" for piece in late)
    second = measurement(4)
    second.taken[Piece("load")] += vector(further, 0, 0)
    found = Forecast([first, second], Shape(BATCH, PICTURES, repeated)).taken(Workload(CELLS, samples))
    np.testing.assert_allclose(found, sum(planted(samples).values()) + vector(further, 0, 0), rtol=1e-12)
    assert warmed(warm, replace(cold, taken=late))[1] == 0, "a machine that was busier the second time"


def test_measurements_settle_when_most_of_them_grows_with_the_samples():
    assert not forecast(1, 4).settled and forecast(20, 80).settled


def test_the_longest_work_bounds_the_wall_time():
    works = [5, 4, 3, 3, 3]
    assert [wall_seconds(works, devices) for devices in (1, 2, 3, 8)] == [18, 10, 7, 5]
    assert wall_seconds([], 4) == 0


# The text


def job(**facts):
    about = {"title": "net on data", "device": "a CPU", "cells": 12, "samples": 100, "sizes": [1, 4], "once": 60.0}
    return JobEstimate(
        **{**about, "calibration": 9.0, "parts": [3600.0], "passes": (12345, 678), "memory": (1.5, None), **facts}
    )


def text_of(*jobs):
    return "\n".join(estimate_lines(jobs))


def test_the_table_is_aligned_and_has_a_row_for_all_jobs():
    text = text_of(job(), job(title="a longer net on data", parts=[7.0], memory=(0.25, 4.0)))
    rows = text.splitlines()[1:5]
    assert len({len(row) for row in rows}) == 1 and rows[0].split("  ")[0] == "block"
    assert re.search(r"all 2 jobs +24 +24,690 +1,356 +60.1 min +2.00 min", text)
    assert "GPU memory" in text and "4.0 GiB" in text and "GPU memory" not in text_of(job())
    assert "measuring a few samples took 18.0 s" in text


def test_times_and_sizes_are_in_units_that_one_can_read():
    assert [time_in_words(each) for each in (0.5, 45, 119, 600, 3600, 9000, 200_000)] == [
        "0.500 s",
        "45.0 s",
        "119 s",
        "10.0 min",
        "60.0 min",
        "2.50 h",
        "55.6 h",
    ]
    assert [size_in_words(each) for each in (10, 45_000, 3.4e6, 2e9)] == ["1 kB", "45 kB", "3.40 MB", "2.00 GB"]


def test_a_plan_above_a_day_gets_a_warning_with_what_to_do():
    once, each = 3600.0, 864.0
    long = job(samples=1000, parts=[once + 1000 * each], once=once)
    (warning,) = [line for line in text_of(long).splitlines() if line.startswith("warning")]
    assert "241 h on one device is more than a day" in warning and "protocol.samples=90 takes about a day" in warning
    assert "protocol.precision=" in warning and "runtime.shards=8" in warning
    in_rounds = text_of(replace(long, at_most=True))
    assert "upper bound: rounds may end earlier" in in_rounds and "protocol.precision=0" not in in_rounds
    assert "warning" not in text_of(job(parts=[86_000.0]))
    assert text_of(job(parts=[50_000.0]), job(parts=[50_000.0])).count("warning") == 1


def test_shards_and_jobs_are_spread_over_devices():
    text = text_of(job(parts=[600.0, 600.0, 600.0, 300.0], shards=4))
    assert "4 shards of 5.00 min to 10.0 min" in text
    assert "35.0 min on 1, 20.0 min on 2, 10.0 min on 4, 10.0 min on 8; the longest part takes 10.0 min" in text
    assert "by number of devices: 4.00 h on 1, 3.00 h on 2, 3.00 h on 4" in text_of(job(), job(parts=[3 * 3600.0]))
    assert "by number of devices" not in text_of(job())
    rounds = text_of(job(parts=[600.0, 600.0], at_most=True))  # which follow each other
    assert "by number of devices" not in rounds and "20.0 min" in rounds


def test_what_was_not_measured_or_counted_is_told():
    text = text_of(job(unmeasured=[("failed", 3, "x by y: why")], uncounted=["odd"], alone=False))
    assert "3 cells failed on these samples; the first is x by y: why" in text
    assert "> 12,345" in text and "not all passes of odd can be counted" in text
    assert "another run used the device meanwhile" in text
    empty = text_of(job(sizes=[], parts=[], passes=(0, 0), unmeasured=[("not_applicable", 12, "no")]))
    assert "12 cells cannot be measured here" in empty and "GiB" not in empty


# Real blocks


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """A small block whose number of passes is decided by no clock."""
    monkeypatch.setattr("harness.engine.block.CHEAP_WARM_UP_SECONDS", float("inf"))
    monkeypatch.setattr("harness.jobs.calibration.is_worth_it", lambda *_: True)
    return {
        "model": "digits_cnn",
        "dataset": "digits",
        "explainer": {"saliency": {}, "rise": {"samples": 30}},
        "metric": {"srg": {"steps": 4}, "sparseness": {}},
        "protocol": {"samples": 40},
        "run": "night",
        "runtime": {"runs": str(tmp_path / "runs"), "quiet": True, "lease": "share", "sheet": 0},
    }


def estimated(config, folder, **how):
    return estimate_job(Plan.of(config).with_control(), Path(folder), Progress(quiet=True), **how)


def counted_run(config, monkeypatch):
    """Measure the block; the inputs that pass forward and backward in each of its parts, counted from outside."""
    passes, measure = [], runner.measure_block

    def counted(stage, *arguments, **settings):
        counter = PassCounter(stage.module, stage.predictor)
        with counter.counting():
            measure(stage, *arguments, **settings)
        passes.append((stage.count + counter.forwards, counter.backwards))  # the outputs of the clean samples too

    with monkeypatch.context() as patched:
        patched.setattr(runner, "measure_block", counted)
        run_block(Plan.of(config).with_control())
    return np.array(passes)


def test_predicted_passes_are_those_of_the_run(digits, tmp_path, monkeypatch):
    digits["explainer"] |= {"integrated_gradients": {"steps": 4}}
    digits["metric"] |= {"infidelity": {"draws": 6}, "max_sensitivity": {"draws": 2}, "forward_passes": {}}
    found = estimated(digits, tmp_path)
    assert found.sizes == [1, 4, 20] and (found.cells, found.samples) == (20, 40) and not found.unmeasured
    assert not (tmp_path / "runs").exists()
    (counted,) = counted_run(digits, monkeypatch)
    assert found.passes == tuple(counted)
    assert 0 < found.once < found.seconds < 600 and 0.1 < found.memory[0] < 32 and found.memory[1] is None
    scores = sum(path.stat().st_size for path in (tmp_path / "runs" / "night" / "scores").iterdir())
    assert scores / 2 < found.disk < 20 * scores
    assert json.loads(json.dumps(found.facts()))["passes"] == list(counted)


def test_passes_of_shards_are_those_of_the_run(digits, tmp_path, monkeypatch):
    digits["runtime"]["shards"] = 2
    found = estimated(digits, tmp_path)
    assert len(found.parts) == found.shards == 2 and found.seconds == sum(found.parts)
    counted = counted_run(digits, monkeypatch)
    assert len(counted) == 2 and found.passes == tuple(counted.sum(0))
    assert estimated(digits, tmp_path).cells == 0


def test_passes_of_rounds_are_those_of_the_run(digits, tmp_path, monkeypatch):
    digits["protocol"]["precision"] = 1e-9
    found = estimated(digits, tmp_path)
    assert len(found.parts) == 2 and found.at_most and found.shards == 1
    assert found.passes == tuple(counted_run(digits, monkeypatch).sum(0))


def test_finished_cells_cost_nothing(digits, tmp_path, monkeypatch):
    whole = estimated(digits, tmp_path / "first")
    harness.run({**digits, "explainer": {"saliency": {}}})
    found = estimated(digits, tmp_path / "second")
    assert found.cells == 4 and found.passes[0] < whole.passes[0]
    assert found.passes == tuple(counted_run(digits, monkeypatch)[0])


def test_a_shard_that_is_done_costs_nothing(digits, tmp_path):
    digits["runtime"] |= {"shards": 2, "shard": 0}
    run_block(Plan.of(digits).with_control())
    digits["runtime"]["shard"] = None
    found = estimated(digits, tmp_path)
    assert found.cells == 6 and len(found.parts) == 1


def test_cells_that_fail_or_do_not_apply_are_named(config, tmp_path):
    config["explainer"] |= {"declines": {"name": "toys:not_for_you"}, "vandal": {"name": "toys:vandal"}}
    config["metric"]["none"] = {"name": "toys:undefined"}
    found = estimated({**config, "runtime": {**config["runtime"], "control": False}}, tmp_path / "folder")
    by_status = {status: (count, reason) for status, count, reason in found.unmeasured}
    assert by_status["failed"][0] == 3 and by_status["failed"][1].startswith("vandal by total: ")
    assert by_status["not_applicable"] == (3, "declines by total: needs wings")
    assert by_status["no_score"][0] == 2 and "nothing to measure" in by_status["no_score"][1]


def test_a_model_that_does_not_take_the_data_costs_nothing_in_a_sweep(config, tmp_path):
    config["dataset"] = "toys:tables"
    found = estimated(config, tmp_path / "folder")
    assert found.seconds == 0 and [each[:2] for each in found.unmeasured] == [("not_applicable", found.cells)]
    with pytest.raises(harness.errors.UserError, match="could not be loaded"):
        estimated(config, tmp_path / "folder", in_sweep=False)


# The command

SMALL = (
    "model=digits_cnn",
    "dataset=digits",
    "protocol.samples=12",
    "explainer=saliency",
    "metric=[sparseness,complexity]",
    "runtime.sheet=0",
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_prints_states_and_then_the_estimate(here, capsys):
    assert main(["plan", *SMALL, "--estimate"]) == 0
    out, err = capsys.readouterr()
    assert "4 cells in runs/main: 4 new" in out and re.search(r"digits_cnn on digits +4 +12 ", out)
    assert "measuring 4 cells on 1 of 12 samples" in err and "measured on 1 and 3" in out
    assert main(["plan", *SMALL, "--estimate", "--quiet"]) == 0
    assert capsys.readouterr().err == "" and not (here / "runs").exists()


def test_nothing_is_measured_where_nothing_is_pending(here, capsys, monkeypatch):
    assert main(["run", *SMALL, "--quiet"]) == 0
    monkeypatch.setattr("harness.jobs.calibration.uncut_stage", lambda *_: pytest.fail("a model was loaded"))
    assert main(["plan", *SMALL, "--estimate"]) == 0
    out, err = capsys.readouterr()
    assert "nothing is pending: harness run would measure nothing" in out and "measuring" not in err


def test_cells_that_several_jobs_share_count_once(here, capsys):
    assert main(["plan", *SMALL, "runtime.threads=1,2", "-m", "--estimate", "--quiet"]) == 0
    assert "all 2 jobs of the sweep: 4 cells" in capsys.readouterr().out.replace("\n\n", "\n").split("estimate, on")[0]
    assert main(["plan", *SMALL, "protocol.seed=0,1", "-m", "--estimate", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"all 2 jobs +8 ", out) and "wall time by number of devices" in out


def test_a_mistake_is_one_line(here, capsys):
    for words, told in (
        (["runtime.shards=9"], "harness: runtime.shards is 9, expected at most 2: there are 12 samples"),
        # As many samples as are asked for could be cut into so many shards, and those that there are cannot.
        (
            ["runtime.shards=99", "protocol.samples=1000"],
            "could not be loaded: runtime.shards is 99, expected at most 50",
        ),
    ):
        assert main(["plan", *SMALL, *words, "--estimate", "--quiet"]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and told in err


def test_an_item_that_ends_the_process_costs_its_own_cells(here, capfd, monkeypatch):
    (here / "ends.py").write_text("import os\n\n\ndef crash(model, inputs, targets):\n    os._exit(3)\n")
    monkeypatch.setattr(run_verb, "SUPERVISES", True)
    monkeypatch.syspath_prepend(here)
    words = [each for each in SMALL if not each.startswith("explainer")]
    assert main(["plan", *words, "explainer=[saliency,ends:crash]", "--estimate", "--quiet"]) == 0
    out = capfd.readouterr().out
    assert "2 cells failed on these samples; the first is crash by sparseness: the process ended itself" in out
    assert re.search(r"digits_cnn on digits +6 +12 ", out)
