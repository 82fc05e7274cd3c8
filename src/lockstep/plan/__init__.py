"""Which sample each rank computes in which step, and keyed random numbers. No torch."""

from lockstep.plan.keyed_random import Purpose, random_words, uniform
from lockstep.plan.plan import PADDING, Plan
from lockstep.plan.sample_order import SampleOrder
from lockstep.plan.seeds import derive_seed
from lockstep.plan.window import micro_sizes, window_for_reduction, window_length

__all__ = [
    "PADDING",
    "Plan",
    "Purpose",
    "SampleOrder",
    "derive_seed",
    "micro_sizes",
    "random_words",
    "uniform",
    "window_for_reduction",
    "window_length",
]
