"""Verdicts on sanity by simulation: what ignores the model fails, what depends on it passes, between is undecided."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import harness
from harness.datasets.digits import load_split
from harness.engine.selection import choose_several
from harness.errors import UserError
from harness.models.digits_cnn import digits_cnn
from harness.registry import METRICS
from harness.results.sanity import CHANCE, CHECKS, Bounds, compared_maps, verdicts, verdicts_of_run
from harness.results.statistics import interval
from harness.results.store import Store


@pytest.fixture
def draws(seed):
    """Random numbers of this test's own seed."""
    return np.random.default_rng(seed)


def rows(metric, values, explainer="mine", unit="spearman", **more):
    """What ``harness.evaluate`` says of one explainer and metric."""
    values = np.asarray(values, dtype=float)
    return pd.DataFrame(
        {
            "explainer": explainer,
            "metric": metric,
            "unit": unit,
            "sample": [str(k) for k in range(len(values))],
            "value": values,
            "status": "ok",
            "error": "",
            **more,
        }
    )


def judged(*frames, **options):
    """The verdicts by check, one explainer."""
    found = verdicts(pd.concat(frames, ignore_index=True), **options)
    return found.set_index("check")


def similarities(draws, mean, spread=0.2, count=60):
    return np.clip(mean + spread * draws.standard_normal(count), -1, 1)


def test_a_map_that_never_changes_fails_every_check():
    frames = [rows(name, np.ones(20)) for name in CHECKS if name != "sanity"]
    found = judged(*frames, rows("sanity", np.zeros(20), unit="share"))
    assert (found.verdict == "fail").all() and set(found.index) == {*CHECKS, "overall"}
    assert "parameter_randomization" in found.reason["overall"]


def test_unrelated_maps_pass_every_check(draws):
    frames = [rows(name, similarities(draws, 0)) for name in CHECKS if name != "sanity"]
    found = judged(*frames, rows("sanity", draws.binomial(3, 0.95, 60) / 3, unit="share"))
    assert (found.verdict == "pass").all() and not found.reason["overall"]


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "sanity"])
def test_similarities_around_the_bound_are_undecided(name, draws):
    bound = getattr(Bounds(), CHECKS[name])
    noise = draws.standard_normal(60)
    found = judged(rows(name, bound + 0.05 * (noise - noise.mean())))
    assert found.verdict[name] == "undecided" and found.ci_low[name] < bound < found.ci_high[name]
    assert found.verdict["overall"] == "undecided"


@pytest.mark.parametrize("kind", ["undefined", "of other samples"])
def test_without_chance_on_the_same_samples_nothing_is_decided(kind):
    by_chance = rows("chance_similarity", np.full(20, np.nan if kind == "undefined" else 0.0))
    if kind == "of other samples":
        by_chance["sample"] = "other " + by_chance["sample"]
    found = judged(rows("parameter_randomization", np.zeros(20)), by_chance).loc["parameter_randomization"]
    assert found.verdict == "undecided" and "chance_similarity" in found.reason
    assert np.isnan([found.value, found.ci_low, found.ci_high]).all() and (found.n, found.n_invalid) == (0, 20)


@pytest.mark.parametrize("similarity", [0.5, 1.0])
def test_where_displaced_maps_are_the_same_maps_nothing_is_decided(similarity):
    frames = [rows("parameter_randomization", np.full(20, similarity)), rows("chance_similarity", np.ones(20))]
    found = judged(*frames).loc["parameter_randomization"]
    assert found.verdict == "undecided" and "displaced maps equal the maps" in found.reason and np.isnan(found.value)


@pytest.mark.parametrize("name", ["random_logit", "sanity"])
@pytest.mark.parametrize("side", [-1, 1])
def test_the_whole_interval_lies_on_one_side_of_the_bound_where_there_is_a_verdict(name, side, draws):
    bound, noise = getattr(Bounds(), CHECKS[name]), 0.1 * draws.standard_normal(40)
    low, high = interval(noise - noise.mean())
    for beyond in (0.9, 1.1):  # the interval just touches the bound, and just does not
        values = bound + noise - noise.mean() + beyond * (-low if side > 0 else -high)
        good = (side > 0) == (name == "sanity")
        expected = "undecided" if beyond < 1 else "pass" if good else "fail"
        assert judged(rows(name, values)).verdict[name] == expected


