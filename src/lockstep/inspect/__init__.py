"""Inspects single steps: replays one bit for bit, or explains what it did."""

from lockstep.inspect.explain import run_explain
from lockstep.inspect.step_replay import Replay, replay, replay_step

__all__ = ["Replay", "replay", "replay_step", "run_explain"]
