"""The mathematics of ``yeh_mnist``: perturbations, the regression that is optimal, claims, and the user's MNIST."""

import gzip
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from harness.api import explain, score
from harness.errors import UserError
from harness.reproducing.findings import IDENTITY
from harness.reproducing.paper import paper
from harness.reproducing.studies.shared import mnist_files as _mnist_files
from harness.reproducing.studies.shared.mnist_files import MNIST_FILES, RAW, idx_array, mnist_of_folder
from harness.reproducing.studies.shared.mnist_nets import LENET, DigitNet, digits_of
from harness.reproducing.studies.shared.tendencies import claims_of_tendencies
from harness.reproducing.studies.yeh_mnist import study as yeh_mnist
from harness.reproducing.studies.yeh_mnist.measures import (
    CONTROLS_OF_YEH,
    GLOBAL,
    LOCAL,
    OPTIMAL,
    PATH_STEPS,
    PLAIN,
    SHAPLEY,
    SMOOTHED,
    YEH_NET,
    all_squares,
    changes_by_noise,
    changes_by_squares,
    explainers_of_yeh,
    least_squares_map,
    left_path_gradient,
    left_rule_on_squares,
    optimally_scaled,
    smoothed_map,
)

IMAGES = 8


class LinearOf(nn.Module):
    """Two logits, w.x and its negative."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, inputs):
        value = inputs.flatten(1) @ self.weights
        return torch.stack([value, -value], 1)


@pytest.fixture
def linear():
    return LinearOf(torch.randn(36, generator=torch.Generator().manual_seed(0))).eval()


def test_the_squares_are_all_there_are():
    squares = all_squares(28)
    assert len(squares) == sum((29 - side) ** 2 for side in range(1, 11)) == 5605
    assert len({tuple(row) for row in all_squares(5, 3).tolist()}) == 25 + 16 + 9
    assert sorted(set(squares.sum(1).tolist())) == [side**2 for side in range(1, 11)]
    assert squares[0].nonzero().tolist() == [[0]]


def test_on_a_linear_model_the_gradient_explains_every_perturbation(linear):
    image = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(1))
    noise = torch.rand(200, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    linear.weights, image, noise = linear.weights.double(), image.double(), noise.double()
    perturbations, falls = changes_by_noise(linear, image, 0, noise)
    maps = torch.stack([linear.weights, -3 * linear.weights]).double()
    assert optimally_scaled(maps, perturbations, falls).max() < 1e-20
    torch.testing.assert_close(least_squares_map(perturbations, falls), maps[0])
    squares = all_squares(6, 3)
    torch.testing.assert_close(
        changes_by_squares(linear, image, 0, squares), squares.double() @ (linear.weights * image.flatten()).double()
    )


def test_no_map_is_better_than_the_regression():
    draw = torch.Generator().manual_seed(0)
    perturbations, falls = torch.randn(50, 6, generator=draw).double(), torch.randn(50, generator=draw).double()
    perturbations[:, 2] = 0  # a pixel that is never perturbed has no value
    best = least_squares_map(perturbations, falls)
    others = torch.randn(500, 6, generator=draw).double()
    assert best[2] == 0
    least = optimally_scaled(best[None], perturbations, falls)
    assert least < optimally_scaled(others, perturbations, falls).min()
    assert least <= optimally_scaled(best + 0.01 * others, perturbations, falls).min()


def test_scaling_gives_back_the_size_and_the_sign():
    perturbations, falls = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double(), torch.tensor([2.0, 2.0]).double()
    maps = torch.tensor([[1.0, 1.0], [-7.0, -7.0], [1.0, 0.0]]).double()
    # The third explains the first fall alone: 0 and 2 are left, squared 4, of two.
    assert optimally_scaled(maps, perturbations, falls).tolist() == pytest.approx([0.0, 0.0, 2.0])


def test_the_registered_infidelity_is_the_mean_over_the_squares_it_draws(linear):
    image = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(3))
    wrong = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(4))
    squares = all_squares(6, 3)
    every = optimally_scaled(wrong.double().flatten(1), squares.double(), changes_by_squares(linear, image, 0, squares))
    options = {"perturbation": "square", "largest_side": 3, "scaling": "optimal", "baseline": "zero", "draws": 20_000}
    drawn = score("infidelity", linear, image[None], torch.tensor([0]), wrong, convention="contribution", **options)
    assert drawn.item() == pytest.approx(every.item(), rel=0.05)


def test_the_left_rule_gives_nine_tenths_of_squares_and_the_path_gradient_is_its_factor():
    (row,) = left_rule_on_squares(4, PATH_STEPS).to_dict("records")
    assert (row["least"], row["most"]) == pytest.approx((0.9, 0.9))

    class Squares(nn.Module):
        def forward(self, x):
            return x.square().sum(1, keepdim=True)

    x = torch.tensor([[1.0, -2.0]])
    found = explain(left_path_gradient, Squares().eval(), x, torch.tensor([0]), task="regression")
    torch.testing.assert_close(found, 0.9 * x)  # the mean of 2 x k/10


def test_smoothing_a_constant_gradient_changes_nothing_and_neighbours_have_the_same_noise(linear):
    images = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    target = torch.zeros(2, dtype=torch.long)
    plain = explain("gradient", linear, images, target)
    smooth = explain(smoothed_map, linear, images, target, base="gradient", draws=3)
    torch.testing.assert_close(smooth, plain)


def test_in_the_setting_of_squares_maps_are_multiplied_by_the_image():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    images, target = torch.rand(2, 1, 6, 6), torch.zeros(2, dtype=torch.long)
    for name, own in explainers_of_yeh(GLOBAL, 2).items():
        options = {key: value for key, value in own.items() if key != "name"}
        local = explainers_of_yeh(LOCAL, 2)[name]
        bare = {key: value for key, value in local.items() if key != "name"}
        found = explain(own["name"], net, images, target, **options)
        torch.testing.assert_close(found, images * explain(local["name"], net, images, target, **bare))


# --- Claims -------------------------------------------------------------------------------------------------------


def score_tables(value, sensitivity):
    """Tables of scores: ``value(setting, explainer)`` and ``sensitivity(setting, explainer)``, with a little spread."""
    draw = np.random.default_rng(0)
    names = {
        setting: [*PLAIN, *SMOOTHED, *CONTROLS_OF_YEH, *([SHAPLEY] if setting == GLOBAL else []), OPTIMAL[setting]]
        for setting in (LOCAL, GLOBAL)
    }
    infidelities, sensitivities, optima = {}, {}, {}
    for setting, own in names.items():
        rows = [
            {
                "image": image,
                "explainer": name,
                "infidelity": value(setting, name) * (1 + 0.01 * draw.normal()),
                "own": value(setting, name),
                "plain": 1.0,
                "slack": 0.0,
            }
            for image in range(IMAGES)
            for name in own
        ]
        infidelities[setting] = pd.DataFrame(rows)
        of = lambda name, setting=setting: sensitivity(setting, name) * (1 + 0.01 * draw.normal())
        rows = [{"image": i, "explainer": name, "sensitivity": of(name)} for i in range(IMAGES) for name in own[:-1]]
        sensitivities[setting] = pd.DataFrame(rows)
        rows = [
            {"image": i, "explainer": name, "sensitivity": of(name)}
            for i in range(IMAGES)
            for name in ("Grad", OPTIMAL[setting])
        ]
        optima[setting] = pd.DataFrame(rows)
    return infidelities, sensitivities, optima


def facts(**changed):
    found = {"guided and plain": 0.5, "path times input": 1e-7, "sign and size": 1e-15, "all and drawn": 0.001}
    return pd.DataFrame([{"what": w, "value": v} for w, v in (found | changed).items() for _ in range(IMAGES)])


RULE = pd.DataFrame([{"steps": 10, "least": 0.9, "most": 0.9}])


def patterns(tables, exact):
    infidelities, sensitivities, optima = tables
    tendencies = [
        *yeh_mnist.smoothing_helps(infidelities, sensitivities),
        *yeh_mnist.optimum_is_best(infidelities, optima),
        *yeh_mnist.others(infidelities, exact),
    ]
    return {claim.name: claim.holds for claim in claims_of_tendencies(tendencies, IMAGES, "images")}


def as_in_the_table(setting, name):
    known = {"Grad": 4.0, "IG": 2.7, "GBP": 4.5, "Grad-SG": 1.8, "IG-SG": 1.5, "GBP-SG": 1.9, SHAPLEY: 1.2}
    return 0.5 if name == OPTIMAL[setting] else 9.0 if name in CONTROLS_OF_YEH else known[name]


def robust(setting, name):
    if name == "constant":
        return 0.0
    return 0.3 if name.endswith("-SG") or name == OPTIMAL[setting] else 0.9


def test_every_order_holds_in_a_world_like_the_table_and_fails_in_the_opposite_one():
    right = patterns(score_tables(as_in_the_table, robust), facts())
    assert set(right.values()) == {True}, right
    opposite = patterns(
        score_tables(lambda *of: 10 - as_in_the_table(*of), lambda *of: 1 - robust(*of)),
        facts(**{"all and drawn": 0.5}),
    )
    assert set(opposite.values()) == {False}, opposite


def test_identities_notice_what_is_wrong():
    infidelities, sensitivities, _ = score_tables(as_in_the_table, robust)
    claims = list(yeh_mnist.exact_claims_of_yeh(infidelities, sensitivities, facts(), RULE))
    assert all(claim.holds and claim.kind == IDENTITY for claim in claims) and len(claims) == 7
    worse = {setting: table.assign(own=-table["own"]) for setting, table in infidelities.items()}
    moving = {setting: table.assign(sensitivity=0.1) for setting, table in sensitivities.items()}
    wrong = facts(**{"guided and plain": 0.0, "path times input": 0.1, "sign and size": 0.1})
    claims = list(yeh_mnist.exact_claims_of_yeh(worse, moving, wrong, RULE.assign(least=1.0)))
    assert not any(claim.holds for claim in claims)


# --- Nets and the user's MNIST ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "weights"), [(LENET, 44_426), (YEH_NET, 54_314)])
def test_nets_have_the_layers_of_their_form_and_modules_for_relu(form, weights):
    net = form.build(10)
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert sum(each.numel() for each in net.parameters()) == weights
    assert sum(isinstance(each, nn.ReLU) for each in net) == 2 + len(form.hidden)
    assert DigitNet("x", (2, 3), ()).build(2)(torch.zeros(1, 1, 28, 28)).shape == (1, 2)


def idx_bytes(values):
    header = bytes((0, 0, 8, values.ndim)) + b"".join(side.to_bytes(4, "big") for side in values.shape)
    return header + values.astype(np.uint8).tobytes()


@pytest.fixture
def few(monkeypatch):
    """MNIST with 6 and 4 images."""
    small = {part: (*names[:2], count) for (part, names), count in zip(MNIST_FILES.items(), (6, 4), strict=True)}
    monkeypatch.setattr(_mnist_files, "MNIST_FILES", small)
    mnist_of_folder.cache_clear()
    yield small
    mnist_of_folder.cache_clear()


def written_mnist(folder, parts, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    draw, kept = np.random.default_rng(0), {}
    for part, (images, labels, count) in parts.items():
        kept[part] = draw.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        for name, values in zip((images, labels), kept[part], strict=True):
            content = idx_bytes(values)
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return kept


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("inner", [".", RAW])
def test_the_files_of_mnist_are_read_in_full(few, tmp_path, packed, inner):
    kept = written_mnist(tmp_path / inner, few, packed)
    digits = digits_of(tmp_path)
    for part, (images, labels) in digits.load().items():
        np.testing.assert_array_equal((images[:, 0] * 255).round().numpy(), kept[part][0])
        assert images.max() <= 1 and labels.tolist() == kept[part][1].tolist()
    assert digits.words == "MNIST" and len(digits.classes) == 10 and digits.key
    assert digits.data(3).inputs.shape == (3, 1, 28, 28) and digits_of(None).key == ""


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), "has no file train-images-idx3-ubyte"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "fewer bytes"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "more bytes"),
        (lambda path: path.write_bytes(b"\0" * 5000), "not an idx file of 6 x 28 x 28"),
        (lambda path: path.write_bytes(idx_bytes(np.zeros((5, 28, 28)))), "not an idx file of 6 x 28 x 28"),
    ],
)
def test_a_file_that_is_not_mnists_is_told_in_one_line(few, tmp_path, spoil, told):
    written_mnist(tmp_path, few)
    spoil(tmp_path / few["train"][0])
    with pytest.raises(UserError, match=told) as caught:
        digits_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_gz_and_a_label_that_is_no_digit_are_told(few, tmp_path):
    written_mnist(tmp_path, few, packed=True)
    labels = tmp_path / f"{few['test'][1]}.gz"
    labels.write_bytes(gzip.compress(idx_bytes(np.array([1, 2, 3, 10]))))
    with pytest.raises(UserError, match="has the label 10"):
        digits_of(tmp_path)
    labels.write_bytes(labels.read_bytes()[:-12])
    with pytest.raises(UserError, match="cannot be read"):
        idx_array(labels, (4,))


def test_the_variant_with_data_differs_in_its_data_alone():
    here, with_data = paper("yeh_mnist"), paper("yeh_mnist_digits")
    assert here.study == with_data.study and not here.needs and "train-images-idx3-ubyte" in with_data.needs
    assert here.sizes["small"] == with_data.sizes["small"] and here.choices == with_data.choices
    assert all(each.unlike for each in (*here.expect, *with_data.expect))
    assert math.isclose(with_data.sizes["full"]["images"], 50)
