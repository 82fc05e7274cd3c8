"""The validation set: what it holds out, that it alone chooses the best checkpoint, and early stopping."""

import json
import signal
from dataclasses import replace

import pytest
import torch

import lockstep
import tasks
from lockstep.config import DataConfig, TrackingConfig, TrainConfig
from lockstep.errors import ConfigError
from lockstep.runs import read_metrics
from lockstep.runs.checkpoints.checkpoint_folder import best_checkpoint
from lockstep.runs.saved_evaluations import read_evaluation
from runs import built_run, reset_accelerator, small_config

HELD_OUT = DataConfig(name="synthetic", num_train=600, validation=100)


@pytest.fixture(autouse=True)
def _own_accelerator():
    reset_accelerator()


def config_in(folder, data=HELD_OUT, **train):
    settings = {"epochs": 2, "log_every": 1, "eval_every": 2, "report": False, **train}
    tracking = TrackingConfig(mode="disabled")
    return small_config(folder, data=data, train=TrainConfig(**settings), tracking=tracking)


class WorseAndWorse(lockstep.Observer):
    """Ruins the weights after each step from one on, a little more each time."""

    def __init__(self, first):
        self.first = first

    def on_step_end(self, run, result):
        if run.step >= self.first:
            with torch.no_grad():
                run.trained[-1].add_(torch.arange(len(run.trained[-1])) * run.step)


def test_held_out_samples_are_never_trained_on():
    run = built_run(small_config(data=HELD_OUT))
    assert (run.plan.num_samples, len(run.validation.samples), len(run.test.samples)) == (500, 100, 512)
    trained = {int(id_) for step in range(run.plan.steps_per_epoch) for id_ in run.plan.step_ids(step).flat}
    held_out = set(run.validation.samples.ids.tolist())
    assert not trained & held_out
    assert trained - {-1} | held_out == set(range(600))
    inputs, labels = run.validation.samples.read(torch.arange(3))
    expected, _ = run.train_samples.read(run.validation.samples.ids[:3])
    assert torch.equal(inputs, expected)
    assert labels.shape == (3,)


def test_the_validation_set_chooses_the_best_checkpoint_and_the_test_set_is_scored_once(tmp_path):
    result = lockstep.train(config_in(tmp_path), observers=[WorseAndWorse(7)])
    summary, records = result.summary, read_metrics(result.folder)
    scored = {each["step"]: each["validation_accuracy"] for each in records if "validation_accuracy" in each}
    assert list(scored) == [2, 4, 6, 8, 10, 12, 14, 16]
    best = max(scored, key=scored.get)  # the first of equals
    assert best in (2, 4, 6)
    assert not any(name.startswith("test_") for record in records for name in record)
    assert summary["best_step"] == best
    assert summary["best_validation_accuracy"] == scored[best]
    assert summary["validation_accuracy"] == scored[16]
    assert best_checkpoint(result.folder / "checkpoints").name == f"step-{best:08d}"
    for which, step, prefix in (("last", 16, ""), ("best", best, "best_")):
        saved = read_evaluation(result.folder, which).scores
        assert (saved.step, saved.values["accuracy"]) == (step, summary[f"{prefix}test_accuracy"])
        reset_accelerator()
        scores = lockstep.evaluate(None, f"{result.folder}:{which}")
        assert scores["test_loss"] == summary[f"{prefix}test_loss"]
    assert summary["best_test_loss"] < summary["test_loss"]


def test_a_run_without_a_validation_set_has_no_best_checkpoint(tmp_path):
    result = lockstep.train(config_in(tmp_path, data=replace(HELD_OUT, validation=0.0)))
    assert best_checkpoint(result.folder / "checkpoints") is None
    assert not any("best" in name for name in result.summary)
    assert [path.name for path in (result.folder / "evaluations").iterdir()] == ["last.npz"]
    state = json.loads(next((result.folder / "checkpoints").glob("*/manifest.json")).read_text())
    assert "selection_score" not in state["info"]


