"""Whatever befalls ``harness choose``: an answer comes, nothing is measured twice, mistakes are told in one line."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from shutil import copytree

import pandas as pd
import pytest

from harness.choosing.account import Account
from harness.cli.choose import choose_settings
from harness.cli.main import main
from harness.errors import UserError
from harness.jobs.supervisor import Supervisor
from harness.results.frames import find_run
from harness.results.store import Store

HERE = Path(__file__).parent
KILLS = int(os.environ.get("HARNESS_TEST_KILLS", 2))
GOOD = {f"good {number}": {"name": "faulty:good", "power": 1 + number / 10} for number in range(4)}
OWN = {name: {"name": name} for name in ("saliency", "input_x_gradient", "occlusion")}
MANY = {**OWN, **GOOD, "gradient": {"name": "gradient"}}
COSTLY = {**OWN, "integrated_gradients": {"name": "integrated_gradients"}, "deep_lift": {"name": "deep_lift"}}
FAULTS = {
    "hangs": r"failed: no end within runtime.cell_timeout=6 s after .* s; last in .*faulty.py:\d+ \(hangs\)",
    "raises": "failed: RuntimeError: no such luck",
    "no_numbers": "failed: FloatingPointError: every attribution holds NaN",
    "some_numbers": r"1 (of \d+ )?samples? ha(s|ve) no score",
    "leaves": "failed: the process ended itself with exit status 0",
    "gives_up": "failed: SystemExit: no more",
    "hoards": r"failed: (its processes held [\d.]+ GiB of memory, more than runtime.memory=2|no end within)",
    "asks_for_too_much": "failed: RuntimeError: .*allocate",
}


@pytest.fixture(autouse=True, scope="module")
def _importable():
    """Items are named as ``faulty:name``, here and in the processes that are started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        patch.setenv("HANGS", os.devnull)
        yield
    sys.modules.pop("faulty", None)


