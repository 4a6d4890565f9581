"""``quantus.<Name>``: every metric of Quantus scores as Quantus itself would, or says why not, and leaves no trace."""

import gc
import importlib.metadata
import inspect
import re
import subprocess
import sys
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
import quantus
import torch
from torch import nn

import harness
from harness.api import make_batch, samples_of
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.errors import NotApplicable, UserError
from harness.guards import guarded
from harness.metrics import quantus_bridge
from harness.metrics._quantus_table import TABLE
from harness.randomness import batch_seed
from harness.registry import EXPLAINERS, METRICS

pytestmark = pytest.mark.usefixtures("seed")
ROOT = Path(__file__).parents[2]
THEIRS = {kind.__name__: kind for kinds in quantus.AVAILABLE_METRICS.values() for kind in kinds.values()}
NAMES = quantus_bridge.quantus_metrics()
# Constructor arguments that choose a form of output, of which the bridge needs a certain one, or that change no score.
NOT_OPTIONS = (
    "return_aggregate",
    "aggregate_func",
    "default_plot_func",
    "disable_warnings",
    "display_progressbar",
    "output_func",
    "mosaic_shape",
    "return_sample_correlation",
    "compute_extra_scores",
)
# What Quantus's defaults, made for photographs, need on images of 12 x 12.
SMALL = {
    "FaithfulnessCorrelation": {"subset_size": 20},
    "TopKIntersection": {"k": 20},
    "RandomLogit": {"num_classes": 3},
    "Infidelity": {"perturb_patch_sizes": [4]},
    "RegionPerturbation": {"patch_size": 4},
}
FEW = {"nr_samples": 3, "n_perturb_samples": 2, "nr_runs": 10, "nr_steps": 6}


def small(name):
    """Options with which a metric is quick on small images."""
    few = {option: value for option, value in FEW.items() if option in TABLE[name].options}
    return {**few, **SMALL.get(name, {})}


def net(channels=1):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, stride=2),
        nn.Softplus(),
        nn.Flatten(),
        nn.Linear(64, 3),
    ).eval()


def images(channels=1, count=4):
    return torch.randn(count, channels, 12, 12), torch.tensor([0, 1, 2, 0])[:count]


def batch_of(model, inputs, targets, explainer="input_x_gradient", seed=0, masks=None):
    samples = samples_of(model, inputs, targets, seed=seed, masks=masks)
    entry = EXPLAINERS.resolve(explainer)
    explaining = Explaining(entry, entry.complete({}), model)
    explaining.prepare(samples)
    return make_batch(samples, explaining(samples), explaining)


def scored(name, batch, **options):
    entry = METRICS[f"quantus.{name}"]
    with guarded(batch.samples.predictor.module):
        return score_batch(entry, entry.complete(options), batch)


def directly(name, batch, **options):
    """What a call of Quantus itself returns, with the generators as the bridge seeds them."""
    entry = METRICS[f"quantus.{name}"]
    options = entry.complete(options)
    softmax = options.pop("softmax")
    np.random.seed(batch_seed(batch.samples.keys, batch.samples.seed) % 2**32)
    explain = lambda model, inputs, targets, **_: harness.explain(
        "input_x_gradient", model, torch.as_tensor(inputs).float(), torch.as_tensor(targets)
    ).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return THEIRS[name](**options, return_aggregate=False, disable_warnings=True)(
            model=batch.samples.predictor.module,
            x_batch=batch.inputs.numpy().copy(),
            y_batch=batch.targets.numpy().copy(),
            a_batch=batch.raw.numpy().copy(),
            softmax=softmax,
            device="cpu",
            batch_size=len(batch),
            channel_first=True,
            explain_func=explain,
        )


def test_every_metric_that_quantus_registers_is_here_with_its_own_options_and_defaults():
    assert set(TABLE) == set(THEIRS) and len(NAMES) == 37
    for name, theirs in THEIRS.items():
        arguments = inspect.signature(theirs.__init__).parameters.values()
        expected = {each.name: each.default for each in arguments if each.name not in ("self", "kwargs", *NOT_OPTIONS)}
        expected = {option: value.__name__ if callable(value) else value for option, value in expected.items()}
        expected["softmax"] = inspect.signature(theirs.__call__).parameters["softmax"].default
        if name == "EfficientMPRT":  # it is for extra results only, which are not asked for
            del expected["similarity_func"]
        assert TABLE[name].options == expected, name


