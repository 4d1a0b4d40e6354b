"""OGBench's environments as a table: how they were recorded, their sizes, and why some are not."""

from utils.environments import envs


def rows() -> list[tuple[str, ...]]:
    """Returns name, datasets, sizes of observations and actions of every state environment.

    Those that are not supported, and the others of OGBench, have the reason in place of sizes.
    """
    import ogbench  # noqa: F401  # registers its environments

    ids = [name for name in envs.singletask_ids() if '-task' not in name]
    names = [name.removesuffix('-singletask-v0') for name in ids]
    found = [_row(name) for name in names if not name.startswith('visual')]
    return found + [
        (f'{family}-*', '', f'not supported: {envs.why_unusable(family)}', '')
        for family in ('visual', 'powderworld')
    ]


def _row(name: str) -> tuple[str, ...]:
    kinds = envs.dataset_types(name)
    if reason := envs.why_unusable(name):
        return name, '', f'not supported: {reason}', ''
    env = envs.make_env(f'{name}-{kinds[0]}-singletask-v0')
    sizes = env.observation_space.shape[0], env.action_space.shape[0]
    return name, ', '.join(kinds), *map(str, sizes)


def table() -> str:
    """Returns the rows in Markdown."""
    header = ('environment', 'datasets', 'observations', 'actions')
    lines = [header, ('---',) * len(header), *rows()]
    return ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)
