"""Inspects single steps: replays one bit for bit, or explains what it did."""

from lockstep.inspect.explain import run_explain
from lockstep.inspect.replay import replay_step

__all__ = ["replay_step", "run_explain"]
