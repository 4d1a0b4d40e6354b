"""Weights & Biases: a run for every task and seed; with a stand-in, and with wandb where it is."""

import itertools
import struct
import sys
from types import SimpleNamespace

import pytest

from utils.errors import UserError
from utils.storage import wandb_runs
from utils.storage.metrics import RunLog

LOSSES = {(task, seed): 10.0 * task + seed for task in (1, 2) for seed in (0, 5)}


class StandIn:
    """As wandb behaves without `reinit`: the first run of a process is every run."""

    __version__ = '0.31.0'

    class Error(Exception):
        pass

    def __init__(self, refuses=False):
        self.runs, self._refuses = [], refuses

    def init(self, reinit=None, **settings):
        if self._refuses:
            raise self.Error('api_key not configured (no-tty).\nCall wandb.login')
        if self.runs and reinit != 'create_new':
            return self.runs[0]
        run = SimpleNamespace(settings=settings, rows=[], finished=False)
        run.log, run.finish = run.rows.append, lambda: setattr(run, 'finished', True)
        self.runs.append(run)
        return run


@pytest.fixture
def wandb(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, 'wandb', stand_in)
    return stand_in


def log_two_tasks(folder):
    """Logs of tasks that train together, all open at a time."""
    folders = {task: folder / f'task{task}' for task in (1, 2)}
    for path in folders.values():
        path.mkdir(exist_ok=True)
    with (
        wandb_runs.opened(folders[1], [0, 5], dict(lr=0.1)) as first,
        wandb_runs.opened(folders[2], [0, 5], dict(lr=0.1)) as second,
        RunLog(folders[1], 0, first) as one,
        RunLog(folders[2], 0, second) as two,
    ):
        for task, log in ((1, one), (2, two)):
            log.write('train', [dict(step=3, seed=s, loss=LOSSES[task, s]) for s in (0, 5)])
    return folders


def test_a_run_per_task_and_seed(wandb, tmp_path):
    folders = log_two_tasks(tmp_path)
    assert len({run.settings['id'] for run in wandb.runs}) == 4
    for run, (task, seed) in zip(wandb.runs, itertools.product((1, 2), (0, 5)), strict=True):
        assert run.settings['name'] == f'{folders[task]}/seed_{seed}'
        assert run.settings['dir'] == str(folders[task])
        assert run.settings['config'] == dict(lr=0.1, seed=seed)
        assert run.rows == [{'train/loss': LOSSES[task, seed], 'step': 3}]
        assert run.finished


def test_a_run_that_goes_on_has_its_own_and_a_copy_elsewhere_keeps_it(wandb, tmp_path):
    (tmp_path / 'run').mkdir()
    for name in ('run', 'moved'):
        with wandb_runs.opened(tmp_path / name, [0, 5], {}):
            pass
        if name == 'run':
            (tmp_path / 'run').rename(tmp_path / 'moved')
    ids = [run.settings['id'] for run in wandb.runs]
    assert ids[:2] == ids[2:]
    (tmp_path / 'run').mkdir()
    with wandb_runs.opened(tmp_path / 'run', [0], {}):
        pass
    assert wandb.runs[-1].settings['id'] not in ids


def test_a_damaged_list_is_named(wandb, tmp_path):
    for content in ('{', '[1]'):
        (tmp_path / 'wandb.json').write_text(content)
        with pytest.raises(UserError, match=r'wandb\.json: damaged'):
            wandb_runs.opened(tmp_path, [0], {}).__enter__()


def test_without_a_key_one_line_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'wandb', StandIn(refuses=True))
    with pytest.raises(UserError, match=r'api_key not configured.*log in.*WANDB_MODE=offline'):
        wandb_runs.opened(tmp_path, [0], {}).__enter__()


@pytest.mark.parametrize(('module', 'message'), [(None, 'not installed'), ('0.19.8', 'too old')])
def test_no_wandb_or_an_old_one_is_refused(monkeypatch, tmp_path, module, message):
    stand_in = module and SimpleNamespace(__version__=module)
    monkeypatch.setitem(sys.modules, 'wandb', stand_in)
    with pytest.raises(UserError, match=message):
        wandb_runs.opened(tmp_path, [0], {}).__enter__()


def records(path):
    """The records of a .wandb file: LevelDB's log format behind a header of 7 bytes."""
    content, place, record = path.read_bytes(), 7, b''
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # no record begins in a block's last bytes
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack('<HB', content[place + 4 : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b''


def test_the_files_of_wandb_itself(monkeypatch, tmp_path):
    """Rows as they stand in the files of an offline run; where wandb is installed."""
    pytest.importorskip('wandb')
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    for task, folder in log_two_tasks(tmp_path).items():
        found = {}
        for path in folder.glob('wandb/offline-run-*/*.wandb'):
            parsed = [Record.FromString(record) for record in records(path)]
            [name] = {record.run.display_name for record in parsed} - {''}
            items = [item for record in parsed for item in record.history.item]
            named = [('/'.join(item.nested_key) or item.key, item.value_json) for item in items]
            found[name] = [float(value) for key, value in named if key == 'train/loss']
        assert found == {f'{folder}/seed_{seed}': [LOSSES[task, seed]] for seed in (0, 5)}
