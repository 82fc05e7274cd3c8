"""From argv and YAML to a config, and from there to a subcommand. Heavy imports are inside those."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lockstep import __version__
from lockstep.arguments import parse_config, take_option
from lockstep.errors import ConfigError, Interrupted, RankError, RunStopped
from lockstep.launch import process_rank, read_launch

FAILED = 1
USAGE_ERROR = 2

HELP = """usage: lockstep COMMAND [OPTIONS]

Train digit classifiers; a run is defined by its global batch, not by its topology.

commands:
  train      train, or go on with, the run that the settings describe
  evaluate   score a checkpoint on its test set
  replay     recompute a run up to one of its steps, compare it with the record, and open that step up
  explain    show what one optimizer step really does
  report     draw a run's curves, confusions and worst mistakes into its folder
  compare    put several runs into one table and one picture
  sync       give W&B what it does not have yet of the runs in a folder
  fetch      fetch and verify the data, for machines without internet later
  doctor     check what would stop a run, before it waits in a queue

`lockstep COMMAND --help` shows a command's options. `lockstep --version` shows the version.
"""

EVALUATE_HELP = """usage: lockstep evaluate CHECKPOINT [OPTIONS]

Score a checkpoint on the test set of its run, on however many ranks this is started with.
CHECKPOINT is a run folder (its newest checkpoint) or one checkpoint in it. OPTIONS are those of
`lockstep train`; --data.root and --data.name are the useful ones.
"""

REPLAY_HELP = """usage: lockstep replay RUN --step N [--processes P] [--break] [OPTIONS]

Recompute the run in folder RUN up to step N, from the nearest checkpoint before it, and compare losses,
gradient norms and weight digests with the record: "identical", or where it departs first (exit code 1).
Writes RUN/replay/step-N/step.json (sample ids, labels, predictions, losses, gradient norms) and a picture
of the global batch, contact-sheet.png, beside it.
  --processes P  on so many processes, whatever number the run was made on
  --break        enter the debugger just before step N
OPTIONS are those of `lockstep train`; --data.root is the useful one.
"""

EXPLAIN_HELP = """usage: lockstep explain [OPTIONS] --step N

Train as `lockstep train OPTIONS` would, from the start and keeping nothing, and show what optimizer step N
(counted from 1) really does: the order of its events on every rank, what happened to each parameter and
whether it is what the optimizer's formula says, and what the gradient meets on its way. OPTIONS are those of
`lockstep train`; it runs on as many ranks as it is started with.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The `lockstep` command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": train_command,
        "evaluate": evaluate_command,
        "replay": replay_command,
        "explain": explain_command,
        "report": elsewhere("report"),
        "compare": elsewhere("compare"),
        "sync": elsewhere("sync"),
        "fetch": fetch_command,
        "doctor": elsewhere("doctor"),
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if arguments else USAGE_ERROR
    if arguments[0] == "--version":
        print(f"lockstep {__version__}")
        return 0
    # Threads that wait in a busy loop keep a shared core from the thread they wait for. With libgomp's own
    # limit of about 1 ms a step is several times slower there; this one, some 30 us, costs nothing elsewhere.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    name, *rest = arguments
    try:
        if name not in commands:
            raise ConfigError(f"no command {name!r}; there are {', '.join(commands)}")
        return commands[name](rest)
    except ConfigError as error:
        return report_mistake(error)
    except RunStopped as stop:
        if process_rank() == 0:
            print(f"lockstep: stopped: {stop}", file=sys.stderr, flush=True)
        return FAILED
    except Exception:
        print(f"lockstep: rank {process_rank()} failed:", file=sys.stderr, flush=True)
        raise


def elsewhere(name: str) -> Callable[[list[str]], int]:
    """The command in the module of its name, which is imported when the command runs."""

    def command(argv: list[str]) -> int:
        return getattr(importlib.import_module(f"lockstep.{name}"), name)(argv)

    return command


def report_mistake(error: ConfigError) -> int:
    """Prints a user's mistake as one line: the main rank's, and of the others what they may have alone."""
    rank = process_rank()
    if rank == 0 or isinstance(error, RankError):
        whose = f"rank {rank}: " if rank else ""
        print(f"lockstep: error: {whose}{error}", file=sys.stderr, flush=True)
    return USAGE_ERROR