def test_their_names_are_looked_up_without_quantus_and_are_not_among_our_metrics():
    code = (
        "import sys; from harness.registry import METRICS\n"
        "entry = METRICS['quantus.PixelFlipping']; assert entry.options['features_in_step'] == 1\n"
        "assert len(METRICS.bridged()) == 37 and 'quantus.IROF' in METRICS and 'quantus.X' not in METRICS\n"
        "assert not any(name.startswith('quantus') for name in METRICS) and 'quantus' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert set(METRICS.bridged()) == set(NAMES)


def test_a_misspelt_name_a_missing_library_and_another_version_are_told_in_one_line(monkeypatch):
    with pytest.raises(UserError, match=r"unknown metric 'quantus.PixelFliping': did you mean 'quantus.PixelFlipping'"):
        METRICS["quantus.PixelFliping"]
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.7.1")
    quantus_bridge.quantus_entry.cache_clear()
    with pytest.raises(UserError, match="quantus is 0.7.1, expected 0.6"):
        METRICS["quantus.IROF"]

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(UserError, match=r"pip install 'harness\[quantus\]'"):
        METRICS["quantus.IROF"]
    with pytest.raises(UserError, match="unknown metric 'srgg': did you mean 'srg'"):
        METRICS["srgg"]


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_every_metric_leaves_a_row_that_has_a_score_or_a_reason(channels):
    model, (inputs, _) = net(channels), images(channels)
    masks = torch.zeros(4, 12, 12, dtype=torch.bool)
    masks[:, 2:7, 3:9] = True
    frame = harness.evaluate(
        model,
        inputs,
        model(inputs).argmax(1),
        explainers=["input_x_gradient"],
        masks=masks,
        metrics={name: small(name.partition(".")[2]) for name in NAMES},
    )
    rows = frame.groupby("metric").first()
    assert len(rows) == 37 and len(frame) == 4 * 37
    assert (frame.better == frame.metric.map(lambda name: METRICS[name].direction(METRICS[name].options))).all()
    expected = {"quantus.Focus": "not_applicable"}
    if channels == 3:
        expected |= {"quantus.IROF": "failed", "quantus.ROAD": "failed"}
    allowed = {"quantus.SensitivityN"}  # NaN as soon as one of its steps is constant
    found = {name: status for name, status in rows.status.items() if status != "ok"}
    assert {name: status for name, status in found.items() if name not in allowed} == expected
    for name in found:
        error = rows.error[name]
        assert error and "\n" not in error and re.search("Quantus|mosaics", error)
    assert frame[frame.status == "ok"].groupby("metric").valid.any().all()


def test_with_defaults_that_do_not_fit_small_images_the_row_says_which():
    model, (inputs, targets) = net(), images()
    masks = torch.ones(4, 12, 12, dtype=torch.bool)
    wrong = {"FaithfulnessCorrelation": "subset_size", "TopKIntersection": "'k'", "RandomLogit": "num_classes is 1000"}
    frame = harness.evaluate(
        model, inputs, targets, explainers=["saliency"], metrics=[f"quantus.{name}" for name in wrong], masks=masks
    )
    errors = frame.groupby("metric").error.first()
    assert (frame.status == "failed").all()
    assert all(word in errors[f"quantus.{name}"] for name, word in wrong.items()), errors


@pytest.mark.parametrize(
    "name",
    ["FaithfulnessEstimate", "MonotonicityCorrelation", "MaxSensitivity", "Sparseness", "RelativeInputStability"],
)
def test_one_number_per_sample_is_quantuss_own(name):
    batch = batch_of(net(), *images())
    found, expected = scored(name, batch, **small(name)), directly(name, batch, **small(name))
    np.testing.assert_allclose(found.values, np.asarray(expected, dtype=float), rtol=1e-6, equal_nan=True)
    assert found.curves is None


@pytest.mark.parametrize("name", ["PixelFlipping", "RegionPerturbation"])
def test_a_curve_is_kept_and_its_mean_is_the_score(name):
    batch = batch_of(net(), *images())
    found, expected = scored(name, batch, **small(name)), np.asarray(directly(name, batch, **small(name)))
    np.testing.assert_allclose(found.curves, expected, rtol=1e-6)
    np.testing.assert_allclose(found.values, expected.mean(1), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "own", "options"),
    [
        ("RelevanceMassAccuracy", "relevance_mass", {"sign": "abs"}),
        ("AUC", "localization_auc", {}),
        ("RelevanceRankAccuracy", "relevance_rank", {}),
        ("PointingGame", "pointing_game", {"margin": 0.0}),
    ],
)
def test_masks_and_reduced_maps_reach_quantus_as_they_are(name, own, options):
    masks = torch.zeros(4, 12, 12, dtype=torch.bool)
    masks[:, 2:7, 3:9] = True
    batch, entry = batch_of(net(3), *images(3), masks=masks), METRICS[own]
    expected = score_batch(entry, entry.complete(options), batch)
    found = scored(name, batch, normalise=False, abs="sign" in options)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-6)


