"""The code and the commands on the pages work, and their links lead to what exists."""

import importlib
import re
import shlex
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import pytest
import torch
import yaml

import harness
from harness.cli.choose import separated
from harness.cli.hydra_config import for_each_job
from harness.cli.main import main
from harness.jobs.plan import Plan
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL_PAGES = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
VERBS = (
    "run",
    "choose",
    "reproduce",
    "plan",
    "list",
    "table",
    "check",
    "view",
    "compare",
    "trend",
    "report",
    "merge",
    "verify",
    "watch",
)
CONFIGURED = ("run", "choose", "plan", "check", "view")  # the verbs that take a configuration
FOLDERS = ("conf", "datasets", "docs", "harness", "metrics", "results", "tests")
OF_THE_PAGES = ("noisy_gradient", "mine", "pf")  # labels and items that pages define themselves
LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]+))?\)")


def keep_registries(monkeypatch):
    """What a page registers is gone after its test."""
    for registry in (EXPLAINERS, METRICS, MODELS, DATASETS):
        len(registry)  # loads it
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_python_on_the_page_runs(page, capsys, monkeypatch):
    keep_registries(monkeypatch)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, str(page), "exec"), names)


def test_the_items_of_the_page_on_extending_work_together(monkeypatch):
    keep_registries(monkeypatch)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL):
        exec(compile(block, "extending.md", "exec"), names)
    model, data = names["my_net"](), names["my_data"]()
    frame = harness.evaluate(
        model.module,
        data.inputs,
        data.labels,
        explainers=["squared_gradient", "quarter_ablation", "noisy_gradient"],
        metrics=["drop_of_the_top_tenth", "srg"],
    )
    assert set(frame["status"]) == {"ok"} and frame["valid"].all()
    assert torch.tensor(frame["value"].to_numpy()).isfinite().all()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(page):
    for name, anchor in LINK.findall(page.read_text()):
        if "://" in name:
            continue
        target = page.parent / name if name else page
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short_and_leads_to_the_index_and_the_index_to_every_page():
    readme, index = ROOT / "README.md", ROOT / "docs" / "index.md"
    assert len(readme.read_text().splitlines()) < 150
    assert "docs/index.md" in readme.read_text()
    linked = {name for name, _ in LINK.findall(index.read_text())}
    assert {page.name for page in PAGES[1:]} - {"index.md"} <= linked


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_every_page_begins_with_what_it_is_about(page):
    title, _, text = page.read_text().partition("\n\n")
    assert title.startswith("# ") and text.startswith("This page ")


def test_the_table_of_the_readme_is_a_part_of_the_whole_one():
    part, whole = (main_job(page) for page in (ROOT / "README.md", ROOT / "docs" / "main_job.md"))
    part = [line for line in part if not re.fullmatch(r"\.\.\. \d+ more \w+", line)]
    assert len(part) > 10
    assert set(part) <= set(whole)


def main_job(page):
    """The lines of the main job's table on a page."""
    text = re.search(r"<!-- main job: begin -->\n(.*?)<!-- main job: end -->", page.read_text(), re.DOTALL)
    return [line.rstrip() for line in text[1].splitlines()]


