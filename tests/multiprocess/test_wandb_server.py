"""The real W&B client against a server on loopback: resumed runs, broken networks, artifacts."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from interruption import LONG, start, wait_for_step
from lockstep.config import TrackingConfig
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.runs.checkpoints.weights import read_weights
from lockstep.tracking import time_limits
from lockstep.tracking.upload.wandb_run import WandbRun
from processes import QUICK, lockstep, read_run, run, train_quick, with_support
from wandb_artifacts import metadata
from wandb_server import KEY, WandbServer, install

pytestmark = pytest.mark.slow
ONLINE = ["--tracking.mode", "online"]
PACED = ["--schedule.name", "user_models:paced"]


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    try:
        return install(tmp_path_factory.mktemp("openwandb") / "venv")
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        pytest.skip(f"openwandb could not be installed: {reason.strip().splitlines()[-1]}")


@pytest.fixture
def server(program, tmp_path_factory):
    server = WandbServer(program, tmp_path_factory.mktemp("server"))
    yield server
    server.close()


def run_id(folder: Path) -> str:
    return (folder / "run" / "wandb-id").read_text()


def assert_no_key_in(folder: Path) -> None:
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert KEY.encode() not in content


def test_a_run_resumes_from_its_artifact_on_another_machine(tmp_path, server):
    """Two processes, interrupted; then one process on a machine that has only the name of the artifact."""
    (tmp_path / "here").mkdir()
    longer = ["--train.epochs", "24", "--model.name", "mlp", "--model.dropout", "0"]
    env = server.env | with_support()
    # Paced, so that the signal comes in time also while the server answers slowly.
    process = start(tmp_path / "here", 2, *ONLINE, *longer, *PACED, "--tracking.group", "some", env=env)
    wait_for_step(tmp_path / "here", 4, process)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    identity = run_id(tmp_path / "here")
    assert server.ends == {identity: [1]}
    assert server.preempted == {identity}
    stored = server.artifacts.named("run", "latest")
    assert metadata(stored)["step"] == server.steps(identity)[-1] < 72

    flags = ["--run.dir", str(tmp_path / "there"), "--train.log-every", "1", *PACED]
    result = lockstep("train", "--resume-from", "wandb:lockstep/run:latest", *flags, env=env)
    assert result.returncode == 0, result.stderr
    assert "resuming" in result.stdout
    assert "wandb: " not in result.stdout + result.stderr
    assert run_id(tmp_path / "there") == identity
    assert server.steps(identity) == list(range(1, 73))
    assert server.ends[identity] == [1, 0]
    summary = read_run(tmp_path / "there" / "run")
    words = [*LONG[len(QUICK) :], *longer, "--schedule.name", "constant"]
    undisturbed = train_quick(tmp_path, "undisturbed", 1, *words)
    assert summary["weights_sha256"] == undisturbed["weights_sha256"]
    assert [record["loss"] for record in summary["records"]] == [
        record["loss"] for record in undisturbed["records"]
    ]
    assert server.summaries[identity]["weights_sha256"] == summary["weights_sha256"]
    assert metadata(server.artifacts.named("run", "latest"))["weights_sha256"] == summary["weights_sha256"]
    assert metadata(server.artifacts.named("run", "latest"))["test_accuracy"] == summary["test_accuracy"]
    assert set(server.artifacts.named("synthetic", "latest").used_by) == {identity}
    assert_no_key_in(tmp_path)
    assert not any(
        KEY.encode() in file for each in server.artifacts.artifacts for file in each.files.values()
    )


def test_a_run_that_ends_before_a_slow_server_answers_is_uploaded(tmp_path, server, monkeypatch):
    """An earlier run of this process went elsewhere: W&B's variables have changed since."""
    monkeypatch.setenv("WANDB_BASE_URL", "https://elsewhere.example")
    (tmp_path / "earlier").mkdir()
    WandbRun(tmp_path / "earlier", TrackingConfig(), "offline", {}, notify=print).close("finished")
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(time_limits, "LAST_ATTEMPT_SECONDS", 0.1)
    server.delay_seconds = 0.3
    messages = []
    run = WandbRun(tmp_path, TrackingConfig(), "online", {}, notify=messages.append)
    run.log({"step": 1, "samples_seen": 64})
    run.close("finished")
    assert (run.is_complete, messages) == (True, [])
    assert server.steps((tmp_path / "wandb-id").read_text()) == [1]


