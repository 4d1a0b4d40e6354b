"""What the phases cost, from the rows of `benchmarks.phases`, as Markdown."""

from typing import Any

from benchmarks import reports

# Updates of the base policy and of the values, for the whole.
POLICY_STEPS, VALUE_STEPS, TASKS = 300_000, 1_000_000, 5


def tables(result: dict[str, Any]) -> str:
    """Returns the costs, and those of five tasks from nothing, as Markdown."""
    lines = []
    for row in result['updates']:
        m = {0: 'data'}.get(row['m'], str(row['m'])) if 'base' not in row['what'] else ''
        cells = row['size'], row['what'], m, str(row['tasks'])
        lines.append([*cells, f'{row["ms_per_update"]:.2f}', f'{row["gflop_per_update"]:.2f}'])
    header = ['nets', 'what', 'M', 'tasks', 'ms per update', 'GFLOP']
    text = reports.table(header, lines)
    lines = []
    for of_pool in result['pools']:
        rows = reports.select(result['updates'], size=of_pool['size'])
        [base] = reports.select(rows, what='base policy')
        drawn = result['rows'] * of_pool['ms_per_state']
        for row in rows:
            if not row['what'].endswith('values') or row['tasks'] != TASKS or not row['m']:
                continue
            loop = row['what'].replace('values', 'one loop')
            [alone] = reports.select(rows, what=loop, m=row['m'], tasks=1)
            phases = POLICY_STEPS * base['ms_per_update'] + drawn
            phases += VALUE_STEPS * row['ms_per_update']
            apart = TASKS * VALUE_STEPS * alone['ms_per_update']
            hours = [f'{milliseconds / 3.6e6:.1f}' for milliseconds in (drawn, phases, apart)]
            cells = of_pool['size'], row['what'].split(',')[0], str(row['m']), *hours
            lines.append([*cells, f'{phases / apart:.2f}'])
    header = [
        'nets',
        'agent',
        'M',
        'hours: pool',
        'phases, five tasks',
        'five one-loop runs',
        'share',
    ]
    return text + '\n' + reports.table(header, lines)
