"""The pair of an item and a kind of net that a contract test is about."""

import os

import pytest

from harness.registry import EXPLAINERS, METRICS
from pairs import DENSE, Case


@pytest.fixture
def case(pair):
    """The pair's model and data; a failure names its seed."""
    return Case(pair[1], seed=int(os.environ["HARNESS_TEST_SEED"]) % 10_000)


@pytest.fixture
def dense_case(pair):
    """As ``case``, with the net of several dense layers."""
    return Case(pair[1], seed=int(os.environ["HARNESS_TEST_SEED"]) % 10_000, nets=DENSE)


@pytest.fixture
def explainer(pair):
    """The pair's explainer."""
    return EXPLAINERS[pair[0]]


@pytest.fixture
def metric(pair):
    """The pair's metric."""
    return METRICS[pair[0]]
