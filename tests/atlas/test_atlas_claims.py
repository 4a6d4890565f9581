"""The claims of the atlas on planted tables: each test says what is there, and not what is not."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.results.family import all_pairs

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))

import atlas_statistics  # noqa: E402
from atlas_page import agreement_words, best_words, kin_words, sanity_rows  # noqa: E402
from atlas_questions import BEST_CONTROL, OTHERS, PAIRS, Answered, answered  # noqa: E402
from atlas_statistics import (  # noqa: E402
    across,
    block_answer,
    holm,
    metric_agreement,
    one_votes,
    paired_over_blocks,
    seed_tau,
    split_half_taus,
    truth_agreement,
)
from atlas_table import (  # noqa: E402
    PACKED,
    added,
    added_facts,
    blocks,
    load,
    mean_scores,
    overall_verdicts,
    pack,
    sample_scores,
    without_kin,
    write,
)

EXPLAINERS = [f"e{i}" for i in range(9)] + ["gradient", "saliency"]
CONTROLS = ["random", "edge"]


def planted(
    blocks_=8, samples=40, seeds=(0, 1), quality=None, metrics=("srg", "deletion", "truth_correlation"), noise=0.1
):
    """A table in which an explainer's mean by a metric is its quality; deletion is the negated score of srg."""
    generator = np.random.default_rng(0)
    names = EXPLAINERS + CONTROLS
    quality = quality or {name: place / 10 for place, name in enumerate(EXPLAINERS)} | dict.fromkeys(CONTROLS, -0.5)
    rows = []
    for block in (f"block{i}" for i in range(blocks_)):
        for seed in seeds:
            for name in names:
                scores = quality[name] + noise * generator.normal(size=samples)
                for metric in metrics:
                    sign = -1 if metric == "deletion" else 1
                    rows.append(
                        {
                            "block": block,
                            "explainer": name,
                            "metric": metric,
                            "kind": "truth" if metric.startswith("truth") else "faithfulness",
                            "unit": "",
                            "better": "lower" if sign < 0 else "higher",
                            "value": sign * scores.mean(),
                            "std": scores.std(),
                            "n": samples,
                            "seed": seed,
                            "control": name in CONTROLS,
                            "failed": None,
                            "scores": (sign * scores).astype("float32") if metric != "deletion" else None,
                        }
                    )
    return pd.DataFrame(rows)


def test_the_best_is_told_where_it_is_the_best():
    found = block_answer(planted(), "block3", 8)
    assert found.best == "saliency" and found.near[0] == "saliency" and found.compared == len(EXPLAINERS)
    assert found.gain[1] < 1.5 < found.gain[2] and found.control in CONTROLS
    assert set(found.above) == set(EXPLAINERS)


def test_nobody_is_best_where_all_are_noise():
    table = planted(quality=dict.fromkeys(EXPLAINERS + CONTROLS, 0.0))
    found = [block_answer(table, block, 8) for block in sorted(table["block"].unique())]
    assert not any(each.near or each.above for each in found)
    assert not answered_yes(table)
    ranks = across(table, sorted(table["block"].unique()))
    assert ranks.p > 0.01 and np.ptp(ranks.mean_ranks) < ranks.critical * 1.5


def test_false_claims_are_as_rare_as_promised(monkeypatch):
    """Over 60 worlds of 2 blocks without any difference, at most 5 % (and chance) have a claim about any block: that an
    explainer beats the controls, or that any of all pairs differ, from which "worse than the best" follows."""
    families = []
    monkeypatch.setattr(
        atlas_statistics, "all_pairs", lambda *given, **more: families.append(all_pairs(*given, **more)) or families[-1]
    )
    wrong, differing = 0, 0
    for world in range(60):
        generator = np.random.default_rng(world)
        table = planted(
            blocks_=2, seeds=(0,), samples=16, quality=dict.fromkeys(EXPLAINERS + CONTROLS, 0.0), metrics=("srg",)
        )
        scored = [generator.normal(size=16).astype("float32") for _ in range(len(table))]
        table = table.assign(scores=scored, value=[each.mean() for each in scored])
        families.clear()
        wrong += any([block_answer(table, block, 2).above for block in ("block0", "block1")])
        assert len(families) == 2 and all(family.alpha == 0.05 / 2 for family in families)
        differing += any((family.p <= family.alpha).any() for family in families)
    # A binomial of 60 at 5 % exceeds 8 once in 350; at 25 % it does so in 98 of 100.
    assert wrong <= 8 and differing <= 8


