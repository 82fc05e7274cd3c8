"""The training loop and what a step is made of: gradient sum, optimizer, schedule, evaluation, records."""

from lockstep.engine.evaluation import evaluate
from lockstep.engine.loop import save_checkpoint_of, take_step, train
from lockstep.engine.optimizer import OPTIMIZERS, build_optimizer
from lockstep.engine.optimizer_formulas import off_formula
from lockstep.engine.order_check import ObservedStep, order_checked
from lockstep.engine.records import StepResult, step_record, test_record
from lockstep.engine.reduction import ExactReduction, FastReduction, Reduction
from lockstep.engine.run import Run
from lockstep.engine.step_order import Kind, as_text, first_violation
from lockstep.engine.timers import Phases, StepTimer, Stopwatch
from lockstep.engine.weights_digest import agreed_digest

__all__ = [
    "OPTIMIZERS",
    "ExactReduction",
    "FastReduction",
    "Kind",
    "ObservedStep",
    "Phases",
    "Reduction",
    "Run",
    "StepResult",
    "StepTimer",
    "Stopwatch",
    "agreed_digest",
    "as_text",
    "build_optimizer",
    "evaluate",
    "first_violation",
    "off_formula",
    "order_checked",
    "save_checkpoint_of",
    "step_record",
    "take_step",
    "test_record",
    "train",
]
