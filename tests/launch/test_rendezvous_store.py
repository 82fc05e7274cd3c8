"""Meeting the other ranks, where they do not come."""

import socket
from dataclasses import replace

import pytest
import torch.distributed as dist

from lockstep.errors import RankError, RankFailed
from lockstep.launch import read_launch
from lockstep.launch.liveness.lifeline_ends import SoloEnd
from lockstep.launch.process_group import start_ranks
from lockstep.launch.rendezvous_store import meet
from processes import free_port
from runs import reset_accelerator


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("lockstep.launch.rendezvous_store.LOADING_SECONDS", 0.0)
    monkeypatch.setattr("lockstep.launch.rendezvous_store.PATIENCE_SECONDS", 0.1)


def launch_of(monkeypatch, rank, world_size, **variables):
    stated = {"RANK": rank, "WORLD_SIZE": world_size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world_size}
    stated |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), **variables}
    for name, value in stated.items():
        monkeypatch.setenv(name, str(value))
    return read_launch()


def test_a_rank_that_never_comes_is_named(monkeypatch, capsys):
    launch = launch_of(monkeypatch, 0, 3)
    with pytest.raises(RankFailed, match=r"ranks 1, 2 did not arrive at 127.0.0.1:\d+ within 3 s"):
        meet(launch, 3.0, "test")
    text = "(torchrun) is waiting at 127.0.0.1:"
    assert f"lockstep: rank 0 of 3 {text}" in (said := capsys.readouterr().err)
    assert "for ranks 1, 2; to run alone, add --launcher none" in said


def test_a_main_rank_that_never_comes_is_named(monkeypatch, capsys):
    launch = launch_of(monkeypatch, 1, 2)
    with pytest.raises(RankFailed, match=r"nothing answers at 127.0.0.1:\d+ within 0.5 s \(run"):
        meet(launch, 0.5, "test")
    assert "lockstep: rank 1 of 2 (torchrun) is waiting at 127.0.0.1:" in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_line(monkeypatch):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        launch = launch_of(monkeypatch, 0, 2, MASTER_PORT=port)
        with pytest.raises(RankError, match=rf"MASTER_PORT = {port}: another program has taken it"):
            meet(launch, 3.0, "test")


def test_a_world_of_one_meets_nobody(monkeypatch):
    """203.0.113.0/24 is kept for documentation: nothing answers there."""
    launch = launch_of(monkeypatch, 0, 1, MASTER_ADDR="203.0.113.1", ACCELERATE_USE_CPU="true")
    reset_accelerator()
    ranks = start_ranks(replace(launch, wants_cpu=True), "no")
    try:
        assert dist.get_world_size() == 1
        assert isinstance(ranks.lifeline, SoloEnd)
    finally:
        ranks.close()
        reset_accelerator()
