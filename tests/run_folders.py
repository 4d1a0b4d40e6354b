"""Run directories as main.py and scripts/evaluate.py leave them, with outcomes drawn by a seed."""

import json

import numpy as np

import configs
from utils.rollouts.outcomes import WALKED
from utils.statistics import success_interval
from utils.storage import runs
from utils.storage.metrics import CsvTable

ENV_NAME = 'cube-single-play-singletask-task1-v0'


def write_run(
    save_dir,
    env_name=ENV_NAME,
    config_name='bc_small',
    seeds=(0, 1, 2),
    evaluated=(100, 200, 300, 400),
    offline_steps=400,
    episodes=10,
    chance=0.5,
    draw=0,
    promise=None,
    **overrides,
):
    """Writes a run whose episodes succeed by `chance`; returns its directory.

    Args:
        save_dir: see `runs.run_dir`, as for the names.
        env_name: of the run.
        config_name: of configs.py; `overrides` are settings of the agent.
        seeds: of the members.
        evaluated: steps with an evaluation.
        offline_steps: updates that were asked for.
        episodes: of each evaluation.
        chance: of success.
        draw: seed of the outcomes.
        promise: of start states, about which those of evaluations vary; nan of an agent that
            weighs nothing; None for a run of a version that did not record it.
        **overrides: of the agent's settings.
    """
    config = configs.get_config(config_name).unlock()
    config.update(dict(hidden_dims=(8,), batch_size=16) | overrides)
    directory = runs.run_dir(str(save_dir), env_name, config_name, list(seeds))
    record = runs.describe(
        env_name=env_name,
        offline_steps=offline_steps,
        seeds=list(seeds),
        agent=config.to_dict(),
        dataset=dict(file='some.npz', transitions=1000, checksum=1),
        observation_dim=28,
        action_dim=5,
    )
    directory.mkdir(parents=True, exist_ok=True)
    runs.write_records({directory: record})
    rng, promises = np.random.default_rng(draw), np.random.default_rng(draw)
    for step in range(100, max([*evaluated, 0]) + 1, 100):
        rate = rng.uniform(0.5, 0.6)
        speed = dict(updates_per_second=rate, cpu_seconds_per_update=1.5 / rate)
        rows = [dict(step=step, seed=seed, loss=0.1) | speed for seed in seeds]
        CsvTable(directory / 'train.csv').append(rows)
    for step in evaluated:
        for seed in seeds:
            outcomes = rng.uniform(size=episodes) < chance
            values = None if promise is None else promises.normal(promise, 1.0, episodes)
            append_evaluation(directory, dict(step=step, seed=seed), outcomes, values=values)
    return directory


def append_evaluation(directory, tags, outcomes, names=('eval', 'episodes'), values=None):
    """Appends an evaluation and its episodes, with `values` of start states if there are any."""
    low, high = success_interval(outcomes)
    summary = dict(success=float(np.mean(outcomes)), success_low=low, success_high=high)
    summary |= dict(episode_return=-1.0, episode_length=5.0, episodes=len(outcomes))
    rows = [
        tags | dict(episode=number, success=int(success), episode_return=-1, episode_length=5)
        for number, success in enumerate(outcomes)
    ]
    if values is not None:
        discounted = np.where(outcomes, -4.9, -100.0)
        error = values - discounted
        bounds = np.mean(error) - 1.0, np.mean(error) + 2.0
        summary |= dict(start_value=np.mean(values), start_return=np.mean(discounted))
        names_of_error = [f'start_value_error{bound}' for bound in ('', '_low', '_high')]
        summary |= dict(zip(names_of_error, (np.mean(error), *bounds), strict=True))
        for row, value, obtained in zip(rows, values, discounted, strict=True):
            row |= dict(start_value=value, discounted_return=obtained)
    if names[0] == 'inference':  # what scripts/evaluate.py measures besides
        summary[WALKED] = 3.0 + np.mean(outcomes) + 0.01 * tags['seed']
    for name, own in zip(names, ([tags | summary], rows), strict=True):
        CsvTable(directory / f'{name}.csv', widens=True).append(own)


def append_final(directory, seed, success, num=20, step=400, values=None, **settings):
    """Appends what scripts/evaluate.py does: an evaluation of `num` episodes, the first solved."""
    tags = dict(step=step, seed=seed, env_name=ENV_NAME, action_noise=0.0, sticky_prob=0.0)
    agent = json.loads((directory / 'config.json').read_text())['agent']
    tags |= dict(n_pi=agent['n_pi'], tau_r=float(agent['tau_r'])) | settings
    outcomes = np.arange(num) < round(success * num)
    append_evaluation(directory, tags, outcomes, ('inference', 'inference_episodes'), values)
