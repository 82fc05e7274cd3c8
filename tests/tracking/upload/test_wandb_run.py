"""The sink for W&B: offline with the real client, and with a server that does not answer."""

import subprocess
import time

import pytest
import torch

from lockstep.config import TrackingConfig
from lockstep.runs import MetricsFile
from lockstep.tracking.upload.wandb_run import MAX_QUEUED_RECORDS, WandbRun
from processes import free_port
from wandb_file import read_wandb


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def tensors():
    return {
        "weights/some": torch.tensor([1.0, 2.0, float("nan")]),
        "weights/none": torch.full((2,), torch.inf),
    }


@pytest.fixture
def hostile_repository(tmp_path, monkeypatch):
    """The current folder: a git repository that names a program; the file that the program makes."""
    folder, ran = tmp_path / "repository", tmp_path / "ran"
    folder.mkdir()
    program = folder / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    for words in (
        ["init", "-q"],
        ["add", "program"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "one"],
        ["config", "core.fsmonitor", str(program)],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    return ran


@pytest.mark.slow
def test_each_step_is_sent_once_over_two_starts(tmp_path, hostile_repository, monkeypatch):
    """And by a wandb of its own: the one of the program that started this process has ended."""
    monkeypatch.setenv("WANDB_SERVICE", "3-1-unix-/no/socket")
    lines = []
    records = [{"step": step, "samples_seen": step, "loss": float(step)} for step in (1, 2, 3, 4)]
    file = MetricsFile(tmp_path, resume_step=0)
    for record in records[:3]:
        file.log(record)
    file.close("failed")
    slow = {"extra_seconds": 60}  # a busy machine imports wandb for longer than a start waits
    first = WandbRun(tmp_path, TrackingConfig(), "offline", {}, lines.append, **slow)
    first.close("interrupted")
    second = WandbRun(tmp_path, TrackingConfig(watch=2), "offline", {}, lines.append, tensors=tensors, **slow)
    for record in records[2:]:  # step 3 is computed again after a resume
        second.log(record)
    second.close("finished")
    sent = [read_wandb(path) for path in sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))]
    assert [list(run["history"]) for run in sent] == [[1, 2, 3], [4]]
    assert {run["id"] for run in sent} == {(tmp_path / "wandb-id").read_text()}
    assert sum(sent[1]["history"][4]["weights/some.values"]) == 2  # the finite ones
    assert "weights/none.values" not in sent[1]["history"][4]
    assert lines == [f"W&B was offline; to upload it: lockstep sync {tmp_path}"] * 2
    assert not first.is_complete
    assert not hostile_repository.exists()  # wandb would let git compare the files


@pytest.fixture
def _no_server(monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)


@pytest.mark.usefixtures("_no_server")
def test_a_server_that_does_not_answer_is_reported_once_and_holds_up_nothing(tmp_path):
    lines, calls = [], []
    (tmp_path / "wandb-synced").write_text("finished")
    run = WandbRun(
        tmp_path, TrackingConfig(watch=1), "online", {}, lines.append, tensors=lambda: calls.append(1) or {}
    )
    assert not (tmp_path / "wandb-synced").exists()
    for step in range(1, MAX_QUEUED_RECORDS + 20):
        run.log({"step": step})
    assert len(calls) == MAX_QUEUED_RECORDS  # no more histograms than the memory should hold
    wait_for(lambda: lines)
    began = time.monotonic()
    run.close("finished")
    assert time.monotonic() - began < 6
    tried, left = lines
    assert tried.startswith("W&B: could not connect (")
    assert tried.endswith("); retrying every 60 s")
    assert left == f"W&B's server does not have all of this run; to upload it: lockstep sync {tmp_path}"
    assert not run.is_complete


@pytest.mark.usefixtures("_no_server")
def test_a_run_that_is_closed_before_its_first_attempt_tries_once(tmp_path):
    lines = []
    run = WandbRun(tmp_path, TrackingConfig(), "online", {}, lines.append, extra_seconds=60)
    run.close("finished")
    assert [line.partition(" (")[0] for line in lines[:1]] == ["W&B: could not connect"]
    assert len(lines) == 2
    assert not run.is_complete


def test_the_id_is_a_sweeps_the_first_time_and_the_files_from_then_on(tmp_path, monkeypatch):
    for run_id in ("from-agent", "other"):
        monkeypatch.setenv("WANDB_RUN_ID", run_id)
        WandbRun(tmp_path, TrackingConfig(), "offline", {}, print)
        assert (tmp_path / "wandb-id").read_text() == "from-agent"
