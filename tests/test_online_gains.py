"""What going on online gained: over the same seeds, beside as many updates on the data alone."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from tests.report_runs import edit
from tests.run_folders import write_run
from utils.errors import UserError
from utils.reporting import online_gains, results


def test_a_gain_online_is_over_the_same_seeds():
    def rates(*success):
        return [SimpleNamespace(success=one, episodes=50) for one in success]

    half = stats.t.ppf(0.975, 2) * np.std([10, 20, 60], ddof=1) / 3**0.5
    assert online_gains.gain(rates(0.5, 0.7, 0.9), rates(0.4, 0.5, 0.3)) == f'+30 +- {half:.0f}'
    assert online_gains.gain(rates(0.5), rates(0.75)) == '-25'
    assert online_gains.mean(rates(0.5, 0.7, 0.9)).startswith('70 [')


def test_the_row_of_an_online_run_has_both_ends_and_its_control(tmp_path):
    for folder, evaluated in dict(collected=(200, 400), offline=(400,)).items():
        directory = write_run(tmp_path / folder, evaluated=evaluated, draw=len(evaluated))
        edit(directory / 'config.json', online=dict(after=200, share=0.5))
    [run] = results.find_runs([tmp_path / 'collected'])
    cells = online_gains.row(run, directory)
    before, after = (online_gains.rates(run.directory, run.seeds, step) for step in (200, 400))
    assert cells[1:5] == ['200', online_gains.mean(before), '200', online_gains.mean(after)]
    control = online_gains.rates(directory, run.seeds, 400)
    assert cells[6:] == [online_gains.mean(control), online_gains.gain(after, control)]
    with pytest.raises(UserError, match='seed 0 was not evaluated at step 200'):
        online_gains.rates(directory, run.seeds, 200)