SLOW_END = """
import sys, time
from pathlib import Path
from lockstep.config import TrackingConfig
from lockstep.tracking import time_limits
from lockstep.tracking.upload.wandb_run import WandbRun

def main(folder):
    time_limits.CLOSE_SECONDS["interrupted"], time_limits.EXIT_SECONDS = 0.1, 120
    run = WandbRun(Path(folder), TrackingConfig(), "online", {}, notify=print)
    run.log({"step": 1, "samples_seen": 64})
    while run._run is None:
        time.sleep(0.01)
    run.close("interrupted")

sys.exit(main(sys.argv[1]))
"""


def test_a_run_whose_server_is_too_slow_when_it_is_interrupted_is_not_shown_as_finished(tmp_path, server):
    """wandb's own hook would end it with exit code 0: it does not see the process's own."""
    server.delay_seconds = 0.4
    words = [sys.executable, "-c", SLOW_END, str(tmp_path)]
    result = run(
        words, env=server.env | {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}, popen=subprocess.Popen
    )
    assert "W&B's server does not have all of this run" in result.stdout, result.stderr
    identity = (tmp_path / "wandb-id").read_text()
    assert (server.ends, server.preempted) == ({identity: [1]}, {identity})
    assert result.stderr == ""


def test_a_broken_server_does_not_stop_training_and_gets_the_rest_later(tmp_path, server):
    """It answers 500 from some step of one run on, and during two more runs, one of them offline."""
    quick = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}  # seconds; else 15
    process = start(
        tmp_path, 1, *ONLINE, "--train.epochs", "1000", *PACED, env=server.env | quick | with_support()
    )
    deadline = time.monotonic() + 60
    while not server.history and time.monotonic() < deadline:
        time.sleep(0.1)
    server.stop()
    wait_for_step(tmp_path, server.steps(run_id(tmp_path))[-1] + 25, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    last_lines = (tmp_path / "output").read_text().splitlines()[-2:]
    assert last_lines[1].endswith(f"lockstep sync {tmp_path / 'run'}")
    assert "run the same command again to resume" in last_lines[0]
    for name, mode, env in (("offline", "offline", {}), ("no-server", "online", server.env)):
        flags = ["--tracking.mode", mode, "--run.dir", str(tmp_path), "--run.name", name]
        result = lockstep("train", *QUICK, *flags, env=env)
        assert result.returncode == 0, result.stderr
        assert f"lockstep sync {tmp_path / name}" in result.stdout
    assert lockstep("sync", str(tmp_path / "no-server"), env=server.env).returncode == 1

    server.start()
    result = lockstep("sync", str(tmp_path), env=server.env)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 of 3 runs" in result.stdout
    for name in ("run", "offline", "no-server"):
        identity = (tmp_path / name / "wandb-id").read_text()
        num_records = (tmp_path / name / "metrics.jsonl").read_text().count("\n")
        assert server.steps(identity) == list(range(1, num_records + 1))
        assert server.ends[identity][-1] == (1 if name == "run" else 0)
        assert server.artifacts.named(name, "latest").type == "model"
    words = [*QUICK, "--run.dir", str(tmp_path), "--run.name", "tuned", "--train.steps", "1"]
    words += ["--train.keep-checkpoints", "2", "--init-from", "wandb:lockstep/no-server:latest"]
    result = lockstep("train", *words, env=server.env)
    assert result.returncode == 0, result.stderr
    assert "tensors from wandb:lockstep/no-server:latest" in result.stdout
    initial = read_weights(str(tmp_path / "tuned" / "checkpoints" / "step-00000000")).tensors
    assert weights_sha256(initial) == read_run(tmp_path / "no-server")["weights_sha256"]
    assert_no_key_in(tmp_path)
