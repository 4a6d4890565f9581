"""An explainer's maps are its own: they do not depend on which other explainers are in the same block."""

import os

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.engine.block import explain_each
from harness.engine.item_guard import Failure, ItemGuard
from harness.engine.protocol import Protocol
from harness.engine.selection import choose_several
from harness.engine.stage import set_stage
from harness.explainers._lrp_composites import COMPOSITES
from harness.registry import EXPLAINERS
from harness.sources import LoadedModel

SEED = int(os.environ["HARNESS_TEST_SEED"])
BASELINES = ("zero", "mean", "uniform_noise")

# For each option: what else is set, and values of which every two must give other maps.
PERTURBING = {"baseline": ({}, *BASELINES), "score": ({}, "logit", "probability")}
GROUPED = PERTURBING | {"segments": ({}, "grid:2", "grid:3", "slic:9"), "background": ({}, 0, 2, 4)}
LAYER, RELU = {"layer": ({}, "0", "3")}, {"relu": ({"layer": "0"}, True, False)}
NOISY = {"samples": ({}, 3, 4), "noise": ({}, 0.15, 0.3)}
PATH = {"steps": ({}, 3, 4), "baseline": ({}, *BASELINES)}
ROWS, HELD_OUT, LABELS = ({"rows": ({}, 60, 90)}, {"held_out": ({}, 0.3, 0.5)}, {"labels": ({}, "label", "predicted")})

