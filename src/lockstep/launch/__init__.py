"""How processes start, meet and stop: launch variables, rendezvous, ranks, stop signals, checks.

These take time to load and are imported by their own names:
checks, process_group, ranks.
"""

from lockstep.launch.command_lines import Allocation, launch_commands
from lockstep.launch.machine import num_cores
from lockstep.launch.rendezvous import read_allocation
from lockstep.launch.stop_signals import STOP_SIGNALS, StopRequest, restored_handlers
from lockstep.launch.variables import Launch, array_group, process_rank, read_launch

__all__ = [
    "STOP_SIGNALS",
    "Allocation",
    "Launch",
    "StopRequest",
    "array_group",
    "launch_commands",
    "num_cores",
    "process_rank",
    "read_allocation",
    "read_launch",
    "restored_handlers",
]
