"""Which observer methods a step calls, and when."""

from lockstep.config import BatchConfig
from lockstep.engine import Observer, Observers, take_step
from runs import small_config, small_run

EVENTS = [name for name in vars(Observer) if name.startswith("on_")]


class Recorder(Observer):
    """Records each call with its arguments."""

    def __init__(self, calls, name=""):
        for event in EVENTS:
            setattr(self, event, lambda *arguments, event=event: calls.append((name + event, arguments)))


def test_every_event_of_a_step_is_observed_in_order():
    run, _ = small_run(small_config(batch=BatchConfig(global_size=64, micro_size=32)))
    calls = []
    result = take_step(run, Recorder(calls))
    assert [event for event, _ in calls] == [
        *("on_step_begin", "on_zero_grad"),
        *("on_micro_batch", "on_forward", "on_loss", "on_backward") * 2,
        *("on_sum", "on_unscale", "on_clip", "on_schedule", "on_update", "on_step_end"),
    ]
    assert all(arguments[0] is run for _, arguments in calls)
    given = {event: arguments[1:] for event, arguments in calls}
    assert given["on_forward"][0] is given["on_loss"][0] is given["on_backward"][0] is result.window[-1]
    assert given["on_forward"][1].shape == (32, 10)
    assert given["on_loss"][1].shape == (32,)
    assert given["on_clip"] == (result.grad_norm,)
    assert given["on_step_end"] == (result,)


def test_several_observers_are_called_in_the_order_given():
    run, _ = small_run(small_config())
    calls = []
    take_step(run, Observers(Recorder(calls, "one "), Recorder(calls, "two ")))
    names = [name for name, _ in calls]
    assert names[::2] == [f"one {name.removeprefix('two ')}" for name in names[1::2]]
