import os
import signal

import pytest

from lockstep.launch import STOP_SIGNALS, StopRequest
from lockstep.launch.process import stop_signals


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.signal(number, signal.SIG_DFL) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_requests_a_stop_and_does_not_end_the_process(number):
    stop = StopRequest({})
    stop.install()
    assert not stop.is_set()
    os.kill(os.getpid(), number)
    assert stop.is_set()


def test_a_run_started_with_nohup_outlives_its_terminal():
    for number in signal.SIGHUP, signal.SIGUSR1:
        signal.signal(number, signal.SIG_IGN)
    StopRequest({}).install()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGUSR1) != signal.SIG_IGN  # a job script's launcher ignores it


def test_a_second_ctrl_c_does_what_it_did_before():
    """In a command it ends the process; in a notebook it must not end the kernel."""
    for handler in (signal.SIG_DFL, signal.default_int_handler):
        signal.signal(signal.SIGINT, handler)
        StopRequest({}).install()
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is handler


def test_only_the_main_rank_looks_for_the_stop_file_of_the_job_script(tmp_path, monkeypatch):
    monkeypatch.setattr(stop_signals, "LOOK_EVERY_SECONDS", 0.0)
    file = tmp_path / "stop"
    ranks = [StopRequest({"LOCKSTEP_STOP_FILE": str(file), "WORLD_SIZE": "2", "RANK": rank}) for rank in "01"]
    assert [stop.is_set() for stop in ranks] == [False, False]
    file.touch()
    assert [stop.is_set() for stop in ranks] == [True, False]


def test_the_stop_file_is_looked_for_once_a_second(tmp_path, monkeypatch):
    now, looks = [100.0], []
    monkeypatch.setattr(stop_signals.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stop_signals.os.path, "exists", lambda path: looks.append(now[0]) or now[0] > 101)
    stop = StopRequest({"LOCKSTEP_STOP_FILE": "stop"})
    answers = []
    for now[0] in (100.0, 100.4, 100.9, 101.1, 101.2, 109.0):
        answers.append(stop.is_set())
    assert looks == [100.0, 101.1]
    assert answers == [False, False, False, True, True, True]


def test_the_job_script_learns_that_the_run_can_be_resumed(tmp_path):
    StopRequest({}).mark_resumable()  # without a job script there is nobody to tell
    StopRequest({"LOCKSTEP_RESUMABLE_FILE": str(tmp_path / "resumable")}).mark_resumable()
    assert (tmp_path / "resumable").exists()
