import json
import subprocess
import sys

import numpy as np
import pytest

from tests.commands import ROOT, run_here
from utils.data import contents, datasets
from utils.data.contents import Share
from utils.generation import generator

MAZE, CUBE = 'pointmaze-medium-stitch-v0', 'cube-single-play-v0'


def with_successes(successes, length=4):
    """Trajectories of `length` transitions, the first few of each at success."""
    masks = np.array([[0.0] * num + [1.0] * (length + 1 - num) for num in successes])
    terminals = np.zeros_like(masks, dtype=bool)
    terminals[:, -1] = True
    rows = masks.size
    return datasets.build(
        dict(
            observations=np.zeros((rows, 2)),
            actions=np.zeros((rows, 1)),
            terminals=terminals.reshape(-1),
            rewards=masks.reshape(-1) - 1.0,
            masks=masks.reshape(-1),
        )
    )


def test_the_share_of_successes_and_its_error_over_episodes():
    share = contents.success_share(with_successes([1, 0, 3, 0]))
    assert share.mean == 4 / 16
    assert share.episodes == 4
    np.testing.assert_allclose(share.error, np.std([0.25, 0.0, 0.75, 0.0], ddof=1) / 2.0)


def test_equal_sources_differ_by_about_a_standard_error():
    rng, off = np.random.default_rng(0), []
    for _ in range(300):
        one, other = rng.binomial(4, 0.1, (2, 200))
        expected = contents.success_share(with_successes(other)).mean
        share = contents.success_share(with_successes(one))
        off += contents.deviations([share], [expected], 200)
    assert abs(np.mean(off)) < 0.2
    assert 0.85 < np.std(off) < 1.15


def stays(rng, rate, episodes):
    """Shares of successful transitions of episodes that hold few stays at the goal, some long."""
    lengths = 0.01 * rng.pareto(3.5, (episodes, 4)) * (rng.uniform(size=(episodes, 4)) < rate / 4)
    shares = lengths.sum(axis=1)
    return Share(shares.mean(), shares.std(ddof=1) / np.sqrt(episodes), episodes)


def test_equal_sources_of_rare_successes_are_not_called_different():
    """They would be, one in 40, by the spread of a task's own episodes."""
    rng, off, by_own = np.random.default_rng(0), [], []
    rates = [0.05, 0.1, 0.2, 0.2, 0.4]
    for _ in range(300):
        expected = [stays(rng, rate, 500).mean for rate in rates]
        found = [stays(rng, rate, 200) for rate in rates]
        off += contents.deviations(found, expected, 500)
        for share, other in zip(found, expected, strict=True):
            error = share.error * (1.0 + 200 / 500) ** 0.5
            by_own.append(abs(share.mean - other) > contents.TOLERANCE * error)
    assert 0.85 < np.std(off) < 1.15
    assert max(np.abs(off)) < contents.TOLERANCE
    assert np.mean(by_own) > 1 / 50


def test_other_sources_are():
    rng = np.random.default_rng(0)
    rates = [0.05, 0.1, 0.2, 0.2, 0.4]
    for _ in range(20):
        expected = [stays(rng, rate, 1000).mean for rate in rates]
        shares = [stays(rng, 4.0 * rate, 1000) for rate in rates]
        assert max(np.abs(contents.deviations(shares, expected, 1000))) > contents.TOLERANCE


def test_shares_without_any_success_differ_from_all_others():
    none = [Share(0.0, 0.0, 10)] * 2
    assert contents.deviations(none, [0.0, 0.1], 10) == [0.0, -np.inf]
    # One task without is judged by the stays of the others.
    shares = [Share(0.0, 0.0, 10), Share(0.1, 0.02, 10)]
    np.testing.assert_allclose(
        contents.deviations(shares, [0.1, 0.1], 10), [-0.1 / 0.02 / 2**0.5, 0]
    )


def test_shares_of_plans_are_compared_as_binomials():
    assert contents.plan_deviation((2200, 2186), (242, 241)) < 1.0
    assert contents.plan_deviation((2200, 1900), (242, 241)) < -4.0


def arguments(folder, name):
    return 'scripts/check_data.py', f'--dataset={name}', f'--dataset_dir={folder}'


def check(folder, name):
    return subprocess.run(
        [sys.executable, *arguments(folder, name)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_set_of_which_nothing_is_known_is_measured_and_one_without_record_named(tmp_path):
    generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=0)
    result = check(tmp_path, MAZE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(f'| {MAZE} | success, task ') == 5
    (tmp_path / f'{MAZE}.json').unlink()
    result = run_here(*arguments(tmp_path, MAZE))
    assert result.returncode == 2
    assert result.stderr.startswith(f'error: {tmp_path / MAZE}.json: not found')


@pytest.mark.long
def test_a_set_whose_plans_fail_is_found_out(tmp_path):
    generator.generate(CUBE, tmp_path, episodes=1, workers=1, seed=0)
    path = tmp_path / f'{CUBE}.json'
    record = json.loads(path.read_text())
    record['plan_successes']['train'] = 0
    path.write_text(json.dumps(record))
    result = check(tmp_path, CUBE)
    assert result.returncode == 2
    assert result.stderr.startswith('error: not what OGBench makes: cube-single-play-v0: plans')
