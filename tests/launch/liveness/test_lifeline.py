"""The ranks' connections, all in this process. What needs several processes is in tests/multiprocess."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from threading import Event, Thread

import pytest

from lockstep.errors import DataError, PeerError
from lockstep.launch import advance, limited, unlimited
from lockstep.launch.liveness.heartbeats import BETWEEN, COMPUTING, EVALUATING, READING, WAITING
from lockstep.launch.liveness.lifeline_ends import MainEnd, OtherEnd, SoloEnd
from lockstep.launch.network import is_loopback
from processes import with_support

WAIT = 10
"""Seconds that a busy machine may need."""


@contextlib.contextmanager
def lifelines(world_size=3, limit_seconds=60.0):
    main = MainEnd(world_size, limit_seconds)
    place = ("127.0.0.1", main.port)
    others = [OtherEnd(rank, limit_seconds, place, main.token, main.node) for rank in range(1, world_size)]
    try:
        yield main, *others
    finally:
        for end in (*others, main):
            end.close()


def test_all_come_before_any_goes_on():
    with lifelines() as (main, one, two):
        assert main.wait_for_all(WAIT)
        assert not one.wait_for_all(0.01)
        assert is_loopback(main.exchange_addresses())
        assert [one.wait_for_all(WAIT), two.wait_for_all(WAIT)] == [True, True]
        assert one.exchange_addresses() == "127.0.0.1"


def test_a_failure_reaches_all_and_the_first_counts():
    with lifelines() as (main, one, two):
        assert main.wait_for_all(WAIT)
        assert one.tell_failure(DataError("file x is\n damaged")) == ""
        for other in (main, two):
            assert other._wait(lambda other=other: bool(other._failure), WAIT)
            with pytest.raises(PeerError, match=rf"rank 1 on {main.node} failed: file x is damaged"):
                other.check()
        # What torch says then is only the end of a connection to the rank that failed.
        with pytest.raises(PeerError, match=r"rank 1 on .* failed: file x"):
            two.report(RuntimeError("Connection closed by peer"))
        two.report(ValueError("of its own"))


def test_the_main_ranks_failure_reaches_all():
    with lifelines() as (main, one, two):
        assert main.wait_for_all(WAIT)
        main.tell_failure(OSError("disk full"))
        for other in (one, two):
            assert other._wait(lambda other=other: bool(other._failure), WAIT)
            assert other._failure == f"rank 0 on {main.node} failed: OSError: disk full"


def test_a_rank_that_is_gone_is_named_and_one_that_said_goodbye_is_not():
    with lifelines() as (main, one, two):
        assert main.wait_for_all(WAIT)
        one.close()
        time.sleep(0.1)
        main.check()
        two._connection.channel.shutdown(socket.SHUT_RDWR)  # as the end of its process does
        assert main._wait(lambda: bool(main._failure), WAIT)
        text = f"rank 2 on {main.node} has ended without a word; it was before its first step"
        assert main._failure == text
        main._is_ending = two._is_ending = True


def test_silence_is_a_failure():
    with lifelines(2, limit_seconds=0.2) as (main, one):
        assert main.wait_for_all(WAIT)
        main._is_ending = one._is_ending = True
        one._connection.send = lambda **message: None
        assert main._wait(lambda: bool(main._failure), WAIT)
        assert "rank 1 on" in main._failure
        assert "has given no sign of life for 0.2 s (run.timeout_seconds)" in main._failure


def test_a_stranger_is_not_heard():
    with lifelines() as (main, *_):
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"failed": "no"}\n', b'{"token": "x"}\n'):
            with socket.create_connection(("127.0.0.1", main.port)) as stranger:
                stranger.sendall(words)
                stranger.settimeout(WAIT)
                with contextlib.suppress(ConnectionResetError):
                    assert stranger.recv(1) == b""
        assert main.wait_for_all(WAIT)
        main.check()


def test_a_debugger_keeps_the_sign_alive():
    """The thread that trains stands in a module of a debugger: here one that only has such a name."""
    with lifelines(2) as (main, _):
        main.position = lambda: (3, COMPUTING)
        found = []
        module = {"__name__": "bdb", "look": lambda: found.append(str(main.heartbeat()))}
        exec("def stop(): look()", module)
        with limited(BETWEEN):
            module["stop"]()
            elsewhere = Thread(target=module["stop"])  # a debugger in another thread stops nobody
            elsewhere.start()
            elsewhere.join()
        assert found == ["in step 4", "in step 4, computing"]


def test_the_innermost_word_says_what_a_rank_does():
    """A step's own words (reading, computing) hold only while the loop runs: an error may leave one."""
    with lifelines(2) as (main, _):
        main.position = lambda: (3, COMPUTING)
        assert str(main.heartbeat()) == "in step 4"
        with limited(BETWEEN):
            assert str(main.heartbeat()) == "in step 4, computing"
            with limited(EVALUATING), unlimited():
                assert str(main.heartbeat()) == "in step 4"
            main.position = lambda: (4, "")
            before = main.heartbeat()
            assert str(before) == "in step 5, between two steps"
            advance()
            assert main.heartbeat() != before
            main.is_waiting = True
            assert main.heartbeat().activity == WAITING


