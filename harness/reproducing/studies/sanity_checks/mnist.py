"""Random layers and permuted labels on zeros and ones of MNIST (Adebayo et al. 2018, arXiv:1810.03292).

Several nets in the arrangement of the paper's net for MNIST are trained here; tests are over them. A published CNN
stands beside them in the identities and in the numbers.
"""

import pandas as pd

from harness.reproducing.findings import Findings, numbers_of
from harness.reproducing.studies.sanity_checks.claims import NetValues, identities_of_nets, tendencies_of_nets
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
    rows_of_random_layers,
    rows_of_unrelated_models,
    sanity_drawings,
)
from harness.reproducing.studies.sanity_checks.unrelated import similarities_of_noise, similarities_of_unrelated_models
from harness.reproducing.studies.shared.tendencies import claims_of_tendencies, with_what_was_tried
from harness.reproducing.study import StudySetting

OWN, PUBLISHED = "own", "published"
# Tendency -> what was tried, for those that do not show here.
NOT_ON_ZEROS_AND_ONES: dict[str, str] = {}


def study(setting: StudySetting) -> Findings:
    """Cascades, single layers and permuted labels over several nets, and random layers of a published net."""
    sizes, bench, pixels = setting.sizes, SANITY_BENCHES[OWN], SANITY_BENCHES[OWN].side ** 2
    images = {name: sizes[name] for name in ("images", "epochs")}
    draws = {name: sizes[name] for name in ("smoothgrad", "vargrad", "steps")}
    twins = {name: sizes[name] for name in ("labelled", "twin_epochs", "twin_batch")}
    of_own = lambda name, compute, **given: of_numbered_nets(
        setting, name, compute, sizes["nets"], bench=OWN, **images, **given
    )
    similarities = of_own("random layers of net", similarities_of_net, **draws)
    labels = of_own("permuted labels of net", label_similarities_of_net, **draws, **twins)
    exact = of_own("identities of net", identities_of_net, **draws)
    unrelated = of_own("unrelated models on the images of net", similarities_of_unrelated_models)
    noise = setting.kept("noise", similarities_of_noise, side=bench.side, pairs=sizes["pairs"], seed=0)

    fewer = {"bench": PUBLISHED, **images, "images": sizes["published_images"], **draws}
    published = of_numbered_nets(setting, "random layers of the published net", similarities_of_net, 1, **fewer)
    published_exact = of_numbered_nets(setting, "identities of the published net", identities_of_net, 1, **fewer)

    tendencies = tendencies_of_nets(NetValues(similarities, labels, unrelated), pixels, black=True)
    claims = [
        *identities_of_nets(pd.concat([similarities, published]), pd.concat([exact, published_exact]), labels),
        *claims_of_tendencies(with_what_was_tried(tendencies, NOT_ON_ZEROS_AND_ONES), sizes["nets"]),
    ]
    rows = [
        *rows_of_random_layers(similarities, bench),
        *rows_of_random_layers(published, SANITY_BENCHES[PUBLISHED]),
        *rows_of_label_twins(labels, bench),
        *rows_of_unrelated_models(unrelated, noise, bench),
    ]
    return Findings(
        numbers_of(rows),
        claims,
        sanity_drawings(similarities, labels, unrelated, noise, sizes["images"], bench),
        list(notes_on_random_layers(similarities, exact, sizes["images"])),
    )
