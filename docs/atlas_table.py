"""The atlas as one tidy table, a row per block, seed, explainer and metric: packed from its runs, read by its page."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from harness import conf
from harness.cli.groups import experiment_folders
from harness.cli.hydra_config import for_each_job
from harness.jobs.plan import Plan
from harness.registry import DATASETS, EXPLAINERS
from harness.results.block_plans import newest_plans, plan_in
from harness.results.frames import configured, read
from harness.results.matrices import MOST_LACKING, Matrix
from harness.results.sanity import OVERALL, verdicts_of_cells

PACKED = Path(__file__).parent / "atlas" / "atlas.parquet"
HEADLINE, TRUTH = "srg", "truth_correlation"
ORACLE = "oracle"  # it returns the known truth, and is no explainer that anybody could choose
# Metrics whose scores are kept for each sample; of all others the mean and the spread are kept.
PER_SAMPLE = (HEADLINE, TRUTH)
VERDICT = "verdict"  # the kind of a row that has the verdict of a sanity check
CHECKS = ("sanity", VERDICT)
REAL = ("value", "std", "ci_low", "ci_high")
KEPT = ("model", "dataset", "explainer", "metric", "kind", "unit", "better", "value", "std", "ci_low", "ci_high", "n")


def blocks() -> pd.DataFrame:
    """The blocks in the order of their names: block, model, dataset, modality and what it is, in a sentence."""
    return pd.DataFrame([_block(name) for name in experiment_folders()["atlas"]]).set_index("block", drop=False)


def _block(name: str) -> dict[str, str]:
    text = next(Path(root, "experiment", f"{name}.yaml").read_text("utf-8") for root in conf.__path__)
    chosen = {group: text.partition(f"override /{group}: ")[2].split("\n")[0] for group in ("model", "dataset")}
    sentence = text.partition("A block of the atlas: ")[2].split("\n")[0]
    modality = DATASETS[chosen["dataset"]].modality
    return {"block": name.partition("/")[2], **chosen, "modality": modality, "about": sentence}


def pack(runs: Sequence[Path]) -> pd.DataFrame:
    """The table of several runs: cells with a score, and cells that failed; what does not apply has no row.

    A block under a seed that was not measured to the end is left out, and named.
    """
    table = pd.concat([part for run in runs for part in _packed(run)], ignore_index=True)
    table.insert(0, "block", _blocks_of(table))
    table = _of_experiments(table)
    key = ["block", "seed", "explainer", "metric", "kind"]
    table = table[~table.duplicated(key) | (table["kind"] != "cost")]  # the sanity checks' run measures costs again
    twice = table[table.duplicated(key)]
    if len(twice):
        block, explainer = twice[["block", "explainer"]].iloc[0]
        raise ValueError(f"{block} has several cells of {explainer} for a metric, by other options: drop one")
    return table.drop(columns=["model", "dataset"]).sort_values(["block", "seed"], kind="stable", ignore_index=True)


def added(table: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """A packed table with the rows of a further one, which may have other blocks or seeds, or the sanity checks.

    ValueError for scores of a block and seed, or sanity checks, that are in the table already.
    """
    checks = new["kind"].isin(CHECKS)
    groups = [*zip(new["block"], new["seed"], checks, strict=True)]
    # A run of sanity checks alone measures costs too, which those of the block's own run stand for.
    with_scores = {group for group, kind in zip(groups, new["kind"], strict=True) if kind != "cost"}
    new = new[[group in with_scores for group in groups]]
    twice = set(zip(table["block"], table["seed"], table["kind"].isin(CHECKS), strict=True)) & with_scores
    if twice:
        block, seed, of_checks = min(twice)
        what = "the sanity checks" if of_checks else "the scores"
        raise ValueError(f"{what} of {block} under seed {seed} are in the table already, expected others")
    joined = pd.concat([table, new], ignore_index=True).astype({name: new[name].dtype for name in ("seed", "n")})
    return joined.sort_values(["block", "seed"], kind="stable", ignore_index=True)


def _blocks_of(cells: pd.DataFrame) -> list[str]:
    """The block of each cell; ValueError for one of another model or data set."""
    known = {(each.model, each.dataset): each.block for each in blocks().itertuples()}
    # Without the options that tell two models or data sets of a run apart.
    models, sets = (cells[name].str.partition("(")[0] for name in ("model", "dataset"))
    pairs = list(zip(models, sets, strict=True))
    others = {f"{model} on {data}" for model, data in pairs if (model, data) not in known}
    if others:
        raise ValueError(f"{', '.join(sorted(others))} came, expected runs of experiment=atlas alone")
    return [known[pair] for pair in pairs]


def _finished(run: Path, cells: pd.DataFrame) -> list[bool]:
    """Whether the block of each cell has all cells of its configuration in the run; blocks that lack some are named."""
    keys = list(zip(cells["model"], cells["dataset"], _seeds(cells), strict=True))
    there = set(zip(keys, cells["explainer"], cells["metric"], strict=True))
    lacking = set()
    for plan in newest_plans(filter(None, (plan_in(run, path) for path in run.glob("config/*.json")))).values():
        key = (*plan.labels, plan.protocol["seed"])
        if not {(key, *labels) for labels in plan.pairs.values()} <= there:
            print(f"left out, since it is not measured to the end: {plan.title} under seed {plan.protocol['seed']}")
            lacking.add(key)
    return [key not in lacking for key in keys]


def _seeds(cells: pd.DataFrame) -> np.ndarray:
    return np.array([configured(config, "protocol")["seed"] for config in cells["config"]], dtype="int8")


def _of_experiments(table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose explainer and metric the block's experiment has; a run may hold others, of an earlier one.

    The metrics of sanity checks come from a run of their own, and are kept.
    """
    chosen = {block: _labels(block) for block in table["block"].unique()}
    checks = table["kind"].isin(CHECKS)
    kept = [
        explainer in chosen[block]["explainer"] and (check or metric in chosen[block]["metric"])
        for block, explainer, metric, check in zip(
            table["block"], table["explainer"], table["metric"], checks, strict=True
        )
    ]
    return table[kept]


