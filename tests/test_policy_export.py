"""A policy outside training: as a folder that JAX and NumPy alone can act with, and evaluated."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.helpers import random_state, small_agent, small_config
from tests.test_cli import ROOT, data_dir, run, trained  # noqa: F401
from utils.deploy import exporting, members
from utils.deploy import policy as policy_module
from utils.deploy.evaluate import evaluate
from utils.deploy.members import Member
from utils.deploy.policy import Policy
from utils.environments import action_maps
from utils.environments.env_processes import VectorEnv
from utils.errors import UserError
from utils.rollouts import acting, evaluation

ENV = 'pointmaze-medium-navigate-singletask-task1-v0'
MAP = dict(offset=[0.5, -2.0], scale=[3.0, 0.1])
OBSERVATIONS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def member_of(name='evor_small', observation_dim=3, map_=None, **changes):
    """A seed of a run that was not trained but has random parameters."""
    changes |= dict(return_mean=-20.0, return_std=8.0)
    agent = small_agent(name, observation_dim, **changes)
    config = small_config(name, **{k: v for k, v in changes.items() if 'return_' not in k})
    record = dict(env_name=ENV, agent=config.to_dict(), seeds=[3])
    record |= dict(observation_dim=observation_dim, action_dim=2)
    record |= dict(action_map=map_) if map_ else {}
    # `bc` has no returns, which `random_state` fills in.
    state = jax.jit(agent.init)(jax.random.key(0)) if name[:2] == 'bc' else random_state(agent)
    return Member(record, agent, state, step=100, seed=3)


def export(folder, member, **settings):
    exporting.write(folder, member, member.agent.configure(**settings))
    return folder


def chunks_of_the_run(member, seed, num, **settings):
    """What `act` of the run chooses at the first observations, each decided alone, (num, h, 2)."""
    act, settings = jax.jit(member.agent.act), member.agent.configure(**settings)
    episode = jax.random.fold_in(member.key, seed)
    return np.concatenate(
        [
            act(
                member.state,
                OBSERVATIONS[chunk][None],
                jax.random.fold_in(episode, chunk),
                settings,
            ).actions
            for chunk in range(num)
        ]
    )


def played(policy, seed, num):
    """A policy's actions where each of the first observations is seen for a chunk, (num, h, 2)."""
    policy.reset(seed)
    length = policy.record['chunk_length']
    return np.array([[policy.act(OBSERVATIONS[c]) for _ in range(length)] for c in range(num)])


@pytest.fixture(scope='module')
def evor():
    return member_of(map_=MAP)


@pytest.fixture(scope='module')
def folder(evor, tmp_path_factory):
    return export(tmp_path_factory.mktemp('policies') / 'evor', evor)


@pytest.fixture(scope='module')
def policy(folder):
    return Policy.load(folder)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / 'copy')


# What it chooses.


@pytest.mark.parametrize(
    ('name', 'settings'),
    [
        ('evor_paper_small', {}),
        pytest.param('evor_c51_small', dict(tau_q=0.0), marks=pytest.mark.long),
        pytest.param('qc5_small', dict(n_pi=2, flow_steps=2), marks=pytest.mark.long),
        ('bc5_small', {}),
    ],
)
def test_it_acts_as_the_run_does_to_the_bit(name, settings, tmp_path):
    member = member_of(name)
    policy = Policy.load(export(tmp_path / 'policy', member, **settings))
    chosen = played(policy, seed=7, num=4)
    np.testing.assert_array_equal(chosen, chunks_of_the_run(member, 7, 4, **settings))
    assert np.ptp(chosen) > 0.1
    told = policy.record['settings'] | policy.record['temperatures']
    assert told.items() >= settings.items()


@pytest.mark.long
def test_a_policy_of_a_run_is_the_exported_one(evor, policy):
    seeds, chunks = np.arange(8), np.arange(8) // 3
    of_run = members.policy_of(evor, evor.agent.settings)
    for rows in (slice(0, 1), slice(0, 8)):
        where = OBSERVATIONS[rows], seeds[rows], chunks[rows]
        np.testing.assert_array_equal(policy.decide(*where), of_run.decide(*where))
    np.testing.assert_array_equal(played(policy, 1, 2), played(of_run, 1, 2))
    assert {*of_run.record} == {*policy.record} - {
        'platforms',
        'calling_convention',
        'kept_arguments',
        'files',
        'digest',
    }


