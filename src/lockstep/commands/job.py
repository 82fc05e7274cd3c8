"""`python -m lockstep.commands.job`: the parts of the job scripts in slurm/ that are Python. No torch.

It says whether a job should be requeued; slurm/train.sbatch does it.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from lockstep.commands.stage_data import stage_data
from lockstep.config import Config, with_retries
from lockstep.errors import EXIT_USAGE, ConfigError, refuse, require
from lockstep.launch import accelerate_options, allocated_threads, read_allocation, rendezvous
from lockstep.plan import window_for_reduction
from lockstep.report import best_first, comparison_of
from lockstep.runs import (
    SETTINGS_FILE,
    newest_checkpoint_step,
    read_config,
    read_settings,
    run_path,
    write_atomically,
)

HELP = """usage: python -m lockstep.commands.job prepare [OPTIONS]
       python -m lockstep.commands.job run-folder [OPTIONS]
       python -m lockstep.commands.job should-restart FOLDER
       python -m lockstep.commands.job sweep-table [OPTIONS]
       python -m lockstep.commands.job stage-data SOURCE PLACE

For the job scripts in slurm/. OPTIONS are those of `lockstep train`, or the arguments of LOCKSTEP_SCRIPT.
  prepare         check OPTIONS, make the job's folder, and print shell assignments for slurm/train.sbatch
  run-folder      print the folder of the run that OPTIONS describe
  should-restart  count a failure of the job with FOLDER; exit code 0: start the job again, 1: give up
  sweep-table     print the table of a sweep's runs, and write it into their folder
  stage-data      copy a data folder into PLACE on this node, and print where the copy is
"""
SCRIPT_JOBS = ".jobs"
"""In run.dir: the folders of jobs that run a script, whose run folder is not known in advance."""
FAILURES_FILE = "failures.json"
RUN_FOLDER_FILE = "run-folder"
"""In the folder of a script's job: the run folder of the run that the script began last."""
MAX_FAILURES = 3
"""A job gives up after this number of failures without a new checkpoint between them."""


