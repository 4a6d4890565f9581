"""The scores of a degradation ladder: maps with more and more noise, and controls, by every faithfulness metric."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

import harness
from harness.code_version import code_of
from harness.engine.explain import Explaining
from harness.identity import weights_of
from harness.ordering import ranks
from harness.randomness import normal
from harness.registry import EXPLAINERS, METRICS, Metric
from harness.removal.baselines import is_random
from harness.reproducing.studies.degradation_ladder.grounds import SOURCES, Ground, ground_of
from harness.samples import Samples

SIGMAS = (0.0, 0.5, 1.0, 2.0, 4.0)
RUNGS = tuple(f"noise {sigma:g}" for sigma in SIGMAS)
CONSTANT, BLURRED, BLURRED_NOISE = "constant", "blurred", "blurred noise 1"
DRAWN = ("random", "blurred_random", "edge")  # registered controls; all but the first are for images
BLUR = 1.0  # standard deviation in pixels of the Gaussian that blurs a map
LADDER_SEED = 0  # of all random draws, those of the metrics too
DIGITS = 7  # of a score that is kept, as many as single precision has

F_FIDELITY, ROAD, ROAR, OF_MAGNITUDES = "f_fidelity", "road", "roar", "roar of magnitudes"
FIDELITY, RANDOM_FIDELITY, UNTUNED = "Fidelity", "R-Fidelity", "F-Fidelity without fine-tuning"
MORE_REMOVED, OF_PROBABILITY = "F-Fidelity, beta 0.5", "F-Fidelity of the probability"
# Fidelities as F-Fidelity with other options. Fidelity removes all important units from the model as it is; R-Fidelity
# removes each with a probability of 1/2. The last two are variants of F-Fidelity itself.
FIDELITIES: dict[str, dict[str, Any]] = {
    FIDELITY: {"removed_share": 1.0, "most_chance": 1.0, "draws": 1, "epochs": 0},
    RANDOM_FIDELITY: {"removed_share": 1.0, "epochs": 0},
    UNTUNED: {"epochs": 0},
    MORE_REMOVED: {"removed_share": 0.5},
    OF_PROBABILITY: {"score": "probability"},
}


def faithfulness_metrics() -> list[str]:
    """The names of all registered metrics of kind faithfulness that have a direction."""
    return [name for name, entry in METRICS.items() if entry.kind == "faithfulness" and entry.direction(entry.options)]


def retrains(metric: str) -> bool:
    """Whether a metric trains models anew for each explainer, so that it gets small settings."""
    return "weight_seeds" in METRICS[metric].options


def setting_of(entry: Metric, retraining: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a metric that differ from its defaults: what is removed becomes zero, as for the contributions.

    A metric whose own baseline is random keeps it. ``retraining`` are the options of metrics that train models anew.
    """
    options = dict(retraining) if retrains(entry.name) else {}
    if isinstance(entry.options.get("baseline"), str) and not is_random(entry.options["baseline"]):
        options["baseline"] = "zero"
    return options


def fingerprint(metrics: Sequence[str]) -> str:
    """A digest of the code of metrics and of the explainers here: if it changes, scores are measured again."""
    return code_of(*(METRICS[name].function for name in metrics), *(EXPLAINERS[n].function for n in (*SOURCES, *DRAWN)))


def scores_of(
    ground: str, samples: int, train: int, metrics: Sequence[str], retraining: Mapping[str, Any], code: str
) -> pd.DataFrame:
    """The scores of rungs and controls by registered metrics, as ``wide_scores``; ``code`` is a ``fingerprint``."""
    here = ground_of(ground, samples, train)
    return _rows_of_maps(
        here, {name: setting_of(METRICS[name], retraining) for name in metrics}, rungs_of(here) | ladder_controls(here)
    )


def scores_of_magnitudes(
    ground: str, samples: int, train: int, retraining: Mapping[str, Any], code: str
) -> pd.DataFrame:
    """The scores of the rungs by ROAR of the magnitudes of their maps, as OF_MAGNITUDES."""
    here = ground_of(ground, samples, train)
    setting = {"name": ROAR, **setting_of(METRICS[ROAR], retraining)}
    return _rows_of_maps(here, {OF_MAGNITUDES: setting}, rungs_of(here, magnitude=True))


