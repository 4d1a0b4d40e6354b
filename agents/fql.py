"""FQL: flow Q-learning (arXiv 2502.02538).

A flow policy imitates the data. A one-step student maps noise to an action: it is distilled from
the flow policy, which carries the same noise in many steps, and pulled up the critics. The student
acts, both in the backup and at evaluation.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from agents.interface import Decision, Spec
from agents.settings import COMMON, VALUE_AGGREGATION
from utils.data.datasets import Batch
from utils.models import base_policy, critics, networks, returns, train_state
from utils.models.networks import MLP, VelocityField
from utils.models.returns import ReturnMap
from utils.models.settings import Declared, Setting, at_least, positive, switch
from utils.models.train_state import Params, TrainState

Metrics = dict[str, jax.Array]

# None is of inference: the student answers in one step.
SETTINGS: Declared = COMMON | dict(
    num_value_nets=Setting(2, at_least(1), 'critics'),
    value_aggregation=VALUE_AGGREGATION,
    flow_steps=Setting(10, at_least(1), 'Euler steps of the flow policy that is distilled'),
    alpha=Setting(
        10.0,
        positive,
        'weight of the distillation against the critics, in units of the return; it must fit the '
        'environment, see the named configs',
    ),
    normalize_q_loss=Setting(False, switch, 'whether to divide the critics by their mean size'),
)
SHARED = ('policy',)


class Model(NamedTuple):
    """What does not change during training."""

    config: ConfigDict
    spec: Spec
    policy_net: VelocityField
    student_net: MLP
    critic_net: MLP
    tx: optax.GradientTransformation


def build(config: ConfigDict, spec: Spec) -> Model:
    """Returns the networks and the optimiser of a config."""
    chunk_dim = config.chunk_length * spec.action_dim
    return Model(
        config=config,
        spec=spec,
        policy_net=networks.policy_field(config, spec.action_dim),
        student_net=networks.mlp(config, chunk_dim, config.policy_layer_norm),
        critic_net=networks.critic(config),
        tx=optax.adam(config.lr),
    )


@struct.dataclass
class State:
    """Everything that training changes, and the scale that its values are in."""

    policy: TrainState
    student: TrainState
    critic: TrainState
    returns: ReturnMap


def student_actions(
    model: Model, params: Params, observations: jax.Array, a_0: jax.Array
) -> jax.Array:
    """The student's unclipped actions, (n, h * action_dim), from noise of that shape."""
    return model.student_net.apply(params, jnp.concatenate([observations, a_0], axis=-1))


def critic_targets(model: Model, state: State, batch: Batch, key: jax.Array) -> jax.Array:
    """R + g Q_bar(x', student's action), (batch,), in the net's units."""
    a_0 = jax.random.normal(key, (batch.rewards.shape[0], model.student_net.output_dim))
    next_actions = student_actions(model, state.student.params, batch.next_observations, a_0)
    next_values = critics.values(
        model.critic_net,
        state.critic.target_params,
        batch.next_observations,
        jnp.clip(next_actions, -1.0, 1.0),
    )
    next_value = critics.aggregate(next_values, model.config.value_aggregation)
    return critics.td_targets(state.returns, batch, next_value, model.config.clip_returns)


def student_loss(
    model: Model, state: State, params: Params, batch: Batch, key: jax.Array
) -> tuple[jax.Array, Metrics]:
    """Alpha || student - flow policy ||^2 - Q(x, student), both from the same noise.

    With `normalize_q_loss` the second term is divided by the mean size of Q.
    """
    config = model.config
    observations = batch.observations
    a_0 = jax.random.normal(key, (observations.shape[0], model.student_net.output_dim))
    taught = base_policy.transport(
        model.policy_net, state.policy.params, observations, a_0, config.flow_steps
    )
    actions = student_actions(model, params, observations, a_0)
    distillation = jnp.mean(jnp.square(actions - jax.lax.stop_gradient(taught)))
    values = critics.values(
        model.critic_net, state.critic.params, observations, jnp.clip(actions, -1.0, 1.0)
    )
    values = jnp.mean(values, axis=0)
    scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(values))) if config.normalize_q_loss else 1.0
    loss = config.alpha * distillation - jnp.mean(values) / scale
    return loss, {'student_loss': loss, 'distillation_loss': distillation}


def init(model: Model, key: jax.Array) -> State:
    """Returns the untrained state."""
    policy_key, student_key, critic_key = jax.random.split(key, 3)
    spec, config = model.spec, model.config
    input_dim = spec.observation_dim + model.student_net.output_dim
    student = model.student_net.init(student_key, jnp.zeros((1, input_dim)))
    critic = critics.init(model.critic_net, critic_key, input_dim, config.num_value_nets)
    policy = base_policy.init(model.policy_net, policy_key, spec.observation_dim)
    return State(
        policy=train_state.create(policy, model.tx, with_target=False),
        student=train_state.create(student, model.tx, with_target=False),
        critic=train_state.create(critic, model.tx, with_target=True),
        returns=returns.create(config.return_map, spec.scale),
    )


def update(model: Model, state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One optimiser step of the flow policy, its student and the critics."""
    policy_key, student_key, next_key = jax.random.split(key, 3)
    targets = critic_targets(model, state, batch, next_key)
    policy, metrics = base_policy.update(
        model.policy_net, state.policy, batch, policy_key, model.tx
    )
    student, student_metrics, student_norm = train_state.descend(
        state.student,
        lambda params: student_loss(model, state, params, batch, student_key),
        model.tx,
    )
    critic, critic_metrics, critic_norm = train_state.descend(
        state.critic,
        lambda params: critics.loss(model.critic_net, state.returns, params, batch, targets),
        model.tx,
        model.config.tau,
    )
    metrics |= student_metrics | critic_metrics
    metrics |= {'student_grad_norm': student_norm, 'value_grad_norm': critic_norm}
    return state.replace(policy=policy, student=student, critic=critic), metrics


def diagnose(model: Model, state: State, batch: Batch, key: jax.Array) -> Metrics:
    """All losses on a held-out batch, without a step."""
    policy_key, student_key, next_key = jax.random.split(key, 3)
    targets = critic_targets(model, state, batch, next_key)
    _, metrics = critics.loss(model.critic_net, state.returns, state.critic.params, batch, targets)
    _, student_metrics = student_loss(model, state, state.student.params, batch, student_key)
    policy_metrics = base_policy.diagnose(model.policy_net, state.policy, batch, policy_key)
    return metrics | student_metrics | policy_metrics


def act(
    model: Model, state: State, observations: jax.Array, key: jax.Array, settings: Any
) -> Decision:
    """The student's action chunk for each of (n, observation_dim) observations."""
    del settings
    a_0 = jax.random.normal(key, (observations.shape[0], model.student_net.output_dim))
    actions = student_actions(model, state.student.params, observations, a_0)
    return Decision.unweighed(jnp.clip(actions, -1.0, 1.0), model.config.chunk_length)
