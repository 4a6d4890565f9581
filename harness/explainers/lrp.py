"""Layer-wise relevance propagation: a logit is passed down layer by layer by rules that keep the sum of relevance."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable, UserError, unknown
from harness.explainers._coalitions import check_number
from harness.explainers._gradients import in_chunks
from harness.explainers._lrp_operations import Propagation
from harness.explainers._lrp_rules import RULES, LayerRule, rule_of
from harness.explainers._operations import traced
from harness.predictor import check_outputs, target_logits
from harness.registry import explainer
from harness.samples import Samples

FIRST_LAYER_RULES = ("flat", "same")
BIASES = ("redistributed", "absorbed")


@explainer(complete_to="output", cost="1 F 1 B")
def lrp(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    rule: str = "zplus",
    first: str = "flat",
    bias: str = "redistributed",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    alpha: float = 2.0,
) -> Tensor:
    """LRP: the target's logit passed down to the inputs layer by layer, in proportion to the contributions that a rule
    counts (Bach et al. 2015, 10.1371/journal.pone.0130140; Kohlbrenner et al. 2020, 1910.09840).

    Inputs' shape; logit; the sum is f(x) if every output has contributions to pass its relevance to. ``rule`` says how
    relevance is shared among the contributions z = x * w of the inputs x with the weights w:

    - ``zplus``: in proportion to those z that are above 0 (1512.02479);
    - ``epsilon``: in proportion to z, divided by their sum plus ``epsilon`` with the sum's sign;
    - ``gamma``: in proportion to z, where the z with the output's sign count (1 + ``gamma``) times
      (10.1007/978-3-030-28954-6_10);
    - ``alpha_beta``: ``alpha`` times in proportion to the z above 0, less ``alpha`` - 1 times in proportion to those
      below; where an output has none of one kind, that part is lost.

    ``first`` is the rule of the first convolutions on images: ``flat`` shares equally among the pixels that they see,
    ``same`` uses ``rule``. Linear layers, and tables, tokens and series, have no flat rule and use ``rule``. ``bias`` =
    ``redistributed`` gives the contributions of biases to the inputs as well. ``absorbed`` counts a bias among the
    contributions, and it keeps its share; ``epsilon`` is then input x gradient on ReLU nets, as it also is, by theory,
    on those without biases.

    BatchNorm is merged with the convolution or linear layer directly before it. Functions of single numbers and norms
    (their deviation held constant) pass all relevance on, maxima pass it to the winner, and products of two tensors
    that depend on the input give half to each. Operations that only scale and move the input before the first layer
    keep its relevance. After differences of inputs, as from their mean, no layer counts as a first one.

    Facts: ``operations``, with those that have no rule and are differentiated plainly, like softmax; the numbers of
    linear, flat and merged layers; ``relevance_over_output``, the sum over f(x). It is far from 1 where relevance meets
    outputs that consist of a bias alone (EfficientNets). ``epsilon`` and ``gamma`` can explode on deep nets with
    BatchNorm, even beyond float32, which gives NaN. Not applicable without a convolution or linear layer, and to LSTM,
    GRU and RNN layers.

    Example: f(x) = relu(x1 + x2) - relu(x2) + relu(x1 - x2) at (1, 3). The only contribution above 0 to f(x) = 4 - 3 +
    0 is that of the first ReLU. It gets all of f(x) = 1, and its inputs 1 and 3 share that as 1 : 3.

    >>> harness.explain("lrp", relu_net, x, target)
    tensor([[0.2500, 0.7500]])
    """
    if first not in FIRST_LAYER_RULES:
        raise unknown("first", first, FIRST_LAYER_RULES)
    chosen = _checked_rule(rule, bias, epsilon, gamma, alpha)
    flat = first == "flat" and context.units.modality == "image"
    return _propagated(model, inputs, targets, context, lambda: Propagation(chosen, flat), _need_layers)


@explainer(cost="1 F 1 B")
def attn_lrp(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, epsilon: float = 1e-6) -> Tensor:
    """AttnLRP: layer-wise relevance propagation through attention, with half of a product's relevance for each factor,
    softmax by its derivative, and the deviations of layer norms held constant (Achtibat et al. 2024, 2402.05602).

    Inputs' shape; logit. Linear layers use the paper's ``epsilon`` rule, with biases that keep their share; functions
    of single numbers pass all relevance on. The sum is not f(x): biases and softmaxes absorb relevance, by design.
    Facts as of ``lrp``. Not applicable without attention, which is a softmax and a matrix product of two tensors that
    depend on the input, and to LSTM, GRU and RNN layers.

    Example: attending(x) = sum_j a_j x_j with the attention a = softmax(x_1 x), (1/4, 3/4) at x = (1, 2.099). Half of
    each product a_j x_j, (0.125, 0.787), goes to the value x_j; what goes to a_j passes through the softmax.

    >>> harness.explain("attn_lrp", attending, text).flatten()
    tensor([0.1301, 0.8951])
    """
    rule = _checked_rule("epsilon", "absorbed", epsilon)
    return _propagated(model, inputs, targets, context, lambda: Propagation(rule, softmax="plain"), _need_attention)


@explainer(cost="1 F 1 B")
def cp_lrp(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, epsilon: float = 1e-6) -> Tensor:
    """CP-LRP: layer-wise relevance propagation with attention weights and the deviations of layer norms held constant
    (Ali et al. 2022, 2202.07304).

    Inputs' shape; logit. Everything else is as in ``attn_lrp``. The sum is f(x) on models without biases of any kind,
    position embeddings and class tokens included; such biases absorb relevance.

    Example: attending(x) = sum_j a_j x_j with the attention a = softmax(x_1 x), (1/4, 3/4) at x = (1, 2.099). With
    constant attention each token's relevance is a_j x_j.

    >>> harness.explain("cp_lrp", attending, text).flatten()
    tensor([0.2500, 1.5740])
    """
    rule = _checked_rule("epsilon", "absorbed", epsilon)
    return _propagated(model, inputs, targets, context, lambda: Propagation(rule, softmax="constant"), _need_attention)


def _checked_rule(rule: str, bias: str, epsilon: float, gamma: float = 0.0, alpha: float = 1.0) -> LayerRule:
    """The rule of linear layers with these options, or a UserError that names the wrong one."""
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    if bias not in BIASES:
        raise unknown("bias", bias, BIASES)
    check_number("epsilon", epsilon, 0, whole=False)
    check_number("gamma", gamma, 0, whole=False)
    check_number("alpha", alpha, 1, whole=False)
    if epsilon == 0:
        raise UserError(f"epsilon is {epsilon!r}, expected a number above 0: contributions may cancel")
    return rule_of(rule, epsilon, gamma, alpha, bias == "absorbed")


def _propagated(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    context: Samples,
    start: Callable[[], Propagation],
    check: Callable[[Propagation], None],
) -> Tensor:
    """Relevance of the inputs, a chunk of samples at a time; tells the facts of ``lrp``."""

    def of_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
        propagation = start()
        outputs, leaf, operations = traced(model, inputs[rows], propagation.rules())
        check(propagation)
        chosen = target_logits(check_outputs(outputs, len(rows)), targets[rows])
        if not chosen.requires_grad:
            raise NotApplicable("no relevance of the model's output reaches its input")
        relevance = propagation.relevance(chosen, leaf)
        context.tell(
            operations=operations.report(),
            linear_layers=propagation.layers,
            flat_layers=propagation.flattened,
            merged_norms=propagation.merged,
        )
        return relevance, chosen.detach()

    relevance, logits = map(torch.cat, zip(*in_chunks(context, of_rows), strict=True))
    context.tell(relevance_over_output=relevance.flatten(1).double().sum(1) / logits.double())
    return relevance


def _need_layers(propagation: Propagation) -> None:
    if not propagation.layers:
        raise NotApplicable("no convolution and no linear layer was seen that the input passes through")


def _need_attention(propagation: Propagation) -> None:
    if not propagation.softmaxes or not propagation.products:
        raise NotApplicable("no attention was seen: no softmax and product of two tensors that depend on the input")
