"""Prints every setting of every agent in words: default, values, what it is.

python scripts/list_settings.py > docs/settings.md
"""

import _path  # noqa: F401

from utils.reporting import setting_page
from utils.system import command


def main(_: list[str]) -> None:
    print(setting_page.page(), end='')


if __name__ == '__main__':
    command.run(main)
