"""Runs on each rank: explains a step with fast reduction, then prints how many runs are still in memory."""

import gc

from lockstep.config import TrainConfig
from lockstep.engine import Run
from lockstep.inspect import run_explain
from lockstep.launch import read_launch
from runs import small_config

run_explain(small_config(reduction="fast", train=TrainConfig(steps=2)), read_launch(), 1)
gc.collect()
print(sum(type(each) is Run for each in gc.get_objects()))
