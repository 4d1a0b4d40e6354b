"""The command that makes a run again, from its record."""

import json
import shlex
from typing import Any

import configs
from utils.environments import action_maps, descriptions, envs
from utils.storage import runs

# Fields of a record that are no flags of main.py, or are told in another way.
TOLD = ('env_name', 'seeds', 'agent', 'dataset', 'observation_dim', 'action_dim', 'contents')
TOLD += (descriptions.KEY, action_maps.KEY, *runs.MACHINE)
# Files that a run was given or found, which `files_needed` tells; and how it learned online.
FILES = dict(base_policy='--base_policy', pool='--pool')
TOLD += (*FILES, 'online', 'num_pool')


def files_needed(record: dict[str, Any]) -> list[str]:
    """Returns, in words, what the command of a run finds or is given besides its data."""
    return [
        f'{flag}: {", ".join(f"{name} {value}" for name, value in record[key].items())}'
        for key, flag in FILES.items()
        if key in record
    ]


def train_command(record: dict[str, Any], online_steps: int = 0) -> str:
    """Returns the command line of main.py that made a run, without where its files are.

    A config that configs.py does not have is named all the same; its settings are in the record.

    Args:
        record: config.json.
        online_steps: that the run went on online, which its record does not tell.
    """
    name = record['agent']['config_name']
    flags = _environment(record) | dict(agent=f'configs.py:{name}')
    flags |= dict(seeds=','.join(str(seed) for seed in record['seeds']))
    flags |= {key: value for key, value in record.items() if key not in TOLD}
    if 'online' in record:
        flags |= dict(online_steps=online_steps, online_share=record['online']['share'])
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


def _environment(record: dict[str, Any]) -> dict[str, str]:
    """Returns the flags that name a run's environment."""
    told = record.get(descriptions.KEY)
    if told is None:
        return dict(env_name=record['env_name'])
    flags = dict(
        env_id=told['env_id'], env_kwargs=json.dumps(told['kwargs'], separators=(',', ':'))
    )
    flags |= dict(success=told['success'])
    references = told['reference_returns']
    return flags | (dict(reference_returns='{},{}'.format(*references)) if references else {})
