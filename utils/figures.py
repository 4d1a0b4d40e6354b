"""Pictures of one run, drawn from its tables."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.metrics import CsvTable

# Okabe and Ito's colours, told apart by colour-blind readers too.
BLUE, ORANGE, GREEN = '#0072B2', '#D55E00', '#009E73'


def learning_curve(run_dir: Path, path: Path) -> None:
    """Draws losses and success against updates, a line per seed, from train.csv and eval.csv."""
    train, evaluations = (CsvTable(run_dir / f'{name}.csv').read() for name in ('train', 'eval'))
    figure = Figure(figsize=(9, 3.4), layout='constrained')
    left, right = figure.subplots(1, 2)
    for seed in sorted({row['seed'] for row in train}):
        rows = [row for row in train if row['seed'] == seed]
        steps = [int(row['step']) for row in rows]
        for name, colour in (('policy_loss', BLUE), ('value_loss', ORANGE)):
            label = name.replace('_', ' ')
            left.plot(steps, _column(rows, name), color=colour, label=label)
            if f'val_{name}' in rows[0]:
                values = _column(rows, f'val_{name}')
                left.plot(steps, values, '--', color=colour, label=f'{label}, held out')
        rows = [row for row in evaluations if row['seed'] == seed]
        _plot_success(right, [int(row['step']) for row in rows], rows)
    for axes in (left, right):
        axes.locator_params(axis='x', nbins=5)
    left.set(xlabel='updates', ylabel='loss', yscale='log')
    left.legend(frameon=False, fontsize=8)
    right.set(xlabel='updates', ylabel='success', xlim=(0, None), ylim=(0, 1))
    _save(figure, path)


def success_against_n_pi(rows: list[dict[str, str]], path: Path) -> None:
    """Draws success and its interval against the number of candidates (rows of inference.csv)."""
    figure = Figure(figsize=(4.5, 3.4), layout='constrained')
    axes = figure.subplots()
    _plot_success(axes, [int(row['n_pi']) for row in rows], rows)
    axes.set_xscale('log', base=2)
    axes.set_xticks([int(row['n_pi']) for row in rows], [row['n_pi'] for row in rows])
    axes.set(xlabel='candidates $N_\\pi$', ylabel='success', ylim=(0, 1))
    _save(figure, path)


def _plot_success(axes: Axes, x: list[int], rows: list[dict[str, str]]) -> None:
    success = _column(rows, 'success')
    below = [s - low for s, low in zip(success, _column(rows, 'success_low'), strict=True)]
    above = [high - s for s, high in zip(success, _column(rows, 'success_high'), strict=True)]
    axes.errorbar(x, success, yerr=[below, above], color=GREEN, marker='o', capsize=3)


def _column(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