def test_temperatures_are_given_at_loading(evor, folder):
    for temperatures in (dict(tau_q=0.0), dict(tau_q=np.inf, tau_r=0.5)):
        chosen = Policy.load(folder, **temperatures).decide(OBSERVATIONS[:1], *np.zeros((2, 1)))
        np.testing.assert_array_equal(chosen, chunks_of_the_run(evor, 0, 1, **temperatures))


@pytest.mark.long
def test_actions_are_in_the_units_of_the_data(evor, policy):
    told = action_maps.recorded(dict(action_map=MAP), Path('record'))
    chunks = chunks_of_the_run(evor, 5, 2)
    np.testing.assert_array_equal(played(policy, 5, 2), action_maps.denormalise(chunks, told))


def test_a_chunk_is_played_before_the_next_one_is_decided(policy):
    policy.reset(0)
    ends = [policy.act(OBSERVATIONS[0]), *(policy.act(OBSERVATIONS[1]) for _ in range(4))]
    np.testing.assert_array_equal(ends, played(policy, 0, 1)[0])
    assert not np.array_equal(policy.act(OBSERVATIONS[1]), ends[0])


def test_an_episode_follows_from_its_seed(policy):
    first = played(policy, 0, 2)
    policy.act(OBSERVATIONS[0])  # a reset drops the rest of its chunk
    np.testing.assert_array_equal(played(policy, 0, 2), first)
    assert not np.array_equal(played(policy, 1, 2), first)


# What is in the folder.


def test_the_module_needs_jax_and_numpy_alone():
    tree = ast.parse(Path(policy_module.__file__).read_text())
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    names = {name.split('.')[0] for name in found} - sys.stdlib_module_names
    assert names == {'jax', 'numpy'}


@pytest.mark.long
def test_a_policy_of_half_the_size_acts_by_rounded_parameters(tmp_path):
    member = member_of('bc5_small')
    whole = export(tmp_path / 'whole', member)
    exporting.write(tmp_path / 'half', member, member.agent.settings, half=True)
    sizes = [(f / 'parameters.npz').stat().st_size for f in (whole, tmp_path / 'half')]
    assert 0.4 < sizes[1] / sizes[0] < 0.9  # names and headers are not halved
    rounded = jax.tree.map(
        lambda leaf: (
            leaf.astype(np.float16).astype(np.float32) if leaf.dtype == np.float32 else leaf
        ),
        member.state,
    )
    chosen = played(Policy.load(tmp_path / 'half'), seed=7, num=4)
    expected = chunks_of_the_run(member._replace(state=rounded), 7, 4)
    np.testing.assert_array_equal(chosen, expected)


def test_agents_of_the_repository_load_and_say_where_they_act():
    """Each is at most 3 MB; the module that loads them is this repository's."""
    folders = sorted(path.parent for path in (ROOT / 'results/agents').glob('*/policy.json'))
    assert len(folders) == 5
    for folder in folders:
        assert exporting.size(folder) <= 3.0
        policy = Policy.load(folder)
        action = policy.act(np.zeros(policy.record['observation_dim']))
        assert action.shape == (policy.record['action_dim'],)
        assert policy.record['env_name'].startswith(folder.name)


