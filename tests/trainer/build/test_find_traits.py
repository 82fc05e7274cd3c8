"""What a run finds out about its model before step 1, and refuses by name."""

from dataclasses import replace
from threading import Event

import pytest
import torch
from torch import nn

import any_models
import tasks
from lockstep.config import BatchConfig, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from lockstep.data import MicroBatch, samples_of
from lockstep.engine import check_sizes, evaluate_run, take_step, train, use_deterministic_kernels
from lockstep.errors import ConfigError, RankError, RunStopped
from lockstep.trainer import build_run, find_task, make_parts
from lockstep.trainer.build import find_traits
from lockstep.trainer.build.find_traits import try_evaluation
from runs import fresh_ranks, small_config, small_run


def config_of(name, *, micro_size=16, num_train=148, reduction="exact", **model):
    return small_config(
        model=ModelConfig(name=f"any_models:{name}", **model),
        data=DataConfig(name="synthetic", num_train=num_train),
        batch=BatchConfig(global_size=64, micro_size=micro_size),
        train=TrainConfig(steps=4, log_every=1, eval_every=9, checkpoint_every=9),
        optimizer=OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.5),
        reduction=reduction,
    )


def test_a_parameter_that_is_never_used_is_left_alone():
    run, _ = small_run(config_of("Transformer"))
    assert set(run.traits.use.never) == {"unused.weight", "unused.bias"}
    assert run.traits.use.sometimes
    before = run.model.unused.weight.clone()
    for _ in range(4):
        take_step(run)
    assert torch.equal(run.model.unused.weight, before)
    assert run.model.unused.weight.grad is None


def test_trials_that_take_long_are_announced(monkeypatch):
    """The deep network of configs/best.yaml takes minutes on a CPU."""
    said, lines = Event(), []

    def say(line):
        lines.append(line)
        said.set()

    def check_slowly(*args):
        assert said.wait(30)

    for name, value in (("SILENT_SECONDS", 0), ("say", say), ("check_sizes", check_slowly)):
        monkeypatch.setattr(find_traits, name, value)
    small_run(config_of("SmallBatch"))
    assert lines == ["trying out the model on its first samples; on cpu it takes its time"]


def test_trials_leave_the_model_as_it_was():
    config, task = find_task(config_of("SmallBatch"), None)
    ranks = fresh_ranks()
    parts = make_parts(config, task, ranks)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    run = build_run(config, ranks, parts)
    assert run.model.norm.num_batches_tracked == 0
    assert run.model.norm.running_mean.eq(0).all()
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert torch.equal(torch.rand(3), expected)


def test_a_model_that_does_not_repeat_its_bits_is_refused_or_with_fast_reduction_warned_of():
    with pytest.raises(
        ConfigError, match=r"model\.name = 'any_models:OwnGenerator': two trials from equal seeds"
    ):
        small_run(config_of("OwnGenerator"))
    run, _ = small_run(config_of("OwnGenerator", reduction="fast"))
    assert run.warnings[0].endswith("first in the loss, so this run cannot be repeated")


def test_a_last_micro_batch_that_is_too_small_for_the_model_is_refused_and_can_be_dropped():
    config = config_of("SmallBatch", num_train=65)
    with pytest.raises(ConfigError, match=r"batch\.micro_size = 16: leaves 1 sample for .*--data\.drop-last"):
        small_run(config)
    run, _ = small_run(
        small_config(
            model=config.model,
            batch=config.batch,
            data=DataConfig(name="synthetic", num_train=65, drop_last=True),
        )
    )
    assert run.plan.steps_per_epoch == 1


def test_what_a_short_micro_batch_raises_is_one_line():
    def loss_of(batch):
        if len(batch.ids) < 2:
            raise RuntimeError("too few\nand more about it")
        return batch.inputs.sum()

    whole, short = (
        MicroBatch(
            inputs=torch.ones(size),
            targets=None,
            ids=torch.arange(size),
            step=0,
            slot=0,
            weight=1,
            is_last=True,
        )
        for size in (2, 1)
    )
    with pytest.raises(ConfigError, match=r"micro_size = 2: leaves 1 sample .* \(too few\); ") as caught:
        check_sizes(nn.Linear(1, 1), loss_of, [whole, short], "model.name", "line")
    assert "\n" not in str(caught.value)


