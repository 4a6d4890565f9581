"""Layer-wise relevance propagation: a logit is passed down layer by layer by rules that keep the sum of relevance."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._gradients import in_chunks
from harness.explainers._lrp_composites import RelevanceRules
from harness.explainers._lrp_first_layers import Box, FirstRule, in_equal_shares
from harness.explainers._lrp_operations import Propagation
from harness.explainers._operations import traced
from harness.option_types import Positive
from harness.predictor import check_outputs, target_logits
from harness.registry import explainer
from harness.samples import Samples

EPSILON_PLUS_FLAT = RelevanceRules()


@explainer(
    cost="1 F 1 B",
    tunable={
        "composite": ("epsilon_plus", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box", "gamma"),
        "epsilon": (0.01, 0.1, 1.0),
    },
)
def lrp(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    rules: RelevanceRules = EPSILON_PLUS_FLAT,
) -> Tensor:
    """LRP: the target's logit passed down to the inputs layer by layer, in proportion to the contributions that each
    layer's rule counts (Bach et al. 2015, 10.1371/journal.pone.0130140; Kohlbrenner et al. 2020, 1910.09840).

    Inputs' shape; logit; the sum is f(x) less the relevance that biases keep. ``composite`` says which rules dense
    layers, convolutions, and the first convolutions have:

    - ``epsilon_plus_flat``: epsilon, zplus, flat; ``epsilon_plus`` the same without flat;
    - ``epsilon_alpha2_beta1_flat``: epsilon, alpha_beta, flat; ``epsilon_alpha2_beta1`` the same without flat;
    - ``epsilon_gamma_box``: epsilon, gamma, box;
    - ``gamma``: gamma for both, for nets with attention (2402.05602).

    ``rule`` sets one rule for dense layers and convolutions instead; ``dense``, ``convolution`` and ``first`` each set
    one of the three. A rule says how relevance is shared among the contributions z = x * w of the inputs x with the
    weights w:

    - ``epsilon``: in proportion to z, divided by their sum plus ``epsilon`` with the sum's sign;
    - ``zplus``: in proportion to those z that are above 0 (1512.02479). In dense layers too, it gives all classes
      nearly the same map;
    - ``gamma``: in proportion to z, where the z with the output's sign count (1 + ``gamma``) times
      (10.1007/978-3-030-28954-6_10);
    - ``alpha_beta``: ``alpha`` times in proportion to the z above 0, less ``alpha`` - 1 times in proportion to those
      below; where an output has none of one kind, that part is lost.

    ``first`` is the rule of convolutions that see the input: ``flat`` shares equally among the pixels that they see,
    ``box`` in proportion to x w - low w+ - high w- with the declared range of the inputs (NotApplicable without one),
    and ``same`` uses the rule of convolutions, as is always done on tokens. Under ``epsilon`` and ``gamma`` a bias
    counts among the contributions and keeps its share, as in the papers; ``epsilon`` in all layers is then input x
    gradient on ReLU nets. Under the other rules the inputs get the contributions of biases as well. ``bias`` =
    ``absorbed`` or ``redistributed`` sets one of the two for all rules. With ``redistributed`` the sum is f(x) if every
    output has contributions to pass its relevance to, but ``epsilon`` and ``gamma`` then explode on deep nets, even
    beyond float32, and turn the relevance over where a bias decides an output's sign.

    BatchNorm is merged with the convolution or linear layer directly before it. Functions of single numbers and norms
    (their deviation held constant) pass all relevance on, maxima pass it to the winner, and products of two tensors
    that depend on the input give half to each. Operations that only scale and move the input before the first layer
    keep its relevance. After differences of inputs, as from their mean, no layer counts as a first one.

    Facts: ``operations``, with those that have no rule and are differentiated plainly, like softmax; ``rules``, those
    that were chosen; the numbers of linear layers, of first convolutions with a rule of their own, and of merged norms;
    ``relevance_over_output``, the sum over f(x), which is far from 1 where biases keep much, or where relevance meets
    outputs that consist of a bias alone (EfficientNets). Not applicable without a convolution or linear layer, and to
    LSTM, GRU and RNN layers.

    Example: f(x) = relu(x1 + x2) - relu(x2) + relu(x1 - x2) at (1, 3). The ReLUs contribute 4, -3 and 0 to f(x) = 1; of
    the 4, x1 and x2 contribute 1 and 3, of the -3 all is x2. Under ``zplus`` the first ReLU gets all of f(x) = 1.

    >>> harness.explain("lrp", relu_net, x, target).round(decimals=4)
    tensor([[1., 0.]])
    >>> harness.explain("lrp", relu_net, x, target, rule="zplus")
    tensor([[0.2500, 0.7500]])
    """
    first = _first_rule(rules.chosen.first, context)
    start = lambda: Propagation(rules.of("dense"), rules.of("convolution"), first)
    context.tell(rules=", ".join(rules.chosen))
    return _propagated(model, inputs, targets, context, start, _need_layers)


def _first_rule(name: str, context: Samples) -> FirstRule | None:
    """The rule of first convolutions; None where they have that of other convolutions."""
    if name == "same" or context.units.modality == "tokens":  # neighbours of a word are no part of it
        return None
    if name == "flat":
        return in_equal_shares
    if context.value_range is None:
        raise NotApplicable(
            "the rule box needs the lowest and the highest input, which are not declared (give value_range=)"
        )
    return Box(*context.input_range())


@explainer(cost="1 F 1 B", tunable={"epsilon": (0.01, 0.1)})
def attn_lrp(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, epsilon: Positive = 1e-6
) -> Tensor:
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
    return _propagated(model, inputs, targets, context, lambda: _through_attention(epsilon, "plain"), _need_attention)


@explainer(cost="1 F 1 B", tunable={"epsilon": (0.01, 0.1)})
def cp_lrp(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, epsilon: Positive = 1e-6) -> Tensor:
    """CP-LRP: layer-wise relevance propagation with attention weights and the deviations of layer norms held constant
    (Ali et al. 2022, 2202.07304).

    Inputs' shape; logit. Everything else is as in ``attn_lrp``. The sum is f(x) on models without biases of any kind,
    position embeddings and class tokens included; such biases absorb relevance.

    Example: attending(x) = sum_j a_j x_j with the attention a = softmax(x_1 x), (1/4, 3/4) at x = (1, 2.099). With
    constant attention each token's relevance is a_j x_j.

    >>> harness.explain("cp_lrp", attending, text).flatten()
    tensor([0.2500, 1.5740])
    """
    start = lambda: _through_attention(epsilon, "constant")
    return _propagated(model, inputs, targets, context, start, _need_attention)


def _through_attention(epsilon: float, softmax: str) -> Propagation:
    """The epsilon rule in all layers, with biases that keep their share."""
    rule = RelevanceRules(rule="epsilon", bias="absorbed", epsilon=epsilon).of("dense")
    return Propagation(rule, rule, softmax=softmax)


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
            first_layers=propagation.specials,
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
