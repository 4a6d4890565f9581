"""Error against evaluations of LIME's coefficients: ``python tests/speed/lime_accuracy.py`` writes into docs/speed.md.

The games and the measure are those of ``accuracy.py``. All estimators have the weights and the penalty of the harness.
Each is compared with the coefficients that it would find if its sum over draws had its expectation, which are known
because the worths of all coalitions are. captum does not draw the whole input; the others begin with it.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs"), str(Path(__file__).parent)]

from pages import replaced  # noqa: E402

from accuracy import PAGE, Estimator, by_harness, errors_of, tables_of  # noqa: E402
from games import Games, TableGame, all_games  # noqa: E402
from harness.explainers._expected_ridge import (  # noqa: E402
    ExpectedRidge,
    coalition_weights,
    exact_coefficients,
    ridge,
)
from harness.explainers.shapley import all_coalitions  # noqa: E402

MARK = "lime accuracy table"
WIDTH, PENALTY = 0.25, 1.0
CAPTUM = "captum, Lime"


def by_lime(game: TableGame, players: int, budget: int, seed: int) -> np.ndarray:
    """The authors' package: an image of one row of grey pixels, each a superpixel."""
    from lime.lime_image import LimeImageExplainer

    def classify(images: np.ndarray) -> np.ndarray:
        return game(torch.from_numpy(images[:, 0, :, 0]).float()).double().numpy()

    explainer = LimeImageExplainer(kernel_width=WIDTH, feature_selection="none", random_state=seed)
    found = explainer.explain_instance(
        np.ones((1, players, 3)),
        classify,
        labels=(0,),
        top_labels=None,
        hide_color=0,
        num_samples=budget,
        batch_size=budget,
        segmentation_fn=lambda image: np.arange(players)[None],
    )
    coefficients = dict(found.local_exp[0])
    return np.array([coefficients[player] for player in range(players)])


def by_captum_lime(game: TableGame, players: int, budget: int, seed: int) -> np.ndarray:
    """captum's Lime, with a ridge regression in the place of its Lasso."""
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr import Lime
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    torch.manual_seed(seed), np.random.seed(seed)
    near = get_exp_kernel_similarity_function("cosine", WIDTH)
    explainer = Lime(game, interpretable_model=SkLearnRidge(alpha=PENALTY), similarity_func=near)
    found = explainer.attribute(torch.ones(1, players), n_samples=budget, perturbations_per_eval=budget)
    return found[0].double().numpy()


ESTIMATORS: dict[str, Estimator] = {
    "ours (process)": by_harness("lime", lambda players, budget: {"samples": budget, "estimator": "process"}),
    "ours (least squares)": by_harness("lime", lambda players, budget: {"samples": budget}),
    "authors' package, LimeImageExplainer": by_lime,
    CAPTUM: by_captum_lime,
}


def expected(games: Games, name: str, budget: int) -> np.ndarray:
    """The coefficients (games, K) that an estimator would find if its sum had its expectation."""
    present, worths = all_coalitions(games.players).flip(0)[None], games.worths.flip(1)  # that of all players first
    present = present.expand(len(worths), -1, -1)
    if name == CAPTUM:
        return ridge(present, coalition_weights(present, WIDTH) * budget / worths.shape[1], worths, PENALTY).numpy()
    return exact_coefficients(present, worths, ExpectedRidge(games.players, budget, WIDTH, PENALTY)).numpy()


def main() -> None:
    """Measure all games, print, and write the page."""
    found = pd.concat([errors_of(games, ESTIMATORS, expected) for games in all_games()], ignore_index=True)
    part = "\n".join(tables_of(found))
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), MARK, part), encoding="utf-8")
    print(part)


if __name__ == "__main__":
    main()
