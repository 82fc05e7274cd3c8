"""Who updates which parameter of a sharded optimizer, and how the sums get there."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from lockstep.config import Config, OptimizerConfig
from lockstep.engine import OPTIMIZERS, build_optimizer, drop_others, find_owners, own_part, parameters_of
from lockstep.engine.optimizer.optimizer import FUSED
from lockstep.engine.optimizer.optimizer_kinds import optimizer_kind
from lockstep.engine.reduction.exchange import _overlaps
from lockstep.errors import ConfigError


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
def test_parameters_are_shared_out_evenly(world_size):
    sizes = [1000, 10, 700, 700, 300, 20, 0, 600, 250, 250, 900, 5]
    parameters = [torch.zeros(size) for size in sizes]
    owners = find_owners(parameters, world_size)
    assert owners.keys() == set(parameters)
    shares = [sum(each.nbytes for each in parameters if owners[each] == rank) for rank in range(world_size)]
    assert max(shares) <= 4 / 3 * max(4 * max(sizes), 4 * sum(sizes) / world_size)
    assert find_owners(parameters, world_size) == owners


def test_more_ranks_than_parameters_leave_some_without():
    parameters = [torch.zeros(3), torch.zeros(5)]
    assert list(find_owners(parameters, 4).values()) == [0, 1]


@pytest.mark.parametrize(
    ("name", "fused"), [*((name, None) for name in OPTIMIZERS), *((name, True) for name in FUSED)]
)
def test_torchs_optimizers_update_each_parameter_alone(name, fused):
    """What a sharded optimizer rests on: without the other gradients a parameter gets the same bits."""
    model = nn.Sequential(nn.Linear(7, 13, bias=False), nn.Tanh(), nn.Linear(13, 3, bias=False))
    part = deepcopy(model)
    config = OptimizerConfig(name=name, lr=0.1)
    optimizers = [build_optimizer(each, config, fused=fused) for each in (model, part)]
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        for one, other in zip(model.parameters(), part.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone() if other is part[0].weight else None
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(part[0].weight, model[0].weight)
    owners = {part[0].weight: 0, part[2].weight: 1}
    drop_others(optimizers[1], owners, rank=0)
    assert set(optimizers[1].state) == {part[0].weight}

    owners = dict.fromkeys(parameters_of(optimizers[0]), 1) | {model[0].weight: 0}
    state = own_part(optimizers[0].state_dict(), optimizers[0], owners, rank=0)
    assert list(state["state"]) == [0]


class Coupled(torch.optim.SGD):
    pass


class PerParameter(torch.optim.SGD):
    is_per_parameter = True


def test_an_own_optimizer_must_say_that_it_fits():
    with pytest.raises(ConfigError, match=r"optimizer\.sharded = True: needs .* if Coupled does, state"):
        optimizer_kind(OptimizerConfig(name=f"{__name__}:Coupled", sharded=True))
    assert optimizer_kind(OptimizerConfig(name=f"{__name__}:PerParameter", sharded=True))


def test_the_fast_reduction_is_refused():
    with pytest.raises(ConfigError, match=r"optimizer\.sharded = True: needs exact reduction"):
        Config(reduction="fast", optimizer=OptimizerConfig(sharded=True))


@pytest.mark.parametrize("bounds", [[0, 6], [0, 4, 8], [0, 3, 12], [0, 1, 1, 9], [0, 0, 0, 2, 8]])
def test_slices_and_parts_exchange_what_they_have_in_common(bounds):
    ranks = range(len(bounds) - 1)
    tables = [_overlaps(bounds, rank) for rank in ranks]
    for rank in ranks:
        slice_in_parts, part_in_slices = tables[rank]
        assert sum(slice_in_parts) == bounds[-1] // len(ranks)
        assert sum(part_in_slices) == bounds[rank + 1] - bounds[rank]
        assert part_in_slices == [tables[other][0][rank] for other in ranks]
