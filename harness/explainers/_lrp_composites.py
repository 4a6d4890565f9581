"""Which rule of layer-wise relevance propagation each kind of layer has: by composite, or set one by one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import UserError, unknown
from harness.explainers._coalitions import check_number
from harness.explainers._lrp_rules import RULES, LayerRule, rule_of

FIRST_LAYER_RULES = ("flat", "box", "same")
BIASES = ("redistributed", "absorbed")


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
    first         the rule of first convolutions, of FIRST_LAYER_RULES; None: that of the composite
    bias          whether the contributions of biases are ``redistributed`` to the inputs or ``absorbed``; None:
                  absorbed under the rules ``epsilon`` and ``gamma``, redistributed under the others
    epsilon       what the rule ``epsilon`` adds to sums
    gamma         how much more contributions with the output's sign count under the rule ``gamma``
    alpha         the share of contributions above 0 under the rule ``alpha_beta``
    """

    composite: str = "epsilon_plus_flat"
    rule: str | None = None
    dense: str | None = None
    convolution: str | None = None
    first: str | None = None
    bias: str | None = None
    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0

    def __post_init__(self) -> None:
        _check_choice("composite", self.composite, COMPOSITES)
        for option in ("rule", "dense", "convolution"):
            _check_choice(option, getattr(self, option), (None, *RULES))
        _check_choice("first", self.first, (None, *FIRST_LAYER_RULES))
        _check_choice("bias", self.bias, (None, *BIASES))
        check_number("epsilon", self.epsilon, 0, whole=False)
        check_number("gamma", self.gamma, 0, whole=False)
        check_number("alpha", self.alpha, 1, whole=False)
        if self.epsilon == 0:
            raise UserError(f"epsilon is {self.epsilon!r}, expected a number above 0: contributions may cancel")
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


def _check_choice(option: str, name: str | None, known: Iterable[str | None]) -> None:
    if name not in known:
        raise unknown(option, name, [each for each in known if each])
