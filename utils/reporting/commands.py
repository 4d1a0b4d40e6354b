"""The command that makes a run again, from its record."""

import shlex
from typing import Any

import configs
from utils.environments import envs
from utils.storage import runs

# Fields of a record that are no flags of main.py, or are told in another way.
TOLD = ('env_name', 'seeds', 'agent', 'dataset', 'observation_dim', 'action_dim', 'contents')
TOLD += runs.MACHINE


def train_command(record: dict[str, Any]) -> str:
    """Returns the command line of main.py that made a run, without where its files are.

    A config that configs.py does not have is named all the same; its settings are in the record.
    """
    name = record['agent']['config_name']
    flags = dict(env_name=record['env_name'], agent=f'configs.py:{name}')
    flags |= dict(seeds=','.join(str(seed) for seed in record['seeds']))
    flags |= {key: value for key, value in record.items() if key not in TOLD}
    file = record.get('dataset', {}).get('file')
    if file not in (None, f'{envs.dataset_name(record["env_name"])}.npz'):
        flags |= dict(dataset_path=file)
    if name in configs.CONFIGS:
        current = configs.get_config(name)
        own = runs.agent_config(record)
        flags |= {
            f'agent.{key}': value
            for key, value in own.items()
            if key in current and value != current[key]
        }
    return shlex.join(
        [
            'python',
            'main.py',
            *(f'--{key}={value}'.replace(', ', ',') for key, value in flags.items()),
        ]
    )
