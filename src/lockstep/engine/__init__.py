"""The training loop and the parts of a step: gradient sum, optimizer, schedule, evaluation, records."""

from lockstep.engine.checkpointing import save_checkpoint_of
from lockstep.engine.evaluation import evaluate
from lockstep.engine.loop import take_step, train
from lockstep.engine.observer import NO_OBSERVER, Observer, Observers
from lockstep.engine.optimizer import OPTIMIZERS, build_optimizer
from lockstep.engine.optimizer_formulas import Formula, off_formula
from lockstep.engine.order_check import OrderCheck, OrderTrace
from lockstep.engine.records import StepResult, score_test_set, step_record
from lockstep.engine.reduction import ExactReduction, FastReduction, Reduction
from lockstep.engine.run import Run
from lockstep.engine.schedule import lr_factor
from lockstep.engine.step_order import EventKind, first_violation, format_events
from lockstep.engine.timers import PhaseTimer, StepTimer, Stopwatch
from lockstep.engine.weights_digest import agreed_digest

__all__ = [
    "NO_OBSERVER",
    "OPTIMIZERS",
    "EventKind",
    "ExactReduction",
    "FastReduction",
    "Formula",
    "Observer",
    "Observers",
    "OrderCheck",
    "OrderTrace",
    "PhaseTimer",
    "Reduction",
    "Run",
    "StepResult",
    "StepTimer",
    "Stopwatch",
    "agreed_digest",
    "build_optimizer",
    "evaluate",
    "first_violation",
    "format_events",
    "lr_factor",
    "off_formula",
    "save_checkpoint_of",
    "score_test_set",
    "step_record",
    "take_step",
    "train",
]
