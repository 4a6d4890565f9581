"""How each explainer stands: against the best explainer and against the best control, by one family of tests."""

from collections.abc import Collection

import pandas as pd

from harness.results.family import Family

REFERENCES = ("best", "control")
AGAINST = ("vs", "low", "high", "p", "effect", "share")


def standing(family: Family, controls: Collection[str] = ()) -> pd.DataFrame:
    """One row per explainer, which is the index, the best mean first.

    ``mean`` is signed so that higher is better; ``letters``; ``best`` marks those not shown to be worse than the best,
    and ``beats_control`` those shown to be better than the best control.
    ``vs_best low_best high_best p_best effect_best share_best`` are the mean difference to the best explainer that is
    no control (positive where better), its interval, p-value, size in standard deviations of the differences, and the
    share of the samples that are better; the same with ``control`` for the best control. They are missing for the
    reference itself, and ``.._control`` for controls. Intervals and p-values are those of the family: they hold
    together for all pairs.
    """
    own = [name for name in family.names if name not in controls]
    best, control = family.best(own or family.names), family.best(controls)
    rows = [
        {
            "explainer": name,
            "mean": family.mean[place],
            "letters": family.letters[name],
            "best": best is not None and not family.better(best, name),
            "beats_control": control is not None and name not in controls and family.better(name, control),
            **(_against(family, name, best, "best") if best not in (None, name) else {}),
            **(_against(family, name, control, "control") if control is not None and name not in controls else {}),
        }
        for place, name in enumerate(family.names)
    ]
    columns = [
        "explainer",
        "mean",
        "letters",
        "best",
        "beats_control",
        *(f"{what}_{word}" for word in REFERENCES for what in AGAINST),
    ]
    frame = pd.DataFrame(rows, columns=columns).set_index("explainer")
    return frame.sort_values("mean", ascending=False, kind="stable")


def _against(family: Family, name: str, reference: str, word: str) -> dict[str, float]:
    low, high = family.interval(name, reference)
    return {
        f"vs_{word}": family.difference(name, reference),
        f"low_{word}": low,
        f"high_{word}": high,
        f"p_{word}": family.p_of(name, reference),
        f"effect_{word}": family.effect(name, reference),
        f"share_{word}": family.share_better(name, reference),
    }
