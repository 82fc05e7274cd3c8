"""The loop in one process. Regression tests for the traps T1 to T6; tests/README.md lists them all."""

import time
from copy import deepcopy

import pytest
import torch

from lockstep.config import BatchConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from lockstep.engine import lr_factor, take_step, train
from lockstep.engine.checks.finite_check import FiniteCheck
from lockstep.engine.loop import stop_if_not_finite
from lockstep.errors import RunStopped
from lockstep.launch.ranks.ranks import Ranks
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from runs import overflow_in, record_gradients, reference_gradients, scale_losses, small_config, small_run


class RecordSink:
    def __init__(self):
        self.records = []

    def log(self, record):
        self.records.append(record)

    def close(self, status, reason=""):
        pass


@pytest.fixture(autouse=True)
def _no_checkpoints(monkeypatch):
    monkeypatch.setattr("lockstep.engine.loop.save_checkpoint_of", lambda run: None)


def trained(config):
    run, dataset = small_run(config)
    gradients, sink = record_gradients(run), RecordSink()
    run.sinks = [sink]
    train(run)
    return run, dataset, gradients, sink.records


def assert_close(gradient, reference, tolerance=1e-5):
    scale = max(value.abs().max() for value in reference.values())
    for name, value in reference.items():
        assert (gradient[name] - value).abs().max() <= tolerance * scale, name


@pytest.mark.parametrize("micro_size", [64, 16, 4])
def test_gradients_are_those_of_the_whole_batch(micro_size):
    """T1 and T2: no micro-batch is dropped, and a short last batch is the mean over its own samples."""
    config = small_config(batch=BatchConfig(global_size=64, micro_size=micro_size))
    run, dataset = small_run(config)
    gradients = record_gradients(run)
    for step in range(run.plan.steps_per_epoch):
        before = deepcopy(run.model)
        run.num_steps = step + 1
        train(run)
        assert_close(gradients[step], reference_gradients(before, run, dataset, step))
    assert run.plan.samples_in_step(step) == 24  # the loop above ended with a short batch


def test_one_update_per_window():
    """T3: one update per window, including the short one, and nothing left over for the next epoch."""
    run, _, gradients, _ = trained(small_config(train=TrainConfig(epochs=2)))
    assert len(gradients) == run.step == 2 * 10
    assert all(state["step"] == 20 for state in run.optimizer.state.values())


def test_clipping_uses_the_whole_gradient():
    """T4: clips once, by the norm of the sum, and the clipped gradient keeps its direction."""
    limit = 1e-3
    config = small_config(
        optimizer=OptimizerConfig(max_grad_norm=limit), train=TrainConfig(steps=1, log_every=1)
    )
    run, dataset = small_run(config)
    before, gradients, sink = deepcopy(run.model), record_gradients(run), RecordSink()
    run.sinks = [sink]
    train(run)
    reference = reference_gradients(before, run, dataset, 0)
    norm = torch.cat([value.ravel() for value in reference.values()]).norm()
    assert sink.records[0]["grad_norm"] == pytest.approx(norm.item(), rel=1e-5)
    assert_close(gradients[0], {name: value * (limit / norm) for name, value in reference.items()}, 1e-4)


def test_the_learning_rate_follows_the_schedule_to_its_end():
    """T5: a schedule that should end at zero does, whatever the window."""
    config = small_config(
        schedule=ScheduleConfig(name="cosine", warmup=0.2), train=TrainConfig(epochs=2, log_every=1)
    )
    _run, _, _, records = trained(config)
    rates = [record["lr/model"] for record in records]
    expected = [config.optimizer.lr * lr_factor(step, 20, config.schedule) for step in range(20)]
    assert rates == pytest.approx(expected)
    assert rates[-1] < 0.02 * max(rates)


