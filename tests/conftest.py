"""What tests of every folder share.

Worlds are drawn from a seed. It is 0, so that a suite that passes passes again; HARNESS_TEST_SEED=N chooses another,
and HARNESS_TEST_SEED=fresh a new one for every run, as a night should: the header tells it, so that it can be repeated.

``pytest -n auto`` runs the tests in one process per core and one more, since those of launchers wait for other
processes most of the time; each process, and what it starts, computes with one thread.

Tests that take the fixture ``device`` run on the GPU where there is one; HARNESS_TEST_DEVICE=cpu or cuda:N chooses.
"""

import gc
import os
import random
import secrets
import tempfile
from collections import Counter

if "PYTEST_XDIST_WORKER" in os.environ:  # libraries read it when they are imported
    os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch

from harness.cli import run
from harness.randomness import seed_torch

if os.environ.get("HARNESS_TEST_SEED") == "fresh":
    os.environ["HARNESS_TEST_SEED"] = str(secrets.randbelow(2**31))
os.environ.setdefault("HARNESS_TEST_SEED", "0")
SEED = int(os.environ["HARNESS_TEST_SEED"])
DEVICE = os.environ.get("HARNESS_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def pytest_configure(config):
    """Temporary files of the tests, the leases of devices among them, lie apart from those of other runs."""
    folder = tempfile.TemporaryDirectory(prefix="harness-tests-")
    tempfile.tempdir = folder.name
    config.add_cleanup(folder.cleanup)
    run.SUPERVISES = False  # tests look into their own process, and a process for each run takes seconds
    gc.disable()  # until all tests are collected: to search their objects again and again took a third of that time


@pytest.hookimpl(optionalhook=True)  # there is no such hook without xdist
def pytest_xdist_auto_num_workers():
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else len(os.sched_getaffinity(0)) + 1


# Files of few tests that take long, each tens of seconds or more.
LONG = {
    *("test_every_explainer_on_every_net", "test_layout", "test_sweeps", "test_command_line", "test_company_of_cells"),
    *("test_quantus_bridge", "test_tasks", "test_precisions", "test_auditing", "test_view", "test_nets"),
    *("test_report_size", "test_trained_models", "test_variants", "test_first_hour", "test_launchers"),
    *("test_launching", "test_papers", "test_supervision", "test_removal_surrogate", "test_company_of_explainers"),
    *("test_choose_faults", "test_scoring_copy", "test_subset_surrogate"),
}


def pytest_collection_modifyitems(items):
    """Of ``pytest -n``, the files that take longest come first: ``LONG``, and then those with the most tests.

    xdist hands out files in this order, so that no process works on a long one while the others have nothing left.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path.stem not in LONG, -tests[item.path], item.path))


def pytest_collection_finish(session):
    """The tests and the libraries stay to the end: from now on only what tests make is searched for garbage."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_report_header():
    return f"HARNESS_TEST_SEED={SEED} HARNESS_TEST_DEVICE={DEVICE}"


@pytest.fixture(scope="session")
def device():
    """The device under test, an error where it is not there."""
    chosen = torch.device(DEVICE)
    torch.empty(0, device=chosen)
    return torch.device("cuda", chosen.index or 0) if chosen.type == "cuda" else chosen


@pytest.fixture(autouse=True)
def _seeded():
    """Every test draws the same numbers, whichever tests run before it."""
    random.seed(SEED), np.random.seed(SEED % 2**32), seed_torch(SEED)


@pytest.fixture
def seed(_seeded):
    """The seed of this run of the tests; torch's generator starts at it."""
    print(f"HARNESS_TEST_SEED={SEED}")
    return SEED
