"""Statistics of cited rows once more, by other means than the code that they check.

Rows are given as {run directory: {file: rows}}, in the order of their citation.
"""

from collections import defaultdict
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import agents
from utils.models.train_state import TrainState
from utils.models.value_models import flow_value
from utils.storage import runs
from utils.storage.checkpoints import Checkpoints
from utils.training import populations


def scores_of(directories, file='eval.csv'):
    """Tasks of seeds' scores from cited rows: the run directories of a task belong together."""
    tasks = defaultdict(list)
    for directory, files in directories.items():
        by_seed = defaultdict(list)
        for row in files[file]:
            by_seed[row['seed']].append(float(row['success']))
        tasks[Path(directory).parents[1].name] += [
            round(sum(rates) / len(rates), 12) for rates in by_seed.values()
        ]
    return [np.array(scores) for scores in tasks.values()]


def bootstrapped(statistic, *agents):
    """The documented interval by loops: 10,000 resamples of seed 0, task by task."""
    rng, drawn = np.random.default_rng(0), []
    for tasks in agents:
        indices = [rng.integers(0, len(task), (10_000, len(task))) for task in tasks]
        drawn.append([task[index] for task, index in zip(tasks, indices, strict=True)])
    values = [
        statistic(*[[task[draw] for task in agent] for agent in drawn]) for draw in range(10_000)
    ]
    return np.quantile(values, [0.025, 0.975])


def mean_of_means(tasks):
    return sum(sum(task) / len(task) for task in tasks) / len(tasks)


def middle_half(tasks):
    scores = sorted(np.concatenate(tasks))
    cut = len(scores) // 4
    return sum(scores[cut : len(scores) - cut]) / (len(scores) - 2 * cut)


def better(one, other):
    """Wins over pairs of seeds, a tie half a win."""
    shares = []
    for mine, theirs in zip(one, other, strict=True):
        wins = sum((a > b) + 0.5 * (a == b) for a in mine for b in theirs)
        shares.append(wins / (len(mine) * len(theirs)))
    return sum(shares) / len(shares)


def printed(statistic, *agents, scale=100.0, digits=1):
    text = f'{scale * statistic(*agents):.{digits}f}'
    if min(len(task) for tasks in agents for task in tasks) > 1:
        low, high = scale * bootstrapped(statistic, *agents)
        text += f' [{low:.{digits}f}, {high:.{digits}f}]'
    return text


def seeds_of(tasks):
    counts = sorted({len(task) for task in tasks})
    return str(counts[0]) if len(counts) == 1 else f'{counts[0]} to {counts[-1]}'


def success_cell(directories):
    """A success rate as tables of tasks and environments print it, from cited evaluations."""
    tasks = scores_of(directories)
    text = printed(mean_of_means, tasks)
    if seeds_of(tasks) != '1':
        return f'{text} ({seeds_of(tasks)})'
    total = min(int(files['eval.csv'][-1]['episodes']) for files in directories.values())
    total *= len(tasks)
    low, high = wilson(round(mean_of_means(tasks) * total), total)
    return f'{text} [{100 * low:.1f}, {100 * high:.1f}] (1 seed)'


def differences(directories, config):
    """Per task, by start state: success of a config over its seeds less that of the other one."""
    by_task = defaultdict(lambda: defaultdict(lambda: ([], [])))
    for directory, files in directories.items():
        side = 0 if Path(directory).parent.name == config else 1
        for row in files['episodes.csv']:
            task = by_task[Path(directory).parents[1].name]
            task[int(row['episode'])][side].append(int(row['success']))
    return [
        np.array([np.mean(mine) - np.mean(theirs) for _, (mine, theirs) in sorted(task.items())])
        for task in by_task.values()
    ]


def parameters(config, sizes=(28, 5)):
    """Entries of all arrays that are optimised; sizes are those of observations and actions."""
    spec = agents.Spec(*sizes)
    state = jax.eval_shape(agents.create(config, spec).init, jax.random.key(0))
    trained = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, TrainState))
    params = [part.params for part in trained if isinstance(part, TrainState)]
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def wilson(wins, total):
    """The score interval of a success rate (Wilson 1927)."""
    z = 1.959963984540054
    middle = (wins + z * z / 2) / (total + z * z)
    half = z / (total + z * z) * (wins * (total - wins) / total + z * z / 4) ** 0.5
    return middle - half, middle + half


def over_seeds(wins, totals):
    """Mean of seeds' rates, and the wider bounds of SciPy's t interval and Wilson's of the pool."""
    rates, bounds = np.array(wins) / totals, [wilson(sum(wins), sum(totals))]
    if len(rates) > 1:
        spread = stats.sem(rates) or 1e-12
        bounds.append(stats.t.interval(0.95, len(rates) - 1, rates.mean(), spread))
    low, high = zip(*bounds, strict=True)
    return rates.mean(), max(0.0, min(low)), min(1.0, max(high))


def flow_distributions(checkpoint, seed, observations, actions):
    """Learned distributions of a run's flow, by Euler steps written out: 64 points a row.

    Args:
        checkpoint: RUN/checkpoints/STEP.
        seed: of the member.
        observations, actions: (rows, d).
    """
    record = runs.read_record(checkpoint.parents[1])
    config = runs.agent_config(record)
    assert (config.value_model, config.return_solver) == ('flow', 'euler')
    sizes = record['observation_dim'], record['action_dim']
    agent = agents.create(config, agents.Spec(*sizes))
    init = partial(populations.init_states, agent.init, record['seeds'])
    with Checkpoints(checkpoint.parent, read_only=True) as saved:
        population, _ = saved.restore(int(checkpoint.name), jax.eval_shape(init))
    state = populations.member(population, record['seeds'].index(seed))
    params = jax.tree.map(lambda leaf: leaf[0], state.value.params)
    net = flow_value.network(config)
    z = np.tile(stats.norm.ppf((np.arange(64) + 0.5) / 64), (len(observations), 1))[..., None]
    z = jnp.asarray(z, jnp.float32)
    observations = jnp.repeat(observations[:, None], 64, axis=1)
    actions = jnp.repeat(actions[:, None], 64, axis=1)
    velocity = jax.jit(lambda z, t: net.apply(params, z, t, observations, actions))
    for step in range(20):
        z = z + velocity(z, jnp.full(z.shape, step / 20)) / 20
    return np.sort(np.float64(state.returns.mean + state.returns.std * z[..., 0]), axis=1)


def chunks(arrays, rows, length):
    """Flat chunks of recorded actions; zero from the trajectory's cut on."""
    cuts = np.flatnonzero(arrays['terminals'])
    result = np.zeros((len(rows), length, arrays['actions'].shape[1]), np.float32)
    for index, row in enumerate(rows):
        end = cuts[cuts >= row][0]
        end += arrays['masks'][end] == 0  # its last row has no successor, and so no action
        taken = arrays['actions'][row : min(row + length, end)]
        result[index, : len(taken)] = taken
    return result.reshape(len(rows), -1)


def recorded_return(arrays, row, discount):
    """Discounted rewards from a row to the first mask of 0, or to the cut.

    Returns:
        The sum, and the weight of what the cut left out.
    """
    total, weight = 0.0, 1.0
    while True:
        if arrays['masks'][row] == 0:
            return total + weight * arrays['rewards'][row], 0.0
        if arrays['terminals'][row]:
            return total, weight
        total, weight, row = total + weight * arrays['rewards'][row], weight * discount, row + 1
