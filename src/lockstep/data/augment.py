"""Random shift, rotation, scaling and cut-out of training images, different for each sample in each epoch.

The draws are keyed by (seed, epoch, sample id). So a sample is changed in the same way whatever its rank and
micro-batch are, and at whatever step a run was resumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lockstep.config import IMAGE_SIZE, AugmentConfig
from lockstep.plan import Purpose, random_words, uniform

NUM_DRAWS = 6  # shift x, shift y, rotation, scale, cut-out x, cut-out y


@dataclass(frozen=True, kw_only=True)
class Augment:
    """The changes that an image may undergo, and the seed of their draws."""

    config: AugmentConfig
    seed: int

    def draws(self, epoch: int, ids: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) for samples in an epoch, float32 (*ids, NUM_DRAWS), on the ids' device.

        Call it for many steps together: about ninety small operations are too many for one micro-batch.
        """
        first = random_words(self.seed, Purpose.AUGMENT, epoch, ids, block=0)
        second = random_words(self.seed, Purpose.AUGMENT, epoch, ids, block=1)
        return uniform(torch.stack([*first, *second][:NUM_DRAWS], dim=-1))

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Changed images, by bilinear interpolation. Beyond the border, the border's pixels repeat.

        Args:
            images: float32 (batch, 1, 28, 28).
            draws: float32 (batch, NUM_DRAWS), each in [0, 1).
        """
        config, signed = self.config, draws * 2 - 1
        if config.shift_pixels or config.rotate_degrees or config.scale:
            # affine_grid's unit is half an image. Whole pixels keep the image sharp.
            shift = (signed[:, :2] * (config.shift_pixels + 0.5)).round() * (2 / IMAGE_SIZE)
            angle = signed[:, 2] * math.radians(config.rotate_degrees)
            zoom = 1 + signed[:, 3] * config.scale
            cosine, sine = angle.cos() / zoom, angle.sin() / zoom
            rows = [torch.stack([cosine, -sine, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1)]
            grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
            images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        if config.cutout_pixels:
            corner = (draws[:, 4:6] * (IMAGE_SIZE + 1 - config.cutout_pixels)).floor()
            pixels = torch.arange(IMAGE_SIZE, device=images.device)
            inside = (pixels >= corner[..., None]) & (pixels < corner[..., None] + config.cutout_pixels)
            hole = inside[:, 1, :, None] & inside[:, 0, None, :]  # (batch, 28 rows, 28 columns)
            images = images.masked_fill(hole[:, None], 0.0)  # 0 is the mean pixel
        return images


def build_augment(config: AugmentConfig, seed: int) -> Augment | None:
    """The augmentation, or None if the config asks for none; images are then used as they are."""
    return Augment(config=config, seed=seed) if config != AugmentConfig() else None
