from dataclasses import replace

import pytest
import torch
from torch import nn

from lockstep.config import TrainConfig
from lockstep.engine import agreed_digest, train
from lockstep.engine.checks.finite_check import FiniteCheck
from lockstep.engine.checks.weights_digest import state_tensors, tensor_digests
from lockstep.errors import RunStopped
from lockstep.task.models.cnn import Cnn
from runs import fresh_ranks, small_config, small_run


@pytest.mark.parametrize("bit", [0, 7, 22, 31])
@pytest.mark.parametrize("index", [0, 1, 17, 255])
def test_each_flipped_bit_changes_one_digest(bit, index):
    model = Cnn()
    before = digests(model)
    bias = dict(model.named_parameters())["linear1.bias"]
    with torch.no_grad():
        bias.view(torch.int32)[index] ^= 1 << bit if bit < 31 else -(2**31)
    changed = (digests(model) != before).nonzero().flatten().tolist()
    assert [name for name, _ in model.named_parameters()].index("linear1.bias") == changed[0]
    assert len(changed) == 1


def digests(model):
    return tensor_digests(state_tensors(model).values())


def test_swapped_values_change_the_digest():
    model = nn.ParameterList([torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])])
    one, other = digests(model).tolist()
    assert one != other


def test_a_parameter_may_be_a_scalar_or_a_column_of_one_row():
    column = torch.ones(1, 2)[:, 0]  # contiguous, with a stride of 2
    assert digests(nn.ParameterList([column])) == digests(nn.ParameterList([torch.ones(1)]))
    one, other = digests(nn.ParameterList([torch.tensor(1.0), torch.tensor(2.0)])).tolist()
    assert one != other


def test_digest_is_a_function_of_the_weights_alone():
    ranks = fresh_ranks()
    model = Cnn()
    digest = agreed_digest(model, ranks, step=1)
    assert digest == agreed_digest(model, ranks, step=2)
    assert len(digest) == 16
    model.to(memory_format=torch.contiguous_format)
    assert digest == agreed_digest(model, ranks, step=1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_check_names_the_first_bad_step_and_its_slots(bad):
    ranks = fresh_ranks()
    check = FiniteCheck(allows_overflow=False)
    fine = torch.tensor(1.0)
    assert check.check(ranks) is None
    check.add(1, torch.tensor([1.0, 2.0]), fine)
    assert check.check(ranks) is None
    check.add(2, torch.tensor([1.0, 2.0]), fine)
    check.add(3, torch.tensor([1.0, bad]), torch.tensor(bad))
    check.add(4, torch.tensor([bad, bad]), torch.tensor(bad))
    assert check.check(ranks) == (3, [1])
    check.add(5, torch.tensor([1.0, 2.0]), torch.tensor(bad))
    assert check.check(ranks) == (5, [])
    allowing = FiniteCheck(allows_overflow=True)
    allowing.add(1, torch.tensor([1.0]), torch.tensor(bad))
    assert allowing.check(ranks) is None


def test_a_run_stops_at_the_first_non_finite_step_and_does_not_save_it(monkeypatch):
    saves = []
    monkeypatch.setattr("lockstep.engine.loop.save_checkpoint_of", lambda run: saves.append(run.step))
    run, _ = small_run(small_config(train=TrainConfig(epochs=1, log_every=5, checkpoint_every=4)))
    calls = 0

    def poisoned(logits, labels):
        nonlocal calls
        calls += 1
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        return losses * torch.nan if calls == 5 * 4 + 3 else losses  # step 6, slot 2

    run.task = replace(run.task, loss=poisoned)
    ids = run.plan.step_ids(5)[2].tolist()
    with pytest.raises(RunStopped, match=r"step 6: .*lockstep replay unused/run --step 6") as stop:
        train(run)
    first = ", ".join(map(str, ids[:10]))
    assert f"the loss over samples {first} and 6 more is not finite" in str(stop.value)
    assert saves == [4]


def test_a_step_that_is_not_finite_is_not_scored():
    run, _ = small_run(small_config(train=TrainConfig(epochs=1, log_every=5, eval_every=3)))
    run.task = replace(run.task, loss=lambda logits, labels: logits.sum(dim=1) * torch.nan)
    with pytest.raises(RunStopped, match=r"step 1: the loss over samples .* and 54 more is not finite"):
        train(run)
    assert run.step == 3
    assert run.evaluation is None
