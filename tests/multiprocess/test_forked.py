"""A fork of tests/support/forked.py is what a new interpreter would be."""

import json
import os
import signal
import subprocess

import pytest

import forked
from processes import BIN, ROOT, run, with_support

pytestmark = pytest.mark.slow
SCRIPT = str(ROOT / "tests" / "support" / "process_facts.py")


def ended(popen, folder, words, **options):
    """A process's facts, exit code and last line of errors."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with popen(words, cwd=folder, text=True, **pipes, **options) as process:
        out, errors = process.communicate("a line\n", timeout=60)
    return json.loads(out), process.returncode, errors.splitlines()[-1:]


@pytest.mark.parametrize(
    ("words", "options", "code"),
    [
        (["0"], {}, 0),
        (["-u", "3"], {"start_new_session": True}, 3),
        (["text"], {"env": {"PATH": "/usr/bin", "RANK": "1"} | with_support()}, 1),
        (["raise"], {}, 1),
        (["signal"], {}, -signal.SIGTERM),
        (["interrupt"], {}, -signal.SIGINT),
    ],
)
def test_a_fork_finds_what_a_new_interpreter_finds(tmp_path, words, options, code):
    # Not the variables that a library of this process has set behind Python's back.
    before = forked.the_server().variables if "env" in options else os.environ
    options["env"] = {**before, **options.get("env", {})}
    command = [str(BIN / "python"), *words[:-1], SCRIPT, *words[-1:]]
    facts, *end = ended(forked.Popen, tmp_path, command, **options)
    others, *other_end = ended(subprocess.Popen, tmp_path, command, **options)
    for found in (facts, others):  # torch may have set it, in an earlier test too
        found.pop("variable TORCHINDUCTOR_CACHE_DIR", None)
    differences = [(name, facts.get(name), others.get(name)) for name in facts | others]
    assert [each for each in differences if each[1] != each[2]] == []
    assert end == other_end
    assert end[0] == code
    assert facts["parent"] == os.getpid()


def test_what_a_fork_cannot_take_over_runs_in_a_new_interpreter(tmp_path):
    # Not what an earlier test or a library has left in this process.
    clean = {**forked.the_server().variables, "PATH": os.environ["PATH"]}

    def is_forked(words, env=clean, **options):
        options["env"] = env
        with forked.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options) as process:
            return hasattr(process, "is_forked")

    python = str(BIN / "python")
    assert is_forked([str(BIN / "lockstep"), "--version"])
    assert is_forked([python, "-m", "lockstep", "--version"])
    assert is_forked([python, "-m", "lockstep", "--version"], env={**clean, **with_support()})
    assert not is_forked([python, "-I", "-c", "0"])
    assert not is_forked(["true"])
    assert not is_forked([python, "-m", "lockstep", "--version"], env={**clean, "OMP_NUM_THREADS": "2"})
    (tmp_path / "lockstep").mkdir()
    other = {**clean, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    assert not is_forked([python, "-m", "lockstep", "--version"], env=other)


@pytest.mark.parametrize("turn", [1, 2])
def test_what_a_test_sets_the_next_does_not_find(turn):
    """Else one import of cv2, which sets variables, would make all later processes new interpreters."""
    assert "SET_BY_A_TEST" not in os.environ
    os.environ["SET_BY_A_TEST"] = "1"


def test_a_fork_can_be_stopped_and_killed_and_leaves_nothing(tmp_path):
    process = forked.Popen(
        [str(BIN / "python"), SCRIPT, "0"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    process.send_signal(signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    process.kill()
    assert process.wait(timeout=10) == -signal.SIGKILL
    process.stdin.close()
    assert run(["pgrep", "-f", "--", f"{SCRIPT} 0"]).returncode == 1
