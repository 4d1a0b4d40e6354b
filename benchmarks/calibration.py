"""Learned laws of the reward-to-go against held-out Monte-Carlo returns, on a real dataset.

    python -m benchmarks.calibration --env_name=cube-single-play-singletask-task1-v0

Every value model is trained on the dataset's own next actions, so that what it learns is the return
of the policy that made the data (no base policy takes part), and read at held-out states and
actions. Writes OUT/calibration.csv, OUT/calibration_pit.csv (the histogram of the PIT) and
OUT/calibration.md, and prints the table:

* coverage: how often the central 80% of the learned law holds the return, with a 95% interval over
  trajectories;
* CRPS: the continuous ranked probability score, beside that of the returns' law over all states;
* bias: learned mean minus return;
* the loss on training and held-out batches.

Trajectories are cut, so a return is taken where it is nearly complete: far enough from the cut that
what is missing weighs `--tail` at most, and what is missing is filled in by the mean return.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from scipy import stats

import agents
import configs
from agents import evor
from benchmarks import reports, scores
from benchmarks.models import MODELS
from utils import dataset_files, datasets, envs, errors, returns, training
from utils.datasets import Dataset
from utils.errors import UserError
from utils.extraction import Noise
from utils.metrics import CsvTable

FLAGS = flags.FLAGS
flags.DEFINE_string('env_name', 'cube-single-play-singletask-task1-v0', 'Singletask environment.')
flags.DEFINE_string('dataset_dir', dataset_files.DATASET_DIR, 'Folder of OGBench datasets.')
flags.DEFINE_string('dataset_url', dataset_files.DATASET_URL, 'Where missing datasets come from.')
flags.DEFINE_string('val_path', None, 'Held-out .npz; default: NAME-val.npz of the dataset.')
flags.DEFINE_string('agent', 'evor_small', 'Config whose nets and chunks are used.')
flags.DEFINE_integer('flow_steps', 10, 'Euler steps in the backup.', lower_bound=1)
flags.DEFINE_integer('steps', 10_000, 'Updates of each value model.', lower_bound=1)
flags.DEFINE_integer('seed', 0, 'Seed of nets, batches and held-out rows.')
flags.DEFINE_integer('rows', 20, 'Held-out rows of each trajectory.', lower_bound=1)
flags.DEFINE_float('tail', 0.01, 'Weight that a missing rest of a return may have.')
flags.DEFINE_float('width', 1.0, 'Resolution of the PIT, in units of reward.')
flags.DEFINE_multi_enum('models', list(MODELS), list(MODELS), 'Which value models.')
flags.DEFINE_string('out', 'bench', 'Folder of the results; they must not exist yet.')

NUM_POINTS = 64  # of a learned flow or implicit quantile law
READING_STEPS = 20  # Euler steps of a learned flow
CENTRAL = 0.8
BINS = 10


class HeldOut(NamedTuple):
    """Held-out states and actions with their returns, in units of reward."""

    observations: np.ndarray
    actions: np.ndarray
    outcomes: np.ndarray
    trajectories: np.ndarray


def held_out(dataset: Dataset, config, mean_return: float, key: jax.Array) -> HeldOut:
    """Picks rows whose return is nearly complete, `--rows` of each trajectory.

    Raises:
        UserError: no trajectory is long enough.
    """
    discount = config.discount
    horizon = int(np.ceil(np.log(FLAGS.tail) / np.log(discount)))
    remaining = dataset.ends - np.arange(len(dataset.ends))
    complete = dataset.starts[remaining[dataset.starts] >= horizon]
    if not len(complete):
        raise UserError(
            f'--tail: no held-out trajectory has {horizon} more steps, which {FLAGS.tail} asks for'
        )
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    ends = dataset.ends[complete]
    rows = np.concatenate(
        [
            rng.choice(complete[ends == end], min(FLAGS.rows, np.sum(ends == end)), replace=False)
            for end in np.unique(ends)
        ]
    )
    batch = datasets.gather(jax.device_put(dataset), rows, config.chunk_length, discount, True)
    alive = _alive_to_the_cut(dataset)[rows]
    outcomes = datasets.rewards_to_go(dataset, discount)[rows]
    outcomes += alive * discount ** remaining[rows] * mean_return
    actions = np.asarray(datasets.flatten(batch.actions))
    return HeldOut(dataset.observations[rows], actions, outcomes, dataset.ends[rows])


def _alive_to_the_cut(dataset: Dataset) -> np.ndarray:
    """Whether no mask of 0 lies between a row and its trajectory's cut, (rows,)."""
    deaths = np.cumsum(dataset.masks == 0)
    before = deaths - (dataset.masks == 0)
    return deaths[dataset.ends] == before


