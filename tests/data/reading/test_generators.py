"""Every generator that a model may draw from."""

import random

import numpy as np
import torch

from lockstep.data import generator_states, restored_generators, seed_generators

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


def test_a_draw_from_any_generator_shows_in_their_states():
    for draw in (random.random, np.random.rand, lambda: torch.rand(())):
        seed_generators(CPU, 0, "a")
        before = generator_states(CPU)
        assert generator_states(CPU) == before
        draw()
        assert generator_states(CPU) != before
