"""Multipliers of DeepLift (Shrikumar et al. 2017, 1704.02685): they divide an operation's change from a reference among
its inputs, so that contributions add up to the whole change.

Elementwise functions follow the Rescale rule: the slope of the chord between reference and input. Operations on several
numbers are composed of chords, products and quotients, for which the division is exact as well:

product     a b changes by mean(b) da + mean(a) db, with means over reference and input: the gradient half-way between
            them. The same holds for all polynomials of degree 2: matrix products, squares, variances
quotient    y = a / b changes by (da - mean(y) db) / mean(b), the product rule for a = y b. A product with a reciprocal,
            y = a u, is a quotient: it changes by h da + (mean(y) / mean(u)) du with the harmonic mean h of u, which is
            the same. With mean(u) for h, both parts are huge and cancel where u is huge: 1 / sqrt(eps) at 0
norms       y = c / s, with s the root of a mean square of c: a quotient in which ds = d(s^2) / (2 mean(s))
softmax     y = exp(l), l = x - log sum exp x: dy = m dl with m the chords of exp, and sum dy = 0 gives
            dl = dx - sum(m dx) / sum(m), whatever is added to all x
maximum     the place of the larger of the two maxima gets the whole change, divided by the change at this place
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.explainers._graph import on_graph

# An approximation(y, function, args, references, kwargs): a tensor whose derivative is the multiplier; its value is
# not used. ``references`` are the arguments at the baseline.
Approximation = Callable[[Tensor, Callable[..., Any], tuple, tuple, dict[str, Any]], Tensor]

# Two numbers that differ by less than this share of the larger one have the tangent half-way as their chord. Of the
# chord in double precision, rounding would be 1e-10; the two slopes differ by less.
NEAR = 1e-6


def _chord_slope(function: Callable[[Tensor], Tensor], x: Tensor, r: Tensor) -> Tensor:
    """The slope of an elementwise function's chord from ``r`` to ``x``."""
    change = x - r
    close = (x == r) | (change.abs() <= NEAR * torch.maximum(x.abs(), r.abs()))
    chord = (function(x) - function(r)) / change.masked_fill(close, 1)
    # A root has no finite tangent at 0; there nothing changes.
    return torch.where(close, _tangent(function, (x + r) / 2).nan_to_num(0, 0, 0), chord)


