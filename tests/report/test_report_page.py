"""The page and its twin: all sections, nothing fetched, all text escaped, holes with their reasons."""

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from harness.cli.hydra_config import for_each_job
from harness.cli.main import main
from harness.errors import UserError
from harness.identity import canonical
from harness.jobs.plan import Plan
from harness.results.numbers import rounded_together
from harness.results.report.blocks import blocks_of
from harness.results.report.board import entries
from harness.results.report.gallery import gallery
from harness.results.report.known import known_of
from harness.results.report.markup import json_text, tag
from harness.results.report.origin import command
from harness.results.report.pareto import cost_points
from harness.results.run_files import RunFiles
from harness.results.store import Store
from harness.views.report import write_report as report
from worlds import PROTOCOL, keep_maps, small_run, write_cell, write_hole

SECTIONS = "verdict cost pairs leaderboard agreement curves stability metrics failures origin".split()
BAD = "<script>alert(1)</script>\"'</script><!--"


def text(path):
    return path.read_text(encoding="utf-8")


def test_the_page_has_those_sections_that_have_content_in_order_and_a_twin(run):
    page = report(run)
    assert page == run / "report.html"
    assert re.findall(r'<section id="(\w+)"', text(page)) == SECTIONS
    assert re.findall(r'<a href="#(\w+)"', text(page).partition("<nav")[2]) == SECTIONS
    twin = text(run / "report.md")
    for word in ("### Answer", "### Leaderboard", "### Failures and skips", "### Environment and how to reproduce"):
        assert word in twin
    assert "harness run run=night" in twin


