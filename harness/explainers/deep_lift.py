"""DeepLift: the change of the target's logit from a baseline, passed back to the input operation by operation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._gradients import gradient_of, rows_at_once, tell_completeness
from harness.explainers._operations import DRIFT, Operations, operations_visible, traced
from harness.explainers._rescale_rules import LINEAR_OPERATIONS, References, rescale_rules
from harness.option_types import TRIED_STARTS, Count
from harness.predictor import check_outputs, target_logits
from harness.randomness import permutations
from harness.registry import explainer
from harness.removal.baselines import BaselineName
from harness.samples import Samples

# Of all contributions, signs ignored: rounding is far less than this, a change that autograd does not see seldom is.
MOST_MISSED = 1e-2


@explainer(complete_to="baseline", cost="2 F 1 B", tunable={"baseline": TRIED_STARTS})
def deep_lift(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, baseline: BaselineName | Tensor = "zero"
) -> Tensor:
    """DeepLift with the Rescale rule: the change of the target's logit from a baseline, passed back through each
    operation in proportion to the changes of its inputs (Shrikumar et al. 2017, 1704.02685).

    Inputs' shape; logit; the sum is f(x) - f(baseline) up to rounding. Elementwise functions and maxima follow the
    paper's rules. Attention, norms, gates and other products and quotients, for which the paper has no rule, are split
    exactly as ``harness.explainers._multipliers`` says. Of a random baseline it takes draw 0. Facts: ``operations``,
    and the relative ``completeness_error``. Not applicable to models with other nonlinear operations, like an LSTM;
    that compute differently for the input than for the baseline; or that hide part of the change from differentiation
    (``detach``, rounding); and as ``gradient``.

    Example: f(x) = relu(x1 + x2) - relu(x2) + relu(x1 - x2) at (1, 3), from the baseline (4, 0). Where x1 - x2 falls
    from 4 to -2 its ReLU falls from 4 to 0: with the slope 4/6, and not with the gradient 0 at x. The contributions of
    the three ReLUs, (-3, 3) + (0, -3) + (-2, -2), sum to f(x) - f(baseline) = 1 - 8.

    >>> harness.explain("deep_lift", relu_net, x, target, baseline=torch.tensor([4.0, 0.0]))
    tensor([[-5., -2.]])
    """
    start = context.baseline(baseline)
    return _mean_contributions(model, inputs, targets, context, 1, lambda sample, draw: start[sample])


@explainer(complete_to="background", stochastic=True, cost="samples x (2 F 1 B)", tunable={"samples": (20, 200)})
def deep_lift_shap(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, samples: Count = 50
) -> Tensor:
    """DeepLiftSHAP: DeepLift's contributions averaged over baselines drawn from the training inputs (Lundberg and Lee
    2017, 1705.07874).

    Inputs' shape; logit; the sum is f(x) less the mean of f over the baselines, up to rounding. Each sample draws its
    own ``samples`` different training inputs, or all where there are no more. For models that add up functions of
    single columns these are the columns' Shapley values, with the drawn inputs as background. Facts as of
    ``deep_lift``. Not applicable without training inputs, and as ``deep_lift``.

    Example: of f(x) = x1 x2 with the training inputs (0, 0) and (1, 1). From the first, f(x) = 3 is shared equally;
    from the second, x2 alone changes, by 2 times the mean 1 of x1. The means are 1.5 / 2 and (1.5 + 2) / 2.

    >>> rows = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> harness.explain("deep_lift_shap", product, x, target, train=rows)
    tensor([[0.7500, 1.7500]])
    """
    if context.train is None:
        raise NotApplicable("the baselines are training inputs; the data has none (give train=)")
    drawn = permutations(context.stream("deep_lift_shap baselines"), 1, len(context.train))[:, 0, :samples]

    def reference(sample: Tensor, draw: Tensor) -> Tensor:
        return context.train[drawn[sample, draw].to(context.train.device)].to(inputs)

    return _mean_contributions(model, inputs, targets, context, drawn.shape[1], reference)


def _mean_contributions(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    context: Samples,
    draws: int,
    reference: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Contributions (N, ...) averaged over baselines; ``reference(sample, draw)`` makes them for pairs of indices."""
    total, change = torch.zeros_like(inputs), torch.zeros(len(inputs), dtype=torch.float64, device=inputs.device)
    room = rows_at_once(context)
    for sample in torch.arange(len(inputs), device=inputs.device).split(max(1, room // draws)):
        for draw in torch.arange(draws, device=inputs.device).split(room):
            rows = sample.repeat_interleave(len(draw))
            contributions, changed, operations = _contributions(
                model, inputs[rows], reference(rows, draw.repeat(len(sample))), targets[rows]
            )
            total[sample] += contributions.unflatten(0, (-1, len(draw))).sum(1)
            change[sample] += changed.double().view(-1, len(draw)).sum(1)
    context.tell(operations=operations.report())
    tell_completeness(context, total / draws, change / draws)
    return total / draws


def _contributions(
    model: nn.Module, inputs: Tensor, baselines: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Operations]:
    """Each input's contributions from its own baseline, the change of its logit, and the operations seen."""
    references = References()
    rules = rescale_rules(references)
    with operations_visible(model), torch.enable_grad():  # the graph shows which arguments to keep
        passed = baselines.detach().clone().requires_grad_().clone()
        with Operations(rules):
            reference = target_logits(check_outputs(model(passed), len(targets)), targets).detach()
    if not reference.isfinite().all():
        raise NotApplicable("the output at the baseline is not finite, so that no change from it is known")
    references.begin()
    outputs, leaf, operations = traced(model, inputs, rules)
    references.end()
    outputs = check_outputs(outputs, len(targets))
    logits = target_logits(outputs, targets)
    without_rule = sorted(operations.report()["unruled"].keys() - LINEAR_OPERATIONS)
    if without_rule:
        raise NotApplicable(f"DeepLift has no rule for {', '.join(without_rule)} here, only the gradient would be left")
    contributions, change = (inputs - baselines) * gradient_of(logits, leaf), logits.detach() - reference
    _check_sum(contributions, change, outputs.detach().reshape(len(outputs), -1).abs().amax(1))
    return contributions, change, operations


def _check_sum(contributions: Tensor, change: Tensor, output: Tensor) -> None:
    """NotApplicable where contributions miss more of the change than rounding explains, or where rounding is large.

    ``output`` is the size of the outputs (N,). Contributions that are far larger and cancel may miss a change of its
    size by mere rounding.
    """
    each = contributions.double().flatten(1)
    magnitude, missed = each.abs().sum(1), (each.sum(1) - change).abs() - DRIFT * output
    if (missed > MOST_MISSED * torch.maximum(magnitude, change.abs())).any():
        raise NotApplicable(
            "contributions do not add up to the change of the logit: part of the model is hidden from differentiation, "
            "as by detach, no_grad, rounding, or a mask computed from the input"
        )
    if (missed > MOST_MISSED * torch.maximum(output, change.abs())).any():
        raise NotApplicable(
            f"contributions are up to {float((magnitude / output).max()):.1g} times the outputs and cancel, so that "
            "their rounding is larger than the change of the logit"
        )
