import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agents
from tests.helpers import random_arrays
from utils.data import datasets, layouts, recorded_returns
from utils.errors import UserError
from utils.models.returns import ReturnScale

DISCOUNT = 0.9


def trajectory_dataset(lengths, masks=None):
    """Observations count rows; rewards are powers of ten, so that a sum tells its terms."""
    rows = sum(lengths)
    terminals = np.zeros(rows, bool)
    terminals[np.cumsum(lengths) - 1] = True
    return datasets.build(
        dict(
            observations=np.arange(rows, dtype=np.float32)[:, None],
            actions=0.01 * np.arange(1, rows + 1, dtype=np.float32)[:, None],
            terminals=terminals,
            rewards=10.0 ** np.arange(rows),
            masks=np.ones(rows, np.float32) if masks is None else np.float32(masks),
        )
    )


def gather(dataset, row, length, needs_next_actions=False, discount=1.0, n_step=0):
    dataset = jax.tree.map(jnp.asarray, dataset)
    batch = datasets.gather(dataset, jnp.array([row]), length, n_step, discount, needs_next_actions)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], batch)


def test_the_last_row_of_a_trajectory_is_a_successor_not_a_transition():
    dataset = trajectory_dataset([3, 4])
    assert dataset.starts.tolist() == [0, 1, 3, 4, 5]


def test_a_last_row_that_ends_by_reward_is_a_transition():
    dataset = trajectory_dataset([3, 2], masks=[1, 1, 0, 1, 1])
    assert dataset.starts.tolist() == [0, 1, 2, 3]
    batch = gather(dataset, 2, 1)
    assert (batch.rewards, batch.discounts, batch.td_mask) == (100.0, 0.0, 1.0)


def test_one_step_batch_by_hand():
    batch = gather(trajectory_dataset([3, 4]), 1, 1, discount=DISCOUNT)
    assert (batch.rewards, batch.td_mask) == (10.0, 1.0)
    assert batch.next_observations == [2.0]
    np.testing.assert_allclose(batch.discounts, 0.9)
    np.testing.assert_allclose(batch.next_actions, [[0.03]])


def test_chunk_inside_a_trajectory_by_hand():
    batch = gather(trajectory_dataset([6, 4]), 1, 2, discount=DISCOUNT)
    np.testing.assert_allclose(batch.rewards, 10.0 + 0.9 * 100.0, rtol=1e-6)
    np.testing.assert_allclose(batch.discounts, 0.81, rtol=1e-6)
    np.testing.assert_allclose(batch.actions[:, 0], [0.02, 0.03])
    np.testing.assert_allclose(batch.next_actions[:, 0], [0.04, 0.05])
    assert batch.next_observations == [3.0]


def test_a_chunk_does_not_cross_a_cut():
    batch = gather(trajectory_dataset([3, 4]), 1, 2)
    assert batch.action_mask.tolist() == [1.0, 0.0]
    assert batch.actions[1] == 0.0
    assert batch.td_mask == 0.0


def test_a_cut_is_not_a_terminal():
    batch = gather(trajectory_dataset([3, 4]), 1, 1)
    assert (batch.discounts, batch.td_mask) == (1.0, 1.0)


def test_a_mask_of_zero_stops_rewards_and_bootstrap_within_the_chunk():
    batch = gather(trajectory_dataset([6], masks=[1, 0, 1, 1, 1, 1]), 0, 3)
    assert batch.rewards == 1.0 + 10.0
    assert batch.discounts == 0.0


def test_a_chunk_that_ends_by_reward_counts_although_it_meets_a_cut():
    batch = gather(trajectory_dataset([3, 4], masks=[1, 0, 1, 1, 1, 1, 1]), 1, 3)
    assert (batch.rewards, batch.discounts, batch.td_mask) == (10.0, 0.0, 1.0)


@pytest.mark.parametrize(('needs_next_actions', 'counts'), [(False, 1.0), (True, 0.0)])
def test_next_actions_are_asked_for_only_where_needed(needs_next_actions, counts):
    # Chunk 0, 1 leads to row 2; next actions 2, 3 would cross the cut after row 2.
    batch = gather(trajectory_dataset([3, 4]), 0, 2, needs_next_actions)
    assert batch.td_mask == counts


