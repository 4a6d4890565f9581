"""The protocols on ImageNet: their data, networks, items and claims, and the full scale on a generated folder."""

import hashlib
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional as F
from torchvision import models, transforms

import harness
import harness.api
from harness.api import samples_of
from harness.batch import Batch
from harness.errors import UserError
from harness.identity import digest, files_of
from harness.jobs.plan import Plan
from harness.registry import EXPLAINERS
from harness.removal.baselines import make_baseline
from harness.reproducing.findings import IDENTITY
from harness.reproducing.lines import lines_of
from harness.reproducing.paper import paper
from harness.reproducing.reproduce import reproduce
from harness.reproducing.studies.image_protocol import folder as folders
from harness.reproducing.studies.image_protocol import runs as image_runs
from harness.reproducing.studies.image_protocol.comparisons import CONTROLS, ImageComparison, compared_images
from harness.reproducing.studies.image_protocol.emprt import _guided_is_no_gradient
from harness.reproducing.studies.image_protocol.occlusion import (
    drawn_colours,
    occluded_counts,
    supervoxel_labels,
    supervoxel_occlusion,
)
from harness.reproducing.studies.image_protocol.srg import LIF, MIF, _curves_begin_together, area_of_means, setups_of
from harness.reproducing.studies.image_protocol.study import study
from harness.reproducing.studies.shared import image_items as items
from harness.reproducing.studies.shared import image_nets as nets
from harness.reproducing.studies.shared.image_entropy import unsigned_entropy_rise
from harness.reproducing.study import StudySetting

PAPERS = ("rise", "srg", "emprt_imagenet", "idsds_imagenet")
WNIDS = ("n01440764", "n01443537", "n01484850", "n01491361")
CHECKPOINT = "checkpoints/{}_imagenet1000_lr0.001_epochs30_step10_checkpoint_best.pth.tar"
SMALL_NET = "squeezenet1_1"


