"""A run of somebody else is data: whatever its files hold, verbs end with a table or one line, and execute nothing."""

import contextlib
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

import foreign
import harness
from fuzzing import in_time, of_contents
from harness.cli.main import main
from harness.errors import UserError
from harness.jobs.ownership import programs_named
from harness.jobs.plan import Plan
from harness.places import is_file_name, shard_folder
from harness.results.announcements import announced_cells, taken_by_force
from harness.results.frames import read
from harness.results.merging import copied_cells
from harness.results.rows import read_rows
from harness.results.run_files import RunFiles, array_content, content_of
from harness.results.store import Store
from harness.seals import Damaged
from side_effects import side_effects

ROOT = Path(__file__).parents[2]
OF_LIBRARIES = (Path(os.devnull), Path.home() / ".cache", Path.home() / ".config")  # where they keep what they know
VERBS = (
    ("table", "theirs", "--all"),
    ("table", "theirs", "--samples"),
    ("table", "theirs", "--by", "sex"),
    ("table", "theirs", "--seeds"),
    ("table", "theirs", "--csv", "{out}/cells.csv", "--markdown", "{out}/t.md", "--latex", "{out}/t.tex"),
    ("report", "mine", "theirs", "--out", "{out}/both.html"),
    ("report", "theirs"),
    ("compare", "mine", "theirs", "--markdown", "{out}/changes.md"),
    ("trend", "theirs", "mine", "--html", "{out}/trend.html"),
    ("verify", "theirs"),
    ("watch", "theirs", "--once"),
    ("view", "theirs", "--what", "curves,importances,tradeoff"),
    ("merge", "theirs", "mine", "--into", "joined"),
    ("plan", "model=digits_cnn", "dataset=digits", "explainer=rise", "metric=srg", "run=theirs", "runtime.runs={runs}"),
)
FEW = (
    ("table", "theirs", "--all"),
    ("report", "theirs"),
    ("verify", "theirs"),
    ("merge", "theirs", "mine", "--into", "joined"),
)


@pytest.fixture(scope="module", autouse=True)
def planted(tmp_path_factory):
    """A module that can be imported under the name ``foreign.PLANTED``; importing it makes the file that is given."""
    folder = tmp_path_factory.mktemp("planted")
    mark = folder / "imported"
    (folder / f"{foreign.PLANTED}.py").write_text(f"open({str(mark)!r}, 'w')\ndef run(*given, **more): return given\n")
    sys.path.append(str(folder))
    yield mark
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The runs ``mine`` and ``theirs``, the same, with one of two shards."""
    runs = tmp_path_factory.mktemp("whole")
    run = foreign.write_run(runs / "mine")
    shutil.copytree(run, run / shard_folder(0, 2))
    shutil.copytree(run, runs / "theirs")
    return runs


@pytest.fixture
def runs(whole, tmp_path):
    """A copy of the runs."""
    return shutil.copytree(whole, tmp_path / "runs")


@pytest.fixture
def secret(tmp_path):
    """A run elsewhere, which an older version wrote without checksums; its score of every sample is 987654."""
    directory = foreign.write_run(tmp_path / "elsewhere" / "secret")
    for path in directory.glob("scores/*.parquet"):
        pd.read_parquet(path).assign(value=987654.0).to_parquet(path, index=False)
    return directory


@contextlib.contextmanager
def copies(runs):
    """A copy of runs, for a while."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copytree(runs, Path(folder) / "runs", symlinks=True))


def called(words, runs):
    """What a verb printed; it ends in time, in one line if not well, and does nothing but to write into its run."""
    printed, errors = io.StringIO(), io.StringIO()
    typed, places = arguments(words, runs), [*sys.path]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors), in_time(), side_effects() as effects:
        with contextlib.chdir(runs):
            status = main(typed)
    assert status in (0, 1, 2) and sys.path == places, (words, status)
    mistakes = [line for line in errors.getvalue().splitlines() if line.startswith("harness: ")]
    assert len(mistakes) == (status == 2), (words, errors.getvalue())
    text = printed.getvalue() + errors.getvalue()
    assert "Traceback" not in text and all(map(str.isprintable, text.splitlines())), (words, ascii(text))
    started = [each for each in effects.started if "ldconfig" not in each]  # ctypes asks it where libraries lie
    assert not (effects.imports_of(foreign.PLANTED) or effects.unpickled or effects.connected or started), effects
    elsewhere = effects.written_outside(runs, runs.parent / "out", *OF_LIBRARIES)
    assert not elsewhere, (words, elsewhere)
    return text


