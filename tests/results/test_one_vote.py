"""Metrics that rank explainers identically are one vote: found in the scores, for all registered metrics."""

import io
import os
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import harness
from budgets import small
from harness.registry import EXPLAINERS, METRICS
from harness.results.agreement import metric_agreement
from harness.results.blocks import across_blocks
from harness.results.leaderboard import print_table
from harness.results.matrices import Matrix, matrices
from harness.results.one_vote import one_vote_notes, rank_as
from harness.results.rows import CELL_COLUMNS
from harness.results.score_table import SCORE_COLUMNS
from harness.results.trust import reliability

SEED = int(os.environ["HARNESS_TEST_SEED"])
EXPLAINED = ("gradient", "input_x_gradient", "occlusion", "random")
ALIKE = {"baseline": "zero", "granularity": "unit", "segments": "unit", "score": "probability", "steps": 32, "patch": 1}
RETRAINING = {"roar", "idsds", "f_fidelity", "label_randomization"}
# Under equal settings on a table of few columns; each is an area under, over or between the same curves.
SAME = {"deletion": "aopc", "selectivity": "aopc", "insertion": "abc", "srg": "abpc"}


def scored(name, values, better="higher", dataset="data"):
    frame = pd.DataFrame(np.asarray(values))
    frame.columns = [f"e{place}" for place in range(frame.shape[1])]
    return Matrix({"model": "net", "dataset": dataset, "metric": name}, frame, better)