def train(model: evor.Model, dataset: Dataset, val: Dataset) -> tuple[evor.State, dict[str, float]]:
    """Trains the value model alone; returns the state and its last losses."""
    config = model.config
    train_data, val_data = jax.device_put(dataset), jax.device_put(val)

    def sample(data: Dataset, key: jax.Array, size: int = config.batch_size) -> datasets.Batch:
        return datasets.sample(data, key, size, config.chunk_length, config.discount, True)

    def update(state: evor.State, batch: datasets.Batch, key: jax.Array):
        next_actions = datasets.flatten(batch.next_actions)
        value, metrics = evor.update_value(
            model, state.returns, state.value, batch, next_actions, key
        )
        return state.replace(value=value), metrics

    train_chunk = training.make_train_chunk(update, sample)
    keys = training.streams([FLAGS.seed], training.TRAIN_STREAM)
    population = training.init_population(partial(evor.init, model), [FLAGS.seed])
    window = min(1000, FLAGS.steps)
    population, _ = train_chunk(population, None, keys, train_data, 0, FLAGS.steps - window)
    population, last = train_chunk(population, None, keys, train_data, FLAGS.steps - window, window)
    state = training.member(population, 0)
    key = training.stream(FLAGS.seed, training.DIAGNOSE_STREAM)
    metrics = jax.jit(partial(evor.diagnose, model))(state, sample(val_data, key, 4096), key)
    losses = dict(value_loss=float(last.sums['value_loss'][0]) / window)
    return state, losses | dict(val_value_loss=float(metrics['value_loss']))