def commands(page):
    """The ``harness`` command lines of a page, in its blocks and in its text, as lists of arguments."""
    text = page.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`(harness [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    for line in [line for block in blocks for line in block.splitlines()] + inline:
        line = re.sub(r"\$\([^)]*\)", "X", re.sub(r"\s#.*", "", line))  # without the comment and what the shell puts in
        for command in re.split(r"&&|;", line):
            if re.match(r"\s*(\$ )?harness [a-z]", command):
                yield shlex.split(command.strip().removeprefix("$ "))[1:]


@cache
def help_of(*verb):
    """What ``harness VERB --help`` prints."""
    printed = StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            main([*verb, "--help"])
        except SystemExit:
            pass
    return printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_names_a_verb_and_flags_that_exist(page):
    for verb, *arguments in commands(page):
        assert verb in VERBS, verb
        for flag in (argument.partition("=")[0] for argument in arguments if re.match("--?[a-z]", argument)):
            known = re.escape(flag) + r"(?![\w-])"
            assert re.search(known, help_of(verb)) or re.search(known, help_of()), f"{verb} {flag}"


@pytest.fixture(scope="module")
def jobs_of(tmp_path_factory):
    """``jobs_of(settings)``: how many jobs a command line describes.

    What concerns items is composed apart from the settings of the groups that know none of them, and each of the two
    once: dozens of command lines differ in the latter only. One that leaves explainers and metrics at their defaults,
    which take most of the time, gets one of each; ``harness run`` without settings composes the defaults.
    """
    runs = tmp_path_factory.mktemp("runs")

    @cache
    def composed(settings):
        jobs = []
        chooses = any(re.match(r"[+~]?(explainer|metric|experiment)\b", each) for each in settings)
        small = ["explainer=gradient", "metric=sparseness"] if settings and not chooses else []
        for_each_job([*small, *settings, f"runtime.runs={runs}"], jobs.append)
        return len(jobs)

    def jobs_of(settings):
        general = tuple(each for each in settings if re.match(r"(protocol|runtime|launcher)[.=]|run=", each))
        of_items = tuple(each for each in settings if each not in general)
        parts = [part for part in (general, of_items) if part] or [()]
        return min(composed(part) for part in parts)

    return jobs_of


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_configuration_on_a_command_line_can_be_composed(page, jobs_of):
    for verb, *arguments in commands(page):
        if verb in CONFIGURED:
            settings = overrides(arguments)
            assert jobs_of(tuple(separated(settings)[1]) if verb == "choose" else settings), arguments


def overrides(arguments):
    """The settings among arguments, without placeholders, and the first choice of each where several are swept over.

    Of a folder of experiments the first: test_a_folder_of_experiments_is_a_sweep_over_all_of_them composes all.
    """
    settings = [each for each in arguments if re.match(r"[+~]?\w[\w./]*=|~\w+$", each) and not each.endswith("=...")]
    sweep = "-m" in arguments or any(first_in(each) != each.partition("=")[2] for each in settings)
    kept = [each for each in settings if not re.search("NAME|FOLDER|metric=mine", each)]
    kept = [re.sub(r"^([\w.]+=\w+),.*", r"\1", each) if sweep else each for each in kept]
    return tuple(f"experiment={first_in(each)}" if each.startswith("experiment=") else each for each in kept)


def first_in(setting):
    """The experiment that a setting names, or the first one in the folder that it names."""
    name, folder = setting.partition("=")[2], ROOT / "conf" / "experiment"
    files = sorted((folder / name).glob("*.yaml"))
    return f"{name}/{files[0].stem}" if files else name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_item_listed_on_a_command_line_exists(page, capsys):
    for verb, *arguments in commands(page):
        if verb == "list" and arguments and "NAME" not in arguments:
            assert main([verb, *arguments]) == 0, arguments


def test_the_group_of_metrics_on_the_page_can_be_chosen_and_shares_its_options(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "metrics.md").read_text(), re.DOTALL)
    (tmp_path / "metric").mkdir()
    (tmp_path / "metric" / "mine.yaml").write_text(text)
    jobs = []
    for_each_job(["--config-dir", str(tmp_path), "explainer=gradient", "metric=mine"], jobs.append)
    plan = {each.label: each.options for each in Plan.of(jobs[0]).metrics}
    assert set(plan) == {"srg", "deletion", "insertion", "sparseness", "deletion_drop"}
    assert [plan[label]["segments"] for label in ("srg", "deletion", "deletion_drop")] == ["given"] * 3
    assert plan["deletion_drop"]["baseline"] == "drop" and plan["srg"]["baseline"] == METRICS["srg"].options["baseline"]
    assert plan["deletion_drop"]["granularity"] == "segment" and plan["sparseness"] == METRICS["sparseness"].options


def test_a_command_line_that_is_wrong_is_noticed(tmp_path, jobs_of):
    page = tmp_path / "page.md"
    page.write_text("Type `harness table --colour`, or:\n\n```\n$ harness run explainer.rise.sample=5  # wrong\n```\n")
    assert list(commands(page)) == [["run", "explainer.rise.sample=5"], ["table", "--colour"]]
    with pytest.raises(AssertionError, match="table --colour"):
        test_every_command_line_names_a_verb_and_flags_that_exist(page)
    with pytest.raises(harness.errors.UserError, match=r"explainer\.rise"):
        test_every_configuration_on_a_command_line_can_be_composed(page, jobs_of)


def code_spans(page):
    """What stands between backticks in the text and the tables of a page."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_every_dotted_name_of_the_package_exists(page):
    for span in code_spans(page):
        for name in re.findall(r"(?<![\w/.])harness(?:\.\w+)+", span):
            assert found(name), name


def found(name):
    """Whether a dotted name is a module, or something in a module."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            fields = getattr(value, "__dataclass_fields__", {})
            if not hasattr(value, part) and part not in fields:
                return False
            value = getattr(value, part, None)
        return True
    return False