def arguments(words, runs):
    """What is typed for a verb; files go into the folder ``out`` beside the runs."""
    (runs.parent / "out").mkdir(exist_ok=True)
    filled = [word.format(out=runs.parent / "out", runs=runs) for word in words]
    return filled if words[0] == "plan" else [*filled, "--runs", str(runs)]


class Page(HTMLParser):
    """Fails for what only data of a run can have put into a page: elements, handlers, and addresses."""

    def handle_starttag(self, tag, attributes):
        assert "planted" not in tag and tag not in ("iframe", "object", "embed", "base"), tag
        for name, value in attributes:
            assert not name.startswith("on") and "planted" not in name, (tag, name)
            if name in ("href", "src", "action", "formaction", "xlink:href"):
                assert value.startswith(("#", "data:image/")), (tag, name, value)
        self.in_script = tag == "script"

    def handle_data(self, data):
        assert not getattr(self, "in_script", False) or not data.startswith("planted")

    def handle_endtag(self, tag):
        self.in_script = False


def check_pages(*folders):
    pages = [path for folder in folders for path in folder.rglob("*.html")]
    for path in pages:
        Page().feed(path.read_text(encoding="utf-8"))
    return len(pages)


def state_of(folder):
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")}


@of_contents(2, data=st.data())
def test_verbs_end_in_order_whatever_the_files_of_a_run_hold(data, whole, planted):
    steps = lambda: data.draw(foreign.changes)
    with copies(whole) as runs:
        for run in (runs / "theirs", runs / "theirs" / shard_folder(0, 2)):
            foreign.rewrite_rows(
                run,
                lambda row: foreign.changed_row(
                    row, steps(), data.draw(foreign.texts), data.draw(st.sampled_from(foreign.NUMBERS))
                ),
            )
            foreign.rewrite_texts(run, lambda values: foreign.changed(values, steps()))
            foreign.rewrite_index(run, lambda values: foreign.changed(values, steps()))
            foreign.rewrite_announcements(run, lambda row: foreign.changed(row, steps()))
        for words in VERBS:
            called(words, runs)
        check_pages(runs.parent)
    assert not planted.exists()


@of_contents(1, data=st.data())
def test_tables_and_maps_of_any_form_are_read_or_named(data, whole):
    kinds = st.sampled_from(["float64", "float16", "int64", "uint8", "bool", "complex128", "U3"])
    shapes = st.lists(st.sampled_from([0, 1, 2, foreign.KEPT, 9]), max_size=5).map(tuple)
    columns = st.sampled_from([["x"], [1.0], [None], [True], [[1.0, 2.0]], [2**62], ["\x1b[2J"], [float("inf")]])
    with copies(whole) as runs:
        store = Store(runs / "theirs")
        for path in (store.directory / "maps").glob("*.npy"):
            array = np.ones(data.draw(shapes)).astype(data.draw(kinds))
            path.write_bytes(array_content(array, f"maps/{path.stem}"))
        for path in (*store.directory.glob("scores/*.parquet"), *store.directory.glob("tables/*.parquet")):
            table = store.run_files.table(path)
            name = data.draw(st.sampled_from([*table, "\x1b[2J", "value"]))
            table = table.assign(**{name: data.draw(columns) * len(table)}).head(data.draw(st.sampled_from([99, 0, 1])))
            store.run_files.write_table(path, table, "")
        for words in VERBS:
            called(words, runs)


READERS = {
    "cells/*.jsonl": lambda files, path: read_rows(path),
    "scores/*.parquet": lambda files, path: files.table(path),
    "maps/*.npy": lambda files, path: files.array(path),
    "maps/*.json": lambda files, path: files.json(path),
    "config/*.json": lambda files, path: files.text(path),
    "working/*.jsonl": lambda files, path: announced_cells(path),
}


@pytest.fixture(scope="module")
def unsealed(tmp_path_factory):
    """A run without checksums, and the bytes of one file of each kind."""
    run = foreign.without_seals(foreign.write_run(tmp_path_factory.mktemp("unsealed") / "run"))
    paths = {pattern: sorted(run.glob(pattern))[0] for pattern in READERS}
    return run, {pattern: (path, path.read_bytes()) for pattern, path in paths.items()}


