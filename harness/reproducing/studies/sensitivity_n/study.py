"""Sensitivity-n on four small nets: which explainers are equal, which are exact, and in which order they come
(Ancona et al. 2018, Towards better understanding of gradient-based attribution methods, arXiv:1711.06104)."""

from harness.reproducing.findings import Findings, numbers_of
from harness.reproducing.studies.sensitivity_n.additive import additive_correlations
from harness.reproducing.studies.sensitivity_n.claims import (
    additive_claims,
    equalities,
    nearly_linear,
    orders,
    scores_that_are_exact,
)
from harness.reproducing.studies.sensitivity_n.curves import sensitivity_of_net, spread_of_net
from harness.reproducing.studies.sensitivity_n.exact import gaps_of_net
from harness.reproducing.studies.sensitivity_n.nets import SENSITIVITY_BENCHES, TANH, TANH_BARE
from harness.reproducing.studies.sensitivity_n.report import (
    curves_drawn,
    of_all_nets,
    of_undefined_scores,
    rows_of_curves,
    rows_of_spreads,
)
from harness.reproducing.study import StudySetting

BENCH = "xai_tris"


def study(setting: StudySetting) -> Findings:
    """Equal maps and complete sums, flat curves on an additive function, and sensitivity-n on four nets."""
    sizes, bench = setting.sizes, SENSITIVITY_BENCHES[BENCH]
    of_nets = {"epochs": sizes["epochs"], "images": sizes["images"]}
    subsets = {"sizes": sizes["sizes"], "draws": sizes["draws"]}
    few = {"epochs": sizes["epochs"], "images": sizes["spread_images"], **subsets}
    gaps = of_all_nets(setting, "gaps", gaps_of_net, BENCH, bench.nets, **of_nets)
    curves = of_all_nets(setting, "curves", sensitivity_of_net, BENCH, bench.nets, **of_nets, **subsets)
    spreads = of_all_nets(setting, "spread", spread_of_net, BENCH, (TANH, TANH_BARE), **few, shares=sizes["shares"])
    additive = setting.kept("additive", additive_correlations, **sizes["additive"])
    claims = [
        *equalities(gaps),
        *scores_that_are_exact(curves),
        *additive_claims(additive),
        *orders(curves),
        *nearly_linear(spreads),
    ]
    rows = [*rows_of_curves(curves, bench), *rows_of_spreads(spreads, bench)]
    drawings = {"sensitivity_n": curves_drawn(curves, bench)}
    return Findings(numbers_of(rows), claims, drawings, [of_undefined_scores(curves)])
