"""Makes rliable_reference.json, what rliable says of seed_scores.csv, in an environment of its own.

    python -m venv VENV && VENV/bin/pip install rliable 'pandas<3' && \
        VENV/bin/python tests/data/rliable_reference.py

rliable 1.2.0 does not import with pandas 3, and is no requirement of this project. Its bootstrap
draws from NumPy's global generator, whose stream NumPy keeps for good: seeded with SEED just before
each interval, a test draws the same indices.

seed_scores.csv holds success rates of real runs, three seeds each. Those of set `one_task` are the
README's "Small agents in one table" (last evaluation, 50 episodes); those of `five_tasks` are
`main.py --env_name=cube-single-play-singletask-task1-v0 --tasks=1,2,3,4,5 --seeds=0,1,2
--offline_steps=3000 --eval_interval=1000 --eval_episodes=20 --agent=configs.py:CONFIG` on the same
200 generated episodes (mean of three evaluations).
"""

import csv
import importlib.metadata
import json
from pathlib import Path

import numpy as np
from rliable import library, metrics

FOLDER = Path(__file__).parent
SEED, REPS = 7, 1000
THRESHOLDS = [round(0.05 * index, 2) for index in range(20)]

with (FOLDER / 'seed_scores.csv').open(newline='') as file:
    ROWS = list(csv.DictReader(file))


def matrix(rows):
    """Scores (seeds, tasks)."""
    tasks = sorted({row['env_name'] for row in rows})
    columns = [
        [
            float(row['score'])
            for row in sorted(rows, key=lambda row: int(row['seed']))
            if row['env_name'] == task
        ]
        for task in tasks
    ]
    return np.array(columns).T


def interval(statistic, *scores):
    """Point and percentile interval of a statistic, as lists."""
    np.random.seed(SEED)
    given = {'it': scores[0] if len(scores) == 1 else list(scores)}
    points, intervals = library.get_interval_estimates(
        given, lambda *resampled: np.atleast_1d(statistic(*resampled)), reps=REPS
    )
    return dict(point=points['it'].tolist(), interval=intervals['it'].tolist())


def profile(scores):
    """Shares of runs above the thresholds."""
    return library.score_distributions(scores, THRESHOLDS)


def reference(agents):
    """All numbers of one set of agents, {config: (seeds, tasks)}."""

    def of_each(statistic):
        return {config: interval(statistic, scores) for config, scores in agents.items()}

    gaps = {name: metrics.aggregate_optimality_gap(scores) for name, scores in agents.items()}
    better = {
        one: {
            other: interval(metrics.probability_of_improvement, agents[one], agents[other])
            for other in agents
            if other != one
        }
        for one in agents
    }
    return dict(
        mean=of_each(metrics.aggregate_mean),
        interquartile_mean=of_each(metrics.aggregate_iqm),
        performance_profile=of_each(profile),
        optimality_gap=gaps,
        probability_of_improvement=better,
    )


def main():
    """Writes the reference and prints the versions it was made with."""
    packages = ('rliable', 'arch', 'numpy', 'scipy', 'pandas')
    versions = {name: importlib.metadata.version(name) for name in packages}
    result = dict(versions=versions, seed=SEED, reps=REPS, thresholds=THRESHOLDS)
    for name in sorted({row['set'] for row in ROWS}):
        rows = [row for row in ROWS if row['set'] == name]
        configs = sorted({row['config'] for row in rows})
        result[name] = reference(
            {config: matrix([row for row in rows if row['config'] == config]) for config in configs}
        )
    path = FOLDER / 'rliable_reference.json'
    path.write_text(json.dumps(result, indent=0) + '\n')
    print(f'{path.name}: {versions}')


if __name__ == '__main__':
    main()