@cache
def names_of_all_tests():
    texts = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page):
    named = {name for span in code_spans(page) for name in re.findall(r"(?<![\w/])test_\w+(?!\w|\.py)", span)}
    assert named <= names_of_all_tests(), named - names_of_all_tests()


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_every_path_of_the_repository_exists(page):
    for span in code_spans(page):
        for path in re.findall(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w/.*-]*", span):
            assert list(ROOT.glob(path.rstrip("/"))), path


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_every_setting_in_the_text_exists(page):
    sections = {name: Plan.__dataclass_fields__[name].type.__dataclass_fields__ for name in ("protocol", "runtime")}
    for span in code_spans(page):
        for section, setting in re.findall(r"(?<![\w.])(protocol|runtime)\.(\w+)", span):
            assert setting in sections[section] or setting.isupper(), span
        for kind, name, option in re.findall(r"(?<![\w.])(explainer|metric)\.([a-z]\w*)\.([a-z]\w*)(?!\w)", span):
            registry = EXPLAINERS if kind == "explainer" else METRICS
            written = option in ("name", "over") or name == "shared" or name in OF_THE_PAGES
            assert written or option in registry[name].options, span


def test_a_wrong_name_path_or_setting_is_noticed(tmp_path):
    for text, check in (
        ("`harness.results.verdicts`", test_every_dotted_name_of_the_package_exists),
        ("see `harness.Date(inputs)`", test_every_dotted_name_of_the_package_exists),
        ("`pytest tests/interfaces`", test_every_path_of_the_repository_exists),
        ("`runtime.lock=share`", test_every_setting_in_the_text_exists),
        ("`metric.srg.step=4`", test_every_setting_in_the_text_exists),
    ):
        page = tmp_path / "page.md"
        page.write_text(text)
        with pytest.raises(AssertionError):
            check(page)


def test_every_field_of_data_in_the_table_exists_and_the_table_leaves_out_only_what_data_sets_of_the_package_need():
    table = (ROOT / "docs" / "data.md").read_text().partition("| field |")[2].partition("\n\n")[0]
    named = [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    fields = {name for name in harness.Data.__dataclass_fields__ if name != "_"}
    assert sorted(named) == sorted(fields - {"skipped", "function"})


def test_the_nightly_workflow_is_valid_and_its_commands_exist(jobs_of):
    page = ROOT / "docs" / "nightly.yml"
    (job,) = yaml.safe_load(page.read_text())["jobs"].values()
    scripts = [re.sub(r"\$\{\{.*?\}\}", "1", step["run"]) for step in job["steps"] if "run" in step]
    found = []
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        found += [shlex.split(words)[1:] for words in re.findall(r"harness [a-z][^|;\n]*", script)]
    assert [verb for verb, *_ in found] == ["run", "compare", "trend"]
    for verb, *arguments in found:
        for argument in arguments:
            assert not argument.startswith("-") or f"{argument} " in help_of(verb), argument
    assert jobs_of(overrides(found[0]))


def test_the_readme_names_only_what_there_is():
    text = (ROOT / "README.md").read_text()
    for registry, option in ((EXPLAINERS, "explainer"), (METRICS, "metric"), (MODELS, "model"), (DATASETS, "dataset")):
        for chosen in re.findall(rf"[ ]{option}=\[?([\w,]+)(?![\w:])", text):
            for name in chosen.split(","):
                known = name in registry or list((ROOT / "conf" / option).glob(f"{name}.yaml"))
                assert known, f"{option}={name}"


@pytest.mark.parametrize(
    ("page", "registries"),
    [
        ("explainers.md", [EXPLAINERS]),
        ("metrics.md", [METRICS]),
        ("data.md", [DATASETS, MODELS]),
        ("options.md", []),
    ],
)
def test_the_tables_of_items_are_what_their_command_would_write(page, registries, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import capabilities

    text = (ROOT / "docs" / page).read_text()
    assert capabilities.with_table(page, text) == text, "run python docs/capabilities.py"
    entries = [entry for registry in registries for entry in registry.values() if _ours(entry)]
    assert all(f"| `{entry.name}` |" in text for entry in entries)


def test_the_page_of_commands_is_what_its_command_would_write(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    monkeypatch.setenv("COLUMNS", "70")
    text = (ROOT / "docs" / "commands.md").read_text()
    assert importlib.import_module("commands").with_helps(text) == text, "run python docs/commands.py"
    assert all(f"## harness {verb}\n" in text for verb in VERBS)


def test_every_data_set_says_where_it_is_from_and_what_is_in_it():
    for entry in DATASETS.values():
        if _ours(entry):
            told = (entry.source, entry.licence, entry.samples, entry.classes)
            assert all(told) and entry.modality in ("image", "table", "tokens", "series", "any"), entry.name


def _ours(entry):
    ours = ("harness.explainers.", "harness.metrics.", "harness.datasets.", "harness.models.")
    return entry.function.__module__.startswith(ours)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_part_that_a_script_writes_is_empty(page):
    empty = re.findall(r"<!-- ([^>]*): begin -->\s*<!-- \1: end -->", page.read_text(encoding="utf-8"))
    assert [name for name in empty if not name.endswith("on a GPU table")] == []
