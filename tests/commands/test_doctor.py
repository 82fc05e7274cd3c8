from dataclasses import replace

import pytest

from lockstep.commands.doctor import (
    check_batch,
    check_data,
    check_device_precision,
    check_disk_space,
    check_run_folder,
    doctor,
    planned_allocation,
    read_options,
)
from lockstep.commands.main import main
from lockstep.config import Config, DataConfig, RunConfig, TrainConfig
from lockstep.errors import ConfigError, RankError
from lockstep.launch import Allocation
from processes import lockstep


def test_own_options_are_taken_out():
    options = read_options(["--slurm", "--nodes=2", "--seed", "3", "--processes-per-node", "4"])
    planned = Allocation(num_nodes=2, processes_per_node=4, is_slurm=True)
    assert planned_allocation(options, num_gpus=0) == planned
    assert options.flags == ["--seed", "3"]
    for wrong in (["--nodes", "two"], ["--processes-per-node=0"]):
        with pytest.raises(ConfigError, match=r"--(nodes|processes-per-node) = .*: must be a whole number"):
            read_options(wrong)
    with pytest.raises(ConfigError, match=r"--nodes: needs a value after it"):
        read_options(["--nodes"])


def test_without_options_it_is_the_allocation_or_the_gpus_of_this_machine(monkeypatch):
    unstated = read_options([])
    assert planned_allocation(unstated, num_gpus=0) == Allocation(num_nodes=1, processes_per_node=1)
    assert planned_allocation(unstated, num_gpus=4) == Allocation(num_nodes=1, processes_per_node=4)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_NTASKS", "6")
    granted = Allocation(num_nodes=2, processes_per_node=3, is_granted=True)
    assert planned_allocation(unstated, num_gpus=4) == granted
    stated = read_options(["--processes-per-node", "5"])
    assert planned_allocation(stated, num_gpus=4).world_size == 10


def test_precision():
    here, login = (Allocation(num_nodes=1, processes_per_node=1, is_slurm=slurm) for slurm in (False, True))
    assert check_device_precision("auto", here, 0) == "auto"
    assert check_device_precision("bf16", here, 0) == "bf16"
    assert "not checked" in check_device_precision("fp16", login, 0)
    with pytest.raises(RankError, match=r"precision = 'fp16': needs a CUDA device"):
        check_device_precision("fp16", here, 0)


def test_run_folder_and_disk_space(tmp_path):
    config = Config(run=RunConfig(dir=str(tmp_path / "runs"), name="one"))
    here = Allocation(num_nodes=1, processes_per_node=1)
    assert check_run_folder(config, here) == f"{tmp_path}/runs/one can be written"
    assert check_disk_space(config).startswith("checkpoints need about ")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        check_run_folder(Config(run=RunConfig(dir=str(tmp_path / "file" / "runs"))), here)
    many = replace(config, train=TrainConfig(keep_checkpoints=10**9))
    with pytest.raises(ConfigError, match=r"run.dir = .*: checkpoints need .*; free some, lower train.keep"):
        check_disk_space(many)


def test_batch_and_data(tmp_path):
    assert check_batch(Config(), 8) == "256 = 8 ranks x 1 micro-batch x 32"
    with pytest.raises(ConfigError, match=r"times 3 ranks"):
        check_batch(Config(), 3)
    with pytest.raises(
        ConfigError, match=r"train-images-idx3-ubyte, .*: lockstep fetch --data.name mnist --data.root"
    ):
        check_data(Config(data=DataConfig(root=str(tmp_path))))


def test_a_wrong_setting_is_a_line_and_exit_code_1(capsys):
    assert doctor(["--batch.globl-size", "64"]) == 1
    assert capsys.readouterr().out.startswith("WRONG  settings: --batch.globl-size: there is no")
    assert main(["doctor", "--help"]) == 0
    assert main(["doctor", "--nodes", "none"]) == 2


def test_an_uneven_allocation_is_a_line_and_exit_code_1(monkeypatch, capsys):
    for name, value in (("SLURM_JOB_ID", "77"), ("SLURM_NNODES", "2"), ("SLURM_NTASKS", "3")):
        monkeypatch.setenv(name, value)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.startswith(
        "WRONG  allocation: SLURM_NTASKS = '3': must be the same number"
    )


@pytest.mark.slow
def test_all_is_well_with_two_processes_also_without_the_environment_on_the_path(tmp_path):
    words = ["doctor", "--processes-per-node", "2", "--data.name", "synthetic", "--run.dir", str(tmp_path)]
    result = lockstep(*words, env={"PATH": "/usr/local/bin:/usr/bin:/bin"})
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ok     world size: 2 processes started in one world" in result.stdout


@pytest.mark.slow
def test_each_mistake_is_a_line(tmp_path):
    words = ["doctor", "--processes-per-node", "2", "--data.name", "synthetic", "--run.dir", str(tmp_path)]
    words += ["--tracking.mode", "online", "--model.name", "nowhere:Net"]
    result = lockstep(*words, env={"MASTER_ADDR": "10.0.0.1"})
    assert result.returncode == 1
    assert "WRONG  rendezvous: MASTER_ADDR = '10.0.0.1': is for several nodes" in result.stdout
    assert "WRONG  W&B: tracking.mode = 'online': no W&B key was found" in result.stdout
    assert "WRONG  disk space: model.name = 'nowhere:Net'" in result.stdout
