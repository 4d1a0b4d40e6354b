"""Tables of success: per task and per environment, beside published numbers."""

from collections.abc import Sequence

from utils import statistics
from utils.reporting import published
from utils.reporting.published import Published
from utils.reporting.results import Result
from utils.reporting.scores import (
    Scores,
    protocols,
    score_lines,
    seed_counts,
    seed_scores,
    with_interval,
)
from utils.reporting.tables import MISSING, Cell, Table, missing

FIVE_TASKS = ('1', '2', '3', '4', '5')
SCALE = (
    'Success in percent: mean [95% interval] (seeds). Intervals are percentiles of a bootstrap '
    'over seeds within each task; that of three seeds of a task is from the least to the greatest. '
    'Where there is 1 seed of each task, it is a 95% Wilson interval over the episodes of one '
    'evaluation of each: of these agents, not of training them again.'
)
PUBLISHED = (
    "Published numbers are their authors', from other code, data and numbers of updates: a scale "
    'to read the others by, not a comparison.'
)

MEANS = (
    'In percent, with the deviation over seeds and (their number) where they are known. A dash, or '
    'no column: results/published has no number.'
)


def tasks_table(scores: Scores, literature: list[Published]) -> Table:
    """Every task in a row, every agent in a column, published numbers last."""
    places = scores.tasks()
    columns = _published_columns(literature, places)
    rows = [
        (
            Cell(environment),
            Cell(task),
            *(_mean_cell(scores, environment, (task,), config) for config in scores.configs),
            *(_published_cell(column.get((environment, task))) for column in columns.values()),
        )
        for environment, task in places
    ]
    return _scores_table('tasks', 'Success per task', ('task',), rows, scores, columns)


def environments_table(scores: Scores) -> Table:
    """Means over the five tasks of an environment; none where one of them is missing."""
    rows = [
        (
            Cell(name),
            *(_mean_cell(scores, name, FIVE_TASKS, config) for config in scores.configs),
        )
        for name in scores.environments()
    ]
    title = 'Success per environment, mean over its five tasks'
    return _scores_table('environments', title, (), rows, scores, {})


def published_table(environments: Sequence[str], literature: list[Published]) -> Table:
    """Published means over the five tasks of environments, which are the columns."""
    shown = [
        item
        for item in literature
        if item.environment in environments and item.task == published.ALL_TASKS
    ]
    names = list(dict.fromkeys(item.environment for item in shown))
    methods: dict[tuple[str, str, str], dict[str, Published]] = {}
    for item in shown:
        methods.setdefault((item.agent, item.source, item.arxiv), {})[item.environment] = item
    rows = tuple(
        (*map(Cell, method), *(_of_method(found.get(name)) for name in names))
        for method, found in methods.items()
    )
    title = 'Published success per environment, mean over its five tasks'
    remarks = PUBLISHED, MEANS
    return Table('published', title, ('agent', 'source', 'arXiv', *names), rows, remarks)


def _of_method(item: Published | None) -> Cell:
    if item is None:
        return Cell(MISSING)
    return _published_cell(item)._replace(note='; '.join(filter(None, (item.table, item.note))))


def _scores_table(
    name: str,
    title: str,
    keys: tuple[str, ...],
    rows: list[tuple[Cell, ...]],
    scores: Scores,
    columns: dict[str, dict[tuple[str, str], Published]],
) -> Table:
    remarks = [SCALE, *protocols(scores), *([PUBLISHED] if columns else [])]
    for header, found in columns.items():
        said = dict.fromkeys(
            text
            for item in found.values()
            for text in (f'arXiv {item.arxiv}', item.table, item.note)
            if text
        )
        remarks.append(f'{header}: {"; ".join(said)}.')
    header = ('environment', *keys, *scores.configs, *columns)
    return Table(name, title, header, tuple(rows), tuple(remarks))


def _mean_cell(scores: Scores, environment: str, tasks: Sequence[str], config: str) -> Cell:
    seeds = [scores.finished(environment, task, config) for task in tasks]
    note = scores.why_missing(environment, tasks, config)
    if not all(seeds):
        return missing(note)
    text = with_interval(statistics.mean, [seed_scores(task) for task in seeds])
    if all(len(task) == 1 for task in seeds):
        interval = _over_episodes([result for [result] in seeds])
        return Cell(f'{text} {interval} (1 seed)', score_lines(seeds), note)
    return Cell(f'{text} ({seed_counts(seeds)})', score_lines(seeds), note)


def _over_episodes(results: list[Result]) -> str:
    rates, episodes = [one.score for one in results], [one.episodes for one in results]
    low, high = statistics.mean_interval(rates, episodes)
    return f'[{100 * low:.1f}, {100 * high:.1f}]'


def _published_columns(
    literature: list[Published], places: list[tuple[str, str]]
) -> dict[str, dict[tuple[str, str], Published]]:
    """Returns, by header, what was published on these (environment, task)."""
    columns: dict[str, dict[tuple[str, str], Published]] = {}
    for item in literature:
        if (item.environment, item.task) in places:
            header = f'{item.agent}, published ({item.source})'
            columns.setdefault(header, {})[item.environment, item.task] = item
    return columns


def _published_cell(item: Published | None) -> Cell:
    if item is None:
        return missing('results/published has no number')
    deviation = f' ± {item.std}' if item.std else ''
    seeds = f' ({item.seeds})' if item.seeds else ''
    return Cell(f'{item.mean}{deviation}{seeds}', (item.origin,))
