"""The training loop and the parts of a step: gradient sum, optimizer, schedule, evaluation, records."""

from lockstep.engine.checkpoint_content import is_best, save_checkpoint_of, snapshot
from lockstep.engine.checks.event_trace import OrderCheck, OrderTrace
from lockstep.engine.checks.expected_events import EventKind, first_violation, format_events
from lockstep.engine.checks.weights_digest import agreed_digest
from lockstep.engine.deterministic_kernels import refused_nondeterminism, use_deterministic_kernels
from lockstep.engine.evaluation.score_samples import evaluate, evaluation_mode, score_batch
from lockstep.engine.evaluation.selection import ScoredSet, Selection
from lockstep.engine.evaluation.step_scores import StepScores
from lockstep.engine.loop import take_step, train
from lockstep.engine.measuring.peak_memory import peak_memory
from lockstep.engine.measuring.timers import PhaseTimer, StepTimer, Stopwatch
from lockstep.engine.model_traits.buffers import buffer_rules, restored_buffers
from lockstep.engine.model_traits.try_model import (
    LossForm,
    ModelTraits,
    check_sizes,
    is_out_of_memory,
    misfit,
    try_out,
)
from lockstep.engine.optimizer.optimizer import build_optimizer
from lockstep.engine.optimizer.optimizer_formulas import Formula, off_formula
from lockstep.engine.optimizer.optimizer_kinds import OPTIMIZERS, OptimizerKind, optimizer_kind
from lockstep.engine.optimizer.ownership import Owners, drop_others, find_owners, own_part, parameters_of
from lockstep.engine.optimizer.schedule import check_schedule, check_schedule_name, lr_factor
from lockstep.engine.optimizer.skipped_steps import SkippedSteps
from lockstep.engine.optimizer.weight_average import WeightAverage
from lockstep.engine.records import StepResult, evaluate_run, score, score_both, step_record
from lockstep.engine.reduction.exchange import REDUCTIONS
from lockstep.engine.reduction.reduction import Reduction
from lockstep.engine.reduction.sharded_reduction import ShardedReduction
from lockstep.engine.run import Run
from lockstep.engine.step.captured_step import CapturedStep, capture_step
from lockstep.engine.step.micro_step import kept_casts
from lockstep.engine.step.observer import NO_OBSERVER, Observer, Observers

__all__ = [
    "NO_OBSERVER",
    "OPTIMIZERS",
    "REDUCTIONS",
    "CapturedStep",
    "EventKind",
    "Formula",
    "LossForm",
    "ModelTraits",
    "Observer",
    "Observers",
    "OptimizerKind",
    "OrderCheck",
    "OrderTrace",
    "Owners",
    "PhaseTimer",
    "Reduction",
    "Run",
    "ScoredSet",
    "Selection",
    "ShardedReduction",
    "SkippedSteps",
    "StepResult",
    "StepScores",
    "StepTimer",
    "Stopwatch",
    "WeightAverage",
    "agreed_digest",
    "buffer_rules",
    "build_optimizer",
    "capture_step",
    "check_schedule",
    "check_schedule_name",
    "check_sizes",
    "drop_others",
    "evaluate",
    "evaluate_run",
    "evaluation_mode",
    "find_owners",
    "first_violation",
    "format_events",
    "is_best",
    "is_out_of_memory",
    "kept_casts",
    "lr_factor",
    "misfit",
    "off_formula",
    "optimizer_kind",
    "own_part",
    "parameters_of",
    "peak_memory",
    "refused_nondeterminism",
    "restored_buffers",
    "save_checkpoint_of",
    "score",
    "score_batch",
    "score_both",
    "snapshot",
    "step_record",
    "take_step",
    "train",
    "try_out",
    "use_deterministic_kernels",
]
