"""Files as people have them: turned photographs, other separators, labels of several columns, long texts."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from harness.datasets.photo_mosaics import cell_of
from harness.engine.cut_texts import tell_cut_texts
from harness.engine.mask_images import with_preprocessed_masks
from harness.engine.protocol import Protocol
from harness.engine.reading import read_inputs
from harness.engine.stage import set_stage
from harness.errors import UserError
from harness.explainers._concepts import folder_sets
from harness.messages import heard_by
from harness.models.preprocessing import PRESETS, prepare
from harness.photographs import open_upright
from harness.registry import DATASETS
from harness.sources import Data, LoadedModel, Wording

TURN = Image.Transpose
# How an upright photograph lies in a file with an orientation (EXIF 2.3, tag 0x0112).
STORED = {
    2: TURN.FLIP_LEFT_RIGHT,
    3: TURN.ROTATE_180,
    4: TURN.FLIP_TOP_BOTTOM,
    5: TURN.TRANSPOSE,
    6: TURN.ROTATE_90,
    7: TURN.TRANSVERSE,
    8: TURN.ROTATE_270,
}
FORMATS = {"jpg": {"quality": 100, "subsampling": 0}, "png": {}, "webp": {"lossless": True}, "tif": {}}
PIXELS = np.zeros((48, 72, 3), np.uint8)
PIXELS[:16, :32] = (255, 60, 10)  # an orange object in the top left
PIXELS[32:, 40:] = (20, 200, 250)
UPRIGHT = Image.fromarray(PIXELS)
OBJECT = (PIXELS == (255, 60, 10)).all(-1)
MODEL = LoadedModel(torch.nn.Identity(), partial(prepare, PRESETS["plain"]))


def data_set(name, **options):
    entry = DATASETS[name]
    return entry.function(**entry.keywords(entry.complete(options)))


def save_turned(path, orientation, image=UPRIGHT):
    """Save a photograph as a camera does that was held in another position; viewers show it upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(STORED[orientation]) if orientation in STORED else image
    path.parent.mkdir(parents=True, exist_ok=True)
    stored.save(path, exif=exif, **FORMATS[path.suffix[1:]])
    return path


def off(image):
    """The mean difference of an image from the upright one; infinite for another size."""
    same = image.size == UPRIGHT.size
    return np.abs(np.asarray(image.convert("RGB")).astype(float) - PIXELS).mean() if same else np.inf


ENDINGS = [f".{ending}" for ending in FORMATS]
ORIENTATIONS = range(1, 9)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_photograph_stands_upright_wherever_it_is_read(tmp_path, ending, orientation):
    path = save_turned(tmp_path / "photos" / "a" / f"one{ending}", orientation)
    assert off(open_upright(path)) < 1 and off(open_upright(path.read_bytes())) < 1
    assert off(data_set("image_folder", path=str(tmp_path / "photos")).inputs[0]) < 1
    assert off(data_set("torchvision", which="ImageFolder", root=str(tmp_path / "photos")).inputs[0]) < 1
    # A photograph that a data set of the user's own opened as it is stored:
    with Image.open(path) as stored:
        assert torch.allclose(prepare(PRESETS["plain"], stored), prepare(PRESETS["plain"], UPRIGHT), atol=0.05)
    upright_file = tmp_path / "upright.png"
    UPRIGHT.save(upright_file)
    assert (
        np.abs(
            np.asarray(cell_of(path.read_bytes())) - np.asarray(cell_of(upright_file.read_bytes())).astype(float)
        ).mean()
        < 1
    )


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_saved_set_of_hugging_face_and_concepts_stand_upright(tmp_path, orientation):
    path = save_turned(tmp_path / "concept" / "one.jpg", orientation)
    for number in range(2, 12):
        save_turned(tmp_path / "concept" / f"{number}.jpg", orientation)
    upright = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1) / 255
    images = folder_sets(str(tmp_path), 0, {"concept": 1}, (3, 48, 72))("concept", 0)
    assert (images[0] - upright).abs().mean() < 0.01
    library = pytest.importorskip("datasets")
    features = library.Features({"image": library.Image(), "label": library.Value("int64")})
    saved = library.Dataset.from_dict({"image": [str(path)], "label": [0]}, features=features)
    saved.save_to_disk(str(tmp_path / "saved"))
    assert off(data_set("huggingface", path=str(tmp_path / "saved")).inputs[0]) < 1


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_boxes_and_masks_that_are_drawn_on_the_upright_photograph_lie_on_its_object(tmp_path, ending, kind):
    rows = []
    (tmp_path / "masks").mkdir()
    for orientation in ORIENTATIONS:
        name = f"{orientation}{ending}"
        save_turned(tmp_path / name, orientation)
        Image.fromarray(OBJECT.astype(np.uint8) * 255).save((tmp_path / "masks" / name).with_suffix(".png"))
        rows.append(f"{name},0,0,0,32,16")
    (tmp_path / "labels.csv").write_text("file,label,x0,y0,x1,y1\n" + "\n".join(rows) + "\n")
    lines = []
    with heard_by(lines.append):
        data = data_set(
            "image_folder", path=str(tmp_path), **({"boxes": True} if kind == "boxes" else {"masks": "masks"})
        )
    assert len(data) == 8 and not data.skipped
    assert len(lines) == 1 and "7 of 8 images are turned upright" in lines[0]
    masks = with_preprocessed_masks(data, MODEL.preprocess).masks
    for row in range(8):
        image = read_inputs(MODEL, data, slice(row, row + 1))[0]
        orange = (image[0] > 0.6) & (image[2] < 0.3)
        mask = masks[row : row + 1][0]
        assert (mask & orange).sum() / (mask | orange).sum() > 0.9, data.ids[row]


