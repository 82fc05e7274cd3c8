"""`lockstep replay`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lockstep.config import take_option
from lockstep.errors import EXIT_FAILED, EXIT_USAGE, refuse
from lockstep.launch import read_launch
from lockstep.runs import TO_TRAIN, run_settings

HELP = """usage: lockstep replay RUN --step N [--output FOLDER] [--processes P] [--break] [OPTIONS]

Recompute the run in folder RUN up to step N, from the last checkpoint before it, and compare losses,
gradient norms and weight digests with the record. Prints "identical", or where they first diverge (exit
code 1). Writes RUN/replay/step-N/step.json (sample ids, labels, predictions, losses, gradient norms) and,
of images, contact-sheet.png, a picture of the global batch: of its first 256 samples if it has more.
  --output FOLDER  write into FOLDER instead, such as for a run that is not yours
  --processes P    use P processes, whatever number the run was trained on
  --break          enter the debugger just before step N
OPTIONS are those of `lockstep train`; the most useful is --data.root.
"""


def replay(argv: list[str]) -> int:
    """Recomputes a run up to a step and writes that step's details."""
    step, rest = take_option(argv, "--step")
    processes, rest = take_option(rest, "--processes")
    output, rest = take_option(rest, "--output")
    enter_debugger, rest = "--break" in rest, [word for word in rest if word != "--break"]
    if not rest or rest[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    folder = Path(rest[0])
    for name, value in (("--step", step), ("--processes", processes or "1")):
        if not value.isdigit() or int(value) < 1:
            raise refuse(name, value, f"must be a whole number >= 1; try {name} 1")
    config = run_settings(folder, rest[1:], imports=TO_TRAIN)
    launch = read_launch()
    if int(processes or 1) > 1 and launch.world_size == 1:
        return relaunch(int(processes), ["replay", *argv])
    from lockstep.inspect import replay_step

    target = Path(output) if output else None
    result = replay_step(
        folder, config, int(step), output=target, enter_debugger=enter_debugger, launch=launch
    )
    if launch.is_main:
        for line in result.lines():
            print(f"lockstep: {line}")
    return EXIT_FAILED if result.divergence else 0


def relaunch(num_processes: int, arguments: list[str]) -> int:
    """Runs this command again under torchrun with `num_processes` processes; returns its exit code."""
    rest = [word for word in arguments if word != "--processes" and not word.startswith("--processes=")]
    if "--processes" in arguments:
        del rest[arguments.index("--processes")]  # its value
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
    return subprocess.run([sys.executable, *words, "-m", "lockstep", *rest], check=False).returncode
