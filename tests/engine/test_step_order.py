"""The order of a step: the pure check, and what it sees of real, broken and fp16 steps."""

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer

from lockstep.config import BatchConfig, OptimizerConfig, TrainConfig
from lockstep.engine import (
    Kind,
    OrderCheck,
    OrderTrace,
    as_text,
    build_optimizer,
    first_violation,
    take_step,
    train,
)
from lockstep.engine.optimizer import clip_grad_norm, set_learning_rate
from lockstep.engine.step_order import Event, OrderError, demanded_order
from lockstep.models import share_of_mean
from lockstep.runs.checkpoint import weights_sha256
from runs import small_config, small_run


@pytest.fixture(autouse=True)
def _no_checkpoints(monkeypatch):
    monkeypatch.setattr("lockstep.engine.loop.save_checkpoint_of", lambda run: None)


def events(*words):
    """'forward 0' and so on."""
    found = []
    for word in words:
        kind, _, place = word.rpartition(" ")
        found.append(Event(Kind(kind), int(place)) if place.isdigit() else Event(Kind(word)))
    return found


ONE = ["zero_grad", "forward 0", "loss 0", "backward 0", "gradient sum", "clip", "schedule", "optimizer step"]
TWO = [*ONE[:4], "forward 1", "loss 1", "backward 1", *ONE[4:]]
FP16 = [*ONE[:5], "unscale", *ONE[5:]]


@pytest.mark.parametrize(
    ("words", "window", "is_scaled"),
    [(ONE, 1, False), (TWO, 2, False), (FP16, 1, True), ([*FP16[:-1], "skipped step"], 1, True)],
)
def test_the_right_order_is_accepted(words, window, is_scaled):
    assert first_violation(events(*words), window, is_scaled=is_scaled) is None


@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("is_scaled", [False, True])
def test_any_one_event_left_out_doubled_or_swapped_is_refused(window, is_scaled):
    right = demanded_order(window, is_scaled=is_scaled)
    for place in range(len(right)):
        left_out = right[:place] + right[place + 1 :]
        doubled = right[: place + 1] + right[place:]
        assert first_violation(left_out, window, is_scaled=is_scaled).position == place
        assert first_violation(doubled, window, is_scaled=is_scaled).position == place + 1
        if place:
            swapped = [*right[: place - 1], right[place], right[place - 1], *right[place + 1 :]]
            assert first_violation(swapped, window, is_scaled=is_scaled).position == place - 1


@pytest.mark.parametrize(
    ("words", "window", "is_scaled", "message"),
    [
        (ONE[1:], 1, False, "event 1 must be zero_grad, but forward[0] came"),
        ([*ONE[:6], "clip", *ONE[6:]], 1, False, "event 7 must be schedule, but clip came"),
        ([*ONE[:4], "optimizer step"], 1, False, "event 5 must be gradient sum, but optimizer step came"),
        ([*ONE, "backward 0"], 1, False, "event 9 must be the end of the step, but backward[0] came"),
        (ONE[:-1], 1, False, "event 8 must be optimizer step, but the step ended"),
        (TWO, 1, False, "event 5 must be gradient sum, but forward[1] came"),
        (ONE, 2, False, "event 5 must be forward[1], but gradient sum came"),
        (FP16, 1, False, "event 6 must be clip, but unscale came"),
        (ONE, 1, True, "event 6 must be unscale, but clip came"),
        ([*ONE[:-1], "skipped step"], 1, False, "event 8 must be optimizer step, but skipped step came"),
    ],
)
def test_a_violation_says_what_was_demanded_and_what_came(words, window, is_scaled, message):
    violation = first_violation(events(*words), window, is_scaled=is_scaled)
    assert message in str(violation)
    assert ">>> " in str(violation)


def test_a_whole_window_is_one_phrase():
    assert as_text(events(*TWO)) == (
        "zero_grad → (forward → loss → backward) x 2 → gradient sum → clip → schedule → optimizer step"
    )
    assert as_text(events(*ONE)).startswith("zero_grad → forward → loss → backward → gradient sum")
    assert "loss[1] → forward[1]" in as_text(events(*TWO[:4], "loss 1", "forward 1", *TWO[6:]))


