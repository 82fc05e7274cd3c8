import json
import os
import shutil
import subprocess

import pytest

from lockstep.commands.job import count_failure, main, prepare, shell_assignments, sweep_table
from lockstep.config import Config, OptimizerConfig, RunConfig, TrackingConfig, to_yaml
from lockstep.errors import ConfigError
from lockstep.launch import accelerate_options, tell_run_folder
from lockstep.launch.launcher.rendezvous_address import job_port
from lockstep.runs import write_task_facts
from processes import BIN, ROOT
from run_folders import DIGITS, SUMMARY, UNREADABLE

SCRIPTS = sorted((ROOT / "slurm").glob("*.sbatch"))


JOB = {"SLURM_JOB_ID": "77", "SLURM_NNODES": "2", "SLURM_CPUS_ON_NODE": "8", "MASTER_ADDR": "10.0.0.1"}


def flags_in(folder):
    return ["--run.dir", str(folder), "--run.name", "run"]


def test_prepare_makes_the_run_folder_and_says_how_to_launch(tmp_path):
    prepared = prepare(flags_in(tmp_path), {**JOB, "SLURM_NTASKS": "4"})
    assert (tmp_path / "run").is_dir()
    assert prepared["folder"] == str(tmp_path / "run")
    assert prepared["processes"] == "2 nodes x 2 processes"
    assert prepared["threads"] == "4"
    assert (prepared["program"], prepared["run_folder_file"]) == (["--module", "lockstep", "train"], "")
    assert prepared["launch_options"] == accelerate_options(2, 2, "10.0.0.1", job_port(JOB))


def test_a_script_gets_a_folder_for_its_job_and_its_own_flags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").touch()
    job = {**JOB, "LOCKSTEP_SCRIPT": "my.py", "SLURM_NTASKS": "4"}
    prepared = prepare(["--width", "64"], job)
    assert (prepared["folder"], prepared["program"]) == ("runs/.jobs/77", ["my.py"])
    assert prepared["run_folder_file"] == "runs/.jobs/77/run-folder"
    assert (tmp_path / "runs" / ".jobs" / "77").is_dir()
    with pytest.raises(ConfigError, match=r"LOCKSTEP_SCRIPT = 'other.py': is not a file; give its path"):
        prepare([], {**job, "LOCKSTEP_SCRIPT": "other.py"})
    with pytest.raises(ConfigError, match=r"LOCKSTEP_STAGE_DATA = '/data': is for `lockstep train`"):
        prepare([], {**job, "LOCKSTEP_STAGE_DATA": "/data"})


def test_the_failures_of_a_script_count_until_its_run_has_a_new_checkpoint_or_it_trains_another(tmp_path):
    job = tmp_path / "job"
    job.mkdir()
    for _ in range(2):
        count_failure(job)  # before its first run
    for name in ("a", "b"):
        tell_run_folder(tmp_path / name, {"LOCKSTEP_RUN_FOLDER_FILE": str(job / "run-folder")})
        assert [count_failure(job) for _ in range(2)] == [(1, 0), (2, 0)]
        (tmp_path / name / "checkpoints" / "step-00000012").mkdir(parents=True)
        assert count_failure(job) == (1, 12)


def test_prepare_refuses_mistakes(tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"batch.global_size = 256: .* times 3 ranks"):
        prepare(flags_in(tmp_path), {**JOB, "SLURM_NNODES": "3"})
    with pytest.raises(ConfigError, match=r"SLURM_NTASKS = '3': .* on each of 2 nodes"):
        prepare(flags_in(tmp_path), {**JOB, "SLURM_NTASKS": "3"})
    with pytest.raises(ConfigError, match=r"MASTER_ADDR = '10.0.0.1': is for several nodes"):
        prepare(flags_in(tmp_path), {**JOB, "SLURM_NNODES": "1", "SLURM_NTASKS": "2"})
    with pytest.raises(ConfigError, match=r"SLURM_JOB_ID: is not set"):
        prepare(flags_in(tmp_path), {})
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"run.dir = .*: cannot be written"):
        prepare(flags_in(tmp_path / "file"), JOB)
    assert main(["prepare"]) == 2
    assert capsys.readouterr().err.startswith("lockstep: error: SLURM_JOB_ID: is not set")
    assert main(["failed", "folder"]) == 2
    assert "should-restart FOLDER" in capsys.readouterr().err


def test_bash_reads_what_prepare_prints():
    words = ["plain", "two words", "$HOME", "it's", ""]
    program = shell_assignments({"name": "a 'b' $c", "list": words}) + 'printf \'%s\\n\' "$name" "${list[@]}"'
    result = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["a 'b' $c", *words]


