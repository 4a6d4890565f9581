"""Error against evaluations of estimators of Shapley values, side by side: ``python tests/speed/accuracy.py``.

It writes a table and a picture into docs/speed.md. Every estimator plays the same games, whose exact values are known,
with the same number of evaluations of the model. The error is the squared distance of a game's values from the exact
ones as a share of their squared length; its mean is over games and seeds.
"""

import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs"), str(Path(__file__).parent)]

from pages import as_table, replaced, save_picture  # noqa: E402

import harness  # noqa: E402
from games import Games, TableGame, all_games  # noqa: E402
from harness.explainers._coalition_pairs import number_of_pairs, pairs_listed  # noqa: E402
from harness.explainers.shapley import efficient_regression  # noqa: E402
from harness.results.figures import figure, looks, panels, tidy  # noqa: E402
from harness.results.numbers import significant  # noqa: E402

PAGE, MARK, PICTURE = ROOT / "docs" / "speed.md", "accuracy table", ROOT / "docs" / "speed" / "shapley.png"
BUDGETS = (64, 128, 256, 512, 1024)
SEEDS = 3
OURS, LEAST_SQUARES, ORDERS = "kernel_shap (process)", "kernel_shap (least squares)", "shapley_sampling"
SHAP, LEVERAGE, CAPTUM = "shap, KernelExplainer", "Leverage SHAP", "captum, KernelShap"
SHAP_ORDERS, CAPTUM_ORDERS = "shap, PermutationExplainer", "captum, ShapleyValueSampling"
Estimator = Callable[[TableGame, int, int, int], np.ndarray]  # game, players, budget, seed -> values (K,)


def by_harness(name: str, options: Callable[[int, int], dict]) -> Estimator:
    """An explainer of the harness; ``options`` from players and budget."""

    def estimate(game: TableGame, players: int, budget: int, seed: int) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the model has one output
            target = torch.zeros(1, dtype=torch.long)
            given = {"baseline": "zero", "seed": seed, **options(players, budget)}
            return harness.explain(name, game, torch.ones(1, players), target, **given)[0].double().numpy()

    return estimate