def answered_yes(table):
    return [each.question for each in answered(table) if each.words != "not shown"]


def test_a_question_is_answered_in_the_direction_that_is_there():
    found = {each.question: each for each in answered(planted())}
    loses = found[next(question for first, second, question in PAIRS if (first, second) == ("gradient", "saliency"))]
    assert loses.words == "no, the opposite" and loses.positive == 0 and loses.blocks == 8
    missing = next(question for first, _, question in PAIRS if first == "kernel_shap")
    assert found[missing].words == "not shown" and found[missing].blocks == 0


def test_metrics_that_order_alike_agree_and_the_truth_is_found():
    table = planted()
    (pair,) = metric_agreement(table).itertuples()
    assert (pair.first, pair.second) == ("deletion", "srg") and pair.tau == pytest.approx(1) and pair.p < 0.05
    assert truth_agreement(table).set_index("metric")["tau"].min() > 0.9
    turned = table.assign(value=np.where(table["metric"] == "deletion", -table["value"], table["value"]))
    assert one_votes(metric_agreement(table)) == {"srg": "deletion"} and not one_votes(metric_agreement(turned))
    (pair,) = metric_agreement(turned).itertuples()
    assert pair.tau == pytest.approx(-1) and pair.p < 0.05


def test_controls_make_no_metrics_agree():
    """Without the controls, which are far behind by both, the rankings are unrelated."""
    generator = np.random.default_rng(1)
    table = planted(seeds=(0,))
    drawn = np.where(table["control"], -9.0, generator.normal(size=len(table)))
    (pair,) = metric_agreement(table.assign(value=drawn, better="higher")).itertuples()
    assert abs(pair.tau) < 0.3


def test_halves_and_seeds_agree_where_scores_have_no_noise():
    still = planted(noise=1e-9)
    assert split_half_taus(still, "block0")["tau"].min() > 0.99 and seed_tau(still, "block0") > 0.99
    loud = planted(quality=dict.fromkeys(EXPLAINERS + CONTROLS, 0.0))
    assert abs(split_half_taus(loud, "block0")["tau"].mean()) < 0.15


def test_means_over_seeds_are_paired_by_sample():
    table = planted(seeds=(0, 1, 2), samples=5)
    each = [sample_scores(table, "block0", "srg", seed).values for seed in (0, 1, 2)]
    assert np.allclose(sample_scores(table, "block0", "srg").values, sum(each) / 3)
    lacking = table[~((table["seed"] == 2) & (table["explainer"] == "e1"))]
    assert "e1" not in sample_scores(lacking, "block0", "srg").values


def test_holm_and_wilcoxon_are_the_textbooks():
    assert holm(np.array([0.01, np.nan, 0.04, 0.03])) == pytest.approx([0.03, np.nan, 0.06, 0.06], nan_ok=True)
    found = paired_over_blocks(pd.Series([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, np.nan]))
    assert (found.positive, found.blocks, found.direction) == (6, 6, 1)
    assert (found.median, found.p) == (pytest.approx(0.35), pytest.approx(2 / 64))
    assert np.isnan(paired_over_blocks(pd.Series([1.0] * 5)).p)


def test_the_direction_of_an_answer_is_that_of_its_test():
    """Ten ties and nine gains: the median is 0, and the ranks are shown to lean to the gains."""
    found = paired_over_blocks(pd.Series([0.0] * 10 + [each / 10 for each in range(1, 10)]))
    assert found.median == 0 and found.p < 0.05 and found.direction == 1
    of = lambda question, direction: Answered(question, "", found.median, 9, 19, direction, found.p).words
    assert of("any", 1) == "yes" and of("any", -1) == "no, the opposite"
    assert of(BEST_CONTROL, 1) == "not shown" and of(BEST_CONTROL, -1) == "no, the opposite"
    assert BEST_CONTROL in [question for question, *_ in OTHERS]


