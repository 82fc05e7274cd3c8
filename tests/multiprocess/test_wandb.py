"""The real W&B client, offline: what its files hold."""

import json
import os

import pytest
import yaml

from interruption import kill, start, wait_for_step
from processes import BIN, QUICK, ROOT, launched, lockstep, run
from wandb_file import read_wandb

pytestmark = pytest.mark.slow
OFFLINE = ["--tracking.mode", "offline"]


def wandb_runs(folder):
    """The W&B file of each start of the run, oldest first."""
    return [read_wandb(path) for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))]


def test_a_run_on_two_processes_is_one_run_with_every_step_once(tmp_path):
    flags = ["--run.dir", str(tmp_path), "--run.name", "run", "--tracking.watch", "5"]
    result = launched(2, *QUICK, *OFFLINE, *flags, "--tracking.group", "some", "--tracking.job-type", "test")
    assert result.returncode == 0, result.stderr
    assert f"lockstep sync {tmp_path / 'run'}" in result.stdout
    assert "wandb:" not in result.stdout + result.stderr
    (run,) = wandb_runs(tmp_path / "run")
    assert run["id"] == (tmp_path / "run" / "wandb-id").read_text()
    assert (run["group"], run["job_type"], run["exit_code"]) == ("some", "test", 0)
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
    watched = [step for step, row in run["history"].items() if "gradients/conv1.weight.values" in row]
    assert watched == [5]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {name: run["summary"][name] for name in summary if name != "confusion"} == {
        name: value for name, value in summary.items() if name != "confusion"
    }
    tables = tmp_path.glob("run/wandb/offline-run-*/files/media/table/last_confusion_*.table.json")
    rows = json.loads(next(tables).read_text())["data"]
    assert [row[1:] for row in rows] == summary["confusion"]


def test_a_killed_run_resumes_as_the_same_one(tmp_path):
    """A killed client leaves a file without its last records: the next start makes up for it."""
    words = [*OFFLINE, "--train.epochs", "6"]
    process = start(tmp_path, 1, *words)
    wait_for_step(tmp_path, 6, process)
    assert kill(tmp_path, process)
    identity = (tmp_path / "run" / "wandb-id").read_text()
    assert start(tmp_path, 1, *words).wait(timeout=60) == 0
    runs = wandb_runs(tmp_path / "run")
    assert (runs[-1]["id"], runs[-1]["exit_code"]) == (identity, 0)
    assert [step for run in runs for step in run["history"]] == list(range(1, 19))


def test_a_failed_run_is_closed_as_failed_and_says_why(tmp_path):
    """T15: only our own `finally` closes it."""
    words = [*QUICK, *OFFLINE, "--run.dir", str(tmp_path), "--run.name", "run", "--optimizer.name", "sgd"]
    result = lockstep("train", *words, "--optimizer.lr", "1e30", env={"WANDB_CONSOLE": "off"})
    assert result.returncode == 1
    (run,) = wandb_runs(tmp_path / "run")
    assert run["exit_code"] == 1
    assert "not finite" in run["alerts"][0]


def test_a_sweep_runs_through_accelerate_with_its_parameters_as_flags(tmp_path, monkeypatch):
    """Builds the command line as wandb's agent does, without the `/usr/bin/env` in front, for a fork."""
    from wandb.sdk.launch.sweeps import utils

    sweep = yaml.safe_load((ROOT / "configs" / "sweep.yaml").read_text())
    parameters = {"optimizer.lr": 0.002, "model.dropout": 0.1, "train.steps": 2, "run.dir": str(tmp_path)}
    flags = utils.create_sweep_command_args({"args": {name: {"value": v} for name, v in parameters.items()}})
    filled = {"${env}": [], "${program}": [sweep["program"]], "${args}": flags["args"]}
    command = [part for word in sweep["command"] for part in filled.get(word, [word])]
    small = ["--data.name", "synthetic", "--data.num-train", "600", "--data.validation", "100"]
    small += ["--tracking.mode", "offline"]
    path = f"{BIN}:{os.environ['PATH']}"  # where the agent finds accelerate
    result = run([*command, *small], env={"WANDB_RUN_ID": "from-agent", "PATH": path})
    assert result.returncode == 0, result.stderr
    (folder,) = tmp_path.iterdir()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["optimizer"]["lr"], config["model"]["dropout"]) == (0.002, 0.1)
    assert (folder / "wandb-id").read_text() == "from-agent"
    assert wandb_runs(folder)[0]["id"] == "from-agent"
