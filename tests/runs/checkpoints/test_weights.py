"""Which weights a word names."""

from dataclasses import replace

import pytest
import safetensors.torch
import torch

from lockstep.errors import ConfigError
from lockstep.runs.checkpoints.checkpoint import save_checkpoint
from lockstep.runs.checkpoints.weights import read_weights
from run_folders import make_checkpoint, make_run


@pytest.fixture
def run(tmp_path):
    """A run with three checkpoints, the second the best, each with moving averages."""
    folder = tmp_path / "run"
    make_run(folder, [])
    for step, accuracy in ((1, 0.5), (2, 0.9), (3, 0.7)):
        plain = make_checkpoint(step, accuracy)
        averages = {name: value + 1 for name, value in plain.weights.items()}
        save_checkpoint(folder / "checkpoints", replace(plain, ema=averages))
    return folder


@pytest.mark.parametrize(
    ("suffix", "step", "is_average"),
    [("", 3, False), (":last", 3, False), (":best", 2, False), (":ema", 3, True), (":best-ema", 2, True)],
)
def test_the_weights_of_a_run_are_named_after_a_colon(run, suffix, step, is_average):
    found = read_weights(f"{run}{suffix}")
    expected = make_checkpoint(step).weights
    assert torch.equal(found.tensors["a"], expected["a"] + is_average)
    assert (found.checkpoint.step, found.run) == (step, run)


def test_a_checkpoint_and_a_file_are_named_by_their_paths(run, tmp_path):
    path = run / "checkpoints" / "step-00000001"
    found = read_weights(str(path))
    assert (found.checkpoint.step, found.run) == (1, run)
    assert torch.equal(read_weights(f"{path}:ema").tensors["a"], found.tensors["a"] + 1)
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(found.tensors, file)
    from_file = read_weights(str(file))
    assert torch.equal(from_file.tensors["a"], found.tensors["a"])
    assert (from_file.checkpoint, from_file.run) == (None, None)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "run:bset",
            "after the colon, name one of .*ema; perhaps you meant run:best",
        ),
        ("nowhere", r"is not a run folder, a complete checkpoint or a \.safetensors file"),
        ("run/checkpoints/step-00000001:best", "'best' is of a run, and .* is not a run folder"),
        ("half.safetensors", "cannot be read as safetensors"),
        ("empty", "has no complete checkpoint yet"),
        ("empty:best", "has no best checkpoint"),
        ("plain:ema", r"the run keeps no moving average \(train.ema\)"),
    ],
)
def test_what_names_no_weights_is_refused(run, monkeypatch, word, message):
    monkeypatch.chdir(run.parent)
    (run.parent / "half.safetensors").write_bytes(b"half")
    make_run(run.parent / "empty", [])
    make_run(run.parent / "plain", [])
    save_checkpoint(run.parent / "plain" / "checkpoints", make_checkpoint(1))
    with pytest.raises(ConfigError, match=f"^RUN = '{word}': {message}"):
        read_weights(word)
