"""The affine map between recorded actions and those that agents act in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.environments import action_maps
from utils.environments.action_maps import ActionMap

numbers = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)


@settings(max_examples=50, deadline=None)
@given(
    low=numbers,
    width=st.floats(0.0625, 1e3, width=32),
    shares=st.lists(st.floats(0.0, 1.0, allow_subnormal=False), min_size=1),
)
def test_what_is_normalised_comes_back(low, width, shares):
    recorded = np.float32(low + np.array(shares)[:, None] * width)
    action_map = action_maps.from_range(recorded.min(axis=0), recorded.max(axis=0))
    normalised = action_maps.normalise(recorded, action_map)
    assert normalised.dtype == np.float32
    assert np.abs(normalised).max() <= 1.0
    undone = action_maps.denormalise(normalised, action_map)
    np.testing.assert_allclose(undone, recorded, rtol=1e-6, atol=1e-6 * (abs(low) + width))


def test_the_ends_of_the_range_become_the_ends_of_the_actions():
    low, high = np.float32([-0.3, 1.7, -5.0]), np.float32([0.1, 9.1, -4.9])
    action_map = action_maps.from_range(low, high)
    np.testing.assert_array_equal(action_maps.normalise(low, action_map), [-1, -1, -1])
    np.testing.assert_array_equal(action_maps.normalise(high, action_map), [1, 1, 1])


def test_a_number_that_never_changes_becomes_zero_and_comes_back():
    action_map = action_maps.from_range(np.array([0.7, -1.0]), np.array([0.7, 1.0]))
    assert action_map == ((0.7, 0.0), (1.0, 1.0))
    normalised = action_maps.normalise([[0.7, 0.5]], action_map)
    np.testing.assert_array_equal(normalised, np.float32([[0.0, 0.5]]))
    np.testing.assert_allclose(action_maps.denormalise(normalised, action_map), [[0.7, 0.5]])


def test_the_identity_changes_no_bit():
    actions = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    same = action_maps.identity(2)
    assert same.is_identity
    assert same == action_maps.from_range([-1, -1], [1, 1])
    np.testing.assert_array_equal(action_maps.normalise(actions, same), actions)
    np.testing.assert_array_equal(action_maps.denormalise(actions, same), actions)


@pytest.mark.parametrize(
    'other', [ActionMap((0.0, 0.1), (1.0, 1.0)), ActionMap((0.0, 0.0), (1.0, -1.0))]
)
def test_no_other_map_is_the_identity(other):
    assert not other.is_identity
