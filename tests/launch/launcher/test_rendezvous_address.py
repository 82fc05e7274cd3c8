import pytest

from lockstep.errors import ConfigError
from lockstep.launch import read_launch, rendezvous
from lockstep.launch.launcher.rendezvous_address import job_port, torchrun_variables
from slurm_jobs import SRUN


def test_what_the_user_sets_wins():
    variables = {"SLURM_JOB_ID": "77", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "5"}
    assert rendezvous(2, variables) == ("10.0.0.1", 5)
    for wrong in ("http", "0", "65536"):
        with pytest.raises(ConfigError, match=f"MASTER_PORT = '{wrong}': must be a port"):
            rendezvous(1, {"MASTER_PORT": wrong})


def test_one_node_meets_on_itself():
    assert rendezvous(1, {}) == ("127.0.0.1", 29500)
    job = {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "node1"}
    assert rendezvous(1, job) == ("127.0.0.1", job_port(job))


def test_ports_of_neighbouring_jobs_and_steps_differ():
    """One formula for a job script (no step) and for srun; a node may run several jobs and steps together."""

    def port(job, step):
        return job_port({"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)})

    ports = [port(job, step) for job in range(1000, 3500) for step in range(8)]
    assert len(set(ports)) == len(ports)
    assert min(ports) >= 12000
    assert max(ports) < 32768  # the kernel's ephemeral ports begin there
    assert job_port({"SLURM_JOB_ID": "1000"}) == port(1000, 0)


def test_srun_tasks_get_the_variables_of_torchrun():
    variables = {**SRUN, "MASTER_ADDR": "10.0.0.1"}
    assert torchrun_variables(read_launch(variables), variables) == {
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "5",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": str(job_port(SRUN)),
    }


def test_a_task_without_scontrol(monkeypatch, tmp_path):
    """As in a container: the variables of srun, but none of SLURM's programs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"MASTER_ADDR: is not set, and scontrol, .* set it to the first"):
        torchrun_variables(read_launch(SRUN), SRUN)
    alone = {**SRUN, "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}
    assert torchrun_variables(read_launch(alone), alone)["MASTER_ADDR"] == "127.0.0.1"
