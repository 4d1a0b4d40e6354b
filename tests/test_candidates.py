"""How clearly values tell candidates apart, against answers known by hand."""

import numpy as np

from utils.models import candidates


def test_effective_number_counts_what_a_pick_is_spread_over():
    logits = np.array([[0.0, -np.inf, -np.inf], [0.0, 0.0, -np.inf], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(candidates.effective_number(logits), [1.0, 2.0, 3.0])


def test_rank_agreement_is_spearman_s_correlation():
    values = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    others = np.array([[-5.0, 0.0, 9.0], [3.0, 2.0, 1.0], [0.0, 2.0, 1.0]])
    np.testing.assert_allclose(candidates.rank_agreement(values, others), [1.0, -1.0, 0.5])


def test_rank_agreement_of_equal_values_is_not_known():
    assert np.isnan(candidates.rank_agreement(np.ones((1, 3)), np.array([[1.0, 2.0, 3.0]])))
