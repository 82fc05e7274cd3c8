"""The programs in examples/: each runs as its docstring says, on one process and on two, and learns."""

import ast
import os
import shlex

import pytest

from processes import BIN, ROOT, read_run, run

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SHORTER = {
    "character_lm": ["--train.epochs", "5", "--train.no-report"],
    "table_regression": ["--train.no-report"],
}
"""Example → flags that make its run cheaper here."""
LEARNT = {
    "own_model_and_data": lambda run: run["test_accuracy"] > 0.85,  # measured: 0.91; by chance: 0.1
    "character_lm": lambda run: run["test_loss"] < 2.85,  # measured: 2.70; frequencies alone: 2.97
    "table_regression": lambda run: run["test_loss"] < 0.65,  # measured: 0.49; always the mean: 1.12
}
TORCHRUN = ["torchrun", "--standalone", "--nproc_per_node", "2"]


def shown_commands(path):
    """The commands in the docstring of a program: its indented lines."""
    lines = ast.get_docstring(ast.parse(path.read_text())).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("    ")]


def result_of(command, folder, **environment):
    """Runs a command in a folder; the one run that it leaves there."""
    environment = {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", **environment}
    result = run([str(BIN / command[0]), *command[1:]], cwd=folder, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    (settings,) = folder.glob("runs/*/config.yaml")
    return read_run(settings.parent)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path):
    assert len(path.read_text().splitlines()) < 80


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_the_same_run_on_one_and_two_processes_and_learns(path, tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root, elsewhere):
        folder.mkdir()
    (root / "examples").symlink_to(ROOT / "examples")
    first, *others = shown_commands(path)
    if first[0] == "lockstep":
        first += SHORTER.get(path.stem, [])
        second = [*TORCHRUN, "-m", *first]
    else:
        (second,) = (command for command in others if command[0] == "torchrun")
        second = [word.replace("examples/", f"{ROOT}/examples/") for word in second]
    one = result_of(first, root)
    # In a folder where `examples` is not, so it must be found on the path.
    search_path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    two = result_of(second, elsewhere, PYTHONPATH=os.pathsep.join(search_path))
    assert (one["world_size"], two["world_size"]) == (1, 2)
    assert one["weights_sha256"] == two["weights_sha256"]
    assert LEARNT[path.stem](one)
    losses = [record["test_loss"] for record in one["records"] if "test_loss" in record]
    assert losses[-1] < losses[0]
