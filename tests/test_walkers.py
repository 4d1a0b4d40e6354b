import numpy as np
import pytest

from benchmarks import walkers
from utils.errors import UserError
from utils.generation import behaviours, experts
from utils.generation.sources import SOURCES

DATASET = 'antmaze-medium-navigate-v0'


@pytest.fixture
def short_walks(monkeypatch):
    monkeypatch.setitem(SOURCES, DATASET, SOURCES[DATASET]._replace(steps=60))


@pytest.fixture
def lazy(tmp_path):
    """An expert that never moves a limb."""
    expert = experts.load('ant')
    still = experts.Expert(*([np.zeros_like(array) for array in arrays] for arrays in expert))
    experts.save(still, tmp_path / 'ant', {})
    return tmp_path


def test_an_episode_is_that_of_the_dataset(short_walks):
    [first, second] = walkers.play(experts.FOLDER, DATASET, 2, seed=3)
    source = SOURCES[DATASET]
    env = source.make_env(source.env_id, source.steps)
    recording = behaviours.record_navigate(env, source.env_id, np.random.SeedSequence((3, 0, 1, 0)))
    positions = recording.episode['observations'][:, :2]
    ways = np.linalg.norm(positions[50:] - positions[:-50], axis=1)
    assert second['goals'] == recording.successes
    assert second['metres'] == pytest.approx(ways.mean())
    assert (second['windows'], second['episode']) == (10, 1)
    assert first['expert'] == experts.digest('ant')


def test_each_expert_walks_by_itself(short_walks, lazy):
    """From the same start: in 6 s one goes somewhere, the other nowhere."""
    rows = [walkers.play(folder, DATASET, 2, seed=0) for folder in (experts.FOLDER, lazy)]
    quick, slow = (np.mean([row['metres'] for row in of]) for of in rows)
    assert quick > 2.0
    assert slow < 1.0
    assert rows[0][0]['expert'] != rows[1][0]['expert']


def test_the_report_pairs_episodes():
    """Goals differ from episode to episode, yet the second always reaches one more."""
    rows = [
        dict(expert=expert, goals=goals + more, metres=5.0)
        for expert, more in (('a' * 64, 0), ('b' * 64, 1))
        for goals in (1, 5, 3)
    ]
    *_, first, second = walkers.report(rows).splitlines()
    assert first == f'| {"a" * 16} | 3 | 3.00 +- 2.26 | - | 5.00 +- 0.00 | - |'
    assert second == (
        f'| {"b" * 16} | 3 | 4.00 +- 2.26 | +1.00 +- 0.00 | 5.00 +- 0.00 | +0.00 +- 0.00 |'
    )


@pytest.mark.parametrize(
    'dataset', ['pointmaze-medium-navigate-v0', 'cube-single-play-v0', 'antmaze-medium-stitch-v0']
)
def test_what_no_expert_walks_to_goals_is_refused(dataset):
    with pytest.raises(UserError, match='--dataset'):
        walkers.play(experts.FOLDER, dataset, 2, 0)
