"""Run directories for a report: finished, unfinished, missing, and some with hostile names."""

import json

import jax
import numpy as np

import agents
from tests.helpers import random_state
from tests.run_folders import append_evaluation, write_run
from utils.models.returns import ReturnScale
from utils.storage import runs
from utils.storage.checkpoints import Checkpoints

CUBE = 'cube-single-play-singletask-task{}-v0'
MAZE = 'pointmaze-medium-navigate-singletask-task1-v0'
HOSTILE = '<script>alert(1)</script>$'
HOSTILE_ENV = '"><img src=https://evil.example/x>-singletask-task1-v0'
STEP = 400


def write_runs(exp):
    """Writes runs of four configs on four tasks; the hostile ones have names that are HTML."""
    write_run(exp, CUBE.format(1), 'bc_small', chance=0.3, promise=np.nan)
    write_run(exp, CUBE.format(2), 'bc_small', evaluated=(200, STEP), chance=0.3, draw=1)
    write_run(exp, CUBE.format(1), 'iql_small', (0, 1), evaluated=(200, STEP), chance=0.8)
    stopped = write_run(exp, CUBE.format(1), 'ifql_small', (0,), (100,), promise=-9)
    edit(stopped / 'status.json', state='stopped', step=100, reason=f'{HOSTILE} SIGTERM')
    for env_name in (CUBE.format(1), HOSTILE_ENV):
        hostile = write_run(exp / 'hostile', env_name, 'bc_small', (0, 1), (STEP,))
        agent = runs.read_record(hostile)['agent'] | dict(config_name=HOSTILE)
        edit(hostile / 'config.json', agent=agent)
    write_evor(exp)


def edit(path, **changes):
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changes))


def write_held_out(path):
    """A trajectory that is solved at its row 300, and one that is not, each of 600 rows."""
    rng = np.random.default_rng(0)
    terminals, masks = np.zeros(1200, bool), np.ones(1200, np.float32)
    terminals[[599, 1199]] = True
    masks[300] = 0
    np.savez(
        path,
        observations=rng.normal(size=(1200, 2)).astype(np.float32),
        actions=rng.uniform(-1, 1, (1200, 2)).astype(np.float32),
        terminals=terminals,
        masks=masks,
        rewards=masks - 1,
    )


def write_evor(exp):
    """An untrained EVOR with a checkpoint, evaluated at other settings of inference."""
    settings = dict(n_pi=4, return_flow_steps=2)
    directory = write_run(exp, MAZE, 'evor_small', (0, 1), (200, STEP), promise=-30, **settings)
    edit(directory / 'config.json', observation_dim=2, action_dim=2)
    agent = agents.create(
        runs.agent_config(runs.read_record(directory)),
        agents.Spec(2, 2, ReturnScale(-50.0, 20.0, -100.0, 0.0)),
    )
    population = jax.tree.map(
        lambda *leaves: np.stack(leaves), *(random_state(agent, seed) for seed in (0, 1))
    )
    with Checkpoints(directory / 'checkpoints') as checkpoints:
        checkpoints.save(STEP, population, dict(evaluated=True))
    rng = np.random.default_rng(0)
    fixed = dict(env_name=MAZE, action_noise=0.0)
    trained = dict(n_pi=4, tau_q=0.02, tau_r='inf')
    for changes in (
        *(dict(n_pi=n_pi) for n_pi in (1, 4, 16, 4)),
        *(dict(tau_q=tau_q) for tau_q in (0.0, 1.0, 'inf')),
        *(dict(tau_r=tau_r, n_pi=2) for tau_r in (0.1, 0.5)),
        dict(n_pi=8, action_noise=0.5),
    ):
        for seed in (0, 1):
            tags = dict(step=STEP, seed=seed) | fixed | trained | changes
            outcomes = rng.uniform(size=20) < 0.6
            append_evaluation(directory, tags, outcomes, ('inference', 'inference_episodes'))
    return directory
