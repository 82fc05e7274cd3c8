"""Sums gradients over micro-batches and ranks, exact or fast. Buffers and counts travel with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lockstep.config import ReductionName
from lockstep.data import MicroBatch
from lockstep.engine.model_traits.try_model import ModelTraits
from lockstep.engine.reduction.exchange import REDUCTIONS
from lockstep.engine.reduction.flat_buffer import FlatBuffer
from lockstep.engine.reduction.step_buffers import StepBuffers
from lockstep.engine.reduction.tree_sum import TreeSum
from lockstep.errors import RankError
from lockstep.launch.ranks.node_groups import NodeGroups


class Reduction:
    """Turns the gradients of all ranks' micro-batches into the gradient of the global batch.

    Each micro-batch's gradient is computed on its own, so its bits do not depend on where that happens. The
    buffers that its forward changed travel with it, to be averaged.

    exact: one fixed binary tree over the slots of the global batch, whichever rank computes each slot. A
    rank adds its own slots like a binary counter. The ranks' blocks, each a complete subtree, are then added
    in the same tree. Extra memory: at most log2(window) gradients in the tree, and two more for the exchange
    if there are several ranks.

    fast: a rank adds its slots one after the other, on CUDA in a tree; one all-reduce adds the ranks' sums in
    whatever order the communication library chooses. It works with any number of micro-batches per rank.
    Extra memory: one gradient if there are several ranks; on CUDA as for exact.

    On CUDA both pack each micro-batch's gradient into one flat buffer, on one rank as on many. So tensors are
    aligned alike on every topology, which decides kernels and with them bits, and each addition launches one
    kernel.
    """

    def __init__(
        self,
        model: nn.Module,
        traits: ModelTraits,
        world_size: int,
        name: ReductionName,
        *,
        nodes: NodeGroups | None = None,
        packs: bool | None = None,
    ) -> None:
        """Makes it for a run.

        Args:
            model: the network as the loop calls it.
            traits: what the trials found out about it.
            world_size: number of ranks.
            name: 'exact' or 'fast'.
            nodes: equal nodes, within which the exact reduction adds first.
            packs: whether to pack each gradient; None: on CUDA.
        """
        self.model = model
        """The network as the loop calls it, on the device, under autocast."""
        self.buffers = StepBuffers(model, traits.rules)
        self._exchange = REDUCTIONS[name]
        # Autograd itself adds a pair, the lowest level of the tree, while both are still in the cache.
        self._num_autograd_adds = 2 if name == "exact" else None
        self._world_size, self._nodes = world_size, nodes
        self._device = next(model.parameters()).device
        self._packs = self._device.type == "cuda" if packs is None else packs
        self._is_packed = False  # whether the flat buffer holds all that this rank adds in this step
        self._parameters = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and name not in traits.use.never
        ]
        self._are_alike = len({parameter.dtype for parameter in self._parameters}) == 1
        self._never_used = [(name, model.get_parameter(name)) for name in traits.use.never]
        self.unexpected = ""
        """The first parameter that got a gradient although it counts as never used; it was dropped."""
        self._tree = TreeSum()
        self._num_pending = 0  # micro-batches whose gradients are still in `.grad`
        self._pending_extras: list[Tensor] = []  # the sum of the buffers that these left, and of their counts
        self._has_count = traits.loss.has_own_count
        self._counts: list[Tensor] = []  # of the micro-batch in progress
        self.total_count: Tensor | None = None
        """What the loss of the last step counted over the global batch, shape (), if it counts at all."""
        self._flat: FlatBuffer | None = None
        self._updated = slice(None)  # those of the parameters that this rank updates
        self._is_watched = False
        self._sums: list[Tensor] = []  # of the buffers, over the global batch
        self._num_micro_batches = 0  # of the global batch

    def begin_step(self, *, is_watched: bool = False) -> None:
        """Called before the window.

        Args:
            is_watched: whether anyone reads `.grad` in this step or after it: it must then be whole on every
                rank.
        """
        self._is_watched = is_watched
        self.buffers.begin_step()
        self._is_packed = False

    @contextmanager
    def accumulate(self, batch: MicroBatch) -> Iterator[None]:
        """The context for the forward and backward of one micro-batch."""
        self.buffers.begin_micro_batch()
        yield
        if self._packs:
            self._add_packed(batch)
            return
        averaged = [value.clone() for value in self.buffers.end_micro_batch()]
        extras, self._counts = [*averaged, *self._counts], []
        if self._pending_extras:
            torch._foreach_add_(self._pending_extras, extras)
        else:
            self._pending_extras = extras
        self._num_pending += 1
        if self._num_pending == self._num_autograd_adds or batch.is_last:
            leaf = [*self._take_gradients(), *self._pending_extras]
            self._tree.add(leaf, level=self._num_pending - 1)
            self._num_pending, self._pending_extras = 0, []

    def end_backward(self) -> None:
        """Called right after the backward of a micro-batch: takes its gradient out of `.grad` if it packs."""
        if self._packs:
            views, first, end = self._flat_buffer().views, len(self._parameters), self._end_of_buffers()
            torch._foreach_copy_(views[:first] + views[end:], [*self._take_gradients(), *self._counts])
            self._counts = []

    def packed(self) -> list[Tensor]:
        """A copy of what the micro-batch in progress has packed, by dtype."""
        return [buffer.clone() for buffer in self._flat_buffer().buffers]

    def add_count(self, count: Tensor | None) -> None:
        """What the loss of this micro-batch is divided by, shape (), if it counts; to be called once in it.

        Raises:
            RankError: the loss counted in the trials before step 1 and does not now, or the other way round.
        """
        if (count is not None) != self._has_count:
            before, now = ("a pair (sum, count)", "no pair")[:: 1 if self._has_count else -1]
            raise RankError(f"task.loss returned {now} for a micro-batch, after {before}; return one form")
        if count is not None:
            self._counts.append(count.detach().float().reshape(()))

    def sum_over_ranks(self, num_micro_batches: int, window: int) -> None:
        """Leaves the gradient of the global batch in `.grad`.

        Args:
            num_micro_batches: how many the global batch has, at the end of an epoch fewer than it has slots.
            window: slots per rank.
        """
        total = None if self._tree.is_empty else self._tree.total()
        if self._packs:
            if total is not None:
                torch._foreach_copy_(self._flat_buffer().buffers, total)
            elif not self._is_packed:
                self._flat_buffer().fill(None)
            total = self._flat_buffer().views
        elif self._world_size > 1:
            self._flat_buffer().fill(total)
            total = self._flat_buffer().views
        if self._world_size > 1:
            num_active = -(-num_micro_batches // window)
            self._exchange_flat(num_active)
            if num_active < self._world_size:
                self.buffers.share_agreed()
        assert total is not None, "a single rank has every micro-batch"
        num_gradients = len(self._parameters)
        gradients = total[:num_gradients][self._updated]
        if self._has_count:
            self.total_count = total[-1].clone()  # the next step writes there
            if gradients:
                torch._foreach_div_(gradients, torch.where(total[-1] == 0, 1, total[-1]))
        for parameter, gradient in zip(self._parameters[self._updated], gradients, strict=True):
            parameter.grad = gradient
        self._sums = total[num_gradients : len(total) - self._has_count]
        self._num_micro_batches = num_micro_batches

    def total_norm(self) -> Tensor:
        """The Euclidean norm of all gradients in `.grad` together, ()."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if not gradients or not self._are_alike:
            return nn.utils.get_total_norm(gradients)
        # What that does with tensors of one dtype; its way there takes longer than these three launches.
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))

    def begin_update(self) -> bool:
        """Called before the update: clears the gradient if the loss of the global batch counted nothing.

        No parameter is updated then. Waits for the device if the loss counts. Returns whether it did.
        """
        if self.total_count is None or self.total_count.item() != 0:
            return False
        for parameter in self._parameters:
            parameter.grad = None  # an optimizer leaves such a parameter alone: no decay, no momentum
        return True

    def end_step(self) -> None:
        """Called after the update: leaves the combined buffers in the model."""
        self.buffers.end_step(self._sums, self._num_micro_batches)

    def _take_gradients(self) -> list[Tensor]:
        gradients = []
        for parameter in self._parameters:
            gradients.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            parameter.grad = None
        for name, parameter in self._never_used:
            if parameter.grad is not None:
                self.unexpected, parameter.grad = self.unexpected or name, None
        return gradients

    def _add_packed(self, batch: MicroBatch) -> None:
        flat = self._flat_buffer()
        averaged = self.buffers.end_micro_batch()
        if averaged:
            torch._foreach_copy_(flat.views[len(self._parameters) : self._end_of_buffers()], averaged)
        if batch.is_last and self._tree.is_empty:
            self._is_packed = True  # it is the window's only one, and may stay where it is
        else:
            self._tree.add([buffer.clone() for buffer in flat.buffers])

    def _flat_buffer(self) -> FlatBuffer:
        """Gradients, averaged buffers and count, in this order."""
        if self._flat is None:
            count = [torch.zeros((), device=self._device)] * self._has_count
            like = [*self._parameters, *self.buffers.averaged(), *count]
            self._flat = FlatBuffer(like, self._world_size)
        return self._flat

    def _end_of_buffers(self) -> int:
        return len(self._parameters) + len(self.buffers.rules.averaged)

    def _exchange_flat(self, num_active: int) -> None:
        for buffer in self._flat_buffer().buffers:
            self._exchange(buffer, self._world_size, num_active, self._nodes)
