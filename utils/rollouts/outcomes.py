"""What is told of episodes, by how their environment judges them.

Where success is not defined, nothing is said of it. Where reference returns are given, returns are
told on their scale too: 0 is the lower, 100 the upper one, as D4RL's normalised scores are.
"""

from typing import Any

from utils.environments.descriptions import NONE, Environment, name_of
from utils.environments.wrappers import Noise
from utils.models.settings import plain
from utils.rollouts import evaluation
from utils.rollouts.evaluation import Episodes

NORMALISED = 'normalised_return'
# What tasks ask for, see `behaviour_measures`: of mazes, of the cubes and the scene.
WALKED, LIFTED = 'metres_per_5s', 'lifts_per_200_steps'
HALF_WIDTH = '_half_width'
MEASURED = tuple(f'{name}{suffix}' for name in (WALKED, LIFTED) for suffix in ('', HALF_WIDTH))


def conditions(environment: Environment, noise: Noise, settings: Any) -> dict[str, Any]:
    """Returns what an evaluation is played with: columns beside its checkpoint and its outcome."""
    return dict(env_name=name_of(environment)) | noise._asdict() | plain(settings)


def defines_success(environment: Environment) -> bool:
    """Whether episodes of an environment succeed or fail."""
    return isinstance(environment, str) or environment.success != NONE


def summary(episodes: Episodes, environment: Environment) -> dict[str, float]:
    """Returns `evaluation.summary`, as the environment judges."""
    judged = _judged(evaluation.summary(episodes), environment)
    if (references := _references(environment)) is None:
        return judged
    low, high = references
    return judged | {NORMALISED: 100.0 * (judged['episode_return'] - low) / (high - low)}


def rows(
    episodes: Episodes, tags: dict[str, Any], environment: Environment
) -> list[dict[str, Any]]:
    """Returns `evaluation.rows`, as the environment judges."""
    return [_judged(row, environment) for row in evaluation.rows(episodes, tags)]


def in_words(summary: dict[str, float]) -> str:
    """Returns a summary as a person reads it: success with its interval, or returns."""
    if 'success' in summary:
        low, high = summary['success_low'], summary['success_high']
        return f'success {summary["success"]:.2f} [{low:.2f}, {high:.2f}]'
    said = f'return {summary["episode_return"]:.6g}'
    return f'{said}, normalised {summary[NORMALISED]:.1f}' if NORMALISED in summary else said


def _judged(row: dict[str, Any], environment: Environment) -> dict[str, Any]:
    if defines_success(environment):
        return row
    return {name: value for name, value in row.items() if not name.startswith('success')}


def _references(environment: Environment) -> tuple[float, float] | None:
    return None if isinstance(environment, str) else environment.reference_returns
