"""The gradient sum over micro-batches and ranks, fast or exact."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

from lockstep.data import MicroBatch


class Reduction(Protocol):
    """How the gradients of a window become the gradient of the global batch."""

    model: nn.Module
    """The network as the loop calls it, on the device, under autocast."""
    loss_scale: Tensor
    """What a micro-batch's share of the mean loss is multiplied by for its backward, float32 ()."""

    def accumulate(self, batch: MicroBatch) -> AbstractContextManager[None]:
        """Surrounds the forward and backward of one micro-batch."""

    def sum_over_ranks(self) -> None:
        """After the window: leaves the gradient of the global batch in `.grad`, the same on every rank."""


class FastReduction:
    """DistributedDataParallel: sums while the last backward of the window is still running.

    It divides by the number of ranks; `loss_scale` undoes that, as the shares of the mean are to be added.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module) -> None:
        self.model = accelerator.prepare_model(model)
        self.loss_scale = torch.tensor(float(accelerator.num_processes), device=accelerator.device)
        self._accelerator = accelerator

    def accumulate(self, batch: MicroBatch) -> AbstractContextManager[None]:
        """Only the window's last micro-batch talks to the other ranks."""
        return nullcontext() if batch.is_last else self._accelerator.no_sync(self.model)

    def sum_over_ranks(self) -> None:
        """Already done: DistributedDataParallel's backward returns with the sum in place."""


class ExactReduction:
    """One fixed binary tree over the slots of the global batch, whatever rank computes them.

    Each micro-batch's gradient is computed alone, so its bits do not depend on where that happens. A rank
    adds its own slots like a binary counter; the ranks' blocks, each a whole subtree, are then added in the
    same tree by exchanging slices: every rank adds one slice of all blocks and hands the sum back, which
    moves as many bytes as a ring all-reduce. Extra memory: at most log2(window) gradients in the tree, and
    with several ranks two for the exchange.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module) -> None:
        self.model = accelerator.prepare_model(model, evaluation_mode=True)  # autocast, but no DDP
        self.loss_scale = torch.tensor(1.0, device=accelerator.device)
        if accelerator.device.type == "cuda":
            # The same kernels in the same order each time. Where an operation has none torch warns and names
            # it; some that it names repeat their bits all the same, as max-pooling without overlap.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
            # Nothing here reads memory before it is written, so it need not be filled with NaN.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self._world_size = accelerator.num_processes
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._tree = TreeSum()
        self._num_held = 0  # micro-batches whose gradients are still in `.grad`
        # With several ranks, one flat buffer for all gradients, of a length that divides into slices.
        total = sum(parameter.numel() for parameter in self._parameters)
        slice_length = -(-total // self._world_size)
        kind = {parameter.dtype for parameter in self._parameters}
        assert len(kind) == 1, "all trained parameters share one dtype"
        self._flat = torch.zeros(slice_length * self._world_size, dtype=kind.pop(), device=accelerator.device)
        self._views: list[Tensor] = []
        offset = 0
        for parameter in self._parameters:
            self._views.append(self._flat.as_strided(parameter.size(), parameter.stride(), offset))
            offset += parameter.numel()

    @contextmanager
    def accumulate(self, batch: MicroBatch) -> Iterator[None]:
        """Takes the gradient of each two micro-batches out of `.grad` and adds it to the tree.

        The sum of two is the lowest level of the tree, and autograd's own: both are in the cache then.
        """
        yield
        self._num_held += 1
        if self._num_held == 2 or batch.is_last:
            self._tree.add(self._take_gradients(), level=self._num_held - 1)
            self._num_held = 0

    def _take_gradients(self) -> list[Tensor]:
        gradients = []
        for parameter in self._parameters:
            gradients.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            parameter.grad = None
        return gradients

    def sum_over_ranks(self) -> None:
        """Adds the blocks of all ranks in the tree's order."""
        total = self._tree.total()
        if self._world_size > 1:
            torch._foreach_copy_(self._views, total)
            blocks = torch.empty_like(self._flat)
            dist.all_to_all_single(blocks, self._flat)
            tree = TreeSum()
            for block in blocks.chunk(self._world_size):
                tree.add([block])
            (my_slice,) = tree.total()
            dist.all_gather_into_tensor(self._flat, my_slice)
            total = self._views
        for parameter, gradient in zip(self._parameters, total, strict=True):
            parameter.grad = gradient


class TreeSum:
    """Adds leaves, given in the order of their index, in one fixed binary tree: a binary counter.

    The stack holds sums of 2**level leaves, levels falling; a new leaf merges while the top has its level. So
    2**k aligned leaves always form one subtree, and a sum of such sums has the bits of the whole.
    """

    def __init__(self) -> None:
        self._stack: list[tuple[int, list[Tensor]]] = []

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
