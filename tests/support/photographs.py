"""Pictures as people have them: dark ink on bright, uneven paper, larger than the digits of MNIST."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE = 200


def photograph(digit: np.ndarray, seed: int = 0) -> Image.Image:
    """A colour picture of a digit, uint8 (28, 28), bright on black, as if it were written on paper."""
    enlarged = Image.fromarray(digit).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    ink = np.asarray(enlarged, dtype=np.float64) / 255
    shade = np.linspace(-10, 10, SIDE) + np.random.default_rng(seed).normal(0, 4, (SIDE, SIDE))
    grey = (225 + shade) * (1 - ink) + 40 * ink
    return Image.fromarray((grey[..., None] * (1, 0.98, 0.94)).clip(0, 255).astype(np.uint8))
