"""Published results, from the CSV files in results/published: numbers with their sources."""

from pathlib import Path
from typing import NamedTuple

from utils import files
from utils.csv_lines import Source, read_lines
from utils.errors import UserError

FOLDER = files.ROOT / 'results' / 'published'
COLUMNS = ('source', 'arxiv', 'table', 'env', 'task', 'agent', 'mean', 'std', 'seeds', 'episodes')
COLUMNS += ('note',)
# In the column `task`: the mean over an environment's five tasks.
ALL_TASKS = 'mean'


class Published(NamedTuple):
    """One published success rate.

    Attributes:
        source: who published it, in a few words.
        arxiv: number of the paper.
        table: where in it.
        environment: such as 'cube-single-play'.
        task: '1' to '5', or 'mean' over them.
        agent: as its authors call it.
        mean: success in percent, as printed there.
        std: deviation over seeds, in percent, or ''.
        seeds, episodes: numbers of, or ''.
        note: what a reader must know before comparing.
        origin: the line of the file here.
    """

    source: str
    arxiv: str
    table: str
    environment: str
    task: str
    agent: str
    mean: str
    std: str
    seeds: str
    episodes: str
    note: str
    origin: Source


def read(folder: Path = FOLDER) -> list[Published]:
    """Returns all published results, in the order of the files and their lines.

    Raises:
        UserError: a file is damaged, or says something twice.
    """
    found: dict[tuple[str, ...], Published] = {}
    for path in sorted(folder.glob('[!.]*.csv')):  # macOS leaves ._NAME.csv beside NAME.csv
        for line in read_lines(path, COLUMNS):
            line.parse('mean')
            item = Published(*(line.values[name] for name in COLUMNS), Source(path, (line.number,)))
            key = item.source, item.environment, item.task, item.agent
            if key in found:
                raise UserError(f'{path}, line {line.number}: a second value of {", ".join(key)}')
            found[key] = item
    return list(found.values())