@of_contents(
    150,
    pattern=st.sampled_from([*READERS]),
    places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    kept=st.floats(0.2, 1),
)
def test_any_bytes_of_a_file_are_read_or_damaged(pattern, places, kept, unsealed):
    run, files = unsealed
    path, content = files[pattern]
    path.write_bytes(foreign.changed_bytes(content, places, kept))
    with in_time(), side_effects() as effects, contextlib.suppress(Damaged):
        READERS[pattern](RunFiles(run), path)
    path.write_bytes(content)
    assert not effects.unpickled and not effects.started and not effects.written


@of_contents(100, steps=foreign.changes)
def test_rows_of_any_content_are_rows_of_the_right_kind_or_named(steps, whole, tmp_path):
    row = json.loads(next((whole / "mine" / "cells").glob("*.jsonl")).read_bytes().splitlines()[0])
    path = tmp_path / "000001-elsewhere-1-00000000.jsonl"
    path.write_bytes(foreign.sealed_json(foreign.changed(row, steps), "saliency-srg") + b"\n")
    found = read_rows(path)
    assert len(found.rows) + len(found.damaged) == 1
    for each in found.rows:
        assert is_file_name(each["cell"]) and each["status"] in ("ok", "failed", "not_applicable")
        assert all(isinstance(each[name], str) for name in ("model", "dataset", "explainer", "metric"))
        assert Store(tmp_path).scores_path(each["cell"]).parent == tmp_path / "scores"
    assert all(map(str.isprintable, found.damaged.values()))


@of_contents(100, steps=foreign.changes)
def test_a_configuration_that_names_no_program_imports_nothing_and_is_a_plan_or_one_line(steps, planted):
    """``harness view`` asks before it makes plans of the configurations that ``programs_named`` finds programs in."""
    config = foreign.changed(foreign.configuration(), steps)
    if programs_named(config):
        return
    with in_time(), side_effects() as effects:
        try:
            Plan.of(config)
        except UserError as error:
            assert len(str(error).splitlines()) == 1, str(error)
    assert not effects.imports_of(foreign.PLANTED) and not planted.exists()


@pytest.mark.parametrize(
    "place",
    [
        lambda config: config["model"].update(name=f"{foreign.PLANTED}:run"),
        lambda config: config["model"].update(name="python", factory=f"{foreign.PLANTED}:run"),
        lambda config: config["model"].update(name="exported", path="net.pt2", trust=True),
        lambda config: config.update(dataset=f"{foreign.PLANTED}:run"),
        lambda config: config["explainer"].update({f"{foreign.PLANTED}:run": {}}),
        lambda config: config["metric"].update(mine={"name": f"{foreign.PLANTED}:run"}),
    ],
    ids=["model", "factory", "program", "data", "label", "metric"],
)
def test_an_import_in_a_configuration_of_a_run_is_refused_before_it_is_made(place, runs, planted):
    def with_import(config):
        if "model" in config:
            place(config)
        return config

    foreign.rewrite_texts(runs / "theirs", with_import)
    text = called(("view", "theirs", "--what", "activations"), runs)
    assert "was not made by you here and would import and run" in text and not planted.exists()


@pytest.mark.parametrize("where", ["names", "settings"])
def test_no_text_of_a_run_is_a_command_of_a_terminal_or_markup_of_a_page(where, whole, caplog):
    """Every text ends with commands and a script, and every verb shows it: none of them is there as such."""
    added = foreign.TERMINAL + foreign.MARKUP
    with copies(whole) as runs:
        for name in ("theirs", "mine"):
            (write_names if where == "names" else write_settings)(runs / name, added)
        strange = runs / f"q{added.replace('/', '')}"
        shutil.copytree(runs / "mine", strange)
        for words in (*VERBS, *((verb, "nowhere") for verb in ("table", "watch", "merge")), ("verify", strange.name)):
            called(words, runs)
        assert check_pages(runs.parent) >= 3
    assert caplog.messages and all(map(str.isprintable, caplog.messages))


NAMES = ("explainer", "metric", "model", "dataset", "unit", "error")