def prepare(flags: list[str], environ: Mapping[str, str] = os.environ) -> dict[str, str | list[str]]:
    """Prepares a start of a job: checks it, and makes its folder.

    The job trains the run that the flags describe, in its run folder. With LOCKSTEP_SCRIPT it runs that
    script, which gets the flags as they are, and its folder is in `SCRIPT_JOBS`.

    Returns:
        What slurm/train.sbatch needs to launch the processes, by the name of its variable.

    Raises:
        ConfigError: a flag is wrong, the batch does not divide, the nodes would run different numbers of
            processes, MASTER_ADDR or MASTER_PORT cannot be used, the folder cannot be made, or there is no
            such script.
    """
    allocation = read_allocation(environ)
    if allocation is None:
        raise ConfigError("SLURM_JOB_ID: is not set; submit the script with sbatch")
    if script := environ.get("LOCKSTEP_SCRIPT", ""):
        check_script(script, environ)
        run_dir, program = Config().run.dir, [script]
        folder = Path(run_dir) / SCRIPT_JOBS / environ["SLURM_JOB_ID"]
    else:
        config = read_config(flags)
        window_for_reduction(config.batch, config.reduction, allocation.world_size)
        run_dir, program = config.run.dir, ["--module", "lockstep", "train"]
        folder = run_path(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if int(environ.get("SLURM_RESTART_COUNT", "0")) == 0:
            # Failures count over the restarts of one job: whoever submits a new one has seen them.
            (folder / FAILURES_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise refuse("run.dir", run_dir, f"cannot be written ({error}); choose another") from error
    num_nodes, per_node = allocation.num_nodes, allocation.processes_per_node
    meeting_point = rendezvous(num_nodes, environ)
    return {
        "folder": str(folder),
        "run_folder_file": str(folder / RUN_FOLDER_FILE) if script else "",
        "processes": str(allocation),
        "threads": allocated_threads(allocation, environ),
        "launch_options": accelerate_options(num_nodes, per_node, *meeting_point),
        "program": program,
    }


def check_script(script: str, environ: Mapping[str, str]) -> None:
    """Checks that a job can run a script of the user's.

    Raises:
        ConfigError: there is no such script, or LOCKSTEP_STAGE_DATA is set as well.
    """
    rule = "is not a file; give its path from the folder you submit in, or the whole path"
    require(Path(script).is_file(), "LOCKSTEP_SCRIPT", script, rule)
    staged = environ.get("LOCKSTEP_STAGE_DATA", "")
    rule = "is for `lockstep train`, whose data.root it changes; a script must copy its data itself; unset it"
    require(not staged, "LOCKSTEP_STAGE_DATA", staged, rule)


def shell_assignments(variables: Mapping[str, str | list[str]]) -> str:
    """Lines for bash to eval: a string becomes a variable, a list an array."""
    return "".join(
        f"{name}={shlex.quote(value) if isinstance(value, str) else f'({shlex.join(value)})'}\n"
        for name, value in variables.items()
    )


def count_failure(folder: Path) -> tuple[int, int]:
    """Counts a failure of a job: (failures since the newest checkpoint, the step of that checkpoint).

    A script may train several runs. One that it did not get to before is as good as a new checkpoint.
    """
    told = folder / RUN_FOLDER_FILE
    run = with_retries(told, lambda: told.read_text() if told.exists() else str(folder))
    step = newest_checkpoint_step(Path(run))
    path = folder / FAILURES_FILE
    try:
        before = json.loads(with_retries(path, path.read_text))
        is_same = (before["run"], before["step"]) == (run, step)
        count = before["count"] + 1 if is_same else 1
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or none that is of use
        count = 1
    write_atomically(path, json.dumps({"run": run, "step": step, "count": count}) + "\n")
    return count, step


def sweep_table(run_dir: Path, group: str) -> str:
    """The table of the runs of a tracking.group, and a line for each that cannot be shown in it."""
    members, troubles = {}, []
    for settings in sorted(run_dir.glob(f"*/{SETTINGS_FILE}")):
        folder = settings.parent
        try:
            tracking = read_settings(folder).get("tracking")
            if not isinstance(tracking, dict) or tracking.get("group") != group:
                continue
            comparison_of(best_first({folder.name: folder}))
            members[folder.name] = folder
        except Exception as error:  # one odd folder must not hide the others
            troubles.append(f"{folder}: cannot be shown ({type(error).__name__}: {first_words(error)})\n")
    return comparison_of(best_first(members)) + "".join(troubles)


def first_words(error: Exception) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())


def run_prepare(words: list[str]) -> int:
    print(shell_assignments(prepare(words)), end="")
    return 0


def run_run_folder(words: list[str]) -> int:
    print(run_path(read_config(words)))
    return 0


def run_should_restart(words: list[str]) -> int:
    count, step = count_failure(Path(words[0]))
    gives_up = count >= MAX_FAILURES
    verdict = "giving up, see the error above" if gives_up else "starting it again"
    times = f"failure {count} of {MAX_FAILURES} without a checkpoint after step {step}"
    print(f"lockstep: the run failed ({times}); {verdict}")
    return 1 if gives_up else 0


def run_sweep_table(words: list[str]) -> int:
    config = read_config(words)
    text = sweep_table(Path(config.run.dir), config.tracking.group)
    write_atomically(Path(config.run.dir) / f"{config.tracking.group}.txt", text)
    print(text, end="")
    return 0


def run_stage_data(words: list[str]) -> int:
    print(stage_data(Path(words[0]), Path(words[1])))
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "prepare": run_prepare,
    "run-folder": run_run_folder,
    "should-restart": run_should_restart,
    "sweep-table": run_sweep_table,
    "stage-data": run_stage_data,
}


def main(argv: list[str]) -> int:
    """Runs one of the commands; its exit code."""
    if not argv or argv[0] not in COMMANDS:
        print(HELP, end="", file=sys.stderr)
        return EXIT_USAGE
    try:
        return COMMANDS[argv[0]](argv[1:])
    except ConfigError as error:
        print(f"lockstep: error: {error}", file=sys.stderr)
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