def test_a_rank_that_stands_still_says_where_and_all_others_hear_it(monkeypatch, capsys):
    """The process ends by os._exit, which is taken away from it here, for all ranks are in one process."""
    ends = []
    monkeypatch.setattr("lockstep.launch.liveness.lifeline.os._exit", ends.append)
    with lifelines(2, limit_seconds=1.0) as (main, one):
        assert main.wait_for_all(WAIT)
        one.is_waiting = True  # in one process, what is said of it holds for all
        with limited(READING):
            assert one._wait(lambda: bool(one._failure), WAIT)
        main._thread.join(WAIT)
        assert ends == [1]
        text = f"rank 0 on {main.node} has been before its first step, reading data for 1 s"
        assert one._failure.startswith(f"{text} (run.timeout_seconds), at ")
        assert capsys.readouterr().err == f"lockstep: {one._failure}\n"
        one._is_ending = True


def test_a_rank_that_waits_for_its_own_data_is_ended_though_the_main_rank_is_gone(monkeypatch, capsys):
    """No collective tells it that another has failed, and the main rank says goodbye as its process ends."""
    ends = []
    monkeypatch.setattr("lockstep.launch.liveness.lifeline.os._exit", ends.append)
    with lifelines(3, limit_seconds=2.0) as (main, one, two):
        assert main.wait_for_all(WAIT)
        one.tell_failure(DataError("file x is damaged"))
        assert two._wait(lambda: bool(two._failure), WAIT)
        main.close()
        deadline = time.monotonic() + WAIT
        while not ends and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ends
    assert (
        f"lockstep: rank 2 stopped: rank 1 on {main.node} failed: file x is damaged"
        in capsys.readouterr().err
    )


def test_a_rank_alone_looks_at_itself(monkeypatch, capsys):
    over = Event()
    monkeypatch.setattr("lockstep.launch.liveness.lifeline.os._exit", lambda code: over.set())
    end = SoloEnd(0, 0.4)
    try:
        with limited("handing a record to Sink"):
            time.sleep(0.2)
            advance()
            assert not over.wait(0.3)
            assert over.wait(WAIT)
    finally:
        end.close()
    line = "before its first step, handing a record to Sink for 0.4 s (run.timeout_seconds), at "
    assert line in capsys.readouterr().err


def test_a_main_rank_whose_others_have_all_gone_has_no_address():
    with lifelines(1) as (main,):
        assert main.exchange_addresses() == ""


def test_a_main_rank_that_cannot_be_reached_leaves_nothing_to_close():
    program = (
        "import socket\n"
        "from lockstep.launch.liveness.lifeline_ends import OtherEnd\n"
        "with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "    place = server.getsockname()\n"
        "try:\n"
        "    OtherEnd(1, 60, place, 'token', 'node')\n"
        "except ConnectionRefusedError:\n"
        "    print('refused')\n"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **with_support()}, timeout=60
    )
    assert (result.stdout, result.stderr) == ("refused\n", "")