class StopAt(lockstep.Observer):
    """Asks the run to stop, as a signal does, after some steps."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, run, result):
        if run.step == self.step:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("stops", [(), (8,), (9,), (10,)])
def test_a_run_out_of_patience_stops_at_the_same_step_over_any_resume(tmp_path, stops):
    config, ruin = config_in(tmp_path, epochs=9, patience=3), WorseAndWorse(5)
    for step in stops:
        try:
            result = lockstep.train(config, observers=[ruin, StopAt(step)])
        except lockstep.Interrupted:
            reset_accelerator()
            result = lockstep.train(config, observers=[ruin])
    if not stops:
        result = lockstep.train(config, observers=[ruin])
    assert (result.summary["steps"], result.summary["stopped_early"]) == (10, True)
    assert result.summary["best_step"] == 4
    assert result.summary["weights_sha256"] == DIGEST.setdefault("stopped", result.summary["weights_sha256"])


DIGEST: dict[str, str] = {}


def test_a_moving_average_is_scored_saved_and_resumed(tmp_path):
    def config(folder):
        return config_in(tmp_path / folder, ema=0.9)

    whole = lockstep.train(config("whole"))
    with pytest.raises(lockstep.Interrupted):
        lockstep.train(config("parts"), observers=[StopAt(7)])
    reset_accelerator()
    parts = lockstep.train(config("parts"))
    for name in ("weights_sha256", "ema_sha256", "best_ema_test_loss", "ema_validation_loss"):
        assert parts.summary[name] == whole.summary[name]
    assert whole.summary["ema_sha256"] != whole.summary["weights_sha256"]
    records = [each for each in read_metrics(whole.folder) if "validation_loss" in each]
    best = max(records, key=lambda record: record["ema_validation_accuracy"])  # the average decides
    assert whole.summary["best_step"] == best["step"]
    files = {path.stem for path in (whole.folder / "evaluations").iterdir()}
    names = ("last", "best", "ema", "best-ema")
    assert files == {*names, *(f"validation-{name}" for name in names)}
    for which, key in (("ema", "ema_test_loss"), ("best-ema", "best_ema_test_loss")):
        reset_accelerator()
        scores = lockstep.evaluate(None, f"{whole.folder}:{which}")
        assert (
            scores["test_loss"]
            == whole.summary[key]
            == read_evaluation(whole.folder, which).scores.values["loss"]
        )


def test_a_task_brings_its_own_validation_data(tmp_path):
    own = tasks.line(validation=lambda: tasks.line_data(31, 0.02))
    config = lockstep.Config(
        run=lockstep.RunConfig(dir=str(tmp_path)),
        batch=lockstep.BatchConfig(global_size=32, micro_size=8),
        train=TrainConfig(epochs=2, report=False),
        tracking=TrackingConfig(mode="disabled"),
        precision="no",
    )
    result = lockstep.train(own, config)
    assert (result.summary["validation_samples"], result.summary["test_samples"]) == (31, 23)
    assert json.loads((result.folder / "dataset.json").read_text())["num_validation"] == 31
    reset_accelerator()
    both = replace(config, data=DataConfig(validation=0.1))
    with pytest.raises(ConfigError, match=r"data.validation = 0.1: task 'line' brings its own validation"):
        lockstep.train(own, both)


@pytest.mark.parametrize(
    ("data", "train", "message"),
    [
        ({"validation": 600}, {}, "data.validation = 600: must leave some of the 600 training samples"),
        ({"validation": 0.001}, {}, "data.validation = 0.001: must leave some of the 600 training samples"),
        ({"validation": "split"}, {}, "data.validation = 'split': synthetic has no validation split"),
        ({"validation": 0.0}, {"patience": 2}, "train.patience = 2: needs a validation set"),
    ],
)
def test_a_validation_set_that_cannot_be_is_refused(tmp_path, data, train, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        lockstep.train(config_in(tmp_path, data=replace(HELD_OUT, **data), **train))


@pytest.mark.parametrize("value", [-1, 1.5, "half"])
def test_a_setting_that_is_no_fraction_and_no_number_is_refused(value):
    with pytest.raises(ConfigError, match=r"data\.validation = .*must be a fraction below 1, or"):
        DataConfig(validation=value)
