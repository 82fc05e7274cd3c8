"""The `lockstep` commands, one module each: its options, help text and output."""

from lockstep.commands.main import run_script

__all__ = ["run_script"]