PICTURES = {
    "blurred_random": {"width": ({}, 0.0625, 0.25)},
    "center": {"width": ({}, 0.25, 0.5)},
    "edge": {},
    "random": {},
    "oracle": {},
    "input_magnitude": {},
    "gradient": {},
    "saliency": {},
    "input_x_gradient": {},
    "gradient_x_weight": {},
    "exact_shapley": GROUPED | {"segments": ({}, "grid:2", "grid:3")},
    "feature_ablation": GROUPED,
    "kernel_shap": GROUPED | {"samples": ({}, 40, 60), "estimator": ({}, "process", "least_squares")},
    "partition_shap": GROUPED | {"samples": ({}, 20, 60)},
    "shapley_interactions": GROUPED | {"samples": ({}, 40, 60)},
    "integrated_hessians": PATH | {"segments": GROUPED["segments"], "beta": ({}, 1.0, 10.0)},
    "shapley_sampling": GROUPED | {"permutations": ({}, 2, 4)},
    "sobol_attribution": GROUPED | {"samples": ({}, 4, 8)},
    "hsic_attribution": GROUPED | {"samples": ({}, 20, 30)},
    "lime": GROUPED
    | {
        "samples": ({}, 40, 60),
        "kernel_width": ({}, 0.25, 0.5),
        "penalty": ({}, 1.0, 0.1),
        "estimator": ({}, "process", "least_squares"),
    },
    "integrated_gradients": PATH | {"method": ({}, "gausslegendre", "riemann_left")},
    "idgi": PATH,
    "guided_ig": PATH | {"fraction": ({}, 0.25, 0.6), "max_dist": ({}, 0.02, 0.3)},
    "expected_gradients": {
        "samples": ({}, 3, 4),
        "baseline": ({}, "uniform_noise", "gaussian_noise"),
        "noise": ({}, 0.0, 0.2),
    },
    "smoothgrad": NOISY,
    "smoothgrad_squared": NOISY,
    "vargrad": NOISY,
    "occlusion": PERTURBING | {"window": ({}, 3, 4), "stride": ({}, 2, 3)},
    "rise": PERTURBING
    | {
        "samples": ({}, 20, 30),
        "cells": ({}, 3, 5),
        "keep_probability": ({}, 0.5, 0.3),
        "centred": ({}, True, False),
        "adjusted": ({}, True, False),
    },
    **dict.fromkeys(
        ("grad_cam", "grad_cam_pp", "xgrad_cam", "hires_cam", "layer_cam", "guided_grad_cam"), LAYER | RELU
    ),
    "score_cam": LAYER
    | RELU
    | {
        "softmax": ({}, True, False),
        "score": ({"softmax": False}, "logit", "probability"),
        "baseline": ({"softmax": False}, *BASELINES),
    },
    "eigen_cam": LAYER | {"centred": ({"layer": "0"}, True, False)},
    "activation_map": LAYER,
    "ablation_cam": LAYER | RELU | {"score": ({}, "logit", "probability")},
    "smoothgrad_cam_pp": LAYER
    | RELU
    | {"samples": ({"layer": "0"}, 3, 4), "noise": ({"layer": "0"}, 0.15, 0.3)},  # behind the last layer all is linear
    "vit_cx": LAYER
    | {"distance": ({"layer": "0"}, 0.1, 0.0), "noise": ({}, 0.02, 0.2), "score": ({}, "logit", "probability")},
    "full_grad": {},
    "blur_ig": {"steps": ({}, 3, 4), "max_sigma": ({}, 50.0, 2.0)},
    "xrai": {"steps": ({}, 3, 4), "segments": ({}, "grid:2", "grid:3", "slic:9")},
    "agi": {
        "other_classes": ({}, 1, 2),
        "steps": ({"step_size": 1e-4}, 2, 3),
        "step_size": ({}, 0.05, 0.1),
        "restart": ({"step_size": 1e-4, "steps": 3}, True, False),
    },
    "mfaba": {
        "steps": ({}, 1, 2),
        "step_rule": ({}, "sign", "gradient"),
        "step_size": ({}, 0.001, 0.002),
        "reach": ({"step_size": 0.2}, 0.1, 0.3),
    },
    "extremal_perturbation": {
        "areas": ({}, (0.1, 0.2), (0.1,)),
        "steps": ({}, 3, 4),
        "keep": ({}, True, False),
        "baseline": ({}, None, *BASELINES),
        "width": ({}, 0.09375, 0.3),
        "mirrored": ({"baseline": "zero"}, True, False),  # the weakest blurs change nothing in so small an image
        "score": ({"baseline": "zero"}, "logit", "log_odds"),
    },
    "lrp": {
        "composite": ({}, *COMPOSITES),
        "rule": ({}, "zplus", "epsilon", "gamma", "alpha_beta"),
        "dense": ({}, "zplus", "epsilon"),
        "convolution": ({}, "zplus", "epsilon"),
        "first": ({}, "flat", "box", "same"),
        "bias": ({}, "redistributed", "absorbed"),
        "epsilon": ({"rule": "epsilon"}, 1e-6, 0.5),
        "gamma": ({"rule": "gamma"}, 0.25, 1.0),
        "alpha": ({"rule": "alpha_beta"}, 2.0, 3.0),
    },
    "deep_lift": {"baseline": ({}, *BASELINES)},
    "deep_lift_shap": {"samples": ({}, 2, 3)},
    "guided_backprop": {},
    "deconvnet": {},
    # Concepts from folders need files, and the last two decide which concept is chosen where none is named.
    "tcav": LAYER
    | {
        "concepts": ({}, "textures"),
        "concept": ({}, "stripes", "dots"),
        "runs": ({}, 10, 11),
        "images": ({}, 3, 4),
        "penalty": ({}, 0.01, 1.0),
        "labels": ({}, "predicted"),
        "rows": ({}, 200),
    },
    "captum_deep_lift": {"baseline": ({}, *BASELINES)},
    "captum_guided_backprop": {},
    "captum_deconvnet": {},
    "captum_guided_grad_cam": LAYER,
    **dict.fromkeys(
        ("captum_lime", "captum_kernel_shap"),
        {
            "baseline": ({}, *BASELINES),
            "segments": GROUPED["segments"],
            "samples": ({}, 20, 30),
        },
    ),
    "captum_gradient_shap": {"samples": ({}, 3, 4), "absolute_noise": ({}, 0.0, 0.2), "baseline": ({}, *BASELINES)},
}
ATTENTIVE = {
    "attention": {"layer": ({}, -1, -2), "heads": ({}, "mean", "max", "min"), "prefix_tokens": ({}, 1, 6)},
    "attention_rollout": {"heads": ({}, "mean", "max", "min"), "prefix_tokens": ({}, 1, 6)},
    "transformer_attribution": {"weighting": ({}, "attention", "relevance"), "prefix_tokens": ({}, 1, 6)},
    "att_cat": {"prefix_tokens": ({}, 1, 6)},
    "attn_lrp": {"epsilon": ({}, 1e-6, 0.5)},
    "cp_lrp": {"epsilon": ({}, 1e-6, 0.5)},
}
SERIAL = {
    "dyna_mask": {
        "areas": ({}, (0.1, 0.2), (0.3,)),
        "steps": ({}, 3, 4),
        "keep": ({}, True, False),
        "operator": ({}, "gaussian_blur", "moving_average"),
        "max_sigma": ({}, 2.0, 1.0),
        "half_window": ({"operator": "moving_average"}, 2, 1),
        "change_weight": ({}, 1.0, 0.5),
        "tolerance": ({"areas": (0.1, 0.8), "steps": 50, "score": "logit"}, 0.0, 100.0),
        "score": ({}, "logit", "probability"),
    },
    "extrmask": {
        "steps": ({}, 3, 4),
        "network": ({}, "gru", "tensor"),
        "mask_weight": ({}, 1.0, 0.01),
        "perturbation_weight": ({}, 1.0, 0.01),
        "baseline": ({}, *BASELINES),
        "score": ({}, "logit", "probability"),
    },
}
TABULAR = {
    "permutation_importance": ROWS | LABELS | {"repeats": ({}, 2, 3), "score": ({}, "accuracy", "log_loss")},
    "mutual_information": ROWS | LABELS | {"neighbours": ({}, 3, 5)},
    "rfe": ROWS
    | LABELS
    | {
        "rows": ({}, 20, 90),
        "penalty": ({"standardise": False}, 1.0, 1e4),
        "standardise": ({}, True, False),
    },
    "random_forest": ROWS
    | LABELS
    | HELD_OUT
    | {
        "importance": ({}, "impurity", "permutation"),
        "trees": ({}, 5, 7),
        "depth": ({}, 2, 3),
        "columns_per_split": ({}, "sqrt", 1.0),
        "repeats": ({"importance": "permutation"}, 2, 3),
    },
    "linear_surrogate": ROWS
    | HELD_OUT
    | {
        "score": ({}, "logit", "probability", "log_odds"),
        "penalty": ({}, 1.0, 10.0),
        "standardise": ({}, True, False),
    },
    "tree_surrogate": ROWS
    | HELD_OUT
    | {
        "depth": ({}, 2, 4),
        "least": ({}, 1, 8),
        "fit": ({}, "class", "probability"),
    },
    "captum_lrp": {},  # it knows no Flatten, which pictures need
    "rule_list": ROWS | HELD_OUT | {"rules": ({}, 2, 6), "depth": ({}, 1, 2), "cover": ({}, 0.05, 0.2)},
    "anchors": {
        "precision": ({}, 0.9, 0.99),
        "delta": ({}, 0.1, 0.01),
        "gap": ({"samples": 8000}, 0.05, 0.9),
        "beam": ({}, 1, 2),
        "conditions": ({}, 1, 2),
        "samples": ({}, 500, 1500),
        "background": ({}, 60, 90),
    },
    "counterfactuals": {
        "alternatives": ({}, 4, 6),
        "proximity": ({}, 0.5, 5.0),
        "diversity": ({}, 1.0, 0.0),
        "population": ({}, 20, 30),
        "steps": ({}, 2, 3),
        "fixed": ({}, "", "0", "1,2"),
        "background": ({}, 60, 90),
    },
}
OPTIONS = PICTURES | ATTENTIVE | SERIAL | TABULAR
COMMON = {
    **{name: {"segments": "grid:3"} for name, options in OPTIONS.items() if "segments" in options},
    **dict.fromkeys(("kernel_shap", "shapley_interactions"), {"segments": "grid:3", "samples": 40}),
    "integrated_hessians": {"segments": "grid:3", "steps": 3, "beta": 10.0},
    "lime": {"segments": "grid:3", "samples": 40},
    "shapley_sampling": {"segments": "grid:3", "permutations": 2},
    "sobol_attribution": {"segments": "grid:3", "samples": 4},
    "hsic_attribution": {"segments": "grid:3", "samples": 20},
    **dict.fromkeys(("integrated_gradients", "guided_ig", "idgi"), {"steps": 3}),
    "occlusion": {"window": 4, "stride": 2},
    "rise": {"samples": 20, "cells": 3},
    **dict.fromkeys(("smoothgrad", "smoothgrad_squared", "vargrad"), {"samples": 3}),
    "expected_gradients": {"samples": 3, "baseline": "uniform_noise"},
    "captum_lime": {"segments": "grid:3", "samples": 20},
    "captum_kernel_shap": {"segments": "grid:3", "samples": 20},
    "captum_gradient_shap": {"samples": 3},
    "tcav": {"concept": "stripes", "images": 3},
    "random_forest": {"trees": 5},
    **dict.fromkeys(("attention", "attention_rollout", "transformer_attribution", "att_cat"), {"prefix_tokens": 1}),
    **dict.fromkeys(("blur_ig", "mfaba", "dyna_mask", "extrmask"), {"steps": 3}),
    "extremal_perturbation": {"steps": 3, "areas": (0.1, 0.2)},
    "xrai": {"steps": 3, "segments": "grid:3"},
    "smoothgrad_cam_pp": {"samples": 3},
    "anchors": {"samples": 1500, "conditions": 2},
    "counterfactuals": {"population": 20, "steps": 2},
}


