"""Which rule of layer-wise relevance propagation each kind of layer has: by composite, or set one by one."""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from harness.errors import UserError
from harness.explainers._lrp_rules import LayerRule, Rule, rule_of
from harness.option_types import NotNegative, Positive, Range


class Composite(NamedTuple):
    """The rules of dense layers, of convolutions, and of the first convolutions."""

    dense: str
    convolution: str
    first: str


# By the names that zennit gives them (2106.13200). ``gamma`` is the one of vision transformers in 2402.05602.
COMPOSITES = {
    "epsilon_plus": Composite("epsilon", "zplus", "same"),
    "epsilon_plus_flat": Composite("epsilon", "zplus", "flat"),
    "epsilon_alpha2_beta1": Composite("epsilon", "alpha_beta", "same"),
    "epsilon_alpha2_beta1_flat": Composite("epsilon", "alpha_beta", "flat"),
    "epsilon_gamma_box": Composite("epsilon", "gamma", "box"),
    "gamma": Composite("gamma", "gamma", "same"),
}

# Under these rules contributions cancel, so that a small sum would get the whole relevance of a large bias, layer after
# layer, and with the wrong sign where the bias decides the output's: after twelve dense layers relevance grows to 1e7
# times the output. So biases keep their share there, as in the papers. Under the others, contributions do not cancel.
CANCELLING = ("epsilon", "gamma")


@dataclass(frozen=True)
class RelevanceRules:
    """Options of ``lrp``: the rule of each kind of layer. The composite sets all of them; those after it replace some.

    composite     a name of COMPOSITES
    rule          one rule for dense layers and convolutions alike, of RULES; None: those of the composite
    dense         the rule of dense layers, of RULES; None: ``rule``, or else that of the composite
    convolution   the rule of convolutions, in the same way
    first         the rule of first convolutions; None: that of the composite
    bias          whether the contributions of biases are ``redistributed`` to the inputs or ``absorbed``; None:
                  absorbed under the rules ``epsilon`` and ``gamma``, redistributed under the others
    epsilon       what the rule ``epsilon`` adds to sums
    gamma         how much more contributions with the output's sign count under the rule ``gamma``
    alpha         the share of contributions above 0 under the rule ``alpha_beta``
    """

    composite: Literal[
        "epsilon_plus",
        "epsilon_plus_flat",
        "epsilon_alpha2_beta1",
        "epsilon_alpha2_beta1_flat",
        "epsilon_gamma_box",
        "gamma",
    ] = "epsilon_plus_flat"
    rule: Rule | None = None
    dense: Rule | None = None
    convolution: Rule | None = None
    first: Literal["flat", "box", "same"] | None = None
    bias: Literal["redistributed", "absorbed"] | None = None
    epsilon: Positive = 1e-6
    gamma: NotNegative = 0.25
    alpha: Annotated[float, Range(1, 1e6)] = 2.0

    def __post_init__(self) -> None:
        if "alpha2" in self.composite and self.alpha != 2:
            raise UserError(
                f"alpha is {self.alpha!r}, but composite={self.composite} stands for 2; give "
                f"convolution=alpha_beta instead"
            )

    @property
    def chosen(self) -> Composite:
        """The names of the rules that apply."""
        own = COMPOSITES[self.composite]
        dense, convolution = self.dense or self.rule or own.dense, self.convolution or self.rule or own.convolution
        return Composite(dense, convolution, self.first or own.first)

    def of(self, kind: str) -> LayerRule:
        """The rule of ``dense`` layers or of each ``convolution``."""
        name = getattr(self.chosen, kind)
        absorbs = name in CANCELLING if self.bias is None else self.bias == "absorbed"
        return rule_of(name, self.epsilon, self.gamma, self.alpha, absorbs)