@pytest.fixture(scope="module")
def measured():
    """The scores of all metrics that serve a table, under equal settings."""
    drawn = torch.Generator().manual_seed(SEED)
    draw = lambda *shape: torch.randn(*shape, generator=drawn)
    model = torch.nn.Sequential(torch.nn.Linear(7, 12), torch.nn.Tanh(), torch.nn.Linear(12, 3)).eval()
    for weights in model.parameters():
        weights.data = draw(*weights.shape)
    chosen = {
        name: small(entry, draws=5, samples=8)
        | {option: each for option, each in ALIKE.items() if isinstance(entry.options.get(option), type(each))}
        for name, entry in METRICS.items()
        if entry.kind != "cost" and name not in RETRAINING
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return harness.evaluate(
            model,
            harness.Data(draw(8, 7), torch.arange(8) % 3, truth=draw(8, 7), train=draw(30, 7), modality="table"),
            explainers={name: small(EXPLAINERS[name]) for name in EXPLAINED},
            metrics=chosen,
            seed=SEED,
        ).query("status == 'ok'")


def test_of_all_metrics_those_that_rank_identically_are_found_and_no_others(measured):
    directed = [each for each in matrices(measured) if each.better in ("higher", "lower")]
    found = {each.names["metric"]: same for each, same in zip(directed, rank_as(directed), strict=True)}
    assert len(found) > 35 and {metric: same for metric, same in found.items() if same} == SAME


def test_a_vote_counts_once_wherever_agreement_is_summarised(measured):
    directed = [each for each in matrices(measured) if each.names["metric"] in {*SAME, *SAME.values(), "irof"}]
    pairs = metric_agreement(directed, {"random"})
    assert sorted(pairs.loc[pairs["note"] != "", "note"]) == sorted(
        f"{a} ranks explainers as {b} does: they count as one metric" for a, b in SAME.items()
    )
    assert set(pairs.loc[pairs["note"] != "", "tau"]) == {1.0}
    assert len(pairs.query("note == ''")) == 4 * 3 / 2  # of aopc, abc, abpc and irof
    worth = reliability(directed, {"random"}).set_index("metric")
    assert worth["ranks_as"].to_dict() == {"irof": "", "aopc": "", "abc": "", "abpc": ""} | SAME
    assert {each.metric: each.ranks_as for each in across_blocks(directed) if each.ranks_as} == SAME


def test_an_offset_of_each_sample_and_a_scale_change_no_ranking_and_anything_else_may():
    generator = np.random.default_rng(SEED)
    values, offset = generator.normal(size=(20, 5)), generator.normal(size=(20, 1))
    same = lambda other, better="higher": rank_as([scored("a", values), scored("b", other, better)])[1] == "a"
    assert same(3 * values + offset) and same(offset - values, "lower") and same((values + offset).astype(np.float32))
    assert not same(offset - values) and not same(values * np.exp(offset)) and not same(np.tanh(values))
    assert not same(values + 1e-3 * generator.normal(size=(20, 5))) and not same(np.ones((20, 5)))
    assert rank_as([scored("a", values), scored("b", values, dataset="other")]) == ["", ""]


def test_two_explainers_or_ties_throughout_show_no_identity():
    values = np.random.default_rng(SEED).normal(size=(9, 2))
    assert rank_as([scored("a", values), scored("b", 2 * values)]) == ["", ""]
    assert rank_as([scored("a", np.ones((9, 4))), scored("b", np.ones((9, 4)))]) == ["", ""]


@pytest.mark.parametrize("samples", [2, 8, 100])
@pytest.mark.parametrize("levels", [2, 3, 6])
def test_unrelated_metrics_of_few_levels_are_never_one_vote(levels, samples):
    """With hit rates near 0 and 1 most samples have the same scores by two unrelated metrics."""
    generator, rates = np.random.default_rng(SEED), [0.97, 0.97, 0.03]
    draw = lambda: generator.binomial(levels - 1, rates, size=(samples, 3)) / (levels - 1)
    assert not any(rank_as([scored("a", draw()), scored("b", draw())])[1] for _ in range(300))


def test_one_explainer_of_huge_scores_hides_no_difference_of_the_others():
    generator = np.random.default_rng(SEED)
    values, others, huge = generator.normal(size=(3, 20, 4))
    values[:, 0] = others[:, 0] = 1e7 * huge[:, 0]
    assert rank_as([scored("a", values), scored("b", others)]) == ["", ""]
    assert rank_as([scored("a", values), scored("b", 2 * values)]) == ["", "a"]


def test_two_explainers_with_the_same_maps_hide_no_identity():
    generator = np.random.default_rng(SEED)
    values = generator.normal(size=(20, 4))
    values[:, 1] = values[:, 0]
    assert rank_as([scored("a", values), scored("b", (3 * values).astype(np.float32))]) == ["", "a"]


def test_copies_of_a_copy_name_the_first():
    values = np.random.default_rng(SEED).normal(size=(9, 4))
    found = one_vote_notes([scored(name, values * scale) for name, scale in (("a", 1), ("b", 2), ("c", 3))])
    assert found == [f"{other} ranks explainers as a does: they count as one metric" for other in "bc"]


def test_the_leaderboard_says_so():
    generator = np.random.default_rng(SEED)
    values = generator.normal(size=(9, 4))
    tables = {"aopc": values, "irof": values**2, "srg": 2 * values}
    cells = [
        {
            "cell": f"{metric}{place}",
            "explainer": f"e{place}",
            "metric": metric,
            "value": scores[:, place].mean(),
            "n": 9,
        }
        for metric, scores in tables.items()
        for place in range(4)
    ]
    fixed = {"model": "net", "dataset": "data", "kind": "faithfulness", "unit": "", "better": "higher", "status": "ok"}
    cells = pd.DataFrame(cells).assign(**fixed, stick="s", n_invalid=0)
    rows = [
        {"cell": f"{metric}{place}", "explainer": f"e{place}", "metric": metric, "sample": f"s{row}", "value": value}
        for metric, scores in tables.items()
        for (row, place), value in np.ndenumerate(scores)
    ]
    scores = pd.DataFrame(rows).assign(model="net", dataset="data", better="higher")
    file = io.StringIO()
    print_table(
        cells.reindex(columns=list(dict.fromkeys([*cells, *CELL_COLUMNS]))),
        scores.reindex(columns=list(dict.fromkeys([*scores, *SCORE_COLUMNS]))),
        file=file,
    )
    text = file.getvalue()
    assert text.count("as one metric") == 1 and "– aopc ranks explainers as srg does: they" in text
