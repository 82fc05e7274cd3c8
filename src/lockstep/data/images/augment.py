"""Random shift, rotation, scaling, crop, mirroring and cut-out of training images, different in each epoch.

The draws are keyed by (seed, epoch, sample id). So a sample is changed in the same way whatever its rank and
micro-batch are, and at whatever step a run was resumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lockstep.config import AugmentConfig
from lockstep.plan import Purpose, random_words, uniform

NUM_DRAWS = 6  # shift x, shift y, rotation, scale, cut-out x, cut-out y
NUM_DRAWS_WITH_CROP = 9  # and crop x, crop y, mirroring


@dataclass(frozen=True, kw_only=True)
class Augment:
    """The changes that an image may undergo, and the seed of their draws."""

    config: AugmentConfig
    seed: int

    def draws(self, epoch: int, ids: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) for samples in an epoch, float32 (*ids, draws), on the ids' device.

        Call it for many steps together: about ninety small operations are too many for one micro-batch.
        """
        config = self.config
        num_draws = NUM_DRAWS_WITH_CROP if config.crop_pixels or config.flip else NUM_DRAWS
        words: list[Tensor] = []
        for block in range(math.ceil(num_draws / 4)):
            words += random_words(self.seed, Purpose.AUGMENT, epoch, ids, block=block)
        return uniform(torch.stack(words[:num_draws], dim=-1))

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Changed images. Shift, rotation and scaling are bilinear, and repeat the pixels of the border.

        Args:
            images: normalised, float32 (batch, channels, size, size).
            draws: float32 (batch, draws), each in [0, 1).
        """
        config, signed, size = self.config, draws * 2 - 1, images.shape[-1]
        if config.shift_pixels or config.rotate_degrees or config.scale:
            # The grid's unit is half an image. Whole pixels keep the image sharp.
            moved = (signed[:, :2] * (config.shift_pixels + 0.5)).round()
            # A draw of exactly 0 lies halfway between two pixels, and round takes the even one.
            shift = moved.clamp(min=-config.shift_pixels) * (2 / size)
            angle = signed[:, 2] * math.radians(config.rotate_degrees)
            zoom = 1 + signed[:, 3] * config.scale
            # The bits of F.affine_grid on a CPU. On a GPU its matrix product could choose another kernel,
            # and so other bits, for another number of images.
            cosine, sine = (angle.cos() / zoom)[:, None, None], (angle.sin() / zoom)[:, None, None]
            x = torch.linspace(-1, 1, size, device=images.device) * (size - 1) / size
            y, shift_x, shift_y = x[:, None], shift[:, 0, None, None], shift[:, 1, None, None]
            grid = torch.stack([cosine * x - sine * y + shift_x, sine * x + cosine * y + shift_y], dim=-1)
            images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        if config.crop_pixels or config.flip:
            images = self._cropped(images, draws)
        if config.cutout_pixels:
            corner = (draws[:, 4:6] * (size + 1 - config.cutout_pixels)).floor()
            pixels = torch.arange(size, device=images.device)
            inside = (pixels >= corner[..., None]) & (pixels < corner[..., None] + config.cutout_pixels)
            hole = inside[:, 1, :, None] & inside[:, 0, None, :]  # (batch, rows, columns)
            images = images.masked_fill(hole[:, None], 0.0)  # 0 is the mean pixel
        return images

    def _cropped(self, images: Tensor, draws: Tensor) -> Tensor:
        """Images copied pixel by pixel: row and column of each, by sample."""
        pad, size = self.config.crop_pixels, images.shape[-1]
        corner = (draws[:, 6:8] * (2 * pad + 1)).floor().long()
        pixels = torch.arange(size, device=images.device)
        columns = pixels.expand(len(images), size)
        if self.config.flip:
            columns = torch.where(draws[:, 8, None] < 0.5, columns.flip(1), columns)
        rows, columns = corner[:, 1, None] + pixels, corner[:, 0, None] + columns  # (batch, size) each
        padded = F.pad(images, (pad, pad, pad, pad))  # with 0, the mean pixel
        samples = torch.arange(len(images), device=images.device)[:, None, None]
        # Indices on both sides of a slice put the slice last: (batch, rows, columns, channels).
        return padded[samples, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()


def build_augment(config: AugmentConfig, seed: int) -> Augment | None:
    """The augmentation, or None if the config asks for none; images are then used as they are."""
    return Augment(config=config, seed=seed) if config != AugmentConfig() else None
