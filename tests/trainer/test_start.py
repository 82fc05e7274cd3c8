"""Training from a Python program."""

import re
import signal
from dataclasses import replace

import pytest
import torch

import lockstep
from lockstep.config import AugmentConfig, DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig
from lockstep.errors import ConfigError
from lockstep.launch import STOP_SIGNALS
from lockstep.runs import read_starts, run_path
from runs import reset_accelerator, small_config


@pytest.fixture(autouse=True)
def _own_accelerator():
    reset_accelerator()


class StepCounter(lockstep.Observer):
    def __init__(self):
        self.steps = []

    def on_step_end(self, run, result):
        self.steps.append(run.step)


class StopAfter(lockstep.Observer):
    """Sends its own process SIGTERM during a step, as a scheduler does."""

    def __init__(self, step):
        self.step = step

    def on_update(self, run):
        if run.step + 1 == self.step:
            signal.raise_signal(signal.SIGTERM)


class ListSink:
    def __init__(self):
        self.records, self.status = [], None

    def log(self, record):
        self.records.append(record)

    def close(self, status, reason=""):
        self.status = status


class BrokenSink(ListSink):
    def close(self, status, reason=""):
        raise OSError("disk full")


def config_in(folder):
    changes = {"tracking": lockstep.TrackingConfig(mode="disabled")}
    return small_config(folder, train=lockstep.TrainConfig(epochs=1, log_every=2, report=False), **changes)


def test_a_programs_own_observer_and_sink_receive_the_run(tmp_path, capsys):
    counter, sink = StepCounter(), ListSink()
    result = lockstep.train(config_in(tmp_path), observers=[counter], sinks=[sink])
    assert counter.steps == list(range(1, 11))
    assert [record["step"] for record in sink.records] == [2, 4, 6, 8, 10]
    assert sink.status == "finished"
    assert result.summary["steps"] == 10
    capsys.readouterr()
    again = lockstep.train(config_in(tmp_path))
    assert again.was_finished
    line = f"lockstep: {again.folder} was already finished, so nothing was trained\n"
    assert capsys.readouterr().out == line
    assert again.summary == result.summary


def test_the_programs_random_numbers_are_as_if_nothing_had_trained(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    lockstep.train(config_in(tmp_path))
    assert torch.equal(torch.rand(4), expected)


def test_a_sink_that_fails_to_close_is_a_warning_and_the_others_are_closed(tmp_path, capsys):
    sink = ListSink()
    result = lockstep.train(config_in(tmp_path), sinks=[BrokenSink(), sink])
    assert result.summary["steps"] == 10
    assert sink.status == "finished"
    assert "warning: BrokenSink was not closed (OSError: disk full)" in capsys.readouterr().out


def test_a_programs_sinks_are_closed_if_one_of_locksteps_own_does_not_open(tmp_path):
    sink, config = ListSink(), config_in(tmp_path)
    (run_path(config) / "evaluations").mkdir(parents=True)
    (run_path(config) / "evaluations" / "last.npz").symlink_to("last.npz")  # a loop: cannot be read
    with pytest.raises(lockstep.ConfigError, match=r"last.npz: cannot be read"):
        lockstep.train(config, sinks=[sink])
    assert sink.status == "failed"


def test_a_signal_stops_the_run_and_the_programs_handlers_are_restored(tmp_path):
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with pytest.raises(lockstep.Interrupted) as stop:
        lockstep.train(config_in(tmp_path), observers=[StopAfter(3)])
    assert stop.value.step == 3
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
    assert lockstep.train(config_in(tmp_path)).summary["steps"] == 10


def test_damage_to_what_tells_of_the_past_changes_no_bit_and_loses_nothing(tmp_path, capsys):
    whole = lockstep.train(config_in(tmp_path / "whole")).summary
    with pytest.raises(lockstep.Interrupted):
        lockstep.train(config_in(tmp_path), observers=[StopAfter(4)])
    run = run_path(config_in(tmp_path))
    capsys.readouterr()
    names = ["config.yaml", "metrics.jsonl", "starts.jsonl", "task.json", "evaluations/last.npz"]
    for name in names:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(b"\xff\x00 rubbish\n")
    summary = lockstep.train(config_in(tmp_path)).summary
    assert summary["weights_sha256"] == whole["weights_sha256"]
    assert summary["test_loss"] == whole["test_loss"]
    told = [line for line in capsys.readouterr().err.splitlines() if "was set aside as" in line]
    assert len(told) == len(names)
    assert len(list((run / "set-aside").iterdir())) == len(names)
    assert [start["step"] for start in read_starts(run)] == [4]


def test_a_run_whose_checkpoints_are_of_no_use_is_refused_and_stays_as_it_is(tmp_path):
    with pytest.raises(lockstep.Interrupted):
        lockstep.train(config_in(tmp_path), observers=[StopAfter(4)])
    run = run_path(config_in(tmp_path))
    (checkpoint,) = (run / "checkpoints").iterdir()
    before = {path: path.read_bytes() for path in run.glob("*.*")}
    weights = (checkpoint / "weights.safetensors").read_bytes()
    (checkpoint / "weights.safetensors").unlink()
    with pytest.raises(
        lockstep.ConfigError, match=r"none of its checkpoints is whole .* step 0, move them away"
    ):
        lockstep.train(config_in(tmp_path))
    (checkpoint / "weights.safetensors").symlink_to("weights.safetensors")  # a loop: cannot be read
    with pytest.raises(
        lockstep.ConfigError, match=r"weights\.safetensors cannot be read .* make it readable"
    ):
        lockstep.train(config_in(tmp_path))
    assert before == {path: path.read_bytes() for path in run.glob("*.*")}
    (checkpoint / "weights.safetensors").unlink()
    (checkpoint / "weights.safetensors").write_bytes(weights)
    assert lockstep.train(config_in(tmp_path)).summary["steps"] == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": ModelConfig(name="nowhere:Model")}, "model.name = 'nowhere:Model'"),
        ({"model": ModelConfig(name="torchvision:resnet17")}, "perhaps you meant 'torchvision:resnet1"),
        ({"optimizer": OptimizerConfig(name="nowhere:Sgd")}, "optimizer.name = 'nowhere:Sgd'"),
        ({"schedule": ScheduleConfig(name="nowhere:f")}, "schedule.name = 'nowhere:f'"),
        ({"data": DataConfig(name="folder", transforms={"Nope": {}})}, "data.transforms = 'Nope'"),
    ],
)
def test_a_name_that_there_is_not_is_refused_before_data_is_looked_for(tmp_path, settings, message):
    """There are no images, which would be the next thing to be refused."""
    settings = {"data": DataConfig(name="folder", root=str(tmp_path)), "augment": AugmentConfig(), **settings}
    with pytest.raises(ConfigError, match=re.escape(message)):
        lockstep.train(replace(small_config(tmp_path), **settings))
