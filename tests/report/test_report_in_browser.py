"""The page in a real browser: nothing goes wrong, and what can be clicked, typed and pointed at answers."""

import re

import numpy as np
import pytest

from harness.results.store import Store
from harness.views.report import write_report as report
from worlds import keep_maps, small_run, write_cell, write_hole

BAD = "<script>alert(1)</script>\"'</script>"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The page of a small run with maps."""
    run = small_run(tmp_path_factory.mktemp("runs") / "night", 0)
    generator = np.random.default_rng(0)
    keep_maps(
        run,
        {name: generator.uniform(-1, 1, (6, 8, 8)) for name in ("lime", "rise", "random")},
        inputs=generator.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8),
    )
    return report(run)


@pytest.fixture
def opened(browser):
    """Opens a page; whatever goes wrong in it fails the test."""
    contexts, wrong = [], []

    def open_page(path, width=1280, theme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda asked: wrong.append(asked.url) if asked.url.startswith("http") else None)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def column(page, place):
    """The texts of a column of the leaderboard, from above."""
    return page.eval_on_selector_all(
        f".board tbody tr:not([hidden]) > :nth-child({place})",
        "cells => cells.map(cell => cell.firstElementChild.textContent)",
    )


def names(page):
    """The explainers of the leaderboard, from above."""
    return page.eval_on_selector_all(
        ".board tbody tr:not([hidden]) > th", "cells => cells.map(c => c.firstChild.textContent)"
    )


def test_every_section_has_a_heading_and_shows_something(opened, path):
    page = opened(path)
    assert page.locator("section").count() == page.locator("nav a").count() == 13
    for section in page.locator("section").all():
        assert section.locator("h2").is_visible() and len(section.inner_text()) > 20
    assert page.locator("svg.plot").count() == 2 and page.locator(".panel svg").count() == 4


def test_a_heading_sorts_both_ways_and_holes_stay_last(opened, path):
    page = opened(path)
    head = page.locator(".board thead th").nth(1)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = [float(value) for value in column(page, 2)[:-1]]
    assert up == sorted(up) and column(page, 2)[-1] == "failed"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(value) for value in column(page, 2)[:-1]] == up[::-1] and column(page, 2)[-1] == "failed"


def test_a_heading_sorts_by_the_keyboard(opened, path):
    page = opened(path)
    button = page.locator(".board thead th").first.locator("button")
    button.focus()
    page.keyboard.press("Enter")
    found = names(page)
    assert len(found) == 5 and found == sorted(found)


def test_the_filter_keeps_rows_that_hold_its_text(opened, path):
    page = opened(path)
    page.locator("input[type=search]").fill("RI")
    assert page.locator(".board tbody tr:visible").count() == 1 and names(page)[0].startswith("rise")
    page.locator("input[type=search]").fill("")
    assert page.locator(".board tbody tr:visible").count() == 5


def test_a_chip_hides_the_metrics_of_its_kind(opened, path):
    page = opened(path)
    chip = page.locator(".chip", has_text="cost")
    before = page.locator(".board thead th:visible").count()
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"
    assert page.locator(".board thead th:visible").count() == before - 1
    chip.click()
    assert page.locator(".board thead th:visible").count() == before


def test_pointing_at_a_mark_tells_its_numbers(opened, path):
    page = opened(path)
    page.locator("#cost .dot.best").first.hover()
    assert page.locator("#tip").is_visible()
    assert re.search(r"srg 0\.\d+ \[.*\]\n.* s a sample", page.locator("#tip").inner_text())
    page.locator(".hole", has_text="n/a").first.hover()
    assert page.locator("#tip").inner_text() == "saliency has no sparseness here"
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_a_panel_opens_single_samples_and_one_can_be_chosen(opened, path):
    page = opened(path)
    panel = page.locator(".panel").first
    panel.click()
    assert panel.get_attribute("aria-expanded") == "true"
    assert page.locator(".single .thin").count() == 24
    page.locator(".single select").select_option("3")
    assert page.locator(".single .thin.chosen").count() == 1
    assert page.locator(".chosen-sample").inner_text().startswith("s0003: srg 0.")
    page.locator(".pick-curve").select_option(label="deletion")
    assert page.locator(".single svg").count() == 0 and "deletion" in page.locator(".axis-name").inner_text()


def test_a_tile_opens_what_the_explainer_says(opened, path):
    page = opened(path)
    page.locator(".tile").first.click()
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    assert dialog.locator(".says").inner_text().startswith("Most attribution: ")
    assert "over the samples, against the best control, random" in dialog.locator(".trust").inner_text()
    assert dialog.locator("img").count() == 2
    page.keyboard.press("Escape")
    assert dialog.is_hidden()


def test_the_theme_follows_the_system_and_the_switch(opened, path):
    ground = "getComputedStyle(document.body).backgroundColor"
    assert opened(path).evaluate(ground) == "rgb(255, 255, 255)"
    page = opened(path, theme="dark")
    dark = page.evaluate(ground)
    assert dark != "rgb(255, 255, 255)"
    page.locator("#theme").click()
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.reload()
    assert page.evaluate(ground) == "rgb(255, 255, 255)"  # the choice is remembered
    page.locator("#theme").click()
    assert page.evaluate(ground) == dark


@pytest.mark.parametrize("width", [390, 320, 1280])
def test_nothing_overflows_sideways(opened, path, width):
    page = opened(path, width)
    page.locator(".panel").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_text_is_shown_as_text(opened, tmp_path, seed):
    store, generator = Store(tmp_path / "r"), np.random.default_rng(seed)
    ids = [f"{place}{BAD}" for place in range(12)]
    for name, mean in ((f"lime{BAD}", 0.5), ("random", 0.0), ("long" * 30, 0.4)):
        write_cell(
            store, name, "srg", mean + generator.normal(0, 0.1, 12), ids=ids, curves=generator.normal(size=(12, 3))
        )
    write_hole(store, "rise", "srg", "failed", f"ValueError: {BAD}")
    keep_maps(
        tmp_path / "r", {f"lime{BAD}": generator.normal(size=(12, 2))}, modality="table", ids=ids, unit_names=[BAD, "b"]
    )
    path = report(tmp_path / "r")
    assert opened(path, 390).evaluate("document.documentElement.scrollWidth") <= 390
    page = opened(path)
    assert BAD in page.locator(".board").inner_text() and BAD in page.locator("#failures").inner_text()
    page.locator(".tile").first.click()
    assert BAD in page.locator("dialog").inner_text()
    page.keyboard.press("Escape")
    page.locator(".panel").first.click()
    assert page.locator(".single option").nth(1).inner_text() == ids[0]
    page.locator(".hole").first.hover()
    assert page.locator("#tip").inner_text() == f"ValueError: {BAD}"
    assert page.locator("script").count() == 5


def test_blocks_are_shown_one_by_one(opened, tmp_path, seed):
    runs = [small_run(tmp_path / name, seed) for name in ("one", "two")]
    page = opened(report(runs))
    assert page.locator("#leaderboard .block:visible").count() == 2
    page.locator("#pick-block").select_option(index=2)
    assert page.locator("#leaderboard .block:visible").count() == 1
    assert "run two" in page.locator("#leaderboard .block:visible h3").inner_text()


def test_on_paper_all_is_there_and_the_tools_are_not(opened, path):
    page = opened(path, theme="dark")
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden() and page.locator("#theme").is_hidden()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
