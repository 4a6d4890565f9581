"""Nets for digits whose layers get random weights, or that learn permuted labels, and how similar the maps are then.

Every net is one replicate: it has its own first weights, its own random weights and its own images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from harness.api import evaluate, explain, samples_of
from harness.batch import Batch, Scores
from harness.datasets.digits import VALUE_RANGE
from harness.datasets.digits import load_split as digits_parts
from harness.datasets.mnist_zeros_ones import SIDE as MNIST_SIDE
from harness.datasets.mnist_zeros_ones import zeros_and_ones
from harness.explainers._gradients import summed_gradients
from harness.metrics._randomised import Randomisation, explainer_on, random_models, randomised_maps
from harness.metrics._similarity import similarity_of
from harness.models.digits_cnn import digits_cnn
from harness.models.mnist_cnn import mnist_cnn
from harness.models.training import TrainingOptions
from harness.reproducing.studies.shared.mnist_nets import DigitNet, digit_net, digits_of
from harness.samples import Samples
from harness.sources import Data

# From the output down; the nets have no other parameters.
LAYERS = ("logits", "dense", "convolution 3", "convolution 2", "convolution 1")
MNIST_LAYERS = ("logits", "dense", "convolution 2", "convolution 1")
NOTHING = "none"  # what is random at first
STAGES = (NOTHING, *LAYERS)  # what is random last
DESIGNS = {
    "cascading, fixed class": {"mode": "cascading", "explained_class": "fixed"},
    "cascading, re-argmax": {"mode": "cascading", "explained_class": "reargmax"},
    "one layer at a time": {"mode": "independent", "explained_class": "fixed"},
}
# The four of the paper, and two in which the sign is removed before the map is scaled: name and absolute values first.
MEASURES = {
    "Spearman of |a|": ("spearman_abs", False),
    "signed Spearman": ("spearman", False),
    "SSIM": ("ssim", False),
    "HOG": ("hog", False),
    "SSIM of |a|": ("ssim", True),
    "HOG of |a|": ("hog", True),
}
PAPERS_MEASURES = tuple(MEASURES)[:4]
METHODS = (
    "gradient",
    "smoothgrad",
    "vargrad",
    "input_x_gradient",
    "integrated_gradients",
    "guided_backprop",
    "grad_cam",
    "guided_grad_cam",
)
WITHOUT_MULTIPLIER = "mean_path_gradient"  # Integrated Gradients without the factor (input - baseline)
CONTROLS_OF_SANITY = ("edge", "input_magnitude", "random")
LABELS = ("permuted", "true")
ENOUGH_IMAGES = 500  # to know the accuracy of a net
UNDEFINED = "every score is undefined"  # the word of the engine for a cell in which no image has a score


# The arrangement of the paper's net for MNIST, with a quarter of its channels and a sixteenth of its dense units.
PAPERS_ARRANGEMENT = DigitNet("sanity_checks_cnn", (8, 16), (64,), padding=2)


@dataclass(frozen=True)
class SanityBench:
    """The nets of a study and their images.

    model   the nets in words, as the model of the numbers
    data    the images in words, as the data set of the numbers
    side    of the images in pixels
    layers  from the output down
    net     (number, epochs) -> the net
    parts   gives train and test -> images, labels, ...
    """

    model: str
    data: str
    side: int
    layers: tuple[str, ...]
    net: Callable[[int, int], nn.Module]
    parts: Callable[[], Mapping[str, Any]]


def _digits_net(number: int, epochs: int) -> nn.Module:
    return digits_cnn(training=TrainingOptions(seed=number, epochs=epochs)).module


def _own_mnist_net(number: int, epochs: int) -> nn.Module:
    return digit_net(PAPERS_ARRANGEMENT, digits_of(None), number, epochs)


SANITY_BENCHES = {
    "digits": SanityBench("digits_cnn", "digits", 8, LAYERS, _digits_net, digits_parts),
    "own": SanityBench("own CNN", "MNIST, zeros and ones", MNIST_SIDE, MNIST_LAYERS, _own_mnist_net, zeros_and_ones),
    "published": SanityBench(
        "mnist_cnn",
        "MNIST, zeros and ones",
        MNIST_SIDE,
        MNIST_LAYERS,
        lambda number, epochs: mnist_cnn().module,
        zeros_and_ones,
    ),
}


@dataclass(frozen=True)
class NetWithImages:
    """A trained net, the images (N, 1, H, W) of its replicate, and the class (N,) that it predicts for each."""

    module: nn.Module
    inputs: Tensor
    classes: Tensor


def net_with_images(bench: str, net: int, images: int, epochs: int) -> NetWithImages:
    """The net of this number on a bench and its own block of images: block 0 are the first of the test part."""
    on = SANITY_BENCHES[bench]
    module = on.net(net, epochs)
    inputs = on.parts()["test"][0][net * images : (net + 1) * images]
    if len(inputs) < images:
        raise ValueError(f"the test part has no {images} images for net {net}")
    return NetWithImages(module, inputs, module(inputs).argmax(1))


def explainers_with_options(smoothgrad: int, vargrad: int, steps: int) -> dict[str, dict[str, Any]]:
    """All explainers with their options: the two numbers of noisy copies, and the steps of paths."""
    own = {
        "smoothgrad": {"samples": smoothgrad},
        "vargrad": {"samples": vargrad},
        "integrated_gradients": {"steps": steps},
    }
    registered = {name: own.get(name, {}) for name in (*METHODS, *CONTROLS_OF_SANITY)}
    return {**registered, WITHOUT_MULTIPLIER: {"name": mean_path_gradient, "steps": steps}}


def mean_path_gradient(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, steps: int = 50
) -> Tensor:
    """The gradient averaged on the line from zero to the input: Integrated Gradients without its factor, the input."""
    nodes, weights = (torch.from_numpy(each / 2).float() for each in np.polynomial.legendre.leggauss(steps))
    spread = lambda values: values.view(*values.shape, *[1] * (inputs.dim() - 1))
    build = lambda sample, draw: spread(nodes[draw] + 0.5) * inputs[sample]
    return summed_gradients(
        model, context, targets, steps, build, lambda sample, draw, gradients: gradients * spread(weights[draw])
    )


def similarities_of_net(
    bench: str, net: int, images: int, epochs: int, smoothgrad: int, vargrad: int, steps: int
) -> pd.DataFrame:
    """Mean similarities of a net's maps with random weights to those without: a row for each design, explainer, measure
    and stage, with the number of images whose maps can be compared."""
    own = net_with_images(bench, net, images, epochs)
    metrics = {
        design: {"name": similarities_at_stages, "stages": 0, "weight_seed": net, **options}
        for design, options in DESIGNS.items()
    }
    frame = evaluate(
        own.module,
        Data(own.inputs, own.classes, value_range=VALUE_RANGE),
        explainers=explainers_with_options(smoothgrad, vargrad, steps),
        metrics=metrics,
    )
    stages = (NOTHING, *SANITY_BENCHES[bench].layers)
    cells = frame.groupby(["metric", "explainer"], sort=False)
    return pd.concat([_means_over_images(net, stages, *cell) for cell in cells])


def similarities_at_stages(batch: Batch, *, randomisation: Randomisation = Randomisation(stages=0)) -> Scores:
    """A metric: curves (N, measures * stages) of the similarities by all MEASURES at all stages of a randomisation.

    Each is that of ``parameter_randomization``. The stage ``none`` comes first: the map is made again after all random
    weights, on the restored net. Values are the means over the random stages that are
    defined, by the first measure.
    """
    before = batch.reduced(batch.raw)
    random = randomised_maps(batch, randomisation)
    live = batch.samples.live()
    again = batch.reduced(explainer_on(batch, live)(live))
    after = torch.cat([again[:, None], random], 1)
    # All stages of an image in one call, each beside the map without random weights.
    pairs = before[:, None].expand_as(after).flatten(0, 1), after.flatten(0, 1)
    curves = torch.stack([_similarity_by(measure, *pairs).view(after.shape[:2]) for measure in MEASURES], 1)
    return Scores(curves[:, 0, 1:].nanmean(1), curves=curves.flatten(1))


def _similarity_by(measure: str, first: Tensor, second: Tensor) -> Tensor:
    """The similarity (N,) of maps (N, H, W) by one of MEASURES; NaN where a map is constant."""
    name, absolute = MEASURES[measure]
    if absolute:
        first, second = first.abs(), second.abs()
    return similarity_of(name, first.shape[1:])(first, second)


def similarities_by_all_measures(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Measure -> similarity (N,) of maps (N, H, W)."""
    return {measure: _similarity_by(measure, first, second) for measure in MEASURES}


