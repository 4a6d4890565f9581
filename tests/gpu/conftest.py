"""The device under test, full float32 on it, and the nets of the contract tests.

``HARNESS_TEST_DEVICE=cpu pytest tests/gpu`` runs every test on the CPU, so that none can rot where there is no GPU.
"""

import sys
from pathlib import Path

import pytest
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "contract")]

BACKENDS = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)


@pytest.fixture(autouse=True)
def _full_float32():
    """A GPU rounds like a CPU: convolutions there use TF32 unless told otherwise."""
    before = [backend.fp32_precision for backend in BACKENDS]
    for backend in BACKENDS:
        backend.fp32_precision = "ieee"
    yield
    for backend, value in zip(BACKENDS, before, strict=True):
        backend.fp32_precision = value
