"""What tests of every folder share."""

import os
import secrets

import pytest
import torch


@pytest.fixture
def seed():
    """A fresh seed for torch, printed when a test fails; HARNESS_TEST_SEED repeats it."""
    seed = int(os.environ.get("HARNESS_TEST_SEED", secrets.randbelow(2**31)))
    print(f"HARNESS_TEST_SEED={seed}")
    torch.manual_seed(seed)
    return seed