def orders_within(players: int, budget: int) -> dict[str, int]:
    """An even number of orders whose evaluations fit into the budget, at least 2."""
    return {"permutations": max(2, budget // (players - 1) // 2 * 2)}


def by_shap(game: TableGame, players: int, budget: int, seed: int) -> np.ndarray:
    """shap's KernelExplainer without selection of features."""
    import shap

    np.random.seed(seed)
    explainer = shap.KernelExplainer(partial(_rows, game), np.zeros((1, players)))
    return explainer.shap_values(
        np.ones((1, players)), nsamples=budget, l1_reg=f"num_features({players})", silent=True
    )[0]


def by_shap_orders(game: TableGame, players: int, budget: int, seed: int) -> np.ndarray:
    """shap's PermutationExplainer, of orders forwards and backwards."""
    import shap

    explainer = shap.PermutationExplainer(partial(_rows, game), np.zeros((1, players)), seed=seed)
    return explainer(np.ones((1, players)), max_evals=max(budget, 2 * players + 1), silent=True).values[0]


def _rows(game: TableGame, rows: np.ndarray) -> np.ndarray:
    return game(torch.from_numpy(np.asarray(rows, dtype=np.float32)))[:, 0].double().numpy()


def by_captum(game: TableGame, players: int, budget: int, seed: int) -> np.ndarray:
    """captum's KernelShap."""
    from captum.attr import KernelShap

    torch.manual_seed(seed), np.random.seed(seed)
    found = KernelShap(game).attribute(torch.ones(1, players), n_samples=budget, perturbations_per_eval=budget)
    return found[0].double().numpy()


def by_captum_orders(game: TableGame, players: int, budget: int, seed: int) -> np.ndarray:
    """captum's ShapleyValueSampling."""
    from captum.attr import ShapleyValueSampling

    torch.manual_seed(seed)
    orders = max(1, budget // players)
    return ShapleyValueSampling(game).attribute(torch.ones(1, players), n_samples=orders)[0].double().numpy()


def by_leverage(game: TableGame, players: int, budget: int, seed: int) -> np.ndarray:
    """Leverage SHAP (Musco and Witter 2024, 2410.01917): pairs without replacement, each size equally often."""
    draw = np.random.default_rng(seed)
    sizes = range(1, players // 2 + 1)
    chance = {size: (0.5 if 2 * size == players else 1.0) / number_of_pairs(players, size) for size in sizes}
    scale = _scale_for(budget // 2, {size: (number_of_pairs(players, size), each) for size, each in chance.items()})
    parts, weights = [], []
    for size, each in chance.items():
        kept, number = min(1.0, scale * each), number_of_pairs(players, size)
        ranks = draw.choice(number, int(draw.binomial(number, kept)), replace=False)
        parts.append(pairs_listed(players, size)[torch.from_numpy(ranks)])
        weights += len(ranks) * [1 / (size * (players - size) * comb(players, size) * kept)]
    present = torch.cat(parts)
    both, weight = torch.cat([present, ~present])[None], torch.tensor(weights * 2, dtype=torch.float64)
    worth = lambda rows: game(rows.float())[:, 0].double()
    none, everyone = worth(torch.zeros(1, players)), worth(torch.ones(1, players))
    return efficient_regression(both, weight, (worth(both[0]) - none)[None], everyone - none)[0].numpy()


def _scale_for(pairs: int, of_sizes: dict[int, tuple[int, float]]) -> float:
    """The factor by which the expected number of pairs is ``pairs``."""
    low, high = 0.0, 1e12
    for _ in range(200):
        middle = (low + high) / 2
        expected = sum(number * min(1.0, middle * chance) for number, chance in of_sizes.values())
        low, high = (middle, high) if expected < pairs else (low, middle)
    return high


ESTIMATORS: dict[str, Estimator] = {
    OURS: by_harness("kernel_shap", lambda players, budget: {"samples": budget}),
    LEAST_SQUARES: by_harness("kernel_shap", lambda players, budget: {"samples": budget, "estimator": "least_squares"}),
    LEVERAGE: by_leverage,
    SHAP: by_shap,
    CAPTUM: by_captum,
    ORDERS: by_harness("shapley_sampling", orders_within),
    SHAP_ORDERS: by_shap_orders,
    CAPTUM_ORDERS: by_captum_orders,
}


def errors_of(
    games: Games, estimators: Mapping[str, Estimator], exact: Callable[[Games, str, int], np.ndarray]
) -> pd.DataFrame:
    """The errors: columns game, budget, estimator, seed, evaluations and error.

    ``exact`` has the values (games, K) that an estimator of this name should find with a budget.
    """
    rows = []
    for budget in BUDGETS:
        if not 4 * games.players <= budget < 2**games.players - 2:
            continue
        for name, estimator in estimators.items():
            right = exact(games, name, budget)
            for number, worths in enumerate(games.worths):
                for seed in range(SEEDS):
                    model = TableGame(worths).eval()
                    found = estimator(model, games.players, budget, seed)
                    error = ((found - right[number]) ** 2).sum() / (right[number] ** 2).sum()
                    about = {"game": games.name, "budget": budget, "estimator": name}
                    rows.append({**about, "seed": seed, "evaluations": model.rows, "error": float(error)})
    return pd.DataFrame(rows)


def mean_errors(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each game and budget, a column for each estimator in the order in which they come."""
    table = found.groupby(["game", "budget", "estimator"], sort=False)["error"].mean().unstack("estimator")
    return table[list(dict.fromkeys(found["estimator"]))]


def tables_of(found: pd.DataFrame) -> list[str]:
    """Lines of two tables: errors with 512 evaluations, and those of the first estimator over those of each other."""
    means = mean_errors(found)
    shown = means.xs(512, level="budget")
    rows = [(game, *(f"{each:.1e}" for each in row)) for game, row in zip(shown.index, shown.to_numpy(), strict=True)]
    ours, *rivals = means.columns
    of_rivals = []
    for rival in rivals:
        each = [means.xs(budget, level="budget") for budget in BUDGETS]
        of_rivals.append((rival, *(significant(float(np.exp(np.log(own[ours] / own[rival]).mean()))) for own in each)))
    head = ("our error as a share of that of", *(f"{budget}" for budget in BUDGETS))
    return [as_table(("512 evaluations", *means.columns), rows), "", as_table(head, of_rivals)]


def _drawn(found: pd.DataFrame) -> Figure:
    means = mean_errors(found)
    games = list(dict.fromkeys(found["game"]))
    drawing = figure(8.5, "Error of Shapley values against evaluations of the model")
    for axes, game in zip(panels(drawing, 3, 4, len(games), sharex=True), games, strict=True):
        own = means.xs(game, level="game")
        for name, (colour, marker) in zip(own.columns, looks(len(own.columns)), strict=True):
            line = "-" if name.startswith(("kernel", "shapley")) else "--"
            axes.loglog(own.index, own[name], color=colour, marker=marker, linestyle=line, markersize=4, label=name)
        axes.set_xscale("log", base=2)
        axes.set_xticks(BUDGETS, [str(each) for each in BUDGETS])
        tidy(axes, game.replace(", ", "\n", 1), "evaluations", "squared error, share")
    handles, labels = axes.get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return drawing


def main() -> None:
    """Measure all games, print, and write the page and the picture."""
    exact = lambda games, name, budget: games.exact.numpy()
    found = pd.concat([errors_of(games, ESTIMATORS, exact) for games in all_games()], ignore_index=True)
    PICTURE.parent.mkdir(exist_ok=True)
    save_picture(_drawn(found), PICTURE, 1600, 64)
    part = "\n".join([*tables_of(found), "", f"![error against evaluations](speed/{PICTURE.name})"])
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), MARK, part), encoding="utf-8")
    print(part)


if __name__ == "__main__":
    main()
