"""What is computed block by block is what is computed at once."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from tests.helpers import random_state, small_agent
from utils.models import blocks


@pytest.fixture
def set_rows(monkeypatch):
    """Sets how many rows are evaluated at a time, whatever the device."""

    def set_to(rows):
        for name in ('CPU_ROWS', 'ACCELERATOR_ROWS'):
            monkeypatch.setattr(blocks, name, rows)

    return set_to


@pytest.mark.parametrize('rows', [0, 1, 6, 7, 12, 13])
def test_every_row_is_mapped_once_and_in_order(set_rows, rows):
    set_rows(18)
    x, y = np.arange(2.0 * rows).reshape(rows, 2), np.arange(1.0 * rows)

    def function(x, y):
        chex.assert_shape((x, y), [(2,), ()])
        return x[:1] * y, y + 1.0

    product, successor = blocks.map_rows(function, x, y, evaluations=3)
    np.testing.assert_array_equal(product, x[:, :1] * y[:, None])
    np.testing.assert_array_equal(successor, y + 1.0)


def test_no_more_rows_are_evaluated_at_a_time_than_a_block_has(set_rows):
    set_rows(18)
    function = partial(blocks.map_rows, lambda row: jnp.ones((3, 5)) @ row, evaluations=3)
    shapes = {
        equation.outvars[0].aval.shape
        for equation in _equations(jax.make_jaxpr(function)(jnp.ones((14, 5))).jaxpr)
        if equation.primitive.name == 'dot_general'
    }
    assert {np.prod(shape) for shape in shapes} == {18, 6}  # 6 rows of the 14 at a time, then 2


@pytest.mark.parametrize(
    'changes',
    [dict(name='evor', value_model='categorical', num_return_samples=1), dict(name='qc5')],
    ids=['evor', 'qc5'],
)
def test_all_members_of_an_ensemble_count_as_rows(set_rows, key, changes):
    """They are evaluated together, so that a block of each of them would be too large a one."""
    set_rows(12)
    agent = small_agent(**changes, n_pi=3, num_value_nets=2)
    observations = jnp.zeros((7, 3))
    jaxpr = jax.make_jaxpr(agent.act)(random_state(agent), observations, key, agent.settings).jaxpr
    sizes = [
        np.prod(equation.outvars[0].aval.shape[:-1])
        for equation in _equations(jaxpr)
        if equation.primitive.name == 'dot_general'
    ]
    assert max(sizes) == 12


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in core.jaxprs_in_params(equation.params):
            yield from _equations(inner)


@pytest.mark.parametrize(
    'changes',
    [
        dict(name='evor', n_pi=5, num_return_samples=3, num_value_nets=2),
        dict(name='evor', n_pi=5, num_return_samples=3, value_net='trunk'),
        dict(name='evor', n_pi=5, value_model='implicit_quantile'),
        dict(name='evor', n_pi=5, num_return_samples=1, value_model='categorical'),
        dict(name='qc5', n_pi=5),
        dict(name='ifql', n_pi=5),
    ],
    ids=lambda changes: ' '.join(map(str, changes.values())),
)
def test_acting_does_not_depend_on_the_blocks(set_rows, key, changes):
    agent = small_agent(**changes, hidden_dims=(16,))
    observations = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)

    def act(rows):
        set_rows(rows)
        return jax.jit(agent.act)(random_state(agent), observations, key, agent.settings)

    whole = act(1000)
    for rows in (4, 20):
        chex.assert_trees_all_close(act(rows), whole, rtol=1e-5, atol=1e-5)
