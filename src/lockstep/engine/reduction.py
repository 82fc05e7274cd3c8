"""Sums gradients over micro-batches and ranks: fast, or exact to the bit on any topology."""

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
    """Factor on a micro-batch's share of the mean loss in its backward, float32 ()."""

    def accumulate(self, batch: MicroBatch) -> AbstractContextManager[None]:
        """The context for the forward and backward of one micro-batch."""

    def sum_over_ranks(self) -> None:
        """Called after the window: leaves the global batch's gradient in `.grad`, the same on every rank."""


class FastReduction:
    """DistributedDataParallel: sums while the last backward of the window is still running.

    It divides by the number of ranks; `loss_scale` undoes that, because shares of the mean must be added.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module) -> None:
        self.model = accelerator.prepare_model(model)
        self.loss_scale = torch.tensor(float(accelerator.num_processes), device=accelerator.device)
        self._accelerator = accelerator

    def accumulate(self, batch: MicroBatch) -> AbstractContextManager[None]:
        """Only the window's last micro-batch communicates with the other ranks."""
        return nullcontext() if batch.is_last else self._accelerator.no_sync(self.model)

    def sum_over_ranks(self) -> None:
        """Does nothing: DistributedDataParallel's backward returns with the sum in `.grad`."""


class ExactReduction:
    """One fixed binary tree over the slots of the global batch, whichever rank computes each slot.

    Each micro-batch's gradient is computed on its own, so its bits do not depend on where that happens. A
    rank adds its own slots like a binary counter. The ranks' blocks, each a complete subtree, are then added
    in the same tree by exchanging slices: every rank adds one slice of all blocks and sends the sum back,
    which moves as many bytes as a ring all-reduce. Extra memory: at most log2(window) gradients in the tree,
    and two more for the exchange if there are several ranks.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module) -> None:
        self.model = accelerator.prepare_model(model, evaluation_mode=True)  # autocast, but no DDP
        self.loss_scale = torch.tensor(1.0, device=accelerator.device)
        if accelerator.device.type == "cuda":
            # The same kernels in the same order every time. torch warns of each operation that has no such
            # kernel; some of those repeat their bits anyway, for instance max-pooling without overlap.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
            # Nothing here reads memory before writing it, so there is no need to fill it with NaN.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self._world_size = accelerator.num_processes
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._tree = TreeSum()
        self._num_pending = 0  # micro-batches whose gradients are still in `.grad`
        # For the exchange between ranks: one flat buffer for all gradients, padded to divide into slices.
        total = sum(parameter.numel() for parameter in self._parameters)
        slice_length = -(-total // self._world_size)
        dtypes = {parameter.dtype for parameter in self._parameters}
        assert len(dtypes) == 1, "all trained parameters share one dtype"
        length = slice_length * self._world_size
        self._flat = torch.zeros(length, dtype=dtypes.pop(), device=accelerator.device)
        self._views: list[Tensor] = []
        offset = 0
        for parameter in self._parameters:
            self._views.append(self._flat.as_strided(parameter.size(), parameter.stride(), offset))
            offset += parameter.numel()

    @contextmanager
    def accumulate(self, batch: MicroBatch) -> Iterator[None]:
        """Moves the gradient of each pair of micro-batches from `.grad` into the tree.

        Autograd itself adds the pair, the lowest level of the tree, while both are still in the cache.
        """
        yield
        self._num_pending += 1
        if self._num_pending == 2 or batch.is_last:
            self._tree.add(self._take_gradients(), level=self._num_pending - 1)
            self._num_pending = 0

    def _take_gradients(self) -> list[Tensor]:
        gradients = []
        for parameter in self._parameters:
            gradients.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            parameter.grad = None
        return gradients

    def sum_over_ranks(self) -> None:
        """Adds the blocks of all ranks, in the order of the tree."""
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
    """Adds leaves, given in index order, in one fixed binary tree, like a binary counter.

    The stack holds sums of 2**level leaves, the highest level first; a new leaf merges while the top of the
    stack has its level. So 2**k aligned leaves always form one subtree, and adding the sums of such subtrees
    gives the same bits as adding all the leaves.
    """

    def __init__(self) -> None:
        self._stack: list[tuple[int, list[Tensor]]] = []

    def add(self, leaf: list[Tensor], level: int = 0) -> None:
        """Adds a leaf, a list of tensors, or the sum of 2**level leaves. The tree may overwrite it."""
        while self._stack and self._stack[-1][0] == level:
            leaf = _add_in_place(self._stack.pop()[1], leaf)
            level += 1
        self._stack.append((level, leaf))

    def total(self) -> list[Tensor]:
        """Returns the sum of all leaves and empties the tree."""
        _, total = self._stack.pop()
        while self._stack:
            total = _add_in_place(self._stack.pop()[1], total)
        return total


def _add_in_place(earlier: list[Tensor], later: list[Tensor]) -> list[Tensor]:
    torch._foreach_add_(earlier, later)
    return earlier
