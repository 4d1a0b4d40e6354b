"""What is trained: parameters, their slow copy and the optimiser's state."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

Params = Any


@struct.dataclass
class TrainState:
    """Parameters of one model under training.

    Attributes:
        params: optimised parameters.
        target_params: their Polyak average, of the same structure; None where nothing bootstraps.
        opt_state: state of the optax optimiser.
    """

    params: Params
    target_params: Params | None
    opt_state: optax.OptState


def create(params: Params, tx: optax.GradientTransformation, with_target: bool) -> TrainState:
    """Returns a fresh state; the target starts as a copy, so that buffers can be donated."""
    target_params = jax.tree.map(jnp.copy, params) if with_target else None
    return TrainState(params, target_params, tx.init(params))


def apply_gradients(
    state: TrainState, grads: Params, tx: optax.GradientTransformation, tau: float = 0.0
) -> TrainState:
    """Returns the state after one optimiser step and one Polyak step of the target.

    Args:
        state: the state before.
        grads: gradients, structured like `state.params`.
        tx: the optimiser that made `state.opt_state`.
        tau: Polyak step size; unused where there is no target.
    """
    with jax.named_scope('optimizer'):
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        target_params = state.target_params
        if target_params is not None:
            target_params = optax.incremental_update(params, target_params, tau)
    return TrainState(params, target_params, opt_state)


def descend(
    state: TrainState, objective: Callable, tx: optax.GradientTransformation, tau: float = 0.0
) -> tuple[TrainState, dict[str, jax.Array], jax.Array]:
    """One step down an objective.

    Args:
        state: the state before.
        objective: params -> (loss, metrics).
        tx: the optimiser that made `state.opt_state`.
        tau: Polyak step size; unused where there is no target.

    Returns:
        The state after, the objective's metrics and the norm of its gradient.
    """
    grads, metrics = jax.grad(objective, has_aux=True)(state.params)
    # No parameter changes before all gradients are there: the compiler need not keep copies of it.
    grads = jax.lax.optimization_barrier(grads)
    with jax.named_scope('grad_norm'):
        grad_norm = optax.tree.norm(grads)
    return apply_gradients(state, grads, tx, tau), metrics, grad_norm
