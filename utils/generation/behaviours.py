"""The behaviour policies of OGBench's datasets, one episode at a time.

They follow the parameters of OGBench's own generation scripts (arXiv 2410.20092), with one
difference: the official scripts never seed, these always do. Every episode is a function of its
seeds alone, so it does not matter which process records it.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np

from utils.environments.envs import seed_everything
from utils.generation import experts

Episode = dict[str, np.ndarray]

# Range of the chance that a cube is put on another one, drawn once per episode.
STACKING = {
    'cube-single': (0.0, 0.0),
    'cube-double': (0.0, 0.25),
    'cube-triple': (0.05, 0.35),
    'cube-quadruple': (0.1, 0.5),
}
DEFAULT_STACKING = (0.5, 0.5)
POINT_ACTION_NOISE = 0.5
EXPERT_ACTION_NOISE = 0.2
STITCH_DISTANCE = 4  # cells between start and goal


class Recording(NamedTuple):
    """One attempt at an episode.

    Attributes:
        episode: arrays with one row per step, or None where the attempt must be repeated.
        plans: number of plans (play) or goals (navigate) that ended within the episode.
        successes: how many of them ended at their goal.
    """

    episode: Episode | None
    plans: int
    successes: int


def make_play_env(env_id: str, max_steps: int) -> gymnasium.Env:
    """Makes a manipulation environment that hands out random targets and never terminates."""
    return gymnasium.make(
        env_id, mode='data_collection', terminate_at_goal=False, max_episode_steps=max_steps
    )


class Walker(NamedTuple):
    """Who walks through a maze.

    Attributes:
        act: (observation, unit direction (2,)) -> action.
        noise: deviation of the Gaussian noise on its actions.
    """

    act: Callable[[np.ndarray, np.ndarray], np.ndarray]
    noise: float


def expert_name(env_id: str) -> str | None:
    """Returns whose expert walks a maze, 'ant' for 'antmaze-large-v0'; None where nobody does.

    Points need no expert, and manipulation environments have plan oracles.
    """
    body, is_maze, _ = env_id.partition('maze')
    return body if is_maze and body != 'point' else None


@functools.cache
def make_walker(env_id: str, folder: Path = experts.FOLDER) -> Walker:
    """Returns the walker of a maze, such as 'antmaze-large-v0'.

    Args:
        env_id: of the maze.
        folder: where its expert lies.

    Raises:
        UserError: its expert's file is missing or damaged.
    """
    name = expert_name(env_id)
    if name is None:
        return Walker(lambda observation, direction: direction, POINT_ACTION_NOISE)
    expert = experts.load(name, folder)
    # An expert never saw where it was, the first two numbers of an observation.
    return Walker(
        lambda observation, direction: expert.action(np.concatenate([observation[2:], direction])),
        EXPERT_ACTION_NOISE,
    )


def make_maze_env(env_id: str, max_steps: int) -> gymnasium.Env:
    """Makes a maze environment that goes on after its goal is reached."""
    return gymnasium.make(env_id, terminate_at_goal=False, max_episode_steps=max_steps)


def _plan_oracles(env: gymnasium.Env, env_id: str) -> dict[str, object]:
    from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
    from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
    from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

    noise = dict(noise=0.1, noise_smoothing=0.5)
    closed = env_id.startswith('puzzle')
    return {
        'cube': CubePlanOracle(env=env, **noise),
        'button': ButtonPlanOracle(env=env, gripper_always_closed=closed, **noise),
        'drawer': DrawerPlanOracle(env=env, **noise),
        'window': WindowPlanOracle(env=env, **noise),
    }


def record_play(env: gymnasium.Env, env_id: str, seeds: np.random.SeedSequence) -> Recording:
    """Records one episode of plan oracles chasing one random target after another.

    Args:
        env: from `make_play_env`.
        env_id: its id, e.g. 'cube-double-v0'.
        seeds: fixes the episode.
    """
    env_seed = seed_everything(seeds)
    observation, info = env.reset(seed=env_seed)
    stacking = np.random.uniform(*STACKING.get(env_id.removesuffix('-v0'), DEFAULT_STACKING))
    oracles = _plan_oracles(env, env_id)
    oracle = oracles[info['privileged/target_task']]
    oracle.reset(observation, info)
    rows, plans, successes, done = _Rows(), 0, 0, False
    while not done:
        action = np.asarray(oracle.select_action(observation, info))
        next_observation, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        rows.add(observation, action, done, info)
        if oracle.done:
            plans += 1
            successes += bool(info['success'])
            # Only the oracle sees the new target: the stored row and the next action's inputs stay
            # those of the step.
            oracle_observation, oracle_info = env.unwrapped.set_new_target(p_stack=stacking)
            oracle = oracles[oracle_info['privileged/target_task']]
            oracle.reset(oracle_observation, oracle_info)
        observation = next_observation
    episode = rows.stack()
    if env_id.startswith('scene') and _cube_left_view(episode):
        episode = None
    return Recording(episode, plans, successes)


def _cube_left_view(episode: Episode) -> bool:
    """Whether the scene's cube was ever behind the drawer's edge, where physics can lose it."""
    _, y, z = episode['qpos'][:, 14:17].T
    behind = (y <= -0.3) & ((z < 0.06) | (z > 0.08))
    return bool(np.any(behind | (y >= 0.29)))


def record_navigate(
    env: gymnasium.Env,
    env_id: str,
    seeds: np.random.SeedSequence,
    expert_folder: Path = experts.FOLDER,
) -> Recording:
    """Records one episode of a walker that gets a new goal whenever it reaches its goal.

    Args:
        env: from `make_maze_env`.
        env_id: its id, e.g. 'antmaze-large-v0'.
        seeds: fixes the episode.
        expert_folder: where the walker's expert lies.

    Raises:
        UserError: the expert's file is missing or damaged.
    """
    env_seed = seed_everything(seeds)
    maze = env.unwrapped
    cells, junctions = free_cells(maze.maze_map)
    start, goal = _pick(cells), _pick(junctions)
    task = _task(maze, start, goal)
    walker = make_walker(env_id, expert_folder)
    return _record_walk(env, walker, env_seed, task, lambda: _pick(junctions))


def record_stitch(env: gymnasium.Env, env_id: str, seeds: np.random.SeedSequence) -> Recording:
    """Records one short walk to a goal `STITCH_DISTANCE` cells away, kept for the whole episode."""
    env_seed = seed_everything(seeds)
    maze = env.unwrapped
    cells, _ = free_cells(maze.maze_map)
    start = _pick(cells)
    distances = cell_distances(maze.maze_map, start)
    reachable = [cell for cell in cells if distances.get(cell) == STITCH_DISTANCE]
    goal = _pick(reachable) if reachable else start
    return _record_walk(env, make_walker(env_id), env_seed, _task(maze, start, goal), None)


def _pick(cells: list[tuple[int, int]]) -> tuple[int, int]:
    return cells[np.random.randint(len(cells))]


def free_cells(maze_map: np.ndarray) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Returns a maze's free cells (0: free, 1: wall), and those that are not straight corridor."""
    cells = [(int(i), int(j)) for i, j in np.argwhere(maze_map == 0)]

    def is_corridor(cell: tuple[int, int]) -> bool:
        i, j = cell
        above, below = maze_map[i - 1, j], maze_map[i + 1, j]
        left, right = maze_map[i, j - 1], maze_map[i, j + 1]
        return above == below and left == right and above != left

    return cells, [cell for cell in cells if not is_corridor(cell)]


