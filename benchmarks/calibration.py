"""Learned return distributions against held-out Monte-Carlo returns, on a real dataset.

    python -m benchmarks.calibration --env_name=cube-single-play-singletask-task1-v0

Every value model is trained on the dataset's own next actions, so that what it learns is the return
of the policy that made the data (no base policy takes part), and read at held-out states and
actions. Writes OUT/calibration.csv, OUT/calibration_pit.csv (the histogram of the PIT) and
OUT/calibration.md, and prints the table:

* coverage: how often the central 80% of the learned distribution holds the return, with a 95%
  interval over trajectories;
* CRPS: the continuous ranked probability score, beside that of the returns of all states;
* bias: learned mean minus return;
* the loss on training and held-out batches.

Trajectories are cut, so a return is taken where it is nearly complete: far enough from the cut that
what is missing weighs little (`recorded_returns.TAIL`), and that is filled in by the mean return.
"""

from functools import partial
from pathlib import Path

import jax
import numpy as np
from absl import flags

import agents
import configs
from agents import evor
from benchmarks import reports
from benchmarks.models import MODELS
from utils.data import dataset_files, datasets, fetching, recorded_returns
from utils.data.datasets import Dataset
from utils.environments import envs
from utils.errors import UserError
from utils.models import calibration
from utils.models.calibration import NUM_POINTS, PIT_BINS, HeldOut
from utils.storage.metrics import CsvTable
from utils.system import command
from utils.training import populations

FLAGS = flags.FLAGS
flags.DEFINE_string('env_name', 'cube-single-play-singletask-task1-v0', 'Singletask environment.')
flags.DEFINE_string('dataset_dir', fetching.DATASET_DIR, 'Folder of OGBench datasets.')
flags.DEFINE_string('dataset_url', fetching.DATASET_URL, 'Where missing datasets come from.')
flags.DEFINE_string('val_path', None, 'Held-out .npz; default: NAME-val.npz of the dataset.')
flags.DEFINE_string('agent', 'evor_small', 'Config whose nets and chunks are used.')
flags.DEFINE_integer('flow_steps', 10, 'Euler steps in the backup.', lower_bound=1)
flags.DEFINE_integer('steps', 10_000, 'Updates of each value model.', lower_bound=1)
flags.DEFINE_integer('seed', 0, 'Seed of nets, batches and held-out rows.')
flags.DEFINE_integer('rows', 20, 'Held-out rows of each trajectory.', lower_bound=1)
flags.DEFINE_float('width', 1.0, 'Resolution of the PIT, in units of reward.')
flags.DEFINE_multi_enum('models', list(MODELS), list(MODELS), 'Which value models.')
flags.DEFINE_string('out', 'bench', 'Folder of the results; they must not exist yet.')


def train(model: evor.Model, dataset: Dataset, val: Dataset) -> tuple[evor.State, dict[str, float]]:
    """Trains the value model alone; returns the state and its last losses."""
    config = model.config
    train_data, val_data = jax.device_put(dataset), jax.device_put(val)

    def sample(data: Dataset, key: jax.Array, size: int = config.batch_size) -> datasets.Batch:
        steps = config.chunk_length, config.n_step
        return datasets.sample(data, key, size, *steps, config.discount, True)

    def update(state: evor.State, batch: datasets.Batch, key: jax.Array):
        next_actions = datasets.flatten(batch.next_actions)
        value, metrics = evor.update_value(model, state, batch, next_actions, key)
        return state.replace(value=value), metrics

    train_chunk = populations.make_train_chunk(update, sample)
    keys = populations.streams([FLAGS.seed], populations.TRAIN_STREAM)
    population = populations.init_states(partial(evor.init, model), [FLAGS.seed])
    window = min(1000, FLAGS.steps)
    population, _ = train_chunk(population, None, keys, train_data, 0, FLAGS.steps - window)
    population, last = train_chunk(population, None, keys, train_data, FLAGS.steps - window, window)
    state = populations.member(population, 0)
    key = populations.stream(FLAGS.seed, populations.DIAGNOSE_STREAM)
    metrics = jax.jit(partial(evor.diagnose, model))(state, sample(val_data, key, 4096), key)
    losses = dict(value_loss=float(last.sums['value_loss'][0]) / window)
    return state, losses | dict(val_value_loss=float(metrics['value_loss']))


def learned_distributions(model: evor.Model, state: evor.State, data: HeldOut):
    """Returns points, ascending, and probabilities (rows, num) of the learned distributions."""
    params = jax.tree.map(lambda leaf: leaf[0], state.value.target_params)
    return calibration.read_distributions(
        model.value_model, params, state.returns, data.observations, data.actions
    )


def measure(points: np.ndarray, weights: np.ndarray, data: HeldOut) -> tuple[dict, np.ndarray]:
    """Returns the scores of distributions, and the histogram of their PIT."""
    result, pit = calibration.score(points, weights, data, FLAGS.width, FLAGS.seed)
    return result, np.histogram(pit, PIT_BINS, (0.0, 1.0))[0] / len(pit)


def main(_: list[str]) -> None:
    """Trains and scores every model, and writes the reports."""
    out = Path(FLAGS.out)
    csv = out / 'calibration.csv'
    if csv.exists():
        raise UserError(f'{csv}: exists already; choose another --out')
    base = configs.get_config(FLAGS.agent).unlock()
    backup = dict(backup_solver='euler', backup_flow_steps=FLAGS.flow_steps)
    base.update(dict(next_action='dataset') | backup)
    dataset, val = _load()
    spec = agents.spec_of(dataset, base.discount)
    key = populations.stream(FLAGS.seed, populations.EVAL_STREAM)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    data = calibration.held_out(
        val, base.chunk_length, base.discount, spec.scale.mean, rng, FLAGS.rows
    )
    everywhere = _returns_of_all_states(dataset, base.discount, len(data.outcomes))
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in [None, *FLAGS.models]:
        if name is None:
            label, losses, distributions = 'distribution over all states', {}, everywhere
        else:
            config = base.copy_and_resolve_references()
            config.update(MODELS[name])
            agents.check(config)
            model = evor.build(config, spec)
            state, losses = train(model, dataset, val)
            label, distributions = name, learned_distributions(model, state, data)
        result, histogram = measure(*distributions, data)
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
    path, val_path = fetching.locate(
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
    """The distribution of the training returns, whatever the state: what a model must beat."""
    values = recorded_returns.completed_returns(dataset, discount)
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
    command.run(main)