def write_names(run, added):
    """Add a text to all names in the rows and in other files of a run, and to names of files."""
    foreign.rewrite_rows(run, lambda row: {**row, **foreign.with_texts({n: row[n] for n in NAMES}, added)})
    foreign.rewrite_index(run, lambda values: foreign.with_texts(values, added, but=("file", "inputs", "modality")))
    store = Store(run)
    for path in run.glob("scores/*.parquet"):
        table = store.run_files.table(path)
        store.write_scores(path.stem, table.assign(sample=table["sample"] + added))
    for folder in ("cells", "config", "environment", "maps", "scores"):
        (run / folder / f"9{added.replace('/', '')}.json{'l' * (folder == 'cells')}").write_text("{")


def write_settings(run, added):
    """Add a text to all others in the rows, configurations and announcements of a run."""
    kept = ("cell", "status", "better", "kind", "finished", "environment", "name", "tables", "seal", *NAMES[:5])
    change = lambda values: foreign.with_texts(values, added, but=kept)

    def of_one_of_two_protocols(row):
        config = change(row["config"])
        config["protocol"]["seed"] = f"{row['explainer'][0] == 'r'}{added}"
        return change({**row, "config": config})

    foreign.rewrite_rows(run, of_one_of_two_protocols)
    foreign.rewrite_texts(run, change)
    foreign.rewrite_announcements(run, change)
    (run / "cells" / f"9{added.replace('/', '')}.jsonl").write_text("{")


def test_no_name_in_a_run_leads_out_of_it(runs, secret, caplog):
    """Rows, with and without checksums, name cells and tables elsewhere, and the index of maps names files."""
    run = foreign.without_seals(runs / "theirs")
    names = ["../../../elsewhere/secret/scores/rise-srg", f"{secret}/scores/rise-srg", "..", "", "\0", "x" * 5000, ".x"]
    index = json.loads((run / "maps" / "block.json").read_bytes())
    index |= {"inputs": names[0], "explainers": {f"e{n}": {"file": f"{name}.npy"} for n, name in enumerate(names)}}
    (run / "maps" / "block.json").write_bytes(foreign.sealed_json(index, "maps/block"))
    path = run / "cells" / "x.jsonl"
    first, second, *_ = [json.loads(line) for line in path.read_text().splitlines()]
    tables = {str(number): f"{name}.parquet" for number, name in enumerate(names)}
    rows = [json.dumps({**second, "seal": None, "audit": {"tables": tables | {"repeats": tables["0"]}}}).encode()]
    for name in names:
        odd = {**first, "seal": None, "cell": name}
        rows += [json.dumps(odd).encode(), foreign.sealed_json(odd, name)]
    path.write_bytes(b"\n".join(rows) + b"\n")
    before = state_of(secret.parent)
    for words in (*FEW, VERBS[-3]):
        assert "987654" not in called(words, runs)
    assert "987654" not in (run / "report.md").read_text() and state_of(secret.parent) == before
    assert not read(run)[0]["cell"].isin(names).any() and "its cell is no name of a file" in caplog.text


def test_no_file_of_a_cell_lies_outside_the_folder_of_its_kind(tmp_path, secret):
    """Whoever asks for it: rows, announcements of killed processes, or a program."""
    store, cell = Store(tmp_path / "run"), "../../elsewhere/secret/scores/rise-srg"
    before = state_of(secret.parent)
    for write in (
        lambda: store.append({"cell": cell, "status": "ok"}),
        lambda: store.write_scores(cell, {"sample": ["s"], "value": [1.0]}),
        lambda: store.write_error(cell, "text"),
    ):
        with pytest.raises(UserError, match="name of a file"):
            write()
    process = subprocess.Popen(["true"])
    process.wait()
    mark = harness.places.process_mark(process.pid)
    path = store.directory / "working" / f"20261129T100000.000000-{mark}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([{"cell": cell}, {"cell": "sound"}]) + "\n")
    assert taken_by_force(store.directory) == [{"cell": "sound"}]
    assert state_of(secret.parent) == before


