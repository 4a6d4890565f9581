"""The user's own arrays, tables, texts and sets: read as they are, what is broken named, mistakes one line."""

import gzip
import hashlib
import pickle
import struct
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import harness
from harness.datasets.encoding import encode
from harness.engine.protocol import Protocol
from harness.engine.stage import set_stage
from harness.errors import UserError
from harness.sources import LoadedModel
from named_options import data_set

arrays, table, text = data_set("arrays"), data_set("table"), data_set("text")
huggingface, torchvision = data_set("huggingface"), data_set("torchvision")


def said_by(make, *args, **options):
    with pytest.raises(UserError) as caught:
        make(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def staged(module, data, preprocess=None):
    return set_stage(LoadedModel(module.eval(), preprocess), data, Protocol(), torch.device("cpu"))


# Arrays


@pytest.fixture
def images(seed):
    rng = np.random.default_rng(seed)
    return {
        "inputs": rng.normal(size=(6, 2, 4, 5)).astype(np.float32),
        "labels": rng.integers(0, 3, 6),
        "masks": rng.random((6, 4, 5)) < 0.5,
        "truth": rng.normal(size=(6, 4, 5)),
        "segments": rng.integers(0, 4, (6, 4, 5)),
        "train": rng.normal(size=(9, 2, 4, 5)).astype(np.float32),
        "train_labels": rng.integers(0, 3, 9),
        "g_site": np.array(list("aabbab")),
        "ids": np.array(list("uvwxyz")),
    }


def as_folder(path, found):
    path.mkdir(exist_ok=True)
    for name, array in found.items():
        np.save(path / f"{name}.npy", array)
    return str(path)


def as_archive(path, found):
    np.savez(path.with_suffix(".npz"), **found)
    return str(path.with_suffix(".npz"))


def stacked(items):
    return torch.stack([items[number] for number in range(len(items))])


@pytest.mark.parametrize("save", [as_folder, as_archive])
def test_arrays_come_out_as_they_were_saved(images, save, tmp_path):
    data = arrays(path=save(tmp_path / "mine", images), low=-5, high=5)
    assert torch.equal(stacked(data.inputs), torch.from_numpy(images["inputs"])) and data.modality == "image"
    assert data.labels.tolist() == images["labels"].tolist() and data.labels.dtype == torch.int64
    assert torch.equal(data.masks[1:4], torch.from_numpy(images["masks"][1:4])) and data.masks[:].dtype == torch.bool
    assert torch.equal(data.truth[:], torch.from_numpy(images["truth"]).float())
    assert torch.equal(data.segments[2:], torch.from_numpy(images["segments"][2:]))
    assert torch.equal(data.train, torch.from_numpy(images["train"])) and data.train_labels.dtype == torch.int64
    assert data.groups == {"site": list("aabbab")} and list(data.ids) == list("uvwxyz") and not data.skipped
    assert data.value_range == (-5.0, 5.0) and data.classes is None


def test_arrays_of_a_folder_stay_on_disk(images, tmp_path):
    data = arrays(path=as_folder(tmp_path / "mine", images))
    assert isinstance(data.inputs.array, np.memmap) and isinstance(data.masks.array, np.memmap)
    images["inputs"][3] = 7.0
    opened = np.load(tmp_path / "mine" / "inputs.npy", mmap_mode="r+")
    opened[3] = 7.0
    opened.flush()
    assert (data.inputs[3] == 7.0).all()
    data.inputs[3].fill_(1.0), data.train.add_(1.0)  # what is done to a tensor is not done to the file
    assert np.array_equal(np.load(tmp_path / "mine" / "inputs.npy"), images["inputs"])
    assert np.array_equal(np.load(tmp_path / "mine" / "train.npy"), images["train"])


def test_the_stage_takes_arrays_with_their_masks_truth_and_segments(images, tmp_path):
    data = arrays(path=as_folder(tmp_path / "mine", images))
    stage = staged(nn.Sequential(nn.Flatten(), nn.Linear(40, 3)), data)
    ((_, samples),) = stage.chunks()
    assert torch.equal(samples.inputs, torch.from_numpy(images["inputs"]))
    assert torch.equal(samples.masks, torch.from_numpy(images["masks"])) and samples.ids == data.ids
    assert torch.equal(samples.given_segments, torch.from_numpy(images["segments"]))


@pytest.mark.parametrize("save", [as_folder, as_archive])
def test_inputs_with_nan_are_an_error_or_left_out_everywhere_and_named(images, save, tmp_path):
    images["inputs"][1, 0, 2, 2], images["inputs"][4, 1, 0, 0] = np.nan, np.inf
    path = save(tmp_path / "mine", images)
    assert "2 of 6 inputs hold NaN or infinite values, the first is v" in said_by(arrays, path=path)
    data, kept = arrays(path=path, missing="skip"), [0, 2, 3, 5]
    assert list(data.ids) == list("uwxz") and len(data) == 4
    assert data.skipped == [f"{name}: it holds NaN or infinite values" for name in "vy"]
    assert torch.equal(stacked(data.inputs), torch.from_numpy(images["inputs"][kept]))
    assert data.labels.tolist() == images["labels"][kept].tolist() and data.groups["site"] == list("abbb")
    assert torch.equal(data.masks[1:3], torch.from_numpy(images["masks"][[2, 3]]))
    images["inputs"][:] = np.nan
    assert "all 6 inputs" in said_by(arrays, path=save(tmp_path / "mine", images), missing="skip")


def test_labels_may_be_names_or_numbers_to_predict(images, tmp_path):
    only = {"inputs": images["inputs"], "labels": np.array(["cat", "bee", "cat", "ant", "bee", "ant"])}
    data = arrays(path=as_archive(tmp_path / "a", only))
    assert data.classes == ("ant", "bee", "cat") and data.labels.tolist() == [2, 1, 2, 0, 1, 0]
    data = arrays(path=as_archive(tmp_path / "b", {**only, "labels": np.linspace(0, 1, 6)}))
    assert data.labels.dtype == torch.float32 and data.classes is None
    (tmp_path / "names.txt").write_text("cat\nant\nbee\n")
    data = arrays(path=as_archive(tmp_path / "a", only), classes=str(tmp_path / "names.txt"))
    assert (
        data.labels.tolist() == [0, 2, 0, 1, 2, 1]
        and arrays(path=as_archive(tmp_path / "c", {"inputs": only["inputs"]})).labels is None
    )


def test_three_axes_must_be_named_and_columns_of_a_table_are_its_units(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = as_archive(tmp_path / "series", {"inputs": rng.normal(size=(4, 2, 7)), "masks": np.ones((4, 7))})
    assert "say dataset.modality=tokens" in said_by(arrays, path=path)
    assert arrays(path=path, modality="series").masks[:].shape == (4, 7)
    assert "expected one number per unit, ('N', 2)" in said_by(arrays, path=path, modality="tokens")
    found = {"inputs": rng.normal(size=(4, 3)), "columns": np.array([0, 1, 1]), "unit_names": np.array(["a", "b"])}
    data = arrays(path=as_archive(tmp_path / "table", found))
    assert data.columns == (0, 1, 1) and data.unit_names == ("a", "b") and data.modality == "table"


def test_each_mistake_in_arrays_is_one_line(images, tmp_path):
    folder, inputs = tmp_path / "mine", images["inputs"]
    assert "needs path=FILE.npz" in said_by(arrays)
    assert "neither an .npz file nor a folder" in said_by(arrays, path=str(folder))
    (tmp_path / "broken.npz").write_bytes(b"PK no")
    assert "cannot be read" in said_by(arrays, path=str(tmp_path / "broken.npz"))
    cases = {
        "has no inputs, only labels": {"labels": np.arange(3)},
        "unknown array": {"inputs": inputs, "label": np.arange(6)},
        "labels is an array (5,), expected one entry for each of 6": {"inputs": inputs, "labels": np.arange(5)},
        "masks is an array (6, 5, 4), expected one number per unit": {"inputs": inputs, "masks": np.ones((6, 5, 4))},
        "train is (3, 2, 5, 5), expected ('R', 2, 4, 5)": {"inputs": inputs, "train": np.ones((3, 2, 5, 5))},
        "3 of 3 training inputs hold NaN": {"inputs": inputs, "train": np.full((3, 2, 4, 5), np.nan)},
        "there are no train": {"inputs": inputs, "train_labels": np.arange(3)},
        "expected whole numbers from 0": {"inputs": inputs, "segments": np.full((6, 4, 5), -1)},
        "truth holds NaN": {"inputs": inputs, "truth": np.full((6, 4, 5), np.nan)},
        "expected at least one row of real numbers": {"inputs": inputs.astype(complex)},
        "is NaN or infinite": {"inputs": inputs, "labels": np.array([0, 1, np.nan, 2, 0, 1])},
        "or holds Python objects": {"inputs": inputs, "labels": np.array([{}] * 6, dtype=object)},
        "more than once": {"inputs": inputs, "ids": np.array(["a"] * 6)},
    }
    for said, found in cases.items():
        assert said in said_by(arrays, path=as_archive(tmp_path / "mine", found)), said
    pickled = as_folder(folder, {"inputs": np.array([{}] * 6, dtype=object)})
    assert "or holds Python objects" in said_by(arrays, path=pickled)
    plain = as_archive(tmp_path / "mine", {"inputs": inputs})
    assert "expected both, low below high" in said_by(arrays, path=plain, low=1.0)
    assert "expected 2 axes for modality=table" in said_by(arrays, path=plain, modality="table")
    assert "unknown modality" in said_by(arrays, path=plain, modality="picture")
    assert "option missing of arrays is 'drop'" in said_by(arrays, path=plain, missing="drop")


# Tables


@pytest.fixture
def people(seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "name": [f"p{i}" for i in range(40)],
            "age": rng.integers(20, 60, 40),
            "income": rng.normal(30, 8, 40),
            "sex": rng.permutation(["f", "m"] * 20),
            "town": rng.permutation(["x", "y", "z", "x"] * 10),
            "member": rng.random(40) < 0.5,
            "part": ["train"] * 25 + ["test"] * 15,
            "good": rng.permutation([0, 1] * 20),
        }
    )


def saved(frame, tmp_path, name="people.csv"):
    path = tmp_path / name
    frame.to_csv(path, index=False) if name.endswith("csv") else frame.to_parquet(path)
    return str(path)


@pytest.mark.parametrize("name", ["people.csv", "people.parquet"])
def test_a_table_is_standardised_by_its_training_rows_and_a_category_is_one_unit(people, tmp_path, name):
    data = table(path=saved(people, tmp_path, name), target="good", split_column="part", ids="name", groups=["sex"])
    assert data.unit_names == ("age", "income", "sex", "town", "member")
    assert data.columns == (0, 1, 2, 2, 3, 3, 3, 4, 4) and list(data.ids) == list(people["name"][25:])
    train, test = people[:25], people[25:]
    age = (test["age"] - train["age"].mean()) / train["age"].std(ddof=0)
    assert np.allclose(data.inputs[:, 0], age, atol=1e-6)
    assert np.array_equal(data.inputs[:, 2:4], pd.get_dummies(test["sex"]).to_numpy(float))
    assert np.array_equal(data.inputs[:, 4:7], pd.get_dummies(people["town"])[25:].to_numpy(float))
    assert torch.allclose(data.train[:, :2].mean(0), torch.zeros(2), atol=1e-6)
    assert data.labels.tolist() == list(test["good"]) and data.train_labels.tolist() == list(train["good"])
    assert data.classes == ("0", "1") and data.groups == {"sex": list(test["sex"])} and not data.skipped


def test_the_training_rows_are_a_share_drawn_by_a_seed_or_a_second_file(people, tmp_path):
    path = saved(people, tmp_path)
    first, again = (table(path=path, target="good", drop="part,name", train=0.75) for _ in range(2))
    assert len(first) == 10 and len(first.train) == 30 and torch.equal(first.inputs, again.inputs)
    other = table(path=path, target="good", drop="part,name", train=0.75, split_seed=1)
    assert list(other.ids) != list(first.ids)
    files = saved(people[25:], tmp_path, "test.csv"), saved(people[:25], tmp_path, "train.parquet")
    two = table(path=files[0], train_path=files[1], target="good", drop="part", ids="name")
    one = table(path=path, target="good", split_column="part", ids="name")
    assert torch.equal(two.inputs, one.inputs) and torch.equal(two.train, one.train) and two.ids == one.ids


def test_numbers_to_predict_are_float_labels(people, tmp_path):
    data = table(path=saved(people, tmp_path), target="income", task="regression", split_column="part", drop=["name"])
    assert data.labels.dtype == torch.float32 and data.classes is None
    assert torch.allclose(data.labels, torch.tensor(people["income"][25:].to_numpy()).float())
    assert "say dataset.task=regression" in said_by(table, path=saved(people, tmp_path), target="income")


def test_classes_are_the_sorted_values_of_the_target(people, tmp_path):
    data = table(path=saved(people, tmp_path), target="town", split_column="part", drop="name")
    assert data.classes == ("x", "y", "z")
    assert [data.classes[label] for label in data.labels] == list(people["town"][25:])


def test_missing_values_are_an_error_or_skipped_and_named_or_filled_in(people, tmp_path):
    people["age"] = people["age"].astype(float)
    people.loc[30, "age"], people.loc[3, "town"], people.loc[33, "good"], people.loc[4, "income"] = (
        np.nan,
        None,
        None,
        np.inf,
    )
    path, options = saved(people, tmp_path), {"target": "good", "split_column": "part", "ids": "name"}
    said = said_by(table, path=path, **options)
    assert "4 of 40 rows lack a value, the first is row 3" in said and "'town' is missing" in said
    data = table(path=path, missing="skip", **options)
    assert [line.split(":")[0] for line in data.skipped] == ["p3", "p4", "p30", "p33"]
    assert len(data) == 13 and len(data.train) == 23 and data.classes == ("0", "1")
    known = people["age"][:25].drop([3, 4])
    assert np.allclose(data.inputs[0, 0], (people["age"][25] - known.mean()) / known.std(ddof=0), atol=1e-6)
    data = table(path=path, missing="fill", **options)
    assert data.skipped == ["p33: column 'good' is missing or infinite"] and len(data) == 14 and len(data.train) == 25
    assert abs(float(data.inputs[list(data.ids).index("p30"), 0])) < 1e-6  # the training mean is 0
    most = people["town"][:25].mode()[0]
    assert data.train[3, 4:7].tolist() == [float(town == most) for town in "xyz"]


def test_a_category_in_no_training_row_is_an_error_or_skipped_and_never_all_zeros(people, tmp_path):
    people.loc[27, "town"] = "atlantis"
    path, options = saved(people, tmp_path), {"target": "good", "split_column": "part", "ids": "name"}
    assert "column 'town' is 'atlantis', in no training row" in said_by(table, path=path, **options)
    data = table(path=path, unseen="skip", **options)
    assert data.skipped == ["p27: column 'town' is 'atlantis', in no training row"] and "p27" not in data.ids
    assert (data.inputs[:, 4:7].sum(1) == 1).all() and len(data) == 14


def test_an_ordinal_column_is_one_number_in_the_order_given(people, tmp_path):
    data = table(
        path=saved(people, tmp_path), target="good", split_column="part", ids="name", ordinal={"town": list("zxy")}
    )
    rank = people["town"].map({"z": 0, "x": 1, "y": 2})
    expected = (rank[25:] - rank[:25].mean()) / rank[:25].std(ddof=0)
    assert data.columns == (0, 1, 2, 2, 3, 4, 4) and np.allclose(data.inputs[:, 4], expected, atol=1e-6)


def test_a_model_of_a_table_is_explained_by_columns(people, tmp_path):
    data = table(path=saved(people, tmp_path), target="good", split_column="part", ids="name")
    net = nn.Linear(9, 2).eval()
    frame = harness.evaluate(
        net,
        harness.Data(data.inputs, data.labels, columns=data.columns, unit_names=data.unit_names, ids=data.ids),
        explainers=["occlusion"],
        metrics=["deletion"],
        train=data.train,
    )
    assert (frame["status"] == "ok").all() and len(frame) == 15
    assert staged(net, data).units.count == 5


def test_each_mistake_in_a_table_is_one_line(people, tmp_path):
    path = saved(people, tmp_path)
    (tmp_path / "empty.csv").write_text("a,b\n")
    (tmp_path / "nothing.csv").write_text("")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "table.xls").write_text("")
    ok = {"path": path, "target": "good"}
    cases = {
        "needs path=FILE": {"target": "good"},
        "is not a file": {**ok, "path": path + "x"},
        "no file of a known kind": {**ok, "path": str(tmp_path / "table.xls")},
        "has no rows": {**ok, "path": str(tmp_path / "empty.csv")},
        "cannot be read": {**ok, "path": str(tmp_path / "nothing.csv")},
        "broken.parquet cannot be read": {**ok, "path": str(tmp_path / "broken.parquet")},
        "needs dataset.target=COLUMN": {"path": path},
        "did you mean 'good'": {"path": path, "target": "god"},
        "unknown column 'sx'": {**ok, "groups": ["sx"]},
        "unknown column 'id'": {**ok, "ids": "id"},
        "unknown value of the split column 'sex'": {**ok, "split_column": "sex"},
        "option task of table is 'guess'": {**ok, "task": "guess"},
        "train of table is 1.5": {**ok, "train": 1.5},
        "option missing of table is 'mean'": {**ok, "missing": "mean"},
        "more than once, expected ids": {**ok, "ids": "sex"},
        "option unseen of table is 'zero'": {**ok, "unseen": "zero"},
        "has no column left": {**ok, "drop": [name for name in people if name != "good"]},
        "name it among the categorical": {**ok, "categorical": ["town"]},
        "unknown value of ordinal column 'town' 'z'": {**ok, "drop": "name", "ordinal": {"town": ["x", "y"]}},
        "ordinal of table is 'town', expected a mapping": {**ok, "ordinal": "town"},
        "both split_column and train_path": {**ok, "split_column": "part", "train_path": path},
        "which '": {**ok, "train_path": saved(people.drop(columns="age"), tmp_path, "few.csv")},
    }
    for said, options in cases.items():
        assert said in said_by(table, **options), said


