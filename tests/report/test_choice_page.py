"""The page of harness choose: the answer, the race, and the evidence of each step."""

import numpy as np
import pandas as pd

from harness.choosing.race import Race

HOSTILE = "<script>alert(1)</script>\"'</script> <img src=http://evil.example/x onerror=alert(1)>"
OWN = (
    "lrp_epsilon_plus attention_rollout integrated_gradients expected_gradients deep_lift saliency input_x_gradient "
    "smooth_grad guided_backprop grad_cam score_cam layer_cam rise lime kernel_shap occlusion sobol hsic fast_shap "
    "extremal_perturbation gradient_shap deconvolution blur_ig xrai anchors"
).split()
CONTROLS = ["random", "blurred_random", "edge", "center"]
LATE = ["kernel_shap", "extremal_perturbation", "anchors"]
METRICS = ["srg mean", "srg blur", "srg uniform_noise"]
ROUNDS = (8, 8, 16, 32, 64)


def race_of(names, means, generator, late=()):
    """The table of a race whose scores have these means, as the rounds of a choice write it."""
    scores = {n: np.clip(means[n] + generator.normal(0, 0.05, 128), -1, 1) for n in names}
    race, tables, left, seen = Race(names, bounds=(-1, 1), alpha=0.025, late=late), [], {}, 0

    def look(number):
        for drop in race.drop():
            left[drop.name] = f"worse than {drop.by} by {drop.difference:.2g} after {drop.samples} samples"
        tables.append(pd.DataFrame(race.table()).assign(round=number))

    for number, size in enumerate(ROUNDS, start=1):
        race.play({name: scores[name][seen : seen + size] for name in race.taking_part})
        seen += size
        if number == 3 and "grad_cam" in race.taking_part:
            race.withdraw("grad_cam")
            left["grad_cam"] = "failed: RuntimeError: out of memory"
        look(number)
        if number == 2:
            for name in late[:2]:
                for start, end in ((0, 8), (8, 16)):
                    if name not in left:
                        race.catch_up(name, scores[name][start:end])
                        look(number)
    left |= {name: "not measured: it is dear, and the budget did not suffice" for name in late[2:]}
    return pd.concat(tables, ignore_index=True), left, race.taking_part


def world(
    own=tuple(OWN), controls=tuple(CONTROLS), metrics=tuple(METRICS), late=tuple(LATE), out=("tcav", "dyna_mask")
):
    """The facts and tables of a choice among explainers, of which the first is recommended."""
    generator = np.random.default_rng(0)
    best, second, *_ = own
    means = {n: 0.42 - 0.6 * (place / len(own)) ** 1.7 for place, n in enumerate(own)}
    means |= {second: means[best] - 0.002} | {n: 0.02 * place for place, n in enumerate(controls)}
    race, left, stay = race_of([*own, *controls], means, generator, late)
    variant = f"{best} epsilon=0.1"
    confirmed = [variant, *(n for n in stay if n not in controls), *controls[:2]]
    members, control = [best, second, variant], controls[0]
    tables = {
        "candidates": candidates([*own, *controls, variant], controls, left, members, out),
        "ladder": ladder(metrics),
        "agreement": pd.DataFrame(
            [{"metric": a, "other": b, "tau_b": 0.8} for a, b in zip(metrics, metrics[1:], strict=False)]
        ),
        "race": race,
        "tuning": rungs(best, variant),
        "held_out": held_out(best, second, variant),
        "confirmation": confirmation(confirmed, members, means, controls, control),
        "conditions": conditions(members),
    }
    return facts(members, means, control, metrics), tables


def candidates(names, controls, left, members, out):
    rows = [
        {
            "explainer": name,
            "control": name in controls,
            "left_out": "it does not explain inputs of the kind image" if name in out else "",
            "left_race": left.get(name, ""),
            "in_answer": name in members,
            "declared_evaluations": 2 ** (place % 11),
            "evaluations": float("nan") if place % 5 == 4 else 2.0 ** (place % 11) + 0.5,
            "seconds_per_sample": 0.002 * 2 ** (place % 11),
        }
        for place, name in enumerate([*names, *out])
    ]
    return pd.DataFrame(rows)


def ladder(metrics):
    means = np.linspace(0.42, 0.01, 5)
    rows = [
        {"metric": name, "noise": level, "mean": mean if name != metrics[-1] else 0.05 + 0.01 * place}
        | {"p_falls": 3e-9, "drop": 0.41, "drop_low": 0.36, "drop_high": 0.46}
        | {"random_low": -0.02, "random_high": 0.03, "used": name != metrics[-1]}
        | {"reason": "" if name != metrics[-1] else "more noise scores better on step 2 of the ladder"}
        for name in metrics
        for place, (level, mean) in enumerate(zip(np.linspace(0, 1, 5), means, strict=True))
    ]
    return pd.DataFrame(rows)


