import re

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from lockstep.commands.main import main
from lockstep.errors import ConfigError, RankError
from lockstep.launch import array_group, process_rank, read_launch
from slurm_jobs import SRUN


def test_alone():
    launch = read_launch({})
    assert (launch.launcher, launch.rank, launch.world_size, launch.is_main) == ("python", 0, 1, True)


def test_torchrun_and_accelerate():
    variables = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    variables |= {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
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


def test_a_launcher_inside_srun_wins():
    inside = {**SRUN, "RANK": "0", "WORLD_SIZE": "2", "ACCELERATE_MIXED_PRECISION": "no"}
    inside |= {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
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


def test_the_rank_to_report_under_is_that_of_the_launch():
    """Variables that a process inherits, but that start no ranks, must not silence it."""
    in_a_task = {**SRUN, "ACCELERATE_MIXED_PRECISION": "no"}
    for inherited in ({"RANK": "4"}, {"SLURM_PROCID": "1"}, in_a_task):
        assert process_rank(inherited) == read_launch(inherited).rank == 0
    assert process_rank(SRUN) == read_launch(SRUN).rank == 3
    assert process_rank({"RANK": "4", "WORLD_SIZE": "5", "LOCAL_RANK": "0"}) == 4
    assert process_rank({"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "4"}) == 0
    assert process_rank({"RANK": "one", "WORLD_SIZE": "2"}) == 0


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "1", "WORLD_SIZE": "two"}, "WORLD_SIZE = 'two': must be a whole number >= 1; to run alone"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK = '2': must be a whole number >= 0 and < 2"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": ""}, "WORLD_SIZE = 2: needs a MASTER_ADDR, where"),
        ({**SRUN, "SLURM_NODEID": "3"}, "SLURM_STEP_TASKS_PER_NODE = '2(x2),1': must have an entry for node"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE = 4: mpirun started this process"),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, "PMI_SIZE = 2: mpirun started this process"),
    ],
)
def test_variables_without_sense(variables, words):
    if "RANK" in variables:
        variables = {"MASTER_ADDR": "node1", "MASTER_PORT": "1", **variables}
    with pytest.raises(RankError, match=re.escape(words)):
        read_launch(variables)


def test_mpirun_of_one_is_a_process_alone():
    assert read_launch({"OMPI_COMM_WORLD_SIZE": "1"}).world_size == 1


def test_no_rank_ends_without_a_word(monkeypatch, capsys, tmp_path):
    """Under a launcher the main rank speaks, and the launcher ends the others. Here there is none."""
    monkeypatch.setattr("lockstep.commands.main.MAIN_RANK_SECONDS", 0)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "--config", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err.startswith("lockstep: error: rank 1: --config = 'nowhere.yaml': cannot be")
    assert main(["train", "--sead", "1"]) == 2
    line = "lockstep: error: rank 1: --sead: there is no such option; perhaps you meant --seed"
    assert capsys.readouterr().err == f"{line}\n"
    # torchrun's report shows this file's text in the place of an exit code.
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=2, error_file=str(tmp_path / "error.json"))
    assert failure.message["extraInfo"]["py_callstack"] == line


def test_the_launcher_none_is_a_process_alone(monkeypatch, capsys):
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "--launcher", "none", "--sead", "1"]) == 2
    assert capsys.readouterr().err.startswith("lockstep: error: --sead: there is no such option")
    assert read_launch().world_size == 1
    assert main(["train", "--launcher", "slurm"]) == 2
    assert "--launcher = 'slurm': can only be none" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_engines_that_sum_gradients_themselves_are_refused(name):
    with pytest.raises(ConfigError, match=rf"{name} = 'true': Lockstep sums gradients itself"):
        read_launch({name: "true"})
    with pytest.raises(ConfigError, match="--dynamo_backend = 'INDUCTOR': must be 'no'"):
        read_launch({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"})