def test_encoding_refuses_what_is_no_number_and_knows_constant_columns():
    frame = pd.DataFrame({"a": [1.0, 1.0, 5.0], "b": [0.1, 0.1, 0.1], "c": [2, 1, 2]})
    found = encode(frame, [0, 1], ["c"])
    assert found.inputs.tolist() == [[0, 0, 0, 1], [0, 0, 1, 0], [4, 0, 0, 1]] and found.categories == {"c": ("1", "2")}
    assert "missing values, the first in row 1" in said_by(encode, frame.assign(a=[1.0, None, 2.0]), [0])
    assert "holds inf in row 2, expected finite" in said_by(encode, frame.assign(a=[1.0, 2.0, np.inf]), [0])
    assert "no training rows" in said_by(encode, frame, [])
    assert "a mask of shape (2,)" in said_by(encode, frame, np.array([True, False]))


# Texts

LINES = ["a good film", "bad", "naïve, “quoted” and long " * 50, "NA"]


def test_texts_are_the_lines_of_a_file_with_labels_beside_it(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    (tmp_path / "labels.txt").write_text("pos\nneg\npos\nneg\n")
    data = text(path=str(tmp_path / "texts.txt"), labels_path=str(tmp_path / "labels.txt"))
    assert list(data.inputs) == LINES and data.labels.tolist() == [1, 0, 1, 0] and data.classes == ("neg", "pos")
    assert data.modality == "tokens" and data.inputs[2] == LINES[2] and data.inputs[-1] == "NA"
    assert text(path=str(tmp_path / "texts.txt")).labels is None


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_texts_are_a_column_and_what_is_empty_is_left_out_and_named(tmp_path, kind):
    words = [LINES[0], "", LINES[1], "  \n ", LINES[2], LINES[3]]
    frame = pd.DataFrame({"review": words, "stars": list("120211"), "key": list("uvwxyz")})
    path = tmp_path / f"texts.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    data = text(path=str(path), text_column="review", label_column="stars", id_column="key")
    assert list(data.inputs) == LINES and data.labels.tolist() == [1, 0, 1, 1] and list(data.ids) == list("uwyz")
    assert data.skipped == ["v: the text is empty", "x: the text is empty"]


def test_texts_of_more_than_one_piece_keep_their_ids_and_labels(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.datasets.text_file.ROWS_AT_A_TIME", 3)
    frame = pd.DataFrame(
        {
            "text": [f"text {i}" for i in range(10)],
            "label": [i % 3 for i in range(10)],
            "id": [f"t{i}" for i in range(10)],
        }
    )
    for kind in ("csv", "parquet"):
        path = tmp_path / f"texts.{kind}"
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
        data = text(path=str(path), id_column="id")
        assert list(data.inputs) == list(frame["text"]) and data.labels.tolist() == list(frame["label"])
        assert list(data.ids) == list(frame["id"])


def test_each_mistake_in_texts_is_one_line(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    lines, table_ = write("t.txt", b"a\nb\n"), write("t.csv", b"text,label\na,0\nb,x\n")
    cases = {
        "needs path=FILE": {},
        "is not a file": {"path": lines + "x"},
        "no file of a known kind": {"path": write("t.doc", b"a")},
        "holds 1 labels, but": {"path": lines, "labels_path": write("l.txt", b"0\n")},
        "holds 3 labels for 2 texts": {"path": lines, "labels_path": write("m.txt", b"0\n1\n0\n")},
        "does not exist": {"path": lines, "labels_path": str(tmp_path / "none.txt")},
        "labels of a .csv file are its column": {"path": table_, "labels_path": lines},
        "the label of row_1 is 'x'": {"path": table_},
        "unknown column": {"path": table_, "text_column": "txt"},
        "unknown column of": {"path": table_, "id_column": "i"},
        "holds no text: all 2 are empty": {"path": write("e.txt", b"\n \n")},
        "holds no text": {"path": write("z.txt", b"")},
        "cannot be read": {"path": write("u.txt", b"\xff\xfea\x00")},
        "calls more than one text 'a'": {"path": write("i.csv", b"text,label\na,0\na,1\n"), "id_column": "text"},
        "is empty, expected one class name": {"path": lines, "classes": write("c.txt", b"\n")},
    }
    for said, options in cases.items():
        assert said in said_by(text, **options), said


# torchvision


def mnist(root, images, labels):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        content = struct.pack(">IIII", 2051, *images.shape) + images.tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(content)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(labels)) + labels.tobytes())
        gzip.open(raw / f"{part}-labels-idx1-ubyte.gz", "wb").close()


def test_mnist_in_its_own_format_is_read(seed, tmp_path):
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8), rng.integers(0, 10, 5, dtype=np.uint8)
    mnist(tmp_path, images, labels)
    data = torchvision(which="MNIST", root=str(tmp_path))
    assert len(data) == 5 and data.labels.tolist() == labels.tolist() and data.ids[3] == "MNIST_3"
    assert all(np.array_equal(np.asarray(data.inputs[i]), images[i]) for i in range(5))
    assert data.inputs[0].mode == "L" and data.classes[0] == "0 - zero" and data.modality == "image"