def test_rewards_of_more_steps_than_the_chunk_by_hand():
    batch = gather(trajectory_dataset([7, 4]), 1, 2, True, DISCOUNT, n_step=3)
    np.testing.assert_allclose(batch.rewards, 10.0 + 0.9 * 100.0 + 0.81 * 1000.0, rtol=1e-6)
    np.testing.assert_allclose(batch.discounts, 0.9**3, rtol=1e-6)
    np.testing.assert_allclose(batch.actions[:, 0], [0.02, 0.03])
    np.testing.assert_allclose(batch.next_actions[:, 0], [0.05, 0.06])
    assert batch.next_observations == [4.0]
    assert batch.td_mask == 1.0


def test_a_cut_within_the_steps_of_reward_leaves_the_chunk_to_learn_from():
    batch = gather(trajectory_dataset([4, 4]), 1, 2, n_step=3)
    assert batch.action_mask.tolist() == [1.0, 1.0]
    assert batch.td_mask == 0.0


@pytest.mark.parametrize('h', [1, 3])
def test_as_many_steps_of_reward_as_actions_are_the_chunk_itself(key, h):
    dataset = jax.tree.map(jnp.asarray, datasets.build(random_arrays()))
    plain, named = (
        datasets.sample(dataset, key, 200, h, n_step, DISCOUNT, True) for n_step in (0, h)
    )
    jax.tree.map(np.testing.assert_array_equal, plain, named)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(0, 4),
    st.booleans(),
    st.data(),
)
def test_batches_equal_a_slow_reference(lengths, h, beyond, needs_next_actions, data):
    lengths = [length + 1 for length in lengths]
    lengths.append(40 - sum(lengths))  # programs are of so many rows
    arrays = random_arrays(lengths, seed=data.draw(st.integers(0, 99)))
    dataset = datasets.build(arrays)
    row, n = data.draw(st.sampled_from(dataset.starts.tolist())), h + beyond
    batch = gather(dataset, row, h, needs_next_actions, DISCOUNT, n_step=n if beyond else 0)
    end = int(dataset.ends[row])
    reward, alive, seen = 0.0, 1.0, 0
    for step in range(n):
        at = row + step
        if at > end or (at == end and arrays['masks'][at] == 1):
            break
        seen += step < h
        reward += alive * DISCOUNT**step * arrays['rewards'][at]
        alive *= arrays['masks'][at]
    np.testing.assert_allclose(batch.rewards, reward, rtol=1e-5)
    np.testing.assert_allclose(batch.discounts, alive * DISCOUNT**n, rtol=1e-5)
    assert batch.action_mask.tolist() == [1.0] * seen + [0.0] * (h - seen)
    np.testing.assert_array_equal(batch.actions[:seen], arrays['actions'][row : row + seen])
    assert not batch.actions[seen:].any()
    following = range(row + n, min(row + n + h, end + 1))
    # Whole, or ended by reward, after which there is nothing to do.
    whole = row + n + (h - 1 if needs_next_actions else 0) <= end
    ended = needs_next_actions and (arrays['masks'][following] == 0).any()
    assert batch.td_mask == (alive == 0 or whole or ended)
    if row + n <= end:
        following = arrays['actions'][row + n : min(row + n + h, end + 1)]
        np.testing.assert_array_equal(batch.next_observations, arrays['observations'][row + n])
        np.testing.assert_array_equal(batch.next_actions[: len(following)], following)
        assert not batch.next_actions[len(following) :].any()


def test_samples_are_uniform_over_transitions(key):
    dataset = jax.tree.map(jnp.asarray, trajectory_dataset([3, 4]))
    batch = datasets.sample(dataset, key, 10_000, 1, 0, 1.0, False)
    rows, counts = np.unique(np.asarray(batch.observations), return_counts=True)
    assert rows.tolist() == [0, 1, 3, 4, 5]
    np.testing.assert_allclose(counts / 10_000, 0.2, atol=0.02)


