"""The mathematics of the study road_cifar10: imputation, orders, rank correlations, and the user's files."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torchvision import models
from torchvision.models.resnet import BasicBlock, ResNet

from harness.errors import UserError
from harness.reproducing.published import published_numbers
from harness.reproducing.studies.road_cifar10 import claims, images, maps
from harness.reproducing.studies.road_cifar10 import study as road_cifar10
from harness.reproducing.study import StudySetting


def test_the_dense_solver_gives_the_mean_of_neighbours_and_keeps_linear_slopes():
    ramp = np.add.outer(np.arange(6.0), 2 * np.arange(7.0))
    gone = np.zeros((6, 7), dtype=bool)
    gone[1:5, 2:5] = True
    np.testing.assert_allclose(maps.solved_directly(ramp, gone), ramp, atol=1e-12)
    one = np.zeros((6, 7), dtype=bool)
    one[0, 3] = True
    values = np.random.default_rng(0).random((6, 7))
    expected = (2 * (values[0, 2] + values[0, 4] + values[1, 3]) + values[1, 2] + values[1, 4]) / 8
    assert maps.solved_directly(values, one)[0, 3] == pytest.approx(expected)


def test_the_registered_imputation_is_that_of_the_dense_solver():
    draw = torch.Generator().manual_seed(0)
    pictures, gone = torch.rand(2, 3, 9, 8, generator=draw), torch.rand(2, 9, 8, generator=draw) < 0.7
    filled = maps.filled_images(pictures, gone, maps.LINEAR_FILL, torch.zeros_like(pictures))
    for number in range(2):
        for channel in range(3):
            direct = maps.solved_directly(pictures[number, channel].double().numpy(), gone[number].numpy())
            np.testing.assert_allclose(filled[number, channel], direct, atol=1e-5)


def test_a_fixed_fill_is_the_channels_mean_and_noise_is_added_to_removed_pixels_alone():
    pictures = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    gone = torch.zeros(1, 4, 4, dtype=torch.bool)
    gone[0, 1, 2] = True
    fixed = maps.filled_images(pictures, gone, maps.FIXED_FILL, torch.zeros_like(pictures))
    torch.testing.assert_close(fixed[0, :, 1, 2], pictures.mean((2, 3))[0])
    noisy = maps.filled_images(pictures, gone, maps.LINEAR_FILL, torch.ones_like(pictures))
    plain = maps.filled_images(pictures, gone, maps.LINEAR_FILL, torch.zeros_like(pictures))
    torch.testing.assert_close(noisy - plain, gone[:, None].expand_as(pictures).float())


def test_places_follow_the_map_and_ties_are_random_but_the_same_for_an_image():
    flat = torch.tensor([[[3.0, 1.0], [1.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    found = maps.places_of_pixels(flat, [0, 1])
    assert found[0, 0, 0] == 0 and found[0, 1, 1] == 1 and sorted(found[1].flatten().tolist()) == [0, 1, 2, 3]
    assert torch.equal(maps.places_of_pixels(flat[1:], [1])[0], found[1])


def test_lerf_at_a_share_keeps_what_morf_removes():
    places = torch.randperm(1024, generator=torch.Generator().manual_seed(0)).view(1, 32, 32)
    for share in maps.SHARES:
        gone, others = (maps.removed_pixels(places, order, share) for order in maps.ROAD_ORDERS)
        assert torch.equal(gone, ~others) and gone.sum() == 1024 * share // 100


def test_blurring_keeps_constants_and_sums_of_inner_points():
    point = torch.zeros(1, 32, 32, dtype=torch.float64)
    point[0, 15, 16] = 1
    assert maps.blurred(point).sum() == pytest.approx(1)
    torch.testing.assert_close(maps.blurred(torch.ones_like(point)), torch.ones_like(point))


def test_rank_correlations_are_scipys_and_none_for_constants():
    draw = np.random.default_rng(0)
    first, second = draw.integers(5, size=8), draw.normal(size=8)
    assert claims.spearman_of(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert np.isnan(claims.spearman_of(np.ones(8), second))


def test_consistency_is_1_where_the_method_that_loses_most_under_morf_keeps_most_under_lerf():
    lost = np.linspace(0.1, 0.8, 8)
    at = {"MoRF": 1 - lost, "LeRF": lost}
    table = np.array([np.repeat(at[order][:, None], 7, 1) for order, _ in claims.SETTINGS_OF_MATRIX])
    assert claims.consistencies(table) == {"noisy-linear": pytest.approx(1), "fixed": pytest.approx(1)}
    raw = claims.raw_correlations(table)
    assert raw[0, 1] == pytest.approx(1) and raw[0, 2] == pytest.approx(-1)  # D6: no sign is inverted


def test_published_names_are_those_of_the_study():
    where = {"table_or_figure": ["rank-correlation notebook (mean over runs)", "consistency table"]}
    rows = published_numbers("road2022", where)
    named = road_cifar10._named_correlations(np.random.default_rng(0).random((4, 8, 7)))
    assert set(named) <= set(rows["metric"]) and set(rows["explainer"]) == {road_cifar10.RANKING}


@pytest.fixture
def folder_of_cifar(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "TEST_COUNT", 40)
    images.cifar_of_folder.cache_clear()
    images.road_subject.cache_clear()
    draw = np.random.default_rng(0)
    rows = draw.integers(256, size=(40, images.BYTES_OF_IMAGE), dtype=np.uint8)
    rows[:, 0] = np.arange(40) % 10
    (tmp_path / images.BINARY_FOLDER).mkdir()
    rows.tofile(tmp_path / images.BINARY_FOLDER / images.TEST_FILE)
    return tmp_path, rows


def test_the_binary_version_is_read_and_its_size_and_classes_are_checked(folder_of_cifar):
    folder, rows = folder_of_cifar
    pixels, labels = images._from_binary(folder / images.BINARY_FOLDER / images.TEST_FILE)
    assert labels.tolist() == rows[:, 0].tolist() and (pixels[3, 1].flatten() == rows[3, 1025:2049]).all()
    found, again = images.cifar_of_folder(str(folder))
    assert found.shape == (40, 3, 32, 32) and found.max() <= 1 and again.tolist() == labels.tolist()
    images.cifar_of_folder.cache_clear()
    rows[:, 0] = 0
    rows.tofile(folder / images.BINARY_FOLDER / images.TEST_FILE)
    with pytest.raises(UserError, match="expected 1,000 of each"):
        images.cifar_of_folder(str(folder))
    rows[:30].tofile(folder / images.BINARY_FOLDER / images.TEST_FILE)
    with pytest.raises(UserError, match="bytes, expected"):
        images.cifar_of_folder(str(folder))


def test_pictures_in_folders_of_classes_are_read_and_the_pickled_version_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "TEST_COUNT", 10)
    images.cifar_of_folder.cache_clear()
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(UserError, match="pickled version"):
        images.cifar_of_folder(str(tmp_path))
    for number, name in enumerate(images.CIFAR_CLASSES):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / name / "a.png")
    found, labels = images.cifar_of_folder(str(tmp_path))
    assert labels.tolist() == list(range(10)) and found[7, 0, 0, 0] == pytest.approx(7 / 255)


def with_fewer_blocks(weights, num_classes):
    """A ResNet-18 with the first of its eight blocks alone: what is said of its first convolution holds as well."""
    net = ResNet(BasicBlock, [1, 1, 1, 1])
    net.layer2 = net.layer3 = net.layer4 = torch.nn.Identity()
    net.fc = torch.nn.Linear(64, num_classes)
    return net


@pytest.mark.parametrize("kernel", [3, 7])
def test_the_study_runs_on_the_users_images_with_either_first_convolution(folder_of_cifar, kernel, monkeypatch):
    folder, _ = folder_of_cifar
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        images.net_of_user(folder)
    monkeypatch.setattr(models, "resnet18", with_fewer_blocks)
    torch.manual_seed(0)
    net = with_fewer_blocks(weights=None, num_classes=10)
    if kernel == 3:
        net.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    torch.save({f"module.{name}": tensor for name, tensor in net.state_dict().items()}, folder / "weights.pth")
    if kernel == 3:  # the larger grid takes long
        assert images.net_of_user(folder)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
        return
    said = []
    monkeypatch.setattr(road_cifar10, "CHECKED", 2)
    sizes = {"images": 2, "chunk": 2, "steps": 2, "copies": 2}
    found = road_cifar10.study(StudySetting("full", sizes, folder / "parts", folder, said.append))
    assert "2 images: about" in said[0]
    exact = [claim for claim in found.claims if claim.kind == "identity"]
    assert len(exact) == 6 and all(claim.holds for claim in exact[:5]), [each.measured for each in exact]
    assert exact[5].holds is not False  # all methods may have one accuracy
    assert set(found.numbers["dataset"]) == {"CIFAR-10"} and set(found.numbers["n"]) == {2}


def test_weights_that_do_not_fit_are_told_in_one_line(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="does not fit ResNet-18") as error:
        images.net_of_user(tmp_path)
    assert "\n" not in str(error.value)
