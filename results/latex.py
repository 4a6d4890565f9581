r"""A run's leaderboards as LaTeX for the package booktabs, in tables that fit ``\textwidth``.

The width of a table is estimated from the widths of Computer Modern's letters at ``\small``; metrics that do not fit
into one table are continued in the next. Controls stand below a rule of their own and are never bold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.errors import printable
from harness.results.board import Board
from harness.results.footnotes import footnotes
from harness.results.formats import starts_controls
from harness.results.leaderboard import groups_that_fit, same_votes
from harness.results.place import Place
from harness.results.plain_text import tex_text

TEXT_WIDTH = 345.0  # points: \textwidth of the class article at 10 points; journals' columns for tables are wider
LETTER_SIZE, SUPERSCRIPT, BOLD = 9.0, 0.75, 1.15  # points of \small; relative widths
COLUMN_GAP = 8.0  # points between columns: twice \tabcolsep
LONGEST_HEAD = 16  # letters of a line of a heading
MOST_OF_NAMES = 0.4  # of the width, above which the explainers' names are broken
NARROW, WIDE = "ijl.,:;|!'[]()`f ", "mwMW@%—…"


@dataclass(frozen=True)
class TexColumn:
    """One metric: its heading in lines, a text per explainer, and its width in points."""

    head: str
    texts: Sequence[str]
    width: float


def latex_boards(boards: Sequence[Board]) -> str:
    """The leaderboards as LaTeX: for each board one or more tables no wider than the text, and its notes."""
    note = (
        "% bold: best mean of the explainers that are no controls; underlined: not shown to be worse than it "
        "(all pairs of a metric at 5 %); needs booktabs"
    )
    return "\n\n".join(["\n\n".join(_tex_board(board)) for board in boards] + [note]) + "\n"


def _tex_board(board: Board) -> Iterator[str]:
    widest = max(points(board.named(label)) for label in board.explainers)
    room = min(widest, MOST_OF_NAMES * TEXT_WIDTH)
    first, form = ("l", tex_text) if widest <= room else (rf"p{{{room:.0f}pt}}", _breakable)
    names = [form(board.named(label)) for label in board.explainers]
    columns = [_tex_column(board, metric) for metric in board.metrics]
    for part, group in enumerate(groups_that_fit(columns, TEXT_WIDTH - room, COLUMN_GAP)):
        title = f"% {tex_text(board.heading)}" + (", continued" if part else "")
        yield "\n".join([title, *_tex_table(board, first, names, group)])
    notes = [*footnotes(board.visible), *same_votes(board)]
    if notes:
        yield "{\\footnotesize\n" + "\n".join(rf"\noindent {tex_text(text)}\par" for text in notes) + "\n}"


def _tex_table(board: Board, first: str, names: Sequence[str], columns: Sequence[TexColumn]) -> Iterator[str]:
    yield rf"{{\small\setlength{{\tabcolsep}}{{{COLUMN_GAP / 2:.0f}pt}}"
    yield rf"\begin{{tabular}}{{@{{}}{first}{'r' * len(columns)}@{{}}}}"
    yield r"\toprule"
    yield _tex_line(["explainer", *(column.head for column in columns)])
    yield r"\midrule"
    for row, name in enumerate(names):
        if starts_controls(board, row):
            yield from [r"\midrule"] * (row > 0)
            yield rf"\multicolumn{{{len(columns) + 1}}}{{@{{}}l@{{}}}}{{\textit{{controls}}}} \\"
        yield _tex_line([name, *(column.texts[row] for column in columns)])
    yield r"\bottomrule"
    yield r"\end{tabular}\par}"


def _tex_column(board: Board, metric: str) -> TexColumn:
    places = [board.places[metric, label] for label in board.explainers]
    lines = _head_lines(board.head(metric))
    head = " \\\\ ".join(map(tex_text, lines))
    head = rf"\shortstack[r]{{{head}}}" if len(lines) > 1 else head
    return TexColumn(head, list(map(_tex_place, places)), max([*map(points, lines), *map(_width_of_place, places)]))


def _head_lines(text: str) -> list[str]:
    """A heading in lines of at most sixteen letters, broken after commas, brackets, signs and underscores if it can."""
    lines = [""]
    for word in _breakable_pieces(text):
        if lines[-1] and len(lines[-1] + word.rstrip()) > LONGEST_HEAD:
            lines.append("")
        lines[-1] += word
    return [line.strip() for line in lines]


def _breakable_pieces(text: str) -> list[str]:
    """A text cut after each sign at which a line can end, and where a piece is longer than a line."""
    words = [""]
    for letter in text:
        words[-1] += letter
        if letter in " _,=[]-/." or len(words[-1]) == LONGEST_HEAD:
            words.append("")
    return [word for word in words if word]


def _tex_place(place: Place) -> str:
    text = tex_text(_words_of_place(place))
    marked = {"best": rf"\textbf{{{text}}}", "near": rf"\underline{{{text}}}"}.get(place.standing, text)
    return rf"{marked}\textsuperscript{{{tex_text(place.letters)}}}" if place.letters else marked


def _words_of_place(place: Place) -> str:
    return " ".join(part for part in (place.text, place.interval) if part)


def _width_of_place(place: Place) -> float:
    bold = BOLD if place.standing == "best" else 1
    return bold * points(_words_of_place(place)) + SUPERSCRIPT * points(place.letters)


def points(text: str) -> float:
    r"""The width of a text in points, in Computer Modern at ``\small``, rounded up by class of letter."""
    return LETTER_SIZE * sum(map(_letter_width, text))


def _letter_width(letter: str) -> float:
    """In units of the size of the letters. Those that are written as their code take the width of the code."""
    if tex_text(letter).startswith("[U+"):
        return 0.6 * len(tex_text(letter))
    if letter in NARROW:
        return 0.34
    return 1.03 if letter in WIDE else 0.78 if not (letter.isdigit() or letter.islower()) else 0.53


def _breakable(name: str) -> str:
    """A name that may be broken after its underscores, equals signs and commas, and within longer pieces."""
    pieces = _breakable_pieces(printable(name))
    return r"\allowbreak{}".join(tex_text(piece) + " " * piece.endswith(" ") for piece in pieces)


def _tex_line(texts: Sequence[str]) -> str:
    line = " & ".join(texts) + r" \\"
    return "{}" + line if line[0] in "[*" else line  # the command before it would take them for its argument
