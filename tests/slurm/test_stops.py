"""Signals, preemption, kills and lost nodes: the job ends with the bits of the run that was left alone."""

import os
import signal
from pathlib import Path

from slurm_jobs import LONG, Job, failures, script_job, train_job, wandb_ids

TWO_BY_ONE = ["--nodes=2", "--ntasks-per-node=1"]


def rank_pids(cluster, job):
    """Rank → process id, of a job's ranks that live."""
    found = {}
    for pid in cluster.processes(job=job.id):
        words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        rank = next((word.removeprefix("RANK=") for word in words if word.startswith("RANK=")), None)
        if rank is not None:
            found[int(rank)] = pid
    return found


def test_usr1_in_mid_run_requeues_the_job(cluster, tmp_path, undisturbed):
    job = train_job(cluster, tmp_path, *LONG, "--tracking.mode", "offline", options=TWO_BY_ONE)
    job.wait_for_step(6)
    cluster.run("scancel", "--batch", "--signal=USR1", job.id)
    cluster.wait((job.run / f".resumable-{job.id}").exists, 30, "checkpoint")
    cluster.run("scancel", "--batch", "--signal=TERM", job.id)  # late, as the time limit's own
    job.assert_finished_as(undisturbed, world_size=2)
    assert job.restarts == 1
    assert "stopped by a signal, checkpoint saved; requeueing" in job.text
    assert "resuming" in job.text
    assert wandb_ids(job.run) == {(job.run / "wandb-id").read_text()}
    assert len(list((job.run / "wandb").glob("offline-run-*"))) == 2
    assert not cluster.processes(job=job.id)


def test_a_script_of_the_users_is_stopped_requeued_and_finished(cluster, tmp_path, undisturbed):
    job = script_job(cluster, tmp_path, *LONG, options=TWO_BY_ONE)
    job.wait_for_step(6)
    cluster.run("scancel", "--batch", "--signal=USR1", job.id)
    job.assert_finished_as(undisturbed, world_size=2)
    assert job.restarts == 1
    assert job.text.count("interrupted after step") == 1
    assert "stopped by a signal, checkpoint saved; requeueing" in job.text
    assert "resuming" in job.text
    assert "exitcode  : 75" in job.text  # the launcher's own traceback ends with it
    state = tmp_path / "runs" / ".jobs" / job.id
    assert (state / "run-folder").read_text() == str(job.run)


def test_a_time_limit_stops_the_run_with_its_checkpoint_and_requeues_it(cluster, tmp_path):
    """SLURM knows whole minutes, and may warn up to a minute early."""
    options = ["--nodes=1", "--ntasks-per-node=1", "--time=1", "--signal=B:USR1@40"]
    job = train_job(cluster, tmp_path, *LONG, "--train.epochs", "100000", options=options)
    cluster.wait(lambda: "start 2: 1 node x 1 process" in job.text, 120, "second start")
    cluster.wait(lambda: job.text.count("resuming") == 1, 60, "resume")
    assert "stopped by a signal, checkpoint saved; requeueing" in job.text
    assert job.text.count("interrupted after step") == 1
    cluster.run("scancel", job.id)
    job.wait_for("CANCELLED")


def preempt(cluster, tmp_path, job):
    """A short job of a higher partition takes both nodes."""
    words = ["--partition=high", "--nodes=2", "--exclusive", "--wrap=sleep 1"]
    other = Job(cluster, tmp_path, f"--output={tmp_path}/other", *words)
    other.wait_for("COMPLETED")


def test_preemption_without_grace(cluster, tmp_path, undisturbed):
    job = train_job(cluster, tmp_path, *LONG, options=TWO_BY_ONE)
    job.wait_for_step(6)
    preempt(cluster, tmp_path, job)
    summary = job.assert_finished_as(undisturbed, world_size=2)
    assert job.restarts == 1
    assert "resuming" in job.text, summary


def test_preemption_with_grace_warns_before_the_ranks_have_their_handlers(cluster, tmp_path, undisturbed):
    job = train_job(cluster, tmp_path, *LONG, options=["--partition=lowgrace", *TWO_BY_ONE])
    cluster.wait(lambda: "start 1: 2 nodes x 1 process" in job.text, 30, "start of the job")
    preempt(cluster, tmp_path, job)
    job.assert_finished_as(undisturbed, world_size=2)
    assert job.restarts == 1
    assert "interrupted after step 1," in job.text  # the ranks found the file that the batch shell had made
    assert "stopped by a signal, checkpoint saved" in job.text
    assert "resuming" in job.text


def test_a_rank_killed_without_warning(cluster, tmp_path, undisturbed):
    job = train_job(cluster, tmp_path, *LONG, options=TWO_BY_ONE)
    job.wait_for_step(6)
    os.kill(rank_pids(cluster, job)[1], signal.SIGKILL)
    job.assert_finished_as(undisturbed, world_size=2)
    assert job.restarts == 1
    assert failures(job.run)["count"] == 1
    assert "failure 1 of 3" in job.text


def test_a_lost_node_then_scancel_and_beside_it_three_failures(cluster, tmp_path):
    """In one test, as the two jobs wait for SLURM most of the time."""
    job = train_job(cluster, tmp_path, *LONG, "--train.epochs", "400", options=TWO_BY_ONE)
    job.wait_for_step(6)
    (tmp_path / "broken").mkdir()
    words = ["--model.name", "user_models:Broken"]
    broken = train_job(cluster, tmp_path / "broken", *words, options=["--nodes=1", "--nodelist=node1"])
    cluster.stop_node("node2")
    job.wait_for("PENDING")
    cluster.wait(lambda: not cluster.processes(job=job.id), 20, "end of its processes, on both nodes")
    cluster.start_node("node2")
    cluster.wait(lambda: "start 2: 2 nodes x 1 process" in job.text, 60, "second start")
    cluster.wait(lambda: "resuming" in job.text, 60, "resume")
    step = job.newest_checkpoint()
    job.wait_for_step(step + 2)
    cluster.run("scancel", job.id)
    job.wait_for("CANCELLED")
    cluster.wait(lambda: not cluster.processes(job=job.id), 20, "end of its processes")
    assert job.restarts == 1
    assert job.world_sizes == {2}
    assert "interrupted after step" in job.text
    assert job.newest_checkpoint() > step
    assert not (job.run / "summary.json").exists()

    assert broken.wait_for("FAILED")["Restarts"] == "2"
    assert broken.text.count("boom in the user's model") >= 3
    assert "failure 3 of 3 without a checkpoint after step 0); giving up" in broken.text


def test_a_mistake_is_not_started_again(cluster, tmp_path):
    job = train_job(cluster, tmp_path, "--batch.global-size", "288")
    facts = job.wait_for("FAILED")
    assert (facts["ExitCode"], facts["Restarts"]) == ("2:0", "0")
    assert "batch.global_size = 288: must be batch.micro_size = 32 times 4 ranks" in job.text