def _means_over_images(net: int, stages: tuple[str, ...], cell: tuple[str, str], rows: pd.DataFrame) -> pd.DataFrame:
    curves = _curves_of_cell(net, rows, len(MEASURES) * len(stages))
    curves = curves.reshape(len(rows), len(MEASURES), len(stages))
    known = np.isfinite(curves)
    means = np.where(known, curves, 0).sum(0) / np.maximum(known.sum(0), 1)
    return pd.DataFrame(
        [
            {
                "net": net,
                "design": cell[0],
                "explainer": cell[1],
                "measure": measure,
                "stage": stage,
                "mean": means[i, j] if known[:, i, j].any() else np.nan,
                "least": curves[:, i, j][known[:, i, j]].min(initial=np.inf),
                "images": int(known[:, i, j].sum()),
            }
            for i, measure in enumerate(MEASURES)
            for j, stage in enumerate(stages)
        ]
    )


def _curves_of_cell(net: int, rows: pd.DataFrame, width: int) -> np.ndarray:
    """The curves (N, ``width``) of a metric and an explainer, NaN where the map of each image is constant; RuntimeError
    where they could not be measured."""
    if rows["error"].astype(str).str.contains(UNDEFINED).all():
        return np.full((len(rows), width), np.nan)
    if set(rows["status"]) != {"ok"}:
        raise RuntimeError(f"{rows['explainer'].iloc[0]}, {rows['metric'].iloc[0]}, net {net}: {rows['error'].iloc[0]}")
    return np.array(rows["curve"].tolist())


