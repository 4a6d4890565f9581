"""What the tests of the report share: a page of a small run in a real browser."""

import shutil

import pytest

from worlds import small_run

ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture
def run(tmp_path, seed):
    """The folder of a small run."""
    return small_run(tmp_path / "night", seed)


@pytest.fixture(scope="module")
def browser():
    """Chromium, where there is one."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("needs chromium")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield opened
        opened.close()
