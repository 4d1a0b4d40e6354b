import functools

import numpy as np
import pytest

from tests.helpers import compiled, random_arrays, random_state, small_agent
from utils.data import datasets
from utils.jobs import value_checks


@functools.cache
def agent_of(name='evor', n_pi=6):
    plain = small_agent(name, hidden_dims=(16,), n_pi=n_pi)
    return compiled(plain), random_state(plain, seed=n_pi)


def quarters(other_agent, other):
    val = datasets.build(random_arrays())
    return value_checks.quarters(*agent_of(), other_agent, other, val, 0, 40)


def agreement(other_agent, other):
    return [row['agreement'] for row in quarters(other_agent, other)]


def opposite(act):
    def acts(*arguments):
        decision = act(*arguments)
        return decision.replace(values=-decision.values)

    return acts


def test_values_agree_with_themselves_and_not_with_their_opposite():
    agent, state = agent_of()
    np.testing.assert_allclose(agreement(agent, state), 1.0)
    against = agent._replace(act=opposite(agent.act))
    np.testing.assert_allclose(agreement(against, state), -1.0)


@pytest.mark.parametrize('name', ['qc1', 'ifql'])
def test_another_agent_values_the_same_candidates(name):
    """Whatever its base policy and however many candidates it would draw."""
    given = {}
    other, state = agent_of(name, n_pi=3)

    def act(*arguments):
        *_, given['candidates'] = arguments
        return other.act(*arguments)

    rows = quarters(other._replace(act=act), state)
    assert all(abs(row['agreement']) < 1.0 for row in rows)
    assert given['candidates'].shape == (40, 6, 2)


def test_quarters_go_from_the_least_to_the_most_valuable():
    values = [row['value'] for row in quarters(*agent_of())]
    assert values == sorted(values)
