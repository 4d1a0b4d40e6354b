"""Prints the table of OGBench's environments in docs/environments.md.

python scripts/list_environments.py
"""

import _path  # noqa: F401

from utils.reporting import environment_page
from utils.system import command


def main(_: list[str]) -> None:
    print(environment_page.table(), end='')


if __name__ == '__main__':
    command.run(main)
