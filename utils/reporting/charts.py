"""The figures of many runs, each drawn from the rows of its CSV file and from nothing else.

`configs` are all that are shown anywhere in a set of figures, so that each looks the same in all.
"""

import math
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from utils.reporting.figures import PAGE, Style, add_legend, literal, panels, styles

Row = dict[str, str]

TITLE_WIDTH = 30  # letters over a third of a page
NAMES = {
    'minutes': 'minutes of training',
    'CPU minutes': 'CPU minutes of training',
    'n_pi': 'candidates $N_\\pi$',
    'tau_q': 'softmax $\\tau_Q$ (evenly spaced)',
    'tau_r': 'log-sum-exp $\\tau_R$ (evenly spaced)',
}


def learning_curves(rows: list[Row], configs: Sequence[str], over: str = 'updates') -> Figure:
    """Success against updates, minutes or CPU minutes: a panel per task, a line per config."""

    def draw(axes: Axes, of_config: list[Row], style: Style) -> None:
        _line(axes, _numbers(of_config, over), of_config, 'success', style)

    figure = _by_task(rows, configs, draw)
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        axes.set(xlim=(0, None), xlabel=NAMES.get(over, over))
    return figure


def sweep(rows: list[Row], configs: Sequence[str], setting: str) -> Figure:
    """Success against a setting of inference: a panel per task, a line per config."""
    shown = [config for config in configs if any(row['config'] == config for row in rows)]
    values = sorted({float(row[setting]) for row in rows})

    def place(value: float) -> float:
        return math.log2(value) if setting == 'n_pi' else float(values.index(value))

    def draw(axes: Axes, of_config: list[Row], style: Style) -> None:
        config = of_config[0]['config']
        beside = 0.16 * (
            shown.index(config) - (len(shown) - 1) / 2
        )  # so that intervals do not hide each other
        x = [place(float(row[setting])) + beside for row in of_config]
        _line(axes, x, of_config, 'success', style, band=False)

    figure = _by_task(rows, configs, draw)
    for axes in figure.axes:
        axes.set_xticks([place(value) for value in values], [_short(value) for value in values])
        axes.set_xlabel(NAMES[setting])
    return figure


def profiles(rows: list[Row], configs: Sequence[str]) -> Figure:
    """Share of seeds above every threshold, a line per config."""
    figure, (axes,) = panels(1)
    for config, style in styles(configs).items():
        own = _select(rows, config=config)
        if own:
            _steps(axes, own, style)
    axes.set(xlabel='success threshold (%)', ylabel='share of seeds above')
    axes.set(xlim=(0, 100), ylim=(-0.03, 1.03))
    add_legend(figure)
    return figure


def _steps(axes: Axes, rows: list[Row], style: Style) -> None:
    x = _numbers(rows, 'threshold')
    look = dict(color=style.colour, linestyle=style.dashes, label=literal(rows[0]['config']))
    axes.plot(x, _numbers(rows, 'share'), drawstyle='steps-post', **look)
    if rows[0]['low']:
        bounds = (_numbers(rows, bound) for bound in ('low', 'high'))
        axes.fill_between(x, *bounds, step='post', color=style.colour, alpha=0.18, linewidth=0)


def return_distributions(rows: list[Row], configs: Sequence[str]) -> Figure:
    """Learned distribution functions, a line of panels per task, a panel per state."""
    tasks = list(dict.fromkeys((row['environment'], row['task']) for row in rows))
    states = list(dict.fromkeys(row['way'] for row in rows))
    figure = Figure(figsize=(PAGE, 2.2 * len(tasks) + 0.4), layout='constrained')
    grid = figure.subplots(len(tasks), len(states), squeeze=False, sharey=True)
    for line, (environment, task) in zip(grid, tasks, strict=True):
        of_task = _select(rows, environment=environment, task=task)
        for axes, way in zip(line, states, strict=True):
            _distributions(axes, _select(of_task, way=way), styles(configs))
            axes.set(title=_title(f'{environment}, task {task}, {way}%'), ylim=(-0.03, 1.03))
        line[0].set_ylabel('probability of less')
    for axes in grid[-1]:
        axes.set_xlabel('return')
    add_legend(figure)
    return figure