def cell_distances(maze_map: np.ndarray, start: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Returns the number of moves from `start` to every free cell that can be reached."""
    distances, frontier = {start: 0}, [start]
    while frontier:
        i, j = frontier.pop(0)
        for cell in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if maze_map[cell] == 0 and cell not in distances:
                distances[cell] = distances[i, j] + 1
                frontier.append(cell)
    return distances


def _task(maze: gymnasium.Env, start: tuple[int, int], goal: tuple[int, int]) -> dict:
    return dict(
        init_ij=start, init_xy=maze.ij_to_xy(start), goal_ij=goal, goal_xy=maze.ij_to_xy(goal)
    )


def _record_walk(
    env: gymnasium.Env,
    walker: Walker,
    env_seed: int,
    task: dict,
    next_goal: Callable[[], tuple[int, int]] | None,
) -> Recording:
    maze = env.unwrapped
    observation, _ = env.reset(seed=env_seed, options=dict(task_info=task))
    rows, goals, done = _Rows(), 0, False
    while not done:
        subgoal, _ = maze.get_oracle_subgoal(maze.get_xy(), maze.cur_goal_xy)
        direction = subgoal - maze.get_xy()
        direction = direction / (np.linalg.norm(direction) + 1e-6)
        action = walker.act(observation, direction)
        action = action + np.random.normal(0.0, walker.noise, action.shape)
        action = np.clip(action, -1.0, 1.0)
        next_observation, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        rows.add(observation, action, done, info)
        if info['success'] and next_goal is not None:
            goals += 1
            maze.set_goal(goal_xy=maze.add_noise(maze.ij_to_xy(next_goal())))
        observation = next_observation
    return Recording(rows.stack(), goals, goals)


class _Rows:
    """Collects steps; each row holds the state *before* its action, as in OGBench's files."""

    def __init__(self):
        self._columns: dict[str, list] = {}

    def add(self, observation, action, done: bool, info: dict) -> None:
        row = dict(
            observations=observation,
            actions=action,
            terminals=done,
            qpos=info['prev_qpos'],
            qvel=info['prev_qvel'],
        )
        if 'prev_button_states' in info:
            row['button_states'] = info['prev_button_states']
        for name, value in row.items():
            self._columns.setdefault(name, []).append(np.array(value))

    def stack(self) -> Episode:
        dtypes = dict(terminals=np.bool_, button_states=np.int64)
        return {
            name: np.stack(column).astype(dtypes.get(name, np.float32))
            for name, column in self._columns.items()
        }
