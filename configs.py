"""Every default. `--agent=configs.py:NAME` picks a function of this file by name."""

from ml_collections import ConfigDict

from utils.errors import UserError, did_you_mean


def evor() -> ConfigDict:
    """EVOR at the paper's size (arXiv 2510.08218): 4 x 512 nets, 10 flow steps, 32 candidates."""
    return ConfigDict(
        dict(
            agent_name='evor',
            # Networks and optimiser.
            hidden_dims=(512, 512, 512, 512),  # hidden widths of every net
            policy_layer_norm=False,  # layer normalisation in the base policy
            value_layer_norm=True,  # layer normalisation in the reward-to-go
            num_value_nets=1,  # size of the reward-to-go ensemble; 1 is the paper
            lr=3e-4,  # Adam's learning rate
            batch_size=256,
            # Temporal differences.
            discount=0.99,
            tau=0.005,  # Polyak step of the target reward-to-go
            td_target='velocity',  # 'velocity' (the paper) or 'coupled' (keeps the return law)
            lam=0.0,  # control variate of 'coupled', in [0, 1]
            next_action='policy',  # next action of the backup: 'policy' or 'dataset'
            return_map='affine',  # returns enter the net standardised, or 'none': as they are
            flow_steps=10,  # Euler steps of the base policy, and of the reward-to-go in the backup
            chunk_length=1,  # actions chosen and played at a time; 1 is the paper
            # Inference; these can be changed after training without retraining.
            n_pi=32,  # candidates from the base policy; 1 is behaviour cloning
            num_return_samples=8,  # reward-to-go samples of each candidate
            return_flow_steps=10,  # Euler steps of those samples; 1 is a cheap mean
            return_noise='random',  # 'random' noise, or Gauss-Hermite 'quadrature' nodes
            tau_r=1.0,  # log-sum-exp temperature in deviations of the return; inf: mean, 0: max
            tau_q=0.02,  # softmax temperature over candidates; 0: argmax, inf: base policy
            value_aggregation='mean',  # 'mean' or 'min' over the ensemble's values
        )
    )


def evor_small() -> ConfigDict:
    """EVOR for a laptop: smaller nets, chunks of five actions, the law-keeping target.

    Four Euler steps, where the paper has ten, are for speed. The inference settings were chosen on
    agents of 170 or 200 episodes of cube-single task 1 (3 or 4 Euler steps), by scripts/evaluate.py
    with --eval_episodes=100 --num_return_samples=8,32 --tau_q=0,0.02. Argmax over 32 return samples
    reached 0.96 and 0.93 on two agents, over 8 samples 0.89 and 0.89; a little softmax noise 0.98,
    0.94 and 0.91 on three agents, argmax 0.80, 0.88 and 0.93.
    """
    config = evor()
    config.update(
        dict(
            hidden_dims=(256, 256, 256),
            policy_layer_norm=True,
            td_target='coupled',
            next_action='dataset',
            flow_steps=4,
            chunk_length=5,
            n_pi=16,
            num_return_samples=32,
            return_flow_steps=1,
            tau_r=float('inf'),
        )
    )
    return config


CONFIGS = {'evor': evor, 'evor_small': evor_small}


def get_config(name: str) -> ConfigDict:
    """Returns the config called `name`, locked: unknown keys are errors.

    Raises:
        UserError: no such config.
    """
    if name not in CONFIGS:
        raise UserError(
            f"--agent: no config '{name}' in configs.py.{did_you_mean(name, CONFIGS)} "
            f'Known: {", ".join(CONFIGS)}'
        )
    config = CONFIGS[name]()
    config.config_name = name
    return config.lock()
