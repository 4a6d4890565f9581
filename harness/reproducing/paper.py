"""The experiment of a paper as its file ``conf/experiment/papers/NAME.yaml`` states it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import harness.conf
from harness.errors import UserError, unknown
from harness.reproducing.findings import COLUMNS
from harness.reproducing.lines import Expectation
from harness.reproducing.published import PROVENANCE, published_numbers

FOLDER = Path(harness.conf.__file__).parent / "experiment" / "papers"
SCALES = ("full", "small")
# Choices that papers often make in silence, and that change results; "does not apply" is an answer.
CHOICES = (
    "tracked_class",
    "score",
    "baseline",
    "baseline_space",
    "step_schedule",
    "end_points",
    "covered_range",
    "area_normalisation",
    "tie_breaking",
    "channel_reduction",
    "sign_handling",
    "granularity",
    "infidelity_scaling",
    "batch_norm_in_randomisation",
    "perturbation_samples",
)
FIELDS = (
    "title",
    "paper",
    "arxiv",
    "study",
    "source",
    "provenance",
    "table_or_figure",
    "n_images",
    "subset_rule",
    "controls",
    "deviations",
    "choices",
    "needs",
    "optional_data",
    "minutes",
    "sizes",
    "expect",
)


@dataclass(frozen=True)
class Paper:
    """The experiment of a paper: what it is, all choices that decide its numbers, its sizes, and what was published.

    name        the name that is typed
    title       what is shown, in a few words
    paper, arxiv  the paper
    study       the name of the study that measures it (``harness.reproducing.studies``)
    source      where the published numbers or claims are from; ``provenance`` says how they are known
    subset_rule which samples, and how they are identified
    controls    the controls that run beside the paper's methods
    deviations  what is done otherwise than in the paper, one sentence each; a defect by its number (D7)
    choices     the answers to CHOICES
    needs       what the user's folder ``data=`` has to hold; "" for nothing
    optional_data  what the folder may hold where none is needed, in place of what is included; "" for nothing
    minutes     scale -> about how many minutes it takes on two cores
    sizes       scale -> what the study takes: numbers of samples, seeds, draws
    expect      which published numbers it measures
    """

    name: str
    title: str
    paper: str
    arxiv: str
    study: str
    source: str
    provenance: str
    table_or_figure: str
    n_images: str
    subset_rule: str
    controls: str
    deviations: list[str]
    choices: dict[str, str]
    needs: str
    optional_data: str
    minutes: dict[str, float]
    sizes: dict[str, dict[str, Any]]
    expect: list[Expectation]


def names() -> list[str]:
    """The names of all experiments of papers."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def paper(name: str) -> Paper:
    """The experiment of this name; UserError for a name that is not there, or a file that leaves something out."""
    name = name.removeprefix("papers/")
    if name not in names():
        raise unknown("experiment of a paper", name, names(), "harness reproduce")
    return paper_of(name, OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml")))


def paper_of(name: str, stated: Mapping[str, Any]) -> Paper:
    """The experiment that a mapping states; UserError for what it leaves out or adds."""
    _check_names(f"papers/{name}.yaml", stated, FIELDS)
    _check_names(f"choices of papers/{name}.yaml", stated["choices"], CHOICES)
    for each in ("minutes", "sizes"):
        _check_names(f"{each} of papers/{name}.yaml", stated[each], SCALES)
    if stated["provenance"] not in (*PROVENANCE, "none"):
        raise unknown(f"provenance in papers/{name}.yaml", str(stated["provenance"]), (*PROVENANCE, "none"))
    empty = [each for each in FIELDS if stated[each] is None or stated[each] == ""]
    empty = [each for each in empty if each not in ("needs", "optional_data")] + [
        k for k, v in stated["choices"].items() if not v
    ]
    if empty:
        raise UserError(f"papers/{name}.yaml says nothing of {', '.join(empty)}")
    texts = {each: stated[each] for each in FIELDS if each not in ("expect", "choices")}
    choices = {each: str(answer) for each, answer in stated["choices"].items()}
    return Paper(name=name, **texts, choices=choices, expect=[_expectation(name, each) for each in stated["expect"]])


def _expectation(name: str, stated: Mapping[str, Any]) -> Expectation:
    try:
        found = Expectation(**{"where": {}, "words": {}, "ours": {}, **stated})
    except TypeError as error:
        raise UserError(f"an expectation in papers/{name}.yaml is wrong: {error}") from None
    for column in (*found.ours, *found.words, *found.same):
        if column not in COLUMNS:
            raise unknown(f"column of numbers in papers/{name}.yaml", column, COLUMNS)
    published_numbers(found.table, found.where)  # refused here, before anything is measured
    return found


def _check_names(where: str, stated: Any, expected: tuple[str, ...]) -> None:
    if not isinstance(stated, Mapping):
        raise UserError(f"{where} is {stated!r}, expected a mapping with {', '.join(expected)}")
    lacking = [each for each in expected if each not in stated]
    if lacking:
        raise UserError(f"{where} leaves out {', '.join(lacking)}")
    for each in stated:
        if each not in expected:
            raise unknown(f"entry of {where}", str(each), expected)
