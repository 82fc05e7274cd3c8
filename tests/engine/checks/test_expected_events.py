"""The order of a step: the pure check, and the traces of real, broken and fp16 steps."""

import math

import pytest
import torch

from lockstep.config import BatchConfig, OptimizerConfig, TrainConfig
from lockstep.engine import (
    EventKind,
    OrderCheck,
    OrderTrace,
    first_violation,
    format_events,
    take_step,
    train,
)
from lockstep.engine.checks.expected_events import Event, OrderError, expected_order
from lockstep.engine.optimizer.optimizer import clip_gradients, set_learning_rate
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.task import share_of_mean
from runs import overflow_in, scale_losses, small_config, small_run


@pytest.fixture(autouse=True)
def _no_checkpoints(monkeypatch):
    monkeypatch.setattr("lockstep.engine.loop.save_checkpoint_of", lambda run: None)


def events(*words):
    """The events of words such as 'forward 0'."""
    result = []
    for word in words:
        kind, _, index = word.rpartition(" ")
        result.append(Event(EventKind(kind), int(index)) if index.isdigit() else Event(EventKind(word)))
    return result


ONE = ["zero_grad", "forward 0", "loss 0", "backward 0", "gradient sum", "clip", "schedule", "optimizer step"]
TWO = [*ONE[:4], "forward 1", "loss 1", "backward 1", *ONE[4:]]
FP16 = [*ONE[:5], "unscale", *ONE[5:]]


@pytest.mark.parametrize(
    ("words", "window", "is_scaled"),
    [(ONE, 1, False), (TWO, 2, False), (FP16, 1, True), ([*FP16[:-1], "skipped step"], 1, True)],
)
def test_the_expected_order_is_accepted(words, window, is_scaled):
    assert first_violation(events(*words), window, is_scaled=is_scaled) is None


@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("is_scaled", [False, True])
def test_any_single_event_omitted_doubled_or_swapped_is_rejected(window, is_scaled):
    order = expected_order(window, is_scaled=is_scaled)
    for index in range(len(order)):
        omitted = order[:index] + order[index + 1 :]
        doubled = order[: index + 1] + order[index:]
        assert first_violation(omitted, window, is_scaled=is_scaled).index == index
        assert first_violation(doubled, window, is_scaled=is_scaled).index == index + 1
        if index:
            swapped = [*order[: index - 1], order[index], order[index - 1], *order[index + 1 :]]
            assert first_violation(swapped, window, is_scaled=is_scaled).index == index - 1


@pytest.mark.parametrize(
    ("words", "window", "is_scaled", "message"),
    [
        (ONE[1:], 1, False, "event 1: expected zero_grad, got forward[0]"),
        ([*ONE[:6], "clip", *ONE[6:]], 1, False, "event 7: expected schedule, got clip"),
        ([*ONE[:4], "optimizer step"], 1, False, "event 5: expected gradient sum, got optimizer step"),
        ([*ONE, "backward 0"], 1, False, "event 9: expected the end of the step, got backward[0]"),
        (ONE[:-1], 1, False, "event 8: expected optimizer step, got the end of the step"),
        (TWO, 1, False, "event 5: expected gradient sum, got forward[1]"),
        (ONE, 2, False, "event 5: expected forward[1], got gradient sum"),
        (FP16, 1, False, "event 6: expected clip, got unscale"),
        (ONE, 1, True, "event 6: expected unscale, got clip"),
        ([*ONE[:-1], "skipped step"], 1, False, "event 8: expected optimizer step, got skipped step"),
    ],
)
def test_a_violation_names_the_expected_and_the_actual_event(words, window, is_scaled, message):
    violation = first_violation(events(*words), window, is_scaled=is_scaled)
    assert message in str(violation)
    assert ">>> " in str(violation)


def test_a_complete_window_is_abbreviated():
    assert format_events(events(*TWO)) == (
        "zero_grad → (forward → loss → backward) x 2 → gradient sum → clip → schedule → optimizer step"
    )
    assert format_events(events(*ONE)).startswith("zero_grad → forward → loss → backward → gradient sum")
    assert "loss[1] → forward[1]" in format_events(events(*TWO[:4], "loss 1", "forward 1", *TWO[6:]))