class Apart:
    """A choice in a process of its own."""

    def __init__(self, number, printed):
        self.number, self.printed = number, printed

    @property
    def told(self):
        """What it has printed."""
        return self.printed.read_text() if self.printed.exists() else ""

    @property
    def goes_on(self):
        """Whether it has not ended."""
        try:
            os.kill(self.number, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self):
        """End it by force, with all of its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.number, signal.SIGKILL)
        wait_until(lambda: not self.goes_on)

    def status(self, seconds=120):
        """Its exit status, when it has ended."""
        wait_until(lambda: not self.goes_on, seconds)
        return int(self.told.rpartition("exit status ")[2])


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert true()


@pytest.fixture(scope="module")
def apart():
    """Starts a choice in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}
    environment |= {"TMPDIR": tempfile.gettempdir(), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "import faulty; faulty.serve()"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def start(settings, printed, **environment):
        printed.unlink(missing_ok=True)
        job = {"settings": settings, "printed": str(printed), "environment": environment}
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        return Apart(int(server.stdout.readline()), printed)

    yield start
    server.stdin.close()
    server.wait(30)
    server.stdout.close()


def settings(runs, explainers=OWN, run="choice", budget=None, model="faulty:net", purpose=None, **runtime):
    """A choice, as the command composes it: by one metric, without tuning."""
    return {
        "model": model,
        "dataset": "faulty:rows",
        "explainer": explainers,
        "metric": {"srg": {"name": "srg", "steps": 8}},
        "run": run,
        "runtime": {"runs": str(runs), "threads": 1, "lease": "share", "quiet": True, "supervise": False, **runtime},
        "choose": {"budget": budget, "purpose": purpose, "tune": False, "metric": True, "json": True},
    }


def chosen(runs, *arguments, **more):
    """The exit status and the answer of a choice in this process."""
    config = settings(runs, *arguments, **more)
    with open(os.devnull, "w") as nowhere:
        status = choose_settings(config, output=nowhere)
    return status, answer_of(Path(runs) / config["run"])


def answer_of(folder):
    return json.loads((folder / "choice.json").read_text())


def scores_of(answer):
    """Explainer -> its mean score; their order depends on time, and time on the machine."""
    return {each["explainer"]: each["score"]["mean"] for each in answer["explainers"]}


def spent_in(folder):
    path = folder / "choosing" / "spent.jsonl"
    return path.read_bytes() if path.exists() else b""


def assert_nothing_was_measured_twice(folder):
    """No cell has two rows with scores."""
    store = Store(folder / "choosing")
    rows = [json.loads(line) for path in store.files() for line in path.read_text().splitlines()]
    twice = [cell for cell, times in Counter(row["cell"] for row in rows if row["status"] == "ok").items() if times > 1]
    assert rows and not twice


def measured_in(folder):
    """What has scores, but for conditions: these are checked for the fastest first, and time is the machine's."""
    rows = [row for row in Store(folder / "choosing").latest().values() if row["status"] == "ok"]
    found = {(row["config"]["part"], row["explainer"], row["metric"]) for row in rows}
    return {each for each in found if not each[0].startswith("conditions")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a choice of one's own explainers, for copies."""
    runs = tmp_path_factory.mktemp("finished")
    chosen(runs)
    return runs / "choice"


def candidates_of(folder):
    return pd.read_csv(folder / "evidence" / "candidates.csv").set_index("explainer")


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The folder of an undisturbed choice of many explainers, and its answer."""
    runs = tmp_path_factory.mktemp("calm")
    status, answer = chosen(runs, MANY)
    assert status in (0, 3)
    return runs / "choice", answer


@pytest.fixture(scope="module")
def faulted(tmp_path_factory, apart):
    """A supervised choice that is killed while an explainer hangs, and goes on: its folder, exit status and words."""
    runs, mark = tmp_path_factory.mktemp("faulted"), tmp_path_factory.mktemp("mark") / "hangs"
    explainers = {**GOOD, **{name: {"name": f"faulty:{name}"} for name in FAULTS}}
    config = settings(runs, explainers, supervise=True, quiet=False)
    killed = apart(config, runs / "first.txt", HANGS=str(mark))
    wait_until(lambda: mark.exists() or not killed.goes_on)
    assert killed.goes_on, killed.told
    killed.kill()
    config["runtime"] |= {"cell_timeout": 6, "memory": 2}
    process = apart(config, runs / "second.txt", HANGS=str(mark))
    return runs / "choice", process.status(), process.told


@pytest.mark.parametrize("fault", FAULTS)
def test_an_explainer_that_fails_in_the_race_is_dropped_with_its_reason(fault, faulted):
    folder, _, told = faulted
    row = candidates_of(folder).loc[fault]
    assert re.match(FAULTS[fault], row["left_race"]), row["left_race"]
    assert not row["in_answer"] and pd.isna(row["left_out"])


def test_the_race_goes_on_without_those_that_fail_and_the_others_have_the_scores_of_a_calm_one(faulted, calm):
    folder, status, told = faulted
    answer = answer_of(folder)
    assert (status == 0) == (answer["status"] == "answer") and status in (0, 3), told
    assert "the last choice was killed while it measured hangs: measured last this time" in told
    assert told.count("round 1, ") == 1  # a process that goes on does not tell again what was told
    rows, others = (Store(each / "choosing").latest() for each in (folder, calm[0]))
    both = [cell for cell in rows if cell in others and rows[cell]["kind"] != "cost"]
    assert len(both) > 5 and all(rows[cell]["value"] == others[cell]["value"] for cell in both)
    assert_nothing_was_measured_twice(folder)
    assert not (folder / "choosing" / "working").exists()


def test_the_time_of_a_process_that_was_ended_counts_as_spent(faulted):
    folder, _, _ = faulted
    lost = [row for row in Store(folder / "choosing").latest().values() if "no end within" in str(row["error"])]
    assert sum(row["seconds"] for row in lost) > 2 and answer_of(folder)["seconds"] > 2


def least_budget(runs, explainers):
    """The fewest evaluations that are no mistake."""
    with pytest.raises(UserError, match="at least about") as told:
        chosen(runs, explainers, run="too little", budget=1)
    return int(re.search(r"about ([\d,]+)", str(told.value))[1].replace(",", ""))


@pytest.mark.parametrize("limited", [False, True], ids=["all samples", "a budget"])
def test_a_choice_that_is_killed_at_random_ends_as_an_undisturbed_one(limited, apart, calm, tmp_path, seed):
    explainers, budget, (whole, answer) = MANY, None, calm
    if limited:
        explainers, budget = COSTLY, round(1.3 * least_budget(tmp_path, COSTLY))
        whole, answer = tmp_path / "whole", chosen(tmp_path, COSTLY, run="whole", budget=budget)[1]
    config, draws = settings(tmp_path, explainers, budget=budget), random.Random(seed)
    folder, before = tmp_path / "choice", b""
    for _ in range(KILLS):
        process = apart(config, tmp_path / "printed.txt")
        time.sleep(draws.uniform(0.3, 2))
        process.kill()
        assert spent_in(folder).startswith(before)
        before = spent_in(folder)
    process = apart(config, tmp_path / "printed.txt")
    assert process.status() in (0, 3), process.told
    assert spent_in(folder).startswith(before)
    assert scores_of(answer_of(folder)) == scores_of(answer)
    assert measured_in(folder) == measured_in(whole)
    assert_nothing_was_measured_twice(folder)


def test_a_larger_budget_goes_on_and_ends_with_the_scores_of_a_choice_that_had_it_at_once(tmp_path):
    least = least_budget(tmp_path, COSTLY)
    budgets = [round(times * least) for times in (1.1, 1.8)]
    for budget in budgets:
        before = spent_in(tmp_path / "choice")
        _, answer = chosen(tmp_path, COSTLY, budget=budget)
        assert spent_in(tmp_path / "choice").startswith(before) and len(spent_in(tmp_path / "choice")) > len(before)
    _, at_once = chosen(tmp_path, COSTLY, run="at once", budget=budgets[-1])
    races = [pd.read_csv(tmp_path / run / "evidence" / "race.csv") for run in ("choice", "at once")]
    pd.testing.assert_frame_equal(*races)
    both = scores_of(answer).keys() & scores_of(at_once).keys()
    assert {name: scores_of(answer)[name] for name in both} == {name: scores_of(at_once)[name] for name in both}
    # Each answer is one more look at the samples of the confirmation, at half the level: fewer are shown to be worse.
    assert scores_of(answer).keys() >= scores_of(at_once).keys()
    assert_nothing_was_measured_twice(tmp_path / "choice")


def test_explainers_with_equal_maps_are_found_although_different_processes_measured_them(tmp_path):
    chosen(tmp_path, COSTLY)
    folder = tmp_path / "choice"
    whole = candidates_of(folder)["left_out"]
    twins = [name for name, reason in whole.items() if "which stands for both" in str(reason)]
    assert twins
    for path in Store(folder / "choosing").files():
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(line for line in lines if json.loads(line)["explainer"] not in twins))
    chosen(tmp_path, COSTLY)
    pd.testing.assert_series_equal(candidates_of(folder)["left_out"], whole)


def test_the_same_command_again_measures_nothing_and_answers_the_same(calm):
    folder, answer = calm
    before = spent_in(folder)
    _, again = chosen(folder.parent, MANY)
    assert spent_in(folder) == before and scores_of(again) == scores_of(answer)
    assert again["evaluations"] == answer["evaluations"]


def test_another_question_in_the_same_run_is_answered_as_in_a_run_of_its_own(tmp_path):
    budget, other = round(1.3 * least_budget(tmp_path, OWN)), {"name": "faulty:net", "seed": 1}
    chosen(tmp_path, budget=budget)
    _, beside = chosen(tmp_path, model=other, budget=budget)
    _, alone = chosen(tmp_path, model=other, budget=budget, run="alone")
    assert scores_of(beside) == scores_of(alone)
    assert measured_in(tmp_path / "choice") >= measured_in(tmp_path / "alone")


def test_an_account_counts_what_the_choice_has_come_to_whichever_process_measured_it(tmp_path):
    first = Account(tmp_path / "spent.jsonl", "all is safe")
    first.charge("race", "a", 1.0, 10.0)
    first.charge("race", "b", 1.0, 5.0)
    first.charge("race", None, 1.0, 100.0)
    for evaluations in (3.0, 4.0):
        first.charge_for_all("a and b", "key", 0.5, evaluations)
    assert first.spent() == (0, 0)
    first.come_to("a"), first.come_to_group("a and b")
    assert first.spent() == (2.0, 17.0)
    second = Account(tmp_path / "spent.jsonl", "all is safe")
    second.come_to("a"), second.come_to_group("a and b")
    assert second.spent() == first.spent()
    second.charge("race", "a", 1.0, 10.0)  # a cell that was noted and not recorded is measured again
    second.charge_for_all("a and b", "key", 0.5, 7.0)
    assert second.spent() == first.spent()


@pytest.mark.parametrize("damage", [False, True])
def test_an_account_whose_first_entry_is_not_there_can_be_read_again(tmp_path, damage):
    path = tmp_path / "spent.jsonl"
    first = Account(path, "all is safe")
    for seconds, evaluations in ((0.0, 0.0), (0.5, 3.0), (0.5, 4.0)):  # the first one is too small to be written
        first.charge_for_all("a and b", "key", seconds, evaluations)
    if damage:
        path.write_bytes(b"damaged" + path.read_bytes())
    again = Account(path, "all is safe")
    again.come_to_group("a and b")
    assert again.spent() == ((0.5, 4.0) if damage else (1.0, 7.0))


def test_the_second_of_two_at_once_waits_and_measures_nothing(apart, tmp_path):
    config = settings(tmp_path, quiet=False)
    processes = [apart(config, tmp_path / f"{number}.txt") for number in (0, 1)]
    assert len({process.status() for process in processes} & {0, 3}) == 1
    told = [process.told for process in processes]
    assert sum("waiting for another harness choose in" in each for each in told) == 1
    answers = [json.loads(each[each.index("{") : each.rindex("}") + 1]) for each in told]
    assert scores_of(answers[0]) == scores_of(answers[1])
    assert answers[0]["evaluations"] == answers[1]["evaluations"]
    assert_nothing_was_measured_twice(tmp_path / "choice")
    assert main(["verify", "choice", "--runs", str(tmp_path)]) == 0


def test_what_spoils_the_process_is_told_and_the_same_command_goes_on(apart, tmp_path):
    config = settings(tmp_path, {**GOOD, "patches": {"name": "faulty:patches"}})
    first = apart(config, tmp_path / "first.txt")
    assert first.status() == 2 and "its outputs are others than before" in first.told
    assert apart(config, tmp_path / "second.txt").status() in (0, 2, 3)
    rows = Store(tmp_path / "choice" / "choosing").latest().values()
    assert {row["explainer"] for row in rows if row["status"] == "failed"} == {"patches"}


def test_damaged_files_of_a_choice_are_named_and_the_same_command_mends_them(finished, tmp_path, capsys, caplog):
    copytree(finished, tmp_path / "choice")
    folder, answer = tmp_path / "choice" / "choosing", answer_of(finished)
    for name in ("spent.jsonl", "notes.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2] + b"7" + content[len(content) // 2 + 1 :])
    assert main(["verify", "choice", "--runs", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "spent.jsonl: line" in told and "notes.json: its checksum is wrong" in told and "harness choose with" in told
    assert scores_of(chosen(tmp_path)[1]) == scores_of(answer)
    assert main(["verify", "choice", "--runs", str(tmp_path)]) == 0
    assert_nothing_was_measured_twice(tmp_path / "choice")


@pytest.fixture(scope="module")
def runs(finished, tmp_path_factory):
    """A folder with a choice alone, and one with a choice beside an ordinary run."""
    folder = tmp_path_factory.mktemp("runs")
    copytree(finished, folder / "choice")
    chosen(folder, run="both")
    words = [*COMMAND[1:3], "explainer=[saliency,occlusion]", "metric=[srg]", "run=both", *COMMAND[5:]]
    assert main(["run", *words, f"runtime.runs={folder}"]) == 0
    return folder


COMMAND = [
    *("choose", "model=faulty:net", "dataset=faulty:rows", "candidates=[saliency,occlusion]", "tune=false"),
    *("--quiet", "runtime.lease=share", "runtime.threads=1", "runtime.supervise=false"),
]


def told_by(capsys, *words):
    """The exit status, and what is printed."""
    capsys.readouterr()
    status = main([str(word) for word in words])
    return status, "".join(capsys.readouterr())


def test_other_verbs_show_a_choice(runs, capsys):
    facts = answer_of(runs / "choice")
    place = ("--runs", runs)
    status, table = told_by(capsys, "table", "choice", *place)
    assert status == 0 and "the best control" in table and facts["sentences"][0][:60] in table
    status, report = told_by(capsys, "report", "choice", *place)
    assert status == 0 and f"report: {runs / 'choice' / 'choice.html'}" in report
    assert told_by(capsys, "report", "choice", "--out", runs / "copy.html", *place)[0] == 0
    assert (runs / "copy.html").read_bytes() == (runs / "choice" / "choice.html").read_bytes()
    status, rows = told_by(capsys, "table", "choice", "--csv", runs / "rows.csv", *place)
    assert status == 0 and set(pd.read_csv(runs / "rows.csv")["explainer"]) >= {"saliency", "random"}
    status, verified = told_by(capsys, "verify", runs / "choice")
    assert status == 0 and "choosing: " in verified and "nothing is damaged" in verified
    status, view = told_by(capsys, "view", "choice", "--what", "activations", *place)
    assert status == 0 and "activations" in view and list((runs / "choice" / "views").glob("*.png"))


@pytest.mark.parametrize(
    "words",
    [
        ["table", "choice", "--samples"],
        ["table", "choice", "--metric", "srg"],
        ["compare", "choice", "both"],
        ["trend", "choice", "both"],
        ["report", "choice", "both"],
        ["view", "choice", "--what", "curves"],
        ["table", "nothing"],
    ],
    ids=" ".join,
)
def test_what_does_not_go_with_a_choice_is_one_line_that_says_what_the_run_is(words, runs, capsys):
    status, told = told_by(capsys, *words, "--runs", runs)
    line = told.splitlines()[-1]
    assert status == 2 and line.startswith("harness: ") and "Traceback" not in told
    assert "choice" in line and (words[0] == "view" or "harness choose" in line)


def test_a_choice_and_a_run_in_one_folder_do_not_mind_each_other(runs, capsys):
    folder = runs / "both"
    assert find_run("both", runs) == folder and find_run("latest", runs) == folder
    status, table = told_by(capsys, "table", "both", "--runs", runs)
    assert status == 0 and "harness table both --all" not in table and "fresh" not in table
    status, report = told_by(capsys, "report", "both", "--quiet", "--runs", runs)
    assert status == 0 and "report.html" in report and f"choice of harness choose: {folder / 'choice.html'}" in report
    status, verified = told_by(capsys, "verify", "both", "--runs", runs)
    assert status == 0 and verified.count("nothing is damaged") == 2
    before = answer_of(folder)
    cells = [path.read_bytes() for path in Store(folder).files()]
    assert scores_of(chosen(runs, run="both")[1]) == scores_of(before)
    assert [path.read_bytes() for path in Store(folder).files()] == cells


def test_a_choice_without_an_answer_says_so(finished, tmp_path, capsys):
    copytree(finished, tmp_path / "choice")
    (tmp_path / "choice" / "choice.json").unlink()
    status, told = told_by(capsys, "table", "choice", "--runs", tmp_path)
    assert status == 2 and "has no answer yet: the same harness choose command goes on" in told
    (tmp_path / "choice" / "choice.json").write_text('{"sentences": 3}')
    status, told = told_by(capsys, "report", "choice", "--runs", tmp_path)
    assert status == 2 and "choice.json is damaged" in told and len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("budget=soon", "budget is 'soon', expected a time"),
        ("budget=10", "too small to say anything"),
        ("alpha=2", "alpha is 2.0, expected a number from"),
        ("purpose=fun", "purpose is 'fun', expected one of debug"),
        ("metric=complexity", "does not tell which explainer is better"),
        ("metric=[srg,deletion]", "metric names 2 metrics, expected one"),
        ("candidates=[salency]", "did you mean 'saliency'"),
        ("budegt=10m", "did you mean 'budget'"),
        ("protocol.samples=1", "1 sample came, choosing an explainer needs at least 20"),
        ("model=faulty:answers_nothing", "could not be loaded: the model's outputs for clean inputs hold NaN"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(words, expected, tmp_path, capsys):
    name = words.partition("=")[0]
    rest = [each for each in COMMAND if not each.startswith(f"{name}=")]
    status, told = told_by(capsys, *rest, words, f"runtime.runs={tmp_path}")
    assert status == 2 and expected in told and told.startswith("harness: ") and told.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "statuses", "expected"),
    [
        ("dataset.one_class=true", (0, 3), ""),
        ("model=faulty:answers_the_same", (3,), "it is not shown to have learnt anything"),
        ("model=faulty:answers_some", (3,), "No explainer has scores on the samples of the confirmation"),
    ],
)
def test_data_and_models_that_say_little_have_an_answer_in_words(words, statuses, expected, tmp_path, capsys):
    rest = [each for each in COMMAND if not each.startswith(f"{words.partition('=')[0]}=")]
    status, told = told_by(capsys, *rest, words, "metric=srg", f"runtime.runs={tmp_path}")
    assert status in statuses and expected in " ".join(told.split()) and "Traceback" not in told


def test_a_model_whose_loading_ends_the_process_is_told_in_one_line(tmp_path):
    config = settings(tmp_path, model="faulty:leaves_at_once", supervise=True)
    supervisor = Supervisor()
    try:
        with pytest.raises(UserError, match=r"^faulty:leaves_at_once on faulty:rows could not be loaded: the process"):
            supervisor.measure(config, False, work="choose")
    finally:
        supervisor.end()
