"""The atlas: ``python docs/atlas.py RUN...`` packs runs of experiment=atlas and writes docs/atlas.md.

With ``--add`` the runs are added to docs/atlas/atlas.parquet; without it they replace its content.
Without a run the page is written from the packed table as it is.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from atlas_figures import agreement_figure, critical_difference_figure, places_figure, stability_figure
from atlas_page import (
    agreement_words,
    best_rows,
    best_words,
    block_rows,
    cost_rows,
    failed_rows,
    kin_words,
    pair_rows,
    question_rows,
    rank_words,
    sanity_rows,
    stability_rows,
    truth_rows,
)
from atlas_questions import answered
from atlas_statistics import (
    across,
    block_answer,
    metric_agreement,
    one_votes,
    relative_ranks,
    seed_tau,
    split_half_taus,
    truth_agreement,
)
from atlas_table import (
    PACKED,
    VERDICT,
    added,
    added_facts,
    blocks,
    controls,
    facts,
    facts_of,
    load,
    overall_verdicts,
    pack,
    seeds_of,
    without_kin,
    write,
    write_facts,
)
from matplotlib.figure import Figure
from pages import replaced, save_picture

from harness.cli.groups import group_defaults

PAGE = Path(__file__).parent / "atlas.md"
WIDTH = 1200  # pixels


def main(runs: Sequence[Path], add: bool) -> None:
    """Pack the runs, if any are named, and write the page."""
    if runs:
        table, found = pack(runs), facts(runs)
        if add:
            table, found = added(load(oracle=True), table), added_facts(facts_of(), found)
        write(table)
        write_facts(found)
    text = PAGE.read_text(encoding="utf-8")
    for mark, part in figures_and_parts(load()).items():
        text = replaced(text, f"atlas {mark}", part)
    PAGE.write_text(text, encoding="utf-8")


def figures_and_parts(table) -> dict[str, str]:
    """Write the figures beside the table; gives the text of the page by its marks."""
    about, ignoring = blocks(), controls(table)
    modality = dict(about["modality"])
    names = sorted(table["block"].unique())
    answers = [block_answer(table, block, len(names)) for block in names]
    standard = [*group_defaults("explainer", "standard"), *ignoring]
    ranks = {
        "The standard explainers, all blocks": across(table, names, standard),
        "All explainers, all blocks": across(table, names),
    }
    for kind in dict.fromkeys(modality[name] for name in names):
        ranks[f"All explainers, {kind}"] = across(table, [name for name in names if modality[name] == kind])
    ranks = {name: each for name, each in ranks.items() if each is not None}
    kept = without_kin(about.loc[names])
    kin, of_kept = [name for name in names if name not in kept], table[table["block"].isin(kept)]
    pairs, questions = metric_agreement(table), answered(table)
    same, curves = one_votes(pairs), {name: split_half_taus(table, name) for name in names}
    _save("places", places_figure(relative_ranks(table), modality, ignoring))
    _save("ranks", critical_difference_figure(next(iter(ranks.values()))))
    _save("agreement", agreement_figure(pairs))
    _save("stability", stability_figure(curves, modality))
    return {
        "facts": _facts(table),
        "blocks": block_rows(table, about),
        "best": f"{best_words(answers)}\n\n{best_rows(answers)}",
        "ranks": rank_words(ranks, ignoring),
        "agreement": f"{agreement_words(pairs, same, metric_agreement(of_kept))}\n\n{pair_rows(pairs, same)}",
        "truth": truth_rows(truth_agreement(table)),
        "questions": f"{question_rows(questions)}\n\n{kin_words(questions, answered(of_kept), kin)}".strip(),
        "sanity": sanity_rows(overall_verdicts(table), ignoring, names),
        "cost": cost_rows(table),
        "stability": stability_rows(curves, {name: seed_tau(table, name) for name in names}),
        "failed": failed_rows(table),
    }


def _facts(table) -> str:
    found = facts_of()
    seeds = {tuple(seeds) for _, seeds in seeds_of(table)}
    table = table[table["kind"] != VERDICT]
    scored = int((table["failed"].isna() & table["value"].notna()).sum())
    return (
        f"{table['block'].nunique()} blocks, {table['explainer'].nunique()} explainers with the controls, "
        f"{table['metric'].nunique()} metrics with those of cost and truth, {max(map(len, seeds))} seeds; {scored:,} "
        f"cells with a score. Measured from {found['finished'][0]} to {found['finished'][1]} with torch "
        f"{', '.join(found['torch'])}; scoring took {found['hours']} hours of one core."
    )


def _save(name: str, drawing: Figure) -> None:
    save_picture(drawing, PACKED.with_name(f"{name}.png"), WIDTH)


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("runs", nargs="*", type=Path)
    words.add_argument("--add", action="store_true", help="keep what the packed table has")
    chosen = words.parse_args()
    if chosen.add and not chosen.runs:
        words.error("--add came without a run, expected the folders of runs to add")
    main(**vars(chosen))
