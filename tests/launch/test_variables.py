import pytest

from lockstep.commands.main import main
from lockstep.errors import ConfigError
from lockstep.launch import array_group, process_rank, read_launch
from lockstep.launch.variables import device_index
from slurm_jobs import SRUN


def test_alone():
    launch = read_launch({})
    assert (launch.launcher, launch.rank, launch.world_size, launch.is_main) == ("python", 0, 1, True)


def test_torchrun_and_accelerate():
    variables = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    launch = read_launch(variables)
    assert (launch.launcher, launch.rank, launch.local_rank) == ("torchrun", 5, 1)
    assert (launch.world_size, launch.local_world_size, launch.precision) == (8, 4, "no")
    launch = read_launch({**variables, "ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_CPU": "True"})
    assert (launch.launcher, launch.precision, launch.wants_cpu) == ("accelerate", "bf16", True)


def test_srun_with_one_task_a_process():
    launch = read_launch(SRUN)
    assert (launch.launcher, launch.rank, launch.local_rank) == ("srun", 3, 1)
    assert (launch.world_size, launch.local_world_size) == (5, 2)
    last = read_launch({**SRUN, "SLURM_PROCID": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "2"})
    assert last.local_world_size == 1


def test_an_srun_task_that_sees_one_gpu_only_takes_that():
    task = read_launch({**SRUN, "SLURM_LOCALID": "3"})
    assert [device_index(task, num_visible) for num_visible in (8, 1)] == [3, 0]


def test_a_launcher_inside_srun_wins():
    inside = {**SRUN, "RANK": "0", "WORLD_SIZE": "2", "ACCELERATE_MIXED_PRECISION": "no"}
    assert read_launch(inside).world_size == 2


def test_a_batch_shell_starts_one_process():
    batch_shell = {name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"}
    assert read_launch(batch_shell).world_size == 1


def test_a_world_of_one_where_more_were_asked_for_is_refused():
    """T13: `accelerate launch --cpu --num_processes N` sets a rendezvous, then starts one process."""
    with pytest.raises(ConfigError, match=r"world size = 1: .*--multi_gpu"):
        read_launch(
            {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "True", "MASTER_PORT": "29500"}
        )


def test_the_runs_of_an_array_have_one_name():
    assert array_group({"SLURM_ARRAY_JOB_ID": "7", "SLURM_JOB_ID": "9"}) == "slurm-7"
    assert array_group({"SLURM_JOB_ID": "9"}) == ""


def test_the_rank_to_report_under():
    assert process_rank({}) == 0
    assert process_rank({"RANK": "0", "SLURM_PROCID": "4"}) == 0
    assert process_rank({"RANK": "4", "LOCAL_RANK": "0"}) == 4
    assert process_rank({"SLURM_PROCID": "1"}) == 1


def test_a_mistake_that_one_rank_may_have_alone_is_reported_by_it(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "--config", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err.startswith("lockstep: error: rank 1: --config = 'nowhere.yaml': cannot be")
    assert main(["train", "--sead", "1"]) == 2  # all ranks have the same flags, and the main rank reports it
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_engines_that_sum_gradients_themselves_are_refused(name):
    with pytest.raises(ConfigError, match=rf"{name} = 'true': Lockstep sums gradients itself"):
        read_launch({name: "true"})
    with pytest.raises(ConfigError, match="--dynamo_backend = 'INDUCTOR': must be 'no'"):
        read_launch({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"})