@pytest.mark.parametrize("reduction", ["exact", "fast"])
@pytest.mark.parametrize("window", [1, 4])
def test_the_trace_of_a_real_step_is_the_demanded_order(window, reduction):
    config = small_config(
        batch=BatchConfig(global_size=64, micro_size=64 // window),
        reduction=reduction,
        optimizer=OptimizerConfig(max_grad_norm=0.1),
    )
    run, _ = small_run(config)
    trace = OrderTrace(run)
    for _ in range(run.plan.steps_per_epoch):  # the short one included
        take_step(run, trace)
        assert trace.events == demanded_order(window, is_scaled=False)


def test_rates_of_several_groups_are_one_event():
    config = small_config(optimizer=OptimizerConfig(groups={"linear1": 0.1, "linear2": 0.01}))
    run, _ = small_run(config)
    trace = OrderTrace(run)
    take_step(run, trace)
    assert trace.events == demanded_order(4, is_scaled=False)


def test_a_checked_run_has_the_same_weights_and_leaves_nothing_behind():
    config = small_config(train=TrainConfig(epochs=2, log_every=3, eval_every=4))
    plain, _ = small_run(config)
    train(plain)
    run, _ = small_run(config)
    train(run, OrderCheck(run))
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
        losses = run.criterion(reduction.model(batch.images), batch.labels)
        observer.on_loss(run, batch, losses)
        return share_of_mean(losses, batch)

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
    reduction.sum_over_ranks()
    observer.on_sum(run)
    observer.on_unscale(run)
    for _ in range({"no clip": 0, "two clips": 2}.get(fault, 1)):
        observer.on_clip(run, clip_grad_norm(run.trained, 1.0))
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
        ("no zero_grad", "event 1 must be zero_grad, but forward[0] came"),
        ("a micro-batch twice", "event 5 must be forward[1], but forward[0] came"),
        ("a micro-batch too few", "event 11 must be forward[3], but gradient sum came"),
        ("backward outside", "event 13 must be backward[3], but backward came"),
        ("backward twice", "event 5 must be forward[1], but backward[0] came"),
        ("zero_grad between", "event 5 must be forward[1], but zero_grad came"),
        ("step before the sum", "event 14 must be gradient sum, but schedule came"),
        ("no clip", "event 15 must be clip, but schedule came"),
        ("two clips", "event 16 must be schedule, but clip came"),
        ("no rate", "event 16 must be schedule, but optimizer step came"),
        ("another rate", "event 16 must be schedule, but optimizer step came"),
        ("rate after the step", "event 18 must be the end of the step, but schedule came"),
        ("backward after the step", "event 18 must be the end of the step, but forward came"),
    ],
)
def test_a_loop_that_is_broken_on_purpose_is_caught(fault, message):
    run, _ = small_run(small_config())
    take_step(run)  # so that there is a gradient to be left over
    with pytest.raises(OrderError, match=r"step 2 on rank 0 breaks the order") as error:
        broken_step(run, fault, OrderCheck(run))
    assert message in str(error.value)


def test_the_unbroken_copy_of_the_loop_passes():
    run, _ = small_run(small_config())
    broken_step(run, "none", OrderCheck(run))


def scaled(run):
    """fp16's path on a CPU, where Accelerate does not offer it."""
    accelerator = run.ranks.accelerator
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    bare = build_optimizer(run.model, OptimizerConfig(), fused=False)  # as build_run does for fp16
    run.optimizer = AcceleratedOptimizer(bare, device_placement=False, scaler=scaler)
    accelerator.scaler, accelerator.native_amp, accelerator._optimizers = scaler, True, [run.optimizer]
    accelerator.state._mixed_precision = "fp16"
    return scaler


def test_fp16_unscales_before_it_clips_and_may_skip_a_step():
    run, _ = small_run(small_config())
    scaler = scaled(run)
    trace = OrderTrace(run)
    overflow = run.model.linear3.bias.register_hook(lambda gradient: gradient * torch.inf)
    take_step(run, trace)
    overflow.remove()
    assert trace.events[-1] == Event(Kind.SKIPPED_STEP)
    assert trace.events[:-1] == demanded_order(4, is_scaled=True)[:-1]
    take_step(run, trace)
    assert trace.events == demanded_order(4, is_scaled=True)
    take_step(run, OrderCheck(run))
    with pytest.raises(OrderError, match="event 15 must be unscale"):
        step_without_unscaling(run, OrderCheck(run))
    assert run.ranks.accelerator.scaler is scaler


def step_without_unscaling(run, observer):
    """Clips the scaled gradient: what torch's own clip does where Accelerate's was meant."""
    accelerator = run.ranks.accelerator
    accelerator.state._mixed_precision = "no"
    try:
        return take_step(run, observer)
    finally:
        accelerator.state._mixed_precision = "fp16"