def test_layers_are_averaged_as_quantus_averages_them():
    batch = batch_of(net(), *images())
    found, layers = scored("MPRT", batch), directly("MPRT", batch)
    np.testing.assert_allclose(found.curves, np.stack(list(layers.values()), 1), rtol=1e-6)
    average = directly("MPRT", batch, return_average_correlation=True)
    np.testing.assert_allclose(found.values, average, rtol=1e-6)
    np.testing.assert_allclose(scored("MPRT", batch, return_average_correlation=True).values, average, rtol=1e-6)
    np.testing.assert_allclose(found.curves[:, 0], 1, rtol=1e-9)  # of the map with itself


def test_the_samples_hits_of_road_average_to_quantuss_accuracies():
    batch = batch_of(net(), *images())
    found, accuracies = scored("ROAD", batch, noise=0.0), directly_with_old_numpy("ROAD", batch, noise=0.0)
    np.testing.assert_allclose(found.curves.mean(0), list(accuracies.values()), atol=1e-9)
    assert set(found.curves.unique().tolist()) <= {0.0, 1.0}


def directly_with_old_numpy(name, batch, **options):
    with quantus_bridge.quantus_environment(batch.samples):
        return directly(name, batch, **options)


def test_a_number_of_the_whole_batch_is_given_to_each_of_its_samples():
    batch = batch_of(net(), *images())
    options = {"features_in_step": 4, "perturb_baseline": 0.0}
    found, expected = scored("SensitivityN", batch, **options), directly("SensitivityN", batch, **options)
    np.testing.assert_array_equal(found.values, np.full(4, np.mean(expected)))
    np.testing.assert_allclose(found.curves, np.tile(expected, (4, 1)), rtol=1e-6, equal_nan=True)
    with pytest.raises(RuntimeError, match="SensitivityN failed .known to fail on .* a single image"):
        scored("SensitivityN", batch_of(net(), *images(count=1)), **options)


def test_draws_hang_on_the_protocols_seed_and_not_on_the_global_generators():
    model, (inputs, targets) = net(), images()
    found = []
    for seed, before in ((0, 1), (0, 2), (7, 1)):
        np.random.seed(before)
        found.append(scored("AvgSensitivity", batch_of(model, inputs, targets, seed=seed), nr_samples=2).values)
    assert found[0].equal(found[1]) and not torch.isclose(found[0], found[2]).any()


@pytest.mark.parametrize("name", ["IROF", "Complexity", "Sparseness", "MPRT", "TopKIntersection"])
def test_nothing_is_left_changed_also_after_a_failure(name):
    masks = torch.ones(4, 12, 12, dtype=torch.bool)
    batch = batch_of(net(), *images(), masks=masks)
    before = batch.inputs.clone(), batch.raw.clone(), batch.targets.clone()
    numpy_names, state, torch_state = set(dir(np)), np.random.get_state()[1].copy(), torch.get_rng_state()
    filters = list(warnings.filters)
    entry = METRICS[f"quantus.{name}"]
    try:
        # So these two write into the maps they are given.
        options = {"abs": False, "normalise": False} if name in ("Complexity", "Sparseness") else {}
        score_batch(entry, entry.complete(options), batch)
        assert name != "TopKIntersection"
    except RuntimeError:
        assert name == "TopKIntersection"  # its k does not fit
    assert all(map(torch.equal, before, (batch.inputs, batch.raw, batch.targets)))
    assert set(dir(np)) == numpy_names and not hasattr(np, "trapz")
    assert (np.random.get_state()[1] == state).all() and torch.get_rng_state().equal(torch_state)
    assert warnings.filters == filters