def test_reward_to_go_by_hand():
    dataset = trajectory_dataset([4, 2], masks=[1, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(
        recorded_returns.rewards_to_go(dataset, 0.5), [1 + 0.5 * 10, 10, 100, 0, 1e4, 0]
    )


@pytest.mark.parametrize(
    ('rewards', 'bounds'),
    [
        pytest.param([-3.0, -1.0, 0.0], (-30.0, 0.0), id='costs'),
        pytest.param([0.0, 2.0, 1.0], (0.0, 20.0), id='gains'),
        pytest.param([-1.0, 0.5, -2.0], (-20.0, 5.0), id='both'),
        pytest.param([-3.0, -1.0, -2.0], (-30.0, 0.0), id='an end at once costs nothing'),
    ],
)
def test_returns_are_bounded_by_the_extreme_reward_for_ever(rewards, bounds):
    arrays = random_arrays((3,)) | dict(rewards=np.float32(rewards))
    dataset = datasets.build(arrays)
    assert recorded_returns.return_bounds(dataset, 0.9) == pytest.approx(bounds)
    assert recorded_returns.return_bounds(dataset, 1.0) == (-np.inf, np.inf)


def test_an_agent_is_told_the_scale_of_its_data_at_its_discount():
    dataset = datasets.build(random_arrays(observation_dim=4))
    scales = [agents.spec_of(dataset, discount) for discount in (0.5, 0.9)]
    for spec, discount in zip(scales, (0.5, 0.9), strict=True):
        scale = recorded_returns.return_scale(dataset, discount)
        bounds = recorded_returns.return_bounds(dataset, discount)
        assert spec == agents.Spec(4, 2, ReturnScale(*scale, *bounds))
    assert scales[0] != scales[1]


def test_return_scale_ignores_rows_that_are_no_transitions():
    mean, deviation = recorded_returns.return_scale(trajectory_dataset([3, 2]), 0.0)
    np.testing.assert_allclose([mean, deviation], [np.mean([1, 10, 1e3]), np.std([1, 10, 1e3])])


def walk(lengths, seed=0):
    """A position that drifts about 0, recorded in pieces; the reward is -1 below 1, else 0."""
    rng, rows = np.random.default_rng(seed), sum(lengths)
    position = np.zeros(rows)
    for row in range(1, rows):
        position[row] = 0.98 * position[row - 1] + 0.2 * rng.normal()
    terminals = np.zeros(rows, bool)
    terminals[np.cumsum(lengths) - 1] = True
    return datasets.build(
        dict(
            observations=np.zeros((rows, 1)),
            actions=np.zeros((rows, 1)),
            terminals=terminals,
            rewards=np.where(position > 1.0, 0.0, -1.0),
            masks=np.ones(rows),
        )
    )


def test_return_scale_does_not_see_where_the_recording_was_cut():
    """One recording in one piece and in pieces of 1000 rows, whose sums to the cut are far off."""
    whole, cut = walk([60_000]), walk([1000] * 60)
    mean, deviation = recorded_returns.return_scale(whole, 0.99)
    cut_mean, cut_deviation = recorded_returns.return_scale(cut, 0.99)
    assert cut_mean == pytest.approx(mean, abs=0.15 * deviation)
    assert cut_deviation == pytest.approx(deviation, rel=0.1)
    sums = recorded_returns.rewards_to_go(cut, 0.99)[cut.starts]
    assert abs(sums.mean() - mean) > 0.4 * deviation
    assert sums.std() > 1.2 * deviation


@pytest.mark.parametrize('lengths', [[1000, 1000], [50, 80]], ids=['long', 'all too short'])
def test_a_constant_reward_for_ever_has_its_own_return_scale(lengths):
    rows, terminals = sum(lengths), np.zeros(sum(lengths), bool)
    terminals[np.cumsum(lengths) - 1] = True
    still = dict(observations=np.zeros((rows, 1)), actions=np.zeros((rows, 1)))
    rewards = dict(rewards=np.full(rows, -1.0), masks=np.ones(rows))
    dataset = datasets.build(still | rewards | dict(terminals=terminals))
    mean, deviation = recorded_returns.return_scale(dataset, 0.99)
    assert mean == pytest.approx(-100.0)
    assert deviation == 1.0


def test_nothing_is_missing_before_an_end_by_reward():
    dataset = trajectory_dataset([4, 3], masks=[1, 0, 1, 1, 1, 1, 0])
    expected = [0, 0, 0.9, 1, 0, 0, 0]
    np.testing.assert_allclose(recorded_returns.missing_weights(dataset, 0.9), expected)


def test_without_discount_returns_are_the_sums_up_to_the_cut():
    dataset = trajectory_dataset([3, 3]).replace(rewards=np.float32([1, 2, 0, 4, 8, 0]))
    mean, deviation = recorded_returns.return_scale(dataset, 1.0)
    np.testing.assert_allclose([mean, deviation], [np.mean([3, 2, 12, 8]), np.std([3, 2, 12, 8])])


def test_equal_returns_have_scale_one():
    arrays = random_arrays() | dict(rewards=np.zeros(75), masks=np.ones(75))
    assert recorded_returns.return_scale(datasets.build(arrays), 0.9) == (0.0, 1.0)


def test_a_chunk_longer_than_any_trajectory_is_refused():
    dataset = trajectory_dataset([4, 3])
    datasets.check_chunks(dataset, 3, 0, False, 'my.npz')
    with pytest.raises(UserError, match=r'chunk_length: 4 is longer .* my.npz .* 3 transitions'):
        datasets.check_chunks(dataset, 4, 0, False, 'my.npz')


def test_more_steps_of_reward_than_any_trajectory_has_are_refused():
    dataset = trajectory_dataset([4, 3])
    datasets.check_chunks(dataset, 1, 3, False, 'my.npz')
    with pytest.raises(UserError, match=r'^agent\.n_step: 4 is longer .* my.npz .* 3 transitions'):
        datasets.check_chunks(dataset, 1, 4, False, 'my.npz')


def test_trajectories_without_room_for_next_actions_are_refused():
    dataset = trajectory_dataset([6, 5])
    datasets.check_chunks(dataset, 3, 0, True, 'my.npz')
    with pytest.raises(UserError, match=r'next_action: dataset needs 7 actions .* more than 6'):
        datasets.check_chunks(dataset, 3, 4, True, 'my.npz')
    datasets.check_chunks(dataset, 3, 4, False, 'my.npz')
    ends_by_reward = trajectory_dataset([6, 5], masks=[1] * 5 + [0] + [1] * 5)
    datasets.check_chunks(ends_by_reward, 3, 4, True, 'my.npz')


@pytest.mark.parametrize('final_state', [False, True])
def test_all_chunks_before_an_end_by_reward_are_learned_from(final_state):
    """What their next chunk lacks comes after the end; the state there may be recorded or not."""
    arrays = random_arrays([20]) | dict(masks=np.float32([1] * 19 + [0]))
    if final_state:
        following = np.roll(arrays['observations'], -1, axis=0)
        arrays = layouts.to_ogbench('mine.npz', arrays | dict(next_observations=following))
    dataset = datasets.build(arrays)
    rows = jnp.arange(20)
    batch = datasets.gather(dataset, rows, 5, 0, DISCOUNT, True)
    assert batch.td_mask.tolist() == [1.0] * 20
    for row in range(15):
        np.testing.assert_array_equal(batch.next_actions[row], batch.actions[row + 5])
    cut = datasets.build(random_arrays([20]) | dict(masks=np.ones(20, np.float32)))
    batch = datasets.gather(cut, rows[:19], 5, 0, DISCOUNT, True)
    assert batch.td_mask.tolist() == [1.0] * 11 + [0.0] * 8


def test_trajectories_of_one_row_are_refused():
    with pytest.raises(UserError, match='single row'):
        trajectory_dataset([1, 1])


def test_steps_that_are_all_called_last_are_refused_and_not_lost():
    """Those that end by reward would stay, as if they were the whole set."""
    arrays = random_arrays((1, 1, 1))
    with pytest.raises(UserError, match="'terminals' is 1 at the last one alone"):
        datasets.build(arrays | dict(masks=np.float32([1, 0, 1])))
    assert len(datasets.build(arrays | dict(masks=np.zeros(3, np.float32))).starts) == 3


def test_rewards_to_go_of_many_lengths_equal_the_sum_row_by_row():
    dataset = datasets.build(random_arrays([5, 1, 9, 2, 2, 7]))
    expected, following = np.zeros(26), 0.0
    for row in reversed(range(26)):
        following = 0.0 if dataset.ends[row] == row else following
        if row in dataset.starts:
            reward, mask = np.float64(dataset.rewards[row]), np.float64(dataset.masks[row])
            following = reward + 0.9 * mask * following
            expected[row] = following
    np.testing.assert_array_equal(recorded_returns.rewards_to_go(dataset, 0.9), expected)
