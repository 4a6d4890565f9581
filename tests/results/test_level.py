"""Holm's correction for the number of tests."""

import numpy as np
import pytest

from harness.results.level import holm


def test_holms_correction_on_a_worked_example():
    # Holm (1979) as in R's p.adjust: 0.01, 0.02, 0.03, 0.005 of four.
    assert holm(np.array([0.01, 0.02, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.04, 0.04, 0.02])


def test_unknown_p_values_do_not_count():
    np.testing.assert_allclose(holm(np.array([0.01, np.nan, 0.03])), [0.02, np.nan, 0.03])
