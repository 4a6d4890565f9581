"""``--metric`` and ``--explainer``: what stays of a table, and what is refused."""

import argparse

import pandas as pd
import pytest

from harness.cli.filters import add_filters, filter_words, filtered
from harness.cli.parser import Parser
from harness.errors import UserError

ROWS = pd.DataFrame(
    [("lime", "srg"), ("lime", "deletion"), ("saliency", "srg"), ("saliency", "seconds_per_sample")],
    columns=["explainer", "metric"],
)


def chosen(*words: str) -> argparse.Namespace:
    parser = Parser(prog="harness table")
    add_filters(parser)
    return parser.parse_args(list(words))


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ([], [0, 1, 2, 3]),
        (["--metric", "srg"], [0, 2]),
        (["--metric", "deletion,srg"], [0, 1, 2]),
        (["--metric", "deletion", "--metric", "srg"], [0, 1, 2]),
        (["--metric", "[srg, deletion]", "--explainer", "lime"], [0, 1]),
        (["--explainer", "saliency"], [2, 3]),
    ],
)
@pytest.mark.parametrize("kind", ["object", "category"])
def test_rows_with_one_of_the_names_stay(words, kept, kind):
    flags = chosen(*words)
    assert list(filtered(ROWS.astype(kind), flags.metrics, flags.explainers).index) == kept


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metric", "deletoin"], "unknown --metric 'deletoin': did you mean 'deletion'? available: deletion, se"),
        (["--metric", "time"], "did you mean 'seconds_per_sample'"),
        (["--metric", "entropy"], "unknown --metric 'entropy': available: deletion, seconds_per_sample, srg"),
        (["--explainer", "lime,rise"], "unknown --explainer 'rise': available: lime, saliency"),
        (["--metric", "deletion", "--explainer", "saliency"], "no results came from --metric deletion --explainer sal"),
        (["--metric", ","], "--metric came without a value, expected --metric NAME,NAME"),
        (["--metric"], "--metric came without a value, expected --metric NAME,NAME"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_those_that_are(words, said):
    with pytest.raises(UserError) as error:
        flags = chosen(*words)
        filtered(ROWS, flags.metrics, flags.explainers)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_the_flags_are_written_as_they_were_typed():
    flags = chosen("--explainer", "lime", "--metric", "srg,deletion")
    assert filter_words(flags.metrics, flags.explainers) == "--metric srg,deletion --explainer lime"
    assert filter_words([], []) == ""
