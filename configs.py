"""Named configs. `--agent=configs.py:NAME` picks one of `CONFIGS`.

The defaults, with words for each setting, are declared with the agents: `SETTINGS` in agents/.

`NAME` is at its paper's size; `NAME_small` is for a laptop: 3 x 256 nets with layer normalisation,
four Euler steps, 16 candidates, standardised returns; names with 25 have values of a laptop's size
on a base policy of the paper's. Temperatures are in deviations of the dataset's return where
`return_map` is 'affine', in units of reward where it is 'none'.

`SUITES`, at the end, are sets of runs, for `scripts/sweep.py`.
"""

from collections.abc import Callable, Collection
from functools import partial

from ml_collections import ConfigDict

import agents
from utils.errors import UserError, did_you_mean
from utils.sweeps.suites import Suite

INF = float('inf')


def _config(agent_name: str, **settings: object) -> ConfigDict:
    """Returns the config of an agent: the defaults that it declares, with some of them changed.

    Raises:
        UserError: the agent has no such setting.
    """
    defaults = agents.defaults(agent_name)
    for name in settings.keys() - defaults:
        raise UserError(f'configs.py: {agent_name} has no setting {name}')
    return ConfigDict(dict(agent_name=agent_name) | defaults | settings)


evor, qc, fql, ifql, iql, bc = (
    partial(_config, name) for name in ('evor', 'qc', 'fql', 'ifql', 'iql', 'bc')
)


# Where the whole distribution is at hand there is nothing to sample.
EXACT = dict(num_return_samples=1)
SMALL = dict(hidden_dims=(256, 256, 256), policy_layer_norm=True)
SMALL_FLOW = SMALL | dict(flow_steps=4)
# EVOR beyond the paper: chunks of five actions, the distribution-keeping target, the data's own
# next action, the mean read in one step.
EVOR5 = dict(td_target='coupled', next_action='dataset', chunk_length=5)
EVOR5 |= dict(num_return_samples=32, return_flow_steps=1, tau_r=INF)
# The same for a laptop. tau_q was chosen on task 1 of cube-single and of scene, three seeds each
# (docs/results/temperature.md); 32 return samples on agents of earlier versions, on cube-single.
SMALL_EVOR = SMALL_FLOW | EVOR5 | dict(backup_flow_steps=4, n_pi=16)
SMALL_QC = SMALL_FLOW | dict(backup_candidates=4, n_pi=16)
POOL = dict(frozen_policy=True, backup_candidates=8)
EVOR_POOL = POOL | EXACT | dict(chunk_length=5, num_value_nets=2, backup_return_samples=1)
EVOR_POOL |= dict(tau_q=0.0, tau_r=INF)
# Small values learn on a wide base policy what large ones do, not on a small one; four of its Euler
# steps do what ten do (docs/results/cube-double.md, antmaze.md).
WIDE = dict(hidden_dims=(256, 256, 256), policy_hidden_dims=(512, 512, 512, 512), num_pool=16)
WIDE |= dict(flow_steps=4)
# For mazes: single actions, several steps of the data's rewards, the data's next action
# (docs/results/antmaze.md).
MAZE = dict(chunk_length=1, n_step=25, next_action='dataset', backup_candidates=1)
# The distribution-keeping target at a fraction of the cost: see the benches of steps and of
# throughput.
TRUNK = dict(td_target='coupled', value_net='trunk', return_solver='midpoint', return_flow_steps=1)
POOL_FLOW = dict(td_target='coupled', return_noise='quadrature', return_flow_steps=1)

