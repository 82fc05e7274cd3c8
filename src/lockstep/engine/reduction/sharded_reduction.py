"""Sums gradients for an optimizer that is sharded over the ranks (ZeRO-1), and shares what it updates."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property, reduce

import torch
import torch.distributed as dist
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.utils._foreach_utils import _group_tensors_by_device_and_dtype

from lockstep.engine.measuring.timers import StepTimer
from lockstep.engine.model_traits.try_model import ModelTraits
from lockstep.engine.optimizer.ownership import Owners
from lockstep.engine.reduction.exchange import gather_from_owners, sum_to_owners
from lockstep.engine.reduction.reduction import Reduction
from lockstep.engine.reduction.tree_sum import sum_of_rows
from lockstep.launch.ranks.ranks import Ranks


class ShardedReduction(Reduction):
    """The exact reduction, which leaves each rank the gradient of the parameters that it updates.

    Every parameter is updated whole by one rank, its owner, so its update has the bits of an update on every
    rank. The optimizer skips a parameter without a gradient, and so it makes state for its own ones alone.
    After the update the owners' weights go to all ranks on the way that the summed gradients would take:
    through the same flat buffer, in which the parameters of a rank are neighbours.

    In a watched step `.grad` holds the whole gradient on every rank, as it would if nothing were sharded.
    """

    def __init__(
        self,
        model: nn.Module,
        traits: ModelTraits,
        ranks: Ranks,
        owners: Owners,
        optimizer: AcceleratedOptimizer,
        timer: StepTimer,
        *,
        packs: bool | None = None,
    ) -> None:
        super().__init__(model, traits, ranks.world_size, "exact", nodes=ranks.nodes, packs=packs)
        self._rank, self._owners, self._optimizer, self._timer = ranks.rank, owners, optimizer, timer
        in_model = self._parameters
        self._parameters = sorted(in_model, key=owners.__getitem__)
        # What was computed in the order of the flat buffer, in that of torch's `get_total_norm`.
        number = {parameter: index for index, parameter in enumerate(self._parameters)}
        groups = _group_tensors_by_device_and_dtype([in_model], with_indices=True)  # type: ignore[list-item]
        order = [number[in_model[index]] for _, indices in groups.values() for index in indices]
        self._order = torch.tensor(order, device=self._device)
        ranks_of = [owners[parameter] for parameter in self._parameters]
        first = sum(owner < self._rank for owner in ranks_of)
        self._updated = slice(first, first + ranks_of.count(self._rank))
        self._hidden: list[tuple[Tensor, Tensor | None]] = []

    def sum_over_ranks(self, num_micro_batches: int, window: int) -> None:
        """Leaves the gradients of this rank's parameters in `.grad`; in a watched step all."""
        super().sum_over_ranks(num_micro_batches, window)
        if self._is_watched:
            self._gather()
            for parameter, view in zip(self._parameters, self._flat_buffer().views, strict=False):
                parameter.grad = view.clone()  # the weights will come through the buffer

    def total_norm(self) -> Tensor:
        """The Euclidean norm of all ranks' gradients together, (), with the bits of `get_total_norm`.

        That is the norm of the norms of the parameters' gradients, which their owners compute.
        """
        own = [p.grad for p in self._split(self._parameters)[0] if p.grad is not None]
        dtype = reduce(torch.promote_types, (each.dtype.to_real() for each in self._parameters))
        norms = torch.zeros(len(self._parameters), dtype=dtype, device=self._device)
        if own:
            norms[self._updated] = torch.stack(torch._foreach_norm(own))
        dist.all_reduce(norms)  # exact: each is added to zeros
        return torch.linalg.vector_norm(norms[self._order])

    def begin_update(self) -> bool:
        """Leaves `.grad` to this rank's parameters alone. In fp16 an overflow becomes that of all ranks."""
        scaler = self._optimizer.scaler
        if scaler is not None:
            found_inf = scaler._found_inf_per_device(self._optimizer.optimizer)  # empty without parameters
            if not found_inf:
                found_inf[self._device] = torch.zeros((), device=self._device)
            for each in found_inf.values():
                dist.all_reduce(each, op=dist.ReduceOp.MAX)
        is_empty = super().begin_update()
        _, others = self._split(self._parameters)
        self._hidden = [(parameter, parameter.grad) for parameter in others]
        for parameter in others:
            parameter.grad = None
        return is_empty

    @torch.no_grad()
    def end_step(self) -> None:
        """Gives every rank the weights that the others have updated, and the sums of the buffers."""
        own, others = self._split(self._parameters)
        views, other_views = self._split(self._flat_buffer().views[: len(self._parameters)])
        with self._timer.section("communication"):
            if own:
                torch._foreach_copy_(views, own)
            self._gather()
            if others:
                torch._foreach_copy_(others, other_views)
            super().end_step()
        for parameter in () if self._is_watched else own:
            parameter.grad = None  # its memory holds weights now
        for parameter, gradient in self._hidden:
            parameter.grad = gradient

    def _split(self, values: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Of values for each parameter, those of this rank's, and those of the others'."""
        first, end = self._updated.start, self._updated.stop
        return [*values[first:end]], [*values[:first], *values[end:]]

    def _exchange_flat(self, num_active: int) -> None:
        flat, counts = self._flat_buffer(), []
        if self._has_count:  # every rank divides by it before the update
            counts = [torch.empty_like(flat.views[-1]) for _ in range(self._world_size)]
            dist.all_gather(counts, flat.views[-1])
        for buffer, bounds in zip(flat.buffers, self._bounds, strict=True):
            sum_to_owners(buffer, bounds, self._rank, num_active, self._nodes)
        if counts:
            flat.views[-1].copy_(sum_of_rows(torch.stack(counts[:num_active])))

    def _gather(self) -> None:
        for buffer, bounds in zip(self._flat_buffer().buffers, self._bounds, strict=True):
            gather_from_owners(buffer, bounds, self._rank, self._nodes)

    @cached_property
    def _bounds(self) -> list[list[int]]:
        """Where each rank's part of each flat buffer begins, and its length. The last one has the buffers."""
        flat, last = self._flat_buffer(), self._world_size - 1
        owners = [self._owners[parameter] for parameter in self._parameters]
        owners += [last] * (len(flat.views) - len(owners))
        all_bounds = []
        for buffer in flat.buffers:
            here = [
                (owner, offset)
                for owner, (dtype, offset) in zip(owners, flat.places, strict=True)
                if dtype == buffer.dtype
            ]
            firsts = [bisect_left(here, (rank, 0)) for rank in range(1, self._world_size)]
            inner = [here[first][1] if first < len(here) else len(buffer) for first in firsts]
            all_bounds.append([0, *inner, len(buffer)])
        return all_bounds
