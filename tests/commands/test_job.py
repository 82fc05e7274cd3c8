import shutil
import subprocess

import pytest

from lockstep.commands.job import count_failure, main, newest_step, prepare, sweep_table
from lockstep.config import Config, OptimizerConfig, RunConfig, TrackingConfig, to_yaml
from lockstep.errors import ConfigError
from processes import ROOT

SCRIPTS = sorted((ROOT / "slurm").glob("*.sbatch"))


def test_prepare_makes_the_run_folder_and_refuses_mistakes(tmp_path, capsys):
    place = ["--run.dir", str(tmp_path), "--run.name", "run"]
    assert prepare(4, place) == tmp_path / "run"
    assert (tmp_path / "run").is_dir()
    with pytest.raises(ConfigError, match=r"batch.global_size = 256: .* times 3 ranks"):
        prepare(3, place)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"run.dir = .*: cannot be written"):
        prepare(1, ["--run.dir", str(tmp_path / "file")])
    assert main(["prepare", "1", "--sead", "1"]) == 2
    assert capsys.readouterr().err.startswith("lockstep: error: --sead: there is no such option")


def test_failures_count_until_there_is_a_new_checkpoint(tmp_path, capsys):
    assert newest_step(tmp_path) == 0
    assert count_failure(tmp_path) == (1, 0)
    assert count_failure(tmp_path) == (2, 0)
    (tmp_path / "checkpoints" / "step-00000012").mkdir(parents=True)
    assert main(["failed", str(tmp_path)]) == 0
    assert (
        "failure 1 of 3 without a checkpoint after step 12); it is started again" in capsys.readouterr().out
    )
    assert main(["failed", str(tmp_path)]) == 0
    assert main(["failed", str(tmp_path)]) == 1
    assert "failure 3 of 3" in capsys.readouterr().out


def test_the_table_shows_what_differs_in_a_group(tmp_path):
    def begin(name, seed, lr, group):
        config = Config(
            seed=seed,
            run=RunConfig(name=name),
            optimizer=OptimizerConfig(lr=lr),
            tracking=TrackingConfig(group=group),
        )
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(to_yaml(config))

    begin("one", 0, 0.1, "sweep-1")
    begin("two", 0, 0.2, "sweep-1")
    begin("other", 5, 0.2, "")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.yaml").write_text("seed: 1\n")  # of another program
    summary = '{"test_accuracy": 0.991, "test_loss": 0.03, "world_size": 4}'
    (tmp_path / "two" / "summary.json").write_text(summary)
    header, *rows = [line.split() for line in sweep_table(tmp_path, "sweep-1").splitlines()]
    assert header[:6] == ["run", "optimizer.lr", "state", "processes", "test", "accuracy"]
    assert [row[:5] for row in rows] == [
        ["two", "0.2", "finished", "4", "99.10%"],
        ["one", "0.1", "unfinished", "-", "-"],
    ]


def test_the_job_scripts_are_clean():
    for script in SCRIPTS:
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
        assert "set -euo pipefail" in script.read_text()
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck")
    # All at once and from the root: one of them sources another.
    names = [str(script.relative_to(ROOT)) for script in SCRIPTS]
    result = subprocess.run(["shellcheck", *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
