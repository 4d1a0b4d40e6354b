"""What the benches count and score, against numbers known by hand or by other means."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from benchmarks import phase_tables, profiles, reports, scores, value_training
from tests import recompute
from tests.run_folders import append_evaluation, write_run
from utils.errors import UserError
from utils.jobs import flops
from utils.models import calibration
from utils.statistics import sliced_wasserstein
from utils.storage.metrics import CsvTable

RESULTS = Path(__file__).resolve().parents[1] / 'benchmarks/results'


def test_flops_of_a_product():
    assert flops.count(jnp.matmul, jnp.ones((3, 4)), jnp.ones((4, 5))) == 2 * 3 * 4 * 5


def test_products_that_nothing_needs_are_not_counted():
    def one_of_two(x, w):
        return [x @ w, x @ w.T][0]

    assert flops.count(one_of_two, jnp.ones((3, 4)), jnp.ones((4, 4))) == 2 * 3 * 4 * 4


def test_flops_of_loops_batches_and_gradients():
    matrix = jnp.ones((4, 4))

    def looped(x):
        return jax.lax.fori_loop(0, 7, lambda _, y: y @ matrix, x)

    once = 2 * 3 * 4 * 4
    assert flops.count(jax.jit(looped), jnp.ones((3, 4))) == 7 * once
    assert flops.count(jax.vmap(looped), jnp.ones((5, 3, 4))) == 5 * 7 * once
    # The gradient to both factors: the product itself and one for each.
    loss = jax.grad(lambda x, y: jnp.sum(jnp.square(x @ y)), (0, 1))
    assert flops.count(loss, jnp.ones((3, 4)), matrix) == 3 * once


def test_loops_of_unknown_length_are_refused():
    def looped(n):
        return jax.lax.fori_loop(0, n, lambda _, y: y @ y, jnp.ones((2, 2)))

    with pytest.raises(ValueError, match='not known'):
        flops.count(looped, 3)


def test_crps_of_one_point_is_the_absolute_error():
    points, weights = np.array([[1.0], [1.0]]), np.ones((2, 1))
    np.testing.assert_allclose(calibration.crps(points, weights, np.array([3.0, 0.5])), [2.0, 0.5])


def test_crps_by_hand():
    # Z is 0 or 2 evenly, G = 1: E|Z - G| = 1, E|Z - Z'| = 1.
    points, weights = np.array([[0.0, 2.0]]), np.array([[0.5, 0.5]])
    np.testing.assert_allclose(calibration.crps(points, weights, np.array([1.0])), [0.5])


def test_crps_is_the_integral_of_the_squared_difference_of_distributions():
    rng = np.random.default_rng(0)
    points = np.sort(rng.normal(size=(1, 7)), axis=1)
    weights = rng.dirichlet(np.ones(7))[None]

    def integrand(x):
        return (np.sum(weights * (points <= x)) - (x >= 0.3)) ** 2

    expected, _ = integrate.quad(integrand, -10, 10, points=[*points[0], 0.3], limit=200)
    result = calibration.crps(points, weights, np.array([0.3]))
    np.testing.assert_allclose(result, [expected], atol=1e-6)


@pytest.mark.parametrize('distribution', ['gaussian', 'two atoms'])
def test_pit_of_the_right_distribution_is_uniform(distribution):
    rng, rows = np.random.default_rng(1), 4000
    if distribution == 'gaussian':
        points = np.tile(stats.norm.ppf((np.arange(200) + 0.5) / 200) * 5, (rows, 1))
        weights, outcomes = np.full(points.shape, 1 / 200), rng.normal(size=rows) * 5
    else:
        points, weights = np.tile([0.0, 10.0], (rows, 1)), np.tile([0.7, 0.3], (rows, 1))
        outcomes = np.where(rng.uniform(size=rows) < 0.7, 0.0, 10.0)
    pit = calibration.jittered_pit(points, weights, outcomes, 0.5, 0)
    assert stats.kstest(pit, 'uniform').pvalue > 0.01
    wrong = calibration.jittered_pit(points + 3.0, weights, outcomes, 0.5, 0)
    assert stats.kstest(wrong, 'uniform').pvalue < 1e-6


def test_clustered_intervals_know_that_trajectories_are_few():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(20), 50)
    values = rng.normal(size=20)[clusters]
    low, high = calibration.clustered_interval(values, clusters, 0)
    assert low < values.mean() < high
    assert high - low > 4 * np.std(values) / np.sqrt(len(values))  # as if rows were independent


def test_sliced_wasserstein_of_a_shift():
    """Along a direction u the distance is |u . shift|, whose mean over a circle is 2 / pi."""
    points = np.random.default_rng(0).normal(size=(500, 2))
    shifted = points + np.array([3.0, 0.0])
    distance = sliced_wasserstein(points, shifted, np.random.default_rng(1), 2000)
    assert distance == pytest.approx(3.0 * 2.0 / np.pi, rel=0.03)
    assert sliced_wasserstein(points, points, np.random.default_rng(1)) == 0.0


def test_quantiles_of_a_weighted_distribution():
    points, weights = np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.25, 0.25])
    levels = np.array([0.1, 0.49, 0.51, 0.74, 0.76, 0.99])
    expected = [1.0, 1.0, 2.0, 2.0, 4.0, 4.0]
    np.testing.assert_array_equal(value_training.quantiles(points, weights, levels), expected)


def test_scores_take_the_last_evaluation_of_every_seed(tmp_path):
    folder = write_evaluated(tmp_path, {0: {100: 0.1, 200: 0.5}, 1: {100: 0.1, 200: 1.0}})
    row = scores.success(folder)
    assert (row['success'], row['episodes'], row['updates']) == (0.75, 20, 200)
    assert row['seeds'] == '0.50 1.00'
    # Two seeds say nothing of a third: 12.7 standard errors of 0.25 to each side.
    assert (row['success_low'], row['success_high']) == (0.0, 1.0)


def write_evaluated(save_dir, rates, **changes):
    """Writes a run for every seed, with these rates of ten episodes by step; returns the folder."""
    for seed, by_step in rates.items():
        directory = write_run(save_dir, seeds=(seed,), evaluated=())
        record = json.loads((directory / 'config.json').read_text())
        (directory / 'config.json').write_text(json.dumps(record | changes))
        for step, rate in by_step.items():
            append_evaluation(directory, dict(step=step, seed=seed), np.arange(10) < 10 * rate)
    return directory.parent


def test_seeds_that_stopped_at_different_updates_are_not_averaged(tmp_path):
    folder = write_evaluated(tmp_path, {0: {10_000: 0.5}, 1: {5_000: 0.5}})
    with pytest.raises(UserError, match='are of 5000 to 10000 updates'):
        scores.success(folder)


def test_scores_are_of_one_experiment_without_what_came_online(tmp_path):
    online = dict(online=dict(after=100, share=0.5))
    folder = write_evaluated(tmp_path, {0: {100: 0.2, 200: 1.0}}, **online)
    assert (scores.success(folder)['success'], scores.success(folder)['updates']) == (0.2, 100)
    write_evaluated(tmp_path, {1: {100: 0.2}}, action_noise=0.2)
    with pytest.raises(UserError, match=r'but action_noise is .* there and'):
        scores.success(folder)


def test_the_committed_comparison_has_the_intervals_of_its_seeds():
    rows = CsvTable(RESULTS / 'comparison.csv').read()
    assert {len(row['seeds'].split()) for row in rows} == {1, 3}
    for row in rows:
        rates = [float(rate) for rate in row['seeds'].split()]
        total = int(row['episodes']) // len(rates)
        wins = [round(rate * total) for rate in rates]
        assert wins == pytest.approx([rate * total for rate in rates])
        expected = recompute.over_seeds(wins, [total] * len(rates))
        shown = [float(row[name]) for name in ('success', 'success_low', 'success_high')]
        np.testing.assert_allclose(shown, expected, atol=1e-9)


def test_the_committed_comparison_is_printed_from_its_rows():
    rows = CsvTable(RESULTS / 'comparison.csv').read()
    texts = ('config', 'updates', 'seeds', 'episodes')
    numbers = [
        {name: value if name in texts else float(value) for name, value in row.items()}
        | dict(parameters=int(row['parameters']))
        for row in rows
    ]
    text = reports.comparison_table(numbers)
    assert text == (RESULTS / 'comparison.md').read_text()
    assert 't interval' in text
    assert 'of this agent' in text


def test_the_best_model_of_a_process_is_bold_and_named():
    common = dict(process='uniform', query=0, updates=10, true_std=0.5, parameters=1)
    common |= dict(mflop_per_update=1.0, ms_per_update=1.0, mean_error=0.0, soft_error_1=np.nan)
    rows = [
        common | dict(model=model, seed=seed, wasserstein=error + 0.01 * seed)
        for model, error in (('velocity', 0.3), ('C51', 0.1))
        for seed in (0, 1)
    ]
    for flow in ('coupled, lam 0', 'coupled, lam 0.5', 'coupled, lam 1'):
        rows += [common | dict(model=flow, seed=seed, wasserstein=0.4) for seed in (0, 1)]
    text = reports.return_distribution_tables(rows, 'ten updates')
    assert '**0.105 [0.100, 0.110]**' in text
    assert '| uniform | velocity: 0.305 | C51: 0.105 | loses |' in text
    assert 'infinite' in text


def test_every_operation_of_a_program_has_its_kind():
    def trained(x, w):
        with jax.named_scope('LayerNorm_0'):
            x = jnp.exp(x - jnp.mean(x, axis=1, keepdims=True))
        with jax.named_scope('optimizer'):
            return jax.lax.fori_loop(0, 3, lambda _, w: jnp.sqrt(w), w), x @ w

    program = jax.jit(trained).lower(jnp.ones((8, 8)), jnp.ones((8, 8))).compile().as_text()
    kinds = profiles.kinds_of_operations(program)
    assert {'products', 'layer normalisation', 'optimiser and target'} <= set(kinds.values())
    assert [kind for name, kind in kinds.items() if name.startswith('dot')] == ['products']
    assert re.search(r'%(\S+) = .* while\(', program)[1] not in kinds


def test_moments_are_shared_by_the_operations_in_progress():
    def event(name, start, end):
        return SimpleNamespace(name=name, start_ns=start, end_ns=end)

    events = [event('a', 0, 4), event('b', 2, 4), event('b', 6, 10), event('other', 0, 100)]
    shares = profiles.shares(events, {'a': profiles.PRODUCTS, 'b': profiles.REST})
    expected = {profiles.PRODUCTS: 0.3, profiles.REST: 0.5, profiles.WAITING: 0.2}
    assert {name: share for name, share in shares.items() if share} == pytest.approx(expected)


def test_five_tasks_by_phases_against_five_runs_of_one_loop():
    """300,000 updates of 1 ms, 3,600,000 states of 1 ms, a million updates of 10; five of 40."""
    updates = [
        dict(size='small', what='base policy', m=0, tasks=1, ms_per_update=1.0),
        dict(size='small', what='qc, values', m=8, tasks=5, ms_per_update=10.0),
        dict(size='small', what='qc, one loop', m=8, tasks=1, ms_per_update=40.0),
    ]
    updates = [row | dict(gflop_per_update=1.0) for row in updates]
    pools = [dict(size='small', ms_per_state=1.0)]
    text = phase_tables.tables(dict(updates=updates, pools=pools, rows=3_600_000))
    hours = 1.0, (300 + 3600 + 10_000) / 3600, 5 * 40_000 / 3600
    cells = [f'{hour:.1f}' for hour in hours]
    assert f'| small | qc | 8 | {" | ".join(cells)} | {hours[1] / hours[2]:.2f} |' in text
