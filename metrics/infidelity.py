"""Infidelity: how well attributions predict the change of the output under random perturbations."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._groups import Grouping, Groups, make_groups
from harness.metrics._removal_surrogate import (
    PredictedChanges,
    Removals,
    fit_changes,
    with_other_squares,
    with_other_subsets,
)
from harness.metrics._sets import outputs_without, pack_chunks, set_sums
from harness.metrics._similarity import with_reason
from harness.metrics._squares import count_squares, squares_numbered, units_within
from harness.option_types import ChangeOfInput, Count, Size
from harness.predictor import pick
from harness.randomness import bits, integers, normal, skip
from harness.registry import metric
from harness.removal.baselines import BaselineName
from harness.samples import Samples
from harness.task import Score

ROUNDING = 1e-9  # squared errors as a share of squared changes that count as none
# Mean squared distance of a map from the surrogate, as a multiple of the surrogate's mean squared leave-one-out error.
MOST_FROM_SURROGATE = 100.0
PUBLISHED_LARGEST, PUBLISHED_SIDE = 10, 28  # the largest square of the paper, on the side of its images


def _unit_of_error(options: Mapping[str, Any]) -> str:
    return "share" if options["scaling"] == "normalised" else f"{options['score']} squared"


@metric(
    better="lower",
    unit=_unit_of_error,
    span=(0, None),
    renamed={"samples": "draws", "largest": "largest_side", "noise": "relative_noise"},
    added={"surrogate": False},
)
def infidelity(
    batch: Batch,
    *,
    perturbation: Literal["auto", "gaussian", "square", "subset"] = "auto",
    scaling: Literal["none", "normalised", "optimal"] = "none",
    draws: Count = 200,
    largest_side: Size | None = None,
    relative_noise: ChangeOfInput = 0.2,
    baseline: BaselineName | Tensor = "typical",
    score: Score = "logit",
    convention: Literal["auto", "contribution", "local"] = "auto",
    surrogate: bool = False,
) -> Scores:
    """Mean squared error of the changes of the output that the attributions predict (Yeh et al. 2019, 1901.09392).

    E over perturbations I of (I . a - (f(x) - f(x - I)))^2, from ``draws`` independent draws per sample that all
    explainers share; f is the ``score``. Lower is better. ``perturbation``: ``square`` sets one square (on a sequence,
    a window) to ``baseline``, drawn uniformly from all squares of side 1 to ``largest_side``, by default 10/28 of the
    shortest axis, as in the paper; ``subset`` sets each unit to it with probability 1/2; ``auto`` is ``square`` where
    units have neighbours, else (on a table) ``subset``. ``gaussian`` subtracts noise with a standard deviation of
    ``relative_noise`` times that of the input (of each channel for a series, of each column of the training data for a
    table), unclipped.

    ``scaling``: with ``optimal`` the attributions are first multiplied by E[Ds] / E[s^2], where s = I . a and D is the
    change of the output, so that their sign and size do not matter; ``normalised`` divides that error by E[D^2], which
    gives values in [0, 1]. ``convention``: for ``local`` maps, like gradients, I . a is the sum over the elements with
    I = z (x - baseline), where z marks what is removed; ``contribution`` maps contain the factor x - baseline already
    and are summed over z; ``auto`` takes what the explainer declares, and contribution without an explainer. The maps
    are the raw ones, with all their channels.

    ``surrogate``: the same error is estimated from the same draws with less variance, by a Gaussian process that is
    fitted to the changes of the output (``harness.metrics._removal_surrogate``). Samples for which it predicts badly,
    has too few draws, or an output is not finite, keep the plain estimate; a line of the run says how many.

    NaN where no draw changes the input and, with another ``scaling`` than ``none``, where no draw changes the output or
    has an attribution other than 0. NotApplicable: ``gaussian`` with contribution maps, ``square`` on inputs without
    neighbouring units, ``surrogate`` with ``gaussian``, and a table without training inputs unless ``baseline`` needs
    none.

    For f = 2 x_0 - x_1 the contributions (2, -1) predict every change. If the second is missing, the error is 1 in the
    half of the draws that remove x_1:

    >>> maps, options = torch.tensor([[2.0, -1.0], [2.0, 0.0]]), {"baseline": "zero", "draws": 10000}
    >>> errors = harness.score("infidelity", linear, torch.ones(2, 2), targets, maps, **options)
    >>> errors.round(decimals=1).tolist()
    [0.0, 0.5]
    """
    perturbation, largest_side = _chosen_perturbation(batch.samples, perturbation, largest_side)
    if surrogate and perturbation == "gaussian":
        raise NotApplicable("surrogate=true needs perturbation=square or subset, not gaussian (give surrogate=false)")
    local = _is_local(batch, convention)
    if perturbation == "gaussian":
        predicted, changed = _changes_by_noise(batch, draws, relative_noise, local)
    else:
        removal = _Removal(perturbation, draws, largest_side, baseline)
        values = _values_of_units(batch, baseline, local)
        predicted, changed = _changes_by_removal(batch.samples, removal, values)
    change = batch.samples.clean(score)[:, None].double() - pick(changed, score).double()
    errors = mean_squared_error(predicted, change, scaling)
    if surrogate:
        others, expected = _expected_changes(batch.samples, removal, values, change, score)
        better = expected_squared_error(predicted, others, expected, scaling)
        errors = better.where(expected.used & errors.isfinite() & better.isfinite(), errors)
    reason = "no draw changes the input, has an attribution other than 0, or changes the output"
    return with_reason(errors.masked_fill(_untouched(batch, perturbation, baseline), float("nan")), reason)


def mean_squared_error(predicted: Tensor, change: Tensor, scaling: str) -> Tensor:
    """The infidelity (N,) of predicted and true changes of the output (N, draws), rescaled."""
    if scaling == "none":
        return (predicted - change).square().mean(1)
    factor = (change * predicted).mean(1) / predicted.square().mean(1)  # 0 / 0 is NaN
    rescaled = (change - factor[:, None] * predicted).square().mean(1)
    normalised = rescaled / change.square().mean(1)  # NaN where the output never changes: any map would be perfect
    return normalised if scaling == "normalised" else rescaled.where(normalised.isfinite(), normalised)


def expected_squared_error(predicted: Tensor, others: Tensor, expected: PredictedChanges, scaling: str) -> Tensor:
    """``mean_squared_error`` (N,) over all removals, estimated with the surrogate.

    predicted  (N, draws) the changes that attributions predict for the draws
    others     (N, R) those that they predict for the other removals

    ``normalised`` is A / B, with A the mean squared error and B the mean squared change. It is computed as
    S + (A - S B) / B with S = A / B over the draws: A - S B is estimated as one mean, which varies less than A.
    """
    changes, left_out, of_others = expected.changes, expected.left_out, expected.predicted
    factor, by_draws = _best_factors(predicted, others, expected, scaling)
    exact = _exact_on_draws(by_draws * predicted, by_draws * others, expected)
    predicted, others = factor * predicted, factor * others
    errors, squares = (predicted - changes).square(), changes.square()
    mean_square = expected.mean(squares, [(left_out.square(), of_others.square())])
    mean_square = mean_square.where(mean_square > 0, float("nan"))
    share = expected.mean(errors) / expected.mean(squares) if scaling == "normalised" else torch.zeros_like(mean_square)
    rest = lambda sums, change: change * ((1 - share[:, None]) * change - 2 * sums)  # squared error less P^2 and S D^2
    controls = (predicted.square(), others.square()), (rest(predicted, left_out), rest(others, of_others))
    excess = expected.mean(errors - share[:, None] * squares, controls)
    if scaling == "normalised":
        found = (share + excess / mean_square).clamp(0, 1)
    else:
        found = excess.clamp(min=0) if scaling == "none" else excess.clamp(min=0).minimum(mean_square)
    return found.masked_fill(exact, 0.0)


def _exact_on_draws(predicted: Tensor, others: Tensor, expected: PredictedChanges) -> Tensor:
    """Whether maps (N,) predict the change of every draw, and are within ``MOST_FROM_SURROGATE`` for the others."""
    own_error = expected.mean((predicted - expected.changes).square())
    exact = own_error <= ROUNDING * expected.mean(expected.changes.square())
    of_surrogate = expected.mean((expected.left_out - expected.changes).square())
    return exact & ((others - expected.predicted).square().mean(1) <= MOST_FROM_SURROGATE * of_surrogate)


def _best_factors(predicted: Tensor, others: Tensor, expected: PredictedChanges, scaling: str) -> tuple[Tensor, Tensor]:
    """The factors (N, 1) of the maps with the least squared error over all removals, and over the draws alone; 0 for
    maps of zeros, and 1 without scaling.

    The first is b0 + E[(D - b0 P) P] / E[P^2], with the second as b0; controls correct both means.
    """
    if scaling == "none":
        return (torch.ones_like(predicted[:, :1]),) * 2
    by_draws = expected.mean(expected.changes * predicted) / expected.mean(predicted.square())
    by_draws = by_draws.nan_to_num(0, 0, 0)[:, None]
    product = lambda sums, change: (change - by_draws * sums) * sums
    controls = [(product(predicted, expected.left_out), product(others, expected.predicted))]
    correction = expected.mean(product(predicted, expected.changes), controls)
    square = expected.mean_of_all(predicted.square(), others.square())
    return by_draws + (correction / square).nan_to_num(0, 0, 0)[:, None], by_draws


def _chosen_perturbation(samples: Samples, perturbation: str, largest: int | None) -> tuple[str, int]:
    """The perturbation, ``auto`` replaced by what it means for these samples, and the largest side of a square."""
    shape = samples.units.shape
    if perturbation == "auto":
        perturbation = "subset" if samples.own_scales or len(shape) > 2 else "square"
    return perturbation, max(1, round(min(shape) * PUBLISHED_LARGEST / PUBLISHED_SIDE)) if largest is None else largest


def _untouched(batch: Batch, perturbation: str, baseline: str | Tensor) -> Tensor:
    """Samples (N,) that no perturbation changes: their noise has a spread of 0, or they equal the baseline."""
    if perturbation == "gaussian":
        return (_noise_unit(batch.samples).expand_as(batch.inputs) == 0).flatten(1).all(1)
    nothing = torch.zeros(len(batch), *batch.units.shape, dtype=torch.bool, device=batch.inputs.device)
    emptied = batch.samples.remover(baseline)(torch.arange(len(batch), device=nothing.device), nothing)
    return (batch.inputs == emptied).flatten(1).all(1)


def _is_local(batch: Batch, convention: str) -> bool:
    if convention != "auto":
        return convention == "local"
    return batch.explainer is not None and batch.explainer.convention == "local"


@dataclass(frozen=True)
class _Removal:
    """How sets of units are removed: the options of ``infidelity``, but for ``auto``."""

    perturbation: str
    draws: int
    largest: int
    baseline: str | Tensor

    @property
    def sets_key(self) -> tuple[Hashable, ...]:
        """What the sets depend on."""
        return "infidelity", self.perturbation, self.draws, self.largest if self.perturbation == "square" else None


def _values_of_units(batch: Batch, baseline: str | Tensor, local: bool) -> Tensor:
    """What attributions say that each unit adds to the change of the output (N, *units), float64."""
    if local:
        _need_every_number(batch)
    samples = batch.samples
    maps = batch.raw * (samples.inputs - samples.baseline(baseline)) if local else batch.raw
    return samples.units.reduce(maps.double())


def _changes_by_removal(samples: Samples, removal: _Removal, values: Tensor) -> tuple[Tensor, Tensor]:
    """The changes (N, draws) that the values (N, *units) predict for removed sets, and the outputs without the sets."""
    units = make_groups(samples, Grouping())
    packed = _packed_sets(samples, units, removal)
    without = lambda: outputs_without(samples, units, packed, removal.baseline)
    return set_sums(values.flatten(1), packed), samples.outputs((*removal.sets_key, removal.baseline), without)


def _packed_sets(samples: Samples, units: Groups, removal: _Removal) -> Tensor:
    make = lambda: removed_sets(samples, units, removal.perturbation, removal.draws, removal.largest)
    return samples.shared(removal.sets_key, make)


def _expected_changes(
    samples: Samples, removal: _Removal, values: Tensor, change: Tensor, score: str
) -> tuple[Tensor, PredictedChanges]:
    """The changes (N, R) that the values (N, *units) predict for other sets, and a surrogate of those by the draws."""
    removals = samples.shared(("removals", *removal.sets_key), lambda: _with_others(samples, removal))
    key = ("removal surrogate", *removal.sets_key, removal.baseline, score)
    return removals.sums(values), samples.shared(key, lambda: fit_changes(removals, change))


def _with_others(samples: Samples, removal: _Removal) -> Removals:
    """The removed sets, with others that a surrogate predicts."""
    if removal.perturbation == "square":
        keys = samples.stream("infidelity square")
        return with_other_squares(
            samples, random_squares(samples, keys, removal.draws, removal.largest), removal.largest
        )
    return with_other_subsets(samples, _packed_sets(samples, make_groups(samples, Grouping()), removal))


def _need_every_number(batch: Batch) -> None:
    if batch.units.grouped and batch.raw.shape != batch.inputs.shape:
        raise NotApplicable("maps of the local convention need a value for every number of a column, these have one")


def removed_sets(samples: Samples, units: Groups, perturbation: str, draws: int, largest: int) -> Tensor:
    """Packed random sets of units to remove (N, draws, bytes)."""
    keys, count = samples.stream(f"infidelity {perturbation}"), samples.units.count
    if perturbation == "square":
        squares, shape = random_squares(samples, keys, draws, largest), samples.units.shape
        within = lambda rows, start, number: units_within(squares[rows, start : start + number], shape).flatten(2)
        return pack_chunks(keys, draws, count, within)
    coins = lambda rows, start, number: bits(keys[rows], number * count, start * count) < 0
    return pack_chunks(keys, draws, count, lambda *chunk: coins(*chunk).unflatten(1, (-1, count)))


def random_squares(samples: Samples, keys: Tensor, draws: int, largest: int) -> Tensor:
    """Random squares (N, draws, axes + 1), each as likely as any other (``harness.metrics._squares``)."""
    shape = samples.units.shape
    if samples.units.modality == "table" or len(shape) > 2:
        raise NotApplicable(
            "squares need neighbouring units, which these inputs do not have (give perturbation=subset)"
        )
    return squares_numbered(integers(keys, count_squares(shape, largest), draws), shape, largest)


def _changes_by_noise(batch: Batch, draws: int, noise: float, local: bool) -> tuple[Tensor, Tensor]:
    """The changes (N, draws) predicted for Gaussian noise, and the tracked outputs with the noise subtracted."""
    samples = batch.samples
    if not local:
        raise NotApplicable(
            "Gaussian perturbations need maps of the local convention, like gradients (give perturbation=subset)"
        )
    _need_every_number(batch)
    drawn = noise_draws(samples, noise)
    tracked = samples.outputs(
        ("infidelity", "gaussian", draws, noise),
        lambda: samples.track(draws, lambda sample, draw: samples.inputs[sample] - drawn(sample, draw)),
    )
    pairs = torch.arange(len(samples) * draws, device=samples.inputs.device)
    predicted = [
        (drawn(rows // draws, rows % draws) * batch.raw[rows // draws]).flatten(1).sum(1, dtype=torch.float64)
        for rows in pairs.split(max(1, 2**21 // samples.inputs[0].numel()))
    ]
    return torch.cat(predicted).view(len(samples), draws), tracked


def noise_draws(samples: Samples, noise: float) -> Callable[[Tensor, Tensor], Tensor]:
    """``drawn(sample, draw)``: the noise (rows, ...) of pairs of index vectors, whatever other pairs are asked for."""
    shape, keys = samples.inputs.shape[1:], samples.stream("infidelity gaussian")
    scale = noise * _noise_unit(samples)

    def drawn(sample: Tensor, draw: Tensor) -> Tensor:
        # A normal number takes two elements of the stream, so draw m of a sample starts at 2 m shape elements.
        return normal(skip(keys[sample], 2 * shape.numel() * draw), *shape) * scale[sample]

    return drawn


def _noise_unit(samples: Samples) -> Tensor:
    """The standard deviation that noise is measured in, broadcastable to the inputs (N, ...)."""
    if samples.own_scales:
        return (
            samples.training_inputs("the spread that noise is scaled by").std(0, correction=0).expand_as(samples.inputs)
        )
    return samples.inputs.std(samples.scaled_together(), correction=0, keepdim=True)