@pytest.mark.parametrize("reduction", ["exact", "fast"])
@pytest.mark.parametrize("window", [1, 4])
def test_the_trace_of_a_real_step_is_the_expected_order(window, reduction):
    config = small_config(
        batch=BatchConfig(global_size=64, micro_size=64 // window),
        reduction=reduction,
        optimizer=OptimizerConfig(max_grad_norm=0.1),
    )
    run, _ = small_run(config)
    trace = OrderTrace()
    for _ in range(run.plan.steps_per_epoch):  # including the short one
        take_step(run, trace)
        num_micro_batches = len(run.plan.window_sizes(run.step - 1, rank=0))
        assert trace.events == expected_order(num_micro_batches, is_scaled=False)


def test_learning_rates_of_several_groups_are_one_event():
    config = small_config(optimizer=OptimizerConfig(groups={"linear1": 0.1, "linear2": 0.01}))
    run, _ = small_run(config)
    trace = OrderTrace()
    take_step(run, trace)
    assert trace.events == expected_order(4, is_scaled=False)


def test_checking_the_order_changes_no_weights_and_leaves_no_hooks():
    config = small_config(train=TrainConfig(epochs=2, log_every=3, eval_every=4))
    plain, _ = small_run(config)
    train(plain)
    run, _ = small_run(config)
    train(run, OrderCheck())
    assert weights_sha256(run.model.state_dict()) == weights_sha256(plain.model.state_dict())
    assert not run.model._forward_hooks
    assert not run.optimizer.optimizer._optimizer_step_pre_hooks
    assert not any(parameter._post_accumulate_grad_hooks for parameter in run.trained)


def broken_step(run, fault, observer):
    """`take_step` with one mistake."""
    optimizer, reduction = run.optimizer, run.reduction

    def zero_grad():
        optimizer.zero_grad(set_to_none=True)
        observer.on_zero_grad(run)

    def loss_of(batch):
        losses = run.task.loss(reduction.model(batch.inputs), batch.targets)
        observer.on_loss(run, batch, losses)
        return share_of_mean(losses, batch).total

    def schedule():
        set_learning_rate(optimizer, run.lr_factor(run.num_updates))
        observer.on_schedule(run)

    def update():
        optimizer.step()
        observer.on_update(run)

    observer.on_step_begin(run)
    window = next(run.windows)
    if fault != "no zero_grad":
        zero_grad()
    if fault == "a micro-batch twice":
        window = [window[0], window[0], *window[2:]]
    for batch in window[1:] if fault == "a micro-batch too few" else window:
        observer.on_micro_batch(run, batch)
        with reduction.accumulate(batch):
            loss = loss_of(batch)
            if fault != "backward outside" or not batch.is_last:
                loss.backward(retain_graph=fault == "backward twice")
            if fault == "backward twice":
                loss.backward()
            if fault == "zero_grad between":
                zero_grad()
        observer.on_backward(run, batch)
    if fault == "backward outside":
        loss.backward()
    if fault == "step before the sum":
        schedule()
        update()
    if fault != "no sum":
        reduction.sum_over_ranks(run.plan.num_slots, run.plan.window)
    observer.on_sum(run)
    observer.on_unscale(run)
    for _ in range({"no clip": 0, "two clips": 2}.get(fault, 1)):
        norm, limit = reduction.total_norm(), run.max_grad_norm
        clip_gradients(run.trained, math.inf if fault == "a clip that does nothing" else limit, norm)
        observer.on_clip(run, norm)
    if fault == "another rate":
        set_learning_rate(optimizer, 0.5)
        observer.on_schedule(run)
    elif fault != "no rate":
        schedule()
    if fault != "step before the sum":
        update()
    if fault == "rate after the step":
        schedule()
    if fault == "backward after the step":
        loss_of(batch).backward()
    run.step += 1
    observer.on_step_end(run, None)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no zero_grad", "event 1: expected zero_grad, got forward[0]"),
        ("a micro-batch twice", "event 5: expected forward[1], got forward[0]"),
        ("a micro-batch too few", "event 11: expected forward[3], got gradient sum"),
        ("backward outside", "event 13: expected backward[3], got backward"),
        ("backward twice", "event 5: expected forward[1], got backward[0]"),
        ("zero_grad between", "event 5: expected forward[1], got zero_grad"),
        ("step before the sum", "event 14: expected gradient sum, got schedule"),
        ("no sum", "event 14: expected gradient sum, got schedule"),
        ("a clip that does nothing", "event 15: expected clip, got schedule"),
        ("no clip", "event 15: expected clip, got schedule"),
        ("two clips", "event 16: expected schedule, got clip"),
        ("no rate", "event 16: expected schedule, got optimizer step"),
        ("another rate", "event 16: expected schedule, got optimizer step"),
        ("rate after the step", "event 18: expected the end of the step, got schedule"),
        ("backward after the step", "event 18: expected the end of the step, got forward"),
    ],
)
def test_a_deliberately_broken_loop_is_caught(fault, message):
    run, _ = small_run(small_config(optimizer=OptimizerConfig(max_grad_norm=0.1)))
    take_step(run)  # leaves a gradient for `no zero_grad` to miss
    with pytest.raises(OrderError, match=r"step 2 on rank 0 breaks the order") as error:
        broken_step(run, fault, OrderCheck())
    assert message in str(error.value)


def test_the_same_loop_unbroken_passes():
    run, _ = small_run(small_config())
    broken_step(run, "none", OrderCheck())


def test_fp16_unscales_before_it_clips_and_may_skip_a_step():
    run, _ = small_run(small_config())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    scale_losses(run, scaler)
    overflow_in(run, {1})
    trace = OrderTrace()
    take_step(run, trace)
    assert trace.events[-1] == Event(EventKind.SKIPPED_STEP)
    assert trace.events[:-1] == expected_order(4, is_scaled=True)[:-1]
    take_step(run, trace)
    assert trace.events == expected_order(4, is_scaled=True)
    take_step(run, OrderCheck())
    with pytest.raises(OrderError, match="event 15: expected unscale"):
        step_without_unscaling(run, OrderCheck())
    assert run.ranks.accelerator.scaler is scaler


def step_without_unscaling(run, observer):
    """Clips the scaled gradient, as torch's own clip does if called instead of Accelerate's."""
    accelerator = run.ranks.accelerator
    accelerator.state._mixed_precision = "no"
    try:
        return take_step(run, observer)
    finally:
        accelerator.state._mixed_precision = "fp16"