def scores_of_fidelities(ground: str, samples: int, train: int, code: str) -> pd.DataFrame:
    """The scores of the rungs by FIDELITIES."""
    here, entry = ground_of(ground, samples, train), METRICS[F_FIDELITY]
    chosen = {name: {"name": F_FIDELITY, **setting_of(entry, {}), **own} for name, own in FIDELITIES.items()}
    return _rows_of_maps(here, chosen, rungs_of(here))


def _rows_of_maps(ground: Ground, metrics: Mapping[str, Mapping[str, Any]], maps: Mapping[str, Any]) -> pd.DataFrame:
    count = max(len(ground.data), len(ground.data.train))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # samples without a score are counted in the numbers
        frame = harness.evaluate(
            ground.model, ground.data, explainers=maps, metrics=metrics, seed=LADDER_SEED, explain_batch=count
        )
    return wide_scores(frame)


def wide_scores(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``harness.evaluate``, one for each sample, as one for each metric and map.

    Columns: ``metric``, ``map``, ``better`` (higher or lower), ``why`` the metric does not apply ("" if it does), and
    the score of each sample in "0", "1", ..., NaN where it has none.
    """
    by = ["metric", "explainer"]
    scores = frame.assign(value=frame["value"].astype(float)).pivot(index=by, columns="sample", values="value")
    scores = scores.map(lambda value: float(f"{value:.{DIGITS}g}")).rename(columns=str)
    about = frame.drop_duplicates(by).set_index(by)[["better", "status", "error"]]
    why = about["status"].str.replace("_", " ") + ": " + about["error"]
    about["why"] = why.where(about["status"] != "ok", "")
    wide = about[["better", "why"]].join(scores)
    return wide.reset_index().rename(columns={"explainer": "map"})


def rungs_of(ground: Ground, *, magnitude: bool = False) -> dict[str, dict[str, Any]]:
    """The rungs of the ladder and, of images, two of them blurred, as ``harness.evaluate`` takes explainers."""
    own = {"name": degrading(remembered_maps(ground)), "magnitude": magnitude}
    found = {rung: {**own, "sigma": sigma} for rung, sigma in zip(RUNGS, SIGMAS, strict=True)}
    if ground.image:
        found |= {name: {**own, "sigma": sigma, "blur": BLUR} for name, sigma in ((BLURRED, 0.0), (BLURRED_NOISE, 1.0))}
    return found


def ladder_controls(ground: Ground) -> dict[str, dict[str, Any]]:
    """Maps that know nothing of the model."""
    return {CONSTANT: {"name": constant_maps}, **{name: {} for name in (DRAWN if ground.image else DRAWN[:1])}}


def constant_maps(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The same number everywhere, so that all units are tied."""
    return context.units.as_map(inputs.new_ones(len(inputs), *context.units.shape))


CleanMaps = Callable[[nn.Module, Tensor, Tensor, Samples], Tensor]


def remembered_maps(ground: Ground) -> CleanMaps:
    """A function that gives the maps (N, *units) of the ground's explainer, made once for each model and inputs."""
    entry, known = EXPLAINERS[ground.explainer], {}
    options = entry.complete(ground.options)

    def clean(model: nn.Module, inputs: Tensor, targets: Tensor, context: Samples) -> Tensor:
        key = (weights_of(model), inputs.cpu().numpy().tobytes(), targets.cpu().numpy().tobytes())
        if key not in known:
            explaining = Explaining(entry, options, model, len(inputs))
            explaining.prepare(context)
            known[key] = context.units.reduce(explaining(context)).detach()
        return known[key]

    return clean


def degrading(clean: CleanMaps) -> Callable[..., Tensor]:
    """An explainer: maps plus noise, then blurred by a Gaussian of ``blur`` pixels, then without their signs."""

    def degraded(
        model: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        *,
        context: Samples,
        sigma: float = 0.0,
        blur: float = 0.0,
        magnitude: bool = False,
    ) -> Tensor:
        """Maps plus ``sigma`` times noise of their size; a sample has the same draws for every sigma."""
        maps = with_noise(clean(model, inputs, targets, context), sigma, context)
        if blur:
            smooth = gaussian_filter(maps.cpu().numpy(), (0, blur, blur), mode="nearest")
            maps = torch.from_numpy(smooth).to(maps)
        return context.units.as_map(maps.abs() if magnitude else maps)

    return degraded


def with_noise(maps: Tensor, sigma: float, context: Samples) -> Tensor:
    """Maps (N, *units) plus ``sigma`` times their own root mean square times standard normal noise."""
    size = maps.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (maps.dim() - 1))
    return maps + sigma * size * normal(context.stream("degradation ladder"), *context.units.shape).to(maps)


