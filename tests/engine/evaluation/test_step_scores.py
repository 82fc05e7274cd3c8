"""What a logged step measures, and its record, for losses and metrics of every form."""

import pytest
import torch
from torch import nn

from lockstep.config import BatchConfig, Config, TrainConfig
from lockstep.engine import evaluate_run, step_record, take_step
from lockstep.errors import RankError
from lockstep.task import Task
from runs import built_run

INPUTS = torch.linspace(-1, 1, 40)[:, None]
TARGETS = 3 * INPUTS
WEIGHTS = torch.arange(40.0) % 4  # every fourth sample counts nothing


def squares(outputs, targets):
    return (outputs - targets[:, :1]).square().flatten()


def weighted(outputs, targets):
    return (squares(outputs, targets) * targets[:, 1]).sum(), targets[:, 1].sum()


def task_of(**parts):
    data = torch.utils.data.TensorDataset(INPUTS, torch.cat([TARGETS, WEIGHTS[:, None]], dim=1))
    return Task(**{"name": "lines", "model": lambda: nn.Linear(1, 1), "train": data, "loss": squares} | parts)


def config_of(micro_size=4) -> Config:
    """A global batch of 16: two whole steps and a short one of 8 an epoch."""
    batch = BatchConfig(global_size=16, micro_size=micro_size, eval_size=16)
    return Config(precision="no", batch=batch, train=TrainConfig(steps=3, log_every=1))


def one_step(task, micro_size=4):
    run = built_run(config_of(micro_size), task=task)
    ids = torch.from_numpy(run.plan.step_ids(0).ravel())
    outputs = run.model(INPUTS[ids]).detach()
    record = step_record(run, take_step(run, is_logged=True))
    return record, outputs, torch.cat([TARGETS, WEIGHTS[:, None]], dim=1)[ids]


@pytest.mark.parametrize("micro_size", [2, 4, 16])
def test_the_record_has_the_parts_of_the_loss_and_the_metrics_over_the_global_batch(micro_size):
    metrics = {
        "mae": lambda outputs, targets: (outputs - targets[:, :1]).abs().mean(),
        "weighted": weighted,
        "worst": lambda outputs, targets: squares(outputs, targets),
    }

    def loss(outputs, targets):
        return {"fit": squares(outputs, targets), "loss": squares(outputs, targets) + 1, "one": 1.0}

    record, outputs, targets = one_step(task_of(loss=loss, metrics=metrics), micro_size)
    error = squares(outputs, targets)
    expected = {
        "loss": error.mean() + 1,
        "fit": error.mean(),
        "one": 1,
        "mae": error.sqrt().mean(),
        "weighted": (error * targets[:, 1]).sum() / targets[:, 1].sum(),
        "worst": error.mean(),
    }
    assert list(record)[:6] == list(expected)
    for name, value in expected.items():
        assert record[name] == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize("micro_size", [2, 4, 16])
def test_a_loss_with_a_count_is_the_mean_over_what_it_counts(micro_size):
    record, outputs, targets = one_step(task_of(loss=weighted), micro_size)
    error = squares(outputs, targets)
    expected = (error * targets[:, 1]).sum() / targets[:, 1].sum()
    assert record["loss"] == pytest.approx(expected.item(), rel=1e-5)
    slopes = 2 * (outputs - targets[:, :1]).flatten()
    bias = (slopes * targets[:, 1]).sum() / targets[:, 1].sum()
    inputs = targets[:, 0] / 3
    weight = (slopes * targets[:, 1] * inputs).sum() / targets[:, 1].sum()
    assert record["grad_norm"] == pytest.approx(torch.stack([weight, bias]).norm().item(), rel=1e-5)


def test_the_record_of_a_step_whose_loss_counts_nothing_has_no_loss():
    run = built_run(config_of(), task=task_of(loss=lambda outputs, targets: (outputs.sum() * 0, 0)))
    record = step_record(run, take_step(run, is_logged=True))
    assert record["loss"] is None


def test_a_metric_that_counts_nothing_has_no_value():
    record, *_ = one_step(task_of(metrics={"none": lambda outputs, targets: (0.0, 0)}))
    assert record["none"] is None


def test_a_loss_that_changes_its_form_ends_the_run_and_says_how():
    form = squares
    run = built_run(config_of(), task=task_of(loss=lambda *pair: form(*pair)))
    form = weighted
    with pytest.raises(RankError, match=r"task\.loss returned a pair \(sum, count\) .*after no pair"):
        take_step(run)


def test_an_evaluation_scores_every_form_and_follows_the_headline():
    task = task_of(
        test=torch.utils.data.TensorDataset(INPUTS, torch.cat([TARGETS, WEIGHTS[:, None]], dim=1)),
        loss=lambda outputs, targets: {"fit": weighted(outputs, targets), "loss": squares(outputs, targets)},
        metrics={"mae": lambda outputs, targets: (outputs - targets[:, :1]).abs().mean()},
        headline="mae",
    )
    run = built_run(config_of(), task=task)
    record = evaluate_run(run)
    error = squares(run.model(INPUTS).detach(), TARGETS)
    assert record == pytest.approx(
        {
            "test_loss": error.mean().item(),
            "test_fit": ((error * WEIGHTS).sum() / WEIGHTS.sum()).item(),
            "test_mae": error.sqrt().mean().item(),
        },
        rel=1e-5,
    )
    assert list(run.evaluation.columns) == ["loss"]  # the only one known for each sample
    assert run.evaluation.score == -record["test_mae"]