def label_similarities_of_net(
    bench: str,
    net: int,
    images: int,
    epochs: int,
    smoothgrad: int,
    vargrad: int,
    steps: int,
    labelled: int,
    twin_epochs: int,
    twin_batch: int,
) -> pd.DataFrame:
    """Mean similarities of a net's maps to those of two twins that are trained on ``labelled`` training images, one on
    permuted labels and one on the true ones: a row for each explainer, measure and twin, with its accuracy there."""
    own = net_with_images(bench, net, images, epochs)
    train, train_labels = SANITY_BENCHES[bench].parts()["train"][:2]
    explainers = explainers_with_options(smoothgrad, vargrad, steps)
    options = {"name": "label_randomization", "epochs": twin_epochs, "batch_size": twin_batch, "weight_seed": net}
    frame = evaluate(
        own.module,
        Data(
            own.inputs,
            own.classes,
            value_range=VALUE_RANGE,
            train=train[:labelled],
            train_labels=train_labels[:labelled],
        ),
        explainers={name: explainers[name] for name in METHODS},
        metrics={measure: {**options, "similarity": MEASURES[measure][0]} for measure in PAPERS_MEASURES},
    )
    rows = []
    for (measure, name), cell in frame.groupby(["metric", "explainer"], sort=False):
        curves = _curves_of_cell(net, cell, 2 * len(LABELS))
        for at, labels in enumerate(LABELS):
            known = curves[np.isfinite(curves[:, at]), at]
            mean = known.mean() if len(known) else np.nan
            about = {"net": net, "explainer": name, "measure": measure, "labels": labels}
            rows.append({**about, "mean": mean, "accuracy": curves[0, 2 + at], "images": len(known)})
    return pd.DataFrame(rows)


