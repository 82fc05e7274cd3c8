"""`lockstep explain`."""

from __future__ import annotations

from lockstep.config import parse_config, take_option
from lockstep.errors import ConfigError
from lockstep.launch import read_launch

HELP = """usage: lockstep explain [OPTIONS] --step N

Train as `lockstep train OPTIONS` would, from the start and keeping nothing, and show what optimizer step N
(counted from 1) really does: the order of its events on every rank, what happened to each parameter and
whether it is what the optimizer's formula says, and what the gradient meets on its way. OPTIONS are those of
`lockstep train`; it runs on as many ranks as it is started with.
"""


def explain(argv: list[str]) -> int:
    """Shows what one optimizer step of a config does."""
    if {"-h", "--help"} & set(argv):
        print(HELP, end="")
        return 0
    step, rest = take_option(argv, "--step")
    if not step.isdecimal() or int(step) < 1:
        raise ConfigError(f"--step = {step!r}: must be a whole number >= 1, an optimizer step; try --step 1")
    config = parse_config(rest)
    launch = read_launch()
    from lockstep.inspect import run_explain

    explanation = run_explain(config, launch, int(step))
    if launch.is_main:
        print(explanation.text())
    return 0
