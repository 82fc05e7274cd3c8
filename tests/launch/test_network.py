import socket

import pytest

from lockstep.errors import ConfigError
from lockstep.launch.network import (
    INTERFACE_VARIABLES,
    answer,
    choose_interface,
    interface_of,
    interface_towards,
)


@pytest.fixture(autouse=True)
def no_interface(monkeypatch):
    for name in INTERFACE_VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


LOOPBACK = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def test_the_interface_of_an_address():
    assert interface_of("127.0.0.1") == interface_of("::ffff:127.0.0.1") == LOOPBACK
    assert interface_of("203.0.113.7") == interface_of("") == ""
    assert interface_towards("localhost", 29500) == LOOPBACK


def test_what_a_node_answers_to_doctor(monkeypatch):
    node = socket.gethostname()
    assert answer("localhost", 29500) == f"{node} ok {LOOPBACK}"
    assert answer("no-such-host.invalid", 29500).startswith(f"{node} wrong ")


def test_gloo_gets_the_interface_and_the_users_own_setting_wins(monkeypatch):
    choose_interface("127.0.0.1")
    import os

    assert os.environ["GLOO_SOCKET_IFNAME"] == LOOPBACK
    assert "NCCL_SOCKET_IFNAME" not in os.environ  # on one node NCCL chooses better
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    choose_interface("127.0.0.1")
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
    with pytest.raises(
        ConfigError, match=r"GLOO_SOCKET_IFNAME = 'eth7': must be one interface of this machine"
    ):
        interface_towards("localhost", 29500)
