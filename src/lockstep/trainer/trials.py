"""What a run must know of its model before step 1, found out by trials on its first samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lockstep.config import Config
from lockstep.data import ImageFiles, ImageStore, MicroBatch, normalised
from lockstep.engine import ModelTraits, buffer_rules, check_sizes, try_out
from lockstep.errors import refuse
from lockstep.launch.ranks import Ranks
from lockstep.plan import Plan
from lockstep.runs.checkpoint import Checkpoint
from lockstep.task import Criterion

NUM_BATCHES = 2
"""Micro-batches of the first step that are tried."""


def find_traits(
    config: Config,
    ranks: Ranks,
    plan: Plan,
    model: nn.Module,
    criterion: Criterion,
    images: ImageStore | ImageFiles,
    checkpoint: Checkpoint | None,
) -> tuple[ModelTraits, list[str]]:
    """The traits of a model, the same on every rank, and warnings. A checkpoint has kept those of its run.

    The main rank tries the model; the others wait.

    Raises:
        ConfigError: on every rank, if a micro-batch is too small for the model, a buffer has no rule, or (if
            the reduction is exact) a trial did not repeat its bits.
    """
    if checkpoint is not None:
        return ModelTraits.from_state(checkpoint.state["traits"]), []

    def loss_of(batch: MicroBatch) -> Tensor:
        return criterion(model(batch.images), batch.labels).mean()

    def find() -> tuple[ModelTraits, list[str]]:
        model.train()
        sizes = plan.micro_batch_sizes(0)[:NUM_BATCHES]
        batches = [_batch(plan, images, slot, size, ranks.device) for slot, size in enumerate(sizes)]
        last_step = plan.steps_per_epoch - 1
        others = sorted(set(plan.micro_batch_sizes(last_step)) - set(sizes[:1]))
        short = [_batch(plan, images, 0, size, ranks.device) for size in others]
        check_sizes(model, loss_of, [batches[0], *short], config.model.name)
        found = try_out(model, loss_of, batches, ranks.device, config.seed, config.model.sometimes_used)
        warnings = []
        if found.differences:
            text = f"two trials from equal seeds differ, first in {found.differences[0]}"
            if config.reduction == "exact":
                raise refuse(
                    "model.name",
                    config.model.name,
                    f"{text}; draw from Python's, NumPy's or torch's global generators and keep no state but "
                    "buffers, or use --reduction fast, which promises no equal bits",
                )
            warnings.append(f"model {config.model.name}: {text}, so this run cannot be repeated")
        rules = buffer_rules(model, found.changed_buffers, config.model.average_buffers)
        warnings += [
            f"buffer {name!r} is in no checkpoint, so each micro-batch resets it" for name in rules.reset
        ]
        return ModelTraits(use=found.use, rules=rules), warnings

    return ranks.on_main(find)


def _batch(
    plan: Plan, images: ImageStore | ImageFiles, slot: int, size: int, device: torch.device
) -> MicroBatch:
    """The first samples of a slot of step 0."""
    ids = torch.from_numpy(plan.step_ids(0)[slot, :size])
    pixels, labels = images.read(ids)
    return MicroBatch(
        images=normalised(pixels.to(device)),
        labels=labels.to(device),
        ids=ids,
        step=0,
        slot=slot,
        weight=1 / size,
        is_last=True,
    )
