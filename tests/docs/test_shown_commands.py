"""Every command that the README and the pages show: it parses, and it runs or says why it cannot run here."""

from __future__ import annotations

import math
import os
import re
import shlex
from pathlib import Path

import pytest

from image_files import streamed_words
from image_folders import colour_folder
from lockstep.commands.main import COMMANDS
from lockstep.config import parse_config, take_option
from lockstep.plan import window_for_reduction
from processes import BIN, QUICK, ROOT, free_port, lockstep, run

ROOT_PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "tests" / "README.md"]
PAGES = [*ROOT_PAGES, *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?:sh|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r'^```python title="(.*?)"\n(.*?)^```', re.MULTILINE | re.DOTALL)

NOT_RUN = {
    r"make (setup|train|check)": ".ci/run runs it",
    r"make test|pytest|LOCKSTEP_KILLS=": "it would start these tests from within",
    r"make bench|python scripts/bench/": "takes minutes; tests/bench starts every program with --quick",
    r"make wheels|python scripts/gpu/": "downloads, or takes minutes; tests/bench tries settle.py",
    r"ruff": "`make check` runs it, and here it would change files",
    r"ssh|scp": "needs another machine; tests/runs/history/test_signature.py shows what the key is for",
    r"source .venv": "the tests run in that environment",
    r"sbatch|srun|salloc|lockstep doctor --slurm": "needs a cluster; tests/slurm starts the scripts on one",
    r"LOCKSTEP_SCRIPT=": "needs a cluster; tests/slurm starts a script on one",
    r"accelerate launch .*--num_machines 2": "needs two nodes; tests/slurm launches on two",
    r"lockstep fetch": "needs internet; tests/data fetches from sources of its own",
    r"lockstep doctor --nodes 1": "tests/commands/test_doctor.py runs it on two processes",
    r"lockstep replay .*--processes": "tests/multiprocess/test_replay.py replays on several",
    r"accelerate launch --multi_gpu .*--seed 1": "the same without --seed is shown, and run",
    r"lockstep sync|lockstep train --resume-from": "needs a W&B account; tests/multiprocess has a server",
    r"pip install|lockstep export runs/NAME$": "tests/inference exports in all formats",
    r"lockstep train .*--init-from": "tests/trainer/startup/test_init_weights.py fine-tunes a run",
    r"lockstep train .*--tracking.tensorboard": "tests/tracking trains with it",
    r"tensorboard ": "a server that runs until it is stopped",
    r"wandb": "needs a W&B account; tests/multiprocess/test_wandb.py runs the sweep's command",
}
"""How a command begins → why this file does not run it."""

OWN_OPTIONS = {
    "train": ["--resume-from", "--processes"],
    "replay": ["--step", "--processes", "--output"],
    "report": ["--output"],
    "explain": ["--step"],
    "compare": ["--output", "--html"],
    "predict": ["--output", "--invert"],
    "export": ["--output", "--format"],
    "doctor": ["--nodes", "--processes-per-node"],
}
OWN_SWITCHES = {
    "train": {"--accept-source"},
    "replay": {"--break"},
    "doctor": {"--slurm"},
}
NUM_ARGUMENTS = {"evaluate": 1, "export": 1, "replay": 1}
NUM_ARGUMENTS |= dict.fromkeys(("predict", "report", "compare", "sync"), 99)
"""How many words of a command are neither options nor their values."""

UNTRACKED = ["--tracking.mode", "disabled"]
SHORT = ["--train.steps", "2", "--train.no-report"]
SYNTHETIC = ["--data.name", "synthetic", *UNTRACKED]
TINY = [*SYNTHETIC, "--data.num-train", "512", *SHORT]
# At a prompt of the debugger: delete the breakpoint, continue to the end, quit.
KEYS = "clear\ny\ncontinue\nquit\n"


def shown_commands() -> dict[str, str]:
    """Each command in a block of shell → the page that shows it."""
    found: dict[str, str] = {}
    for page in PAGES:
        for block in FENCE.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                command = " ".join(re.sub(r"(^|\s)#.*", "", line).split())
                if command:
                    found.setdefault(command, str(page.relative_to(ROOT)))
    return found


SHOWN = shown_commands()
RUN = [command for command in SHOWN if not any(re.match(pattern, command) for pattern in NOT_RUN)]


def lockstep_words(command: str) -> list[str]:
    """The words that `lockstep` is given, by whatever launcher; none if a command is not about it."""
    words = shlex.split(command)
    for place, word in enumerate(words):
        if word == "lockstep":
            return words[place + 1 :]
        if word == "scripts/train.py" or word.endswith(".sbatch"):
            return ["train", *take_option(words[place + 1 :], "--grid")[1]]
    return []


