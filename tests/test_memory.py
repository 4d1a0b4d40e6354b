"""The memory that is left to a process: of the least of its control groups."""

import pytest

from utils.system import memory

MIB = 2**20


def write_group(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f'{content}\n')


def second(limit, used, cache):
    return {
        'memory.max': limit,
        'memory.current': used,
        'memory.stat': f'anon 1\ninactive_file {cache}',
    }


def first(limit, used, cache):
    return {
        'memory.limit_in_bytes': limit,
        'memory.usage_in_bytes': used,
        'memory.stat': f'cache 1\ntotal_inactive_file {cache}',
    }


@pytest.mark.parametrize(
    ('line', 'folder', 'files'), [('0::{}', '', second), ('4:memory:{}', 'memory', first)]
)
def test_a_job_may_take_what_its_group_and_those_above_leave(tmp_path, line, folder, files):
    """Caches that the kernel would give up are not in use; another job's group is not ours."""
    told, root = tmp_path / 'cgroup', tmp_path / 'groups' / folder
    told.write_text(f'3:cpuset:/\n{line.format("/slurm/job_1")}\n')
    write_group(root / 'slurm/job_1', files(800 * MIB, 300 * MIB, 100 * MIB))
    write_group(root / 'slurm', files(1000 * MIB, 700 * MIB, 0))
    write_group(root / 'slurm/job_2', files(MIB, 0, 0))
    assert [*memory._of_groups(told, tmp_path / 'groups')] == [600 * MIB, 300 * MIB]


def test_where_no_group_has_a_limit_there_is_none(tmp_path):
    told = tmp_path / 'cgroup'
    assert [*memory._of_groups(told, tmp_path)] == []
    told.write_text('0::/a\n')
    write_group(tmp_path / 'a', second('max', MIB, 0))
    assert [*memory._of_groups(told, tmp_path)] == []


def test_this_process_has_some():
    assert memory.available() > MIB