def rungs(best, variant):
    names = [best, variant, f"{best} epsilon=0.01", f"{best} epsilon=1.0"]
    rows = []
    for rung, samples in enumerate((12, 25, 50), start=1):
        for place, name in enumerate(names):
            mean = float("-inf") if place == 3 else 0.4 + 0.01 * place
            rows.append(
                {
                    "explainer": best,
                    "variant": name,
                    "rung": rung,
                    "samples": samples,
                    "mean": mean,
                    "kept": 1 <= place < 3,
                }
            )
        names = [name for place, name in enumerate(names) if 1 <= place < 3][: 4 - rung]
    return pd.DataFrame(rows)


def held_out(best, second, variant):
    gains = {"gain_tuned": 0.021, "gain_held_out": 0.012, "optimism": 0.009}
    nothing = dict.fromkeys(gains, float("nan"))
    reason = {"samples": 0, "used": False, "reason": "the budget does not suffice"}
    return pd.DataFrame(
        [
            {"explainer": best, "variant": variant, **gains, "samples": 64, "used": True, "reason": ""},
            {"explainer": second, "variant": "", **nothing, **reason},
        ]
    )


def confirmation(names, members, means, controls, control):
    rows = []
    for place, name in enumerate(names):
        mean = means.get(name, 0.42)
        gain = mean - means[control] if name != control else float("nan")
        rows.append(
            {"explainer": name, "control": name in controls, "mean": mean, "samples": 90, "against": control}
            | {
                "gain": gain,
                "gain_low": gain - 0.05,
                "gain_high": gain + 0.05,
                "seconds_per_sample": 0.003 * (1 + place),
            }
            | {"in_answer": name in members, "recommended": name == members[0]}
            | {"worse_than": members[0] if name not in [*members, *controls] else "", "caveats": ""}
        )
        rows[-1]["against"] = "" if name == control else control
    return pd.DataFrame(rows).sort_values("mean", ascending=False, ignore_index=True)


def conditions(members):
    rows = []
    for name in members:
        ends = {"value": 0.31, "ci_low": 0.2, "ci_high": 0.42, "bound": 0.5, "n": 16, "reason": ""}
        rows.append({"explainer": name, "check": "sanity", "verdict": "pass", **ends})
        rows.append({"explainer": name, "check": "random_logit", "verdict": "fail", **ends, "reason": "maps are alike"})
        rows.append(
            {"explainer": name, "check": "stability", "verdict": "undecided", "bound": 1.0, "n": 16, "reason": ""}
        )
    return pd.DataFrame(rows)


def facts(members, means, control, metrics):
    answer = [
        {
            "explainer": name,
            "score": {"mean": 0.42, "low": 0.38, "high": 0.46},
            "gain": {"mean": 0.4 - 0.02 * place, "low": 0.3, "high": 0.49},
            "seconds_per_sample": None if place == 2 else 0.003 * (1 + place),
            "beats_controls": place < 2,
            "fits_purpose": True,
            "sanity": "pass",
            "stable": "not checked",
            "caveats": ["unsigned", "one map for all classes"][:place],
        }
        for place, name in enumerate(members)
    ]
    return {
        "model": "digits_cnn",
        "dataset": "digits",
        "status": "answer",
        "recommended": members[0],
        "options": {"epsilon": 0.25},
        "explainers": answer,
        "best_control": control,
        "metric": "srg",
        "metrics": list(metrics[:2]),
        "unit": "probability",
        "alpha": 0.05,
        "purpose": None,
        "samples": {"trust": 32, "race": 128, "confirmation": 90},
        "sentences": [
            f"Use {members[0]}: on 90 fresh images it finds what the model uses better than the best control, "
            f"{control}, by 0.40 [0.30, 0.49] of the class probability (srg), at 0.00300 s an image.",
            f"Not shown to be worse: {members[1]} and {members[2]}; to tell them apart takes about 700 images.",
            "27 explainers were considered, 2 cannot be used here, 12 left the race; 812,000 model evaluations, 9 % of "
            "what the whole grid takes, 340 s.",
        ],
        "caveats": [f"Not used, since it did not separate here: {metrics[-1]}.", "All samples explain class 3."],
        "seconds": 340.2,
        "evaluations": 812345,
        "evaluations_of_the_whole_grid": 9_000_000.0,
    }
