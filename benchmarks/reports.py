"""Markdown tables and figures of the benchmarks, from rows of numbers."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.models import FLOWS
from utils.statistics import OVER_SEEDS

Row = dict[str, Any]

# Okabe and Ito's colours, told apart by colour-blind readers too; dashes for what is no flow.
STYLES = {
    'velocity': ('#000000', '-'),
    'velocity, successor': ('#000000', ':'),
    'coupled, lam 0': ('#0072B2', '-'),
    'coupled, no mean share': ('#0072B2', '-.'),
    'coupled, lam 0.5': ('#56B4E9', '-'),
    'coupled, lam 1': ('#009E73', '-'),
    'trunk, lam 0': ('#0072B2', ':'),
    'scalar': ('#999999', '--'),
    'scalar, clipped': ('#999999', ':'),
    'C51': ('#D55E00', '--'),
    'QR-DQN': ('#E69F00', '--'),
    'IQN': ('#CC79A7', '--'),
}


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a Markdown table."""
    header = list(header)
    lines = [header, ['---'] * len(header), *(list(row) for row in rows)]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines) + '\n'


def unique(rows: list[Row], name: str) -> list[Any]:
    """Returns the values of a column in their order of appearance."""
    return list(dict.fromkeys(row[name] for row in rows))


def select(rows: list[Row], **values: object) -> list[Row]:
    """Returns the rows that have these values."""
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def over_seeds(rows: list[Row], name: str) -> np.ndarray:
    """Returns the absolute value of a column, averaged over the queries, for each seed."""
    return np.array(
        [
            np.mean([abs(row[name]) for row in select(rows, seed=seed)])
            for seed in unique(rows, 'seed')
        ]
    )


def _error_table(rows: list[Row], name: str) -> str:
    """A table of one error: a line per process, a column per model, the least one in bold."""
    models = unique(rows, 'model')
    lines = []
    for process in unique(rows, 'process'):
        chosen = select(rows, process=process)
        errors = [over_seeds(select(chosen, model=model), name) for model in models]
        means = [np.mean(error) for error in errors]
        cells = []
        for mean, error in zip(means, errors, strict=True):
            text = f'{mean:.3f} [{error.min():.3f}, {error.max():.3f}]'
            cells.append('infinite' if np.isnan(mean) else text)
        if not np.isnan(means).all():
            best = int(np.nanargmin(means))
            cells[best] = f'**{cells[best]}**'
        lines.append([f'{process} ({np.mean([row["true_std"] for row in chosen]):.2f})', *cells])
    return table(['process (true deviation)', *models], lines)


def _verdicts(rows: list[Row]) -> str:
    """A line per process: the best flow target against the best of the other models, if any."""
    lines = []
    for process in unique(rows, 'process'):
        chosen = select(rows, process=process)
        means = {
            model: np.mean(over_seeds(select(chosen, model=model), 'wasserstein'))
            for model in unique(chosen, 'model')
        }
        flows = [model for model in means if model in FLOWS]
        others = [model for model in means if model not in FLOWS]
        if not flows or not others:
            return ''
        flow, other = min(flows, key=means.get), min(others, key=means.get)
        verdict = 'wins' if means[flow] <= means[other] else 'loses'
        lines.append(
            [process, f'{flow}: {means[flow]:.3f}', f'{other}: {means[other]:.3f}', verdict]
        )
    return table(['process', 'best flow', 'best other', 'the flow'], lines)


def _cost_table(rows: list[Row]) -> str:
    lines = []
    for model in unique(rows, 'model'):
        chosen = select(rows, model=model)
        numbers = [
            np.median([row[name] for row in chosen])
            for name in ('parameters', 'mflop_per_update', 'ms_per_update')
        ]
        lines.append([model, f'{numbers[0]:.0f}', f'{numbers[1]:.1f}', f'{numbers[2]:.2f}'])
    header = ['model', 'parameters', 'MFLOP per update', 'ms per update and seed']
    return table(header, lines)


