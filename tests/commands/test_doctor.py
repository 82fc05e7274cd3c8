import pytest

from lockstep.commands.doctor import check_batch, check_data, doctor, read_options
from lockstep.commands.main import main
from lockstep.config import Config, DataConfig
from lockstep.errors import ConfigError
from lockstep.launch import Allocation, launch_commands, read_allocation
from lockstep.launch.checks import check_processes, check_rendezvous, fitting_partitions
from lockstep.launch.rendezvous import rendezvous
from processes import free_port, lockstep


def place(**facts):
    return Allocation(
        **{"nodes": 1, "per_node": 1, "gpus": 0, "is_slurm": False, "in_allocation": False, **facts}
    )


def test_own_options_are_taken_out():
    found, flags = read_options(["--slurm", "--nodes=2", "--seed", "3", "--processes-per-node", "4"])
    assert (found.nodes, found.per_node, found.world_size, found.is_slurm) == (2, 4, 8, True)
    assert flags == ["--seed", "3"]
    for wrong in (["--nodes"], ["--nodes", "two"], ["--processes-per-node=0"]):
        with pytest.raises(ConfigError, match=r"--(nodes|processes-per-node) = .*: must be a whole number"):
            read_options(wrong)


def test_the_allocation_is_read_as_the_job_script_reads_it():
    job = {"SLURM_JOB_ID": "77", "SLURM_NNODES": "2"}
    assert read_allocation({}) is None
    assert read_allocation(job) == (2, 1)
    assert read_allocation({**job, "SLURM_NTASKS": "6"}) == (2, 3)
    assert read_allocation({**job, "SLURM_NTASKS": "2", "SLURM_GPUS_ON_NODE": "8"}) == (2, 8)
    assert read_allocation({**job, "SLURM_GPUS_ON_NODE": "8", "LOCKSTEP_PROCESSES_PER_NODE": "4"}) == (2, 4)
    assert rendezvous(1, {}) == ("127.0.0.1", 29500)
    assert rendezvous(1, {"SLURM_JOB_ID": "20003"}) == ("127.0.0.1", 12003)
    assert rendezvous(2, {**job, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "5"}) == ("10.0.0.1", 5)


def test_processes_against_gpus():
    with pytest.raises(ConfigError, match=r"8 processes on a node with 2 GPUs: ranks would share them"):
        check_processes(place(per_node=8, gpus=2), cores=4)
    assert check_processes(place(per_node=2, gpus=2), cores=4) == "1 nodes x 2 processes"
    assert "more than the 4 cores" in check_processes(place(per_node=8), cores=4)
    # The login node's GPUs are not those that train.
    assert "8 processes" in check_processes(place(per_node=8, gpus=1, is_slurm=True), cores=4)


def test_rendezvous(monkeypatch):
    assert check_rendezvous(place()) == "one process needs none"
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    assert "is free" in check_rendezvous(place(per_node=2))
    monkeypatch.setenv("MASTER_ADDR", "no-such-host.invalid")
    with pytest.raises(ConfigError, match=r"MASTER_ADDR = 'no-such-host.invalid': does not resolve"):
        check_rendezvous(place(per_node=2))


def test_partitions():
    sinfo = "cpu 100 64 (null)\nbig 4 96 gpu:a100:8(S:0-1)\nmixed 2 32 gpu:v100:2\nmixed 3 32+ gpu:4\n"
    assert fitting_partitions(sinfo, 4, 8) == "4 nodes with 8 GPUs are in partition big"
    assert fitting_partitions(sinfo, 4, 2) == "4 nodes with 2 GPUs are in partition big or mixed"
    with pytest.raises(ConfigError, match=r"no partition has 5 nodes with 8 GPUs"):
        fitting_partitions(sinfo, 5, 8)
    assert fitting_partitions("cpu 100 64 (null)\n", 2, 4) == "2 nodes with 4 CPUs are in partition cpu"


def test_batch_and_data(tmp_path):
    assert check_batch(Config(), 8) == "256 = 8 ranks x 1 micro-batches x 32"
    with pytest.raises(ConfigError, match=r"times 3 ranks"):
        check_batch(Config(), 3)
    with pytest.raises(
        ConfigError, match=r"train-images-idx3-ubyte, .*: lockstep fetch --data.name mnist --data.root"
    ):
        check_data(Config(data=DataConfig(root=str(tmp_path))))


def test_commands():
    one = launch_commands(place(), ["--seed", "3"])
    assert one["accelerate launch"].endswith("--dynamo_backend no scripts/train.py --seed 3")
    assert one["srun"] == "srun --nodes=1 --ntasks-per-node=1 python scripts/train.py --seed 3"
    many = launch_commands(place(nodes=2, per_node=8, is_slurm=True), ["--run.name", "my run"])
    assert many["sbatch"] == "sbatch --nodes=2 --gpus-per-node=8 slurm/train.sbatch --run.name 'my run'"
    assert "--machine_rank NODE" in many["accelerate launch"]
    assert "--multi_gpu --main_process_port PORT --rdzv_backend static" in many["accelerate launch"]


def test_a_wrong_setting_is_a_line_and_exit_code_1(capsys):
    assert doctor(["--batch.globl-size", "64"]) == 1
    assert capsys.readouterr().out.startswith("WRONG  settings: --batch.globl-size: there is no")
    assert main(["doctor", "--help"]) == 0
    assert main(["doctor", "--nodes", "none"]) == 2


@pytest.mark.slow
def test_all_is_well_with_two_processes_and_then_two_mistakes(tmp_path):
    words = ["doctor", "--processes-per-node", "2", "--data.name", "synthetic", "--run.dir", str(tmp_path)]
    result = lockstep(*words)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ok     world size: 2 processes were started, each in a world of 2" in result.stdout
    result = lockstep(*words, "--tracking.mode", "online", "--model.name", "resnet")
    assert result.returncode == 1
    assert "WRONG  W&B: tracking.mode = 'online': no W&B key was found" in result.stdout
    assert "WRONG  disk space: model.name = 'resnet'" in result.stdout