def test_the_level_of_a_verdict_is_kept_where_the_truth_lies_on_the_bound(seed):
    draws, decided, trials = np.random.default_rng(seed), 0, 150
    for _ in range(trials):
        found = judged(rows("random_logit", 0.9 + 0.1 * draws.standard_normal(30)))
        decided += found.verdict["random_logit"] != "undecided"
    assert decided <= trials * 0.07 + 5 * (trials * 0.07 * 0.93) ** 0.5  # an interval of 30 covers about 95 %


def test_similarity_is_the_share_of_the_way_from_chance_to_the_same_map(draws):
    chance, kept = 0.2 + 0.1 * draws.random(30), 0.3
    similar = chance + kept * (1 - chance)
    frames = rows("parameter_randomization", similar, unit="hog"), rows("chance_similarity", chance, unit="hog")
    found = judged(*frames).loc["parameter_randomization"]
    assert found.value == pytest.approx(kept) and found.ci_low <= kept <= found.ci_high
    assert found.chance == pytest.approx(chance.mean()) and found.verdict == "pass"
    stricter = judged(*frames, bounds=Bounds(retained=0.2)).loc["parameter_randomization"]
    assert stricter.verdict == "fail" and stricter.bound == 0.2


def test_chance_moves_the_verdict(draws):
    similar = similarities(draws, 0.6, 0.05)
    alone = judged(rows("parameter_randomization", similar)).verdict
    beside = judged(rows("parameter_randomization", similar), rows("chance_similarity", similarities(draws, 0.5, 0.05)))
    assert alone["parameter_randomization"] == "fail" and beside.verdict["parameter_randomization"] == "pass"


@pytest.mark.parametrize("unit", ["ssim", "hog", "spearman_abs"])
def test_where_chance_is_not_known_nothing_is_decided(unit):
    spearmans = rows("chance_similarity", np.zeros(20))
    found = judged(rows("label_randomization", np.ones(20), unit=unit), spearmans).loc["label_randomization"]
    assert found.verdict == "undecided" and f"similarity={unit}" in found.reason and found.n == 20


OTHER_MAPS = {
    "mode": "independent",
    "stages": 1,
    "explained_class": "reargmax",
    "running_statistics": "reset",
    "weight_seed": 1,
    "weight_seeds": 3,
    "draws": 50,
}


@pytest.mark.parametrize("option", OTHER_MAPS)
@pytest.mark.parametrize("unit", ["ssim", "spearman"])
def test_chance_is_that_of_the_maps_that_the_check_compares(option, unit):
    check, by_chance = rows("parameter_randomization", [0.7] * 20, unit=unit), rows("chance", [0.6] * 20, unit=unit)
    labels = {"chance": "chance_similarity", "parameter_randomization": "parameter_randomization"}

    def found(options):
        frame = pd.concat([check, by_chance])
        frame.attrs["options"] = {"parameter_randomization": options, "chance": {"stages": 8, "displacements": 3}}
        return verdicts(frame, checks=labels).set_index("check").loc["parameter_randomization"]

    assert found({"stages": 8}).verdict == "pass" and found({"stages": 8}).chance == pytest.approx(0.6)
    other = found({"stages": 8, option: OTHER_MAPS[option]})
    if unit == "spearman":  # its expectation is 0
        assert other.verdict == "fail" and other.chance == 0
    else:
        wanted = f"{option}={OTHER_MAPS[option]}"
        assert other.verdict == "undecided" and "similarity=ssim" in other.reason and wanted in other.reason


