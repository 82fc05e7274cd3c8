"""Exact metrics over a test set shared among ranks: every sample is scored exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lockstep.data import ImageStore, normalised, seed_generators
from lockstep.engine.model_traits.buffers import restored_buffers
from lockstep.launch.ranks import Ranks
from lockstep.task import Criterion, Evaluation

# Samples per forward. Fixed, so that a sample's score has the same bits on any number of ranks. It also sets
# how finely the work divides among ranks: 10 000 samples are 40 chunks.
CHUNK_SIZE = 250


def evaluate(
    model: nn.Module, criterion: Criterion, store: ImageStore, ranks: Ranks, step: int, seed: int
) -> Evaluation:
    """Scores every sample of a store once. All ranks must call it.

    Ranks take chunks in turn. The model is in evaluation mode and is left as it was, its buffers and each
    module's mode included. What it draws is seeded for each chunk.
    """
    num_samples = len(store)
    chunks_per_rank = -(-num_samples // (CHUNK_SIZE * ranks.world_size))
    scores = torch.zeros(chunks_per_rank, CHUNK_SIZE, 3, device=store.labels.device)
    # Not inference_mode: what a model caches under it would fail its next backward.
    with evaluation_mode(model), torch.no_grad():
        for index in range(chunks_per_rank):
            chunk = index * ranks.world_size + ranks.rank
            start, stop = chunk * CHUNK_SIZE, min((chunk + 1) * CHUNK_SIZE, num_samples)
            if start >= stop:
                continue  # this rank has one chunk less
            ids = torch.arange(start, stop, device=store.labels.device)
            seed_generators(ranks.device, seed, "evaluation", chunk)
            pixels, labels = store.read(ids)
            logits = model(normalised(pixels))
            losses = criterion(logits, labels)
            predictions = logits.argmax(dim=1)
            confidences = logits.float().softmax(dim=1).gather(1, predictions[:, None])[:, 0]
            # float32 holds a class index exactly, so one gather can carry all three.
            columns = [losses.float(), predictions.float(), confidences]
            scores[index, : len(ids)] = torch.stack(columns, dim=1)
    gathered = ranks.gather(scores)  # (world * chunks_per_rank, CHUNK_SIZE, 3), by rank
    by_rank = gathered.reshape(ranks.world_size, chunks_per_rank, CHUNK_SIZE, 3)
    in_order = by_rank.transpose(0, 1).reshape(-1, 3)[:num_samples]
    return Evaluation(
        step=step,
        losses=in_order[:, 0],
        predictions=in_order[:, 1].long(),
        confidences=in_order[:, 2],
        labels=store.labels.to("cpu"),
    )


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts a model into evaluation mode. Each module's own mode and all buffers come back afterwards."""
    modes = {module: module.training for module in model.modules()}
    with restored_buffers(model):
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
