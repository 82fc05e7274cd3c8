import socket

import pytest

from lockstep.commands.doctor_checks.launch_checks import (
    check_network,
    check_processes,
    check_rendezvous,
    check_slurm,
    check_world_size,
    fitting_partitions,
    gpus_per_node,
    network_of,
)
from lockstep.errors import ConfigError
from lockstep.launch import Allocation
from processes import free_port

SINFO = """cpu 100 64 idle (null)
big 4 96 mix~ gpu:a100:8(S:0-1)
big 7 96 drain gpu:a100:8(S:0-1)
big 7 96 idle* gpu:a100:8(S:0-1)
mixed 2 32 alloc gpu:v100:2
mixed 3 32+ idle gpu:4,gpumem:80G
"""


def planned(num_nodes, processes_per_node, **facts):
    return Allocation(num_nodes=num_nodes, processes_per_node=processes_per_node, **facts)


def test_processes_against_gpus_and_cores():
    with pytest.raises(ConfigError, match=r"8 processes on a node with 2 GPUs: ranks would share GPUs"):
        check_processes(planned(1, 8), num_gpus=2, num_cores=4)
    assert check_processes(planned(1, 2), num_gpus=2, num_cores=4) == "1 node x 2 processes"
    assert check_processes(planned(1, 4), num_gpus=0, num_cores=4) == "1 node x 4 processes, on CPU"
    assert "slow, as this machine has 4 cores" in check_processes(planned(1, 8), num_gpus=0, num_cores=4)
    # The login node's GPUs are not those that train.
    login = planned(1, 8, is_slurm=True)
    assert check_processes(login, num_gpus=1, num_cores=4) == "1 node x 8 processes"


def test_rendezvous(monkeypatch):
    assert check_rendezvous(planned(1, 1)) == "not needed for one process"
    assert "check again inside the allocation" in check_rendezvous(planned(2, 1))
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    assert "is free" in check_rendezvous(planned(1, 2))
    monkeypatch.setenv("MASTER_ADDR", "no-such-host.invalid")
    with pytest.raises(ConfigError, match=r"MASTER_ADDR = 'no-such-host.invalid': does not resolve"):
        check_rendezvous(planned(2, 1, is_granted=True))
    with pytest.raises(ConfigError, match=r"MASTER_ADDR = 'no-such-host.invalid': is for several nodes"):
        check_rendezvous(planned(1, 2))


def test_a_port_that_is_taken(monkeypatch):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(ConfigError, match=rf"MASTER_PORT = {port}: another program is listening on it"):
            check_rendezvous(planned(1, 2))


def test_how_each_node_reaches_the_first():
    assert check_network(planned(1, 8)) == "not needed on one node"
    assert "check again inside the allocation" in check_network(planned(2, 1))
    assert network_of("n1 ok lo\nn2 ok eth0\n", "n1", 2) == "n1 by lo, n2 by eth0"
    assert network_of("host ok lo\nhost ok lo\n", "127.0.0.1", 2) == "host by lo"
    for answers, message in (
        ("n1 ok lo\nn2 ok lo\n", "MASTER_ADDR = 'n1': points each node at itself"),
        ("n1 ok eth0\n", "only 1 of 2 nodes answered"),
        ("n1 ok eth0\nn2 wrong GLOO_SOCKET_IFNAME = 'eth7': must be", "n2: GLOO_SOCKET_IFNAME = 'eth7'"),
    ):
        with pytest.raises(ConfigError, match=message):
            network_of(answers, "n1", 2)


def test_a_world_that_this_machine_would_not_train_is_not_started():
    assert "not one of those that would train" in check_world_size(planned(1, 8, is_slurm=True), 0, 4)
    assert check_world_size(planned(1, 8), 0, 4) == "8, not tried: this machine has 4 cores"


def test_partitions():
    assert fitting_partitions(SINFO, planned(4, 8)) == "4 nodes with 8 GPUs: partition big"
    assert fitting_partitions(SINFO, planned(4, 2)) == "4 nodes with 2 GPUs: partition big or mixed"
    assert fitting_partitions(SINFO, planned(1, 1)) == "1 node with 1 GPU: partition big or mixed"
    with pytest.raises(
        ConfigError, match=r"no partition has 5 nodes with 8 GPUs in use or idle; sinfo --noheader"
    ):
        fitting_partitions(SINFO, planned(5, 8))
    found = fitting_partitions("cpu 2K 64 idle gpumem:80G\n", planned(2000, 4))
    assert found == "2000 nodes with 4 CPUs: partition cpu"


def test_gpus_among_the_resources_of_a_node():
    assert gpus_per_node("gpu:a100:8(S:0-1)") == 8
    assert gpus_per_node("gpu:a100:4(S:0,1),nvme:2,gpu:2") == 6
    assert gpus_per_node("(null)") == 0
    assert gpus_per_node("gpu") == gpus_per_node("gpu:a100") == gpus_per_node("gpu(S:0)") == 1
    assert gpus_per_node("gpumem:80G,gpu_mem:80") == 0


def test_no_slurm_programs(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no sbatch, srun, scontrol, sinfo on the PATH"):
        check_slurm(planned(1, 1))
