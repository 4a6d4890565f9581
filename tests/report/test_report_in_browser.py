"""The page in a real browser: nothing goes wrong, and what can be clicked, typed and pointed at answers."""

import csv
import re
from itertools import pairwise

import numpy as np
import pytest

from harness.results.report.blocks import blocks_of
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
    """The numbers of a column of the leaderboard, or words in place of them, from above; controls are left out."""
    return page.eval_on_selector_all(
        f".board tbody:not(.between, .apart) tr:not([hidden]) > :nth-child({place})",
        "cells => cells.map(cell => cell.querySelector('.mean, .hole').textContent)",
    )


def names(page):
    """The explainers of the leaderboard, from above, controls last."""
    return page.eval_on_selector_all(
        ".board tbody:not(.between) tr:not([hidden]) > th", "cells => cells.map(c => c.firstChild.textContent)"
    )


def test_every_section_has_a_heading_and_shows_something(opened, path):
    page = opened(path)
    assert page.locator("section").count() == page.locator("nav a").count() == 11
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
    assert found == ["grad_", "lime", "rise", "saliency", "random"]  # the control stands apart


def test_the_filter_keeps_rows_that_hold_its_text(opened, path):
    page = opened(path)
    page.locator("input[type=search]").fill("RI")
    assert names(page) == ["rise"] and page.locator(".board .between").is_hidden()
    page.locator("input[type=search]").fill("")
    assert len(names(page)) == 5 and page.locator(".board .between").is_visible()


def heads(page):
    """The metrics that the leaderboard shows."""
    return page.eval_on_selector_all(
        ".board thead th:not([hidden])", "cells => cells.map(cell => cell.dataset.name).slice(1)"
    )


ALL = ["srg", "deletion", "sparseness", "seconds_per_sample"]


