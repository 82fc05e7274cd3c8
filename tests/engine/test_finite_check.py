import pytest
import torch
from torch import nn

from lockstep.config import TrainConfig
from lockstep.engine import agreed_digest, train
from lockstep.engine.finite_check import FiniteCheck
from lockstep.engine.weights_digest import parameter_digests
from lockstep.errors import RunStopped
from lockstep.models.cnn import Cnn
from runs import fresh_ranks, small_config, small_run


@pytest.mark.parametrize("bit", [0, 7, 22, 31])
@pytest.mark.parametrize("place", [0, 1, 17, 255])
def test_each_flipped_bit_changes_one_digest(bit, place):
    model = Cnn()
    before = parameter_digests(model)
    bias = dict(model.named_parameters())["linear1.bias"]
    with torch.no_grad():
        bias.view(torch.int32)[place] ^= 1 << bit if bit < 31 else -(2**31)
    changed = (parameter_digests(model) != before).nonzero().flatten().tolist()
    assert [name for name, _ in model.named_parameters()].index("linear1.bias") == changed[0]
    assert len(changed) == 1


def test_swapped_values_and_swapped_parameters_are_noticed():
    model = nn.ParameterList([torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])])
    one, other = parameter_digests(model).tolist()
    assert one != other


def test_a_parameter_may_be_a_single_number():
    one, other = parameter_digests(nn.ParameterList([torch.tensor(1.0), torch.tensor(2.0)])).tolist()
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
def test_watch_names_the_first_step_and_its_slots(bad):
    ranks = fresh_ranks()
    watch = FiniteCheck(allows_overflow=False)
    fine = torch.tensor(1.0)
    assert watch.check(ranks) is None
    watch.add(1, torch.tensor([1.0, 2.0]), fine)
    assert watch.check(ranks) is None
    watch.add(2, torch.tensor([1.0, 2.0]), fine)
    watch.add(3, torch.tensor([1.0, bad]), torch.tensor(bad))
    watch.add(4, torch.tensor([bad, bad]), torch.tensor(bad))
    assert watch.check(ranks) == (3, [1])
    watch.add(5, torch.tensor([1.0, 2.0]), torch.tensor(bad))
    assert watch.check(ranks) == (5, [])
    allowing = FiniteCheck(allows_overflow=True)
    allowing.add(1, torch.tensor([1.0]), torch.tensor(bad))
    assert allowing.check(ranks) is None


def test_a_run_stops_at_the_first_step_that_is_not_finite_and_saves_nothing_of_it(monkeypatch):
    saves = []
    monkeypatch.setattr("lockstep.engine.loop.save_checkpoint_of", lambda run: saves.append(run.step))
    run, _ = small_run(small_config(train=TrainConfig(epochs=1, log_every=5, checkpoint_every=4)))
    calls = 0

    def poisoned(logits, labels):
        nonlocal calls
        calls += 1
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        return losses * torch.nan if calls == 5 * 4 + 3 else losses  # step 6, slot 2

    run.criterion = poisoned
    ids = run.plan.epoch_ids(0)[5, 2].tolist()
    with pytest.raises(RunStopped, match=r"step 6: .*lockstep replay unused/run --step 6") as stop:
        train(run)
    assert str(ids) in str(stop.value)
    assert saves == [4]