def test_no_model_is_held_after_the_call():
    model, (inputs, targets) = net(), images()
    scored("PixelFlipping", batch_of(model, inputs, targets), features_in_step=8)
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None


def test_the_explainer_explains_the_very_model_it_is_given():
    seen = []

    def prepare(model, context):
        return model[0].weight.detach().clone()

    def explain(model, inputs, targets, *, prepared=None):
        seen.append(torch.equal(prepared, model[0].weight))
        inputs = inputs.requires_grad_()
        return torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]

    model, (inputs, targets) = net(), images()
    samples = samples_of(model, inputs, targets)
    explaining = Explaining(EXPLAINERS.entry("mine", explain, {}, prepare=prepare), {}, model)
    explaining.prepare(samples)
    found = scored("MPRT", make_batch(samples, explaining(samples), explaining))
    assert len(seen) > 4 and all(seen)
    assert (found.curves[:, -1] < 0.999).all()


def test_what_needs_masks_or_an_explainer_or_images_says_so():
    model, (inputs, targets) = net(), images()
    bare = make_batch(samples_of(model, inputs, targets), torch.randn(4, 1, 12, 12), None)
    for name, line in TABLE.items():
        if line.needs:
            with pytest.raises(NotApplicable, match="masks" if "masks" in line.needs else "explainer"):
                scored(name, bare)
    table = make_batch(samples_of(nn.Linear(5, 3).eval(), torch.randn(4, 5), targets), torch.randn(4, 5), None)
    with pytest.raises(NotApplicable, match="needs image inputs, these are table"):
        scored("IROF", table)
    assert scored("Complexity", table).values.isfinite().all()


def test_the_softmax_of_a_single_output_is_no_score():
    inputs = torch.randn(4, 1, 4, 4)
    batch = batch_of(nn.Sequential(nn.Flatten(), nn.Linear(16, 1)).eval(), inputs, torch.zeros(4, dtype=torch.long))
    with pytest.raises(NotApplicable, match="a single output has no class probability; use softmax=False"):
        scored("PixelFlipping", batch, features_in_step=4)
    assert scored("PixelFlipping", batch, features_in_step=4, softmax=False).curves.std(1).gt(0).all()


def test_an_option_names_a_function_of_quantus_and_a_distance_turns_the_direction():
    batch = batch_of(net(), *images())
    entry = METRICS["quantus.MPRT"]
    given = entry.complete({"similarity_func": "distance_euclidean"})
    assert (entry.direction(entry.options), entry.direction(given)) == ("lower", "higher")
    found = scored("MPRT", batch, similarity_func="distance_euclidean", abs=False, normalise=False)
    np.testing.assert_allclose(found.curves[:, 0], 0, atol=1e-9)
    assert (found.curves[:, -1] > 0).all()
    with pytest.raises(UserError, match="unknown similarity_func 'euclid'"):
        scored("MPRT", batch, similarity_func="euclid")


def test_directions_are_quantuss_but_for_those_that_it_has_wrong():
    registered = {"HIGHER": "higher", "LOWER": "lower"}
    differ = {
        name
        for name, theirs in THEIRS.items()
        if METRICS[f"quantus.{name}"].direction(TABLE[name].options) != registered[theirs.score_direction.name]
    }
    assert differ == {"RegionPerturbation", "Consistency"}
    entry = METRICS["quantus.RegionPerturbation"]
    assert [entry.direction(entry.complete({"order": order})) for order in ("lerf", "random")] == ["lower", None]


def test_the_page_has_a_line_for_every_metric_with_tests_that_exist():
    lines = [line for line in (ROOT / "docs" / "quantus.md").read_text().splitlines() if line.startswith("| `")]
    rows = {
        cells[0].strip("`"): cells for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    }
    assert list(rows) == list(TABLE) and len(lines) == 37
    files = [*ROOT.glob("tests/truth/test_*.py"), *ROOT.glob("tests/reference/test_*.py")]
    defined = set(re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in files), flags=re.M))
    for name, (_, better, verdict, _, ours, tests) in rows.items():
        assert better == METRICS[f"quantus.{name}"].direction(TABLE[name].options), name
        assert verdict in ("yes", "after a conversion", "no", "not bridged"), name
        named = set(re.findall(r"`(test_\w+)`", tests))
        assert named and named <= defined, (name, named - defined)
        assert all(each in METRICS for each in re.findall(r"`(\w+)", ours)), name
