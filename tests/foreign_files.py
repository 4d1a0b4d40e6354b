"""Small files of other tools, made by these tools' own libraries from the same trajectories."""

import json
import warnings
from pathlib import Path
from typing import NamedTuple

import gymnasium
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BOX = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)


class Trajectory(NamedTuple):
    """(n + 1, d) observations, (n, a) actions and (n,) rewards of n steps; whether they succeed."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    success: bool

    @property
    def ends(self):
        """(n,), 1 at the last step of a success."""
        return np.eye(1, len(self.actions), len(self.actions) - 1)[0] * self.success


def trajectories(lengths=(5, 3, 4), successes=(True, False, True), scale=1.0, seed=0):
    """Random ones in 2-d, as of a point maze; a success is rewarded by 1."""
    rng, made = np.random.default_rng(seed), []
    for length, success in zip(lengths, successes, strict=True):
        rewards = np.zeros(length, np.float32)
        rewards[-1] = success
        actions = scale * rng.uniform(-1, 1, (length, 2)).astype(np.float32)
        observations = rng.normal(size=(length + 1, 2)).astype(np.float32)
        made.append(Trajectory(observations, actions.astype(np.float32), rewards, success))
    return made


def write_d4rl(path, given, timeouts=True, following=True):
    """One array per key, end to end."""
    last = [np.eye(1, len(t.actions), len(t.actions) - 1)[0] > 0 for t in given]
    with h5py.File(path, 'w') as file:
        file['observations'] = np.concatenate([t.observations[:-1] for t in given])
        file['actions'] = np.concatenate([t.actions for t in given])
        file['rewards'] = np.concatenate([t.rewards for t in given])
        file['terminals'] = np.concatenate([t.ends > 0 for t in given])
        file['infos/goal'] = np.zeros((3, 2))
        file['metadata/algorithm'] = 'SAC'
        if timeouts:
            ends = [of & (not t.success) for t, of in zip(given, last, strict=True)]
            file['timeouts'] = np.concatenate(ends)
        if following:
            file['next_observations'] = np.concatenate([t.observations[1:] for t in given])
    return path


def write_minari(name, given, root, monkeypatch, space=BOX, nested=False, data_format='hdf5'):
    """A local dataset in `root`; returns its folder."""
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(root))
    import minari
    from minari.data_collector import EpisodeBuffer

    observed = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    buffers = []
    for number, one in enumerate(given):
        states = dict(pos=one.observations[:, :1], vel=one.observations[:, 1:])
        last = np.eye(1, len(one.actions), len(one.actions) - 1)[0] > 0
        buffers.append(
            EpisodeBuffer(
                id=number,
                observations=states if nested else one.observations,
                actions=one.actions,
                rewards=one.rewards.tolist(),
                terminations=(one.ends > 0).tolist(),
                truncations=(last & (not one.success)).tolist(),
            )
        )
    if nested:
        one = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
        observed = gymnasium.spaces.Dict(pos=one, vel=one)
    spaces = dict(action_space=space, observation_space=observed)
    with warnings.catch_warnings(action='ignore'):  # about authors who did not sign
        minari.create_dataset_from_buffers(name, buffers, data_format=data_format, **spaces)
    return Path(root) / name


def write_robomimic(path, given, following=True, dones='both'):
    """A group per demonstration; its `dones` as dataset_states_to_obs.py makes them."""
    with h5py.File(path, 'w') as file:
        for number, one in enumerate(given):
            demo = file.create_group(f'data/demo_{number}')
            demo.attrs['num_samples'] = len(one.actions)
            demo['actions'], demo['rewards'] = one.actions, one.rewards
            last = np.eye(1, len(one.actions), len(one.actions) - 1)[0]
            demo['dones'] = (one.ends if dones == 'success' else last).astype(np.int64)
            demo['states'] = np.zeros((len(one.actions), 7))
            for name, part in dict(eef=slice(0, 1), object=slice(1, 2)).items():
                demo[f'obs/{name}'] = one.observations[:-1, part].astype(np.float64)
                if following:
                    demo[f'next_obs/{name}'] = one.observations[1:, part].astype(np.float64)
            demo['obs/image'] = np.zeros((len(one.actions), 4, 4, 3), np.uint8)
        file['mask/train'] = np.array([b'demo_0', b'demo_2'])
        file['mask/valid'] = np.array([b'demo_1'])
        file['data'].attrs['total'] = sum(len(one.actions) for one in given)
    return path


def write_lerobot(path, given, extra=('next.reward', 'next.success'), per_file=1):
    """Layout v2, a file per episode; `per_file=0`: v3, all in one."""
    frames = [_frames(number, one, extra) for number, one in enumerate(given)]
    folder = path / 'data/chunk-000'
    folder.mkdir(parents=True)
    if per_file:
        for number, table in enumerate(frames):
            pq.write_table(table, folder / f'episode_{number:06d}.parquet')
    else:
        pq.write_table(pa.concat_tables(frames), folder / 'file-000.parquet')
    (path / 'meta').mkdir()
    info = dict(codebase_version='v2.1' if per_file else 'v3.0', fps=10)
    info |= dict(total_episodes=len(given), total_frames=sum(len(one.actions) for one in given))
    (path / 'meta/info.json').write_text(json.dumps(info))
    return path


def _frames(number, one, extra):
    steps = len(one.actions)
    columns = {
        'observation.state': pa.array(one.observations[:-1].tolist(), pa.list_(pa.float32())),
        'action': pa.FixedSizeListArray.from_arrays(pa.array(one.actions.reshape(-1)), 2),
        'timestamp': pa.array(np.arange(steps, dtype=np.float32) / 10),
        'frame_index': pa.array(np.arange(steps)),
        'episode_index': pa.array(np.full(steps, number)),
        'task': pa.array(['push'] * steps),
    }
    last = [step == steps - 1 for step in range(steps)]
    told = {
        'next.reward': pa.array(one.rewards),
        'next.done': pa.array(last),
        'next.success': pa.array([bool(end) for end in one.ends]),
    }
    return pa.table(columns | {name: told[name] for name in extra})


def write_arrays(path, given):
    """An .npz under names of somebody's own."""
    np.savez(path, **own_arrays(given))
    return path


def own_arrays(given):
    """Arrays under names of somebody's own."""
    return dict(
        state=np.concatenate([one.observations[:-1] for one in given]),
        ctrl=np.concatenate([one.actions for one in given]).astype(np.float64),
        gain=np.concatenate([one.rewards for one in given])[:, None],
        solved=np.concatenate([one.ends for one in given]).astype(bool),
        run=np.repeat([7, 3, 5], [len(one.actions) for one in given]),
        last=np.concatenate([np.eye(1, len(o.actions), len(o.actions) - 1)[0] for o in given]),
    )
