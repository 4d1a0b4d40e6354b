"""What a run is given to learn from, by the file or folder that its flags name."""

import numpy as np
import pytest

from tests.helpers import random_arrays, small_config
from utils import assembly, envs
from utils.errors import UserError

ENV = 'pointmaze-medium-stitch-singletask-task1-v0'


@pytest.fixture(scope='module')
def tasks():
    return {ENV: envs.make_env(ENV)}


def write(path, **changes):
    np.savez(path, **(random_arrays(observation_dim=2) | changes))
    return path


def load(path, tasks, name='evor'):
    val_path = path.with_name(f'{path.stem}-val.npz')
    return assembly.load_data(path, val_path, tasks, small_config(name))


def test_atoms_between_rewards_that_are_all_zero_are_refused(tmp_path, tasks):
    """The support of C51 has no width then, and the first update no number."""
    path = write(tmp_path / 'zero.npz', rewards=np.zeros(75, np.float32))
    with pytest.raises(UserError, match=r"zero\.npz: all 'rewards' are 0.*categorical") as caught:
        load(path, tasks, 'evor_c51')
    assert '\n' not in str(caught.value)
    for name in ('evor', 'bc', 'evor_qr'):
        load(path, tasks, name)
    load(write(tmp_path / 'constant.npz', rewards=np.ones(75, np.float32)), tasks, 'evor_c51')
