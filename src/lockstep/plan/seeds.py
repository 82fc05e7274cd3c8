"""Seeds for random generators: hashes of what a draw may depend on, and of nothing else. No torch."""

from __future__ import annotations

import hashlib
from functools import lru_cache


def derive_seed(seed: int, purpose: str, *position: int) -> int:
    """A 64-bit seed that is a pure function of its arguments.

    A CPU generator of torch uses only the low 32 bits of its seed, and NumPy takes no more; so the arguments
    are hashed (BLAKE2b, RFC 7693), not packed: any 32 bits of the result depend on all of them.

    Args:
        seed: of the run.
        purpose: what is drawn, such as 'step'; two purposes never share a seed.
        position: where, such as (step, slot).
    """
    *first, last = (seed, purpose, *position)
    digest = _hash_of(*first).copy()
    digest.update(str(last).encode())
    return int.from_bytes(digest.digest(), "big")


@lru_cache(maxsize=64)
def _hash_of(*parts: object) -> hashlib.blake2b:
    """The hash of all but the last part: samples that are read one after another share it."""
    text = "".join(f"{part}/" for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=8)
