"""`lockstep explain`."""

from __future__ import annotations

from lockstep.config import take_option
from lockstep.errors import refuse
from lockstep.launch import read_launch
from lockstep.runs import read_config

HELP = """usage: lockstep explain [OPTIONS] --step N

Train as `lockstep train OPTIONS` would, from the first step and without saving anything, and show what
optimizer step N (counted from 1) really does: the order of its events on every rank, how each parameter
changed and whether that matches the optimizer's formula, and how the gradient flows back through recurrent
layers. OPTIONS are those of `lockstep train`. Works on any number of ranks.
"""


def explain(argv: list[str]) -> int:
    """Shows what one optimizer step of a run does."""
    if {"-h", "--help"} & set(argv):
        print(HELP, end="")
        return 0
    step, rest = take_option(argv, "--step")
    if not step.isdecimal() or int(step) < 1:
        raise refuse("--step", step, "must be a whole number >= 1, an optimizer step; try --step 1")
    config = read_config(rest)
    launch = read_launch()
    from lockstep.inspect import run_explain

    explanation = run_explain(config, launch, int(step))
    if launch.is_main:
        print(explanation.text())
    return 0
