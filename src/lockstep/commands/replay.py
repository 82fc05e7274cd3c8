"""`lockstep replay`."""

from __future__ import annotations

from pathlib import Path

from lockstep.config import take_count, take_option
from lockstep.errors import EXIT_FAILED, EXIT_USAGE, ConfigError
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
    num_processes, words = take_count(argv, "--processes")
    step, rest = take_count(words, "--step")
    output, rest = take_option(rest, "--output")
    enter_debugger, rest = "--break" in rest, [word for word in rest if word != "--break"]
    if not rest or rest[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    folder = Path(rest[0])
    if not step:
        raise ConfigError("--step: is missing; say which step, such as --step 1")
    config = run_settings(folder, rest[1:], imports=TO_TRAIN)
    if num_processes > 1:
        from lockstep.launch.local_ranks import run_local_ranks

        return run_local_ranks(num_processes, ["replay", *words])
    launch = read_launch()
    from lockstep.inspect import replay_step

    target = Path(output) if output else None
    result = replay_step(folder, config, step, output=target, enter_debugger=enter_debugger, launch=launch)
    if launch.is_main:
        for line in result.lines():
            print(f"lockstep: {line}")
    return EXIT_FAILED if result.divergence else 0
