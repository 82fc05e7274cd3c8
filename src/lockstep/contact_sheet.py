"""A picture of a batch: every image with its label and what the network made of it."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image, ImageDraw

ENLARGED = 2
TILE_WIDTH, TILE_HEIGHT = 28 * ENLARGED + 8, 28 * ENLARGED + 34
GREEN, RED, INK, PAPER = (0, 110, 40), (190, 0, 0), (60, 60, 60), (255, 255, 255)


def draw_contact_sheet(
    images: torch.Tensor, labels: list[int], predictions: list[int], ids: list[int], path: Path
) -> None:
    """Writes a PNG: a tile a sample, with 'label' or 'label > prediction' and the sample id.

    Args:
        images: uint8 (samples, 28, 28).
        labels: the true digits.
        predictions: the network's digits; a wrong one is red and framed.
        ids: sample ids, written small below.
        path: where the picture goes.
    """
    columns = max(1, math.ceil(math.sqrt(len(labels))))
    rows = math.ceil(len(labels) / columns)
    sheet = Image.new("RGB", (columns * TILE_WIDTH, rows * TILE_HEIGHT), PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, (label, prediction, sample) in enumerate(zip(labels, predictions, ids, strict=True)):
        left, top = index % columns * TILE_WIDTH, index // columns * TILE_HEIGHT
        digit = Image.fromarray(255 - images[index].numpy()).resize((28 * ENLARGED, 28 * ENLARGED))
        sheet.paste(digit.convert("RGB"), (left + 4, top + 4))
        is_right = label == prediction
        below = top + 28 * ENLARGED + 6
        pen.text(
            (left + 6, below),
            str(label) if is_right else f"{label} > {prediction}",
            GREEN if is_right else RED,
        )
        pen.text((left + 6, below + 12), f"#{sample}", INK)
        if not is_right:
            pen.rectangle(
                (left + 2, top + 2, left + TILE_WIDTH - 3, top + TILE_HEIGHT - 3), outline=RED, width=2
            )
    sheet.save(path)