@cache
def _labels(block: str) -> dict[str, frozenset[str]]:
    """The explainers with the control, and the metrics, that the experiment of a block has."""
    found: list[Plan] = []
    for_each_job([f"experiment=atlas/{block}"], lambda config: found.append(Plan.of(config).with_control()))
    return {
        "explainer": frozenset(each.label for each in found[0].explainers),
        "metric": frozenset(each.label for each in found[0].metrics),
    }


@cache
def _run(run: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells and scores of a run, which has thousands of files: read once."""
    return read(run)


def _packed(run: Path) -> Iterator[pd.DataFrame]:
    """The cells of a run, and the verdicts of its sanity checks, a row for each check and for all together."""
    cells, scores = _run(run)
    cells = cells[_finished(run, cells)].reset_index(drop=True)
    scores = scores[scores["cell"].isin(cells["cell"])]
    checked = cells if "sanity" in set(cells["kind"]) else None
    cells = cells[cells["status"] != "not_applicable"]
    lists = _score_lists(scores[scores["metric"].isin(PER_SAMPLE)])
    table = cells[list(KEPT)].assign(
        seed=_seeds(cells),
        control=[_is_control(name) for name in cells["explainer"]],
        failed=[
            None if status == "ok" else error for status, error in zip(cells["status"], cells["error"], strict=True)
        ],
        verdict=None,
        scores=[lists.get(cell) for cell in cells["cell"]],
    )
    yield table.astype({**dict.fromkeys(REAL, "float32"), "n": "Int16"})
    if checked is not None:
        yield _verdicts(verdicts_of_cells(checked, scores))


def _verdicts(found: pd.DataFrame) -> pd.DataFrame:
    found = found[found["verdict"] != "not done"]
    about = found[["model", "dataset", "explainer"]].assign(metric=found["check"], kind=VERDICT)
    table = about.assign(
        **{name: found[name].astype("float32") for name in ("value", "ci_low", "ci_high")},
        n=found["n"].astype("Int16"),
        seed=np.array([json.loads(text)["seed"] for text in found["protocol"]], dtype="int8"),
        control=[_is_control(name) for name in found["explainer"]],
        verdict=found["verdict"],
    )
    return table.reindex(columns=[*KEPT, "seed", "control", "failed", "verdict", "scores"])


def _is_control(explainer: str) -> bool:
    return explainer in EXPLAINERS and EXPLAINERS[explainer].control


def _score_lists(scores: pd.DataFrame) -> dict[str, np.ndarray]:
    """Cell -> its scores in the order of the samples, NaN where a sample has none."""
    ordered = scores.sort_values("sample", kind="stable")
    return {cell: each["value"].to_numpy("float32") for cell, each in ordered.groupby("cell", observed=True)}


def write(table: pd.DataFrame, path: Path = PACKED) -> None:
    """Write the table; the names, which repeat, are kept as categories."""
    path.parent.mkdir(exist_ok=True)
    names = ("block", "explainer", "metric", "kind", "unit", "better", "failed", "verdict")
    table.astype(dict.fromkeys(names, "category")).to_parquet(path, compression="zstd", compression_level=19)


def load(path: Path = PACKED, *, oracle: bool = False) -> pd.DataFrame:
    """The table with names as texts, None where there is none; the oracle is left out unless it is wanted."""
    table = pd.read_parquet(path)
    table = table if oracle else table[table["explainer"] != ORACLE].reset_index(drop=True)
    texts = {name: table[name].astype(object) for name in table if isinstance(table[name].dtype, pd.CategoricalDtype)}
    return table.assign(**{name: text.where(text.notna(), None) for name, text in texts.items()})


def sample_scores(table: pd.DataFrame, block: str, metric: str, seed: int | None = None) -> Matrix:
    """The scores of a block by a metric (samples x explainers): of one seed, or the mean over the seeds (None).

    The seeds have the same samples. An explainer without a score under one of the seeds is left out.
    """
    rows = table[(table["block"] == block) & (table["metric"] == metric) & table["scores"].notna()]
    seeds = sorted(rows["seed"].unique()) if seed is None else [seed]
    found = {
        name: np.mean([each.astype(np.float64) for each in of_name["scores"]], axis=0)
        for name, of_name in rows[rows["seed"].isin(seeds)].groupby("explainer", sort=False)
        if len(of_name) == len(seeds)
    }
    better = rows["better"].iloc[0] if len(rows) else None
    return Matrix({"model": block, "dataset": "", "metric": metric}, pd.DataFrame(found), better)


def mean_scores(table: pd.DataFrame, seed: int | None = None) -> pd.DataFrame:
    """Signed means, so that higher is better: a row per block and metric, a column per explainer.

    They are of one seed, or the mean over the seeds (None). Metrics without a direction have no row. NaN has an
    explainer without a score on nine tenths of the samples of the fullest one, or under one of the seeds of the metric:
    its mean would be over other samples, or other nets, than those that it is compared with.
    """
    rows = table[table["better"].isin(["higher", "lower"]) & table["failed"].isna() & table["value"].notna()]
    rows = rows if seed is None else rows[rows["seed"] == seed]
    count = rows["n"].astype("float64")
    fullest = count.groupby([rows["block"], rows["metric"], rows["seed"]]).transform("max")
    rows = rows[(count >= (1 - MOST_LACKING) * fullest) | fullest.isna()]
    seeds = rows.groupby(["block", "metric", "explainer"])["seed"].transform("nunique")
    rows = rows[seeds == rows.groupby(["block", "metric"])["seed"].transform("nunique")]
    rows = rows.assign(signed=rows["value"].astype("float64") * np.where(rows["better"] == "lower", -1, 1))
    return rows.pivot_table(index=["block", "metric"], columns="explainer", values="signed", aggfunc="mean")


def without_kin(about: pd.DataFrame) -> list[str]:
    """The blocks that share neither model nor data set with an earlier one that is kept: for tests of independent ones.

    Two of one kind of net that are trained on other data count as sharing it, and so do two parts of one data set.
    """
    kept, models, datasets = [], set(), set()
    for each in about.itertuples():
        if each.model not in models and each.dataset not in datasets:
            kept.append(each.block)
            models.add(each.model)
            datasets.add(each.dataset)
    return kept


def overall_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """The verdicts of all sanity checks together: explainers x blocks, of the first seed that has one.

    None for an explainer without a single check in a block: it is not applicable there.
    """
    rows = table[table["kind"] == VERDICT].sort_values("seed", kind="stable")
    checked = rows.loc[rows["metric"] != OVERALL, ["explainer", "block", "seed"]].drop_duplicates()
    rows = rows[rows["metric"] == OVERALL].merge(checked)
    return rows.drop_duplicates(["explainer", "block"]).pivot(index="explainer", columns="block", values="verdict")


def controls(table: pd.DataFrame) -> list[str]:
    """The explainers that do not look at the model."""
    return sorted(table.loc[table["control"], "explainer"].unique())


def kinds(table: pd.DataFrame) -> dict[str, str]:
    """Metric -> its kind."""
    return dict(table.drop_duplicates("metric")[["metric", "kind"]].itertuples(index=False))


def seeds_of(table: pd.DataFrame) -> Iterator[tuple[str, list[int]]]:
    """Each block with its seeds."""
    for block, rows in table.groupby("block", sort=True):
        yield block, sorted(map(int, rows["seed"].unique()))


def facts(runs: Sequence[Path]) -> dict[str, object]:
    """Where the numbers come from: versions and the commit of the runs."""
    rows = pd.concat([_run(run)[0] for run in runs])
    return {
        "commit": sorted(rows["commit"].dropna().unique()),
        "torch": sorted(rows["torch"].dropna().unique()),
        "finished": [str(rows["finished"].min())[:10], str(rows["finished"].max())[:10]],
        "hours": round(float(rows["seconds"].sum()) / 3600, 1),
    }


def facts_of(path: Path = PACKED) -> dict[str, object]:
    """The facts that were written beside the table."""
    return json.loads(path.with_name("facts.json").read_text(encoding="utf-8"))


def added_facts(found: dict[str, object], new: dict[str, object]) -> dict[str, object]:
    """The facts of a table to which runs with other facts are added."""
    first, last = zip(found["finished"], new["finished"], strict=True)
    return {
        **{name: sorted({*found[name], *new[name]}) for name in ("commit", "torch")},
        "finished": [min(first), max(last)],
        "hours": round(found["hours"] + new["hours"], 1),
    }


def write_facts(found: dict[str, object], path: Path = PACKED) -> None:
    """Write the facts beside the table."""
    path.with_name("facts.json").write_text(f"{json.dumps(found, indent=1)}\n", encoding="utf-8")
