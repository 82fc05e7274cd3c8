"""`lockstep train`: what it says of a finished run."""

from lockstep.commands.train import outcome_of
from run_folders import SUMMARY


def test_a_run_that_stopped_early_says_so():
    outcome = "test accuracy 98.00%, 40 steps{} in 12.2 s of training, weights 0123456789ab"
    assert outcome_of(SUMMARY, "accuracy") == outcome.format("")
    assert outcome_of({**SUMMARY, "stopped_early": True}, "accuracy") == outcome.format(" (stopped early)")
