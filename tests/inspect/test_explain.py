"""`lockstep explain`: its numbers are right, its run is that of `train`, and its output shows both."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import TensorDataset

import lockstep
import tasks
from lockstep.commands.main import main
from lockstep.config import BatchConfig, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from lockstep.data import MicroBatch
from lockstep.engine import format_events, take_step
from lockstep.engine.checks.expected_events import expected_order
from lockstep.errors import ConfigError
from lockstep.inspect.explain import explain_step
from lockstep.inspect.explanation_table import Explanation, Row
from lockstep.inspect.recurrence import measure_recurrences
from lockstep.task import share_of_mean
from runs import built_run, fresh_ranks, small_config, small_run


def explained(step, **changes):
    config = small_config(**changes)
    run, _ = small_run(config, fresh_ranks(config.precision))
    return run, explain_step(run, config, step)


@pytest.mark.parametrize("reduction", ["exact", "fast"])
def test_sgd_matches_its_formula_to_the_last_bit(reduction):
    optimizer = OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.001, max_grad_norm=0.5)
    for step in (1, 7):
        _, explanation = explained(step, optimizer=optimizer, reduction=reduction)
        assert [row.off_formula for row in explanation.rows] == [0] * 6
        assert [row.status for row in explanation.rows] == ["updated"] * 6


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_matches_its_formula_up_to_rounding(name, precision):
    optimizer = OptimizerConfig(name=name, weight_decay=0.01)
    _, explanation = explained(3, optimizer=optimizer, precision=precision)
    for row in explanation.rows:
        assert row.off_formula < 4, row


def test_norms_and_clipping_match_the_step():
    config = small_config(optimizer=OptimizerConfig(max_grad_norm=0.1))
    run, _ = small_run(config)
    take_step(run)
    before = deepcopy(run.model)
    explanation = explain_step(run, config, 2)
    assert run.step == 2
    whole = sum(row.gradient_norm**2 for row in explanation.rows) ** 0.5
    assert sum(row.clipped_norm**2 for row in explanation.rows) ** 0.5 == pytest.approx(0.1, rel=1e-4)
    assert whole > 0.1
    for row, (name, old), new in zip(
        explanation.rows, before.named_parameters(), run.model.parameters(), strict=True
    ):
        assert (row.name, row.shape) == (name, tuple(old.shape))
        assert row.norm == pytest.approx(old.double().norm().item())
        assert row.update_norm == pytest.approx((new - old).norm().item(), rel=1e-4)
        assert row.clipped_norm / row.gradient_norm == pytest.approx(0.1 / whole, rel=1e-4)
    assert f"gradient norm {whole:.4g}, limit 0.1: scaled by" in explanation.facts[1]


def test_a_module_in_no_group_is_frozen():
    optimizer = OptimizerConfig(groups={"gru": 0.01})
    _, explanation = explained(2, model=ModelConfig(name="cnn-gru"), optimizer=optimizer)
    for row in explanation.rows:
        if row.name.startswith("cnn."):
            assert (row.group, row.status, row.update_norm) == ("", "frozen", 0)
            assert row.gradient_norm is row.clipped_norm is row.off_formula is None
        else:
            assert (row.group, row.status) == ("gru", "updated")


def test_the_explained_run_is_the_trained_run():
    config = small_config(model=ModelConfig(name="rnn"), train=TrainConfig(epochs=2))
    run, _ = small_run(config)
    explain_step(run, config, 12)
    plain, _ = small_run(config)
    for _ in range(12):
        take_step(plain)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, run.model.state_dict()[name]), name


def test_the_order_is_printed_with_its_verdict():
    _, explanation = explained(1)
    assert explanation.traces == [(format_events(expected_order(4, is_scaled=False)), "")]
    assert "rank 0: zero_grad → (forward → loss → backward) x 4 → gradient sum" in explanation.text()
    assert "checked: in the expected order" in explanation.text()


def test_ranks_with_the_same_trace_share_a_line():
    row = Row(
        name="w",
        shape=(2, 3),
        group="model",
        norm=0.0,
        gradient_norm=1.0,
        clipped_norm=None,
        update_norm=2.0,
        off_formula=0.0,
        status="updated",
    )
    traces = [("a", ""), ("a", ""), ("b", "event 1: expected a, got b"), ("a", "")]
    text = Explanation(title="t", traces=traces, formula="θ", rows=[row], facts=["f"]).text()
    assert "ranks 0, 1, 3: a\n    checked: in the expected order" in text
    assert "rank 2: b\n    OUT OF ORDER: event 1: expected a, got b" in text
    assert "checked: within 4 ulp, as the formula says" in text
    wrong = replace(row, name="v", off_formula=7.5)
    text = Explanation(title="t", traces=traces, formula="θ", rows=[row, wrong], facts=["f"]).text()
    assert "OFF THE FORMULA by more than 4 ulp: v" in text
    (line,) = [line for line in text.splitlines() if line.startswith("w ")]
    assert line.split() == ["w", "2", "x", "3", "model", "0", "1", "-", "2", "-", "same", "bits", "updated"]


def unrolled_gradients(run, window):
    """‖∂J/∂h‖ of each row of Rnn, by plain matrix products."""
    layer = run.model.rnn
    squares = torch.zeros(28, dtype=torch.float64)
    for batch in window:
        h, states = torch.zeros(len(batch.targets), 128), []
        for row in batch.inputs.squeeze(1).unbind(1):
            inner = (
                row @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0
            )
            h = inner.tanh()
            h.retain_grad()
            states.append(h)
        share_of_mean(run.task.loss(run.model.head(h), batch.targets), batch).total.backward()
        squares += torch.stack([state.grad.double().square().sum() for state in states])
    run.model.zero_grad()
    return squares.sqrt()


def test_gradients_of_the_hidden_states_match_a_plain_unrolled_rnn():
    run, _ = small_run(small_config(model=ModelConfig(name="rnn")))
    for _ in range(9):
        take_step(run)
    window: list[MicroBatch] = next(run.windows)  # the short one
    (recurrence,) = measure_recurrences(run, window)
    assert all(p.grad is not None for p in run.trained)  # the step's own gradients are untouched
    assert recurrence.gradient_norms == pytest.approx(unrolled_gradients(run, window).tolist(), rel=1e-3)
    assert recurrence.name == "rnn"
    assert recurrence.spectral_norm == pytest.approx(
        torch.linalg.svdvals(run.model.rnn.weight_hh_l0).max().item()
    )

    with torch.no_grad():
        run.model.rnn.weight_ih_l0.mul_(1000)
    (recurrence,) = measure_recurrences(run, window)
    assert min(recurrence.saturated) > 0.9
    assert recurrence.gradient_norms[0] < 1e-6 * recurrence.gradient_norms[-1]


def test_a_frozen_gru_is_measured_too():
    optimizer = OptimizerConfig(groups={"cnn": 0.01})
    _, explanation = explained(1, model=ModelConfig(name="cnn-gru"), optimizer=optimizer)
    assert [fact.partition(" ")[0] for fact in explanation.facts[2:]] == ["gru.gru:"] * 3


@pytest.mark.parametrize("step", [0, 11])
def test_a_step_outside_the_run_is_refused(step):
    config = small_config(batch=BatchConfig(global_size=64, micro_size=64))
    run, _ = small_run(config)
    with pytest.raises(ConfigError, match=rf"--step = {step}: must be from 1 to 10"):
        explain_step(run, config, step)


@pytest.mark.parametrize("words", [["--step", "0"], ["--step", "x"], [], ["--step", "-1"], ["--step=1.5"]])
def test_a_wrong_step_is_one_line_with_exit_code_2(words, capsys):
    assert main(["explain", "--data.name", "synthetic", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lockstep: error: --step = ")
    assert len(error.splitlines()) == 1


def test_help_shows_the_options(capsys):
    assert main(["explain", "--help"]) == 0
    assert "--step N" in capsys.readouterr().out


def test_a_step_of_a_task_without_classes_is_explained():
    config = small_config(optimizer=OptimizerConfig(name="rmsprop", args={"alpha": 0.9}))
    batch = BatchConfig(global_size=32, micro_size=8)
    config = replace(config, data=DataConfig(), model=ModelConfig(), batch=batch)
    text = explain_step(built_run(config, task=tasks.line()), config, 2).text()
    assert "checked: in the expected order" in text
    assert "no formula of this optimizer" in text
    assert "random guess" not in text


class Packed(torch.nn.Module):
    """Reads sequences in a form that has no rows to split."""

    def __init__(self):
        super().__init__()
        self.gru, self.head = torch.nn.GRU(3, 4, batch_first=True), torch.nn.Linear(4, 1)

    def forward(self, inputs):
        lengths = torch.full((len(inputs),), inputs.shape[1])
        _, last = self.gru(pack_padded_sequence(inputs, lengths, batch_first=True))
        return self.head(last[0]).squeeze(1)


def test_a_recurrence_over_packed_sequences_is_left_out():
    task = lockstep.Task(
        name="packed",
        model=Packed,
        train=TensorDataset(torch.randn(16, 5, 3), torch.randn(16)),
        loss=lambda outputs, targets: (outputs - targets).square(),
    )
    config = small_config(
        batch=BatchConfig(global_size=8, micro_size=4), model=ModelConfig(), data=DataConfig()
    )
    run = built_run(config, task=task)
    explanation = explain_step(run, config, 1)
    assert "loss" in explanation.facts[0]
    assert not any(fact.startswith("gru:") for fact in explanation.facts)
