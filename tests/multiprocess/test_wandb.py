"""The real W&B client, offline; its files are read back."""

import json
import signal

import pytest
import yaml

from processes import QUICK, launched, lockstep
from test_interruption import start, wait_for_step
from wandb_file import read_wandb

pytestmark = pytest.mark.slow
OFFLINE = ["--tracking.mode", "offline"]


def wandb_runs(folder):
    """What each start of the run left for W&B, oldest first."""
    return [read_wandb(path) for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))]


def test_a_run_on_two_processes_is_one_run_with_every_step_once(tmp_path):
    place = ["--run.dir", str(tmp_path), "--run.name", "run"]
    result = launched(2, *QUICK, *OFFLINE, *place)
    assert result.returncode == 0, result.stderr
    (run,) = wandb_runs(tmp_path / "run")
    assert run["id"] == (tmp_path / "run" / "wandb-id").read_text()
    assert run["exit_code"] == 0
    assert list(run["history"]) == [1, 2, 3, 4, 5, 6]
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert {name: run["config"][name] for name in config} == config
    assert run["config"]["environment"]["world_size"] == 2
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        logged = run["history"][record["step"]]
        assert {name: logged[name] for name in record if name != "step"} == pytest.approx(
            {name: value for name, value in record.items() if name != "step"}
        )


def test_an_interrupted_run_goes_on_as_the_same_one(tmp_path):
    process = start(tmp_path, 1, *OFFLINE)
    wait_for_step(tmp_path, 4, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    assert start(tmp_path, 1, *OFFLINE).wait(timeout=60) == 0
    first, second = wandb_runs(tmp_path / "run")
    assert first["id"] == second["id"]
    assert (first["exit_code"], second["exit_code"]) == (1, 0)
    assert [*first["history"], *second["history"]] == list(range(1, 37))


def test_a_failed_run_is_closed_as_failed(tmp_path):
    """T15: nothing but our own `finally` closes it."""
    words = [*QUICK, *OFFLINE, "--run.dir", str(tmp_path), "--run.name", "run", "--optimizer.name", "sgd"]
    result = lockstep("train", *words, "--optimizer.lr", "1e30", env={"WANDB_CONSOLE": "off"})
    assert result.returncode == 1
    (run,) = wandb_runs(tmp_path / "run")
    assert run["exit_code"] == 1


def test_a_server_out_of_reach_costs_nothing_but_the_wait(tmp_path):
    place = ["--tracking.mode", "online", "--run.dir", str(tmp_path), "--run.name", "run"]
    nowhere = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    result = lockstep("train", *QUICK, *place, env=nowhere)
    assert result.returncode == 0, result.stderr
    assert "no W&B server" in result.stdout
    assert "wandb sync" in result.stdout
    (run,) = wandb_runs(tmp_path / "run")
    assert list(run["history"]) == [1, 2, 3, 4, 5, 6]
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"a" * 40 not in everything  # the key is written nowhere
