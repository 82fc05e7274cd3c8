import pytest

from lockstep.errors import ConfigError
from lockstep.launch import Allocation, accelerate_options, launch_commands

STATED = ["--mixed_precision", "no", "--dynamo_backend", "no"]


def planned(num_nodes, processes_per_node, **facts):
    return Allocation(num_nodes=num_nodes, processes_per_node=processes_per_node, **facts)


def test_accelerate_options():
    one = ["--num_machines", "1", "--num_processes", "1", *STATED]
    assert accelerate_options(1, 1, "127.0.0.1", 29500) == one
    assert accelerate_options(1, 2, "127.0.0.1", 29500)[-3:] == [
        "--multi_gpu",
        "--main_process_port",
        "29500",
    ]
    two = accelerate_options(2, 1, "10.0.0.1", 5)
    assert two[:4] == ["--num_machines", "2", "--num_processes", "2"]
    assert two[-4:] == ["--rdzv_backend", "static", "--main_process_ip", "10.0.0.1"]


def test_an_address_that_accelerate_would_ignore_is_refused():
    with pytest.raises(
        ConfigError, match=r"MASTER_ADDR = '10.0.0.1': is for several nodes; .* unset MASTER_A"
    ):
        accelerate_options(1, 2, "10.0.0.1", 29500)
    assert accelerate_options(1, 2, "localhost", 29500) == accelerate_options(1, 2, "127.0.0.1", 29500)
    assert "10.0.0.1" not in accelerate_options(1, 1, "10.0.0.1", 29500)  # one process meets nobody


def test_one_process():
    commands = launch_commands(planned(1, 1), ["--seed", "3"], on_gpus=False)
    assert commands["accelerate launch"].endswith("--dynamo_backend no scripts/train.py --seed 3")
    assert commands["torchrun"] == "torchrun --nnodes=1 --nproc_per_node=1 scripts/train.py --seed 3"
    assert commands["srun"] == "srun --nodes=1 --ntasks-per-node=1 python scripts/train.py --seed 3"
    assert commands["sbatch"] == "sbatch --nodes=1 --ntasks-per-node=1 slurm/train.sbatch --seed 3"


def test_nodes_that_are_not_allocated_yet():
    commands = launch_commands(planned(2, 8, is_slurm=True), ["--run.name", "my run"], on_gpus=True)
    assert commands["sbatch"] == "sbatch --nodes=2 --gpus-per-node=8 slurm/train.sbatch --run.name 'my run'"
    assert "--gpus-per-node=8 python" in commands["srun"]
    assert "--multi_gpu --main_process_port PORT --rdzv_backend static" in commands["accelerate launch"]
    assert "--main_process_ip ADDRESS --machine_rank NODE scripts" in commands["accelerate launch"]
    assert "--node_rank=NODE --master_addr=ADDRESS --master_port=PORT" in commands["torchrun"]


def test_inside_an_allocation_each_node_knows_its_rank(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "5")
    commands = launch_commands(planned(2, 1, is_granted=True), [], on_gpus=False)
    assert commands["accelerate launch"].endswith(
        "--main_process_ip 10.0.0.1 --machine_rank $SLURM_NODEID scripts/train.py"
    )
    assert "--node_rank=$SLURM_NODEID --master_addr=10.0.0.1 --master_port=5" in commands["torchrun"]
