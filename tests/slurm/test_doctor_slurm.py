"""`lockstep doctor --slurm` inside and outside of an allocation."""

import pytest

from lockstep.commands.doctor_checks.launch_checks import check_slurm
from lockstep.errors import ConfigError
from lockstep.launch import Allocation
from processes import BIN, QUICK


def test_outside_it_asks_the_partitions(cluster, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))

    def planned(num_nodes, per_node):
        return Allocation(num_nodes=num_nodes, processes_per_node=per_node, is_slurm=True)

    assert check_slurm(planned(2, 4)).startswith("2 nodes with 4 GPUs: partition ")
    for num_nodes, per_node in ((3, 4), (2, 5)):
        with pytest.raises(ConfigError, match=f"no partition has {num_nodes} nodes with {per_node} GPUs"):
            check_slurm(planned(num_nodes, per_node))


def test_inside_it_asks_every_node_and_counts_the_processes(cluster, tmp_path):
    words = ["salloc", "--nodes=2", "--ntasks-per-node=1", str(BIN / "lockstep"), "doctor", "--slurm"]
    output = cluster.run(*words, *QUICK, "--run.dir", str(tmp_path / "runs"), timeout=60)
    assert "WRONG" not in output, output
    assert "ok     world size: 2 processes started in one world" in output
    assert "can be written from 2 nodes" in output
    assert "ok     rendezvous: 127.0.0.1:" in output
    assert (
        "torchrun --nnodes=2 --nproc_per_node=1 --node_rank=$SLURM_NODEID --master_addr=127.0.0.1" in output
    )