@pytest.mark.parametrize("form", ["folders", "files", "shards"])
def test_links_in_a_run_lead_nowhere(form, runs, secret, caplog):
    run = runs / "theirs"
    for path in {"folders": run.iterdir, "files": lambda: run.glob("*/*"), "shards": lambda: ()}[form]():
        if path.is_dir() == (form == "folders"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            path.symlink_to(secret / path.relative_to(run))
    if form == "shards":
        for folder in ("shards", "cells"):
            shutil.rmtree(run / folder)
        (run / "shards").mkdir()
        for number in range(2):
            (run / shard_folder(number, 2)).symlink_to(secret)
    (run / "views").symlink_to(secret)
    before = state_of(secret.parent)
    text = "".join(called(words, runs) for words in (*FEW, ("merge", "theirs"), VERBS[-3]))
    assert "987654" not in text and state_of(secret.parent) == before
    assert form == "shards" or "is a link" in caplog.text


def test_what_is_written_into_a_run_goes_through_no_link(runs, secret):
    run = runs / "theirs"
    shutil.rmtree(run / "tables")
    (run / "tables").symlink_to(secret / "tables")
    before = state_of(secret.parent)
    for write in (Store(run).clear_away, lambda: copied_cells(runs / "mine", run)):
        with pytest.raises(UserError, match="the folder tables is a link"):
            write()
    assert state_of(secret.parent) == before


def test_a_run_that_is_a_link_itself_is_read(runs, tmp_path):
    (runs / "linked").symlink_to(shutil.move(runs / "theirs", tmp_path / "elsewhere"))
    assert "rise" in called(("table", "linked"), runs)


def test_a_folder_that_the_user_names_may_be_a_link(tmp_path):
    """As that of the cache may; the files in it may not."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"content")
    (tmp_path / "folder" / "link").symlink_to("file")
    (tmp_path / "linked").symlink_to("folder")
    assert content_of(tmp_path / "linked" / "file", named_folder=True) == b"content"
    for path in (tmp_path / "linked" / "file", tmp_path / "folder" / "link"):
        with pytest.raises(Damaged, match="is a link"):
            content_of(path)


def test_a_file_without_an_end_is_not_waited_for(runs):
    """Pipes, endless files, and files that are larger than the memory."""
    run = runs / "theirs"
    paths = [path for path in run.glob("*/*") if path.is_file()]
    paths += [run / "views" / "a.png", run / "cells" / "1-a.jsonl", run / "cells" / "2.jsonl"]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        if number % 3 == 0:
            os.mkfifo(path)
        elif number % 3 == 1:
            path.symlink_to("/dev/zero")
        else:
            path.touch()
            os.truncate(path, 2**42)  # no block of it is on the disk
    for words in FEW:
        called(words, runs)


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def test_a_pickle_in_the_place_of_any_file_is_not_executed(runs, tmp_path):
    """With its own name and checksum where the format has one, and as objects in an array and in a table."""
    run, harmful = foreign.without_seals(runs / "theirs"), Harmful(tmp_path / "executed")
    objects = io.BytesIO()
    np.save(objects, np.array([harmful, harmful], dtype=object), allow_pickle=True)
    for number, path in enumerate(sorted(path for path in run.glob("*/*") if path.is_file())):
        path.write_bytes(objects.getvalue() if path.suffix == ".npy" and number % 2 else pickle.dumps(harmful))
    (run / "views").mkdir()
    (run / "views" / "a.png").write_bytes(pickle.dumps(harmful))
    (run / "answer.json").write_bytes(pickle.dumps(harmful))
    for words in VERBS:
        called(words, runs)
    assert not harmful.mark.exists()


def test_nothing_that_lies_in_the_folder_of_a_run_is_imported(runs, tmp_path):
    """Libraries look for others that are not installed, and Hydra looks for plugins, also in the working folder."""
    run = runs / "theirs"
    (run / "hydra_plugins").mkdir()
    for name in ("numexpr", "bottleneck", "IPython", "json", "digits_cnn", "hydra_plugins/planted"):
        (run / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write('{name} ')\n")
    plan = ["plan", "model=digits_cnn", "dataset=digits", "explainer=rise", "metric=srg"]
    code = f"import sys; from harness.cli.main import main; sys.exit(main(['table', '.']) or main({plan}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=run, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and not (tmp_path / "imported").exists(), done.stderr


@pytest.mark.parametrize("file", ["own", "own-net"])
def test_an_import_that_the_user_names_is_found_in_the_working_folder(file, tmp_path, monkeypatch):
    """Also a file whose name holds a hyphen; and whatever can be imported is found in a configuration."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{file}.py").write_text("value = 7\n")
    assert harness.options.import_object(f"{file}:value") == 7
    assert programs_named({"model": {"name": f"{file}:value"}}) == [f"{file}:value"]


def test_the_page_on_security_names_tests_that_exist():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) > 10
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"
