"""Names and errors that are markup, formulas or unprintable: every writer shows them as text, or leaves letters out."""

import csv
import json
import os
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from harness.cli.main import main
from harness.errors import printable
from harness.results.figures import figure, panels, save, tidy
from harness.results.plain_text import FORMULA, csv_cells, drawable, fenced, markdown_text, tex_text
from harness.results.sentences import passages, sentence_page, sentence_sheet
from harness.results.sheet import Caption, contact_sheet
from harness.results.store import Store
from harness.results.tables import to_csv
from harness.views.report import write_report

SEED = int(os.environ["HARNESS_TEST_SEED"])
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt; &#60;b>",
    "a|b||",
    "`code` ``` ~~~",
    "[x](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "see https://evil.example and www.evil.example",
    "[x]: http://evil.example",
    "<!-- x --> ]]>",
    "# head _a_ *b* ~c~",
    "- item",
    "1. item",
    "---",
    "=1+1",
    "+1+1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
    "line\nbreak\r\n=more",
    "$x^{$ $$y$$",
    r"\input{/etc/passwd} \end{tabular} %",
    "~^{}#_&\"'",
    "\ud800 alone",
    "\u202egnp.exe",
    "paragraph\u2029separator\u2028\x85\x1c",
    "\x00\x1b[31m",
    "漢字 😀 ł é ų °",
    "x" * 300,
]
FORMS = {"script", "img", "a", "b", "code", "pre", "ol", "ul", "h1", "em", "hr", "blockquote"}


