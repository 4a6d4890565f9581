"""One import package, laid out beside its sub-packages, wherever it is used from and however it was installed."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUB_PACKAGES = ("conf", "datasets", "metrics", "results")
IMPORTS = "import harness, harness.metrics.curves, harness.datasets.digits, harness.results.store, harness.conf; "
LISTING = (
    IMPORTS + "from harness.registry import METRICS, DATASETS; assert 'deletion' in METRICS and 'digits' in DATASETS; "
)


def python(code, cwd, *path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The project installed from its wheel into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = folder / "source"  # a build leaves files beside what it builds
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    for changed in ("harness", "conf", "metrics", "datasets", "results", "pyproject.toml"):
        subprocess.run(["cp", "-r", str(ROOT / changed), str(source)], check=True)
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(source)], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(built)], check=True)
    return folder / "site"


def test_a_bare_checkout_imports_from_its_root_and_from_elsewhere(tmp_path):
    for cwd in (ROOT, tmp_path):
        assert python(LISTING + "print(harness.__file__)", cwd, ROOT) == str(ROOT / "harness" / "__init__.py")


def test_an_installed_wheel_imports_from_anywhere_and_brings_its_configuration(wheel, tmp_path):
    assert python(LISTING + "print(harness.__file__)", tmp_path, wheel) == str(wheel / "harness" / "__init__.py")
    folders = {"harness": ROOT / "harness"} | {f"harness/{name}": ROOT / name for name in SUB_PACKAGES}
    for place, source in folders.items():
        files = [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        missing = [path.name for path in files if not (wheel / place / path.relative_to(source)).is_file()]
        assert files and not missing, (place, missing)


@pytest.mark.parametrize("where", ["checkout", "wheel"])
def test_a_third_party_package_called_datasets_or_metrics_is_never_shadowed(where, wheel, tmp_path):
    for name in ("datasets", "metrics", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("theirs = True")
    site, cwd = (ROOT, ROOT) if where == "checkout" else (wheel, tmp_path)
    code = LISTING + "import datasets; assert datasets.theirs; import metrics; assert metrics.theirs"
    python(code, tmp_path, tmp_path, site)
    python(IMPORTS + "import datasets; assert datasets.theirs", cwd, tmp_path, site)


def test_in_a_wheel_the_folder_above_the_package_is_not_part_of_it(wheel, tmp_path):
    (wheel / "stranger.py").write_text("")
    python("import harness, importlib.util as u; assert u.find_spec('harness.stranger') is None", tmp_path, wheel)


def test_datasets_has_no_init_file_and_conf_has_one():
    assert not (ROOT / "datasets" / "__init__.py").exists()
    assert (ROOT / "conf" / "__init__.py").exists()


def test_showing_a_leaderboard_does_not_wait_for_scipys_statistics():
    code = "import sys, harness.cli.main, harness.jobs.runner, harness.cli.table; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_pytest_runs_every_folder_of_tests_but_that_of_speed():
    run = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["testpaths"]
    assert set(run) == {f"tests/{path.parent.name}" for path in ROOT.glob("tests/*/test_*.py")} - {"tests/speed"}


def test_no_two_files_of_tests_have_one_name():
    names = [path.name for path in ROOT.glob("tests/**/*.py") if path.name != "conftest.py"]
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)