def learned_laws(model: evor.Model, state: evor.State, data: HeldOut):
    """Returns points, ascending, and probabilities (rows, num) of the learned laws."""
    levels = (np.arange(NUM_POINTS) + 0.5) / NUM_POINTS
    z_0 = jnp.asarray(stats.norm.ppf(levels), jnp.float32)
    weights = jnp.full(NUM_POINTS, 1.0 / NUM_POINTS)
    params = jax.tree.map(lambda leaf: leaf[0], state.value.target_params)

    @jax.jit
    def read(observations: jax.Array, actions: jax.Array):
        noise = Noise(jnp.broadcast_to(z_0, (len(observations), NUM_POINTS)), weights)
        support = returns.support(state.returns)
        z, probabilities = model.value_model.law(
            params, observations, actions, noise, support, READING_STEPS
        )
        return returns.to_reward_units(state.returns, z), probabilities

    parts = -(-len(data.outcomes) // 256)
    pairs = zip(
        np.array_split(data.observations, parts), np.array_split(data.actions, parts), strict=True
    )
    points, probabilities = (
        np.concatenate([np.float64(part) for part in kind])
        for kind in zip(*(read(*pair) for pair in pairs), strict=True)
    )
    order = np.argsort(points, axis=1)
    return tuple(np.take_along_axis(array, order, axis=1) for array in (points, probabilities))


def measure(points: np.ndarray, weights: np.ndarray, data: HeldOut) -> tuple[dict, np.ndarray]:
    """Returns the scores of laws, and the histogram of their PIT."""
    pit = scores.jittered_pit(points, weights, data.outcomes, FLAGS.width, FLAGS.seed)
    inside = np.abs(pit - 0.5) <= CENTRAL / 2
    crps = scores.crps(points, weights, data.outcomes)
    bias = np.sum(points * weights, axis=1) - data.outcomes
    result = {}
    for name, values in dict(coverage=inside, crps=crps, bias=bias).items():
        low, high = scores.clustered_interval(np.float64(values), data.trajectories, FLAGS.seed)
        result |= {name: float(np.mean(values)), f'{name}_low': low, f'{name}_high': high}
    return result, np.histogram(pit, BINS, (0.0, 1.0))[0] / len(pit)


def main(_: list[str]) -> None:
    """Trains and scores every model, and writes the reports."""
    out = Path(FLAGS.out)
    csv = out / 'calibration.csv'
    if csv.exists():
        raise UserError(f'{csv}: exists already; choose another --out')
    base = configs.get_config(FLAGS.agent).unlock()
    base.update(dict(next_action='dataset', backup_flow_steps=FLAGS.flow_steps))
    dataset, val = _load()
    spec = agents.spec_of(dataset, base.discount)
    key = training.stream(FLAGS.seed, training.EVAL_STREAM)
    data = held_out(val, base, spec.return_mean, key)
    everywhere = _returns_of_all_states(dataset, base.discount, len(data.outcomes))
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in [None, *FLAGS.models]:
        if name is None:
            label, losses, laws = 'law over all states', {}, everywhere
        else:
            config = base.copy_and_resolve_references()
            config.update(MODELS[name])
            evor.check(config)
            model = evor.build(config, spec)
            state, losses = train(model, dataset, val)
            label, laws = name, learned_laws(model, state, data)
        result, histogram = measure(*laws, data)
        blank = dict(value_loss='', val_value_loss='')
        rows.append(dict(env_name=FLAGS.env_name, model=label) | result | blank | losses)
        CsvTable(csv).append(rows[-1:])
        bins = {f'bin_{index}': share for index, share in enumerate(histogram)}
        CsvTable(out / 'calibration_pit.csv').append([dict(model=label) | bins])
        print(f'{label}: coverage {result["coverage"]:.3f}', flush=True)
    text = reports.calibration_table(rows, _settings(data, base))
    (out / 'calibration.md').write_text(text)
    print(text)


def _load() -> tuple[Dataset, Dataset]:
    env = envs.make_env(FLAGS.env_name)
    path, val_path = dataset_files.locate(
        envs.dataset_name(FLAGS.env_name),
        Path(FLAGS.dataset_dir).expanduser(),
        FLAGS.dataset_url,
    )
    paths = path, Path(FLAGS.val_path) if FLAGS.val_path else val_path
    dataset, val = (
        datasets.build(dataset_files.load(path, {FLAGS.env_name: env})[0]) for path in paths
    )
    return dataset, val


def _returns_of_all_states(dataset: Dataset, discount: float, rows: int):
    """The law of the training returns, whatever the state: what a model must beat."""
    values = datasets.rewards_to_go(dataset, discount)[dataset.starts]
    points = np.quantile(values, (np.arange(NUM_POINTS) + 0.5) / NUM_POINTS)
    points = np.broadcast_to(points, (rows, NUM_POINTS))
    return points, np.full(points.shape, 1.0 / NUM_POINTS)


def _settings(data: HeldOut, config) -> str:
    return (
        f'{FLAGS.env_name}: {FLAGS.steps} updates of {config.hidden_dims} nets, chunks of '
        f'{config.chunk_length}, {FLAGS.flow_steps} Euler steps in the backup, seed {FLAGS.seed}; '
        f'{len(data.outcomes)} held-out rows of {len(np.unique(data.trajectories))} trajectories'
    )


if __name__ == '__main__':
    errors.run(main)
