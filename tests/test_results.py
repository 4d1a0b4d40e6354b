"""What is read from run directories: scores, what is missing and why, and damage."""

import csv
import json

import numpy as np
import pytest

from tests.report_runs import edit
from tests.run_folders import append_final, write_run
from utils.csv_lines import spans
from utils.errors import UserError
from utils.reporting import evaluations, published, results


def read(*roots, rule='last'):
    return results.read(roots, rule)


def rows_of(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def test_a_score_is_the_mean_of_the_last_three_evaluations(tmp_path):
    directory = write_run(tmp_path)
    rows = rows_of(directory / 'eval.csv')
    for result in read(tmp_path):
        own = [float(row['success']) for row in rows if int(row['seed']) == result.seed]
        assert result.score == pytest.approx(sum(own[-3:]) / 3)
        assert (len(result.evaluations), result.episodes, result.step) == (3, 10, 400)
        (source,) = result.sources
        assert source.file == directory / 'eval.csv'
        cited = [rows[number - 2] for number in source.lines]  # line 1 is the header
        assert [(row['step'], row['seed']) for row in cited] == [
            (step, str(result.seed)) for step in ('200', '300', '400')
        ]


@pytest.mark.parametrize('number', [1, 2])
def test_fewer_evaluations_are_counted(tmp_path, number):
    write_run(tmp_path, evaluated=(300, 400)[-number:])
    assert {len(result.evaluations) for result in read(tmp_path)} == {number}


@pytest.mark.parametrize(
    ('name', 'environment', 'task'),
    [
        ('scene-play-singletask-task4-v0', 'scene-play', '4'),
        ('puzzle-3x3-play-singletask-v0', 'puzzle-3x3-play', 'default'),
        ('antmaze-large-navigate-singletask-task1-v0', 'antmaze-large-navigate', '1'),
    ],
)
def test_an_environment_and_its_task(tmp_path, name, environment, task):
    write_run(tmp_path, env_name=name, seeds=(4,))
    (result,) = read(tmp_path)
    assert result.experiment == (environment, task, 'bc_small', 4)


def test_an_unfinished_run_has_no_score_but_a_reason(tmp_path):
    write_run(tmp_path, evaluated=(100, 200))
    for result in read(tmp_path):
        assert result.score is None
        assert result.step == 200
        assert 'unfinished, at step 200 of 400' in result.missing


def test_a_run_is_finished_when_all_seeds_are_evaluated(tmp_path):
    path = write_run(tmp_path) / 'eval.csv'
    path.write_text(''.join(path.read_text().splitlines(keepends=True)[:-1]))
    assert [result.score for result in read(tmp_path)] == [None] * 3


def test_a_run_that_was_never_evaluated_says_so(tmp_path):
    directory = write_run(tmp_path)
    (directory / 'eval.csv').unlink()
    assert 'trained, but not evaluated at step 400' in read(tmp_path)[0].missing


def test_a_prolonged_run_counts_with_its_later_evaluations(tmp_path):
    write_run(tmp_path, evaluated=(200, 400, 600), offline_steps=400)
    assert {result.step for result in read(tmp_path)} == {600}


def test_what_was_learned_online_does_not_count(tmp_path):
    directory = write_run(tmp_path, evaluated=(200, 400, 600))
    edit(directory / 'config.json', online=dict(after=400, share=0.5))
    assert {result.step for result in read(tmp_path)} == {400}


@pytest.mark.parametrize('level', ['root', 'environment', 'config', 'run'])
def test_runs_are_found_from_any_folder_above_them(tmp_path, level):
    directory = write_run(tmp_path)
    roots = dict(
        root=tmp_path,
        environment=directory.parent.parent,
        config=directory.parent,
        run=directory,
    )
    assert len(read(roots[level], directory)) == 3


@pytest.mark.parametrize('name', ['@eaDir', '.snapshot', '.Trash-1000', '.ipynb_checkpoints'])
def test_folders_of_network_storage_hold_no_runs(tmp_path, name):
    """They repeat the names of what is beside them."""
    directory = write_run(tmp_path)
    (directory.parent / name / directory.name).mkdir(parents=True)
    assert len(read(tmp_path, directory)) == 3


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match='holds no run'):
        read(tmp_path)


def test_the_final_evaluation_is_the_one_of_most_episodes_as_trained(tmp_path):
    directory = write_run(tmp_path, config_name='evor_small', seeds=(0,))
    append_final(directory, 0, 0.9, num=10)
    append_final(directory, 0, 0.3, num=20)
    append_final(directory, 0, 0.35, num=20)
    append_final(directory, 0, 0.1, num=40, n_pi=1)
    append_final(directory, 0, 0.2, num=40, step=300)
    append_final(directory, 0, 0.0, num=40, action_noise=0.2)
    (result,) = read(tmp_path, rule='final')
    assert (result.score, len(result.evaluations), result.episodes) == (0.35, 1, 20)
    assert (result.sources[0].file.name, result.sources[0].lines) == ('inference.csv', (4,))
    by_start, sources = evaluations.outcomes_by_start(result.evaluations)
    assert by_start == {number: float(number < 7) for number in range(20)}
    assert sources[0].lines == tuple(range(2 + 10 + 20, 2 + 10 + 20 + 20))


