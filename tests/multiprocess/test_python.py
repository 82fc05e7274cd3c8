"""Lockstep used by a program, in the processes of each launcher; under srun: tests/slurm."""

import pytest

from lockstep.config import parse_config
from lockstep.runs import run_path
from processes import BIN, QUICK, ROOT, launch_words, read_run, run, train_quick

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WORKER = str(ROOT / "tests" / "multiprocess" / "python_worker.py")
SCRIPT = str(ROOT / "tests" / "support" / "own_script.py")
RUN_SCRIPT = str(ROOT / "tests" / "support" / "run_script.py")
PYTHON = [str(BIN / "python")]
TORCHRUN = [str(BIN / "torchrun"), "--nproc_per_node=2", "--standalone"]


@pytest.mark.parametrize("way", ["twice", "own-group"])
def test_a_program_trains_as_often_as_it_likes(tmp_path, way):
    digests = set()
    for name, words in {"torchrun": TORCHRUN, "accelerate": launch_words(2)}.items():
        result = run([*words, WORKER, way, str(tmp_path / name)], env={"ACCELERATE_USE_CPU": "true"})
        assert result.returncode == 0, result.stderr[-3000:]
        digests |= {read_run(tmp_path / name / run_name)["weights_sha256"] for run_name in "ac"}
    assert len(digests) == 1


def test_processes_without_a_launcher_are_found_by_their_group(tmp_path):
    result = run([*PYTHON, WORKER, "spawned", str(tmp_path)], env={"ACCELERATE_USE_CPU": "true"})
    assert result.returncode == 0, result.stderr[-3000:]
    assert read_run(tmp_path / "a")["world_size"] == 2


def test_a_script_is_the_run_of_the_command(tmp_path):
    """The same folder without a name for it, the same weights, and a finished run is not trained again."""
    command = train_quick(tmp_path / "command", "run")
    for name, words in {"python": PYTHON, "torchrun": TORCHRUN, "accelerate": launch_words(2)}.items():
        result = run([*words, SCRIPT, "--run.dir", str(tmp_path / name)])
        assert result.returncode == 0, result.stderr[-3000:]
        folder = run_path(parse_config([*QUICK, "--run.dir", str(tmp_path / name)]))
        assert read_run(folder)["weights_sha256"] == command["weights_sha256"]
    before = (folder / "starts.jsonl").read_text()
    result = run([*PYTHON, SCRIPT, "--run.dir", str(tmp_path / name)])
    said = f"lockstep: {folder} was already finished, so nothing was trained\n"
    assert (result.returncode, result.stdout) == (0, f"{said}6 steps\n")
    assert (folder / "starts.jsonl").read_text() == before


@pytest.mark.parametrize("script", [SCRIPT, RUN_SCRIPT])
def test_an_interrupted_script_ends_with_75_and_resumes(tmp_path, script):
    words = [*PYTHON, script, "--run.dir", str(tmp_path), "--run.name", "run"]
    (tmp_path / "stop").touch()
    files = {"STOP": "stop", "RESUMABLE": "resumable", "RUN_FOLDER": "run-folder"}
    env = {f"LOCKSTEP_{name}_FILE": str(tmp_path / file) for name, file in files.items()}
    result = run(words, env=env)
    assert (result.returncode, result.stderr) == (75, "")
    assert result.stdout.count("interrupted after step 1, checkpoint saved") == 1
    assert (tmp_path / "resumable").exists()
    assert (tmp_path / "run-folder").read_text() == str(tmp_path / "run")
    result = run(words)
    assert result.returncode == 0
    assert "resuming" in result.stdout


def test_a_mistake_is_an_exception_for_a_script_and_one_line_with_run_script(tmp_path):
    flags = ["--batch.micro-size", "48", "--run.dir", str(tmp_path)]
    message = "batch.global_size = 256: must be a multiple of batch.micro_size = 48"
    plain = run([*PYTHON, SCRIPT, *flags])
    assert plain.returncode == 1
    assert plain.stderr.splitlines()[-1].startswith(f"lockstep.errors.ConfigError: {message}")
    like_the_command = run([*PYTHON, RUN_SCRIPT, *flags])
    assert like_the_command.returncode == 2
    assert like_the_command.stderr.startswith(f"lockstep: error: {message}")
    assert len(like_the_command.stderr.splitlines()) == 1
    on_two_ranks = run([*TORCHRUN, RUN_SCRIPT, *flags])
    assert on_two_ranks.stderr.count("lockstep: error: ") == 2  # once more in the report of torchrun
