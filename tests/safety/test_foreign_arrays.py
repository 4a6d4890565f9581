"""Attribution files and data files of somebody else are data: each ends with numbers or one line, and executes nothing.

They hold Python objects, tell of more numbers than there are or than fit into memory, or lead to other files.
"""

import contextlib
import io
import os
import pickle
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

import foreign
import harness
from fuzzing import in_time, of_contents
from harness import array_archives
from harness.datasets.arrays import arrays
from harness.errors import NotApplicable, UserError
from side_effects import side_effects


class Harmful:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return open, (str(Path(tempfile.gettempdir()) / "unpickled"), "w")


def header(shape, kind="<f4"):
    """The beginning of a file of numpy that tells of an array of this shape."""
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def npz(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def pt(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def h5(write):
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        write(opened)
    return file.getvalue()


def many_ids(file):
    file.update(attributions=MAPS)
    file.create_dataset("ids", (2**40,), "i8", chunks=(9,))  # no chunk is in the file


MAPS, OBJECTS, NAN = np.ones((2, 4), np.float32), np.array([Harmful(), 1], dtype=object), np.full((2, 4), np.nan)
STRETCHED = torch.ones(1).expand(2**40, 4)  # one number in the file
VIRTUAL = h5py.VirtualLayout((2, 4), "f4")
VIRTUAL[:] = h5py.VirtualSource("/etc/passwd", "attributions", (2, 4))
OF_MAPS = {
    "objects.npy": npy(OBJECTS),
    "pickle.npy": pickle.dumps(Harmful()),
    "terabytes.npy": header((2**40, 4)),
    "beyond.npy": header((2**33, 2**33)),
    "negative.npy": header((-1, 4)),
    "no_width.npy": header((2**60, 0)),
    "code.npy": header("__import__('os')"),
    "records.npy": header((2,), [("a", "<f4"), ("b", "|O")]),
    "dates.npy": npy(MAPS.astype("M8[s]")),
    "nan.npy": npy(NAN),
    "cut.npy": npy(MAPS)[:-5],
    "empty.npy": b"",
    "objects.npz": npz(attributions=npy(OBJECTS)),
    "pickle.npz": npz(attributions=pickle.dumps(Harmful())),
    "ids.npz": npz(attributions=npy(MAPS), ids=npy(OBJECTS)),
    "terabytes.npz": npz(attributions=header((2**40, 4))),
    "gigabytes.npz": npz(attributions=header((2**31, 4))),
    "many_ids.npz": npz(attributions=npy(MAPS), ids=header((2**40,))),
    "huge_class.npz": npz(attributions=npy(MAPS), targets=npy(np.array([1e300, 1]))),
    "outside.npz": npz(**{"../attributions": npy(MAPS)}),
    "cut.npz": npz(attributions=npy(MAPS))[:60],
    "objects.pt": pt({"attributions": Harmful()}),
    "pickle.pt": pickle.dumps({"attributions": Harmful()}),
    "stretched.pt": pt({"attributions": STRETCHED}),
    "stretched_ids.pt": pt({"attributions": STRETCHED, "ids": STRETCHED[:, 0]}),
    "nowhere.pt": pt({"attributions": torch.ones(2, 4, device="meta")}),
    "sparse.pt": pt({"attributions": torch.ones(2, 4).to_sparse()}),
    "cut.pt": pt(torch.ones(2, 4))[:-50],
    "many_ids.h5": h5(many_ids),
    "terabytes.h5": h5(lambda file: file.create_dataset("attributions", (2**40, 4), "f4", chunks=(9, 4))),
    "external.h5": h5(
        lambda file: file.create_dataset("attributions", (2, 4), "f4", external=[("/etc/passwd", 0, 32)])
    ),
    "link.h5": h5(lambda file: file.update(attributions=h5py.ExternalLink("/etc/passwd", "/x"))),
    "virtual.h5": h5(lambda file: file.create_virtual_dataset("attributions", VIRTUAL)),
    "group.h5": h5(lambda file: file.create_group("attributions")),
    "lists.h5": h5(lambda file: file.create_dataset("attributions", (2, 4), h5py.vlen_dtype("f4"))),
    "cut.h5": h5(lambda file: file.update(attributions=MAPS))[:900],
    "other.safetensors": b"\xff" * 64,
}
OF_DATA = {name: content for name, content in OF_MAPS.items() if name.endswith((".npy", ".npz"))}
SOUND = {
    "maps.npy": npy(MAPS),
    "maps.npz": npz(attributions=npy(MAPS), targets=npy(np.array([0, 1]))),
    "maps.pt": pt({"attributions": torch.ones(2, 4)}),
    "maps.h5": h5(lambda file: file.update(attributions=MAPS)),
}


def explained(path):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2).eval()
    return harness.explain("precomputed", model, torch.ones(2, 4), torch.tensor([0, 1]), path=str(path))


def loaded(path):
    data = arrays(path=str(path))
    return data.inputs[0], data.labels


@contextlib.contextmanager
def nothing_is_executed():
    """Nothing is unpickled or started, and no other file is opened by name."""
    with in_time(), side_effects() as effects:
        yield
    # torch finds its own classes of tensors by name, from a list of such that may be made
    assert not [name for name in effects.unpickled if not name.startswith(("torch", "collections"))], effects.unpickled
    assert not (Path(tempfile.gettempdir()) / "unpickled").exists()
    assert not effects.started and not [name for name in effects.read if "passwd" in name]


@pytest.mark.parametrize("name", OF_MAPS)
def test_a_hostile_file_of_maps_is_one_line_that_names_it(name, tmp_path):
    (tmp_path / name).write_bytes(OF_MAPS[name])
    with nothing_is_executed(), pytest.raises(UserError) as found:
        explained(tmp_path / name)
    assert len(str(found.value).splitlines()) == 1 and (name in str(found.value) or name == "nan.npy")


@pytest.mark.parametrize("name", OF_DATA)
def test_a_hostile_file_of_data_is_one_line(name, tmp_path):
    path = tmp_path / "data" if name.endswith(".npy") else tmp_path / name
    if name.endswith(".npy"):
        path.mkdir()
        (path / "inputs.npy").write_bytes(OF_DATA[name])
    else:
        path.write_bytes(npz_of_inputs(OF_DATA[name]))
    with nothing_is_executed(), pytest.raises(UserError) as found:
        loaded(path)
    assert len(str(found.value).splitlines()) == 1


def npz_of_inputs(content):
    """An archive whose maps are called inputs; a broken one as it is."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name[:-4]: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile:
        return content
    return npz(**{name.replace("attributions", "inputs"): member for name, member in members.items()})


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_file_of_maps_is_read(name, tmp_path):
    (tmp_path / name).write_bytes(SOUND[name])
    with nothing_is_executed():
        assert torch.equal(explained(tmp_path / name), torch.ones(2, 4))


def test_an_array_that_would_fill_the_memory_when_it_is_unpacked_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(array_archives, "MOST_BYTES", 2**20)
    np.savez_compressed(tmp_path / "zeros.npz", attributions=np.zeros((2, 2**20), np.float32))
    assert (tmp_path / "zeros.npz").stat().st_size < 2**15
    with pytest.raises(UserError, match="do not fit into memory; save it as .npy"):
        explained(tmp_path / "zeros.npz")


def test_a_pipe_in_a_folder_of_arrays_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "inputs.npy")
    with in_time(), pytest.raises(UserError, match="it is no file"):
        loaded(tmp_path)


@of_contents(
    120,
    name=st.sampled_from([*SOUND, "nan.npy", "ids.npz", "huge_class.npz", "sparse.pt", "group.h5", "objects.pt"]),
    places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    kept=st.floats(0.2, 1),
)
def test_files_of_maps_with_other_bytes_are_read_or_one_line(name, places, kept):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(foreign.changed_bytes({**OF_MAPS, **SOUND}[name], places, kept))
        with nothing_is_executed(), contextlib.suppress(NotApplicable):
            try:
                explained(path)
            except UserError as error:
                assert len(str(error).splitlines()) == 1
