"""The network interface through which the ranks of several nodes reach each other. No torch."""

from __future__ import annotations

import os
import socket
import sys
from ipaddress import ip_address

import psutil

from lockstep.errors import ConfigError, require

INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
"""What tells gloo and NCCL the name of the interface."""


def choose_interface(address: str) -> None:
    """Lets gloo and NCCL use the interface with this machine's own address, unless the user has named one.

    gloo would take the one that the host's name leads to, which on many systems is the loopback: no other
    node can connect to that. NCCL's own choice for processes of one node is left alone.
    """
    interface = interface_of(address)
    for name in INTERFACE_VARIABLES:
        if interface and not (name.startswith("NCCL") and is_loopback(address)):
            os.environ.setdefault(name, interface)


def interface_of(address: str) -> str:
    """The name of this machine's interface with an address; empty if there is none."""
    if not address:
        return ""
    wanted = _plain(address)
    for name, entries in psutil.net_if_addrs().items():
        if any(
            entry.family in (socket.AF_INET, socket.AF_INET6) and _plain(entry.address) == wanted
            for entry in entries
        ):
            return name
    return ""


def interface_towards(host: str, port: int) -> str:
    """The name of the interface through which this machine reaches a host; empty if there is none.

    Raises:
        ConfigError: GLOO_SOCKET_IFNAME names an interface that this machine does not have.
        OSError: the host's name does not resolve, or no route leads there.
    """
    stated = os.environ.get(INTERFACE_VARIABLES[0], "")
    if stated:
        names = sorted(psutil.net_if_addrs())
        rule = f"must be one interface of this machine: {', '.join(names)}; or unset it"
        require(stated in names, INTERFACE_VARIABLES[0], stated, rule)
        return stated
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)  # sends nothing: it asks for the route
        return interface_of(probe.getsockname()[0])


def answer(host: str, port: int) -> str:
    """This machine's line for `lockstep doctor`: 'node ok INTERFACE' or 'node wrong REASON'."""
    node = socket.gethostname()
    try:
        interface = interface_towards(host, port)
    except (ConfigError, OSError) as error:
        return f"{node} wrong {' '.join(str(error).split())}"
    return f"{node} ok {interface}" if interface else f"{node} wrong has no interface towards {host}"


def is_loopback(address: str) -> bool:
    """Whether an address leads to this machine alone."""
    return ip_address(_plain(address)).is_loopback


def _plain(address: str) -> str:
    """An address without its scope, and an IPv4 one as such."""
    parsed = ip_address(address.partition("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


if __name__ == "__main__":
    print(answer(sys.argv[1], int(sys.argv[2])))