def test_every_check_of_the_group_has_the_chance_of_its_maps_or_needs_none():
    group = yaml.safe_load((Path(harness.__file__).parents[1] / "conf" / "metric" / "sanity_checks.yaml").read_text())
    items = {name: {"name": name} for name in group.pop("defaults") if name in METRICS} | group
    chosen = choose_several(METRICS, items)
    maps = lambda name: [(each.label, compared_maps(each.options)) for each in chosen if each.entry.name == name]
    by_chance = [text for _, text in maps(CHANCE)]
    similarities = {label: json.loads(text) for name in CHECKS for label, text in maps(name) if name != "random_logit"}
    assert "smooth_parameter_randomization" in similarities
    for label, told in similarities.items():
        known = json.dumps(told, sort_keys=True) in by_chance
        assert known or told["similarity"] == "spearman", f"{label} has no similarity by chance"
    used = [json.dumps(told, sort_keys=True) for told in similarities.values()]
    assert set(by_chance) <= set(used) and len(set(by_chance)) == len(by_chance)


def test_without_options_a_smoothed_check_has_no_chance_and_several_are_none(draws):
    alike = [rows(name, similarities(draws, 0.5), unit="ssim") for name in ("smooth_parameter_randomization", "p")]
    by_chance = [rows(name, np.zeros(60), unit="ssim") for name in ("one", "other")]
    named = {"p": "parameter_randomization", "one": "chance_similarity", "other": "chance_similarity"}
    several = judged(*alike, *by_chance, checks=named)
    assert "several" in several.reason["p"] and several.verdict["p"] == "undecided"
    single = judged(*alike, by_chance[0], checks=named)
    assert single.chance["p"] == 0 and single.verdict["smooth_parameter_randomization"] == "undecided"


def test_chance_is_taken_of_the_same_samples(draws):
    chance = rows("chance_similarity", [0.9, 0.1, np.nan], unit="ssim")
    similar = rows("parameter_randomization", [0.2, 0.9, 0.3], unit="ssim")
    swapped = similar.iloc[[2, 1, 0]]
    first, second = (judged(frame, chance, bounds=Bounds(least=2)) for frame in (similar, swapped))
    pd.testing.assert_frame_equal(first, second)
    assert first.n["parameter_randomization"] == 2 and first.chance["parameter_randomization"] == pytest.approx(0.5)


def test_too_few_samples_decide_nothing():
    for count, expected in ((9, "undecided"), (10, "fail")):
        found = judged(rows("random_logit", np.ones(count)))
        assert found.verdict["random_logit"] == expected
    assert "9 samples" in judged(rows("random_logit", np.ones(9))).reason["random_logit"]
    noisy = rows("random_logit", [0.99, 0.98, 1.0, 0.97])
    assert judged(noisy, bounds=Bounds(least=3)).verdict["random_logit"] == "fail"
    # Equal scores are tested by their signs: six are the fewest at 5 %.
    for count, expected in ((5, "undecided"), (6, "fail")):
        found = judged(rows("random_logit", np.ones(count)), bounds=Bounds(least=3)).loc["random_logit"]
        assert found.verdict == expected and np.isnan([found.ci_low, found.ci_high]).all()
    assert judged(rows("random_logit", [1.0]), bounds=Bounds(least=0)).verdict["random_logit"] == "undecided"


def test_undefined_scores_are_counted_and_enter_nothing_else(draws):
    values = similarities(draws, 0)
    clean = judged(rows("parameter_randomization", values)).loc["parameter_randomization"]
    found = judged(rows("parameter_randomization", [*values, np.nan, np.inf])).loc["parameter_randomization"]
    assert (found.n, found.n_invalid) == (60, 2) and found.value == clean.value and found.ci_low == clean.ci_low


def test_it_says_which_checks_could_not_be_done(draws):
    refused = rows("label_randomization", [np.nan] * 20, status="not_applicable", error="needs training inputs")
    found = judged(rows("parameter_randomization", similarities(draws, 0)), refused)
    assert found.verdict["label_randomization"] == "not done"
    assert found.reason["label_randomization"] == "needs training inputs"
    assert found.verdict["random_logit"] == "not done" and "not measured" in found.reason["random_logit"]
    assert found.verdict["overall"] == "pass"
    assert all(name in found.reason["overall"] for name in CHECKS if name != "parameter_randomization")


def test_nobody_passes_without_a_check_of_random_weights(draws):
    found = judged(rows("random_logit", similarities(draws, 0)), rows("label_randomization", similarities(draws, 0)))
    assert found.verdict["overall"] == "undecided" and "random weights" in found.reason["overall"]
    assert (found.verdict[["random_logit", "label_randomization"]] == "pass").all()