def test_a_temperature_is_compared_as_it_was_played_with(tmp_path):
    """In float32, which the record is not."""
    directory = write_run(tmp_path, config_name='evor_small', seeds=(0,), tau_q=0.0123456789)
    append_final(directory, 0, 0.9, tau_q='0.012345679')
    append_final(directory, 0, 0.1, num=40, tau_q='0.0123456')
    (result,) = read(tmp_path, rule='final')
    assert result.score == 0.9


def test_final_evaluations_of_older_versions_stand_beside_later_ones(tmp_path):
    """In one inference.csv, whose older rows lack what start states were promised."""
    directory = write_run(tmp_path, config_name='evor_small', seeds=(0, 1))
    append_final(directory, 0, 0.9)
    append_final(directory, 1, 0.3, values=np.full(20, -3.0))
    older, later = read(tmp_path, rule='final')
    assert (older.score, later.score) == (0.9, 0.3)
    assert [result.sources[0].lines for result in (older, later)] == [(2,), (3,)]
    for result, wins in ((older, 18), (later, 6)):
        assert sum(evaluations.outcomes_by_start(result.evaluations)[0].values()) == wins


def test_a_final_evaluation_needs_none_during_training(tmp_path):
    directory = write_run(tmp_path, config_name='evor_small', seeds=(0,))
    (directory / 'eval.csv').unlink()
    assert read(tmp_path)[0].score is None
    append_final(directory, 0, 0.3, num=20)
    (result,) = read(tmp_path, rule='final')
    assert (result.score, result.step) == (0.3, 400)


def test_without_a_final_evaluation_there_is_no_final_score(tmp_path):
    write_run(tmp_path, seeds=(0,))
    (result,) = read(tmp_path, rule='final')
    assert result.score is None
    assert 'scripts/evaluate.py' in result.missing


@pytest.mark.parametrize('promise', [None, -5.0])
def test_outcomes_of_a_start_state_are_averaged_over_the_same_evaluations(tmp_path, promise):
    directory = write_run(tmp_path, seeds=(0, 1), promise=promise)
    for result in read(tmp_path):
        by_start, (source,) = evaluations.outcomes_by_start(result.evaluations)
        assert np.mean(list(by_start.values())) == pytest.approx(result.score)
        rows = rows_of(directory / 'episodes.csv')
        cited = [rows[number - 2] for number in source.lines]
        assert {(row['step'], row['seed']) for row in cited} == {
            (step, str(result.seed)) for step in ('200', '300', '400')
        }
        for number, value in by_start.items():
            own = [int(row['success']) for row in cited if int(row['episode']) == number]
            assert value == pytest.approx(sum(own) / 3)


def test_outcomes_must_agree_with_the_score(tmp_path):
    path = write_run(tmp_path, seeds=(0,), chance=1.0) / 'episodes.csv'
    (result,) = read(tmp_path)
    whole = path.read_text()
    for damaged in ('400,0,3,0,', '400,0,4,1,'):  # another outcome, an episode twice
        path.write_text(whole.replace('400,0,3,1,', damaged))
        with pytest.raises(UserError, match=r'episodes\.csv.*not the episodes of'):
            evaluations.outcomes_by_start(result.evaluations)
    path.unlink()
    with pytest.raises(UserError, match=r'episodes\.csv.*not the episodes of'):
        evaluations.outcomes_by_start(result.evaluations)


def test_a_finished_repetition_replaces_an_unfinished_one(tmp_path):
    write_run(tmp_path / 'a', evaluated=(100,), seeds=(0, 1))
    write_run(tmp_path / 'b', seeds=(1, 2))
    found = {result.seed: result.score for result in read(tmp_path)}
    assert found[0] is None
    assert None not in (found[1], found[2])


def test_one_seed_with_two_scores_is_refused(tmp_path):
    write_run(tmp_path / 'a', chance=1.0)
    write_run(tmp_path / 'b', chance=0.0)
    with pytest.raises(UserError, match='both have seed 0 of bc_small, with different scores'):
        read(tmp_path)


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        (dict(lr=0.1), 'lr is 0.0003 there and 0.1 here'),
        (dict(offline_steps=300, evaluated=(100, 200, 300)), 'updates is 400 there and 300 here'),
    ],
)
def test_different_experiments_of_one_name_are_refused(tmp_path, change, named):
    write_run(tmp_path, seeds=(0,))
    write_run(tmp_path, seeds=(1,), **change)
    with pytest.raises(UserError, match=named):
        read(tmp_path)


