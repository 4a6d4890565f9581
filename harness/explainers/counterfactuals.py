"""Counterfactuals: rows near a sample for which the model decides otherwise, and the columns in which they differ."""

import pandas as pd
import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._counterfactual_search import RowSearch, WantedRows
from harness.explainers._decisions import (
    background_rows,
    decision_in_words,
    names_of_some,
    refuse_unknown,
    sample_names,
)
from harness.explainers._row_changes import RowChanges
from harness.option_types import Count
from harness.registry import explainer
from harness.samples import Samples

USUAL_SEARCH = WantedRows()


def _changes(model: nn.Module, context: Samples, /, background: int, **others: object) -> RowChanges:
    return RowChanges(background_rows(context, background))


@explainer(
    access="forward",
    modalities=("table",),
    stochastic=True,
    cost="about (steps + 4) x population F; once: T F",
    prepare=_changes,
    tunable={"alternatives": (4, 20), "proximity": (0.1, 2.0)},
)
def counterfactuals(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: RowChanges,
    wanted: WantedRows = USUAL_SEARCH,
    background: Count = 1000,
) -> Tensor:
    """Counterfactuals: the share of nearby rows with another decision in which the column differs from the sample
    (DiCE: Mothilal et al. 2020, 1905.07697; shares: Mothilal et al. 2021, 2011.04917).

    Shape (N, C). The decision is whether the target is predicted; values are negative where it is not. A genetic search
    without gradients takes values of ``background`` rows. Of the rows of another decision it chooses, one after the
    other, up to ``alternatives`` that minimise DiCE's loss ``proximity`` d - ``diversity`` det(K): d is the mean
    distance from the sample, over columns, and K has 1 / (1 + distance, summed over columns) for each two rows.
    Distances are in median absolute deviations, or standard deviations where these are 0; a category has changed or
    not. Then columns become the sample's own again, from the least changed one on, and the other continuous ones as
    near to it as the decision allows. Ties are broken by the mean change m of the column: m / (1 + m) / (2 x number of
    rows) is added, which is less than one row's share. Columns in ``fixed`` keep their values. Facts: ``validity`` (the
    share of the ``alternatives`` that were found), ``distance`` of the nearest, ``changed_columns`` and
    ``evaluations``; the table ``counterfactuals`` has all rows. A sample without any has no attribution. Not applicable
    without training inputs, and to numbers.

    Unlike in DiCE's genetic search, which leaves it out, diversity is part of the loss, as in the paper.

    Example: classes(x) is class 1 where x1 > 0. Every row of the other class has another x1, and none needs another x2.

    >>> facts = harness.Facts()
    >>> found = harness.explain("counterfactuals", classes, x, torch.tensor([1]), train=train, facts=facts)
    >>> found.round(decimals=1), facts.tables["counterfactuals"].changes[0]
    (tensor([[1.1000, 0.0000]]), '0 1 -> -0.1111')
    """
    search = RowSearch(context, prepared, wanted)
    rows, there = search.run()
    sizes = prepared.column_distances(rows, inputs[:, None]) * there[..., None]
    count = there.sum(1, keepdim=True)
    share, change = (sizes > 0).sum(1) / count, sizes.sum(1) / count
    values = (share + change / (1 + change) / (2 * count)) * torch.where(search.own, 1, -1)[:, None]
    _tell_rows(context, search, rows, there, sizes)
    values = refuse_unknown(context, search.known, values.to(inputs))
    if not count.all():
        some = names_of_some(context, count[:, 0] == 0)
        raise NotApplicable(f"no row of another decision was found for sample {some}", maps=values)
    return values


def _tell_rows(context: Samples, search: RowSearch, rows: Tensor, there: Tensor, sizes: Tensor) -> None:
    """Report the counterfactuals of each sample, how many were found, and what they cost."""
    distances, changed = sizes.mean(-1), (sizes > 0).sum(-1).double()
    distances, changed = (each.masked_fill(~there, torch.nan) for each in (distances, changed))
    context.tell(
        counterfactuals=_table_of_rows(context, search, rows, there, sizes),
        validity=there.double().mean(1),
        distance=distances.nan_to_num(torch.inf).amin(1),
        changed_columns=changed.nanmean(1),
        evaluations=search.spent.double(),
    )


def _table_of_rows(context: Samples, search: RowSearch, rows: Tensor, there: Tensor, sizes: Tensor) -> pd.DataFrame:
    """One line for each counterfactual: its decision, its distance, its changes in words, and its values by name."""
    background, found = search.changes.rows, []
    names, sample = sample_names(context), context.inputs.tolist()
    for place, number in there.nonzero().tolist():
        values, size = rows[place, number].tolist(), sizes[place, number]
        found.append(
            {
                "sample": names[place],
                "counterfactual": number,
                "decision": decision_in_words(context, int(context.targets[place]), not search.own[place]),
                "distance": float(size.mean()),
                "changed": ", ".join(name for name, each in zip(background.names, size, strict=True) if each > 0),
                "changes": _changes_in_words(background.number_names, sample[place], values),
                **{f"value of {name}": value for name, value in zip(background.number_names, values, strict=True)},
            }
        )
    columns = ("sample", "counterfactual", "decision", "distance", "changed", "changes")
    return pd.DataFrame(found, columns=[*columns, *(f"value of {name}" for name in background.number_names)])


def _changes_in_words(names: tuple[str, ...], before: list[float], after: list[float]) -> str:
    """What changes, as ``age 40 -> 52, dose 1 -> 0``."""
    changed = [each for each in zip(names, before, after, strict=True) if each[1] != each[2]]
    return ", ".join(f"{name} {old:.4g} -> {new:.4g}" for name, old, new in changed)