def test_the_best_of_several_controls_is_no_finding_where_all_maps_are_noise():
    """The best of eight controls is above the median in nearly every block by chance alone."""
    table = planted(blocks_=19, seeds=(0,), quality=dict.fromkeys(EXPLAINERS + CONTROLS, 0.0), metrics=("srg",))
    table = table.assign(control=table["control"] | table["explainer"].isin([f"e{i}" for i in range(6)]))
    (found,) = [each for each in answered(table) if each.question == BEST_CONTROL]
    assert found.positive >= 15 and found.p < 0.05 and found.words == "not shown"


def test_means_over_other_samples_or_nets_are_not_compared():
    table = planted(seeds=(0, 1), metrics=("srg", "deletion"))
    few = (table["explainer"] == "e1") & (table["metric"] == "deletion") & (table["block"] == "block0")
    no_seed = (table["explainer"] == "e2") & (table["seed"] == 1) & (table["block"] == "block0")
    means = mean_scores(table.assign(n=np.where(few, 35, table["n"]))[~no_seed])
    assert means.loc[("block0", "deletion")].index[means.loc[("block0", "deletion")].isna()].tolist() == ["e1", "e2"]
    assert means.loc[("block0", "srg")].index[means.loc[("block0", "srg")].isna()].tolist() == ["e2"]
    assert means.loc["block1"].notna().all(axis=None)
    answer = block_answer(table[~no_seed], "block0", 8)
    assert answer.lacking == ["e2"] and "e2 in block0" in best_words([answer]) and "in 1 of 1" in best_words([answer])


def test_one_score_that_is_far_away_makes_no_others_equal():
    table = planted(seeds=(0,), metrics=("srg", "deletion"), noise=1e-9)
    far = (table["explainer"] == "e0") & (table["metric"] == "deletion")
    (pair,) = metric_agreement(table.assign(value=np.where(far, 1e9, table["value"]))).itertuples()
    assert pair.tau == pytest.approx(1) and pair.p == pytest.approx(2 / 2**8)


def test_a_cost_that_was_not_measured_is_not_nought():
    table = planted(seeds=(0,), metrics=("srg",))
    cost = table.assign(kind="cost", better="lower", scores=None)
    cost = cost.assign(value=cost["explainer"].map({name: place for place, name in enumerate(EXPLAINERS)}))
    lacking = cost["explainer"].isin(["saliency", "gradient"])
    passes = [cost.assign(metric="forward_passes"), cost[~lacking].assign(metric="backward_passes")]
    found = {each.question: each for each in answered(pd.concat([table, *passes], ignore_index=True))}
    assert found["Are dearer explainers better?"].median == pytest.approx(1)


def test_answers_are_told_without_blocks_that_share_a_model_or_data():
    about = blocks()
    kept = without_kin(about)
    assert not about.loc[kept].duplicated("model").any() and not about.loc[kept].duplicated("dataset").any()
    assert {"reviews_cnn", "mosaics"} <= set(kept) and not {"reviews_transformer", "photos"} & set(kept)
    whole, few = answered(planted()), answered(planted(blocks_=5))
    assert "no answer changes" in kin_words(whole, whole, ["block7"])
    assert "gradient lose" in kin_words(whole, few, ["block5", "block6", "block7"]) and not kin_words(whole, few, [])
    pairs = metric_agreement(planted())
    assert "0 of 0 are shown" in agreement_words(pairs, {}, pairs.iloc[:0])


def test_controls_that_pass_sanity_checks_are_counted():
    verdicts = pd.DataFrame({"a": ["fail", "fail"], "b": ["pass", "fail"]}, index=["random", "gradient"])
    words = sanity_rows(verdicts, ["random"], ["a", "b", "c"])
    assert words.startswith("2 of 3 blocks were checked, and not c. Controls") and "fail in 1 of 2 cases" in words