def test_the_columns_are_chosen_one_by_one_by_kind_and_by_the_address(opened, path):
    page = opened(path)
    assert heads(page) == ALL
    chooser = page.locator(".chooser")
    chooser.locator("summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # the first kind, faithfulness
    assert heads(page) == ["sparseness", "seconds_per_sample"]
    chooser.locator("[data-column=deletion]").check()
    assert heads(page) == ["deletion", "sparseness", "seconds_per_sample"]
    assert page.url.endswith("#columns=deletion,sparseness,seconds_per_sample")
    page.reload()
    assert heads(page) == ["deletion", "sparseness", "seconds_per_sample"]
    chooser.locator("summary").click()
    chooser.locator("[data-show=main]").click()
    assert heads(page) == ["srg", "sparseness", "seconds_per_sample"]
    chooser.locator("[data-show=all]").click()
    assert heads(page) == ALL


def test_a_narrow_page_shows_the_explainer_and_the_headline_metric_without_scrolling(opened, path):
    page = opened(path, 390)
    assert heads(page) == ["srg", "sparseness", "seconds_per_sample"]
    first, second = (page.locator(".board tbody tr").first.locator("th, td").nth(place) for place in (0, 1))
    box = second.bounding_box()
    assert first.bounding_box()["width"] < 130 and box["x"] + box["width"] <= 390
    page.locator("#leaderboard .scroll").evaluate("box => (box.scrollLeft = 1000)")
    assert first.bounding_box()["x"] >= 0


def test_every_table_and_plot_is_one_stop_and_arrows_move_inside(opened, path):
    page = opened(path)
    stops = []
    while len(stops) < 100:
        page.keyboard.press("Tab")
        focused = page.evaluate("""() => { const at = document.activeElement, part = at.closest("table, svg, .panels");
            return at === document.body ? null : [at.getAttribute("href"), part && part.outerHTML.slice(0, 80)]; }""")
        if focused is None:
            break
        stops.append(focused)
    assert stops[0][0] == "#content" and len(stops) <= 60
    inside = [part for _, part in stops if part]
    assert len(inside) == len(set(inside)) == page.locator("main table:visible, svg.plot, .panels").count()

    page.locator(".board [tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowRight", "End", "ArrowUp", "Control+Home", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.querySelector('.mean').textContent") == column(page, 2)[0]
    assert page.locator("#tip").inner_text() == "the best"
    page.locator("#cost [tabindex='0']").focus()
    before = page.locator("#tip").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").is_visible() and page.locator("#tip").inner_text() != before
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def saved(page, button):
    """The rows that a table's button saves."""
    with page.expect_download() as download:
        button.click()
    with open(download.value.path(), newline="", encoding="utf-8") as file:
        return download.value.suggested_filename, list(csv.reader(file))


def test_a_table_is_saved_with_all_rows_all_columns_and_unrounded_numbers(opened, path):
    page = opened(path, 390)
    name, (top, *rows) = saved(page, page.locator("#leaderboard .csv"))
    assert name == "leaderboard-of-net-on-data-24-samples.csv"
    assert top[:7] == ["explainer", "explainer mark", "srg", "srg low", "srg high", "srg rank", "srg note"]
    (block,) = blocks_of([path.parent])
    assert [row[0] for row in rows] == block.explainers and {row[1] for row in rows} == {"", "control"}
    for row in rows:
        cell = block.cell("srg", row[0])
        known = [cell["value"], cell["ci_low"], cell["ci_high"]] if cell["status"] == "ok" else None
        assert (known is None and row[2] == "failed") or [float(each) for each in row[2:5]] == known


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_the_first_screen_says_which_explainer_how_sure_and_at_what_cost(opened, path, size):
    page = opened(path, size[0])
    page.set_viewport_size({"width": size[0], "height": size[1]})
    answer = page.locator(".answer").first
    assert re.search(r"Use \w+: .* \[0\.\d+, 0\.\d+\] .* s a sample", answer.inner_text())
    first = page.locator(".gains tbody tr").first
    seen = first.inner_text()
    assert "lime" in seen and "use this" in seen and "0.100" in seen and re.search(r"\+0\.\d+ \[0\.\d+, 0\.\d+\]", seen)
    box = first.bounding_box()
    assert box["y"] + box["height"] <= size[1] and first.locator("circle").is_visible()


def test_another_metric_can_be_chosen_for_the_pairs(opened, path):
    page = opened(path)
    tables = page.locator("#pairs table:visible")
    assert tables.count() == 1 and tables.first.inner_text().startswith("srg")
    page.locator(".pick-pairs").select_option(label="deletion")
    assert tables.count() == 1 and tables.first.inner_text().startswith("deletion")


def point_at(mark):
    """Move the mouse there after the page has scrolled, which hides a tip."""
    mark.scroll_into_view_if_needed()
    mark.page.wait_for_timeout(200)
    mark.hover()


def test_pointing_at_a_mark_tells_its_numbers(opened, path):
    page = opened(path)
    point_at(page.locator("#cost .dot.front").first)
    assert page.locator("#tip").is_visible()
    assert re.search(r"srg 0\.\d+ \[.*\]\n.* s a sample", page.locator("#tip").inner_text())
    point_at(page.locator("#pairs td.win").first)
    assert re.search(r"less \w+: \+0\.\d+ \[.*\]\n\w+ is shown to be better", page.locator("#tip").inner_text())
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
    assert page.locator(".single svg").count() == 0
    assert page.locator(".axis-name .axes").all_inner_texts() == ["↑ class probability", "→ share removed"]


def test_letters_of_curves_are_readable_on_a_phone_and_do_not_overlap(opened, path):
    page = opened(path, 390)
    page.locator(".panel").first.click()
    drawings = page.eval_on_selector_all(
        ".panel svg, .single svg",
        """drawings => drawings.map(drawing => [...drawing.querySelectorAll("text")].map(text => {
            const box = text.getBoundingClientRect();
            return [parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a, box.left, box.right, box.top];
        }))""",
    )
    assert len(drawings) == 5
    for texts in drawings:
        assert min(size for size, *_ in texts) >= 11
        lowest = max(top for *_, top in texts)
        across = sorted((left, right) for _, left, right, top in texts if top == lowest)
        assert len(across) > 1 and all(left > right for (_, right), (left, _) in pairwise(across))


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


CONTRASTS = """() => {
  const parsed = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (top, below) => below.map((each, place) => top[place] * top[3] + each * (1 - top[3]));
  const linear = (each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
  const light = (colour) => colour.map((each) => linear(each / 255))
    .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
  const chain = (element) => element ? [...chain(element.parentElement), element] : [];
  const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, words = texts.currentNode.textContent.trim();
    if (!words || !element.checkVisibility() || element.closest("script, title, option")) continue;
    const drawn = element.ownerSVGElement, above = chain(drawn ? drawn.parentElement : element);
    const grounds = above.map((each) => parsed(getComputedStyle(each).backgroundColor));
    const ground = grounds.reduce((below, top) => over(top, below), [255, 255, 255]);
    const [r, g, b, a] = parsed(getComputedStyle(element)[drawn ? "fill" : "color"]);
    const opacity = chain(element).reduce((all, each) => all * getComputedStyle(each).opacity, a);
    const [one, two] = [light(over([r, g, b, opacity], ground)), light(ground)];
    found.push([(Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05), words]);
  }
  return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(opened, path, theme):
    page = opened(path, theme=theme)
    page.locator(".panel").first.click()
    page.locator(".chooser summary").click()
    cells = "".join(f'<td class="{side}-{step}">0.5</td>' for side in ("for", "against") for step in range(1, 5))
    matrix = f'<table class="matrix"><tbody><tr>{cells}</tr></tbody></table>'
    page.evaluate("matrix => document.querySelector('main').insertAdjacentHTML('beforeend', matrix)", matrix)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 200 and min(contrasts)[0] >= 4.5, min(contrasts)


def test_hostile_text_is_shown_as_text(opened, tmp_path, seed):
    store, generator = Store(tmp_path / "r"), np.random.default_rng(seed)
    ids = [f"{place}{BAD}" for place in range(12)]
    for name, mean in ((f"=1+1{BAD}", 0.5), ("random", 0.0), ("long" * 30, 0.4)):
        write_cell(
            store, name, "srg", mean + generator.normal(0, 0.1, 12), ids=ids, curves=generator.normal(size=(12, 3))
        )
    write_hole(store, "rise", "srg", "failed", f"ValueError: {BAD}")
    keep_maps(
        tmp_path / "r", {f"=1+1{BAD}": generator.normal(size=(12, 2))}, modality="table", ids=ids, unit_names=[BAD, "b"]
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
    _, (_, first, *_) = saved(page, page.locator("#leaderboard .csv"))
    assert first[0] == f"'=1+1{BAD}"  # no formula for a spreadsheet
    assert page.locator("script").count() == 6


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
