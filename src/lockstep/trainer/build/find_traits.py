"""What a run must know of its model before step 1, found out by trials on its first samples."""

from __future__ import annotations

from threading import Timer

import torch
from torch import Tensor, nn

from lockstep.config import Config
from lockstep.data import MicroBatch, Samples, restored_generators, seed_generators
from lockstep.engine import (
    LossForm,
    ModelTraits,
    StepScores,
    buffer_rules,
    check_sizes,
    evaluation_mode,
    kept_casts,
    misfit,
    refused_nondeterminism,
    restored_buffers,
    score_batch,
    try_out,
)
from lockstep.errors import refuse, require
from lockstep.launch import advance, limited
from lockstep.launch.ranks.ranks import Ranks
from lockstep.plan import Plan
from lockstep.report import say
from lockstep.runs.checkpoints.checkpoint import Checkpoint
from lockstep.task import (
    LOSS,
    Task,
    check_classes,
    check_labels,
    check_value_name,
    compute_loss,
    measure,
    named_values,
    share_of_mean,
    training_forward,
)
from lockstep.trainer.parts.make_model import model_setting
from lockstep.trainer.parts.parts import Parts

TRYING = "trying out the model"
SILENT_SECONDS = 10
"""After this time without a word, a line says what is done: a large model on a CPU takes minutes."""

NUM_BATCHES = 2
"""Micro-batches of the first step that are tried."""

NUM_TEST_SAMPLES = 2
"""Test samples that are tried."""


def find_traits(
    config: Config,
    ranks: Ranks,
    plan: Plan,
    model: nn.Module,
    parts: Parts,
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

    task, samples = parts.task, parts.train
    field, name = model_setting(config, task)

    def loss_of(batch: MicroBatch) -> Tensor:
        advance()
        with refused_nondeterminism(), kept_casts(ranks.accelerator):
            outputs, targets = training_forward(task, model, batch)
            return share_of_mean(compute_loss(task, outputs, targets, batch.ids), batch).total

    def find() -> tuple[ModelTraits, list[str]]:
        model.train()
        sizes = plan.micro_batch_sizes(0)[:NUM_BATCHES]
        batches = [first_of_slot(plan, samples, slot, size) for slot, size in enumerate(sizes)]
        last_step = plan.steps_per_epoch - 1
        others = sorted(set(plan.micro_batch_sizes(last_step)) - set(sizes[:1]))
        short = [first_of_slot(plan, samples, 0, size) for size in others]
        check_sizes(model, loss_of, [batches[0], *short], field, name)
        loss_form = try_measurements(task, model, batches[0], ranks.device, config.seed)
        for split, scored in (("test", parts.test), ("validation", parts.validation)):
            if scored is not None:
                try_evaluation(task, model, scored, ranks.device, config.seed, split)
        trials = try_out(model, loss_of, batches, ranks.device, config.seed, config.model.sometimes_used)
        warnings = []
        if trials.differences:
            text = f"two trials from equal seeds differ, first in {trials.differences[0]}"
            if config.reduction == "exact":
                raise refuse(
                    field,
                    name,
                    f"{text}; draw from Python's, NumPy's or torch's global generators and keep no state but "
                    "buffers, or use --reduction fast, which promises no equal bits",
                )
            warnings.append(f"model {name}: {text}, so this run cannot be repeated")
        rules = buffer_rules(model, trials.changed_buffers, config.model.average_buffers)
        warnings += [
            f"buffer {name!r} is in no checkpoint, so each micro-batch resets it" for name in rules.reset
        ]
        return ModelTraits(use=trials.use, rules=rules, loss=loss_form), warnings

    def find_or_refuse() -> tuple[ModelTraits, list[str]]:
        words = f"{TRYING} on its first samples; on {ranks.device.type} it takes its time"
        late = Timer(SILENT_SECONDS, say, [words])
        late.daemon = True
        late.start()
        try:
            with refused_nondeterminism(), limited(TRYING):
                return find()
        finally:
            late.cancel()

    return ranks.on_main(find_or_refuse)


def try_measurements(
    task: Task, model: nn.Module, batch: MicroBatch, device: torch.device, seed: int
) -> LossForm:
    """Computes the loss and the metrics of a micro-batch once; the loss_form of what the loss returns.

    Raises:
        ConfigError: one of them has none of the forms of a measurement.
    """
    with restored_buffers(model), restored_generators(device), torch.no_grad():
        seed_generators(device, seed, "try out", 0)
        outputs, targets = training_forward(task, model, batch)
        loss = named_values("task.loss", compute_loss(task, outputs, targets, batch.ids))
        loss_form = LossForm(
            has_own_count=measure("task.loss", loss[LOSS], batch.num_samples).has_own_count,
            parts=tuple(name for name in loss if name != LOSS),
        )
        for name in loss_form.parts:
            check_value_name("task.loss", name)
            rule = "is the name of a part of the loss and of a metric; give one of them another name"
            require(name not in task.metrics, "task.metrics", name, rule)
        StepScores(task, loss_form).add(outputs, targets, loss, batch.num_samples)
        if task.classes:
            check_classes(outputs, targets, len(task.classes))
            check_labels(targets, len(task.classes))
    return loss_form


def try_evaluation(
    task: Task, model: nn.Module, samples: Samples, device: torch.device, seed: int, split: str = "test"
) -> None:
    """Scores the first samples of a set once, so that data that does not fit is known before training.

    Raises:
        ConfigError: they do not fit the model, the loss or a metric.
    """
    inputs, targets = samples.read(torch.arange(min(NUM_TEST_SAMPLES, len(samples))))
    with evaluation_mode(model), restored_generators(device), torch.no_grad():
        seed_generators(device, seed, "try out", 0)
        try:
            with refused_nondeterminism():
                score_batch(model, task, inputs, targets, min(NUM_TEST_SAMPLES, len(samples)))
        except Exception as error:
            rule = misfit(error, "cannot be scored", inputs, targets)
            if not rule:
                raise
            raise refuse(f"task.{split}", task.name, rule) from error


def first_of_slot(plan: Plan, samples: Samples, slot: int, size: int) -> MicroBatch:
    """The first samples of a slot of step 0."""
    ids = torch.from_numpy(plan.step_ids(0)[slot, :size])
    inputs, targets = samples.read(ids)
    return MicroBatch(
        inputs=inputs, targets=targets, ids=ids, step=0, slot=slot, weight=1 / size, is_last=True
    )