def test_the_page_fetches_nothing(run):
    keep_maps(run, {"lime": np.ones((3, 4, 4))}, inputs=np.zeros((3, 4, 4, 3), dtype=np.uint8))
    page = text(report(run))
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert not re.findall(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", page)


def test_text_from_data_and_errors_is_escaped_everywhere(tmp_path, seed):
    store = Store(tmp_path / "r")
    generator = np.random.default_rng(seed)
    ids = [f"{BAD}{place}" for place in range(12)]
    for name, mean in (("lime" + BAD, 0.5), ("random", 0.0)):
        write_cell(
            store, name, "srg", mean + generator.normal(0, 0.1, 12), ids=ids, curves=np.ones((12, 3)), flags=[BAD]
        )
    write_hole(store, "rise", "srg", "failed", f"ValueError: {BAD}")
    keep_maps(tmp_path / "r", {"lime" + BAD: np.ones((12, 2))}, modality="table", ids=ids, unit_names=[BAD, "b"])
    page = text(report(tmp_path / "r"))
    assert "<script>alert" not in page
    assert page.count("<script") == 6 and page.count("</script>") == 6  # the data and five files of ours
    assert "<!--" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    twin = text(tmp_path / "r" / "report.md")
    outside = re.sub(r"(?ms)^(```+)$.*?^\1$", "", twin)  # what lies in a block of code is shown as it is
    assert len(outside) < len(twin) and "<script" not in outside


def test_json_in_a_script_cannot_end_it(seed):
    found = json_text({BAD: [BAD]})
    assert not set("<>&") & set(found)
    assert json.loads(found) == {BAD: [BAD]}


def test_attributes_and_text_are_escaped():
    assert tag("p", BAD, title=BAD).count("<") == 2


def test_a_hole_says_why_and_is_not_ranked(run):
    (block,) = blocks_of([run])
    found = entries(block)
    assert found["sparseness", "saliency"].text == "n/a"
    assert found["sparseness", "saliency"].note == "saliency has no sparseness here"
    assert found["srg", "grad_cam"].text == "failed" and found["srg", "grad_cam"].rank == ""
    assert "saliency has no sparseness here" in text(report(run))


def test_there_is_no_rank_over_unequal_sets_of_samples(tmp_path, seed):
    store, generator = Store(tmp_path / "r"), np.random.default_rng(seed)
    whole = generator.normal(size=10)
    write_cell(store, "lime", "srg", whole)
    write_cell(store, "rise", "srg", np.where(np.arange(10) == 3, np.nan, whole + 1))
    (block,) = blocks_of([tmp_path / "r"])
    found = entries(block)
    assert {found["srg", name].rank for name in ("lime", "rise")} == {"–"}
    assert {name: found["srg", name].letters for name in ("lime", "rise")} == {"lime": "b", "rise": "a"}
    assert "explainers have scores on different samples" in found["srg", "lime"].note
    assert "1 of 10 samples without a valid score" in found["srg", "rise"].note


def test_the_best_and_those_not_told_from_it_are_marked(run):
    (block,) = blocks_of([run])
    found = entries(block)
    standing = {name: found["srg", name].standing for name in ("lime", "rise", "saliency", "random")}
    assert standing["lime"] == "best" and standing["saliency"] == standing["random"] == ""
    table = block.standing
    assert (standing["rise"] == "near") == bool(table.loc["rise", "best"])


def front_of(directory):
    """Explainer to its kind on the plot of quality against cost."""
    (block,) = blocks_of([directory])
    return {point.name: point.kind for point in cost_points(block)}


def test_who_is_better_or_cheaper_than_all_others_is_on_the_front(run):
    on_front = {"saliency": "front", "rise": "front", "lime": "front"}  # the dearer, the better in this world
    assert front_of(run) == {"random": "control", **on_front}


def test_who_is_shown_to_be_worse_and_is_dearer_is_off_the_front(tmp_path, seed):
    run = small_run(tmp_path / "r", seed, means={"lime": 0.2, "rise": 0.6, "random": 0.0})
    assert front_of(run) == {"random": "control", "rise": "front", "lime": "off"}
    assert "shown to be worse, and dearer, than rise" in text(report(run))


def test_who_is_not_shown_to_be_worse_or_dearer_may_be_on_the_front(tmp_path, seed):
    values = np.random.default_rng(seed).normal(0.5, 0.1, 24)
    for case, better, ends in (("alike", values[::-1] + 0.001, None), ("as dear", values + 0.4, 0.02)):
        for name, scores, cost in (("lime", values, 0.1), ("rise", better, 0.09), ("random", values - 0.5, 0.01)):
            write_cell(Store(tmp_path / case), name, "srg", scores)
            interval = {"ci_low": cost - ends, "ci_high": cost + ends} if ends else {"ci_low": None, "ci_high": None}
            write_cell(Store(tmp_path / case), name, "seconds_per_sample", np.full(24, cost), **interval)
        assert front_of(tmp_path / case) == {"lime": "near", "rise": "front", "random": "control"}


def test_an_explainer_without_a_cost_is_named_beside_the_plot(run):
    write_cell(Store(run), "lrp", "srg", np.full(24, 0.5))
    assert "lrp" not in front_of(run)
    assert re.search(r"No cost was measured, so not drawn</dt><dd>lrp<", text(report(run)))


def test_each_pair_is_shown_with_its_difference_and_coloured_only_where_shown_to_differ(run):
    (block,) = blocks_of([run])
    page = text(report(run))
    family, names = block.family, block.family.names
    shown = re.findall(r'<td class="(win|loss)" data-tip="(\w+) less (\w+): ', page.partition('-deletion" hidden')[0])
    better = {(a, b) for a in names for b in names if a != b and family.better(a, b)}
    assert {(a, b) for kind, a, b in shown if kind == "win"} == better and better
    assert {(b, a) for kind, a, b in shown if kind == "loss"} == better
    value, (low, high) = family.difference("lime", "random"), family.interval("lime", "random")
    number, bottom, top = rounded_together(value, low, high)
    assert f"lime less random: +{number} [{bottom}, {top}]" in page
    assert 'class="letters"' not in page


def test_a_card_says_what_a_metric_asks_and_what_guessing_scores(run):
    card = text(report(run)).partition('<article class="card"><h3>srg')[2].partition("</article>")[0]
    for word in (
        "Symmetric relevance gain",
        "-1 to 1",
        "0 expected, ",
        "measured with random maps",
        "arXiv 2401.06654",
    ):
        assert word in card
    assert "tau-b 0." in card


def test_the_first_table_has_a_row_for_each_explainer_and_controls_apart(run):
    table = text(report(run)).partition('class="gains"')[2].partition("</table>")[0]
    own, controls = table.split("<tbody>")[1:]
    named = lambda part: re.findall(r'<th scope="row">(\w+)', part.replace("<wbr/>", ""))
    assert named(own) == ["lime", "rise", "saliency", "grad_cam"] and named(controls) == ["random"]
    assert "use this" in own and "best control" in controls and "gain over random" in table


def test_several_blocks_begin_with_a_row_each(tmp_path, seed):
    runs = [small_run(tmp_path / name, seed) for name in ("one", "two")]
    page = text(report(runs))
    assert (
        "2 of 2 blocks (a model on a data set under one protocol) have an explainer that is shown to beat the" in page
    )
    assert page.index('class="gains blocks"') < page.index('<article class="verdict')


def test_eight_blocks_have_a_critical_difference_and_fewer_are_descriptive(tmp_path, seed):
    store, generator = Store(tmp_path / "many"), np.random.default_rng(seed)
    for place in range(8):
        for name, mean in (("lime", 0.8), ("rise", 0.5), ("random", 0.0)):
            write_cell(store, name, "srg", mean + generator.normal(0, 0.1, 6), model=f"net{place}", quick=True)
            if place < 3:
                few = Store(tmp_path / "few")
                write_cell(few, name, "srg", mean + generator.normal(0, 0.1, 6), model=f"net{place}", quick=True)
    assert "Critical difference diagram" in text(report(tmp_path / "many"))
    few = text(report(tmp_path / "few"))
    assert "Critical difference diagram" not in few and "descriptive only: 3 blocks" in few


def test_several_runs_are_on_one_page_with_a_block_each(tmp_path, seed):
    first, second = small_run(tmp_path / "one", seed), small_run(tmp_path / "two", seed + 1)
    page = report([first, second])
    assert page == second / "report.html"
    assert text(page).count('<article class="verdict') == 2
    assert "net on data, run one" in text(page) and "net on data, run two" in text(page)
    assert report(first, tmp_path / "elsewhere" / "page.html").is_file()
    assert (tmp_path / "elsewhere" / "page.md").is_file()


def test_failures_are_grouped_by_reason(run):
    twin = text(report(run).with_suffix(".md"))
    assert "| failed at stage explain | 2 | grad\\_cam | srg, deletion | ValueError: no layer was found |" in twin


def test_the_command_line_writes_the_report_and_names_what_is_wrong(run, capsys):
    assert main(["report", "night", "--runs", str(run.parent), "--quiet"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert main(["report", "nigth", "--runs", str(run.parent)]) == 2
    assert capsys.readouterr().err.startswith("harness: no run 'nigth'")
    with pytest.raises(UserError):
        report(run.parent / "nothing")


def test_a_run_without_cells_says_so(tmp_path):
    (tmp_path / "r" / "cells").mkdir(parents=True)
    assert "The run has no cells yet." in text(report(tmp_path / "r"))
    assert "The run has no cells yet." in text(tmp_path / "r" / "report.md")


@pytest.mark.parametrize("modality", ["image", "tokens", "series", "table"])
def test_maps_of_every_kind_of_data_are_shown_with_their_words(run, seed, modality):
    generator, count = np.random.default_rng(seed), 5
    shape = {"image": (8, 8), "tokens": (4,), "series": (30,), "table": (4,)}[modality]
    maps = {name: generator.uniform(-1, 1, (count, *shape)) for name in ("lime", "rise", "random")}
    inputs = {
        "image": generator.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8),
        "series": generator.normal(size=(count, 2, 30)).astype(np.float16),
    }.get(modality)
    tokens = [["a", "good", "<b>", "film"]] * count if modality == "tokens" else None
    names = ["age", "debt", "city", "job"] if modality == "table" else None
    keep_maps(run, maps, modality=modality, inputs=inputs, tokens=tokens, unit_names=names, unsigned=["rise"])
    (block,) = blocks_of([run])
    found = gallery(block)
    assert len(found.tiles) == 15
    assert {tile["title"].split(" on ")[0] for tile in found.tiles.values()} == set(maps)
    for tile in found.tiles.values():
        assert tile["says"].startswith("Most attribution: ")
        assert ("no sign" in tile["says"]) == tile["title"].startswith("rise")
        assert ("This is a control" in tile["trust"]) == tile["title"].startswith("random")
    assert "Some explanations in words" in text(report(run).with_suffix(".md"))


@pytest.mark.parametrize(
    ("told", "expected"), [({"median": 0.25, "mean": 1.0}, 0.25), (0.5, 0.5), (None, None), ({}, None), ("x", None)]
)
def test_a_broken_sum_is_known_from_a_spread_and_from_a_single_number(tmp_path, told, expected):
    store = Store(tmp_path / "r")
    write_cell(store, "lime", "srg", np.array([0.1, 0.2]), audit={"completeness_error": told})
    found = known_of(blocks_of([tmp_path / "r"])[0], "lime").completeness_error
    assert found == expected if expected is not None else np.isnan(found)


def test_the_best_and_worst_case_of_an_explainer_are_marked(run):
    (block,) = blocks_of([run])
    values = block.matrices["srg"].values["lime"]
    keep_maps(run, {"lime": np.ones((len(values), 2))}, modality="table", unit_names=["a", "b"], ids=list(values.index))
    part = gallery(blocks_of([run])[0]).part
    for extreme, word in ((values.idxmax(), "▲ best"), (values.idxmin(), "▼ worst")):
        assert re.search(rf'aria-label="lime on {extreme}: in words"(?:(?!</button>).)*{word}', part)


@pytest.mark.parametrize("spoilt", ["gone", "pickled", "wrong shape", "elsewhere"])
def test_maps_that_cannot_be_read_are_told_and_the_others_shown(run, spoilt):
    keep_maps(run, {"lime": np.ones((3, 2)), "rise": np.ones((3, 2))}, modality="table", unit_names=["a", "b"])
    path = run / "maps" / "m0.npy"
    if spoilt == "gone":
        path.unlink()
    elif spoilt == "pickled":
        np.save(path, np.array([{}, {}, {}]), allow_pickle=True)
    elif spoilt == "wrong shape":
        RunFiles(run).write_array(path, np.ones((2, 2)))
    else:
        about = RunFiles(run).json(run / "maps" / "net-data.json")
        about["explainers"]["lime"]["file"] = "../maps/m0.npy"
        RunFiles(run).write_json(run / "maps" / "net-data.json", about)
    (block,) = blocks_of([run])
    found = gallery(block)
    assert "maps of lime could not be read" in found.part
    assert {tile["title"].split(" on ")[0] for tile in found.tiles.values()} == {"rise"}


def test_maps_under_another_protocol_are_not_shown(run):
    keep_maps(run, {"lime": np.ones((3, 2))}, modality="table")
    path = run / "maps" / "net-data.json"
    RunFiles(run).write_json(path, RunFiles(run).json(path) | {"protocol": {**PROTOCOL, "samples": 5}})
    assert gallery(blocks_of([run])[0]).tiles == {}


def test_a_report_of_a_run_is_the_same_twice(run):
    first = text(report(run))
    assert text(report(run)) == first


@pytest.mark.parametrize(
    "asked",
    [
        "explainer=[gradient,rise] explainer.rise.samples=50 metric=[srg,deletion] metric.srg.baseline=zero",
        "explainer=[edge] +explainer.mine={name:rise,samples:7} metric=[srg] +metric.m={name:deletion,order:lerf}",
    ],
)
def test_the_command_that_is_told_asks_for_the_same_cells(tmp_path, asked):
    settings = ["model=digits_cnn", "dataset=digits", "protocol.samples=12", f"runtime.runs={tmp_path}", "run=told"]
    (first,) = planned([*asked.split(), *settings])
    store = Store(tmp_path / "told")
    for cell in first.cells:
        config = json.loads(canonical(first.identity(cell.explainer, cell.metric)))
        store.append(
            {
                "cell": cell.id,
                "model": first.model.label,
                "dataset": first.dataset.label,
                "config": config,
                "explainer": cell.explainer.label,
                "metric": cell.metric.label,
                "status": "failed",
            }
        )
    (block,) = blocks_of([tmp_path / "told"])
    (again,) = planned([*shlex.split(command(block))[2:], f"runtime.runs={tmp_path}"])
    assert {cell.id for cell in again.cells} == {cell.id for cell in first.cells}


def planned(arguments):
    """The plans of a command."""
    found = []
    for_each_job(arguments, lambda config: found.append(Plan.of(config)))
    return found


def test_samples_of_one_name_are_told_apart(tmp_path, seed):
    store, generator = Store(tmp_path / "r"), np.random.default_rng(seed)
    for name, mean in (("lime", 0.5), ("random", 0.0)):
        write_cell(store, name, "srg", mean + generator.normal(0, 0.1, 10), ids=["same"] * 10)
    (block,) = blocks_of([tmp_path / "r"])
    assert block.samples == len(block.matrices["srg"].complete) == 10


def test_pictures_that_were_drawn_are_on_the_page_and_broken_ones_are_named(tmp_path):
    run = small_run(tmp_path / "r", 0)
    assert "pictures" not in SECTIONS and 'id="pictures"' not in text(report(run))
    (run / "views").mkdir()
    Image.new("RGB", (1600, 400), "red").save(run / "views" / "curves <b>.png")
    (run / "views" / "torn.png").write_bytes(b"no picture")
    page = text(report(run))
    assert page.count("data:image/webp;base64,") == 1 and "curves &lt;b&gt;.png" in page
    assert "cannot be read: torn.png" in page


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_command_says_what_the_page_begins_with(tmp_path, seed, capsys, count):
    names = [small_run(tmp_path / f"r{number}", seed).name for number in range(count)]
    assert main(["report", *names, "--runs", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    first = f"{count} of {count} blocks" if count > 2 else f"net on data, run {names[0]}: Use" if count > 1 else "Use"
    assert said.startswith(f"{first} ") and f"report: {tmp_path / names[-1] / 'report.html'}" in said
