"""Every generator that a model may draw from."""

import random

import numpy as np
import torch

from lockstep.data import restored_generators, seed_generators

CPU = torch.device("cpu")


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_what_is_drawn_depends_on_the_position_alone():
    seed_generators(CPU, 7, "step", 3, 1)
    first = draws()
    seed_generators(CPU, 7, "step", 3, 2)
    other = draws()
    torch.rand(100)
    seed_generators(CPU, 7, "step", 3, 1)
    assert draws() == first
    assert not set(other) & set(first)


def test_the_states_come_back():
    seed_generators(CPU, 0, "a")
    first = draws()
    seed_generators(CPU, 0, "a")
    with restored_generators(CPU):
        seed_generators(CPU, 1, "b")
        draws()
    assert draws() == first
