"""One command for all: `evor train`, `evor evaluate`, `evor data`, ..., after `pip install -e .`.

Each verb is a command of this repository, with the flags of that: `evor train --env_name=...` is
`python main.py --env_name=...`.
"""

import os
import sys

from utils import files
from utils.errors import did_you_mean, fail

VERBS = {
    'train': 'main.py',
    'evaluate': 'scripts/evaluate.py',
    'export': 'scripts/export_policy.py',
    'data': 'scripts/generate_data.py',
    'import-data': 'scripts/import_data.py',
    'check-data': 'scripts/check_data.py',
    'check-policy': 'scripts/check_policy.py',
    'check-values': 'scripts/check_values.py',
    'sweep': 'scripts/sweep.py',
    'tables': 'scripts/make_tables.py',
    'figures': 'scripts/make_figures.py',
    'report': 'scripts/report.py',
    'record': 'scripts/record_episode.py',
    'watch': 'scripts/watch.py',
    'settings': 'scripts/list_settings.py',
    'demo': 'scripts/demo.py',
}


def main() -> None:
    """Becomes the command that the first argument names."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ''
    if verb not in VERBS:
        named = f"no command '{verb}'.{did_you_mean(verb, VERBS)}" if verb else 'name a command.'
        fail(f'evor: {named} Known: {", ".join(VERBS)}; `evor train --helpshort` shows flags')
    # It takes this process's place, so that signals and exit codes are its own.
    os.execv(sys.executable, [sys.executable, str(files.ROOT / VERBS[verb]), *sys.argv[2:]])


if __name__ == '__main__':
    main()