class Patches(nn.Module):
    """A transformer whose linear patches leave open how many of its ten tokens are patches."""

    def __init__(self):
        super().__init__()
        self.enter, self.out = nn.Linear(24 * 24 * 3, 80), nn.Linear(8, 3)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2))

    def forward(self, images):
        tokens = self.enter(images.flatten(1)).unflatten(1, (10, 8))
        for layer in self.layers:
            tokens = layer(tokens)
        return self.out(tokens.mean(1))


class World:
    """A net, its data, and each explainer's fingerprints when it is measured by itself."""

    def __init__(self, net, inputs, train, train_labels=None, modality=None):
        self.modality = modality
        self.net, self.inputs, self.train = net.eval(), inputs, train
        self.targets, self.known = torch.tensor([0, 1, 2, 0]), {}
        self.train_labels = torch.randint(3, (len(train),)) if train_labels is None else train_labels
        self.truth = (
            inputs.mean(1) if inputs.dim() == 4 or modality == "series" else inputs
        )  # any will do: it is told, not computed

    def measure(self, explainers):
        """The fingerprints (N,) of the maps of all explainers explained together, by label."""
        data = harness.Data(
            self.inputs,
            self.targets,
            train=self.train,
            train_labels=self.train_labels,
            value_range=(-4.0, 4.0),
            truth=self.truth,
            modality=self.modality,
        )
        stage = set_stage(LoadedModel(self.net), data, Protocol(target="given"), torch.device("cpu"))
        found, settings = {}, {"alone": True, "warm_up": False, "audited": False}  # maps do not depend on these
        for chosen, explained in explain_each(
            stage, choose_several(EXPLAINERS, explainers), ItemGuard(stage), **settings
        ):
            assert not isinstance(explained, Failure), explained
            found[chosen.label] = fingerprint(torch.cat(list(explained.parts))).numpy()
        return found

    def alone(self, label, options):
        """The fingerprints of one explainer."""
        if label not in self.known:
            self.known |= self.measure({label: options})
        return self.known[label]