def facts_of(ground: str, samples: int, train: int, code: str) -> pd.DataFrame:
    """What is known of a ground without its ladder, in one row.

    sum_error       the largest difference of a clean map's sum and logit(x) - logit(0), over the largest logit
    pearson_error   on a linear model, the largest difference of ``faithfulness_estimate`` and the Pearson correlation
                    of a rung's map and the contributions, over all rungs; else NaN
    turned, turned_by_noise   how many samples are predicted as the other class when the upper half of the units is
                    zero, in the order of the first and of the last rung
    accuracy, probability     of the model: the share of right predictions, and its mean largest probability
    """
    here = ground_of(ground, samples, train)
    data, clean = here.data, rung_maps(here, SIGMAS[0])
    with torch.no_grad():
        logits, empty = here.model(data.inputs), here.model(torch.zeros_like(data.inputs))
    added = (logits - empty)[torch.arange(len(data)), data.targets]
    facts = {
        "sum_error": float((clean.flatten(1).sum(1) - added).abs().max() / logits.abs().max()),
        "pearson_error": _pearson_error(here, clean) if here.linear else np.nan,
        "turned": turned_without_upper_half(here, clean),
        "turned_by_noise": turned_without_upper_half(here, rung_maps(here, SIGMAS[-1])),
        "accuracy": float((data.labels == data.targets).float().mean()),
        "probability": float(logits.softmax(1).amax(1).mean()),
    }
    return pd.DataFrame([facts])


def rung_maps(ground: Ground, sigma: float) -> Tensor:
    """The maps of a rung, of the inputs' shape."""
    explainer = degrading(remembered_maps(ground))
    maps = harness.explain(explainer, ground.model, ground.data, seed=LADDER_SEED, sigma=sigma)
    return maps.view(ground.data.inputs.shape)


def turned_without_upper_half(ground: Ground, maps: Tensor) -> int:
    """How many samples the model predicts as the other class when the upper half of the units becomes zero."""
    inputs = ground.data.inputs
    lots = torch.arange(len(inputs))  # no two units are tied
    kept = ranks(maps.flatten(1), lots) >= maps[0].numel() // 2
    with torch.no_grad():
        predicted = ground.model(inputs * kept.view(inputs.shape)).argmax(1)
    return int((predicted != ground.data.targets).sum())


def _pearson_error(ground: Ground, clean: Tensor) -> float:
    errors = []
    for sigma in SIGMAS:
        maps = rung_maps(ground, sigma)
        scored = harness.score("faithfulness_estimate", ground.model, ground.data, maps, baseline="zero").numpy()
        pairs = zip(maps.flatten(1).double().numpy(), clean.flatten(1).double().numpy(), strict=True)
        errors.append(float(np.abs(scored - [np.corrcoef(*pair)[0, 1] for pair in pairs]).max()))
    return float(np.max(errors))  # NaN where a score is missing


def mirrored_consistency(samples: int, train: int, code: str) -> pd.DataFrame:
    """The largest distance of ``explanation_consistency`` from 1/2, of exact contributions on the linear table where
    every training input comes with its mirror image, in one row: ``distance``, and ``n`` samples that have a score."""
    here = ground_of("linear table", samples, train)
    both = torch.cat([here.data.train, -here.data.train])
    explainer = degrading(remembered_maps(here))
    scores = harness.score(
        "explanation_consistency",
        here.model,
        here.data.inputs,
        here.data.targets,
        rung_maps(here, 0.0),
        explainer=explainer,
        train=both,
        modality="table",
        rows=len(both),
    )
    known = scores[scores.isfinite()]
    return pd.DataFrame([{"distance": float((known - 0.5).abs().max()), "n": len(known)}])