def _distributions(axes: Axes, rows: list[Row], looks: dict[str, Style]) -> None:
    for config, style in looks.items():
        points = _select(rows, config=config, kind='learned')
        if not points:
            continue
        x, levels = _numbers(points, 'return'), _numbers(points, 'level')
        look = dict(color=style.colour, linestyle=style.dashes, label=literal(config))
        axes.plot(x, levels, drawstyle='steps-post', **look)
    bounds = [float(row['return']) for row in rows if row['kind'] != 'learned']
    if bounds:
        low, high = min(bounds), max(bounds)
        axes.axvspan(low, high, color='#000000', alpha=0.15, linewidth=0)
        axes.axvline(low, color='#000000', linewidth=0.9, label='recorded')
        axes.axvline(high, color='#000000', linewidth=0.9)
    axes.xaxis.set_major_locator(MaxNLocator(4))


def calibration(rows: list[Row], configs: Sequence[str]) -> Figure:
    """Histograms of the probability integral transform: a panel per task, a line per config."""
    figure, grid = _task_panels(rows)
    for (environment, task), axes in grid.items():
        for config, style in styles(configs).items():
            own = _select(rows, environment=environment, task=task, config=config)
            if not own:
                continue
            edges = [*_numbers(own, 'from'), float(own[-1]['to'])]
            density = _numbers(own, 'density')
            look = dict(color=style.colour, linestyle=style.dashes, label=literal(config))
            axes.stairs(density, edges, linewidth=1.3, **look)
            middles = (np.array(edges[:-1]) + edges[1:]) / 2
            axes.vlines(middles, _numbers(own, 'low'), _numbers(own, 'high'), style.colour, lw=0.8)
        axes.axhline(1.0, color='#000000', linewidth=0.8, linestyle=':')
        axes.set(xlim=(0, 1), ylim=(0, None), xlabel='level of the recorded return')
    figure.axes[0].set_ylabel('density (1: calibrated)')
    add_legend(figure)
    return figure


def _by_task(
    rows: list[Row], configs: Sequence[str], draw: Callable[[Axes, list[Row], Style], None]
) -> Figure:
    """Panels of success in percent, in which `draw` draws each config."""
    figure, grid = _task_panels(rows)
    for (environment, task), axes in grid.items():
        for config, style in styles(configs).items():
            own = _select(rows, environment=environment, task=task, config=config)
            if own:
                draw(axes, own, style)
        axes.set_ylim(-4, 104)
    figure.axes[0].set_ylabel('success (%)')
    add_legend(figure)
    return figure


def _title(text: str) -> str:
    return literal(textwrap.fill(text, TITLE_WIDTH))


def _task_panels(rows: list[Row]) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """Returns a figure and its panel of every (environment, task)."""
    tasks = list(dict.fromkeys((row['environment'], row['task']) for row in rows))
    figure, axes = panels(len(tasks))
    for (environment, task), panel in zip(tasks, axes, strict=True):
        panel.set_title(_title(f'{environment}, task {task}'))
    return figure, dict(zip(tasks, axes, strict=True))


def _line(
    axes: Axes,
    x: Sequence[float],
    rows: list[Row],
    name: str,
    style: Style,
    band: bool = True,
) -> None:
    """A line with its intervals; points that lack seeds are hollow."""
    y = _numbers(rows, name)
    look = dict(color=style.colour, linestyle=style.dashes)
    axes.plot(x, y, **look, marker=style.marker, label=literal(rows[0]['config']))
    seeds = [int(row.get('seeds', 1)) for row in rows]
    lacking = [index for index, count in enumerate(seeds) if count < max(seeds)]
    if lacking:
        hollow = dict(marker=style.marker, mfc='white', mec=style.colour, linestyle='', zorder=3)
        axes.plot([x[index] for index in lacking], [y[index] for index in lacking], **hollow)
    known = [index for index, row in enumerate(rows) if row['low']]
    low, high = ([float(rows[index][bound]) for index in known] for bound in ('low', 'high'))
    where = [x[index] for index in known]
    if band and len(where) > 1:
        axes.fill_between(where, low, high, color=style.colour, alpha=0.18, linewidth=0)
    else:
        axes.vlines(where, low, high, color=style.colour, linewidth=1.0)


def _select(rows: list[Row], **values: str) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def _numbers(rows: list[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def _thousands(value: float, _: object) -> str:
    return f'{value / 1000:g}k' if abs(value) >= 1000 else f'{value:g}'


def _short(value: float) -> str:
    return '$\\infty$' if math.isinf(value) else f'{value:g}'