def fingerprint(maps):
    """A number (N,) that any two maps differ in."""
    maps = maps.flatten(1).double()
    return maps @ (1 + torch.arange(maps.shape[1]).double()).cos()


def pictures():
    """A net with batch normalisation and a ReLU, and images in colour with blobs for slic to follow."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.Tanh(),
        nn.Conv2d(6, 4, 3, stride=2),
        nn.Tanh(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    net(2 * torch.randn(50, 3, 12, 12) + 1)
    net[-1].weight.data *= 10  # else the penalty of captum's Lasso may leave nothing of its maps
    blobs = nn.functional.interpolate(torch.randn(4, 3, 4, 4), (12, 12), mode="bilinear")
    return World(net, blobs + 0.05 * torch.randn(4, 3, 12, 12), torch.randn(6, 3, 12, 12))


def series():
    """A net that bends, and series of two channels."""
    net = nn.Sequential(nn.Conv1d(2, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(60, 3))
    return World(net, torch.randn(4, 2, 12), torch.randn(6, 2, 12), modality="series")


def table():
    """Columns of different scales, and a net that bends."""
    scale = torch.tensor([1, 8, 0.1, 30, 0.5, 3, 0.2, 12])
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)).requires_grad_(False)
    net[0].weight *= 4 / scale
    net[0].bias.zero_()
    train = torch.randn(120, 8)
    told = train @ torch.randn(8) + torch.randn(120)  # labels of which the columns say something, but not all
    return World(net, scale * torch.randn(4, 8), scale * train, (told > -0.8).long() + (told > 0.8))


@pytest.fixture(scope="module")
def worlds():
    print(f"seed {SEED}")
    torch.manual_seed(SEED)
    made = {
        "pictures": pictures(),
        "attention": World(Patches(), torch.randn(4, 3, 24, 24), torch.randn(6, 3, 24, 24)),
        "series": series(),
        "table": table(),
    }
    return {
        **dict.fromkeys(PICTURES, made["pictures"]),
        **dict.fromkeys(ATTENTIVE, made["attention"]),
        **dict.fromkeys(SERIAL, made["series"]),
        **dict.fromkeys(TABULAR, made["table"]),
    }


def variants(name):
    """For each option the sets of options that differ in it alone, labelled; the defaults where there is none."""
    for option, (context, *values) in OPTIONS[name].items():
        yield [_chosen(name, {**COMMON.get(name, {}), **context, option: value}) for value in values]
    if not OPTIONS[name]:
        yield [_chosen(name, {})]


def _chosen(name, options):
    options = EXPLAINERS[name].complete(options)
    return f"{name} {sorted(options.items(), key=str)}", {"name": name, **options}


HELD_ELSEWHERE = ("precomputed", "tree_shap")  # they need a file of maps, or a model of trees


def test_every_option_has_a_second_value_here():
    declared = {name: set(entry.options) for name, entry in EXPLAINERS.items() if name not in HELD_ELSEWHERE}
    assert {name: set(options) for name, options in OPTIONS.items()} == declared


@pytest.mark.parametrize("name", OPTIONS)
def test_an_explainer_explains_the_same_beside_itself_with_another_option(name, worlds):
    world, cells = worlds[name], {}
    for group in variants(name):
        values = [world.alone(*cell) for cell in group]
        for i, first in enumerate(values):
            for second in values[:i]:  # else the comparison below could not fail
                assert not np.allclose(first, second, rtol=1e-6, atol=1e-9), [label for label, _ in group]
        cells |= dict(group)
    order = np.random.default_rng(SEED).permutation(len(cells))
    together = world.measure({list(cells)[at]: cells[list(cells)[at]] for at in order})
    for label, options in cells.items():
        np.testing.assert_allclose(together[label], world.alone(label, options), rtol=1e-9, atol=1e-12)
