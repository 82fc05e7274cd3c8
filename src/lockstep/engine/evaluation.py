"""Exact metrics over a test set shared among ranks: every sample is scored exactly once."""

from __future__ import annotations

import torch
from torch import nn

from lockstep.data import ImageStore, normalised
from lockstep.launch.ranks import Ranks
from lockstep.models import Criterion, Evaluation

# Samples per forward. Fixed, so that a sample's score has the same bits on any number of ranks. It also sets
# how finely the work divides among ranks: 10 000 samples are 40 chunks.
CHUNK_SIZE = 250


def evaluate(
    model: nn.Module, criterion: Criterion, store: ImageStore, ranks: Ranks, step: int
) -> Evaluation:
    """Scores every sample of a store once. All ranks must call it.

    Ranks take chunks in turn. The last chunk is padded to full size, and ranks that have one chunk less get
    one of padding; the padding is cut off after the gather, by index.
    """
    num_samples = len(store)
    chunks_per_rank = -(-num_samples // (CHUNK_SIZE * ranks.world_size))
    chunks = torch.arange(ranks.rank, chunks_per_rank * ranks.world_size, ranks.world_size)
    scores = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for chunk in chunks.tolist():
            ids = torch.arange(chunk * CHUNK_SIZE, (chunk + 1) * CHUNK_SIZE, device=store.labels.device)
            pixels, labels = store.read(ids.clamp(max=num_samples - 1))
            logits = model(normalised(pixels))
            losses = criterion(logits, labels)
            predictions = logits.argmax(dim=1)
            confidences = logits.float().softmax(dim=1).gather(1, predictions[:, None])[:, 0]
            # float32 holds a class index exactly, so one gather can carry all three.
            scores.append(torch.stack([losses.float(), predictions.float(), confidences], dim=1))
    model.train(was_training)
    gathered = ranks.gather(torch.stack(scores))  # (world * chunks_per_rank, CHUNK_SIZE, 3), by rank
    by_rank = gathered.reshape(ranks.world_size, chunks_per_rank, CHUNK_SIZE, 3)
    in_order = by_rank.transpose(0, 1).reshape(-1, 3)[:num_samples]
    return Evaluation(
        step=step,
        losses=in_order[:, 0],
        predictions=in_order[:, 1].long(),
        confidences=in_order[:, 2],
        labels=store.labels.to("cpu"),
    )