def test_a_folder_has_what_acting_reads_and_no_more(evor, folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {'policy.json', 'policy.py', 'program.mlir', 'parameters.npz'}
    with np.load(folder / 'parameters.npz', allow_pickle=False) as parameters:
        assert {name.split('/')[0] for name in parameters} == {'policy', 'value'}
        assert not any('target' in name or 'opt_state' in name for name in parameters)
        size = sum(array.size for array in parameters.values())
    state = evor.state
    assert size == sum(
        leaf.size for leaf in jax.tree.leaves((state.policy.params, state.value.params))
    )


def test_the_record_tells_where_it_comes_from(folder):
    record = json.loads((folder / 'policy.json').read_text())
    wanted = dict(env_name=ENV, step=100, seed=3, observation_dim=3, action_dim=2, chunk_length=5)
    assert record.items() >= wanted.items()
    assert record['temperatures'] == {'tau_q': 0.02, 'tau_r': 'inf'}
    assert record['settings']['n_pi'] == record['agent']['n_pi'] == 4
    assert {'jax', 'numpy'} <= record['versions'].keys()
    assert record['platforms'] == ['cpu', 'cuda', 'tpu']


@pytest.mark.long
def test_the_folder_is_enough(folder, policy, tmp_path):
    """In a process that begins in the folder, and that sees no module of this repository."""
    np.save(tmp_path / 'observations.npy', OBSERVATIONS)
    code = (
        'import sys, numpy as np; from policy import Policy; policy = Policy.load(".")\n'
        f'actions = [policy.act(row) for row in np.load("{tmp_path}/observations.npy")]\n'
        f'np.save("{tmp_path}/actions.npy", actions)\n'
        'print(sorted({"flax", "agents", "utils", "ogbench"} & {*sys.modules}))'
    )
    command = [sys.executable, '-c', code]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == '[]\n'
    policy.reset(0)
    expected = [policy.act(row) for row in OBSERVATIONS]
    np.testing.assert_array_equal(np.load(tmp_path / 'actions.npy'), expected)


@pytest.mark.long
def test_the_command_exports_a_seed_of_a_run(trained, tmp_path):  # noqa: F811
    out = tmp_path / 'policy'
    result = run(
        'scripts/export_policy.py', f'--run={trained}', f'--out={out}', '--seed=1', '--n_pi=1'
    )
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(rf'{out}: seed 1, 12 updates, 0\.\d MB\n', result.stdout)
    where = np.zeros((1, 2)), np.array([4]), np.array([2])
    exported = Policy.load(out).decide(*where)
    np.testing.assert_array_equal(exported, members.of_run(trained, seed=1, n_pi=1).decide(*where))
    assert not np.array_equal(exported, members.of_run(trained, n_pi=1).decide(*where))
    result = run('scripts/export_policy.py', f'--run={trained}', f'--out={out}2', '--n_pi=1,4')
    assert result.stderr == 'error: --n_pi: expected one value here, not 2\n'


# One line for what is wrong.


def damage(name):
    def flip(folder):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return flip


def change(**told):
    """Changes a record and signs it."""

    def rewrite(folder):
        record = json.loads((folder / 'policy.json').read_text()) | told
        record['digest'] = policy_module.digest_of_record(record)
        (folder / 'policy.json').write_text(json.dumps(record))

    return rewrite


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (damage('program.mlir'), r'program\.mlir: damaged .*copy the folder again'),
        (damage('parameters.npz'), r'parameters\.npz: damaged .*copy the folder again'),
        (damage('policy.json'), r'policy\.json: damaged; copy the folder again'),
        (lambda folder: (folder / 'program.mlir').unlink(), r'program\.mlir: cannot be read'),
        (lambda folder: (folder / 'policy.json').unlink(), r'policy\.json is missing'),
        (change(format=2), r'has format 2, .*take the policy\.py that lies beside it'),
        (change(platforms=['tpu']), r'runs on tpu, but JAX finds cpu; set JAX_PLATFORMS'),
        (change(calling_convention=99), r'cannot run it here .*convention 99.*export the run by'),
    ],
)
def test_a_folder_that_cannot_be_used_costs_one_line(copy, spoil, message):
    spoil(copy)
    with pytest.raises(ValueError, match=message) as caught:
        Policy.load(copy)
    assert str(copy) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ('temperatures', 'message'),
    [
        (dict(n_pi=4), r'^n_pi: .* has no such temperature; it has tau_r, tau_q'),
        (dict(tau_q=-1.0), r'^tau_q: a temperature is at least 0, not -1'),
        (dict(tau_q=np.nan), r'^tau_q: a temperature is at least 0, not nan'),
    ],
)
def test_a_wrong_temperature_costs_one_line(folder, temperatures, message):
    with pytest.raises(ValueError, match=message):
        Policy.load(folder, **temperatures)


@pytest.mark.parametrize(
    ('observation', 'message'),
    [
        (np.zeros(4), r'expected 3 numbers, not shape \(4,\)'),
        (np.zeros((1, 3)), r'expected 3 numbers, not shape \(1, 3\)'),
        (np.array([0.0, np.nan, 0.0]), 'not finite; check the sensors'),
    ],
)
def test_a_wrong_observation_costs_one_line(policy, observation, message):
    policy.reset(0)
    policy.act(np.zeros(3))
    with pytest.raises(ValueError, match=message):  # also where it would not be looked at
        policy.act(observation)


