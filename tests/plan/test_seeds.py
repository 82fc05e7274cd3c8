"""Seeds are hashes of what a draw may depend on."""

from lockstep.plan import derive_seed


def test_a_seed_depends_on_each_argument():
    seeds = [
        derive_seed(0, "step", 1, 2),
        derive_seed(1, "step", 1, 2),
        derive_seed(0, "evaluation", 1, 2),
        derive_seed(0, "step", 2, 1),
        derive_seed(0, "step", 12),
        derive_seed(0, "step", 1, 2, 0),
    ]
    assert len(set(seeds)) == len(seeds)
    assert derive_seed(0, "step", 1, 2) == seeds[0]
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_the_low_32_bits_carry_it_all():
    """torch's CPU generator and NumPy use no more of it."""
    low = {
        derive_seed(seed, "step", step, slot) & 0xFFFFFFFF
        for seed in (0, 2**40)
        for step in range(100)
        for slot in range(8)
    }
    assert len(low) == 2 * 100 * 8


def test_seeds_are_part_of_a_run_and_never_change():
    assert derive_seed(0, "step", 0, 0) == 4958102553861499882
