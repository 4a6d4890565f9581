"""The nine scores of a table as the released code of BEExAI defines them: one number for all rows together.

Attributions (N, D) have norm 1 over the whole table, and removal sets numbers to 0. ``value`` gives for inputs (N, D)
the outputs (N,) that are explained, ``explain`` attributions of changed inputs. For numbers to predict, changes of the
output count without their sign, and so do attributions.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

SHARE_OF_SUBSET, SUBSETS = 0.2, 20  # faithfulness correlation
KEPT_SHARE = 0.3  # comprehensiveness and sufficiency
NOISES = 5  # infidelity, for each column; and sensitivity
HIGHER = ("FaithCorr", "Comprehensiveness", "Monotonicity", "Sparseness")
LOWER = ("Infidelity", "Sensitivity", "Sufficiency", "AUC_TP", "Complexity")
METRICS = (*HIGHER, *LOWER)
Value = Callable[[Tensor], Tensor]


def scaled_to_one(attributions: Tensor, *, absolute: bool) -> Tensor:
    """Attributions of norm 1 over all rows together; maps of zeros stay as they are."""
    found = (attributions.abs() if absolute else attributions).double()
    norm = found.norm()
    return found / norm if norm else found


def faithfulness_of_table(value: Value, inputs: Tensor, maps: Tensor, seed: int, *, absolute: bool) -> float:
    """Pearson correlation, over rows and subsets together, of the mean attribution of a subset and the output's drop.

    A subset is drawn with replacement and is the same for all rows.
    """
    draw = np.random.default_rng([seed, 1])
    size = max(int(SHARE_OF_SUBSET * inputs.shape[1]), 1)
    before, drops, means = value(inputs), [], []
    for _ in range(SUBSETS):
        subset = torch.from_numpy(draw.integers(inputs.shape[1], size=size))
        changed = inputs.clone()
        changed[:, subset] = 0
        drop = before - value(changed)
        drops.append(drop.abs() if absolute else drop)
        means.append(maps[:, subset].mean(1))
    return pearson_of_all(torch.stack(drops), torch.stack(means))


def pearson_of_all(first: Tensor, second: Tensor) -> float:
    """The correlation of all numbers of two tensors; NaN where one of them is constant."""
    first, second = (each.double().flatten() - each.double().mean() for each in (first, second))
    norms = first.norm() * second.norm()
    return (first @ second / norms).item() if norms > 0 else float("nan")


def infidelity_of_table(
    value: Value, inputs: Tensor, maps: Tensor, seed: int, *, absolute: bool
) -> tuple[float, float]:
    """Infidelity, and what it would be for attributions of zero, which is the same for every explainer.

    The released code calls x - noise the perturbation, so that the perturbed input is the noise itself: Yeh's noisy
    baseline around 0, with the standard deviation of each column in turn for all columns.
    """
    draw = np.random.default_rng([seed, 2])
    before, errors, plain = value(inputs), [], []
    for deviation in inputs.std(0).repeat_interleave(NOISES).tolist():
        noise = torch.from_numpy(draw.normal(0, deviation, size=inputs.shape)).to(inputs)
        change = before - value(noise)
        change = change.abs() if absolute else change
        errors.append((((inputs - noise) * maps).sum(1) - change).square().mean())
        plain.append(change.square().mean())
    return torch.stack(errors).mean().item(), torch.stack(plain).mean().item()


def sensitivity_of_table(
    explain: Callable[[Tensor], Tensor], inputs: Tensor, maps: Tensor, seed: int, draws: int
) -> float:
    """100 times the mean over rows of the largest change of a row's map, over the norm of the noise of all rows."""
    draw = np.random.default_rng([seed, 3])
    radius = mean_distances(inputs).numpy()
    changes = []
    for _ in range(draws):
        noise = torch.from_numpy(draw.uniform(-1, 1, size=inputs.shape) * radius).to(inputs)
        changes.append((maps - explain(inputs - noise)).norm(dim=1) / noise.double().norm())
    return 100 * torch.stack(changes).amax(0).mean().item()


def mean_distances(inputs: Tensor) -> Tensor:
    """The mean absolute difference (D,) of two rows in each column."""
    pairs = torch.combinations(torch.arange(len(inputs)))
    return (inputs[pairs[:, 0]] - inputs[pairs[:, 1]]).abs().mean(0)


def scores_by_order(value: Value, inputs: Tensor, maps: Tensor, *, absolute: bool) -> dict[str, float]:
    """Comprehensiveness, sufficiency and monotonicity, which depend on the order of attributions alone.

    Monotonicity is the share of steps at which the mean lost output, while columns are inserted in that order, changes
    by no less than at the step before. The released code begins this curve with the output itself.
    """
    places = places_in_order(maps)
    columns = inputs.shape[1]
    removed = [value(inputs * (places >= count)) for count in range(columns + 1)]  # the first ``count`` are removed
    kept = [value(inputs * (places < count)) for count in range(columns + 1)]
    before, some = removed[0], int(columns * KEPT_SHARE)
    size = (lambda change: change.abs()) if absolute else (lambda change: change)
    lost = torch.stack([kept[0], *(size(before - each) for each in kept[1:])]).mean(1)
    steps = lost.diff()
    return {
        "Comprehensiveness": size(before - removed[some]).mean().item(),
        "Sufficiency": size(before - kept[some]).mean().item(),
        "Monotonicity": (steps[:-1] <= steps[1:]).double().mean().item(),
    }


def places_in_order(maps: Tensor) -> Tensor:
    """The place (N, D) of each column in the order of its row, 0 for the largest attribution; ties in column order."""
    return torch.argsort(torch.argsort(-maps, dim=1, stable=True), dim=1)


def agreement_area(classes: Value, inputs: Tensor, maps: Tensor) -> float:
    """AUC_TP: the area under the share of rows whose class stays while the first 0, 1, ... columns are removed."""
    places = places_in_order(maps)
    before = classes(inputs)
    same = [(classes(inputs * (places >= count)) == before).double().mean() for count in range(inputs.shape[1])]
    return (torch.trapezoid(torch.stack(same)) / inputs.shape[1]).item()


def entropy_of_maps(maps: Tensor) -> float:
    """Complexity: the mean entropy of magnitudes as shares, over the number of columns; 0 for maps of zeros."""
    shares = maps.abs() / (maps.abs().sum(1, keepdim=True) + 1e-8)
    return (-(shares * (shares + 1e-8).log()).sum(1) / maps.shape[1]).mean().item()


def gini_of_maps(maps: Tensor) -> float:
    """Sparseness: the mean Gini index of magnitudes; 1 for maps of zeros, as in the released code."""
    columns = maps.shape[1]
    weights = columns - torch.arange(1, columns + 1, dtype=torch.float64) + 0.5
    sums = (maps.abs().sort(1).values * weights).sum(1)
    return (1 - 2 * sums / (maps.abs().sum(1) * columns + 1e-8)).mean().item()
