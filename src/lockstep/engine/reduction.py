"""The gradient sum: over the micro-batches of a window, then over the ranks. Buffers and counts travel with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

from lockstep.data import MicroBatch
from lockstep.engine.buffers import BufferRules, StepBuffers
from lockstep.engine.flat_buffer import FlatBuffer
from lockstep.engine.parameter_use import ParameterUse

Exchange = Callable[[Tensor, int, int], None]
"""Sums a flat buffer over the ranks in place: (buffer, world size, ranks that have something to add)."""


class Reduction:
    """From the micro-batches of all ranks to the gradient of the global batch.

    A micro-batch's gradient is computed alone, so its bits do not depend on where that happens. With it
    travel the buffers that its forward left, to be averaged, and a count, if the loss is a sum over something
    that only the forward knows (tokens, class weights): the sum of the gradients is then divided by the sum of
    the counts, on the device.

    Exact: one fixed binary tree over the slots of the global batch. A rank adds its own slots like a binary
    counter; the ranks' blocks, each a whole subtree, are added in the same tree. Extra memory: at most
    log2(window) gradients in the tree, and with several ranks two for the exchange.

    Fast: a rank adds its slots one after the other, and the ranks' sums are all-reduced, in an order that is
    the library's. Extra memory: with several ranks one gradient.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        use: ParameterUse,
        rules: BufferRules,
        *,
        exact: bool,
    ) -> None:
        self.model = accelerator.prepare_model(model, evaluation_mode=True)
        """The network as the loop calls it, under autocast."""
        self.buffers = StepBuffers(model, rules)
        self._exchange = exchange_in_tree if exact else exchange_by_all_reduce
        # autograd's own addition into `.grad` is the lowest level of the tree: both are in the cache then.
        self._num_autograd_adds = 2 if exact else None
        if exact and accelerator.device.type == "cuda":
            ask_for_deterministic_kernels()
        self._world_size = accelerator.num_processes
        self._parameters = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and name not in use.never
        ]
        self._tree = TreeSum()
        self._num_held = 0  # micro-batches whose gradients are still in `.grad`
        self._held: list[Tensor] = []  # what else they left: buffers and count
        self._count: Tensor | None = None  # of the micro-batch in progress
        self._is_counted = False
        self._num_averaged = len(rules.averaged)
        self._flat: FlatBuffer | None = None

    @contextmanager
    def accumulate(self, batch: MicroBatch) -> Iterator[None]:
        """Surrounds the forward and backward of one micro-batch, the window's in their order."""
        if batch.is_first:
            self.buffers.begin_step()
        else:
            self.buffers.begin_micro_batch()
        yield
        left = self.buffers.end_micro_batch()
        if self._count is not None:
            left.append(self._count)
            self._count, self._is_counted = None, True
        if self._held:
            torch._foreach_add_(self._held, left)
        else:
            self._held = left
        self._num_held += 1
        if self._num_held == self._num_autograd_adds or batch.is_last:
            self._tree.add([*self._take_gradients(), *self._held], level=self._num_held - 1)
            self._num_held, self._held = 0, []

    def add_count(self, count: Tensor) -> None:
        """States what the loss of the micro-batch in progress is to be divided by, together with all others."""
        self._count = count.detach().float()

    def sum_over_ranks(self, num_micro_batches: int, window: int) -> Tensor | None:
        """Leaves the gradient of the global batch in `.grad`, and the combined buffers in the model.

        Args:
            num_micro_batches: of the global batch, those that have samples; the same on every rank.
            window: slots of each rank.

        Returns:
            The sum of the counts, float32 (); None if the loss has none.
        """
        total = None if self._tree.is_empty else self._tree.total()
        if self._world_size > 1:
            total = self._sum_flat(total, num_active=-(-num_micro_batches // window))
        assert total is not None, "a rank alone has every micro-batch"
        gradients, left = total[: len(self._parameters)], total[len(self._parameters) :]
        count = left[self._num_averaged] if self._is_counted else None
        if count is not None:
            torch._foreach_div_(gradients, count.clamp(min=torch.finfo(torch.float32).tiny))
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self.buffers.end_step(left[: self._num_averaged], num_micro_batches)
        return count

    def _take_gradients(self) -> list[Tensor]:
        gradients = []
        for parameter in self._parameters:
            gradients.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            parameter.grad = None
        return gradients

    def _sum_flat(self, total: list[Tensor] | None, num_active: int) -> list[Tensor]:
        if self._flat is None:
            device = self._parameters[0].device
            counts = [torch.zeros((), device=device)] * self._is_counted
            like = [*map(torch.zeros_like, self._parameters), *self.buffers.averaged(), *counts]
            self._flat = FlatBuffer(like, self._world_size)
        self._flat.fill(total)
        for buffer in self._flat.buffers:
            self._exchange(buffer, self._world_size, num_active)
        if num_active < self._world_size:
            self.buffers.share_agreed()
        return self._flat.views


def exchange_in_tree(buffer: Tensor, world_size: int, num_active: int) -> None:
    """Adds the ranks' buffers in the tree's order, with the traffic of a ring all-reduce.

    Every rank adds one slice of all buffers and hands the sum back. The last ranks may have nothing to add, at
    the end of an epoch: theirs are left out, as 0 + -0 would not be -0.
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


def ask_for_deterministic_kernels() -> None:
    """The same kernels in the same order each time; torch warns of an operation that has none, and names it."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads memory before it is written, so it need not be filled with NaN.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


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