CONFIGS: dict[str, Callable[[], ConfigDict]] = {
    'evor': evor,
    # The paper's EVOR with the target that keeps the return's distribution, and nothing else
    # changed.
    'evor_coupled': partial(evor, td_target='coupled'),
    # What won at laptop size (docs/results/before-the-audit.md), at the paper's.
    'evor5': partial(evor, **EVOR5),
    'evor_trunk': partial(evor, **TRUNK),
    'evor_scalar': partial(evor, value_model='scalar', num_value_nets=2, **EXACT),
    'evor_c51': partial(evor, value_model='categorical', **EXACT),
    'evor_qr': partial(evor, value_model='quantile', **EXACT),
    'evor_iqn': partial(evor, value_model='implicit_quantile'),
    'qc1': qc,
    'qc5': partial(qc, chunk_length=5),
    # As released: returns as they are; the command for single actions backs up the best of four.
    'qc1_plain': partial(qc, return_map='none'),
    'qc5_plain': partial(qc, chunk_length=5, return_map='none'),
    'qc1_best_of_4': partial(qc, backup_candidates=4),
    'fql': fql,
    'ifql': ifql,
    'iql': iql,
    'bc': bc,
    # Settings of the FQL paper for an environment, from the commands of its released code.
    'fql_antmaze': partial(fql, alpha=10.0, value_aggregation='min'),
    'fql_cube': partial(fql, alpha=300.0),
    'fql_scene': partial(fql, alpha=300.0),
    'fql_puzzle': partial(fql, alpha=1000.0),
    'iql_cube': partial(iql, alpha=1.0),  # cube-single
    'iql_cube_double': partial(iql, alpha=0.3),
    # Values learned on candidates of a frozen base policy, with the best of eight in the backup.
    # The value model differs, and whose nets pick in the backup (`backup_picker`).
    'qc5_pool': partial(qc, **POOL, chunk_length=5),
    'evor5_pool': partial(evor, **EVOR_POOL | POOL_FLOW),
    'evor5_pool_c51': partial(evor, **EVOR_POOL, value_model='categorical'),
    'qc5_pool_small': partial(qc, **SMALL_FLOW | POOL, chunk_length=5, n_pi=16),
    'evor5_pool_small': partial(evor, **SMALL_FLOW | EVOR_POOL | POOL_FLOW, n_pi=16),
    'evor5_pool_c51_small': partial(
        evor, **SMALL_FLOW | EVOR_POOL, value_model='categorical', n_pi=16
    ),
    # Laptop-sized.
    'evor_small': partial(evor, **SMALL_EVOR),
    # For mazes: an ant learns to walk by single actions first, and no value brings it to a goal
    # that its base policy cannot walk to. In antmaze-large, after 7,500 and 30,000 updates, single
    # actions walked 2.17 and 3.74 m per 5 s (50 steps), chunks of five 1.11 and 2.10; the data does
    # 5.05, and task 1 needs 3.0 (scripts/check_policy.py reports these).
    'evor_maze_small': partial(evor, **SMALL_EVOR | dict(chunk_length=1)),
    # The paper's choices: `velocity`, single actions, the base policy's next action, tau_r=1.
    'evor_paper_small': partial(
        evor, **SMALL_FLOW, backup_flow_steps=4, return_flow_steps=4, n_pi=16
    ),
    'evor_backup_small': partial(
        evor,
        **SMALL_EVOR | dict(next_action='policy', backup_candidates=4, backup_return_samples=4),
    ),
    'evor_scalar_small': partial(
        evor, **SMALL_EVOR | EXACT | dict(value_model='scalar', num_value_nets=2)
    ),
    'evor_c51_small': partial(evor, **SMALL_EVOR | EXACT | dict(value_model='categorical')),
    # The same for mazes: several steps of reward, atoms in time (docs/results/atoms.md).
    'evor_c51_maze_small': partial(
        evor, **SMALL_EVOR | EXACT | dict(value_model='categorical', n_step=25, atom_steps=1000)
    ),
    'evor_qr_small': partial(evor, **SMALL_EVOR | EXACT | dict(value_model='quantile')),
    'qc1_small': partial(qc, **SMALL_QC),
    'qc5_small': partial(qc, **SMALL_QC, chunk_length=5),
    'fql_small': partial(fql, **SMALL_FLOW, return_map='affine'),
    'ifql_small': partial(ifql, **SMALL_FLOW, n_pi=16, return_map='affine'),
    'iql_small': partial(iql, **SMALL, alpha=25.0, return_map='affine'),
    'bc_small': partial(bc, **SMALL_FLOW),
    'bc5_small': partial(bc, **SMALL_FLOW, chunk_length=5),
}