def test_an_overflowed_step_is_counted_and_does_not_advance_the_schedule():
    """T6: Accelerate allows fp16 only on GPUs, but its scaler takes the same code path on a CPU."""
    config = small_config(
        train=TrainConfig(steps=4, log_every=1), schedule=ScheduleConfig(name="cosine", warmup=0.5)
    )
    run, _ = small_run(config)
    scale_losses(run, torch.amp.GradScaler("cpu", init_scale=2.0**16))
    sink, start = RecordSink(), deepcopy(run.model.state_dict())
    run.sinks = [sink]

    run.num_steps = 1
    overflow_in(run, {1})
    train(run)
    assert (run.step, run.skipped_steps) == (1, 1)
    assert all(torch.equal(value, start[name]) for name, value in run.model.state_dict().items())

    run.num_steps = 4
    train(run)
    assert (run.step, run.skipped_steps) == (4, 1)
    assert not all(torch.equal(value, start[name]) for name, value in run.model.state_dict().items())
    assert [record["skipped_steps"] for record in sink.records] == [1, 1, 1, 1]
    assert sink.records[0]["loss_scale"] == 2.0**15
    expected = [config.optimizer.lr * lr_factor(update, 4, config.schedule) for update in (0, 1, 2)]
    assert [record["lr/model"] for record in sink.records[1:]] == pytest.approx(expected)


def test_logged_loss_and_accuracy_cover_the_global_batch():
    run, dataset = small_run(small_config(train=TrainConfig(steps=1, log_every=1)))
    sink, before = RecordSink(), deepcopy(run.model)
    run.sinks = [sink]
    train(run)
    ids = torch.from_numpy(run.plan.step_ids(0).ravel())
    images = ((dataset.train.images[ids].float() / 255 - 0.1307) / 0.3081).unsqueeze(1)
    logits, labels = before(images), dataset.train.labels[ids]
    assert sink.records[0]["loss"] == pytest.approx(run.task.loss(logits, labels).mean().item(), rel=1e-5)
    assert sink.records[0]["accuracy"] == (logits.argmax(1) == labels).float().mean().item()
    assert sink.records[0]["step"] == 1
    assert sink.records[0]["samples_seen"] == 64


def test_a_module_in_no_group_is_not_updated():
    config = small_config(
        model=type(small_config().model)(name="cnn-gru"),
        optimizer=OptimizerConfig(groups={"gru": 0.01}),
        train=TrainConfig(steps=3),
    )
    run, _ = small_run(config)
    start = deepcopy(run.model.state_dict())
    train(run)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, start[name]) == name.startswith("cnn."), name


def test_what_training_draws_does_not_depend_on_the_global_generators():
    config = small_config(model=ModelConfig(name="mlp", dropout=0.3), train=TrainConfig(steps=2))
    digests = set()
    for seed in (1, 2):
        run, _ = small_run(config)
        torch.manual_seed(seed)
        train(run)
        digests.add(weights_sha256(run.model.state_dict()))
    assert len(digests) == 1


def test_accelerates_environment_variable_does_not_divide_the_gradient(monkeypatch):
    def norm():
        run, _ = small_run(small_config(train=TrainConfig(steps=1)))
        return take_step(run).grad_norm.item()

    before = norm()
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert norm() == before


def test_a_run_whose_gradients_all_overflow_stops(monkeypatch):
    run, _ = small_run(small_config(train=TrainConfig(log_every=1)))
    run.ranks.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-11)
    run.ranks.accelerator.scaler.scale(torch.ones(1))  # creates its scale on first use
    with pytest.raises(RunStopped, match="every gradient overflows"):
        stop_if_not_finite(run, FiniteCheck(allows_overflow=True))


def test_waiting_for_slower_ranks_counts_as_training(tmp_path, monkeypatch):
    config = small_config(tmp_path, train=TrainConfig(epochs=1, log_every=5, digest_every=100))
    run, _ = small_run(config)
    monkeypatch.setattr(Ranks, "begin_agreement", lambda self, flag: lambda: time.sleep(0.05) or flag())
    train(run)
    assert run.clock.total() > 0.05 * (run.num_steps - 1)  # nobody asks in the last step