@pytest.mark.parametrize("command", [command for command in SHOWN if lockstep_words(command)])
def test_a_shown_command_parses(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name, *rest = lockstep_words(command)
    assert name in COMMANDS
    for option in OWN_OPTIONS.get(name, []):
        _, rest = take_option(rest, option)
    rest = [word for word in rest if word not in OWN_SWITCHES.get(name, set())]
    arguments = [word for word in rest[: NUM_ARGUMENTS.get(name, 0)] if not word.startswith("-")]
    config = parse_config(rest[len(arguments) :])
    window_for_reduction(config.batch, config.reduction, num_ranks(command))


def num_ranks(command: str) -> int:
    """On how many ranks a command runs: as it says of all, or of a node and the nodes."""
    if found := re.search(r"--(?:ntasks|num_processes|processes)[ =](\d+)", command):
        return int(found[1])
    per_node = r"--(?:gpus-per-node|ntasks-per-node|processes-per-node|nproc_per_node)[ =](\d+)"
    counts = [re.search(pattern, command) for pattern in (r"--nodes[ =](\d+)", per_node)]
    return math.prod(int(count[1]) for count in counts if count)


def test_files_that_shown_commands_name_are_there() -> None:
    for command, page in SHOWN.items():
        for word in shlex.split(command):
            if re.match(r"(configs|scripts|slurm|docs|tests)/", word):
                assert (ROOT / word).exists(), f"{page}: {command}"


def test_make_targets_and_commands_in_the_text_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text()
        assert set(re.findall(r"(?:^|`)make (?:-\S+ )*([a-z-]+)", text, re.MULTILINE)) <= targets, page
        assert set(re.findall(r"`lockstep ([a-z]+)", text)) <= set(COMMANDS), page


def test_no_reason_is_left_over() -> None:
    for pattern in NOT_RUN:
        assert any(re.match(pattern, command) for command in SHOWN), pattern


def test_the_several_nodes_command_is_one_for_accelerate() -> None:
    from accelerate.commands.launch import launch_command_parser

    (command,) = (command for command in SHOWN if "--num_machines 2" in command)
    words = shlex.split(command.replace("$RANK_OF_NODE", "1").replace("$FIRST_NODE", "node1"))
    parsed = launch_command_parser().parse_args(words[2:])
    assert (parsed.machine_rank, parsed.num_processes, parsed.training_script) == (1, 16, "scripts/train.py")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder such as the repository's root, with the runs, models and images that the pages speak of."""
    folder = tmp_path_factory.mktemp("root")
    for name in ("configs", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    for name, steps in (("NAME", "705"), ("A", "10"), ("B", "20")):
        place = ["--run.dir", str(folder / "runs"), "--run.name", name]
        length = ["--train.steps", steps, "--train.eval-every", steps, "--train.checkpoint-every", steps]
        small = ["--model.name", "mlp", "--batch.global-size", "32", "--train.log-every", "3"]
        held_out = ["--data.validation", "0.1"] if name == "NAME" else []  # so that one is the best
        result = lockstep("train", *QUICK, *place, *length, *small, *held_out)
        assert result.returncode == 0, result.stderr
    for name in ("photos", "flowers"):
        colour_folder(folder / name)
    for page in PAGES:
        for path, content in PROGRAM.findall(page.read_text()):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(content)
    return folder


def tiny(command: str, root: Path) -> str:
    """A command as it is shown, on a few generated images or a task, two processes and a free port."""
    command = re.sub(r"(--num_processes) [2-9]", rf"\1 2 --main_process_port {free_port()}", command)
    command = re.sub(r"(--nproc_per_node) [2-9]", rf"\1 2 --master_port {free_port()}", command)
    command = re.sub(r"(--processes) [2-9]", r"\1 2", command)
    name = [*lockstep_words(command), ""][0]
    more = {"train": TINY, "explain": SYNTHETIC, "doctor": SYNTHETIC}.get(name, [])
    if "--task" in command or "--data.name folder" in command:  # it has data of its own
        more = [*UNTRACKED, *(SHORT if name == "train" else [])]
    if "my_run.py" in command:
        more = SHORT
    if "resnet18" in command:
        more = [*more, "--batch.global-size", "32"]
    if "streamed" in command:
        more = [*more, *streamed_words(root)]
    return f"{command} {shlex.join(more)}"


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_a_shown_command_runs(command: str, workplace: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(tmp_path),  # for the page's own `mktemp`
        "OMP_NUM_THREADS": "1",
    }
    shortened = tiny(command, tmp_path / "data")
    needs_shell = re.search(r"[$`|&;<>(]|^\w+=", command)
    words = ["bash", "-ec", shortened] if needs_shell else shlex.split(shortened)
    result = run(words, cwd=workplace, env=environment, typed=KEYS, timeout=170)
    assert result.returncode == 0, f"{SHOWN[command]}: {command}\n{result.stdout}\n{result.stderr}"
    if "pdb" in command or "--break" in command:
        assert "(Pdb) " in result.stdout