# What else EVOR could be, a change or two to `evor_small` each: 'evor_NAME_small' is a config, and
# an ablation a suite. Widths and depths are those of all nets. Settings of inference alone need no
# training: see scripts/sweep_inference.py.
ABLATIONS: dict[str, dict[str, dict[str, object]]] = {
    'target': dict(velocity=dict(td_target='velocity'), lam05=dict(lam=0.5), lam1=dict(lam=1.0)),
    'next_action': dict(policy=dict(next_action='policy')),
    'value_net': dict(
        trunk=dict(value_net='trunk'),
        width128=dict(hidden_dims=(128, 128, 128)),
        width512=dict(hidden_dims=(512, 512, 512)),
        depth2=dict(hidden_dims=(256, 256)),
        depth4=dict(hidden_dims=(256, 256, 256, 256)),
    ),
    'flow_steps': {
        f'steps{num}': dict(flow_steps=num, backup_flow_steps=num) for num in (1, 2, 10)
    },
    'solver': dict(euler=dict(backup_solver='euler', backup_flow_steps=10)),
    'clip_returns': dict(clipped=dict(clip_returns=True)),
    'mean_share': dict(no_mean=dict(mean_share=0.0)),
    'return_map': dict(plain=dict(return_map='none')),
    'chunk_length': {f'h{length}': dict(chunk_length=length) for length in (1, 2, 10)},
}
CONFIGS |= {
    f'evor_{name}_small': partial(evor, **SMALL_EVOR | changes)
    for variants in ABLATIONS.values()
    for name, changes in variants.items()
}

# The 25 tasks with small values on wide base policies: settings for manipulation and, after MAZES,
# for mazes, whose runs go by the same name.
MAZES = '_maze'
C51 = dict(value_model='categorical')
TASKS25: dict[str, dict[str, object]] = {
    'evor25': C51,
    # Chooses softly, on a scale on which far and near the goal are alike (docs/results/antmaze.md);
    # where a backup chooses, not in mazes, it does too.
    'evor25_log': C51 | dict(q_scale='log', tau_q=0.04),
    'evor25_flow': POOL_FLOW,
    'evor25_scalar': dict(value_model='scalar'),
    'evor25_qr': dict(value_model='quantile'),
    'evor25_iqn': dict(
        value_model='implicit_quantile', num_return_samples=8, backup_return_samples=8
    ),
    'evor25_one_net': C51 | dict(num_value_nets=1),
    # Acts softly and backs up the best, as `evor25` does; and backs up softly too.
    'evor25_soft': C51 | dict(tau_q=0.1, backup_pick='best'),
    'evor25_soft_backup': C51 | dict(tau_q=0.1),
    'evor25_tau_r1': C51 | dict(tau_r=1.0),
    'evor25_discount995': C51 | dict(discount=0.995),
    'evor25_n50': C51 | dict(n_step=50),
    'evor25_best_of_2': C51 | dict(next_action='policy', backup_candidates=2),
    'evor25_best_of_16': C51 | dict(next_action='policy', backup_candidates=16),
    # In mazes, where all of them act by single actions, it is `evor25`. No backup chooses there:
    # `evor25_soft`, `evor25_soft_backup` and `evor25_tau_r1` are `evor25` at other settings of
    # inference.
    'evor25_single': C51 | dict(chunk_length=1),
}
CONFIGS |= {
    f'{name}{suffix}': partial(evor, **EVOR_POOL | WIDE | own | changes)
    for name, changes in TASKS25.items()
    for suffix, own in {'': {}, MAZES: MAZE}.items()
}
CONFIGS |= {
    f'qc{length}_25{suffix}': partial(qc, **POOL | WIDE | own, chunk_length=length)
    for length in (1, 5)
    for suffix, own in {'': {}, MAZES: dict(n_step=25)}.items()
}