class Seen(HTMLParser):
    """The tags and the text of a piece of HTML."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = set(), ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.tags.add("comment")


def rendered(text):
    return Seen(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_text_is_the_same_text_after_markdown(name):
    alone, cell = rendered(markdown_text(name)), rendered(f"| a |\n| --- |\n| {markdown_text(name)} |")
    assert not (alone.tags | cell.tags) & (FORMS | {"s", "strong", "comment"})
    assert (
        alone.text.strip() == printable(name).strip() and cell.text.split("\n")[-1 - cell.text.count("\n")] is not None
    )
    assert printable(name).strip() in cell.text
    assert "://" not in markdown_text(name) and "www." not in markdown_text(name)


def test_no_text_ends_a_block_of_code():
    for name in HOSTILE:
        assert not rendered(fenced(f"{name}\n{name}")).tags - {"pre", "code"}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_text_is_no_command_of_latex(name):
    bare = re.sub(r"\\(text\w+|char34|ldots)\{\}|\$\\?\^?\\?\w+\$|\\[&%$#_{}]", "", tex_text(name))
    assert not set(bare) & set('\\&%$#_{}~^"') and "\n" not in bare
    assert all(letter.isascii() or letter.isalpha() and ord(letter) < 0x180 for letter in bare)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_text_is_no_formula_of_a_spreadsheet(name, tmp_path):
    texts = pd.Series([name, None], dtype=object)  # pandas' own texts cannot hold a lone surrogate
    to_csv(
        pd.DataFrame({"text": texts, "number": [-1.5, 2.0], f"{name}".encode(errors="ignore").decode(): 1}),
        tmp_path / "x.csv",
    )
    with open(tmp_path / "x.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert [row[1] for row in rows] == ["number", "-1.5", "2.0"] and len(rows) == 3
    assert not any(row[place].startswith(FORMULA) for row in rows for place in (0, 2))


def test_numbers_and_plain_texts_are_left_as_they_are():
    frame = pd.DataFrame({"a": ["-1.5", "+2e3", "x-1", ""], "b": [-1, 2, 3, 4], "c": [None, True, "=", 1.0]})
    safe = csv_cells(frame)
    assert list(safe["a"]) == list(frame["a"]) and safe["b"].dtype == frame["b"].dtype
    assert list(safe["c"]) == [None, True, "'=", 1.0] and list(frame["c"])[2] == "="


@pytest.mark.filterwarnings(r"error:Glyph \d{1,2} \(")  # matplotlib was given a control
@pytest.mark.parametrize("name", HOSTILE)
def test_every_picture_is_drawn(name, tmp_path):
    pixels, maps = np.zeros((1, 3, 8, 8)), {name: np.ones((1, 8, 8)), f"{name} ": None}
    contact_sheet(
        tmp_path / "a.png",
        pixels,
        maps,
        captions=[Caption(name, name, f"{name}?", 0.5)],
        controls=[name],
        reasons={f"{name} ": name},
        title=name,
        subtitle=name,
    )
    found = passages([[name, f" {name}"]], {name: np.ones((1, 3)), "none": None}, captions=[Caption(name, name)])
    sentence_sheet(tmp_path / "b.png", found, title=name, subtitle=name)
    sentence_page(tmp_path / "b.html", found, title=name, subtitle=name)
    assert not Seen((tmp_path / "b.html").read_text()).tags & {"script", "img", "a", "comment"}
    drawing = figure(2.0, name, name)
    (axes,) = panels(drawing, 1, 1, 1)
    tidy(axes, name, name, name).plot([1, 100], label=name)
    axes.set_xticks([0, 1], [name, "b"])
    axes.legend(title=name)
    axes.set_yscale("log")
    save(drawing, tmp_path / "c.png", pd.DataFrame({"name": pd.Series([name], dtype=object)}))
    save(drawing, tmp_path / "d.png", {"name": name})
    assert all(Image.open(tmp_path / f"{each}.png").size[0] > 100 for each in "abcd")
    assert json.loads((tmp_path / "d.json").read_text(encoding="utf-8", errors="surrogatepass"))["name"]


def test_tokens_keep_their_first_space():
    assert drawable(" the\u202e\ud800") == " the" and drawable("a\nb\u2029c") == "a b c"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose explainers, metric, classes and errors are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    store, generator = Store(folder / "r"), np.random.default_rng(SEED)
    for place, name in enumerate(name for name in HOSTILE if "\ud800" not in name):
        for metric in ("srg", HOSTILE[place % 3]):
            fails, cell = place % 5 == 4, f"{place}-{metric == 'srg'}"
            values = generator.normal(size=6)
            config = {"protocol": {"note": name}, "explainer": {"name": name}, "metric": {"name": metric}}
            config["protocol"] = {"note": HOSTILE[0]}
            about = {"cell": cell, "model": HOSTILE[1], "dataset": HOSTILE[5], "explainer": f"{place} {name}"}
            about |= {"metric": metric, "better": "higher", "kind": "faithfulness", "unit": name, "stick": "s"}
            about |= {"config": config, "flags": [name], "error": name, "n": 6, "n_invalid": 0, "environment": name}
            if fails:
                store.append(about | {"status": "failed", "stage": name})
            else:
                store.write_scores(cell, {"sample": [f"{name}{i}" for i in range(6)], "value": values})
                store.append(about | {"status": "ok", "value": float(values.mean())})
    return folder


def test_no_writer_of_a_run_passes_markup_on(run):
    write_report([run / "r"], run / "r.html")
    written = {"--markdown": run / "t.md", "--latex": run / "t.tex", "--csv": run / "t.csv"}
    for flag, path in written.items():
        assert main(["table", "r", "--runs", str(run), "--long", flag, str(path)]) == 0
    for path in (run / "r.md", run / "t.md"):
        text = path.read_text()
        assert not rendered(text).tags & {"script", "img", "a", "ol", "s", "comment"}, path.name
        assert "://evil" not in re.sub(r"(?s)```.*?\n```", "", text), "a block of code is no link"
    tex = (run / "t.tex").read_text()
    assert "\\input" not in tex and tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}")
    with open(run / "t.csv", newline="", encoding="utf-8") as file:
        assert not any(cell.startswith(FORMULA) and not _number(cell) for row in csv.reader(file) for cell in row)


def _number(text):
    return re.fullmatch(r"-?[\d.e+-]+", text) is not None