def test_each_seed_may_have_a_base_policy_of_its_own(tmp_path):
    for seed in range(2):
        write_run(tmp_path, seeds=(seed,), policy_seed=seed)
    assert [result.seed for result in read(tmp_path)] == [0, 1]


def test_different_data_under_one_name_are_refused(tmp_path):
    write_run(tmp_path, seeds=(0,))
    path = write_run(tmp_path, seeds=(1,)) / 'config.json'
    path.write_text(path.read_text().replace('"checksum": 1', '"checksum": 2'))
    with pytest.raises(UserError, match='dataset checksum is 1 there and 2 here'):
        read(tmp_path)


def test_noise_makes_another_environment(tmp_path):
    """Which no published number is of, and which has a row and a panel of its own."""
    write_run(tmp_path / 'clean', seeds=(0,))
    path = write_run(tmp_path / 'noisy', seeds=(0,)) / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(action_noise=0.1)))
    environments = [result.run.environment for result in read(tmp_path)]
    assert environments == ['cube-single-play', 'cube-single-play, action_noise_0.1']


DAMAGE = {
    'no record': ('config.json', lambda text: None, 'no run here'),
    'half a record': ('config.json', lambda text: text[: len(text) // 2], 'damaged'),
    'a record of no run': ('config.json', lambda text: '{"seeds": [0]}', 'env_name is missing'),
    'another environment': ('config.json', lambda text: text.replace('-v0', ''), 'env_name'),
    'no such column': ('eval.csv', lambda text: text.replace('success,', 'wins,'), 'lacks'),
    'a word': ('eval.csv', lambda text: text.replace('\n400,', '\nfour,'), 'not a number'),
    'a rate above 1': ('eval.csv', lambda text: text.replace(',0.4,', ',4.0,'), 'rate of 4'),
    'a row twice': ('eval.csv', lambda text: text + text.splitlines()[-1] + '\n', 'a second'),
    'a foreign seed': ('eval.csv', lambda text: text.replace('\n400,2', '\n400,7'), 'none of this'),
    'a row cut off': ('eval.csv', lambda text: text[:-9], 'cut off'),
    'a nul': ('eval.csv', lambda text: text + '\0\n', 'damaged|cut off'),
}


@pytest.mark.parametrize('name', DAMAGE)
def test_damage_is_one_clear_line(tmp_path, name):
    file, damage, expected = DAMAGE[name]
    directory = write_run(tmp_path, chance=0.4, draw=3)
    path = directory / file
    text = damage(path.read_text())
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=expected) as error:
        read(tmp_path)
    assert str(directory) in str(error.value)
    assert '\n' not in str(error.value)


def test_a_table_cut_anywhere_gives_no_wrong_score(tmp_path):
    """Either the cut is noticed, or the run is unfinished."""
    path = write_run(tmp_path, seeds=(0, 1), evaluated=(300, 400)) / 'eval.csv'
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            scores = [result.score for result in read(tmp_path)]
        except UserError:
            continue
        assert scores == [None, None], length


def test_bytes_that_are_no_text_are_damage(tmp_path):
    path = write_run(tmp_path) / 'eval.csv'
    path.write_bytes(path.read_bytes() + b'\xff\xfe\n')
    with pytest.raises(UserError, match=r'eval\.csv: damaged'):
        read(tmp_path)


@pytest.mark.parametrize(
    ('lines', 'text'), [((), ''), ((3,), '3'), ((2, 3, 4, 7), '2-4 7'), ((5, 2, 3), '2-3 5')]
)
def test_line_numbers_in_spans(lines, text):
    assert spans(lines) == text


def test_published_means_are_those_of_the_published_tasks():
    """Printed to whole percents, so that means differ by half a percent at most."""
    by_agent = {}
    for item in published.read():
        key = item.source, item.environment, item.agent
        by_agent.setdefault(key, {})[item.task] = float(item.mean)
    checked = 0
    for (source, *_), tasks in by_agent.items():
        assert all(0.0 <= mean <= 100.0 for mean in tasks.values())
        if len(tasks) == 6 and source == 'FQL paper':
            mean = np.mean([tasks[task] for task in '12345'])
            assert mean == pytest.approx(tasks[published.ALL_TASKS], abs=0.5)
            checked += 1
    assert checked == 5


def test_every_published_number_has_its_source():
    for item in published.read():
        assert item.source
        assert len(item.arxiv.split('.')) == 2
        assert item.table or 'secondary' in item.source
        row = rows_of(item.origin.file)[item.origin.lines[0] - 2]
        assert (row['agent'], row['mean']) == (item.agent, item.mean)


def test_a_published_number_is_there_once(tmp_path):
    header = ','.join(published.COLUMNS)
    row = 'paper,1.2,table 1,scene-play,1,FQL,5,,,,'
    (tmp_path / 'twice.csv').write_text(f'{header}\n{row}\n{row}\n')
    with pytest.raises(UserError, match='line 3: a second value'):
        published.read(tmp_path)
