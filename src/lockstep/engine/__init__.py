"""The training loop and what a step is made of: gradient sum, optimizer, schedule, evaluation, records."""

from lockstep.engine.checkpointing import save_checkpoint_of
from lockstep.engine.evaluation import evaluate
from lockstep.engine.loop import take_step, train
from lockstep.engine.observer import NO_OBSERVER, Observer, Observers
from lockstep.engine.optimizer import build_optimizer
from lockstep.engine.order_check import OrderCheck, OrderTrace
from lockstep.engine.records import StepResult, score_test_set, step_record
from lockstep.engine.reduction import Reduction
from lockstep.engine.run import Run
from lockstep.engine.schedule import lr_factor
from lockstep.engine.step_order import Kind, as_text, first_violation
from lockstep.engine.timers import Phases, StepTimer, Stopwatch
from lockstep.engine.weights_digest import agreed_digest

__all__ = [
    "NO_OBSERVER",
    "Kind",
    "Observer",
    "Observers",
    "OrderCheck",
    "OrderTrace",
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
    "lr_factor",
    "save_checkpoint_of",
    "score_test_set",
    "step_record",
    "take_step",
    "train",
]