# Whatever agent has no config yet has one by its own name: its defaults.
NAMED = {make().agent_name for make in CONFIGS.values()}
CONFIGS |= {name: partial(_config, name) for name in agents.REGISTRY if name not in NAMED}


def get_config(name: str) -> ConfigDict:
    """Returns the config called `name`, locked: unknown keys are errors.

    Raises:
        UserError: no such config.
    """
    _check_known('--agent: no config', name, CONFIGS)
    config = CONFIGS[name]()
    config.config_name = name.removesuffix(MAZES)
    return config.lock()


FIVE_ENVIRONMENTS = (
    'pointmaze-medium-navigate-singletask-v0',
    'antmaze-large-navigate-singletask-v0',
    'cube-single-play-singletask-v0',
    'cube-double-play-singletask-v0',
    'scene-play-singletask-v0',
)

# The EVOR paper's comparison, as we read it: "25 tasks" are five environments with five tasks each.
# The summaries at hand do not list the environments; a public review names their families, antmaze,
# cube, scene and pointmaze, and these members of them are our reading.
PAPER25 = Suite(
    agents=('evor', 'qc1', 'qc5'),
    env_names=FIVE_ENVIRONMENTS,
    tasks=(1, 2, 3, 4, 5),
    seeds=(0, 1, 2, 3, 4),
    flags=dict(offline_steps=1_000_000, eval_interval=100_000, eval_episodes=50),
)

TASKS25_SMALL = Suite(
    agents=('evor25', 'qc5_25', 'qc1_25'),
    env_names=(*FIVE_ENVIRONMENTS, 'scene-play-sparse-singletask-v0'),
    tasks=(1, 2, 3, 4, 5),
    seeds=(0, 1, 2),
    flags=dict(offline_steps=100_000, eval_interval=50_000, save_interval=25_000, eval_episodes=50),
    mazes=MAZES,
)

SUITES: dict[str, Suite] = {
    'paper25': PAPER25,
    # EVOR beyond the paper: rows beside those of paper25.
    'paper25_variants': PAPER25._replace(agents=('evor_coupled', 'evor5')),
    # A first look at all five on a laptop, with data of 200 episodes each:
    # scripts/generate_data.py --suite=quick5 --episodes=200.
    'quick5': Suite(
        agents=('evor_small', 'evor_paper_small', 'qc1_small', 'qc5_small', 'bc_small'),
        env_names=FIVE_ENVIRONMENTS,
        tasks=(1,),
        seeds=(0,),
        flags=dict(offline_steps=10_000, eval_interval=10_000, eval_episodes=50),
    ),
    # The 25 tasks with laptop-sized values; scene in both of its rewards.
    'tasks25_small': TASKS25_SMALL,
    # What makes the table high or low, on the first task of each.
    'tasks25_ablation': TASKS25_SMALL._replace(agents=tuple(TASKS25), tasks=(1,)),
    # Minutes, to try a cluster or a machine.
    'smoke': Suite(
        agents=('evor_small',),
        env_names=('pointmaze-medium-stitch-singletask-v0',),
        tasks=(1, 2),
        seeds=(0, 1, 2),
        flags=dict(offline_steps=2_000, log_interval=500, save_interval=500, eval_interval=0),
    ),
}

# One command each, on 2 cores or a cluster: scripts/sweep.py --suite=ablation_target --local=2
SUITES |= {
    f'ablation_{name}': Suite(
        agents=('evor_small', *(f'evor_{variant}_small' for variant in variants)),
        env_names=('cube-single-play-singletask-v0',),
        tasks=(1,),
        seeds=(0, 1, 2),
        flags=dict(offline_steps=10_000, eval_interval=5_000, eval_episodes=50),
    )
    for name, variants in ABLATIONS.items()
}


def get_suite(name: str) -> Suite:
    """Returns the suite called `name`.

    Raises:
        UserError: no such suite.
    """
    _check_known('--suite: no suite', name, SUITES)
    return SUITES[name]


def _check_known(fault: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        hint = did_you_mean(name, known)
        raise UserError(f"{fault} '{name}' in configs.py.{hint} Known: {', '.join(known)}")
