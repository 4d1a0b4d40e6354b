import threading

import jax.numpy as jnp
import numpy as np
import pytest

from utils.system.background import Background, on_host


def test_a_job_runs_beside_its_caller_and_is_waited_for():
    let_go, done = threading.Event(), []

    def job():
        assert let_go.wait(timeout=60)
        done.append('job')

    with Background(overlaps=True) as background:
        background.run(job)
        assert done == []
        let_go.set()
    assert done == ['job']


def test_without_overlap_a_job_has_ended_when_run_returns():
    done = []
    with Background(overlaps=False) as background:
        background.run(lambda: done.append('job'))
        assert done == ['job']


def test_jobs_keep_their_order():
    done = []
    with Background(overlaps=True) as background:
        for number in range(20):
            background.run(lambda number=number: done.append(number))
    assert done == list(range(20))


@pytest.mark.parametrize('overlaps', [False, True])
def test_a_job_that_fails_is_heard_of(overlaps):
    def fail():
        raise ValueError('lost')

    with pytest.raises(ValueError, match='lost'), Background(overlaps) as background:
        background.run(fail)


def test_copies_on_the_host_are_copies():
    array = jnp.arange(3.0)
    copy = on_host({'leaf': array})['leaf']
    assert copy.unsafe_buffer_pointer() != array.unsafe_buffer_pointer()
    np.testing.assert_array_equal(copy, array)
    assert [device.platform for device in copy.devices()] == ['cpu']
