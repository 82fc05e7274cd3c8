"""Where the ranks of a launch meet before they make process groups: a store, and the lifeline through it."""

from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Timer

import torch.distributed as dist

from lockstep.errors import RankError, RankFailed
from lockstep.launch.launcher.variables import Launch
from lockstep.launch.liveness.heartbeats import ranks_text
from lockstep.launch.liveness.last_words import leave_words
from lockstep.launch.liveness.lifeline import Lifeline
from lockstep.launch.liveness.lifeline_ends import MainEnd, OtherEnd

PATIENCE_SECONDS = 10.0
"""How long a rank waits for another before it says for whom."""
LOADING_SECONDS = 60.0
"""How long ranks may differ in loading their programs, however small the limit on silence is."""
LOOK_SECONDS = 0.05
"""How long it waits before it looks again."""


def meet(launch: Launch, limit_seconds: float, name: str) -> tuple[dist.Store, Lifeline]:
    """Waits until all ranks have come, several of them. All ranks must call it.

    Args:
        launch: what the launcher started.
        limit_seconds: how long a silence may last, and to wait for the others, but at least
            `LOADING_SECONDS`.
        name: of this meeting, the same on all ranks; a process may be in several, one after the other.

    Returns:
        A store for this meeting alone, and this rank's lifeline.

    Raises:
        RankError: the port is taken.
        RankFailed: a rank did not come in time.
        PeerError: another rank failed.
    """
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    endpoint = f"{address}:{port}"
    seconds = max(limit_seconds, LOADING_SECONDS)
    within = f"within {seconds:g} s (run.timeout_seconds)"

    def say(awaited: str) -> None:
        leave_words(
            f"lockstep: rank {launch.rank} of {launch.world_size} ({launch.launcher}) is waiting at "
            f"{endpoint} for {awaited}; to run alone, add --launcher none"
        )

    with patience(lambda: say("rank 0")):
        store = dist.PrefixStore(name, open_store(address, port, launch.is_main, seconds))
        lifeline: Lifeline
        if launch.is_main:
            lifeline = main = MainEnd(launch.world_size, limit_seconds)
            store.set("lifeline", f"{main.port} {main.token} {main.node}")
        else:
            if not wait_until(lambda: store.check(["lifeline"]), seconds):
                raise RankFailed(f"rank 0 has not arrived at {endpoint} {within}")
            lifeline_port, token, node = store.get("lifeline").decode().split(" ", 2)
            try:
                lifeline = OtherEnd(launch.rank, limit_seconds, (address, int(lifeline_port)), token, node)
            except OSError as error:
                raise RankFailed(
                    f"cannot connect to rank 0 at {address}, port {lifeline_port} "
                    f"({error.strerror or error}); the ranks' nodes must reach each other on all ports"
                ) from error
    try:
        if launch.is_main and not main.wait_for_all(min(PATIENCE_SECONDS, seconds)):
            say(ranks_text(main.missing()))
        if not lifeline.wait_for_all(seconds - PATIENCE_SECONDS if launch.is_main else float("inf")):
            raise RankFailed(f"{ranks_text(main.missing())} did not arrive at {endpoint} {within}")
        lifeline.check()
    except BaseException as error:
        lifeline.tell_failure(error)
        lifeline.close()
        raise
    return store, lifeline


@functools.cache
def open_store(address: str, port: str, is_main: bool, seconds: float) -> dist.Store:
    """The store of a launch, kept for the whole process: its port may not be free a second time.

    Its server is torchrun's own, or else is in the main rank's process, as in torch.distributed.rendezvous. A
    program that makes a group itself afterwards shares it: torch's server is one per port and process.

    Raises:
        RankError: another program has taken the port.
        RankFailed: there is no server within the limit.
    """
    has_server = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    is_server = is_main and not has_server
    # torch would try too, and print its stack trace for every attempt.
    if not is_server and not wait_until(lambda: can_connect(address, int(port)), seconds):
        raise RankFailed(
            f"nothing answers at {address}:{port} within {seconds:g} s (run.timeout_seconds); rank 0 "
            "must run there, with the same MASTER_ADDR and MASTER_PORT"
        )
    try:
        return dist.TCPStore(
            address,
            int(port),
            is_master=is_server,
            timeout=timedelta(seconds=seconds),
            wait_for_workers=False,
            multi_tenant=is_server,
        )
    except dist.DistNetworkError as error:
        if "EADDRINUSE" not in str(error):
            raise
        rule = "another program has taken it on this machine; set it to a free one on all nodes"
        raise RankError(f"MASTER_PORT = {port}: {rule}") from error


def can_connect(address: str, port: int) -> bool:
    """Whether something listens at an address."""
    try:
        socket.create_connection((address, port), PATIENCE_SECONDS).close()
    except OSError:
        return False
    return True


def wait_until(is_done: Callable[[], bool], seconds: float) -> bool:
    """Asks again and again, for so many seconds; the last answer."""
    ends = time.monotonic() + seconds
    while not (done := is_done()) and time.monotonic() < ends:
        time.sleep(LOOK_SECONDS)
    return done


@contextmanager
def patience(say: Callable[[], None]) -> Iterator[None]:
    """Says something once the block has taken too long, and lets it run on."""
    timer = Timer(PATIENCE_SECONDS, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
