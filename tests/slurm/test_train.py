"""slurm/train.sbatch from submission to COMPLETED: the same bits as any other launch."""

import os
import re

import pytest

from processes import BIN, QUICK, ROOT, SCRIPT, read_run, train_quick
from slurm_jobs import OWN_SCRIPT, Job, train_job


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    return train_quick(tmp_path_factory.mktemp("one"), "run")


def test_two_nodes_of_two_processes_give_the_bits_of_accelerate_and_of_one(cluster, tmp_path, one_process):
    job = train_job(cluster, tmp_path)
    with_accelerate = train_quick(tmp_path, "accelerate", 4)
    job.assert_finished_as(one_process)
    assert with_accelerate["world_size"] == 4
    assert with_accelerate["weights_sha256"] == one_process["weights_sha256"]


@pytest.mark.parametrize("program", [[SCRIPT, *QUICK], [OWN_SCRIPT]], ids=["command", "script"])
def test_plain_srun_with_a_task_for_each_process(cluster, tmp_path, one_process, program):
    words = ["srun", "--nodes=2", "--ntasks-per-node=1", str(BIN / "python"), *program]
    output = cluster.run(*words, "--run.dir", str(tmp_path), "--run.name", "run", cwd=ROOT, timeout=60)
    summary = read_run(tmp_path / "run")
    assert summary["world_size"] == 2, output
    assert summary["weights_sha256"] == one_process["weights_sha256"]


def test_a_debug_job_prints_a_replay_that_works(cluster, tmp_path):
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    options = [f"--export=ALL,PATH={path}", f"--chdir={tmp_path}"]
    job = Job(cluster, tmp_path, *options, "slurm/debug.sbatch", *QUICK[:4], "--run.dir", "elsewhere")
    job.wait_for("COMPLETED")
    replay, in_debugger, in_pdb = re.findall(r"^  (srun .*)", job.text, re.MULTILINE)
    assert "identical" in cluster.run("bash", "-c", f"PATH={path}; {replay}", cwd=tmp_path, timeout=90)
    assert in_debugger == replay.replace("lockstep", "--pty lockstep") + " --break"
    assert "take_step" in in_pdb
    (tmp_path / "wrong").mkdir()
    job = Job(cluster, tmp_path / "wrong", *options, "slurm/debug.sbatch", "--seed", "x")
    job.wait_for("FAILED")
    assert "srun" not in job.text  # there is no run
