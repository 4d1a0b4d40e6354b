"""Files of other tools: every transition is there, and none crosses a cut."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import random_arrays
from utils.data import dataset_files, datasets
from utils.errors import UserError

LENGTHS = (4, 3, 5)
CUT_ROWS = [3, 6, 11]


def ogbench():
    """OGBench's layout with rewards of its own, none of which ends an episode."""
    arrays = random_arrays(LENGTHS)
    return arrays | dict(masks=np.ones(12, np.float32), rewards=np.arange(12, dtype=np.float32))


def regular(arrays):
    """What OGBench's loader makes of it: transitions alone, with their successors."""
    last = arrays['terminals']
    following = arrays['observations'][np.append(False, ~last[:-1])]
    ends = np.append(last[1:], True)[~last]
    kept = {name: array[~last] for name, array in arrays.items()}
    return kept | dict(next_observations=following, terminals=np.float32(ends))


def compact(arrays):
    """What it makes with compact_dataset=True."""
    last = arrays['terminals']
    ends = np.float32(last | np.append(last[1:], True))
    return arrays | dict(valids=1.0 - np.float32(last), terminals=ends)


def read(tmp_path, arrays):
    np.savez(tmp_path / 'other.npz', **arrays)
    return dataset_files.read(tmp_path / 'other.npz')


def transitions(arrays, **options):
    """All (s, a, r, s') with what bootstraps, from which batches are drawn."""
    dataset = datasets.build(arrays)
    options = dict(chunk_length=1, n_step=0, discount=0.9, needs_next_actions=False) | options
    return datasets.gather(dataset, jnp.asarray(dataset.starts), **options)


def assert_same_transitions(one, other):
    one, other = transitions(one), transitions(other)
    for name in ('observations', 'actions', 'rewards', 'discounts', 'next_observations', 'td_mask'):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize('name', ['timeouts', 'truncations', 'truncateds', 'dones'])
@pytest.mark.parametrize('kind', [bool, np.float64, np.int64])
def test_cuts_that_another_key_tells_are_cuts(tmp_path, name, kind):
    """As in D4RL's files: `terminals` where a task is solved, `timeouts` where time is up."""
    arrays = ogbench()
    cuts = arrays['terminals'].astype(kind)
    read_back = read(tmp_path, arrays | {'terminals': np.zeros(12), name: cuts})
    assert np.flatnonzero(read_back['terminals']).tolist() == CUT_ROWS
    assert_same_transitions(read_back, arrays)
    assert name not in read_back


def test_ends_by_reward_and_by_time_are_both_ends(tmp_path):
    arrays = ogbench()
    first, others = np.zeros(12), np.float32(arrays['terminals'])
    first[3], others[3] = 1.0, 0.0
    read_back = read(tmp_path, arrays | dict(terminals=first, timeouts=others))
    assert np.flatnonzero(read_back['terminals']).tolist() == CUT_ROWS


def test_the_output_of_ogbenchs_loader_keeps_its_last_transitions(tmp_path):
    arrays = ogbench()
    read_back = read(tmp_path, regular(arrays))
    assert_same_transitions(read_back, arrays)
    assert len(datasets.build(read_back).starts) == sum(LENGTHS) - len(LENGTHS)


def test_the_compact_output_of_ogbenchs_loader_is_what_it_was_made_of(tmp_path):
    """The final state may be at the goal; it is no transition all the same."""
    arrays = ogbench()
    masks = np.float32(1.0 - arrays['terminals'])
    assert_same_transitions(read(tmp_path, compact(arrays | dict(masks=masks))), arrays)


def test_an_end_by_reward_stays_one(tmp_path):
    """Of the transition, in the layout that has its successor."""
    given = regular(ogbench())
    given['masks'] = np.float32(1.0 - given['terminals'])
    discounts = transitions(read(tmp_path, given)).discounts
    np.testing.assert_array_equal(discounts, np.float32(0.9) * given['masks'])


def test_actions_that_were_not_recorded_are_not_learned_from(tmp_path):
    """The loader drops the action in a final state, which a data's next action would be."""
    whole = transitions(ogbench(), needs_next_actions=True)
    cut = transitions(read(tmp_path, regular(ogbench())), needs_next_actions=True)
    assert whole.td_mask.tolist() == [1.0] * 9
    assert cut.td_mask.tolist() == [1, 1, 0, 1, 0, 1, 1, 1, 0]


def shuffled(arrays):
    order = np.random.default_rng(0).permutation(len(arrays['actions']))
    return {name: array[order] for name, array in arrays.items()} | dict(
        terminals=arrays['terminals']
    )


def rolled(arrays):
    return arrays | dict(next_observations=np.roll(arrays['observations'], -1, axis=0))


def padded(arrays):
    following = np.append(arrays['observations'][1:], arrays['observations'][-1:], axis=0)
    following[CUT_ROWS] = arrays['observations'][CUT_ROWS]
    return arrays | dict(next_observations=following)


REFUSED = {
    'transitions in no order': (shuffled(regular(ogbench())), 'in the order of time'),
    'successors across the cuts': (rolled(ogbench()), "next trajectory's first states"),
    'successors that stand still': (padded(ogbench()), "next trajectory's first states"),
    'no cut where a successor is another': (
        regular(ogbench()) | dict(terminals=np.float32(np.arange(9) == 8)),
        "'next_observations' of row 2 are not",
    ),
    'valids of another meaning': (ogbench() | dict(valids=np.ones(12)), "leave 'valids' out"),
    'a cut of one half': (ogbench() | dict(timeouts=np.full(12, 0.5)), "'timeouts' holds values"),
    'cuts of other rows': (ogbench() | dict(timeouts=np.zeros(9)), "'timeouts' has shape"),
    'no end at all': (
        ogbench() | dict(terminals=np.zeros(12), timeouts=np.zeros(12)),
        "last row of 'terminals' must be 1",
    ),
}


@pytest.mark.parametrize(('arrays', 'message'), REFUSED.values(), ids=REFUSED.keys())
def test_what_contradicts_itself_is_refused(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, arrays)
