"""`lockstep train`: what it says of a finished run, and how it ends before torch is imported."""

import os
import signal
import subprocess
import sys

import pytest

from lockstep.commands.train import outcome_of
from run_folders import SUMMARY


def test_a_run_that_stopped_early_says_so():
    outcome = "test accuracy 98.00%, 40 steps{} in 12.2 s of training, weights 0123456789ab"
    assert outcome_of(SUMMARY, "accuracy") == outcome.format("")
    assert outcome_of({**SUMMARY, "stopped_early": True}, "accuracy") == outcome.format(" (stopped early)")


def test_a_batch_that_does_not_suit_the_processes_is_refused_before_torch_is_imported():
    program = "import sys; from lockstep.commands.main import main\n"
    program += (
        "code = main(['train', '--processes', '3']); sys.exit(code if 'torch' not in sys.modules else 1)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert "batch.global_size = 256: must be batch.micro_size = 32 times 3 ranks" in result.stderr


SWALLOWING = """
try:
    open({!r}).read()
except KeyboardInterrupt:
    raise ImportError("cannot load module more than once per process") from None
"""
"""A module whose import does with Ctrl-C what torch's does."""


@pytest.mark.parametrize("is_importing", [False, True], ids=["reads its settings", "imports"])
def test_ctrl_c_ends_a_command_without_a_traceback(tmp_path, is_importing):
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    search_path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    if is_importing:
        (tmp_path / "tyro.py").write_text(SWALLOWING.format(fifo))
    process = subprocess.Popen(
        [sys.executable, "-m", "lockstep", "train", *([] if is_importing else ["--config", fifo])],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search_path)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    with open(fifo, "w"):  # waits until the process opens it
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (-signal.SIGINT, "")