def train_command(argv: list[str]) -> int:
    """Trains, or goes on with, the run that the settings describe."""
    began = time.perf_counter()
    resume_from, flags = take_option(argv, "--resume-from")
    if resume_from:
        from lockstep.tracking.resume_from import with_artifact

        flags = with_artifact(resume_from, flags)
    config = parse_config(flags)
    launch = read_launch()
    from lockstep.console import say
    from lockstep.preemption import EXIT_RESUMABLE
    from lockstep.training import run_training

    try:
        outcome = run_training(config, launch, began, resume_from)
    except Interrupted as stop:
        if launch.is_main:
            say(f"interrupted after step {stop.step}, checkpoint saved; the same command goes on from there")
        return EXIT_RESUMABLE
    if launch.is_main:
        summary = outcome.summary
        done = "was finished before" if outcome.was_finished else "finished"
        say(
            f"{outcome.folder} {done}: test accuracy {summary['test_accuracy']:.2%}, "
            f"{summary['steps']} steps in {summary['train_seconds']:.1f} s of training, "
            f"weights {summary['weights_sha256'][:12]}"
        )
    return 0


def evaluate_command(argv: list[str]) -> int:
    """Scores a checkpoint on the test set of its run, or of `--data.name`."""
    if not argv or argv[0].startswith("-"):
        print(EVALUATE_HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else USAGE_ERROR
    path = Path(argv[0])
    candidates = [folder / "config.yaml" for folder in (path, path.resolve().parent.parent)]
    settings = next((file for file in candidates if file.exists()), None)
    if settings is None:
        raise ConfigError(
            f"CHECKPOINT = {argv[0]!r}: is no run folder and no checkpoint in one; "
            "name runs/NAME or runs/NAME/checkpoints/step-00000000"
        )
    config = parse_config(["--config", str(settings), *argv[1:]])
    launch = read_launch()
    from lockstep.assemble import evaluate_checkpoint

    summary = evaluate_checkpoint(path, config, launch)
    if launch.is_main:
        print(json.dumps(summary, indent=1))
    return 0


def replay_command(argv: list[str]) -> int:
    """Recomputes a run up to one of its steps and opens that step up."""
    step, rest = take_option(argv, "--step")
    processes, rest = take_option(rest, "--processes")
    stop_there, rest = "--break" in rest, [word for word in rest if word != "--break"]
    if not rest or rest[0].startswith("-"):
        print(REPLAY_HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else USAGE_ERROR
    folder = Path(rest[0])
    if not (folder / "config.yaml").exists():
        raise ConfigError(f"RUN = {rest[0]!r}: is no run folder; name one such as runs/NAME")
    for name, value in (("--step", step), ("--processes", processes or "1")):
        if not value.isdigit() or int(value) < 1:
            raise ConfigError(f"{name} = {value!r}: must be a whole number from 1 on")
    config = parse_config(["--config", str(folder / "config.yaml"), *rest[1:]])
    launch = read_launch()
    if int(processes or 1) > 1 and launch.world_size == 1:
        return relaunch(int(processes), ["replay", *argv])
    from lockstep.replay import replay

    result = replay(folder, config, int(step), stop_there=stop_there, launch=launch)
    if launch.is_main:
        for line in result.lines():
            print(f"lockstep: {line}")
    return FAILED if result.departure else 0


def relaunch(num_processes: int, arguments: list[str]) -> int:
    """Runs this command again under torchrun with so many processes; its exit code."""
    rest = [word for word in arguments if word != "--processes" and not word.startswith("--processes=")]
    if "--processes" in arguments:
        del rest[arguments.index("--processes")]  # its value
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
    return subprocess.run([sys.executable, *words, "-m", "lockstep.cli", *rest], check=False).returncode


def explain_command(argv: list[str]) -> int:
    """Shows what one optimizer step of a config does."""
    if {"-h", "--help"} & set(argv):
        print(EXPLAIN_HELP, end="")
        return 0
    step, rest = take_option(argv, "--step")
    if not step.isdecimal() or int(step) < 1:
        raise ConfigError(f"--step = {step!r}: must be a whole number >= 1, an optimizer step; try --step 1")
    config = parse_config(rest)
    launch = read_launch()
    from lockstep.explain import run_explain

    explanation = run_explain(config, launch, int(step))
    if launch.is_main:
        print(explanation.text())
    return 0


def fetch_command(argv: list[str]) -> int:
    """Fetches and verifies the data."""
    config = parse_config(argv).data
    from lockstep.data import fetch_dataset, load_dataset

    source = fetch_dataset(config)
    dataset = load_dataset(config, seed=0)
    print(
        f"lockstep: {config.name} is complete in {config.root} (from {source}): "
        f"{len(dataset.train)} training and {len(dataset.test)} test images"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
