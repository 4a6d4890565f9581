"""Random layers and permuted labels: which explanations notice, by which similarity (Adebayo et al. 2018, 1810.03292).

Nets for digits of 8 x 8 pixels are trained here. Their layers get new weights from their own initialisers, from the
logits down or one at a time, and each explainer's map is compared with that of the trained net.
"""

from harness.reproducing.findings import Findings, numbers_of
from harness.reproducing.studies.sanity_checks.claims import (
    NetValues,
    claims_of_unrelated_models,
    identities_of_nets,
    tendencies_of_nets,
)
from harness.reproducing.studies.sanity_checks.figures import multiplier_drawn
from harness.reproducing.studies.sanity_checks.nets import (
    SANITY_BENCHES,
    identities_of_net,
    label_similarities_of_net,
    similarities_of_net,
)
from harness.reproducing.studies.sanity_checks.report import (
    notes_on_random_layers,
    of_numbered_nets,
    rows_of_label_twins,
    rows_of_magnitudes,
    rows_of_random_layers,
    rows_of_unrelated_models,
    sanity_drawings,
    simulated_models,
)
from harness.reproducing.studies.sanity_checks.unrelated import similarities_of_noise, similarities_of_unrelated_models
from harness.reproducing.studies.shared.tendencies import claims_of_tendencies
from harness.reproducing.study import StudySetting

BENCH = "digits"


def study(setting: StudySetting) -> Findings:
    """Cascades, single layers and permuted labels over several nets, and unrelated linear models beside them."""
    sizes, bench = setting.sizes, SANITY_BENCHES[BENCH]
    images = {"bench": BENCH, **{name: sizes[name] for name in ("images", "epochs")}}
    maps = images | {name: sizes[name] for name in ("smoothgrad", "vargrad", "steps")}
    twins = maps | {name: sizes[name] for name in ("labelled", "twin_epochs", "twin_batch")}
    of_all = lambda name, compute, given: of_numbered_nets(setting, name, compute, sizes["nets"], **given)
    similarities = of_all("random layers of net", similarities_of_net, maps)
    labels = of_all("permuted labels of net", label_similarities_of_net, twins)
    exact = of_all("identities of net", identities_of_net, maps)
    unrelated = of_all("unrelated models on the images of net", similarities_of_unrelated_models, images)
    noise = setting.kept("noise", similarities_of_noise, side=bench.side, pairs=sizes["pairs"], seed=0)
    gradients, magnitudes = simulated_models(setting)
    of = NetValues(similarities, labels, unrelated)
    claims = [
        *identities_of_nets(similarities, exact, labels),
        *claims_of_unrelated_models(gradients, magnitudes),
        *claims_of_tendencies(tendencies_of_nets(of, bench.side**2), sizes["nets"]),
    ]
    rows = [
        *rows_of_random_layers(similarities, bench),
        *rows_of_label_twins(labels, bench),
        *rows_of_unrelated_models(unrelated, noise, bench),
        *rows_of_magnitudes(magnitudes),
    ]
    return Findings(
        numbers_of(rows),
        claims,
        {
            **sanity_drawings(similarities, labels, unrelated, noise, sizes["images"], bench),
            "multiplier": multiplier_drawn(magnitudes, "Dots: mean over pairs of models with 95 % intervals."),
        },
        list(notes_on_random_layers(similarities, exact, sizes["images"])),
    )