def return_distribution_tables(rows: list[Row], settings: str) -> str:
    """The report of `benchmarks.return_distribution`, in Markdown."""
    rows = select(rows, updates=max(row['updates'] for row in rows))
    parts = [
        f'After {settings}. Mean over the queries of a process, then over the seeds, with the '
        'least and the greatest seed; in units of reward. The least error is in bold.\n',
        '**Wasserstein-1 distance to the true distribution**\n',
        _error_table(rows, 'wasserstein'),
        _verdicts(rows),
        '**Error of the mean** (flows are read in one step)\n',
        _error_table(rows, 'mean_error'),
    ]
    for name in (name for name in rows[0] if name.startswith('soft_error_')):
        temperature = name.removeprefix('soft_error_')
        parts += [
            f'**Error of the soft value at a temperature of {temperature} true deviations**\n',
            _error_table(rows, name),
        ]
    parts += ['**Cost**, the median over processes\n', _cost_table(rows)]
    return '\n'.join(parts)


def return_distribution_figure(rows: list[Row], path: Path) -> None:
    """Draws the Wasserstein-1 distance against updates, a panel per process, a line per model."""
    names = unique(rows, 'process')
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.7 * lines + 0.6), layout='constrained')
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    for axes, process in zip(panels, names, strict=False):
        for model in unique(rows, 'model'):
            chosen = select(rows, process=process, model=model)
            updates = unique(chosen, 'updates')
            means = [
                np.mean(over_seeds(select(chosen, updates=update), 'wasserstein'))
                for update in updates
            ]
            colour, style = STYLES[model]
            axes.plot(updates, means, style, color=colour, marker='.', label=model)
        axes.axhline(0.03, color='#BBBBBB', linewidth=0.8, zorder=0)
        axes.set(title=process.replace('_', ' '), xscale='log', yscale='log')
        axes.set_xticks(updates, [f'{update:g}' for update in updates])
        axes.minorticks_off()
        axes.spines[['top', 'right']].set_visible(False)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel('updates')
    figure.supylabel('Wasserstein-1 distance to the true distribution')
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside upper center', ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=130)


def calibration_table(rows: list[Row], settings: str) -> str:
    """The report of `benchmarks.calibration`, in Markdown."""

    def interval(row: Row, name: str, digits: int) -> str:
        value, low, high = (row[key] for key in (name, f'{name}_low', f'{name}_high'))
        return f'{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]'

    lines = []
    for row in rows:
        losses = [row[name] for name in ('value_loss', 'val_value_loss')]
        cells = [row['model'], interval(row, 'coverage', 3), interval(row, 'crps', 2)]
        cells += [interval(row, 'bias', 2)]
        lines.append(cells + [f'{loss:.4f}' if loss != '' else '' for loss in losses])
    header = ['model', 'coverage of the central 80%', 'CRPS', 'bias', 'loss', 'loss, held out']
    return f'{settings}. 95% intervals over trajectories; units of reward.\n\n' + table(
        header, lines
    )


def comparison_table(rows: list[Row]) -> str:
    """The report of `benchmarks.comparison`, in Markdown."""
    header = ['config', 'updates', 'success', '95% interval', 'seeds', 'episodes']
    header += ['parameters', 'GFLOP per update', 'updates/s']
    lines = [
        [
            row['config'],
            str(row['updates']),
            f'{row["success"]:.2f}',
            f'[{row["success_low"]:.2f}, {row["success_high"]:.2f}]',
            row['seeds'],
            str(row['episodes']),
            f'{row["parameters"]:,}',
            f'{row["gflop_per_update"]:.2f}',
            f'{1e3 / row["ms_per_update"]:.0f}',
        ]
        for row in rows
    ]
    return f'{OVER_SEEDS}\n\n' + table(header, lines)