def test_a_buffer_without_a_rule_is_refused_until_the_user_says_that_it_may_be_averaged():
    with pytest.raises(ConfigError, match=r"model\.average_buffers = \(\): does not name buffer 'peak'"):
        small_run(config_of("RunningPeak"))
    run, _ = small_run(config_of("RunningPeak", average_buffers=("peak",)))
    take_step(run)
    assert run.model.peak.any()


def test_a_late_gradient_ends_the_run_by_name_and_naming_it_before_mends_it(monkeypatch):
    run, _ = small_run(config_of("LateLayer"))
    assert set(run.traits.use.never) == {"late.weight", "late.bias"}
    monkeypatch.setattr(any_models.LateLayer, "is_used", True)
    with pytest.raises(
        RunStopped, match=r"step 1: parameter 'late\.weight' got a gradient.*--model\.sometimes-used late"
    ):
        train(run)
    monkeypatch.setattr(any_models.LateLayer, "is_used", False)
    run, _ = small_run(config_of("LateLayer", sometimes_used=("late.*",)))
    monkeypatch.setattr(any_models.LateLayer, "is_used", True)
    before = run.model.late.weight.clone()
    take_step(run)
    assert not torch.equal(run.model.late.weight, before)


def test_an_evaluation_leaves_modules_in_their_own_modes_and_buffers_alone():
    run, _ = small_run(config_of("SmallBatch"))
    run.model.train()
    run.model.norm.eval()
    before = run.model.norm.running_mean.clone()
    evaluate_run(run)
    assert run.model.training
    assert not run.model.norm.training
    assert torch.equal(run.model.norm.running_mean, before)
    assert isinstance(run.model.norm, nn.BatchNorm1d)


@pytest.fixture
def _kernels_as_on_a_gpu(monkeypatch):
    """Torch says of some operations on a CPU too that they have no deterministic form."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    torch.backends.cudnn.benchmark = True
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


@pytest.mark.usefixtures("_kernels_as_on_a_gpu")
@pytest.mark.parametrize("in_evaluation", [False, True])
def test_an_operation_without_a_deterministic_form_is_refused_by_name_or_warned_of(in_evaluation):
    config, task = find_task(config_of("NoDeterministicForm", args={"in_evaluation": in_evaluation}), None)
    ranks = fresh_ranks()
    parts = make_parts(config, task, ranks)
    use_deterministic_kernels(allow_nondeterministic=False)
    assert not torch.backends.cudnn.benchmark
    with pytest.raises(ConfigError, match="reduction = 'exact': put_ has no deterministic form"):
        build_run(config, ranks, parts)
    use_deterministic_kernels(allow_nondeterministic=True)
    with pytest.warns(UserWarning, match="put_ does not have a deterministic implementation"):
        run = build_run(config, ranks, parts)
    use_deterministic_kernels(allow_nondeterministic=False)  # so it is an operation that no trial has met
    kind, meet = (ConfigError, evaluate_run) if in_evaluation else (RankError, take_step)
    with pytest.raises(kind, match="put_ has no deterministic form"):
        meet(run)


@pytest.mark.usefixtures("_kernels_as_on_a_gpu")
def test_an_update_without_a_deterministic_form_is_refused_by_name():
    run, _ = small_run(small_config())
    value, place = torch.zeros(1), torch.zeros(1, dtype=torch.long)
    run.optimizer.optimizer.register_step_pre_hook(lambda *_: value.put(place, value))
    use_deterministic_kernels(allow_nondeterministic=False)
    with pytest.raises(RankError, match="put_ has no deterministic form"):
        take_step(run)


@pytest.mark.usefixtures("_kernels_as_on_a_gpu")
def test_a_workspace_with_which_cublas_does_not_repeat_its_bits_is_refused(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(ConfigError, match="CUBLAS_WORKSPACE_CONFIG = ':0:0': exact reduction needs"):
        use_deterministic_kernels(allow_nondeterministic=False)


def test_a_lack_of_memory_in_a_trial_is_no_data_that_does_not_fit():
    def too_large(*_):
        return torch.empty(2**50)

    task = replace(tasks.sentences(), metrics={"large": too_large}, headline="loss")
    with pytest.raises(RuntimeError, match="allocate memory"):
        try_evaluation(task, task.model(), samples_of("task.test", task.test(), 0), torch.device("cpu"), 0)
    batch = MicroBatch(
        inputs=torch.ones(2), targets=None, ids=torch.arange(2), step=0, slot=0, weight=0.5, is_last=True
    )
    with pytest.raises(RuntimeError, match="allocate memory"):
        check_sizes(nn.Linear(1, 1), too_large, [batch], "model.name", "line")