def test_a_mask_of_the_photograph_as_it_is_stored_is_left_out_and_named(tmp_path):
    save_turned(tmp_path / "phone.jpg", 6), save_turned(tmp_path / "other.jpg", 1)
    (tmp_path / "masks").mkdir()
    for name, image in (("phone", UPRIGHT.transpose(STORED[6])), ("other", UPRIGHT)):
        image.convert("L").save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "labels.csv").write_text("file,label\nphone.jpg,0\nother.jpg,0\n")
    data = data_set("image_folder", path=str(tmp_path), masks="masks")
    assert data.skipped == ["phone.jpg: its mask is 48 x 72, the upright image 72 x 48"]


def test_a_turned_mask_stands_upright_too(tmp_path):
    save_turned(tmp_path / "phone.jpg", 6)
    save_turned(tmp_path / "masks" / "phone.png", 8, Image.fromarray(OBJECT.astype(np.uint8) * 255))
    (tmp_path / "labels.csv").write_text("file,label\nphone.jpg,0\n")
    data = data_set("image_folder", path=str(tmp_path), masks="masks")
    assert np.array_equal(np.asarray(data.masks.images[0].convert("L")) > 0, OBJECT)


def test_deep_grey_values_are_refused_in_every_set(tmp_path):
    deep = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    (tmp_path / "sets" / "a").mkdir(parents=True)
    deep.save(tmp_path / "sets" / "a" / "deep.png")
    with pytest.raises(UserError, match="more than 8 bits"):
        data_set("image_folder", path=str(tmp_path / "sets"))
    library = pytest.importorskip("datasets")
    features = library.Features({"image": library.Image(), "label": library.Value("int64")})
    saved = library.Dataset.from_dict({"image": [str(tmp_path / "sets/a/deep.png")], "label": [0]}, features=features)
    saved.save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(UserError, match="more than 8 bits"):
        read_inputs(MODEL, data_set("huggingface", path=str(tmp_path / "saved")), slice(0, 1))


# Files of labels


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_files_of_labels_and_of_texts_have_any_separator(tmp_path, separator):
    save_turned(tmp_path / "one.png", 1)
    pd.DataFrame({"file": ["one.png"], "label": ["Bär"]}).to_csv(tmp_path / "labels.csv", sep=separator, index=False)
    assert data_set("image_folder", path=str(tmp_path)).classes == ("Bär",)
    texts = pd.DataFrame({"text": ["good, and long; very | long", "bad"], "label": ["yes", "no"]})
    texts.to_csv(tmp_path / "texts.csv", sep=separator, index=False)
    data = data_set("text", path=str(tmp_path / "texts.csv"))
    assert list(data.inputs) == list(texts["text"]) and data.labels.tolist() == [1, 0]


def test_a_row_that_lacks_its_label_is_no_class(tmp_path):
    (tmp_path / "texts.csv").write_text("text,label\ngood,1\nbad\n")
    with pytest.raises(UserError, match="the label of row_1 is ''"):
        data_set("text", path=str(tmp_path / "texts.csv"))


# Arrays