def throughput_tables(result: dict) -> str:
    """The report of `benchmarks.throughput`, in Markdown."""
    machine = result['machine']
    parts = [
        f'{machine["processor"]}, {machine["cores"]} cores, {", ".join(machine["devices"])}; '
        f'Python {machine["python"]}, jax {machine["versions"]["jax"]}; sizes of '
        f'{result["env_name"]}{"; " if result["settings"] else ""}{" ".join(result["settings"])}\n'
    ]
    header = ['agent', 'seeds x tasks', 'parameters each', 'GFLOP', 'ms', 'updates/s', 'GFLOP/s']
    header += ['products, GFLOP/s', 'share', 'share per CPU-second', 'compile, s', 'memory, MiB']
    lines = [
        [row['agent'], f'{row["seeds"]} x {row["tasks"]}', f'{row["parameters"]:,}']
        + [f'{row[name]:.2f}' for name in ('gflop_per_update', 'ms_per_update')]
        + [f'{row[name]:.1f}' for name in ('updates_per_second', 'gflops', 'product_gflops')]
        + [f'{row[name]:.2f}' for name in ('share_of_products', 'share_per_cpu_second')]
        + [f'{row["compile_seconds"]:.1f}', f'{row["memory_mib"]:.0f}']
        for row in result['updates']
    ]
    parts += ['**Updates** of whole populations\n', table(header, lines)]
    if result['latencies']:
        header = ['agent', 'observations', 'return samples', 'p50, ms', 'p99, ms']
        lines = [
            [row['agent'], str(row['observations']), str(row['num_return_samples'])]
            + [f'{row[name]:.2f}' for name in ('p50_ms', 'p99_ms')]
            for row in result['latencies']
        ]
        parts += ['**Latency of `act`**\n', table(header, lines)]
    if result['evaluation']:
        header = ['agent', 'environments', 'steps/s alone', 'steps/s in evaluation', 'share']
        lines = [
            [row['agent'], str(row['envs'])]
            + [f'{row[name]:.0f}' for name in ('steps_per_second_alone', 'steps_per_second')]
            + [f'{row["share"]:.2f}']
            for row in result['evaluation']
        ]
        parts += ['**Evaluation** by the base policy\n', table(header, lines)]
    return '\n'.join(parts)


def flow_steps_tables(rows: list[Row], settings: str) -> str:
    """The report of `benchmarks.flow_steps`, in Markdown."""

    def grid(chosen: list[Row], rows_by: str, columns_by: str, number: str) -> str:
        columns = unique(chosen, columns_by)
        lines = []
        for name in unique(chosen, rows_by):
            cells = [select(chosen, **{rows_by: name, columns_by: column}) for column in columns]
            means = [np.mean([abs(row[number]) for row in cell]) for cell in cells]
            lines.append([name, *(f'{mean:.3f}' for mean in means)])
        return table([rows_by, *columns], lines)

    parts = [
        f'{settings}. Means over queries and seeds, in units of reward. "4 midpoint" are four '
        'steps of two evaluations each.\n'
    ]
    for stage, fixed in (('reading', 'backup'), ('backup', 'reading')):
        chosen = [row for row in rows if row['varies'] == stage]
        for number, title in (
            ('wasserstein', 'Wasserstein-1 distance'),
            ('soft_error_1', 'Error of the soft value at one deviation'),
        ):
            finite = [row for row in chosen if np.isfinite(row[number])]
            parts += [
                f'**{title}** against the steps in the {stage}; in the {fixed} '
                f'{chosen[0][fixed]}\n',
                grid(finite, 'process', stage, number),
            ]
    return '\n'.join(parts)


def checkpoint_table(rows: list[Row]) -> str:
    """Returns what a checkpoint costs, a line per population."""
    header = ['config', 'seeds x tasks', 'MiB', 'write, s', 'read, s', 'ms/update', 'share of time']
    lines = [
        [
            f'`{row["agent"]}`',
            row['population'].replace('x', ' x '),
            f'{row["mib"]:.0f}',
            f'{row["write_seconds"]:.2f}',
            f'{row["read_seconds"]:.2f}',
            f'{row["ms_per_update"]:.1f}',
            f'{100 * row["share"]:.3f}%',
        ]
        for row in rows
    ]
    return table(header, lines)