def _tangent(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(function(x).sum(), x)[0]


def pieces(y: Tensor, function: Callable[..., Tensor], args: tuple, references: tuple, kwargs: dict) -> Tensor:
    """For functions of linear pieces with slopes 0, 1 and -1, whose differences are as exact as those of the input."""
    x, r = args[0], references[0]
    change = x.detach() - r
    same = change == 0
    chord = (y - function(*references, **kwargs)) / change.masked_fill(same, 1)
    return x * torch.where(same, _tangent(lambda z: function(z, *args[1:], **kwargs), x), chord)


def smooth(y: Tensor, function: Callable[..., Tensor], args: tuple, references: tuple, kwargs: dict) -> Tensor:
    """For other elementwise functions, in double precision, as differences of near numbers lose digits."""
    x, rest = args[0], [_in_doubles(each) for each in args[1:]]
    slope = _chord_slope(lambda z: function(z, *rest, **kwargs), _in_doubles(x.detach()), _in_doubles(references[0]))
    return _bounded(x) * slope.to(x.dtype)


def _in_doubles(value: Any) -> Any:
    """Floating-point tensors in double precision; other values unchanged."""
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _bounded(x: Tensor) -> Tensor:
    """Finite values: masked numbers are -inf and have the multiplier 0, but 0 times infinity is NaN."""
    return x.clamp(torch.finfo(x.dtype).min, torch.finfo(x.dtype).max)


def _half_way(value: Any, reference: Any) -> Any:
    """The mean of a value and its reference, with the value's derivative."""
    return value + ((reference - value) / 2).detach() if on_graph(value) else value


def quadratic(y: Tensor, function: Callable[..., Tensor], args: tuple, references: tuple, kwargs: dict) -> Tensor:
    """For polynomials of degree 2: the gradient half-way between reference and input."""
    return function(*map(_half_way, args, references), **kwargs)


def quotient(y: Tensor, function: Callable[..., Tensor], args: tuple, references: tuple, kwargs: dict) -> Tensor:
    """For a quotient of two tensors."""
    above, below = args[::-1] if "__r" in function.__name__ else args
    below_reference = references[0] if "__r" in function.__name__ else references[1]
    middle = (y + function(*references, **kwargs)) / 2
    return (above - middle * below) / ((below.detach() + below_reference) / 2)


def times_reciprocal(
    y: Tensor, function: Callable[..., Tensor], args: tuple, references: tuple, kwargs: dict, *, place: int
) -> Tensor:
    """For a product of two tensors whose argument at ``place`` is a reciprocal."""
    reciprocal, reference = args[place], references[place]
    both = reciprocal.detach() + reference
    gone = both == 0  # a reciprocal times 0
    total = both.masked_fill(gone, 1)
    share = 2 * (reciprocal.detach() / total) * reference
    weight = ((y + function(*references, **kwargs)) / total).masked_fill(gone, 0)
    return share * args[1 - place] + weight * reciprocal


def norm_root(y: Tensor, function: Callable[..., Tensor], args: tuple, references: tuple, kwargs: dict) -> Tensor:
    """For the root of a sum of squares: the change of the sum divided by the sum of the roots."""
    return _root(function(_half_way(args[0], references[0]), *args[1:], **kwargs) ** 2, y, function, references, kwargs)


def standard_deviation(y: Tensor, function: Callable, args: tuple, references: tuple, kwargs: dict) -> Tensor:
    """For a standard deviation, the root of a variance."""
    variance = torch.var(_half_way(args[0], references[0]), *args[1:], **kwargs)
    return _root(variance, y, function, references, kwargs)


def _root(square: Tensor, y: Tensor, function: Callable[..., Tensor], references: tuple, kwargs: dict) -> Tensor:
    return square / (y + function(*references, **kwargs)).clamp(min=torch.finfo(y.dtype).tiny)


def softmax(y: Tensor, function: Callable, args: tuple, references: tuple, kwargs: dict) -> Tensor:
    slope, log_change = _exponentials(args, references, kwargs)
    return slope * log_change


def log_softmax(y: Tensor, function: Callable, args: tuple, references: tuple, kwargs: dict) -> Tensor:
    return _exponentials(args, references, kwargs)[1]


def _exponentials(args: tuple, references: tuple, kwargs: dict) -> tuple[Tensor, Tensor]:
    """The slopes of exp at a softmax's logarithms, and a tensor with the logarithms' multipliers as derivative."""
    dim, x = (args[1] if len(args) > 1 else kwargs["dim"]), args[0]
    at, reference = (torch.log_softmax(_in_doubles(each.detach()), dim) for each in (x, references[0]))
    slope = _chord_slope(torch.exp, at, reference).to(x.dtype)
    x = _bounded(x)
    return slope, x - (slope * x).sum(dim, keepdim=True) / slope.sum(dim, keepdim=True)


def layer_norm(y: Tensor, function: Callable, args: tuple, references: tuple, kwargs: dict) -> Tensor:
    named = _arguments_by_name(("normalized_shape", "weight", "bias", "eps"), args, kwargs)
    axes = list(range(-len(named["normalized_shape"]), 0))
    centred = [z - z.mean(axes, keepdim=True) for z in (args[0], references[0])]
    return _times(_over_norm(*centred, axes, named.get("eps", 1e-5)), named.get("weight"))


def rms_norm(y: Tensor, function: Callable, args: tuple, references: tuple, kwargs: dict) -> Tensor:
    named = _arguments_by_name(("normalized_shape", "weight", "eps"), args, kwargs)
    eps, axes = named.get("eps"), list(range(-len(named["normalized_shape"]), 0))
    eps = torch.finfo(y.dtype).eps if eps is None else eps
    return _times(_over_norm(args[0], references[0], axes, eps), named.get("weight"))


def group_norm(y: Tensor, function: Callable, args: tuple, references: tuple, kwargs: dict) -> Tensor:
    named = _arguments_by_name(("num_groups", "weight", "bias", "eps"), args, kwargs)
    grouped = [z.unflatten(1, (named["num_groups"], -1)).flatten(2) for z in (args[0], references[0])]
    centred = [z - z.mean(2, keepdim=True) for z in grouped]
    normed = _over_norm(*centred, [2], named.get("eps", 1e-5)).reshape(y.shape)
    weight = named.get("weight")
    return _times(normed, weight if weight is None else weight.view(-1, *[1] * (y.dim() - 2)))


def instance_norm(y: Tensor, function: Callable, args: tuple, references: tuple, kwargs: dict) -> Tensor:
    named = _arguments_by_name(
        ("running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps"), args, kwargs
    )
    if not named.get("use_input_stats", True):
        return function(*args, **kwargs)  # affine
    own = {"num_groups": args[0].shape[1], "weight": named.get("weight"), "eps": named.get("eps", 1e-5)}
    return group_norm(y, function, args[:1], references, own)


def normalize(y: Tensor, function: Callable, args: tuple, references: tuple, kwargs: dict) -> Tensor:
    named = _arguments_by_name(("p", "dim", "eps"), args, kwargs)
    eps = named.get("eps", 1e-12) ** 2
    return _over_norm(args[0], references[0], [named.get("dim", 1)], eps, share=1)


def _over_norm(c: Tensor, r: Tensor, axes: list[int], eps: float, share: float | None = None) -> Tensor:
    """The multipliers of c / s with s^2 = eps + ``share`` times the sum of c^2; by default that is a mean."""
    at = c.detach()
    share = 1 / math.prod(c.shape[axis] for axis in axes) if share is None else share
    s, s_reference = ((share * z.square().sum(axes, keepdim=True) + eps).sqrt() for z in (at, r))
    mean_y, mean_c, mean_s = (at / s + r / s_reference) / 2, (at + r) / 2, (s + s_reference) / 2
    return (c - mean_y * share * (mean_c * c).sum(axes, keepdim=True) / mean_s) / mean_s


def _times(normed: Tensor, weight: Tensor | None) -> Tensor:
    return normed if weight is None else normed * weight


def _arguments_by_name(names: tuple[str, ...], args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments after the first, by name, whether they were given by position or by name."""
    return dict(zip(names, args[1:], strict=False)) | kwargs


def max_pool(dimensions: int, pool: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    """The approximation of max pooling over so many axes; ``pool`` returns values and places."""

    def approximate(y: Tensor, function: Callable, args: tuple, references: tuple, kwargs: dict) -> Tensor:
        options = {name: value for name, value in kwargs.items() if name != "return_indices"}
        x, r = args[0], references[0]
        (_, at), (_, reference_at) = (pool(z, *args[1:], **options) for z in (x.detach(), r))
        x, r, at, reference_at = (z.flatten(-dimensions) for z in (x, r, at, reference_at))
        return _maxima(x, r, at, reference_at).reshape(y.shape)

    return approximate


def largest(y: Tensor, function: Callable, args: tuple, references: tuple, kwargs: dict) -> Tensor:
    """For the maxima along axes, or of two tensors."""
    return _largest(y, *(_side_by_side(each, kwargs) for each in (args, references)))


def smallest(y: Tensor, function: Callable, args: tuple, references: tuple, kwargs: dict) -> Tensor:
    """For the minima along axes, or of two tensors: they are the maxima of what is negated."""
    return -_largest(y, *(-_side_by_side(each, kwargs) for each in (args, references)))


def _side_by_side(args: tuple, kwargs: dict) -> Tensor:
    """The numbers to choose from along the last axis: of several axes, or of two tensors."""
    if len(args) > 1 and isinstance(args[1], Tensor):
        return torch.stack(torch.broadcast_tensors(*args[:2]), -1)
    axes = _arguments_by_name(("dim",), args, kwargs)["dim"]
    axes = [axes] if isinstance(axes, int) else list(axes)
    return args[0].movedim(axes, [*range(-len(axes), 0)]).flatten(-len(axes))


def _largest(y: Tensor, x: Tensor, r: Tensor) -> Tensor:
    return _maxima(x, r, *(z.argmax(-1, keepdim=True) for z in (x.detach(), r))).reshape(y.shape)


def _maxima(x: Tensor, r: Tensor, at: Tensor, reference_at: Tensor) -> Tensor:
    """The maxima along the last axis, at places ``at`` in ``x`` and ``reference_at`` in ``r``."""
    change = x.detach().gather(-1, at) - r.gather(-1, reference_at)
    place = torch.where(change >= 0, at, reference_at)
    there = x.detach().gather(-1, place) - r.gather(-1, place)
    same = there == 0  # then the maxima are equal, and this place remains the largest
    return x.gather(-1, place) * torch.where(same, 1, change / there.masked_fill(same, 1))
