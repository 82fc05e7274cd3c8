"""How processes start, meet and stop: launch variables, allocation, rendezvous, ranks, stop signals, checks.

These take time to load and are imported by their own names:
host_memory, liveness.heartbeats, local_ranks, network, precision, process.process_state, process_group,
ranks.gpus, ranks.node_groups, ranks.compare_ranks, ranks.ranks, ranks.threads.
"""

from lockstep.launch.launcher.accelerate_defaults import as_in_default_config
from lockstep.launch.launcher.allocation import Allocation, allocated_threads, read_allocation
from lockstep.launch.launcher.command_lines import accelerate_options, launch_commands
from lockstep.launch.launcher.rendezvous_address import Rendezvous, rendezvous
from lockstep.launch.launcher.variables import Launch, array_group, forget_launcher, process_rank, read_launch
from lockstep.launch.liveness.last_words import leave_words, tell_launcher
from lockstep.launch.liveness.limited_work import SHOW_STACK, advance, limited, making, unlimited
from lockstep.launch.machine import num_cores
from lockstep.launch.process.garbage_collector import (
    collector_paused,
    imported_at_once,
    leave_inherited_garbage,
)
from lockstep.launch.process.home import lend_home
from lockstep.launch.process.output import LastingOutput, lasting_output
from lockstep.launch.process.quick_exit import exit_quickly
from lockstep.launch.process.stop_signals import STOP_SIGNALS, StopRequest, tell_run_folder

__all__ = [
    "SHOW_STACK",
    "STOP_SIGNALS",
    "Allocation",
    "LastingOutput",
    "Launch",
    "Rendezvous",
    "StopRequest",
    "accelerate_options",
    "advance",
    "allocated_threads",
    "array_group",
    "as_in_default_config",
    "collector_paused",
    "exit_quickly",
    "forget_launcher",
    "imported_at_once",
    "lasting_output",
    "launch_commands",
    "leave_inherited_garbage",
    "leave_words",
    "lend_home",
    "limited",
    "making",
    "num_cores",
    "process_rank",
    "read_allocation",
    "read_launch",
    "rendezvous",
    "tell_launcher",
    "tell_run_folder",
    "unlimited",
]
