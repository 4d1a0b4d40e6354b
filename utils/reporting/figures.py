"""How pictures look, and two of one run, drawn from its tables."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.storage.metrics import CsvTable

# Okabe and Ito's colours, told apart by colour-blind readers too; their yellow is too light on
# paper. Lines also differ in dashes and markers, so that they can be told apart without colours.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#000000', '#E69F00', '#56B4E9')
DASHES = ('-', (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)), (0, (9, 2)))
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
BLUE, ORANGE, GREEN = COLOURS[:3]
# Inches: a column and a page of a paper, at which the letters below have their printed size.
COLUMN, PAGE = 3.4, 7.0
STYLE = {
    'font.size': 8.5,
    'axes.labelsize': 8.5,
    'axes.titlesize': 8.5,
    'legend.fontsize': 8,
    'xtick.labelsize': 8,
    'ytick.labelsize': 8,
    'legend.handlelength': 2.6,
    'lines.linewidth': 1.3,
    'lines.markersize': 3.5,
    'pdf.fonttype': 42,  # letters stay letters
}
SUFFIXES = ('.png', '.pdf')
DPI = 220


class Style(NamedTuple):
    """How an agent's line looks in every figure of a set."""

    colour: str
    dashes: Any
    marker: str


def styles(names: Iterable[str]) -> dict[str, Style]:
    """Returns a style for each name, in the order of their first appearance."""
    numbered = enumerate(dict.fromkeys(names))
    return {
        name: Style(
            COLOURS[number % len(COLOURS)],
            DASHES[number % len(DASHES)],
            MARKERS[number % len(MARKERS)],
        )
        for number, name in numbered
    }


def literal(text: str) -> str:
    """Returns text that matplotlib shows as it is: dollar signs would begin a formula."""
    return text.replace('$', r'\$')


def panels(num: int, height: float = 2.3) -> tuple[Figure, list[Axes]]:
    """Returns a figure of one column's width, or of a page's for several panels."""
    columns = min(num, 3)
    lines = -(-num // columns)
    width = COLUMN if num == 1 else PAGE
    figure = Figure(figsize=(width, height * lines + 0.3), layout='constrained')
    axes = list(figure.subplots(lines, columns, squeeze=False).ravel())
    for unused in axes[num:]:
        unused.set_visible(False)
    return figure, axes[:num]


def add_legend(figure: Figure) -> None:
    """Names every line once, above all panels."""
    found = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        # Inches of the longest entry: its line, and letters of 8 points.
        entry = 0.55 + 0.065 * max(map(len, found))
        columns = max(1, int(figure.get_size_inches()[0] / entry))
        figure.legend(
            found.values(), found, loc='outside upper center', ncols=columns, frameon=False
        )


def write(figure: Figure, paths: Sequence[Path]) -> None:
    """Writes a figure; the same numbers give the same bytes."""
    for axes in figure.axes:
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.set_axisbelow(True)
    for path in paths:
        dates = {'CreationDate': None} if path.suffix == '.pdf' else {}
        figure.savefig(path, dpi=DPI, metadata=dates)


def styled() -> Any:
    """Returns the context in which figures of this style are drawn and written."""
    return matplotlib.rc_context(STYLE)


def learning_curve(run_dir: Path, path: Path) -> None:
    """Draws losses and success against updates, a line per seed, from train.csv and eval.csv.

    Bars are 95% Wilson intervals over the episodes of a seed: of this agent.
    """
    train, evaluations = (CsvTable(run_dir / f'{name}.csv').read() for name in ('train', 'eval'))
    with styled():
        figure = Figure(figsize=(PAGE, 2.7), layout='constrained')
        left, right = figure.subplots(1, 2)
        for seed in sorted({row['seed'] for row in train}):
            _plot_losses(left, [row for row in train if row['seed'] == seed])
            rows = [row for row in evaluations if row['seed'] == seed]
            _plot_success(right, [int(row['step']) for row in rows], rows)
        for axes in (left, right):
            axes.locator_params(axis='x', nbins=5)
        left.set(xlabel='updates', ylabel='loss', yscale='log')
        left.legend(frameon=False)
        right.set(xlabel='updates', ylabel='success', xlim=(0, None), ylim=(0, 1))
        write(figure, [path])


def success_against_n_pi(rows: list[dict[str, str]], path: Path) -> None:
    """Draws success against the number of candidates, from rows of inference.csv of one seed.

    Bars are 95% Wilson intervals over its episodes: of this agent.
    """
    with styled():
        figure, (axes,) = panels(1)
        _plot_success(axes, [int(row['n_pi']) for row in rows], rows)
        axes.set_xscale('log', base=2)
        axes.set_xticks([int(row['n_pi']) for row in rows], [row['n_pi'] for row in rows])
        axes.set(xlabel='candidates $N_\\pi$', ylabel='success', ylim=(0, 1))
        write(figure, [path])


def _plot_losses(axes: Axes, rows: list[dict[str, str]]) -> None:
    steps = [int(row['step']) for row in rows]
    # A frozen policy has no loss.
    for name, colour in (('policy_loss', BLUE), ('value_loss', ORANGE)):
        if name not in rows[0]:
            continue
        label = name.replace('_', ' ')
        axes.plot(steps, _column(rows, name), color=colour, label=label)
        if f'val_{name}' in rows[0]:
            values = _column(rows, f'val_{name}')
            axes.plot(steps, values, '--', color=colour, label=f'{label}, held out')


def _plot_success(axes: Axes, x: list[int], rows: list[dict[str, str]]) -> None:
    success = _column(rows, 'success')
    below = [s - low for s, low in zip(success, _column(rows, 'success_low'), strict=True)]
    above = [high - s for s, high in zip(success, _column(rows, 'success_high'), strict=True)]
    axes.errorbar(x, success, yerr=[below, above], color=GREEN, marker='o', capsize=3)


def _column(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in rows]
