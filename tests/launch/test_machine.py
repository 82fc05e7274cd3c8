"""What the process takes of this machine."""

import os
import resource

from lockstep.launch import num_cores
from lockstep.launch.machine import allow_connections, keep_freed_memory, threads_per_process


def test_cores_are_those_that_the_process_may_use():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert num_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert num_cores() == len(allowed)


def test_processes_share_cores_and_each_has_one_thread_at_least():
    assert [threads_per_process(8, processes) for processes in (1, 3, 8, 16)] == [8, 2, 1, 1]


def test_keeping_memory_is_safe_to_ask_for_twice():
    keep_freed_memory()
    keep_freed_memory()


def test_a_large_launch_may_open_a_connection_to_each_rank():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = min(1024, before[0]), before[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        allow_connections(512)  # two groups of gloo and the lifeline
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(soft + 3 * 512, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