def test_a_run_is_packed_and_read_back(tmp_path):
    from harness.cli.main import main

    arguments = ["experiment=atlas/logic,atlas/compas", "protocol.seed=0,1", "protocol.samples=8", "--quiet"]
    chosen = ["explainer=[oracle,gradient,random,attention_rollout]", "metric=[srg,truth_correlation,cost]"]
    assert main(["run", "-m", *arguments, *chosen, f"runtime.runs={tmp_path}", "run=atlas"]) == 0
    checks = ["metric=[random_logit,sanity]", "explainer=[gradient,random]", "protocol.samples=12"]
    common = ["experiment=atlas/compas", "--quiet", f"runtime.runs={tmp_path}", "run=atlas_sanity"]
    assert main(["run", *common, *checks]) == 0
    write(pack([tmp_path / "atlas", tmp_path / "atlas_sanity"]), tmp_path / "atlas.parquet")
    table = load(tmp_path / "atlas.parquet")
    assert set(table["block"]) == {"logic", "compas"} and set(table["seed"]) == {0, 1}
    assert "attention_rollout" not in set(table["explainer"])  # does not apply
    assert {"forward_passes", "srg"} <= set(table["metric"])
    assert "seconds_per_sample" not in set(table["metric"])  # measured, but no part of the atlas
    assert overall_verdicts(table)["compas"].to_dict()["random"] == "fail"
    rows = table[(table["block"] == "logic") & (table["metric"] == "srg")]
    for row in rows.itertuples():
        assert len(row.scores) == row.n == 8 and row.value == pytest.approx(row.scores.mean(), abs=1e-6)
    packed = pd.read_parquet(tmp_path / "atlas.parquet")
    of_oracle = packed[(packed["explainer"] == "oracle") & (packed["metric"] == "truth_correlation")]
    assert of_oracle["value"].to_numpy() == pytest.approx(1) and "oracle" not in set(table["explainer"])
    # Runs that are added one after the other make the same table.
    write(pack([tmp_path / "atlas"]), tmp_path / "grown.parquet")
    checks = pack([tmp_path / "atlas_sanity"])
    write(added(load(tmp_path / "grown.parquet", oracle=True), checks), tmp_path / "grown.parquet")
    grown = pd.read_parquet(tmp_path / "grown.parquet")
    order = ["block", "seed", "explainer", "metric", "kind"]
    whole, grown = (
        each.astype(dict.fromkeys(each.columns, object)).sort_values(order, ignore_index=True)
        for each in (packed, grown)
    )
    pd.testing.assert_frame_equal(whole, grown)
    with pytest.raises(ValueError, match="the sanity checks of compas under seed 0 are in the table already"):
        added(load(tmp_path / "grown.parquet", oracle=True), checks)


def test_facts_of_two_packings_are_joined():
    first = {"commit": ["b"], "torch": ["2.14"], "finished": ["2026-11-02", "2026-11-03"], "hours": 3.5}
    second = {"commit": ["a", "b"], "torch": ["2.14"], "finished": ["2026-11-30", "2026-11-30"], "hours": 1.2}
    joined = {"commit": ["a", "b"], "torch": ["2.14"], "finished": ["2026-11-02", "2026-11-30"], "hours": 4.7}
    assert added_facts(first, second) == joined


def test_every_block_of_the_atlas_is_described():
    about = blocks()
    assert len(about) >= 12 and set(about["modality"]) == {"image", "table", "tokens", "series"}
    assert all(about["about"].str.endswith(".")) and not about.duplicated(["model", "dataset"]).any()


@pytest.mark.skipif(not PACKED.exists(), reason="the atlas was not packed")
def test_the_page_is_what_the_packed_table_gives(tmp_path, monkeypatch):
    import atlas

    table, page = load(), atlas.PAGE.read_text(encoding="utf-8")
    (tmp_path / "facts.json").write_text(PACKED.with_name("facts.json").read_text())
    monkeypatch.setattr(atlas, "PACKED", tmp_path / "atlas.parquet")
    for mark, part in atlas.figures_and_parts(table).items():
        assert part in page, mark
    assert PACKED.stat().st_size < 5_000_000
