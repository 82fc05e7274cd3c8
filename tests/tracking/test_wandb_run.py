import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lockstep.tracking.offline_files import highest_step, records
from wandb.proto import wandb_internal_pb2

from lockstep.commands.sync import sync
from lockstep.config import TrackingConfig, to_yaml
from lockstep.data import load_dataset
from lockstep.engine import test_record as score_test_set
from lockstep.errors import ConfigError
from lockstep.runs import MetricsFile, read_metrics
from lockstep.runs.environment import git_state
from lockstep.runs.evaluations import EvaluationSink, read_evaluation
from lockstep.tracking import has_key, wandb_mode
from lockstep.tracking.wandb_run import WandbRun
from runs import small_config, small_run


def test_records_after_the_step_of_a_resume_are_cut_off(tmp_path):
    file = MetricsFile(tmp_path, resume_step=0)
    for step in (1, 2, 3):
        file.log({"step": step, "loss": step / 10})
    file.close("failed")
    with (tmp_path / "metrics.jsonl").open("a") as raw:
        raw.write('{"step": 4, "lo')  # a kill in the middle of a line
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3]

    file = MetricsFile(tmp_path, resume_step=2)
    file.log({"step": 3, "loss": 9})
    file.close("finished")
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [0.1, 0.2, 9]


def test_mode_follows_the_key(monkeypatch, tmp_path):
    assert wandb_mode("auto") == "offline"
    assert wandb_mode("disabled") == "disabled"
    with pytest.raises(ConfigError, match=r"tracking\.mode = 'online': no W&B key"):
        wandb_mode("online")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert wandb_mode("auto") == wandb_mode("online") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode("auto") == "disabled"
    assert wandb_mode("offline") == "offline"
    monkeypatch.setenv("WANDB_MODE", "shared")
    with pytest.raises(ConfigError, match="WANDB_MODE = 'shared': must be online, offline, disabled, or not"):
        wandb_mode("auto")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(ConfigError, match="WANDB_MODE = 'online': no W&B key"):
        wandb_mode("auto")


def test_a_key_in_the_netrc_file_is_found(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine wandb.example login user password " + "k" * 40 + "\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert has_key()


class Client:
    """Takes the place of wandb's run."""

    def __init__(self):
        self.rows = []

    def log(self, row, step):
        self.rows.append((step, row))


def test_records_that_wandb_has_are_not_sent_again(tmp_path):
    class Idle(WandbRun):
        def _serve(self):
            pass

    file = MetricsFile(tmp_path, resume_step=0)
    for step in (1, 2, 3):
        file.log({"step": step})
    file.close("failed")
    run, client = Idle(tmp_path, TrackingConfig(watch=2), "offline", {}, print, tensors=tensors), Client()
    run.log({"step": 3})  # computed again after a resume
    run.log({"step": 4})
    run._next_step = 2
    while not run._queue.empty():
        run._send(client, *run._queue.get())
    assert [step for step, _ in client.rows] == [2, 3, 4]
    assert [list(row) for _, row in client.rows] == [[], [], ["weights/some"]]
    assert sum(client.rows[-1][1]["weights/some"].histogram) == 2


def tensors():
    return {"weights/some": torch.tensor([1.0, 2.0, float("nan")])}


def test_a_run_that_is_synced_from_inside_has_its_folders_name(tmp_path, monkeypatch):
    class Complete:
        is_complete = True

        def __init__(self, folder, *_, **__):
            names.append(folder.name)

        def close(self, status):
            pass

    names: list[str] = []
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(small_config()))
    (folder / "starts.jsonl").write_text('{"step": 0}\n')
    (folder / "wandb-id").write_text("x")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr("lockstep.tracking.upload.WandbRun", Complete)
    assert sync(["."]) == 0
    assert names == ["run"]


def test_a_file_that_was_cut_short_is_read_up_to_there(tmp_path):
    folder = tmp_path / "wandb" / "offline-run-1-x"
    folder.mkdir(parents=True)
    record = wandb_internal_pb2.Record()
    record.history.step.num = 7
    chunk = record.SerializeToString()
    header = bytes(4) + len(chunk).to_bytes(2, "little") + b"\x01"
    (folder / "run-x.wandb").write_bytes(bytes(7) + (header + chunk) * 2 + header + chunk[:-1])
    assert len(list(records(folder / "run-x.wandb"))) == 2
    assert highest_step(tmp_path) == 7
    assert highest_step(tmp_path / "elsewhere") == 0


def test_the_last_and_the_best_evaluation_are_kept_with_their_mistakes(tmp_path):
    run, dataset = small_run(small_config(tmp_path))
    run.folder.mkdir()
    sink = EvaluationSink(run.folder, run.step, lambda: run.evaluation, run.test_store.images)
    accuracies = []
    for step in (1, 2):
        run.step = step
        sink.log(score_test_set(run) | {"step": step})
        accuracies.append(run.evaluation.accuracy)
        with torch.no_grad():
            run.trained[-1].fill_(float("-inf")).select(0, 0).zero_()  # from now on every answer is 0
    last, best = read_evaluation(run.folder, "last"), read_evaluation(run.folder, "best")
    assert (last.scores.step, last.scores.accuracy) == (2, accuracies[1])
    assert best.scores.accuracy == max(accuracies)
    assert len(last.mistakes) == 25
    worst = last.mistakes[0]
    assert (last.scores.predictions[worst], last.scores.confidences[worst]) == (0, 1.0)
    assert last.scores.labels[worst] == dataset.test.labels[worst] != 0
    assert torch.equal(last.images[0], dataset.test.images[worst])


def test_the_digest_of_the_data_is_of_every_sample():
    config = small_config().data
    dataset, other = (load_dataset(config, seed=0) for _ in range(2))
    assert dataset.facts() == other.facts()
    other.test.labels[-1] += 1
    assert dataset.facts()["sha256"] != other.facts()["sha256"]


def test_git_state_is_of_the_working_directory(tmp_path, monkeypatch):
    def state():
        git_state.cache_clear()
        return git_state()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert state() is None
    (tmp_path / "file").write_text("one")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "file"], [*author, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *words], check=True)
    assert state()["is_clean"]
    assert len(state()["commit"]) == 40
    (tmp_path / "file").write_text("two")
    assert not state()["is_clean"]
    git_state.cache_clear()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc here")
def test_the_digest_in_the_background_starts_no_openmp_threads():
    """A second team of them makes each region of the training wait in the kernel: twice the time a step."""
    program = """
import os, sys, threading, torch
from lockstep.config import DataConfig
from lockstep.data import load_dataset
torch.set_num_threads(2)
dataset = load_dataset(DataConfig(name="synthetic"), seed=0)
torch.ones(1000, 1000).add_(1)  # training's own team
before, counts = len(os.listdir("/proc/self/task")), []
def work():
    dataset.facts()
    counts.append(len(os.listdir("/proc/self/task")))
    dataset.train.read(torch.arange(2048))  # what would start one
    counts.append(len(os.listdir("/proc/self/task")))
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(before, *counts)
"""
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    before, after_digest, after_torch = map(int, result.stdout.split())
    assert after_digest == before + 1  # the thread itself
    assert after_torch > after_digest
