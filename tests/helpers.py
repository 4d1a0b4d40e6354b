"""Small agents, datasets and files that several tests share."""

import contextlib
import os
import resource

import jax
import jax.numpy as jnp
import numpy as np

import agents
import configs
from utils.data import datasets
from utils.models import returns
from utils.models.returns import ReturnScale
from utils.models.train_state import TrainState

SMALL = dict(
    hidden_dims=(16, 16),
    flow_steps=3,
    backup_flow_steps=3,
    num_return_samples=4,
    n_pi=4,
    batch_size=32,
)
# Of `random_arrays`, whose rewards lie in [-1, 0], at a discount of 0.9.
RETURN_BOUNDS = (-10.0, 0.0)


def small_config(name='evor', **changes):
    """A config with tiny nets; what `SMALL` names and the config lacks stays out of it."""
    config = configs.get_config(name)
    config.update({key: value for key, value in SMALL.items() if key in config} | changes)
    return config


def small_agent(
    name='evor',
    observation_dim=3,
    action_dim=2,
    return_mean=0.0,
    return_std=1.0,
    bounds=RETURN_BOUNDS,
    **changes,
):
    """A tiny agent of a named config."""
    spec = agents.Spec(observation_dim, action_dim, ReturnScale(return_mean, return_std, *bounds))
    return agents.create(small_config(name, **changes), spec)


def model_of(agent):
    """The networks and settings that an agent's functions are bound to."""
    return agent.act.args[0]


def compiled(agent):
    """The agent with compiled functions: op by op, a test would spend its time on compiling."""
    functions = {name: getattr(agent, name) for name in ('init', 'update', 'diagnose', 'act')}
    return agent._replace(**{name: jax.jit(function) for name, function in functions.items()})


def random_params(init, seed):
    """Random parameters of the size that `init` would draw; nothing is compiled."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = getattr(path[-1], 'key', None)
        if name == 'kernel':
            return np.float32(rng.normal(0.0, leaf.shape[-2] ** -0.5, leaf.shape))
        return np.float32(rng.normal(1.0 if name == 'scale' else 0.0, 0.1, leaf.shape))

    return jax.tree.map_with_path(draw, jax.eval_shape(init, jax.random.key(0)))


def random_state(agent, seed=0):
    """A fresh state of random parameters, whose target nets are not copies of the nets."""
    shapes = jax.eval_shape(agent.init, jax.random.key(0))
    model = model_of(agent)

    def fresh(random, shapes):
        if not isinstance(random, TrainState):
            return random
        opt_state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes.opt_state)
        return random.replace(opt_state=opt_state)

    state = jax.tree.map(
        fresh,
        random_params(agent.init, seed),
        shapes,
        is_leaf=lambda part: isinstance(part, TrainState),
    )
    return state.replace(returns=returns.create(model.config.return_map, model.spec.scale))


def random_arrays(lengths=(30, 20, 25), observation_dim=3, action_dim=2, seed=0):
    """Arrays in OGBench's format with rewards of their own; `lengths` are rows per trajectory."""
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    terminals = np.zeros(rows, bool)
    terminals[np.cumsum(lengths) - 1] = True
    masks = (rng.uniform(size=rows) > 0.1).astype(np.float32)
    return dict(
        observations=rng.normal(size=(rows, observation_dim)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(rows, action_dim)).astype(np.float32),
        terminals=terminals,
        rewards=masks - 1.0,
        masks=masks,
    )


sample = jax.jit(datasets.sample, static_argnums=(2, 3, 4, 5, 6, 7))


def random_batch(key, chunk_length=1, size=32, n_step=0):
    """Chunks of `random_arrays`, some of them cut."""
    return sample(datasets.build(random_arrays()), key, size, chunk_length, n_step, 0.9, True)


def batch_by_hand(**changes):
    """Two transitions, 1 -> 2 and -1 -> 4, with states and actions of one number."""
    fields = dict(
        observations=column(1.0, -1.0),
        actions=column(0.0, 0.0)[..., None],
        action_mask=jnp.ones((2, 1)),
        rewards=jnp.array([1.0, 0.0]),
        discounts=jnp.array([0.5, 0.0]),
        next_observations=column(2.0, 4.0),
        next_actions=column(0.0, 0.0)[..., None],
        td_mask=jnp.ones(2),
    )
    return datasets.Batch(**(fields | changes))


def column(*values):
    """Numbers one below the other, (n, 1)."""
    return jnp.array(values)[:, None]


def member_of(params, index):
    """Parameters of one member of an ensemble."""
    return jax.tree.map(lambda leaf: leaf[index], params)


@contextlib.contextmanager
def largest_file(size):
    """A disk with room for files of `size` bytes: further writes fail, also in new processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def unprivileged():
    """Not root, who may write anywhere, but nobody."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
