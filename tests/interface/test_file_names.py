"""File names that are no UTF-8, and letters that a terminal cannot show, do not end a run."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import harness
from harness.errors import encodable
from harness.results.frames import read


@pytest.mark.parametrize(
    ("text", "written"), [("grün", "grün"), ("a\udcffb", r"a\xffb"), ("\ud83d", r"\ud83d"), (7, "7"), ("🦉", "🦉")]
)
def test_any_text_can_be_written(text, written):
    assert encodable(text) == written and encodable(written).encode()


def test_images_and_folders_whose_names_are_no_text_have_rows(tmp_path, seed):
    rng = np.random.default_rng(seed)
    for name in (b"cat/\xff\xfe.png", b"cat/ok.png", b"d\xe9g/1.png", b"d\xe9g/2.png"):
        path = os.path.join(os.fsencode(tmp_path), b"photos", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
    (tmp_path / "net_of_two.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).eval()\n"
    )
    code = (
        "import sys; from harness.cli.main import main\n"
        "sys.exit(main(['run', 'model=net_of_two:make', 'model.preprocess=plain', 'model.size=8', 'run=odd',"
        "'dataset=image_folder', 'dataset.path=photos', 'explainer=gradient', 'metric=[complexity,deletion]']))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.path.dirname(harness.__path__[0])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    cells, scores = read(tmp_path / "runs" / "odd")
    assert set(cells["status"]) == {"ok"}
    assert set(scores["sample"]) == {r"cat/\xff\xfe.png", "cat/ok.png", r"d\xe9g/1.png", r"d\xe9g/2.png"}
