"""The user's own images: labels by index or name, broken files named, every mistake one line."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from harness.datasets.image_folder import image_folder
from harness.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Four images, a CSV that labels them by index, and a file with three class names."""
    seed = int(os.environ["HARNESS_TEST_SEED"]) % 10_000
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    for name in ("a.png", "b.jpg", "c.bmp", "sub/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)).save(tmp_path / name)
    label(tmp_path, "a.png,0", "b.jpg,2", "c.bmp,1", "sub/d.png,2")
    (tmp_path / "names.txt").write_text("zebra\ncat\nbee\n")
    return tmp_path


def label(folder, *rows, header="file,label"):
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def refusal(folder, **options):
    with pytest.raises(UserError) as caught:
        image_folder(path=str(folder), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_images_are_decoded_when_asked_for_in_the_order_of_the_csv(folder):
    data = image_folder(path=str(folder))
    assert list(data.ids) == ["a.png", "b.jpg", "c.bmp", "sub/d.png"] and data.labels.tolist() == [0, 2, 1, 2]
    assert data.labels.dtype == torch.int64 and data.modality == "image" and data.classes is None and not data.skipped
    assert np.array_equal(np.asarray(data.items[3]), np.asarray(Image.open(folder / "sub/d.png")))
    (folder / "a.png").unlink()
    with pytest.raises(FileNotFoundError):
        data.items[0]


def test_names_stand_for_their_line_in_the_class_file(folder):
    label(folder, "a.png,cat", "b.jpg, bee", "sub/d.png,zebra")
    data = image_folder(path=str(folder), classes="names.txt")
    assert data.labels.tolist() == [1, 2, 0] and data.classes == ("zebra", "cat", "bee")


def test_indices_may_come_with_a_class_file_too(folder):
    assert image_folder(path=str(folder), classes="names.txt").labels.tolist() == [0, 2, 1, 2]


def test_names_without_a_class_file_are_numbered_in_their_sorted_order(folder):
    label(folder, "a.png,NA", "b.jpg,cat", "c.bmp,bee")
    data = image_folder(path=str(folder))
    assert data.classes == ("NA", "bee", "cat") and data.labels.tolist() == [0, 2, 1]


def test_class_names_that_are_numbers_are_names_when_all_labels_are_among_them(folder):
    (folder / "names.txt").write_text("7\n5\n3\n")
    label(folder, "a.png,3", "b.jpg,7")
    assert image_folder(path=str(folder), classes="names.txt").labels.tolist() == [2, 0]


def test_columns_and_files_can_have_other_names(folder):
    (folder / "truth.csv").write_text("\ufeffid,image,class\n1,a.png,2\n", encoding="utf-8")
    data = image_folder(path=str(folder), labels="truth.csv", file_column="image", label_column="class")
    assert list(data.ids) == ["a.png"] and data.labels.tolist() == [2]
    absolute = str(folder / "truth.csv")
    assert len(image_folder(path=str(folder), labels=absolute, file_column="image", label_column="class")) == 1


@pytest.mark.parametrize("name", ["a.png", "b.jpg", "c.bmp"])
@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_images_that_cannot_be_decoded_are_left_out_and_named(folder, name, damage):
    content = (folder / name).read_bytes()
    broken = {"truncated": content[: len(content) * 2 // 3], "text": b"not an image", "empty": b""}[damage]
    (folder / name).write_bytes(broken)
    data = image_folder(path=str(folder))
    assert len(data) == len(data.labels) == len(data.items) == 3 and name not in data.ids
    assert len(data.skipped) == 1 and data.skipped[0].startswith(f"{name}: ")
    assert [image.size for image in data.items] == [(20, 12)] * 3


def test_no_image_that_can_be_decoded_is_an_error_and_not_empty_data(folder):
    label(folder, "a.png,0")
    (folder / "a.png").write_bytes(b"no")
    assert "none of the 1 images" in refusal(folder)


@pytest.mark.parametrize(
    "row, options, said",
    [
        ("a.png,-1", {}, "label of a.png is '-1'"),
        ("a.png,1.0", {}, "label of a.png is '1.0'"),
        ("a.png,cat", {}, "label of a.png is 'cat', expected a class index"),
        ("a.png,", {}, "label of a.png is ''"),
        ("a.png,3", {"classes": "names.txt"}, "only 3 class names"),
        ("a.png,cta", {"classes": "names.txt"}, "did you mean 'cat'"),
        ("e.png,1", {}, "1 of 2 files are not in"),
        ("b.jpg,1", {}, "'b.jpg' more than once"),
    ],
)
def test_a_wrong_row_is_one_line_that_names_it(folder, row, options, said):
    label(folder, "b.jpg,cat" if "cta" in row else "b.jpg,1", row)
    assert said in refusal(folder, **options)


def test_an_empty_label_among_names_is_not_a_class(folder):
    label(folder, "a.png,cat", "b.jpg,")
    assert "label of b.jpg is empty" in refusal(folder)


def test_a_name_of_two_classes_needs_indices(folder):
    (folder / "names.txt").write_text("crane\ncat\ncrane\n")
    assert image_folder(path=str(folder), classes="names.txt").labels.tolist() == [0, 2, 1, 2]
    label(folder, "a.png,crane")
    assert "the name of 2 classes" in refusal(folder, classes="names.txt")


def test_missing_things_are_named(folder):
    assert "needs path=FOLDER" in refusal("")
    assert "is not a folder" in refusal(folder / "nowhere")
    assert "truth.csv does not exist" in refusal(folder, labels="truth.csv")
    assert "kinds.txt does not exist" in refusal(folder, classes="kinds.txt")
    assert "no column 'image', only file, label" in refusal(folder, file_column="image")
    assert "no column 'class'" in refusal(folder, label_column="class")


@pytest.mark.parametrize(
    "content, said",
    [(b"", "cannot be read"), (b"file,label\n", "lists no images"), (b"\xff\xfe\x00", "cannot be read")],
)
def test_a_csv_without_rows_is_one_line(folder, content, said):
    (folder / "labels.csv").write_bytes(content)
    assert said in refusal(folder)


def test_an_empty_class_file_is_one_line(folder):
    (folder / "names.txt").write_text("\n\n")
    assert "is empty" in refusal(folder, classes="names.txt")
