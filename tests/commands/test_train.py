"""`lockstep train`: what it says of a finished run, and what it refuses before torch is imported."""

import subprocess
import sys

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
