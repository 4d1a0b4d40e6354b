import functools

import numpy as np
import pytest

from tests.helpers import compiled, random_arrays, random_state, small_agent
from utils.data import datasets
from utils.jobs import value_checks


@functools.cache
def agent_of(name='evor', n_pi=6, **changes):
    plain = small_agent(name, hidden_dims=(16,), n_pi=n_pi, **changes)
    return compiled(plain), random_state(plain, seed=n_pi)


def quarters(other_agent, other, own=None):
    val = datasets.build(random_arrays())
    return value_checks.quarters(*(own or agent_of()), other_agent, other, val, 0, 40)


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
    seen = {}
    agent, own_state = agent_of()
    other, state = agent_of(name, n_pi=3)

    def own_act(*arguments):
        decision = agent.act(*arguments)
        seen['weighed'] = decision.candidates[:, :, 0]
        return decision

    def act(*arguments):
        *_, seen['given'] = arguments
        return other.act(*arguments)

    own = agent._replace(act=own_act), own_state
    rows = quarters(other._replace(act=act), state, own)
    assert all(abs(row['agreement']) < 1.0 for row in rows)
    np.testing.assert_array_equal(seen['given'], seen['weighed'])


@pytest.mark.parametrize(('q_scale', 'factor'), [('linear', 0.5), ('log', 1.0)])
def test_the_spread_is_in_the_unit_of_the_temperature(q_scale, factor):
    """What values are above the least return, -10, is halved: no ratio of candidates changes."""
    agent, state = agent_of(q_scale=q_scale)

    def halved(*arguments):
        decision = agent.act(*arguments)
        return decision.replace(values=-10.0 + 0.5 * (decision.values + 10.0))

    before, after = (
        [row['spread'] for row in quarters(agent, state, (own, state))]
        for own in (agent, agent._replace(act=halved))
    )
    np.testing.assert_allclose(after, factor * np.array(before), rtol=1e-4)


def test_quarters_go_from_the_least_to_the_most_valuable():
    values = [row['value'] for row in quarters(*agent_of())]
    assert values == sorted(values)