def identities_of_net(
    bench: str, net: int, images: int, epochs: int, smoothgrad: int, vargrad: int, steps: int
) -> pd.DataFrame:
    """What holds exactly for a net: a row for each quantity, with its value.

    ``stages as they should be``  the number of stages, over both modes, where exactly the expected weights are random
    ``bits that stay``            whether all weights have their own bits again after each of the modes
    ``guided and plain``          the smallest distance of Guided Backprop from the gradient, as a share of its norm
    ``gradient times input``      the largest difference to ``input_x_gradient``, as a share of its largest value
    ``mean gradient times input`` the same for the mean gradient on the path and ``integrated_gradients``
    ``test accuracy``             the share of the first 500 test images that the net classifies right
    """
    own = net_with_images(bench, net, images, epochs)
    maps = lambda name, **options: explain(name, own.module, own.inputs, own.classes, **options)
    plain, guided = maps("gradient"), maps("guided_backprop")
    apart = (guided - plain).flatten(1).norm(dim=1) / plain.flatten(1).norm(dim=1)
    path = maps("integrated_gradients", steps=steps)
    inputs, labels = (each[:ENOUGH_IMAGES] for each in SANITY_BENCHES[bench].parts()["test"][:2])
    found = {
        **_weights_through_stages(own, net),
        "guided and plain": apart.amin().item(),
        "gradient times input": _largest_gap(own.inputs * plain, maps("input_x_gradient")),
        "mean gradient times input": _largest_gap(own.inputs * maps(mean_path_gradient, steps=steps), path),
        "test accuracy": (own.module(inputs).argmax(1) == labels).double().mean().item(),
    }
    return pd.DataFrame([{"net": net, "what": what, "value": float(value)} for what, value in found.items()])


def _largest_gap(first: Tensor, second: Tensor) -> float:
    return ((first - second).abs().amax() / second.abs().amax()).item()


def _weights_through_stages(own: NetWithImages, seed: int) -> dict[str, float]:
    samples = samples_of(own.module, own.inputs[:1], own.classes[:1])
    before = {name: values.clone() for name, values in own.module.state_dict().items()}
    right, same = 0, True
    for mode in ("cascading", "independent"):
        changed = changed_at_each_stage(own.module, samples, Randomisation(mode=mode, stages=0, weight_seed=seed))
        right += sum(found == wanted for found, wanted in zip(changed, wanted_changes(own.module, mode), strict=True))
        same &= all(has_same_bits(values, before[name]) for name, values in own.module.state_dict().items())
    return {"stages as they should be": right, "bits that stay": same}


def changed_at_each_stage(module: nn.Module, samples: Samples, how: Randomisation) -> list[set[str]]:
    """The names of the parameters that are random at each stage."""
    before = {name: values.detach().clone() for name, values in module.named_parameters()}
    return [
        {name for name, values in module.named_parameters() if not has_same_bits(values, before[name])}
        for _ in random_models(samples, how)
    ]


def wanted_changes(module: nn.Module, mode: str) -> list[set[str]]:
    """The names of the parameters that should be random at each stage, from the order of the modules in a sequence."""
    layers = [{f"{name}.{own}" for own, _ in part.named_parameters()} for name, part in module.named_children()]
    from_output = [layer for layer in reversed(layers) if layer]
    return (
        from_output if mode == "independent" else [set().union(*from_output[: k + 1]) for k in range(len(from_output))]
    )


def has_same_bits(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors of 32-bit floats have the same bits."""
    return torch.equal(first.detach().view(torch.int32), second.detach().view(torch.int32))
