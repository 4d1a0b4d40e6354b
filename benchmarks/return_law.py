"""Learned against true return laws, on processes where the truth is known in closed form.

    python -m benchmarks.return_law

Prints a Markdown table: for every process, state-action and target, the Wasserstein-1 distance
between the learned and the true law by number of Euler steps at reading, the mean read with one
step, and the learned and true deviation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from scipy import stats

import configs
from agents import evor
from agents.interface import Spec
from benchmarks import processes
from benchmarks.processes import Process

FLAGS = flags.FLAGS
flags.DEFINE_integer('steps', 6000, 'Updates of each value model.')
flags.DEFINE_integer('flow_steps', 20, 'Euler steps in the backup.')
flags.DEFINE_multi_enum('processes', list(processes.ALL), list(processes.ALL), 'Which processes.')

TARGETS = (('velocity', 0.0), ('coupled', 0.0), ('coupled', 0.5), ('coupled', 1.0))
READING_STEPS = (1, 2, 5, 10, 50)
LEVELS = (np.arange(4096) + 0.5) / 4096


class Trained(NamedTuple):
    """A value model trained on one process."""

    model: evor.Model
    state: evor.State
    process: Process


def train(process: Process, steps: int, seed: int = 0, **settings: object) -> Trained:
    """Trains EVOR's reward-to-go on a process, with the learning rate annealed to zero.

    Args:
        process: the ground truth.
        steps: number of updates of 256 transitions.
        seed: of nets and data.
        **settings: changes to the config.
    """
    config = configs.get_config('evor').unlock()
    small = dict(hidden_dims=(64, 64), value_layer_norm=False, lr=1e-3, next_action='dataset')
    config.update(small | settings)
    truth = np.concatenate([quantile(LEVELS) for quantile in process.quantiles])
    spec = Spec(1, 1, float(truth.mean()), max(float(truth.std()), 0.1))
    agent = evor.create(config, spec)
    tx = optax.adam(optax.cosine_decay_schedule(config.lr, steps))
    model = agent.update.args[0]._replace(tx=tx)
    init_key, data_key = jax.random.split(jax.random.key(seed))

    def step(i: jax.Array, state: evor.State) -> evor.State:
        batch_key, update_key = jax.random.split(jax.random.fold_in(data_key, i))
        batch = evor.scale_rewards(state, process.sample(batch_key, config.batch_size))
        next_actions = batch.next_actions[:, 0]
        value, _ = evor.update_value(model, state.value, batch, next_actions, update_key)
        return state.replace(value=value)

    state = jax.jit(lambda s: jax.lax.fori_loop(0, steps, step, s))(evor.init(model, init_key))
    return Trained(model, state, process)


def learned_quantiles(trained: Trained, query: int, flow_steps: int) -> np.ndarray:
    """Returns the learned law's quantiles at `LEVELS`, in units of reward.

    In one dimension the flow keeps the order of its noise, so that stratified noise gives the
    quantiles without sampling error. The slow target copy is read: it averages recent updates.
    """
    model, state, process = trained
    observation, action = (jnp.asarray([array]) for array in process.queries[query])
    noise = jnp.asarray(stats.norm.ppf(LEVELS), jnp.float32)[None]
    params = jax.tree.map(lambda leaf: leaf[0], state.value.target_params)
    z = evor.sample_returns(model, params, observation, action, noise, flow_steps)[0]
    return np.sort(np.asarray(state.return_mean + state.return_std * z))


def wasserstein(trained: Trained, query: int, flow_steps: int) -> float:
    """Returns the Wasserstein-1 distance between the learned and the true law."""
    truth = trained.process.quantiles[query](LEVELS)
    return float(np.abs(learned_quantiles(trained, query, flow_steps) - truth).mean())


def _row(trained: Trained, query: int, target: str, lam: float) -> str:
    truth = trained.process.quantiles[query](LEVELS)
    distances = [wasserstein(trained, query, steps) for steps in READING_STEPS]
    learned = learned_quantiles(trained, query, READING_STEPS[-1])
    mean = learned_quantiles(trained, query, 1).mean()
    label = target if target == 'velocity' else f'{target}, lam {lam}'
    cells = [trained.process.name, str(query), label]
    cells += [f'{distance:.3f}' for distance in distances]
    cells += [f'{mean:.3f} ({truth.mean():.3f})', f'{learned.std():.3f} ({truth.std():.3f})']
    return f'| {" | ".join(cells)} |'


def main(_: list[str]) -> None:
    """Prints the table."""
    header = ['process', 'query', 'target', *(f'W1, {steps} steps' for steps in READING_STEPS)]
    header += ['mean in one step (truth)', 'deviation (truth)']
    print(f'| {" | ".join(header)} |\n|{"---|" * len(header)}')
    for name in FLAGS.processes:
        process = processes.ALL[name]()
        for target, lam in TARGETS:
            settings = dict(td_target=target, lam=lam, flow_steps=FLAGS.flow_steps)
            trained = train(process, FLAGS.steps, **settings)
            for query in range(len(process.queries)):
                print(_row(trained, query, target, lam), flush=True)


if __name__ == '__main__':
    app.run(main)
