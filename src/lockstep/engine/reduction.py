"""Sums gradients over micro-batches and ranks, exact or fast. Buffers and counts travel with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lockstep.config import ReductionName
from lockstep.data import MicroBatch
from lockstep.engine.flat_buffer import FlatBuffer
from lockstep.engine.model_traits.try_out import ModelTraits
from lockstep.engine.step_buffers import StepBuffers
from lockstep.errors import RankError

Exchange = Callable[[Tensor, int, int], None]
"""Sums a flat buffer over the ranks in place: (buffer, world size, ranks that have something to add)."""


class Reduction:
    """Turns the gradients of all ranks' micro-batches into the gradient of the global batch.

    Each micro-batch's gradient is computed on its own, so its bits do not depend on where that happens. The
    buffers that its forward changed travel with it, to be averaged.

    exact: one fixed binary tree over the slots of the global batch, whichever rank computes each slot. A
    rank adds its own slots like a binary counter. The ranks' blocks, each a complete subtree, are then added
    in the same tree. Extra memory: at most log2(window) gradients in the tree, and two more for the exchange
    if there are several ranks.

    fast: a rank adds its slots one after the other, and one all-reduce adds the ranks' sums in whatever order
    the communication library chooses. It works with any number of micro-batches per rank. Extra memory: one
    gradient if there are several ranks.
    """

    def __init__(self, model: nn.Module, traits: ModelTraits, world_size: int, name: ReductionName) -> None:
        self.model = model
        """The network as the loop calls it, on the device, under autocast."""
        self.buffers = StepBuffers(model, traits.rules)
        self._exchange = REDUCTIONS[name]
        # Autograd itself adds a pair, the lowest level of the tree, while both are still in the cache.
        self._num_autograd_adds = 2 if name == "exact" else None
        self._world_size = world_size
        self._device = next(model.parameters()).device
        self._parameters = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and name not in traits.use.never
        ]
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

    def begin_step(self) -> None:
        """Called before the window."""
        self.buffers.begin_step()

    @contextmanager
    def accumulate(self, batch: MicroBatch) -> Iterator[None]:
        """The context for the forward and backward of one micro-batch."""
        self.buffers.begin_micro_batch()
        yield
        extras, self._counts = [*self.buffers.end_micro_batch(), *self._counts], []
        if self._pending_extras:
            torch._foreach_add_(self._pending_extras, extras)
        else:
            self._pending_extras = extras
        self._num_pending += 1
        if self._num_pending == self._num_autograd_adds or batch.is_last:
            leaf = [*self._take_gradients(), *self._pending_extras]
            self._tree.add(leaf, level=self._num_pending - 1)
            self._num_pending, self._pending_extras = 0, []

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
        """Leaves the gradient of the global batch in `.grad`, and the combined buffers in the model.

        Args:
            num_micro_batches: how many the global batch has, at the end of an epoch fewer than it has slots.
            window: slots per rank.
        """
        total = None if self._tree.is_empty else self._tree.total()
        if self._world_size > 1:
            total = self._sum_flat(total, num_active=-(-num_micro_batches // window))
        assert total is not None, "a single rank has every micro-batch"
        num_gradients = len(self._parameters)
        if self._has_count:
            self.total_count = total[-1]
            torch._foreach_div_(total[:num_gradients], torch.where(total[-1] == 0, 1, total[-1]))
        for parameter, gradient in zip(self._parameters, total, strict=False):
            parameter.grad = gradient
        self.buffers.end_step(total[num_gradients : len(total) - self._has_count], num_micro_batches)

    def clear_if_nothing_counted(self) -> bool:
        """Clears the gradient if the loss of the global batch counted nothing: no parameter is updated then.

        Waits for the device if the loss counts. Returns whether it did.
        """
        if self.total_count is None or self.total_count.item() != 0:
            return False
        for parameter in self._parameters:
            parameter.grad = None  # an optimizer leaves such a parameter alone: no decay, no momentum
        return True

    def _take_gradients(self) -> list[Tensor]:
        gradients = []
        for parameter in self._parameters:
            gradients.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            parameter.grad = None
        for name, parameter in self._never_used:
            if parameter.grad is not None:
                self.unexpected, parameter.grad = self.unexpected or name, None
        return gradients

    def _sum_flat(self, total: list[Tensor] | None, num_active: int) -> list[Tensor]:
        if self._flat is None:
            count = [torch.zeros((), device=self._device)] * self._has_count
            like = [*self._parameters, *self.buffers.averaged(), *count]
            self._flat = FlatBuffer(like, self._world_size)
        self._flat.fill(total)
        for buffer in self._flat.buffers:
            self._exchange(buffer, self._world_size, num_active)
        if num_active < self._world_size:
            self.buffers.share_agreed()
        return self._flat.views


def exchange_in_tree(buffer: Tensor, world_size: int, num_active: int) -> None:
    """Adds the ranks' buffers in the order of the tree. It moves as many bytes as a ring all-reduce.

    Every rank adds one slice of all buffers and sends the sum back. At the end of an epoch the last ranks may
    have nothing to add. Their zeros are left out: -0 + 0 would be +0.
    """
    blocks = torch.empty_like(buffer)
    dist.all_to_all_single(blocks, buffer)
    tree = TreeSum()
    for block in blocks.chunk(world_size)[:num_active]:
        tree.add([block])
    (my_slice,) = tree.total()
    dist.all_gather_into_tensor(buffer, my_slice)


def exchange_by_all_reduce(buffer: Tensor, world_size: int, num_active: int) -> None:
    """Adds the ranks' buffers in the order of the communication library."""
    dist.all_reduce(buffer)


REDUCTIONS: dict[ReductionName, Exchange] = {"exact": exchange_in_tree, "fast": exchange_by_all_reduce}
"""Name → how the ranks' sums are added."""


class TreeSum:
    """Adds leaves, given in the order of their index, in one fixed binary tree: a binary counter.

    The stack holds sums of 2**level leaves, levels falling; a new leaf merges while the top has its level. So
    2**k aligned leaves always form one subtree, and a sum of such sums has the bits of the whole.
    """

    def __init__(self) -> None:
        self._stack: list[tuple[int, list[Tensor]]] = []

    @property
    def is_empty(self) -> bool:
        return not self._stack

    def add(self, leaf: list[Tensor], level: int = 0) -> None:
        """Adds a leaf, a list of tensors, or the sum of 2**level of them. The tree may then write to it."""
        while self._stack and self._stack[-1][0] == level:
            leaf = _added(self._stack.pop()[1], leaf)
            level += 1
        self._stack.append((level, leaf))

    def total(self) -> list[Tensor]:
        """The sum of all leaves; the tree is empty afterwards."""
        _, total = self._stack.pop()
        while self._stack:
            total = _added(self._stack.pop()[1], total)
        return total


def _added(earlier: list[Tensor], later: list[Tensor]) -> list[Tensor]:
    torch._foreach_add_(earlier, later)
    return earlier
