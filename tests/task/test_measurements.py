"""The forms of a loss or metric, and how batches of any size add up to one mean."""

import pytest
import torch

from lockstep.data import MicroBatch
from lockstep.errors import ConfigError
from lockstep.task import measure, named_values, share_of_mean

VALUES = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
WEIGHTS = torch.tensor([1.0, 0.5, 0.0, 3.0, 0.5])


def micro_batch(size, num_samples=5):
    """`size` samples of a global batch of `num_samples`."""
    ids = torch.arange(size)
    return MicroBatch(inputs=ids, targets=ids, ids=ids, step=0, slot=0, weight=1 / num_samples, is_last=True)


def test_one_number_per_sample_is_kept_per_sample():
    found = measure("task.loss", VALUES, 5)
    assert (found.total.item(), found.count, found.has_own_count) == (31, 5, False)
    assert torch.equal(found.per_sample, VALUES)


@pytest.mark.parametrize("mean", [torch.tensor(6.2), 6.2])
def test_a_mean_stands_for_each_of_its_samples(mean):
    found = measure("task.loss", mean, 5)
    assert found.total.item() == pytest.approx(31)
    assert (found.count, found.has_own_count, found.per_sample) == (5, False, None)


@pytest.mark.parametrize("pair", [(torch.tensor(31.0), torch.tensor(12)), [torch.tensor([31.0]), 12]])
def test_a_pair_brings_its_own_count(pair):
    found = measure("task.loss", pair, 5)
    assert (found.total.shape, found.count.shape) == ((), ())
    assert (found.total.item(), found.count.item(), found.has_own_count) == (31, 12, True)
    assert found.per_sample is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (torch.ones(5, 10), r"a tensor \(5, 10\)"),
        (torch.ones(4), r"a tensor \(4,\)"),
        ((torch.ones(5), torch.ones(5)), "a tuple"),
        ((1.0, 2.0, 3.0), "a tuple"),
        (None, "a NoneType"),
    ],
)
def test_any_other_form_is_refused(value, shown):
    rule = r"must be a number per sample \(5,\), their mean \(\), or a pair \(sum, count\)"
    with pytest.raises(ConfigError, match=rf"^task\.metrics\[f1\] = '{shown} for 5 samples': {rule}"):
        measure("task.metrics[f1]", value, 5)


def test_a_loss_may_have_named_parts_and_the_loss_itself_comes_first():
    assert named_values("task.loss", 3.0) == {"loss": 3.0}
    parts = named_values("task.loss", {"kl": 1.0, "loss": 3.0, "reconstruction": 2.0})
    assert list(parts.items()) == [("loss", 3.0), ("kl", 1.0), ("reconstruction", 2.0)]
    with pytest.raises(ConfigError, match=r"task\.loss = 'a dict of kl, sum': must have an entry 'loss'"):
        named_values("task.loss", {"kl": 1.0, "sum": 3.0})


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("form", ["per sample", "mean", "named parts"])
def test_the_shares_of_any_micro_batches_add_up_to_the_mean(size, form):
    forms = {
        "per sample": lambda part: part,
        "mean": lambda part: part.mean(),
        "named parts": lambda part: {"kl": part.sum(), "loss": part},
    }
    shares = [share_of_mean(forms[form](part), micro_batch(len(part))) for part in VALUES.split(size)]
    assert [share.count for share in shares] == [None] * len(shares)
    assert sum(share.total for share in shares).item() == pytest.approx(VALUES.mean().item())


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_with_counts_add_up_to_the_mean_over_what_they_count(size):
    """A weighted loss; sample 2 counts nothing, alone in its micro-batch too."""
    shares = [
        share_of_mean(((values * weights).sum(), weights.sum()), micro_batch(len(values)))
        for values, weights in zip(VALUES.split(size), WEIGHTS.split(size), strict=True)
    ]
    total, count = sum(share.total for share in shares), sum(share.count for share in shares)
    assert (total / count).item() == pytest.approx(((VALUES * WEIGHTS).sum() / WEIGHTS.sum()).item())


def test_a_loss_of_another_form_is_refused():
    with pytest.raises(ConfigError, match=r"task\.loss = 'a tensor \(5, 10\) for 5 samples'"):
        share_of_mean(torch.ones(5, 10), micro_batch(5))
