"""The degradation ladder of F-Fidelity (2410.02970), for every faithfulness metric: does noise in maps score worse?"""

from collections.abc import Iterator

import pandas as pd

from harness.reproducing.findings import Findings, numbers_of
from harness.reproducing.studies.degradation_ladder.claims import (
    blur_claims,
    control_claim,
    degraded_ig_claim,
    fidelity_claims,
    ladder_identities,
    order_claims,
    reason_claims,
)
from harness.reproducing.studies.degradation_ladder.drawn import fidelities_figure, ladder_figures
from harness.reproducing.studies.degradation_ladder.scores import (
    F_FIDELITY,
    FIDELITIES,
    OF_MAGNITUDES,
    ROAR,
    facts_of,
    faithfulness_metrics,
    fingerprint,
    mirrored_consistency,
    retrains,
    scores_of,
    scores_of_fidelities,
    scores_of_magnitudes,
)
from harness.reproducing.studies.degradation_ladder.tables import LadderTables
from harness.reproducing.study import StudySetting


def study(setting: StudySetting) -> Findings:
    """Which metrics rank maps with more and more noise rightly, from exact contributions and Integrated Gradients."""
    metrics = faithfulness_metrics()
    tables = LadderTables(
        {ground: _measured_scores(setting, ground, metrics) for ground in setting.sizes["grounds"]},
        {ground: _measured_facts(setting, ground) for ground in setting.sizes["grounds"]},
        setting.sizes["group"],
    )
    mirrored = setting.kept(
        "mirrored consistency",
        mirrored_consistency,
        samples=setting.sizes["mirrored"],
        train=setting.sizes["train"],
        code=fingerprint(["explanation_consistency"]),
    ).iloc[0]
    ranked = order_claims(tables, metrics)
    claims = [
        *ladder_identities(tables, mirrored),
        *fidelity_claims(tables),
        *blur_claims(tables),
        *reason_claims(tables, setting.sizes["samples"]),
        control_claim(tables, metrics),
        degraded_ig_claim(tables, metrics),
        *ranked,
    ]
    wrong = [metric for metric in metrics if any(c.name == f"{metric} ranks" and c.holds is not True for c in ranked)]
    figures = ladder_figures(tables, metrics, wrong)
    figures["fidelities"] = fidelities_figure(tables, [F_FIDELITY, *FIDELITIES, ROAR, OF_MAGNITUDES])
    return Findings(numbers_of(tables.numbers()), claims, figures, list(_ladder_notes(tables, metrics)))


def _measured_scores(setting: StudySetting, ground: str, metrics: list[str]) -> pd.DataFrame:
    """All scores of a ground; those of metrics that train models anew are parts of their own."""
    sizes = setting.sizes
    given = {"ground": ground, "samples": sizes["samples"], "train": sizes["train"]}
    retraining = {"retraining": sizes["retraining"]}
    plain = [metric for metric in metrics if not retrains(metric)]
    parts = [setting.kept(f"{ground} scores", scores_of, metrics=plain, **retraining, **given, code=fingerprint(plain))]
    for metric in metrics:
        if retrains(metric):
            own = {"metrics": [metric], "code": fingerprint([metric])}
            parts.append(setting.kept(f"{ground} {metric}", scores_of, **own, **retraining, **given))
    code = fingerprint([ROAR])
    parts.append(setting.kept(f"{ground} {OF_MAGNITUDES}", scores_of_magnitudes, **retraining, **given, code=code))
    code = fingerprint([F_FIDELITY])
    parts.append(setting.kept(f"{ground} fidelities", scores_of_fidelities, **given, code=code))
    return pd.concat(parts, ignore_index=True)


def _measured_facts(setting: StudySetting, ground: str) -> pd.Series:
    sizes, code = setting.sizes, fingerprint(["faithfulness_estimate"])
    given = {"ground": ground, "samples": sizes["samples"], "train": sizes["train"], "code": code}
    return setting.kept(f"{ground} facts", facts_of, **given).iloc[0]


def _ladder_notes(tables: LadderTables, metrics: list[str]) -> Iterator[str]:
    """What is left out, and what the grounds are like."""
    for ground in tables.scores:
        left: dict[str, list[str]] = {}
        for metric in metrics:
            if not tables.applies(ground, metric):
                left.setdefault(tables.why_not(ground, metric), []).append(metric)
        for why, names in left.items():
            yield f"Left out on the ground {ground}: {', '.join(names)} ({why})."
    facts = tables.facts
    listed = "; ".join(
        f"{ground} right on {each['accuracy']:.1%}, mean largest probability {each['probability']:.3f}"
        for ground, each in facts.items()
    )
    yield f"The models: {listed}."
    yield "deletion and aopc, insertion and abc, srg and abpc rank alike by construction: they are one vote, not two."
