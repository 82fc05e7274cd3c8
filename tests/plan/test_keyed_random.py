import numpy as np
import torch

from lockstep.plan import Purpose, random_words, uniform
from lockstep.plan.keyed_random import philox4x32

PI_COUNTER = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
PI_KEY = (0xA4093822, 0x299F31D0)


def words(counter, key, make):
    return [int(word[0]) for word in philox4x32(tuple(make([value]) for value in counter), key)]


def numpy_array(values):
    return np.array(values, dtype=np.int64)


def test_known_answers_of_random123():
    # kat_vectors of Random123, philox4x32 10
    full = 0xFFFFFFFF
    for make in (numpy_array, torch.tensor):
        assert words((0, 0, 0, 0), (0, 0), make) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
        assert words((full,) * 4, (full,) * 2, make) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
        assert words(PI_COUNTER, PI_KEY, make) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_numpy_and_torch_draw_the_same():
    ids = np.arange(1000, dtype=np.int64)
    for one, other in zip(
        random_words(7, Purpose.SHUFFLE, 3, ids),
        random_words(7, Purpose.SHUFFLE, 3, torch.from_numpy(ids)),
        strict=True,
    ):
        assert np.array_equal(one, other.numpy())


def test_a_draw_does_not_depend_on_its_neighbours():
    ids = np.arange(100, dtype=np.int64)
    whole = random_words(1, Purpose.SHUFFLE, 0, ids)[0]
    assert np.array_equal(whole[40:50], random_words(1, Purpose.SHUFFLE, 0, ids[40:50])[0])


def test_each_part_of_the_key_counts():
    ids = np.arange(64, dtype=np.int64)
    draws = [
        random_words(seed, purpose, time, ids, block)[0]
        for seed, purpose, time, block in [
            (0, 0, 0, 0),
            (1, 0, 0, 0),
            (2**40, 0, 0, 0),
            (0, 1, 0, 0),
            (0, 0, 1, 0),
            (0, 0, 0, 1),
        ]
    ]
    for index, one in enumerate(draws):
        for other in draws[index + 1 :]:
            assert not np.any(one == other)


def test_ids_beyond_32_bits_have_draws_of_their_own():
    low = np.arange(64, dtype=np.int64)
    draws = [random_words(3, Purpose.AUGMENT, 1, low + (high << 32))[0] for high in (0, 1, 2, 3, 2**23)]
    for index, one in enumerate(draws):
        for other in draws[index + 1 :]:
            assert not np.any(one == other)


def test_words_are_pinned():
    # Of ids below 2**32: they decide how the images of a run are augmented.
    words = [int(word[0]) for word in random_words(3, Purpose.AUGMENT, 1, np.array([2**32 - 2]), 1)]
    assert words == [4022372897, 666732864, 1250693394, 577856783]


def test_uniform_is_exact_at_its_ends():
    ends = uniform(torch.tensor([0, 0xFFFFFFFF]))
    assert ends.tolist() == [0.0, 1 - 2.0**-24]
