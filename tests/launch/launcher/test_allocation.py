import pytest

from lockstep.errors import ConfigError, counted
from lockstep.launch import Allocation, allocated_threads, read_allocation

JOB = {"SLURM_JOB_ID": "77", "SLURM_NNODES": "2"}


def processes_per_node(**variables):
    return read_allocation({**JOB, **variables}).processes_per_node


def test_outside_of_slurm_there_is_none():
    assert read_allocation({}) is None
    assert read_allocation({"SLURM_NNODES": "2"}) is None


def test_processes_come_from_what_the_user_states_else_gpus_else_tasks_else_nodes():
    assert processes_per_node() == 1
    assert processes_per_node(SLURM_NTASKS="6") == 3
    assert processes_per_node(SLURM_NTASKS="6", SLURM_NTASKS_PER_NODE="3") == 3
    assert processes_per_node(SLURM_NTASKS="2", SLURM_GPUS_ON_NODE="8") == 8
    assert processes_per_node(SLURM_NTASKS="6", SLURM_GPUS_ON_NODE="0") == 3
    assert processes_per_node(SLURM_GPUS="a100:16", SLURM_GPUS_ON_NODE="8") == 8
    assert processes_per_node(SLURM_GPUS="v100:4,a100:4", SLURM_GPUS_ON_NODE="4") == 4
    stated = {"SLURM_NTASKS": "3", "SLURM_GPUS_ON_NODE": "8", "LOCKSTEP_PROCESSES_PER_NODE": "4"}
    assert processes_per_node(**stated) == 4
    assert read_allocation({**JOB, **stated}, processes_per_node=5).world_size == 10


def test_nodes_that_would_run_different_numbers_of_processes_are_refused():
    with pytest.raises(
        ConfigError, match=r"SLURM_NTASKS = '3': must be .* tasks on each of 2 nodes; .*-per-"
    ):
        processes_per_node(SLURM_NTASKS="3")
    with pytest.raises(ConfigError, match=r"SLURM_NTASKS = '4': .* ask with --ntasks-per-node"):
        processes_per_node(SLURM_NTASKS="4", SLURM_NTASKS_PER_NODE="4")
    # SLURM gives 4 GPUs on 2 nodes as 3 and 1.
    with pytest.raises(ConfigError, match=r"SLURM_GPUS = 'a100:4': .* GPUs .* ask with --gpus-per-node"):
        processes_per_node(SLURM_GPUS="a100:4", SLURM_GPUS_ON_NODE="3")
    for wrong in ("two", "0", "-1"):
        with pytest.raises(ConfigError, match=f"LOCKSTEP_PROCESSES_PER_NODE = '{wrong}': must be a whole"):
            processes_per_node(LOCKSTEP_PROCESSES_PER_NODE=wrong)


def test_threads_are_an_equal_share_of_the_nodes_cpus_unless_stated():
    allocation = Allocation(num_nodes=2, processes_per_node=4)
    assert allocated_threads(allocation, {"SLURM_CPUS_ON_NODE": "9"}) == "2"
    assert allocated_threads(allocation, {"SLURM_CPUS_ON_NODE": "2"}) == "1"
    assert allocated_threads(allocation, {}) == "1"
    assert allocated_threads(allocation, {"SLURM_CPUS_ON_NODE": "9", "OMP_NUM_THREADS": "7"}) == "7"


def test_the_login_node_is_not_one_of_the_nodes():
    here = Allocation(num_nodes=1, processes_per_node=1)
    assert here.has_this_machine
    assert not Allocation(num_nodes=1, processes_per_node=1, is_slurm=True).has_this_machine
    assert read_allocation(JOB).has_this_machine


def test_numbers_agree_with_their_nouns():
    assert str(Allocation(num_nodes=1, processes_per_node=1)) == "1 node x 1 process"
    assert str(Allocation(num_nodes=2, processes_per_node=4)) == "2 nodes x 4 processes"
    assert counted(3, "micro-batch") == "3 micro-batches"
    assert (counted(1, "step", ","), counted(12000, "step", ",")) == ("1 step", "12,000 steps")