def test_cifar10_in_its_own_format_is_read_if_its_checksum_is_right(seed, tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    rng = np.random.default_rng(seed)
    images, folder = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8), tmp_path / CIFAR10.base_folder
    folder.mkdir()
    (folder / "test_batch").write_bytes(pickle.dumps({"data": images.reshape(4, -1), "labels": [3, 1, 0, 9]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}))
    assert "nothing is downloaded" in said_by(torchvision, which="CIFAR10", root=str(tmp_path))
    md5 = lambda name: hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5("test_batch")]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5("batches.meta")})
    data = torchvision(which="CIFAR10", root=str(tmp_path))
    assert data.labels.tolist() == [3, 1, 0, 9] and data.classes[9] == "class 9"
    assert np.array_equal(np.asarray(data.inputs[2]), images[2].transpose(1, 2, 0))


def test_fake_data_and_image_folders_need_no_special_files(seed, tmp_path, monkeypatch):
    from torchvision import datasets as sets

    monkeypatch.setattr(
        sets.FakeData, "__init__", lambda self, *args, make=sets.FakeData.__init__, **named: make(self, 7, (3, 8, 8), 4)
    )
    fake = torchvision(which="FakeData")
    assert len(fake) == 7 and fake.inputs[0].size == (8, 8) and fake.classes is None
    assert fake.labels.tolist() == [sets.FakeData()[i][1] for i in range(7)]
    for name in ("dog/a.png", "cat/b.png", "cat/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    data = torchvision(which="ImageFolder", root=str(tmp_path))
    assert data.labels.tolist() == [0, 0, 1] and data.classes == ("cat", "dog")


def test_each_mistake_with_torchvision_is_one_line(tmp_path):
    assert "unknown torchvision data set (which=) 'MNIS': did you mean" in said_by(torchvision, which="MNIS")
    assert "needs root=FOLDER" in said_by(torchvision, which="MNIST")
    said = said_by(torchvision, which="MNIST", root=str(tmp_path))
    assert "torchvision has no MNIST (test) under root" in said and "download=True" not in said
    assert "has no split val" in said_by(torchvision, which="MNIST", root=str(tmp_path), split="val")
    assert "split of torchvision is 'dev'" in said_by(torchvision, which="MNIST", root=str(tmp_path), split="dev")
    assert not any(tmp_path.iterdir())


# Hugging Face


def test_without_the_library_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'harness[datasets]'" in said_by(huggingface, path=str(tmp_path))
    monkeypatch.setitem(sys.modules, "datasets", type(sys)("datasets"))  # a folder of that name in the way
    assert "pip install 'harness[datasets]'" in said_by(huggingface, path=str(tmp_path))
    assert "needs path=FOLDER" in said_by(huggingface)
    assert "option kind of huggingface is 'sound'" in said_by(huggingface, kind="sound")


@pytest.fixture
def library(tmp_path, monkeypatch):
    """The library with its cache in the test's folder; skipped where it is not installed."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    found = pytest.importorskip("datasets")
    if not hasattr(found, "load_from_disk"):
        pytest.skip("the library datasets is not installed")
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return found


@pytest.fixture
def mixed(library, seed):
    """Four rows with an image, a text and two numbers."""
    rng = np.random.default_rng(seed)
    images = [Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)) for _ in range(4)]
    kinds = {
        "image": library.Image(),
        "text": library.Value("string"),
        "x": library.Value("float32"),
        "label": library.ClassLabel(names=["no", "yes"]),
    }
    rows = {"image": images, "text": ["one", "", "three", "four"], "x": [1.0, 2.0, 3.0, 5.0], "label": [0, 1, 1, 0]}
    return images, library.Dataset.from_dict(rows, features=library.Features(kinds))


def test_a_saved_data_set_gives_images_texts_or_a_table(library, mixed, tmp_path):
    images, rows = mixed
    path = str(tmp_path / "saved")
    library.DatasetDict({"fit": rows.select([0]), "held": rows}).save_to_disk(path)
    data = huggingface(path=path, split="held")
    assert data.labels.tolist() == [0, 1, 1, 0] and data.classes == ("no", "yes")
    assert all(
        np.array_equal(np.asarray(item), np.asarray(image)) for item, image in zip(data.inputs, images, strict=True)
    )
    data = huggingface(path=path, split="held", kind="text")
    assert list(data.inputs) == ["one", "three", "four"] and data.skipped == ["row_1: the text is empty"]
    assert data.labels.tolist() == [0, 1, 0]
    data = huggingface(path=path, split="held", kind="table", drop="image,text", train=0.5)
    assert data.unit_names == ("x",) and len(data) == 2 and len(data.train) == 2


def test_a_local_file_is_read_through_the_library(library, mixed, tmp_path):
    _, rows = mixed
    rows.remove_columns("image").to_parquet(str(tmp_path / "rows.parquet"))
    assert list(huggingface(path=str(tmp_path / "rows.parquet"), kind="text").inputs) == ["one", "three", "four"]


def test_each_mistake_with_a_saved_data_set_is_one_line(library, mixed, tmp_path):
    path = str(tmp_path / "saved")
    mixed[1].save_to_disk(path)
    assert "nothing is downloaded" in said_by(huggingface, path="imdb")
    assert "cannot be read as a data set" in said_by(huggingface, path=str(tmp_path))
    assert "has no splits" in said_by(huggingface, path=path, split="test")
    assert "unknown column" in said_by(huggingface, path=path, column="picture")
    assert "unknown column" in said_by(huggingface, path=path, label_column="kind")


# Files that pandas, torch or Pillow would read as something else


def test_rows_longer_than_the_header_are_refused_and_not_cut_or_moved(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("label,text\n" + "".join(f"{row % 2},good, very good\n" for row in range(20)))
    assert "more fields than its header" in said_by(text, path=str(path))
    assert "more fields than its header" in said_by(table, path=str(path), target="label")
    path.write_text("a,y\n" + "".join(f"{row},{row % 2},\n" for row in range(20)))  # a comma at the end is no field
    assert table(path=str(path), target="y").unit_names == ("a",)


@pytest.mark.parametrize(
    "values, words",
    [
        ([1.0, float("inf")] * 5, "holds inf, no class"),
        ([[0], [1]] * 5, "holds a ndarray"),
    ],
)
def test_a_target_that_is_no_class_is_one_line(tmp_path, values, words):
    pd.DataFrame({"a": range(10), "y": values}).to_parquet(tmp_path / "odd.parquet")
    assert words in said_by(table, path=str(tmp_path / "odd.parquet"), target="y")


def test_a_column_of_lists_and_columns_that_are_no_names_are_one_line(tmp_path):
    pd.DataFrame({"a": range(10), "l": [[1, 2]] * 10, "y": [0, 1] * 5}).to_parquet(tmp_path / "l.parquet")
    path = str(tmp_path / "l.parquet")
    assert "column 'l' holds a ndarray" in said_by(table, path=path, target="y")
    assert table(path=path, target="y", drop="l").unit_names == ("a",)
    assert "expected a list, each a text, or a text, or none" in said_by(table, path=path, target="y", drop=5)


def test_rows_beside_a_training_file_are_called_by_their_own_place(tmp_path):
    path = tmp_path / "few.csv"
    path.write_text("a,y\n" + "".join(f"{row},{row % 2}\n" for row in range(10)))
    assert table(path=str(path), train_path=str(path), target="y").ids == [f"row_{row}" for row in range(10)]


@pytest.mark.parametrize("kind", [">f4", ">f8", np.longdouble])
def test_arrays_in_any_kind_of_real_number_are_read(tmp_path, images, kind):
    found = {**images, "inputs": images["inputs"].astype(kind), "train": images["train"].astype(kind)}
    data = arrays(path=as_folder(tmp_path / "any", found))
    assert torch.equal(data.inputs[2], torch.from_numpy(images["inputs"][2]))
    assert torch.equal(data.train, torch.from_numpy(images["train"]))


def test_a_number_too_large_for_the_model_is_infinite(tmp_path, images):
    inputs = images["inputs"].astype(np.float64)
    inputs[3, 0, 0, 0] = 1e300
    path = as_folder(tmp_path / "large", {**images, "inputs": inputs})
    assert "1 of 6 inputs hold NaN or infinite values, the first is x" in said_by(arrays, path=path)


def test_the_classes_of_a_saved_set_keep_their_numbers_in_a_table(tmp_path):
    library = pytest.importorskip("datasets")
    kinds = library.Features({"a": library.Value("int64"), "label": library.ClassLabel(names=["x", "y", "z"])})
    rows = library.Dataset.from_dict({"a": list(range(10)), "label": [0, 2] * 5}, features=kinds)
    rows.save_to_disk(str(tmp_path / "set"))
    data = huggingface(path=str(tmp_path / "set"), kind="table")
    assert data.classes == ("x", "y", "z") and set(data.train_labels.tolist()) == {0, 2}


def test_a_set_that_unpickles_what_nobody_has_checked_is_refused(tmp_path):
    assert "unpickles a file" in said_by(torchvision, which="LSUN", root=str(tmp_path))
