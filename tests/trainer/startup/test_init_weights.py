"""A new run from the weights of another: what is taken, what is refused, and fine-tuning on other classes."""

from dataclasses import replace

import pytest
import safetensors.torch
import torch
from torch import nn

import lockstep
from image_folders import digit_folder
from lockstep.config import DataConfig, ModelConfig, TrackingConfig, TrainConfig, parse_config
from lockstep.errors import ConfigError
from lockstep.runs import run_path
from lockstep.runs.checkpoints.weights import read_weights
from lockstep.runs.resume.naming import derived_name
from lockstep.trainer.startup.init_weights import load_initial
from runs import reset_accelerator, small_config


@pytest.fixture(autouse=True)
def _own_accelerator():
    reset_accelerator()


def trained(folder, name, model=None, data=None, **train):
    settings = TrainConfig(**{"epochs": 1, "report": False, **train})
    config = small_config(folder, train=settings, tracking=TrackingConfig(mode="disabled"))
    config = replace(config, run=replace(config.run, name=name), model=model or ModelConfig(name="mlp"))
    config = replace(config, data=data or config.data)
    reset_accelerator()
    return config, lockstep.train(config)


def test_a_run_begins_with_the_weights_of_another_and_keeps_them(tmp_path, capsys):
    _, source = trained(tmp_path, "source")
    model = ModelConfig(name="mlp", init_from=str(source.folder))
    config, tuned = trained(tmp_path, "tuned", model, steps=2, keep_checkpoints=1)
    out = capsys.readouterr().out
    assert f"initial weights: 6 of 6 tensors from {source.folder}" in out
    first = read_weights(str(tuned.folder / "checkpoints" / "step-00000000")).tensors
    assert all(
        torch.equal(first[name], value) for name, value in read_weights(str(source.folder)).tensors.items()
    )
    reset_accelerator()
    source.folder.rename(tmp_path / "elsewhere")  # no start needs it again
    assert lockstep.replay(None, tuned.folder, step=1).divergence == ""
    (run_path(config) / "summary.json").unlink()
    reset_accelerator()
    assert lockstep.train(config).summary["weights_sha256"] == tuned.summary["weights_sha256"]


@pytest.fixture(scope="module")
def head_of_five():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5))


def test_with_another_head_what_fits_is_taken_and_the_rest_is_listed(head_of_five):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    weights = {**head_of_five.state_dict(), "old.bias": torch.zeros(1)}
    told = "1.weight (5, 3) → (2, 3), 1.bias (5,) → (2,) of another shape; old.bias that the model lacks"
    with pytest.raises(ConfigError) as mistake:
        load_initial(model, weights, "runs/a", partial=False)
    assert str(mistake.value) == (
        f"--init-from = 'runs/a': does not fit the model: {told}; --model.init-partial takes what fits"
    )
    head = model[1].weight.detach().clone()
    lines = load_initial(model, weights, "runs/a", partial=True)
    assert lines == ["initial weights: 2 of 4 tensors from runs/a", f"not taken: {told}"]
    assert torch.equal(model[0].weight, weights["0.weight"])
    assert torch.equal(model[1].weight, head)
    with pytest.raises(ConfigError, match="holds nothing that fits the model"):
        load_initial(nn.Linear(2, 2), weights, "runs/a", partial=True)


def test_a_flag_is_short_and_the_source_belongs_to_the_run():
    config = parse_config(["--init-from", "runs/a:best", "--model.init-partial"])
    assert (config.model.init_from, config.model.init_partial) == ("runs/a:best", True)
    assert derived_name(config) != derived_name(parse_config([]))
    with pytest.raises(ConfigError, match=r"model\.init_partial = True: is for model\.init_from"):
        ModelConfig(init_partial=True)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nowhere", "is not a run folder, a complete checkpoint"),
        ("wandb:run", "must be wandb:"),
        ("other.safetensors", "holds nothing that fits the model"),
    ],
)
def test_a_source_that_cannot_be_used_is_one_line(tmp_path, monkeypatch, word, message):
    monkeypatch.chdir(tmp_path)
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=f"--init-from = '{word}': {message}"):
        trained(tmp_path, "run", ModelConfig(name="mlp", init_from=word))


@pytest.mark.slow
def test_digits_0_to_4_are_a_start_for_5_to_9(tmp_path):
    """Fine-tuning: in a few steps further than a new run, on classes that the source has never seen."""

    def data(name, classes):
        return DataConfig(name="folder", root=str(digit_folder(tmp_path / name, classes)))

    low, high = data("low", range(5)), data("high", range(5, 10))
    _, source = trained(tmp_path, "source", data=low, epochs=8)
    _, new = trained(tmp_path, "new", data=high, steps=3)
    tuned_model = ModelConfig(name="mlp", init_from=str(source.folder))
    _, tuned = trained(tmp_path, "tuned", tuned_model, data=high, steps=3)
    assert tuned.summary["test_loss"] < new.summary["test_loss"]
