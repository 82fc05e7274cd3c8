"""Lockstep in a notebook: one process, then the processes that Accelerate's notebook_launcher forks."""

import ast

import nbformat
import pytest
from nbclient import NotebookClient

from processes import ROOT, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FIRST = """
import signal
import torch
import lockstep
from accelerate import notebook_launcher

def config(name):
    words = ["--config", "configs/debug.yaml", "--train.epochs", "1", "--train.no-report"]
    words += ["--batch.micro-size", "16", "--run.dir", {folder!r}, "--run.name", name]
    return lockstep.parse_config(words)

def train():
    lockstep.train(config("two"))

class Interruption(lockstep.Observer):
    def on_update(self, run):
        if run.step == 2:
            signal.raise_signal(signal.SIGINT)
"""
ONE = """
one = lockstep.train(config("one")).summary
one["world_size"], one["weights_sha256"]
"""
INTERRUPTED = """
lockstep.train(config("three"), observers=[Interruption()])
"""
RESUMED = """
three = lockstep.train(config("three")).summary
three["steps"], three["weights_sha256"]
"""
# The last run has left several OpenMP threads behind, which a forked process does not have.
TWO = """
torch.set_num_threads(2)
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
torch.ones(1000000).exp()
notebook_launcher(train, num_processes=2, use_port="{port}")
two = lockstep.train(config("two")).summary
two["world_size"], two["weights_sha256"]
"""
MISTAKE = "lockstep.parse_config(['--batch.micro-size', '48'])"


def value_of(cell):
    return ast.literal_eval(cell.outputs[-1]["data"]["text/plain"])


def test_one_process_and_two_of_the_notebook_launcher_give_the_same_weights(tmp_path):
    first, two = FIRST.format(folder=str(tmp_path)), TWO.format(port=free_port())
    sources = [first, ONE, INTERRUPTED, RESUMED, two, MISTAKE]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    for cell in (notebook.cells[2], notebook.cells[5]):
        cell.metadata["tags"] = ["raises-exception"]
    place = {"metadata": {"path": str(ROOT)}}
    NotebookClient(notebook, timeout=90, kernel_name="python3", resources=place).execute()
    _, one, interrupted, resumed, two, mistake = notebook.cells
    world_size, digest = value_of(one)
    assert world_size == 1
    printed = "".join(output.get("text", "") for output in interrupted.outputs)
    assert "lockstep: interrupted after step 3, checkpoint saved; run the same command again" in printed
    error = interrupted.outputs[-1] if "ename" in interrupted.outputs[-1] else interrupted.outputs[-2]
    assert error["ename"] == "Interrupted"
    assert value_of(resumed) == (8, digest)
    assert value_of(two) == (2, digest)
    assert mistake.outputs[-1]["evalue"] == (
        "batch.global_size = 256: must be a multiple of batch.micro_size = 48; 240 or 288 would work"
    )
