"""Layer-wise relevance propagation: a logit handed down layer by layer, each rule keeping what it hands on."""

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
    """The target's logit handed down to the inputs layer by layer, in proportion to contributions that a rule counts
    (Bach et al. 2015, 10.1371/journal.pone.0130140; Kohlbrenner et al. 2020, 1910.09840).

    Inputs' shape; logit; the sum is f(x) where every output has contributions to hand it to. ``rule``, with z = x * w:

    - ``zplus``: in proportion to the z above 0 (1512.02479), signs of x and w counted;
    - ``epsilon``: to z, over their sum plus ``epsilon`` with its sign;
    - ``gamma``: to z with (1 + ``gamma``) times those of the output's sign (10.1007/978-3-030-28954-6_10);
    - ``alpha_beta``: ``alpha`` times those above 0 less ``alpha`` - 1 times those below; where an output has none of
      one kind, that part is lost.

    ``first`` = ``flat``: the first convolutions of images, however many look at the input, share equally among the
    pixels they see; linear layers, and tables, tokens and series, have no such rule and take ``rule``, as all do with
    ``same``. ``bias`` = ``redistributed`` gives what biases contribute to the inputs as well; ``absorbed`` counts a
    bias among the contributions and lets it keep its part, so that ``epsilon`` is input x gradient on ReLU nets. It
    is that too, by theory, where there are no biases.

    BatchNorm is one layer with the convolution or linear layer right before it. Functions of single numbers and norms
    (their deviation held constant) pass all relevance on, maxima give it to the winner, products of two tensors that
    depend on the input half to each. What only scales and moves the input before the first layer keeps its relevance;
    after differences of inputs, as from their mean, no layer is a first one.
    Told: operations without a rule, like softmax, which are differentiated plainly; linear, flat and merged layers;
    relevance_over_output, the sum over f(x). That is far from 1 where relevance meets outputs that only a bias
    explains (EfficientNets), and ``epsilon`` and ``gamma`` explode on deep nets with BatchNorm, beyond float32 even,
    which gives NaN. Not applicable without convolution or linear layer, and to LSTM, GRU and RNN layers.
    """
    if first not in FIRST_LAYER_RULES:
        raise unknown("first", first, FIRST_LAYER_RULES)
    chosen = _checked_rule(rule, bias, epsilon, gamma, alpha)
    flat = first == "flat" and context.units.modality == "image"
    return _propagated(model, inputs, targets, context, lambda: Propagation(chosen, flat), _need_layers)


@explainer(cost="1 F 1 B")
def attn_lrp(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, epsilon: float = 1e-6) -> Tensor:
    """Layer-wise relevance propagation through attention: half of a product's relevance to each factor, the softmax by
    its own derivative, layer norms with their deviation constant (Achtibat et al. 2024, 2402.05602).

    Inputs' shape; logit. Linear layers take the paper's ``epsilon`` rule with biases that keep their part; functions of
    single numbers pass all relevance on. The sum is not f(x): biases and softmaxes absorb relevance, by design. Tells
    what ``lrp`` tells. Not applicable where no attention is seen, a softmax and a matrix product of two tensors that
    depend on the input, nor to LSTM, GRU and RNN layers.
    """
    chosen = _checked_rule("epsilon", "absorbed", epsilon)
    return _propagated(model, inputs, targets, context, lambda: Propagation(chosen, softmax="plain"), _need_attention)


@explainer(cost="1 F 1 B")
def cp_lrp(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, epsilon: float = 1e-6) -> Tensor:
    """Layer-wise relevance propagation with attention weights and the deviations of layer norms held constant (Ali et
    al. 2022, 2202.07304).

    Inputs' shape; logit. All else as in ``attn_lrp``. The sum is f(x) on models without biases of any kind, position
    embeddings and class tokens among them; else these absorb relevance.
    """
    chosen = _checked_rule("epsilon", "absorbed", epsilon)
    return _propagated(
        model, inputs, targets, context, lambda: Propagation(chosen, softmax="constant"), _need_attention
    )


def _checked_rule(rule: str, bias: str, epsilon: float, gamma: float = 0.0, alpha: float = 1.0) -> LayerRule:
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
    """Relevance of the inputs, a chunk of samples at a time, and what is to be told of it."""

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
