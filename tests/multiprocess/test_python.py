"""Lockstep used by a program of several processes."""

import pytest

from processes import BIN, ROOT, launch_words, read_run, run

pytestmark = pytest.mark.slow

WORKER = str(ROOT / "tests" / "multiprocess" / "python_worker.py")
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
