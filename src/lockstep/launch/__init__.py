"""How processes start, meet and stop: launch variables, allocation, rendezvous, ranks, stop signals, checks.

These take time to load and are imported by their own names:
checks, gpus, local_ranks, network, precision, process_group, process_state, rank_facts, ranks, signs,
threads.
"""

from lockstep.launch.accelerate_defaults import as_in_default_config
from lockstep.launch.allocation import Allocation, allocated_threads, read_allocation
from lockstep.launch.command_lines import accelerate_options, launch_commands
from lockstep.launch.last_words import leave_words, tell_launcher
from lockstep.launch.machine import num_cores
from lockstep.launch.output import LastingOutput, lasting_output
from lockstep.launch.rendezvous import Rendezvous, rendezvous
from lockstep.launch.stop_signals import STOP_SIGNALS, StopRequest, tell_run_folder
from lockstep.launch.variables import Launch, array_group, forget_launcher, process_rank, read_launch

__all__ = [
    "STOP_SIGNALS",
    "Allocation",
    "LastingOutput",
    "Launch",
    "Rendezvous",
    "StopRequest",
    "accelerate_options",
    "allocated_threads",
    "array_group",
    "as_in_default_config",
    "forget_launcher",
    "lasting_output",
    "launch_commands",
    "leave_words",
    "num_cores",
    "process_rank",
    "read_allocation",
    "read_launch",
    "rendezvous",
    "tell_launcher",
    "tell_run_folder",
]