def test_one_failed_check_fails_whatever_the_others_say(draws):
    found = judged(
        rows("parameter_randomization", similarities(draws, 0)),
        rows("random_logit", np.ones(60)),
        rows("label_randomization", np.ones(5)),
    )
    assert found.verdict["overall"] == "fail" and "failed: random_logit" in found.reason["overall"]
    assert "undecided: label_randomization" in found.reason["overall"]


def test_labels_can_be_told_what_they_are_and_explainers_are_judged_apart(draws):
    frame = pd.concat(
        [
            rows("top", similarities(draws, 0), "good"),
            rows("top", np.ones(60), "bad"),
            rows("srg", np.ones(60), "good"),
        ]
    )
    found = verdicts(frame, checks={"top": "parameter_randomization"}).set_index(["explainer", "check"]).verdict
    assert found["good", "top"] == found["good", "overall"] == "pass"
    assert found["bad", "top"] == found["bad", "overall"] == "fail" and ("good", "srg") not in found
    with pytest.raises(UserError):
        verdicts(frame, checks={"top": "parameter_randomisation"})
    with pytest.raises(UserError):
        Bounds(level=95)


def test_on_a_trained_net_the_gradient_passes_and_what_ignores_the_model_fails():
    inputs, targets = load_split()["test"][:2]
    frame = harness.evaluate(
        digits_cnn().module,
        harness.Data(inputs[:24], targets[:24], value_range=(0.0, 1.0)),
        explainers=["gradient", "guided_backprop", "edge"],
        metrics={
            "parameter_randomization": {},
            "chance_similarity": {},
            "random_logit": {},
            "sanity": {},
            "smooth_parameter_randomization": {"draws": 10, "similarity": "spearman"},
        },
    )
    found = verdicts(frame).set_index(["explainer", "check"])
    overall = found.xs("overall", level="check").verdict
    assert overall.to_dict() == {"gradient": "pass", "guided_backprop": "fail", "edge": "fail"}
    assert found.loc[("edge", "parameter_randomization")].value == pytest.approx(1)
    assert "label_randomization" in found.loc[("gradient", "overall")].reason


def run_with(directory, cells):
    """A run's rows and scores as the harness writes them."""
    store = Store(directory)
    for number, (metric, name, values, error) in enumerate(cells):
        cell = f"{number:02}abcdef"
        about = {"model": "m", "dataset": "d", "explainer": "mine", "metric": metric, "unit": "spearman"}
        config = {"metric": {"name": name}, "explainer": {"name": "mine"}, "protocol": {"seed": 0}}
        if values is not None:
            samples = [str(k) for k in range(len(values))]
            store.write_scores(
                cell,
                pd.DataFrame(
                    {
                        "sample": samples,
                        "target": 0,
                        "prediction": 0,
                        "label": 0,
                        "groups": None,
                        "value": values,
                        "valid": np.isfinite(values),
                        "tied": np.nan,
                        "curve": None,
                    }
                ),
            )
        store.append(
            {
                "cell": cell,
                **about,
                "status": "ok" if values is not None else "not_applicable",
                "error": error,
                "config": json.dumps(config),
            }
        )


def test_a_runs_cells_are_judged_by_what_their_metrics_are(tmp_path, draws):
    run_with(
        tmp_path,
        [
            ("mprt", "parameter_randomization", similarities(draws, 0), ""),
            ("mprt", "parameter_randomization", np.ones(60), ""),
            ("chance", "chance_similarity", np.zeros(60), ""),
            ("random_logit", "random_logit", None, "the model has a single output"),
            ("srg", "srg", np.ones(60), ""),
        ],
    )
    found = verdicts_of_run(tmp_path)
    assert set(found.model) == {"m"} and set(found.dataset) == {"d"} and set(found.explainer) == {"mine"}
    found = found.set_index("check")
    assert found.verdict[["mprt 00abcd", "mprt 01abcd"]].to_list() == ["pass", "fail"]
    assert found.chance["mprt 00abcd"] == 0 and np.isnan(found.chance["random_logit"])
    assert found.reason["random_logit"] == "the model has a single output"
    assert found.verdict["overall"] == "fail"