def test_failures_count_until_there_is_a_new_checkpoint(tmp_path, capsys):
    assert count_failure(tmp_path) == (1, 0)
    assert count_failure(tmp_path) == (2, 0)
    (tmp_path / "checkpoints" / "step-00000012").mkdir(parents=True)
    assert main(["should-restart", str(tmp_path)]) == 0
    assert "failure 1 of 3 without a checkpoint after step 12); starting it again" in capsys.readouterr().out
    assert main(["should-restart", str(tmp_path)]) == 0
    assert main(["should-restart", str(tmp_path)]) == 1
    assert "failure 3 of 3 without a checkpoint after step 12); giving up" in capsys.readouterr().out


def test_copies_of_checkpoints_and_a_damaged_count_keep_no_job_from_its_requeue(tmp_path, impatient):
    for name in ("step-best", "step-00000012-keep", "step-00000009", "step-٠٠٠٠٠٠١٢"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert count_failure(tmp_path) == (1, 9)
    for damage in (b"", b"\xff", b"[]", b'{"run": 3}', b'{"run": "%b", "step": 9}' % bytes(tmp_path)):
        (tmp_path / "failures.json").write_bytes(damage)
        assert count_failure(tmp_path) == (1, 9)
    assert count_failure(tmp_path) == (2, 9)
    (tmp_path / "failures.json").unlink()
    (tmp_path / "failures.json").symlink_to(UNREADABLE)
    assert count_failure(tmp_path) == (1, 9)


def test_a_new_job_counts_failures_from_zero_and_a_restart_does_not(tmp_path):
    prepare(flags_in(tmp_path), JOB)
    count_failure(tmp_path / "run")
    prepare(flags_in(tmp_path), {**JOB, "SLURM_RESTART_COUNT": "1"})
    assert count_failure(tmp_path / "run") == (2, 0)
    prepare(flags_in(tmp_path), JOB)
    assert count_failure(tmp_path / "run") == (1, 0)


def test_the_table_shows_what_differs_in_a_group(tmp_path, capsys):
    def begin(name, seed, lr, group):
        config = Config(
            seed=seed,
            run=RunConfig(name=name),
            optimizer=OptimizerConfig(lr=lr),
            tracking=TrackingConfig(group=group),
        )
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(to_yaml(config))
        write_task_facts(tmp_path / name, DIGITS)

    begin("one", 0, 0.1, "sweep-1")
    begin("two", 0, 0.2, "sweep-1")
    begin("other", 5, 0.2, "")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.yaml").write_text("seed: 1\n")  # of another program
    begin("odd", 0, 0.3, "sweep-1")
    (tmp_path / "odd" / "summary.json").write_text(
        json.dumps(SUMMARY | {"test_accuracy": "high", "steps": "many", "weights_sha256": ""})
    )
    summary = SUMMARY | {"test_accuracy": 0.991}
    (tmp_path / "two" / "summary.json").write_text(json.dumps(summary))
    header, *rows = [line.split() for line in sweep_table(tmp_path, "sweep-1").splitlines()]
    assert 'odd/summary.json is damaged (steps is "many"); continuing without it' in capsys.readouterr().err
    assert header[:6] == ["run", "optimizer.lr", "state", "processes", "test", "accuracy"]
    assert [row[:5] for row in rows] == [
        ["two", "0.2", "finished", "4", "99.10%"],
        ["odd", "0.3", "unfinished", "-", "-"],
        ["one", "0.1", "unfinished", "-", "-"],
    ]


def test_a_grid_that_is_not_there_is_named(tmp_path):
    words = ["bash", str(ROOT / "slurm" / "sweep.sbatch"), "--grid", "nosuch.txt"]
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "1"}
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "--grid: nosuch.txt is no file that can be read; give its path" in result.stderr


def test_the_folder_of_a_run_is_where_the_last_flags_say(capsys):
    assert main(["run-folder", "--run.dir", "runs", "--run.name", "a", "--run.dir", "other"]) == 0
    assert capsys.readouterr().out == "other/a\n"


def test_the_job_scripts_are_clean():
    for script in SCRIPTS:
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
        assert "set -euo pipefail" in script.read_text()
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck")
    # All of them together and from the root: one sources another.
    names = [str(script.relative_to(ROOT)) for script in SCRIPTS]
    result = subprocess.run(["shellcheck", *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_a_task_of_the_job_script_gets_all_gpus_of_its_node(tmp_path):
    """Whatever sbatch was told to give a task: each rank must see all, or NCCL finds no way between them."""
    for name in ("srun", "accelerate"):
        (tmp_path / name).write_text("#!/bin/sh\nenv\n")
        (tmp_path / name).chmod(0o755)
    limits = ("NTASKS_PER_GPU", "GPUS_PER_TASK", "TRES_PER_TASK", "GPU_BIND", "TRES_BIND")
    job = {**JOB, **{f"SLURM_{name}": "1" for name in limits}}
    path = os.pathsep.join([str(tmp_path), str(BIN), os.environ["PATH"]])
    result = subprocess.run(
        ["bash", ROOT / "slurm" / "train.sbatch", *flags_in(tmp_path)],
        env={**os.environ, **job, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "SLURM_JOB_ID=77" in result.stdout
    assert [name for name in limits if f"SLURM_{name}=" in result.stdout] == []
