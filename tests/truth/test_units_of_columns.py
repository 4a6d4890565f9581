"""Columns that several numbers encode: removed, summed and reduced together."""

import pytest
import torch
from torch import nn

import harness
from harness.errors import NotApplicable, UserError
from harness.units import Units

COLUMNS = (0, 1, 1, 1, 2, 2)  # one number, a colour of three, a size of two

pytestmark = pytest.mark.usefixtures("seed")


class Linear(nn.Module):
    """A sum with weights: what each number contributes is its product."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6))

    def forward(self, inputs):
        return torch.stack([inputs @ self.weight, -inputs @ self.weight], 1)


def world(count=5):
    model, inputs = Linear().eval().requires_grad_(False), torch.randn(count, 6)
    parts = inputs * model.weight
    columns = torch.stack([parts[:, 0], parts[:, 1:4].sum(1), parts[:, 4:].sum(1)], 1)
    return model, inputs, torch.zeros(count, dtype=torch.long), parts, columns


def test_there_is_one_unit_per_column():
    units = Units.of(torch.zeros(2, 6), columns=COLUMNS)
    assert units.shape == (3,) and units.count == 3 and units.grouped
    assert units.expand(torch.tensor([[1, 2, 3]])).tolist() == [[1, 2, 2, 2, 3, 3]]


def test_columns_of_one_number_each_are_no_groups():
    assert Units.of(torch.zeros(2, 3), columns=(0, 1, 2)) == Units.of(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("how", "by_hand"),
    [
        ("sum", lambda part: part.sum(1)),
        ("abs_sum", lambda part: part.abs().sum(1)),
        ("max_abs", lambda part: part.abs().amax(1)),
        ("l2", lambda part: part.norm(dim=1)),
    ],
)
def test_attributions_of_numbers_are_reduced_to_their_columns(how, by_hand):
    given = torch.randn(4, 6)
    expected = torch.stack([by_hand(given[:, :1]), by_hand(given[:, 1:4]), by_hand(given[:, 4:])], 1)
    torch.testing.assert_close(Units.of(given, columns=COLUMNS).reduce(given, how), expected)


def test_attributions_of_columns_stay_as_they_are():
    given = torch.randn(4, 3)
    assert torch.equal(Units.of(torch.zeros(4, 6), columns=COLUMNS).reduce(given), given)


@pytest.mark.parametrize("explainer", ["occlusion", "feature_ablation", "exact_shapley", "integrated_gradients"])
def test_an_exact_explainer_finds_each_columns_whole_contribution(explainer):
    model, inputs, targets, parts, columns = world()
    found = harness.explain(explainer, model, harness.Data(inputs, targets, columns=COLUMNS), baseline="zero")
    torch.testing.assert_close(Units.of(inputs, columns=COLUMNS).reduce(found), columns, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        ("faithfulness_estimate", {"baseline": "zero"}),
        ("sensitivity_n", {"baseline": "zero", "draws": 30}),
        ("single_deletion", {"baseline": "zero", "segments": "unit"}),
    ],
)
def test_the_contributions_of_columns_are_perfectly_faithful(metric, options):
    model, inputs, targets, parts, columns = world()
    for given in (parts, columns):
        found = harness.score(
            metric, model, harness.Data(inputs, targets, columns=COLUMNS), given, score="logit", **options
        )
        torch.testing.assert_close(found.float(), torch.ones(5), rtol=1e-4, atol=1e-4)


def test_completeness_counts_every_number_once():
    model, inputs, targets, parts, columns = world()
    for given in (parts, columns):
        left = harness.score(
            "completeness",
            model,
            harness.Data(inputs, targets, columns=COLUMNS),
            given,
            baseline="zero",
            explainer="feature_ablation",
            explainer_options={"baseline": "zero"},
        )
        assert left.abs().max() < 1e-4


@pytest.mark.parametrize(
    "columns",
    [
        (0, 1, 1),
        (0, 1, 1, 1, 3, 3),
        (0, 0, 0, 0, 0, 0, 0),
        (),
        3,
        tuple("abcdef"),
        (0, 0.5, 1, 1, 1, 1),
        (1, 0, 2, 3, 4, 5),
        (0, 1, 2),
    ],
)
def test_columns_that_do_not_number_the_units_are_refused(columns):
    with pytest.raises(UserError, match="columns are"):
        Units.of(torch.zeros(2, 6), columns=columns)


def test_columns_may_come_as_any_whole_numbers():
    assert Units.of(torch.zeros(2, 6), columns=torch.tensor(COLUMNS)) == Units.of(torch.zeros(2, 6), columns=COLUMNS)
    assert Units.of(torch.zeros(2, 6), columns=list(COLUMNS)).columns == tuple(COLUMNS)


@pytest.mark.parametrize("perturbation", ["subset", "gaussian"])
def test_one_value_per_column_is_no_local_map_of_its_numbers(perturbation):
    model, inputs, targets, _, columns = world()
    with pytest.raises(NotApplicable, match="every number of a column"):
        harness.score(
            "infidelity",
            model,
            harness.Data(inputs, targets, columns=COLUMNS),
            columns,
            baseline="zero",
            perturbation=perturbation,
            convention="local",
        )


def test_where_every_number_is_a_unit_a_mask_is_of_all_numbers_of_its_columns_and_an_oracle_has_nothing_to_say():
    model, inputs, targets, parts, columns = world()
    masks = torch.zeros(columns.shape, dtype=torch.bool)
    masks[:, 1] = True
    rows = harness.evaluate(
        model,
        harness.Data(inputs, targets, columns=COLUMNS, truth=columns),
        explainers={"gradient": {}, "oracle": {}},
        metrics=["relevance_mass"],
        masks=masks,
        reduction="none",
    ).set_index("explainer")
    maps = harness.explain("gradient", model, inputs, targets).clamp(min=0)
    share = maps[:, torch.tensor(COLUMNS) == 1].sum(1) / maps.sum(1)
    assert torch.allclose(torch.tensor(rows.loc["gradient", "value"].to_numpy()), share.double(), equal_nan=True)
    assert set(rows.loc["oracle", "status"]) == {"not_applicable"}


def test_names_must_be_one_per_column():
    model, inputs, targets, _, _ = world()
    with pytest.raises(UserError, match="unit_names are 2, expected one for each of 3"):
        harness.evaluate(
            model,
            harness.Data(inputs, targets, columns=COLUMNS, unit_names=("a", "b")),
            explainers="gradient",
            metrics="srg",
        )


def test_a_whole_evaluation_takes_explainers_of_numbers_and_of_columns():
    model, inputs, targets, parts, columns = world(12)
    frame = harness.evaluate(
        model,
        harness.Data(inputs, targets, columns=COLUMNS, unit_names=["age", "colour", "size"], task="classes"),
        explainers=["gradient", "occlusion", "exact_shapley", "random", "lime"],
        metrics=["srg", "completeness", "faithfulness_correlation", "max_sensitivity", "seconds_per_sample"],
        train=torch.randn(30, 6),
    )
    assert not (frame["status"] == "failed").any(), frame.loc[frame["status"] == "failed", "error"].unique()
    assert frame.loc[(frame["explainer"] == "occlusion") & (frame["metric"] == "srg"), "valid"].all()