@pytest.mark.parametrize('seed', [-1, 2**32, 0.5])
def test_a_seed_is_a_whole_number(policy, seed):
    with pytest.raises(ValueError, match=r'^seed: expected a whole number from 0'):
        policy.reset(seed)


def test_a_policy_is_not_overwritten(evor, folder):
    with pytest.raises(UserError, match='holds a policy already'):
        export(folder, evor)


def test_a_base_policy_in_python_cannot_be_exported(evor, tmp_path):
    foreign = evor._replace(agent=evor.agent._replace(sampler=lambda *_: None))
    with pytest.raises(UserError, match='a function in Python, which cannot be exported'):
        export(tmp_path / 'policy', foreign)


# Evaluated.


@pytest.fixture(scope='module')
def walker():
    return member_of('bc5_small', observation_dim=2)


@pytest.fixture(scope='module')
def exported_walker(walker, tmp_path_factory):
    return Policy.load(export(tmp_path_factory.mktemp('walker') / 'policy', walker))


class Watched:
    """A policy whose decisions are written down."""

    def __init__(self, policy):
        self.policy, self.record, self.seen = policy, policy.record, {}

    def decide(self, observations, seeds, chunks):
        for row in zip(observations, seeds, chunks, strict=True):
            self.seen[int(row[1]), int(row[2])] = row[0]
        return self.policy.decide(observations, seeds, chunks)


@pytest.fixture(scope='module')
def of_the_command(walker):
    """Outcomes as scripts/evaluate.py plays them, and what was observed on the way."""
    seen = {}
    settings = walker.agent.settings
    each = acting.bind_each(walker.agent.act, walker.state, [settings], 2)

    def act(observations, key, episodes, chunks):
        for row in zip(observations, episodes, chunks, strict=True):
            seen[int(row[1]), int(row[2])] = row[0]
        return each(observations, key, episodes, chunks)

    with VectorEnv(ENV, 2) as vector_env:
        return evaluation.evaluate(act, vector_env, 2, walker.key, num_groups=1), seen


@pytest.mark.long
@pytest.mark.parametrize('num_processes', [0, 2])
def test_an_evaluation_is_that_of_the_command_to_the_bit(
    num_processes, walker, exported_walker, of_the_command
):
    expected, seen = of_the_command
    of_run = members.policy_of(walker, walker.agent.settings)
    for policy in map(Watched, (exported_walker, of_run)):
        found = evaluate(policy, ENV, 2, num_processes)
        for name in ('success', 'returns', 'lengths'):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert policy.seen.keys() == {place for place in seen if place[0] >= 0}
        for place, observation in policy.seen.items():
            np.testing.assert_array_equal(observation, seen[place])
        assert (found.success_rate, found.success_low) == (0.0, 0.0)
        # Wilson's formula by hand for 0 of 2 and z = 1.96: z^2 / (2 + z^2).
        np.testing.assert_allclose(found.success_high, 0.6576, atol=1e-4)


def test_an_evaluation_leaves_the_global_generator_as_it_was(exported_walker):
    np.random.seed(5)
    expected = np.random.uniform(size=3)
    np.random.seed(5)
    evaluate(exported_walker, episodes=1)
    np.testing.assert_array_equal(np.random.uniform(size=3), expected)


@pytest.mark.parametrize('settings', [dict(episodes=0), dict(num_processes=-1)])
def test_an_evaluation_of_nothing_costs_one_line(policy, settings):
    with pytest.raises(ValueError, match='episodes must be at least 1 and num_processes at least'):
        evaluate(policy, **settings)


def test_an_environment_of_another_size_costs_one_line(policy):
    with pytest.raises(ValueError, match=r'expected 3 numbers, not shape \(2,\)'):
        evaluate(policy, ENV, 1)


@pytest.mark.long
def test_an_agent_of_the_repository_is_watched(tmp_path):
    result = run('scripts/watch.py', f'--policy={tmp_path}')
    assert result.returncode == 2
    assert re.fullmatch(r'error: --policy: .* no policy here .*\n', result.stderr)
    result = run('scripts/watch.py', '--policy=results/agents/scene', f'--out={tmp_path}')
    if 'no OpenGL draws here' in result.stderr:
        pytest.skip(result.stderr)
    assert 'webp: solved in' in result.stdout
    assert {path.suffix for path in tmp_path.iterdir()} == {'.webp', '.png'}