def photo(seed, size=(40, 30)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def filled(folder, each=2):
    for number, wnid in enumerate(WNIDS):
        (folder / wnid).mkdir(parents=True)
        for image in range(each):
            photo(10 * number + image).save(folder / wnid / f"ILSVRC2012_val_{90 - 10 * image + number:08d}.JPEG")
    return folder


FEW = folders.ExpectedFolder(len(WNIDS), 2 * len(WNIDS))


@pytest.mark.parametrize("inner", ["", "val"])
def test_images_are_found_in_the_folder_or_in_val_in_the_order_of_their_names(tmp_path, inner):
    filled(tmp_path / inner)
    (tmp_path / inner / "notes").mkdir()  # a folder that is no class
    found = folders.checked_images(folders.root_of_classes(tmp_path), FEW)
    assert list(found["label"]) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert list(found["file"][:2]) == [f"{WNIDS[0]}/ILSVRC2012_val_{number:08d}.JPEG" for number in (80, 90)]


def test_the_names_of_imagenets_classes_are_known_by_their_digest():
    data = pytest.importorskip("timm.data")
    names = data.ImageNetInfo().label_names()
    assert names == sorted(names)
    assert all(digest(*names) == paper(name).sizes["full"]["folder"]["wnids"] for name in PAPERS)


def test_what_the_folder_lacks_is_told_in_one_line(tmp_path):
    root = filled(tmp_path)
    for expected, words in (
        (folders.ExpectedFolder(1000, 50000), "holds 4 class folders .* expected 1,000"),
        (folders.ExpectedFolder(4, 12), "holds 8 images, expected 12: n01440764 has 2, expected 3"),
        (folders.ExpectedFolder(4, 8, "0123"), "are not those of ImageNet-1k"),
    ):
        with pytest.raises(UserError, match=words) as told:
            folders.checked_images(root, expected)
        assert "\n" not in str(told.value)
    images = folders.checked_images(root, FEW)
    with pytest.raises(UserError, match="subset has 9 images"):
        folders.chosen_images(images, "first", 9)
    with pytest.raises(UserError, match="rule of a subset"):
        folders.chosen_images(images, "last", 2)
    broken = root / images["file"][3]
    broken.write_bytes(broken.read_bytes()[:200])
    images = folders.checked_images(root, FEW)
    with pytest.raises(UserError, match="1 of 8 images cannot be decoded; the first is .*val_0"):
        folders.keep_listing(images, root, tmp_path / "images.csv")


def test_rules_choose_the_images_that_papers_name():
    images = pd.DataFrame({"file": [f"{number}" for number in range(60)], "label": np.arange(60) // 6})
    chosen = lambda rule, count: [int(each) for each in folders.chosen_images(images, rule, count)["file"]]
    assert chosen("first", 5) == [0, 1, 2, 3, 4]
    assert chosen("spread", 10) == list(range(0, 60, 6))  # one of each class
    order = np.arange(60)
    np.random.default_rng(0).shuffle(order)  # as the released code of Blücher et al. shuffles
    assert chosen("permuted", 7) == order[:7].tolist()
    first, other = (folders.chosen_images(images, "first", 5) for _ in range(2))
    assert folders.digest_of_ids(first) == folders.digest_of_ids(other) != folders.digest_of_ids(first.iloc[::-1])


def test_a_listing_gives_parts_and_stays_the_same_where_its_images_are_moved(tmp_path):
    root = filled(tmp_path / "here")
    listing = lambda place: folders.keep_listing(folders.checked_images(place, FEW), place, tmp_path / "images.csv")
    path = listing(root)
    before = files_of({"path": str(path)})
    data = folders.images_of_listing(path=str(path), first=2, count=3)
    assert data.labels.tolist() == [1, 1, 2] and len(data.inputs) == 3 and data.ids[0].startswith(WNIDS[1])
    assert data.inputs[0].size == (40, 30) and data.inputs[0].mode == "RGB"
    moved = shutil.move(root, tmp_path / "there")
    assert files_of({"path": str(listing(moved))}) == before
    assert folders.images_of_listing(path=str(path)).inputs[7].mode == "RGB"


def test_images_are_read_as_they_are_stored(tmp_path):
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[274] = 6  # to be shown turned by 90 degrees
    photo(0).save(turned, exif=exif)
    assert folders.StoredImages([turned])[0].size == (40, 30)


@pytest.mark.parametrize(
    ("sized", "steps"),
    [
        ("stretched", [transforms.Resize((224, 224))]),
        ("cropped", [transforms.Resize(224), transforms.CenterCrop(224)]),
        ("cropped from 256", [transforms.Resize(256), transforms.CenterCrop(224)]),
    ],
)
def test_inputs_are_those_of_the_papers_transforms(sized, steps):
    standard = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    image = photo(1, (300, 500))
    torch.testing.assert_close(nets.sized_input(sized, image), transforms.Compose([*steps, *standard])(image))


def test_weights_come_from_the_users_folder_if_they_are_what_they_are_called(tmp_path, monkeypatch):
    content = b"weights"
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    known = SimpleNamespace(__members__={"V1": SimpleNamespace(url=f"https://example.org/{name}")})
    monkeypatch.setattr(models, "get_model_weights", lambda architecture: known)
    model = {"name": "torchvision", "architecture": "net", "weights": "V1"}
    assert nets.with_files_of_user(model, tmp_path) == model == nets.with_files_of_user(model, None)
    file = tmp_path / "weights" / name
    file.parent.mkdir()
    file.write_bytes(content)
    assert nets.with_files_of_user(model, tmp_path)["weights"] == str(file)
    file.write_bytes(b"others")
    with pytest.raises(UserError, match="is not torchvision's file of that name"):
        nets.with_files_of_user(model, tmp_path)
    with pytest.raises(UserError, match="a.pth is not there"):
        nets.with_files_of_user({"name": "it", "path": "data:a.pth"}, tmp_path)
    assert nets.with_files_of_user("lite0", tmp_path) == {"name": "lite0"}


def saved_checkpoint(path, seed=1):
    module = nets.sized_classifier(architecture=SMALL_NET, weights=None, seed=seed).module
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {f"module.model.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save({"epoch": 29, "state_dict": state}, path)
    return module


def test_a_checkpoint_of_a_wrapped_network_is_loaded(tmp_path):
    module, inputs = saved_checkpoint(tmp_path / "net.pth.tar"), torch.rand(1, 3, 224, 224)
    loaded = nets.fine_tuned_classifier(architecture=SMALL_NET, path=str(tmp_path / "net.pth.tar"))
    torch.testing.assert_close(loaded.module(inputs), module(inputs))
    with pytest.raises(UserError, match="do not fit resnet18"):
        nets.fine_tuned_classifier(architecture="resnet18", path=str(tmp_path / "net.pth.tar"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match="cannot be read"):
        nets.fine_tuned_classifier(architecture=SMALL_NET, path=str(tmp_path / "text.pth"))
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(UserError, match="no state of a network"):
        nets.fine_tuned_classifier(architecture=SMALL_NET, path=str(tmp_path / "list.pth"))


class Linear(nn.Module):
    """Two logits of an image: a weighted sum of its numbers, and 0."""

    def __init__(self, shape=(3, 6, 6), seed=0):
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float())
        self.eval()

    def forward(self, inputs):
        logit = (inputs * self.weight).flatten(1).sum(1)
        return torch.stack([logit, torch.zeros_like(logit)], 1)


def images_and_targets(count=3, shape=(3, 6, 6)):
    inputs = torch.from_numpy(np.random.default_rng(5).normal(size=(count, *shape))).float()
    return inputs, torch.zeros(count, dtype=torch.long)


def test_blur_is_the_published_kernel():
    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    kernel = torch.from_numpy(gaussian_filter(impulse, 5)).float()
    inputs, targets = images_and_targets(shape=(3, 48, 48))
    blurred = F.conv2d(inputs, kernel.expand(3, 1, 11, 11), padding=5, groups=3)
    torch.testing.assert_close(make_baseline(samples_of(Linear((3, 48, 48)), inputs, targets), "blur"), blurred)


def test_superpixels_are_hidden_in_the_order_of_their_mean_attribution():
    model, (inputs, targets) = Linear(), images_and_targets()
    maps = torch.from_numpy(np.random.default_rng(8).normal(size=inputs.shape)).float()
    batch = Batch(samples_of(model, inputs, targets), maps.sum(1), maps)
    labels, totals = supervoxel_labels(inputs, 4)
    for order, sign in (("morf", -1), ("lerf", 1)):
        found = supervoxel_occlusion(batch, supervoxels=4, measurements=3, order=order)
        for row in range(len(inputs)):
            means = [maps[row][labels[row] == each].mean().item() for each in range(int(totals[row]))]
            hidden, points = torch.zeros_like(inputs[row], dtype=torch.bool), []
            order_of = sorted(range(len(means)), key=lambda each, means=means: sign * means[each])
            for count in (0, 1, 2, 4):  # geometric: 1, 2, 4
                for each in order_of[:count]:
                    hidden |= labels[row] == each
                kept = inputs[row].masked_fill(hidden, 0)
                points.append((hidden.float().mean().item(), model(kept[None]).softmax(1)[0, 0].item()))
            shares, heights = np.array(points).T
            assert found.values[row].item() == pytest.approx(np.trapezoid(heights, shares), abs=1e-6)
            assert found.curves[row].numpy() == pytest.approx([*shares, *heights], abs=1e-6)


def test_least_relevant_first_is_most_relevant_first_of_the_negated_map():
    inputs, targets = images_and_targets()
    samples = samples_of(Linear(), inputs, targets)
    maps = torch.from_numpy(np.random.default_rng(8).normal(size=inputs.shape)).float()
    batch = lambda signed: Batch(samples, signed.sum(1), signed)
    for imputer in ("zero", "colours"):
        given = {"supervoxels": 4, "measurements": 3, "imputer": imputer, "imputations": 2}
        first = supervoxel_occlusion(batch(maps), order="morf", **given)
        other = supervoxel_occlusion(batch(-maps), order="lerf", **given)
        torch.testing.assert_close(first.values, other.values)


def test_points_of_a_curve_are_those_of_the_released_code():
    assert occluded_counts(25, 15).tolist() == [0, 1, 2, 3, 5, 6, 7, 9, 12, 15, 19, 25]
    assert occluded_counts(5000, 15)[[0, 1, -1]].tolist() == [0, 1, 5000]


def test_colours_are_drawn_as_often_as_pixels_have_them():
    pixels = np.array([[0.0, 0.0, 0.0], [0.02, 0.0, 0.0], [2.0, 2.0, 2.0], [0.01, 0.0, 0.0]])
    colours = drawn_colours(pixels, np.array([0.1, 0.74, 0.76]))
    assert colours == pytest.approx(np.array([[0.01, 0, 0], [0.01, 0, 0], [2, 2, 2]]))


def test_the_published_area_is_that_of_the_mean_curve():
    curves = np.array([[0.0, 0.2, 1.0, 1.0, 0.5, 0.0], [0.0, 0.4, 1.0, 0.8, 0.3, 0.2]])
    assert area_of_means(curves) == pytest.approx(np.trapezoid([0.9, 0.4, 0.1], [0.0, 0.3, 1.0]))
    found = setups_of(paper("srg").sizes["full"]["blocks"][0]["metric"])
    assert [(each.name, sorted(each.metrics)) for each in found][1] == (
        "imputer=constant 0; superpixels=100",
        ["LIF AUC", "MIF AUC"],
    )


def test_maps_of_a_linear_model_are_known():
    model, (inputs, targets) = Linear(), images_and_targets()
    explain = lambda function, **options: harness.explain(function, model, inputs, targets, **options)
    weight = model.weight.detach()
    assert (explain(items.constant_control) == 1).all()
    torch.testing.assert_close(explain(items.noise_tunnel, of="saliency"), weight.abs().expand_as(inputs))
    noisy = explain(items.noise_tunnel, of="input_x_gradient", draws=2000) - inputs * weight
    assert (noisy / weight).std().item() == pytest.approx(2000**-0.5, rel=0.15)
    torch.testing.assert_close(explain(items.absolute_map), (inputs * weight).sum(1, keepdim=True).abs())
    start = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, inputs.shape[1:])).float()
    uniform = (inputs - start) * weight
    torch.testing.assert_close(explain(items.uniform_integrated_gradients, steps=3), uniform)
    absolute = explain(items.absolute_map, of="integrated_gradients_uniform", steps=3)
    torch.testing.assert_close(absolute, uniform.sum(1, keepdim=True).abs())


def test_fresh_noise_depends_on_the_weights_and_on_nothing_else_of_the_model():
    inputs, targets = images_and_targets()
    noise = lambda seed: harness.explain(items.fresh_noise, Linear(seed=seed), inputs, targets)
    assert torch.equal(noise(0), noise(0)) and not torch.equal(noise(0), noise(1))
    assert not torch.equal(noise(0)[0], noise(0)[1]) and noise(0).min() >= 0


def test_maps_without_signs_have_the_registered_entropy_rise():
    inputs, targets = images_and_targets(shape=(3, 24, 24))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    found = harness.evaluate(
        model,
        inputs,
        targets,
        explainers=["saliency", "gradient"],
        metrics={
            "signed": {"name": "efficient_parameter_randomization", "running_statistics": "reset", "weight_seeds": 2},
            "unsigned": {"name": unsigned_entropy_rise, "weight_seeds": 2},
        },
    ).pivot(index=["explainer", "sample"], columns="metric", values="value")
    gaps = (found["signed"] - found["unsigned"]).abs().groupby("explainer").max()
    assert gaps["saliency"] < 1e-12 < gaps["gradient"]


def planted(**values):
    rows = [
        {"metric": "m", "explainer": name, "image": str(image), "value": value}
        for name, column in values.items()
        for image, value in enumerate(column)
    ]
    return pd.DataFrame(rows)


def test_a_comparison_holds_fails_or_cannot_be_told():
    draw = np.random.default_rng(0)
    base = draw.normal(size=30)
    scores = planted(low=base, high=base + 1 + 0.1 * draw.normal(size=30), same=base + 0.1 * draw.normal(size=30))
    told = lambda first, second, better="higher", rows=scores: compared_images(
        rows, [ImageComparison("m", better, first, second)]
    )
    assert told("high", "low")[0] is True and told("low", "high")[0] is False and told("same", "low")[0] is None
    assert told("low", "high", "lower")[0] is True and "below 0 needed" in told("low", "high", "lower")[1]
    assert told("high", "nothing")[0] is None and told("high", "low")[2] == 30
    few = scores[scores["image"].isin(["0", "1", "2"])]
    assert told("high", "low", rows=few)[0] is None
    both = [ImageComparison("m", "higher", "high", each) for each in ("low", "same")]
    assert compared_images(scores, both)[0] is True


@pytest.mark.parametrize(
    ("guided", "holds"), [((0.4, 0.2, -1.0), True), ((0.4, 0.1, -1.0), False), ((0.4, 0.2, 0.0), True)]
)
def test_guided_backprop_differs_where_random_weights_let_a_gradient_through(guided, holds):
    scores = planted(guided_backprop=guided, gradient=(0.3, 0.1, -1.0)).assign(metric="eMPRT signed")
    assert _guided_is_no_gradient(scores).holds is holds
    assert _guided_is_no_gradient(scores[scores["image"] == "2"]).holds is (guided[2] != -1)


def curved(heights):
    """Scores of SRG in one setup: the same image by two explainers, whose curves have these first heights."""
    rows = [
        {"metric": metric, "explainer": str(number), "image": "a", "value": (height + 0.5) / 2, "curve": curve}
        for number, height in enumerate(heights)
        for metric, curve in ((MIF, [0.0, 1.0, height, 0.5]), (LIF, [0.0, 1.0, height, 0.5]))
    ]
    return pd.DataFrame(rows)


def test_curves_begin_together_or_not_and_areas_are_theirs():
    assert _curves_begin_together(curved((0.9, 0.9))).holds is True
    assert _curves_begin_together(curved((0.9, 0.8))).holds is False
    assert _curves_begin_together(curved((0.9, 0.9)).assign(value=0.6)).holds is False


@pytest.mark.parametrize("name", PAPERS)
def test_every_block_of_the_full_scale_is_a_run_whose_evaluations_are_declared(name, tmp_path):
    about = paper(name)
    assert about.needs
    for scale in ("full", "small"):
        sizes = about.sizes[scale]
        for block in sizes["blocks"]:
            dataset = {"name": image_runs.LISTED} if scale == "full" else block["dataset"]
            sections = {each: block[each] for each in ("explainer", "metric", "protocol", "model")}
            plan = Plan.of({**sections, "dataset": dataset})
            working = {each.label for each in plan.explainers if not _is_control(each)}
            assert working == set(sizes["evaluations"]["explainer"]), (name, scale)
            assert {each.label for each in plan.metrics} == set(sizes["evaluations"]["metric"])
            if scale == "full":
                _check_layers(plan)


def _is_control(chosen):
    noise = chosen.entry.name.rpartition(":")[2] in ("constant_control", "fresh_noise")
    return noise or (chosen.entry.name in EXPLAINERS and EXPLAINERS[chosen.entry.name].control)


def _check_layers(plan):
    with torch.device("meta"):
        net = models.get_model(plan.model.options["architecture"], weights=None)
    named = {each.options["layer"] for each in plan.explainers if each.options.get("layer")}
    assert named <= {name for name, _ in net.named_modules()}, plan.title


# What an option becomes in the test of the full scale: at most a number, or another value.
AT_MOST = {"samples": 4, "steps": 2, "draws": 1, "measurements": 3, "imputations": 1, "weight_seeds": 1, "cells": 3}
SMALL_SIDE = 112  # of the images that networks see, half of the true one; so are windows
INSTEAD = {"layer": None, "stages": 1, "window": SMALL_SIDE // 4, "stride": SMALL_SIDE // 4}
LEFT_OUT = [
    f"{kind} {size}" for kind in ("MIF constant", "LIF constant", "MIF colours", "LIF colours") for size in (100, 500)
]
LEFT_OUT += ["MIF colours 5000", "LIF colours 5000"]


def lowered(sizes, count, part):
    """The full scale's sizes with two blocks, few images, a small untrained network, and few draws.

    The second block has the first three explainers and the controls.
    """
    cut = lambda name, value: INSTEAD.get(name, min(value, AT_MOST[name]) if name in AT_MOST else value)
    few = lambda items: {label: {name: cut(name, value) for name, value in own.items()} for label, own in items.items()}
    blocks = []
    for number, block in enumerate(sizes["blocks"][:2]):
        explainers = few(block["explainer"])
        chosen = {label: explainers[label] for label in (*list(explainers)[:3], *CONTROLS)} if number else explainers
        untrained = {"weights": None} if "weights" in block["model"] else {}
        blocks.append(
            {
                **block,
                "dataset": {**block["dataset"], "count": count, "from": 0, "to": part if number else count},
                "model": {**block["model"], "architecture": SMALL_NET, **untrained},
                "explainer": chosen,
                "metric": {label: own for label, own in few(block["metric"]).items() if label not in LEFT_OUT},
            }
        )
    expected = {"classes": FEW.classes, "images": FEW.images, "wnids": ""}
    return {**sizes, "blocks": blocks, "folder": expected, "part": part, "subsets": None}


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(nets, "SIDE", SMALL_SIDE)
    folder = tmp_path / "imagenet"
    filled(folder / "val")
    for architecture in ("resnet50", "resnet18"):
        saved_checkpoint(folder / CHECKPOINT.format(architecture))
    return folder


def expectations_measured(name, numbers):
    settings = set(numbers["setting"])
    return [each for each in paper(name).expect if each.ours.get("setting") in (*settings, None)]


@pytest.mark.parametrize("name", PAPERS)
def test_the_full_scale_checks_loads_measures_and_compares(name, user_folder, tmp_path):
    sizes, said = lowered(paper(name).sizes["full"], count=2, part=1), []
    setting = StudySetting("full", sizes, tmp_path / "parts", user_folder, said.append)
    found = study(setting)
    assert said[0].startswith("about ") and "model evaluations on " in said[0]
    assert [line.startswith("measuring ") for line in said[1:]] == [True] * len(said[1:]) and len(said) in (3, 4)
    first = found.numbers[found.numbers["setting"] == found.numbers["setting"].iloc[0]]
    assert set(first.loc[first["explainer"] == "random", "n"]) == {2}
    assert set(first["dataset"]) == {"ImageNet val"} and set(first["model"]) == {sizes["blocks"][0]["model"]["label"]}
    assert any("2 images of " in note and "hash of the ids" in note for note in found.notes)
    assert not any(" has no " in note for note in found.notes), found.notes
    identities = {each.name: each.holds for each in found.claims if each.kind == IDENTITY}
    assert identities and all(identities.values()), identities
    lines = lines_of(found, expectations_measured(name, found.numbers), small=False)
    beside = [line for line in lines if np.isfinite(line.theirs)]
    assert len(beside) >= 2 and all(np.isfinite(line.ours) for line in beside)
    said.clear()
    again = study(setting)
    assert said == [] and again.notes == found.notes
    pd.testing.assert_frame_equal(again.numbers, found.numbers)


def test_a_killed_run_goes_on_with_the_part_that_it_lost(user_folder, tmp_path, monkeypatch):
    sizes, said, run = lowered(paper("srg").sizes["full"], count=2, part=1), [], harness.api.run
    sizes["blocks"][0]["explainer"] = {"saliency": {}, **{each: {} for each in ("random", "edge", "blurred_random")}}
    sizes["blocks"][0]["explainer"] |= {"integrated_gradients": {"steps": 1}}
    setting = StudySetting("full", sizes, tmp_path / "parts", user_folder, said.append)

    def killed(part):
        if part["dataset"]["first"] == 1:
            raise KeyboardInterrupt
        return run(part)

    monkeypatch.setattr(harness.api, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        study(setting)
    monkeypatch.setattr(harness.api, "run", run)
    said.clear()
    found = study(setting)
    assert [line.rpartition(": ")[2] for line in said if line.startswith("measuring")] == ["part 1 of 1"]
    assert set(found.numbers["n"]) == {2}


@pytest.mark.parametrize("name", PAPERS)
def test_without_the_data_the_full_scale_is_refused_in_one_line(name, user_folder, tmp_path):
    with pytest.raises(UserError, match="needs the 50,000 validation images .* scale=small"):
        reproduce(name, runs=tmp_path)
    with pytest.raises(UserError, match="class folders|is not there") as told:
        reproduce(name, data=user_folder, runs=tmp_path)
    assert "\n" not in str(told.value)