def saved_arrays(folder, **named):
    np.savez(folder / "data.npz", inputs=np.zeros((4, 3), np.float32), **named)
    return data_set("arrays", path=str(folder / "data.npz"))


SEVERAL = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize("kind", [np.int64, np.uint8, bool])
def test_independent_labels_are_columns_of_0_and_1(tmp_path, kind):
    data = saved_arrays(
        tmp_path, labels=SEVERAL.astype(kind), train=np.ones((4, 3)), train_labels=SEVERAL[::-1].astype(kind)
    )
    assert data.labels.dtype == torch.int64 and data.labels.tolist() == SEVERAL.tolist()
    assert data.train_labels.tolist() == SEVERAL[::-1].tolist()
    with pytest.raises(UserError, match="sample_1 has .* expected independent labels, 0 or 1"):
        saved_arrays(tmp_path, labels=SEVERAL + np.array([[0], [1], [0], [0]]))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_several_numbers_to_predict_are_columns_of_floats(tmp_path, kind):
    values = np.arange(8).reshape(4, 2).astype(kind) / 2
    data = saved_arrays(tmp_path, labels=values)
    assert data.labels.dtype == torch.float32 and np.allclose(data.labels, values)
    with pytest.raises(UserError, match="all 0 or 1: save independent labels as whole numbers"):
        saved_arrays(tmp_path, labels=SEVERAL.astype(kind))
    with pytest.raises(UserError, match="the label of sample_0 is NaN"):
        saved_arrays(tmp_path, labels=np.where(values == 0.5, np.nan, values))


@pytest.mark.parametrize("kind", [np.float32, np.int64, bool])
def test_a_single_column_of_labels_is_one_label_per_sample(tmp_path, kind):
    labels = np.array([0, 1, 1, 0]).astype(kind)
    assert saved_arrays(tmp_path, labels=labels[:, None]).labels.tolist() == labels.tolist()


def test_one_hot_labels_are_said_to_be_read_as_independent(tmp_path):
    lines = []
    with heard_by(lines.append):
        saved_arrays(tmp_path, labels=np.eye(4, 3, dtype=int) + np.array([[0] * 3] * 3 + [[1, 0, 0]]))
        saved_arrays(tmp_path, labels=SEVERAL)
    assert len(lines) == 1 and "labels.argmax(1)" in lines[0]


def test_images_with_the_channels_last_are_refused_and_a_word_from_the_user_is_taken(tmp_path):
    np.savez(tmp_path / "last.npz", inputs=np.zeros((2, 8, 9, 3), np.float32))
    with pytest.raises(UserError, match="inputs.transpose"):
        data_set("arrays", path=str(tmp_path / "last.npz"))
    assert len(data_set("arrays", path=str(tmp_path / "last.npz"), modality="image")) == 2
    np.savez(tmp_path / "first.npz", inputs=np.zeros((2, 3, 8, 3), np.float32))
    assert len(data_set("arrays", path=str(tmp_path / "first.npz"))) == 2


# Texts


class Letters:
    """A model of texts whose tokens are letters, of which it reads the first four."""

    def __call__(self, text):
        return torch.tensor([float(ord(letter)) for letter in text[:4].ljust(4)])[:, None]

    def words(self, text):
        return torch.arange(4)

    def present(self, text):
        return torch.arange(4) < len(text)


def test_texts_that_are_cut_are_counted_among_those_that_are_used():
    reader = Letters()
    wording = Wording(list, reader.words, reader.present, {}, len)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
    model, lines = LoadedModel(module, reader, wording=wording), []
    data = Data(["abc", "abcd", "abcde", "abcdefg", "ab", "abcdefgh"], ids=list("uvwxyz"), modality="tokens")
    with heard_by(lines.append):
        set_stage(model, data, Protocol(samples=5), torch.device("cpu"))
    assert lines == ["2 of 5 texts are longer than 4 tokens and were cut, the first is 'w'"]
    assert tell_cut_texts(LoadedModel(module, reader), data, 6, 4) == 0


def test_a_tokenizer_counts_a_text_as_if_it_were_not_cut():
    transformers = pytest.importorskip("transformers")
    from harness.models.huggingface_text import EmbeddingReader

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "film", "a"]
    tokenizer = transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    for count in (0, 1, 3, 4, 5, 9, 30):
        reader = EmbeddingReader(tokenizer, torch.nn.Embedding(len(words), 2), 6)
        assert reader.whole_length("film " * count) == count + 2  # [CLS] and [SEP]
