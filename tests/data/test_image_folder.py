"""The user's own images: labels by index or name, broken files named, every mistake one line."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from harness.engine.protocol import Protocol
from harness.engine.stage import set_stage
from harness.errors import UserError
from harness.sources import LoadedModel
from named_options import data_set

image_folder = data_set("image_folder")


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
    assert np.array_equal(np.asarray(data.inputs[3]), np.asarray(Image.open(folder / "sub/d.png")))
    (folder / "a.png").unlink()
    with pytest.raises(FileNotFoundError):
        data.inputs[0]


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
    data = image_folder(path=str(folder), labels_path="truth.csv", file_column="image", label_column="class")
    assert list(data.ids) == ["a.png"] and data.labels.tolist() == [2]
    absolute = str(folder / "truth.csv")
    assert len(image_folder(path=str(folder), labels_path=absolute, file_column="image", label_column="class")) == 1


@pytest.mark.parametrize("name", ["a.png", "b.jpg", "c.bmp"])
@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_images_that_cannot_be_decoded_are_left_out_and_named(folder, name, damage):
    content = (folder / name).read_bytes()
    broken = {"truncated": content[: len(content) * 2 // 3], "text": b"not an image", "empty": b""}[damage]
    (folder / name).write_bytes(broken)
    data = image_folder(path=str(folder))
    assert len(data) == len(data.labels) == len(data.inputs) == 3 and name not in data.ids
    assert len(data.skipped) == 1 and data.skipped[0].startswith(f"{name}: ")
    assert [image.size for image in data.inputs] == [(20, 12)] * 3


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
    assert "truth.csv does not exist" in refusal(folder, labels_path="truth.csv")
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


# A folder for each class


@pytest.fixture
def classes(tmp_path, seed):
    """Three images in two folders, one deeper, and a file that is no image."""
    rng = np.random.default_rng(seed)
    for name in ("dog/a.png", "cat/b.jpg", "cat/deep/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def test_without_a_csv_every_subfolder_is_a_class(classes):
    data = image_folder(path=str(classes))
    assert list(data.ids) == ["cat/b.jpg", "cat/deep/c.png", "dog/a.png"] and data.labels.tolist() == [0, 0, 1]
    assert data.classes == ("cat", "dog") and data.skipped == [
        "cat/notes.txt: its name does not end like that of an image"
    ]
    (classes / "names.txt").write_text("dog\nbee\ncat\n")
    assert image_folder(path=str(classes), classes="names.txt").labels.tolist() == [2, 2, 0]


def test_classes_are_numbered_as_torchvision_numbers_folders(classes):
    from torchvision.datasets import ImageFolder

    expected, data = ImageFolder(str(classes)), image_folder(path=str(classes))
    assert [(str(classes / name), label) for name, label in zip(data.ids, data.labels.tolist(), strict=True)] == (
        expected.samples
    )
    assert list(data.classes) == expected.classes


def test_a_broken_image_in_a_class_is_left_out_and_named(classes):
    (classes / "cat" / "b.jpg").write_bytes(b"no")
    data = image_folder(path=str(classes))
    assert data.labels.tolist() == [0, 1] and [line.split(":")[0] for line in data.skipped] == [
        "cat/notes.txt",
        "cat/b.jpg",
    ]


def test_a_folder_with_neither_csv_nor_classes_nor_images_is_one_line(tmp_path):
    assert "neither labels.csv nor a folder for each class" in refusal(tmp_path)
    (tmp_path / "cat").mkdir()
    assert "hold no images" in refusal(tmp_path)


# Where the object is

SIDE, CROP = 32, 24


def preprocess(image):
    """Short side to 32 by bicubic interpolation, the middle 24 x 24, normalised per channel, one of them inverted."""
    from torchvision.transforms import InterpolationMode, functional

    image = functional.center_crop(functional.resize(image, [SIDE], InterpolationMode.BICUBIC), [CROP])
    values = functional.to_tensor(image.convert("RGB"))
    return (values - torch.tensor([0.4, 0.5, 0.6])[:, None, None]) / torch.tensor([0.2, -0.3, 0.25])[:, None, None]


def seen(data, preprocess=preprocess):
    """The masks that the stage hands out."""
    side = preprocess(data.inputs[0]).shape
    net = nn.Sequential(nn.Flatten(), nn.Linear(side.numel(), 3)).eval()
    stage = set_stage(LoadedModel(net, preprocess), data, Protocol(), torch.device("cpu"))
    masks = torch.cat([samples.masks for _, samples in stage.chunks()])
    assert masks.dtype == torch.bool and masks.shape == (len(data), *side[1:])
    return masks


@pytest.fixture
def objects(tmp_path, seed):
    """Images of different sizes and modes, with one box each, in pixels; and the boxes."""
    rng = np.random.default_rng(seed)
    sizes, modes = [(64, 64), (96, 64), (64, 128), (200, 150)], ["RGB", "L", "RGBA", "RGB"]
    boxes, rows = [], []
    (tmp_path / "masks").mkdir()
    for number, ((width, height), mode) in enumerate(zip(sizes, modes, strict=True)):
        shape = (height, width, 3) if mode == "RGB" else (height, width, 4) if mode == "RGBA" else (height, width)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / f"{number}.png")
        left, top = int(rng.integers(0, width // 2)), int(rng.integers(0, height // 2))
        right, bottom = (
            left + int(rng.integers(width // 3, width // 2)),
            top + int(rng.integers(height // 3, height // 2)),
        )
        boxes.append((left, top, right, bottom))
        rows.append(f"{number}.png,{number % 3},{left},{top},{right},{bottom}")
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[top:bottom, left:right] = number + 1  # not zero is the object, whatever the number
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    label(tmp_path, *rows, header="file,label,x0,y0,x1,y1")
    return tmp_path, sizes, boxes


def expected_mask(size, box):
    """The box in the crop by plain geometry, and where an edge is within a pixel, so that either answer is right."""
    scale = SIDE / min(size)
    resized = [int(side * scale) for side in size]
    start = [round((side - CROP) / 2) for side in resized]
    inside, near = [], []
    for axis in (1, 0):  # rows, columns
        centres = (torch.arange(CROP) + start[axis] + 0.5) * size[axis] / resized[axis]
        low, high = box[axis], box[axis + 2]
        inside.append((centres > low) & (centres < high))
        near.append(((centres - low).abs() < 1 / scale) | ((centres - high).abs() < 1 / scale))
    rows, columns = torch.meshgrid(*inside, indexing="ij")
    near_rows, near_columns = torch.meshgrid(*near, indexing="ij")
    return rows & columns, near_rows | near_columns


@pytest.mark.parametrize("drawn", [{"boxes": True}, {"masks": "masks"}])
def test_an_object_lies_where_the_model_sees_it(objects, drawn):
    folder, sizes, boxes = objects
    found = seen(image_folder(path=str(folder), **drawn))
    for mask, size, box in zip(found, sizes, boxes, strict=True):
        expected, near = expected_mask(size, box)
        assert torch.equal(mask[~near], expected[~near])


def test_boxes_and_masks_of_the_same_objects_are_the_same(objects):
    path = str(objects[0])
    assert torch.equal(seen(image_folder(path=path, boxes=True)), seen(image_folder(path=path, masks="masks")))
    absolute = str(objects[0] / "masks")
    assert torch.equal(seen(image_folder(path=path, boxes=True)), seen(image_folder(path=path, masks=absolute)))


def test_a_crop_alone_keeps_a_mask_to_the_pixel(folder, seed):
    from torchvision.transforms import functional

    rng = np.random.default_rng(seed)
    (folder / "drawn" / "sub").mkdir(parents=True)
    masks = {name: rng.random((12, 20)) < 0.5 for name in ("a.png", "b.png", "c.png", "sub/d.png")}
    for name, mask in masks.items():
        Image.fromarray(mask).save(folder / "drawn" / name)  # those of b.jpg and c.bmp are PNG all the same
    cropped = lambda image: functional.to_tensor(functional.crop(image, 2, 5, 8, 9))
    found = seen(image_folder(path=str(folder), masks="drawn"), cropped)
    assert np.array_equal(found.numpy(), np.stack([mask[2:10, 5:14] for mask in masks.values()]))


def test_a_unit_is_of_the_object_if_more_than_half_of_it_is(folder):
    from torchvision.transforms import functional

    label(folder, "a.png,0,0,0,5,12", "b.jpg,1,0,0,20,7", "c.bmp,2,2,2,16,11", header="file,label,x0,y0,x1,y1")
    pooled = lambda image: nn.functional.avg_pool2d(functional.to_tensor(image), 4)
    found, expected = seen(image_folder(path=str(folder), boxes=True), pooled), torch.zeros(3, 3, 5, dtype=torch.bool)
    expected[0, :, :1] = True  # of the second column of units a quarter
    expected[1, :2] = True  # of the second row three quarters
    expected[2, 1:, 1:4] = True  # of units in the first row and column half at most, of those below three quarters
    assert torch.equal(found, expected)


def test_a_file_may_have_several_boxes_or_none(folder):
    from torchvision.transforms import functional

    label(folder, "a.png,0,0,0,5,5", "b.jpg,2,,,,", "a.png,0,10,4,20,12", header="file,label,x0,y0,x1,y1")
    data = image_folder(path=str(folder), boxes=True)
    found, expected = seen(data, functional.to_tensor), torch.zeros(2, 12, 20, dtype=torch.bool)
    expected[0, :5, :5] = expected[0, 4:12, 10:20] = True
    assert list(data.ids) == ["a.png", "b.jpg"] and torch.equal(found, expected)


def test_masks_that_cannot_be_used_leave_their_images_out_and_named(objects):
    folder = objects[0]
    (folder / "masks" / "1.png").write_bytes(b"no")
    Image.new("L", (5, 5)).save(folder / "masks" / "2.png")
    data = image_folder(path=str(folder), masks="masks")
    assert list(data.ids) == ["0.png", "3.png"] and len(data.masks) == 2
    assert "1.png: its mask cannot be read" in data.skipped[0]
    assert data.skipped[1] == "2.png: its mask is 5 x 5, the image 64 x 128"
    label(folder, "0.png,0,0,0,65,10", "1.png,1,0,0,5,5", header="file,label,x0,y0,x1,y1")
    data = image_folder(path=str(folder), boxes=True)
    assert data.skipped == ["0.png: its box 0, 0, 65, 10 is not within the image, 64 x 64"] and len(data) == 1


def test_preprocessing_that_no_mask_can_go_through_is_refused(objects):
    def standardised(image):
        values = preprocess(image)
        return (values - values.mean()) / (values.std() + 1e-6) * 0

    with pytest.raises(UserError, match="makes black and white images alike"):
        seen(image_folder(path=str(objects[0]), boxes=True), standardised)


@pytest.mark.parametrize(
    "rows, options, said",
    [
        (["a.png,0,0,0,5,5"], {"boxes": True, "masks": "sub"}, "both masks and boxes"),
        (["a.png,0,5,0,5,5"], {"boxes": True}, "the box of a.png is '5', '0', '5', '5', expected pixels"),
        (["a.png,0,0,,5,5"], {"boxes": True}, "the box of a.png is '0', '', '5', '5'"),
        (["a.png,0,0,0,5,5", "a.png,1,0,0,2,2"], {"boxes": True}, "gives 'a.png' the labels 0, 1, expected one"),
        (["a.png,0,0,0,5,5"], {"masks": "nowhere"}, "is not a folder"),
        (["a.png,0,0,0,5,5"], {"masks": "sub"}, "1 of 1 images have no mask in"),
    ],
)
def test_a_wrong_box_or_mask_is_one_line(folder, rows, options, said):
    label(folder, *rows, header="file,label,x0,y0,x1,y1")
    assert said in refusal(folder, **options)
    label(folder, "a.png,0")
    assert options.get("masks") or "no column 'x0'" in refusal(folder, **options)


def test_images_of_more_than_8_bits_are_left_out_as_they_would_come_out_white(tmp_path):
    (tmp_path / "scans" / "bone").mkdir(parents=True)
    deep = np.linspace(0, 4000, 64).reshape(8, 8)
    Image.fromarray(deep.astype(np.uint16)).save(tmp_path / "scans" / "bone" / "deep.png")
    Image.fromarray((deep / 16).astype(np.uint8)).save(tmp_path / "scans" / "bone" / "flat.png")
    data = image_folder(path=str(tmp_path / "scans"))
    assert data.ids == ["bone/flat.png"] and "more than 8 bits" in data.skipped[0]


def test_folders_with_numbers_for_names_are_numbered_as_torchvision_does(tmp_path):
    for name in ("2", "10", "empty of images", "1"):
        (tmp_path / name).mkdir()
        if not name.startswith("empty"):
            Image.new("RGB", (4, 4)).save(tmp_path / name / "a.png")
    data = image_folder(path=str(tmp_path))
    theirs = sorted(each.name for each in tmp_path.iterdir())
    assert list(data.classes) == theirs == ["1", "10", "2", "empty of images"]
    assert [theirs[label] for label in data.labels] == [name.split("/")[0] for name in data.ids]
