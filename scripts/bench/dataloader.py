"""A task whose Dataset is read by worker processes, compared with a bare loop over torch's DataLoader.

Both read the same photographs, with torchvision's random crops and flips, by as many workers, into
micro-batches of the same size, and train the same model. The trainer's reads are keyed by sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from harness import NUM_CORES, Bench, main, seconds_of, side_by_side
from lockstep.config import Config, DataConfig, ModelConfig
from lockstep.engine import build_optimizer, take_step
from lockstep.task import Task
from lockstep.trainer import build_run, make_parts
from results import Row, median_row, ratio

GLOBAL_SIZE, MICRO_SIZE = 128, 32
NUM_CLASSES, NUM_PHOTOGRAPHS = 10, 512
NUM_JPEGS, SIDE = 1024, 64
NUM_WORKERS = max(1, min(4, NUM_CORES - 1))


class Photographs(Dataset[tuple[Tensor, int]]):
    """Random pixels (3, 64, 64), cut out and flipped at random: (3, 32, 32). An epoch repeats them, so that
    no block of steps meets its end, where a bare loop pauses."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(
            0, 256, (NUM_PHOTOGRAPHS, 3, 64, 64), generator=generator, dtype=torch.uint8
        )
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(32, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return 100 * NUM_PHOTOGRAPHS

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pixels[index % NUM_PHOTOGRAPHS]), index % NUM_CLASSES


def model() -> nn.Module:
    """A small convolutional network for these images."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 7 * 7, NUM_CLASSES)),
    )


def measure(bench: Bench) -> list[Row]:
    """Seconds of a block of steps of both, in turn."""
    config = bench.config(global_size=GLOBAL_SIZE, micro_size=MICRO_SIZE)
    config = replace(config, data=DataConfig(num_workers=NUM_WORKERS))
    if bench.ranks.device.type == "cuda":
        config = replace(config, engine="captured")
    task = Task(name="photographs", model=model, train=Photographs, loss=F.cross_entropy)
    run = build_run(config, bench.ranks, make_parts(config, task, bench.ranks))
    run.model.train()
    repeats = bench.count(20)  # uses many times what the workers read ahead
    with run.closing:
        blocks = {
            "trainer": partial(seconds_of, partial(take_step, run), repeats),
            "bare": partial(seconds_of, bare_loop(config, run.ranks.device), repeats),
        }
        times = side_by_side(blocks, bench.count(12))
    workers = f"{NUM_WORKERS} worker{'s' if NUM_WORKERS > 1 else ''}"
    with TemporaryDirectory() as root:
        rates = folder_rates(bench, Path(root))
    bare_rates = [repeats * GLOBAL_SIZE / seconds for seconds in times["bare"]]
    return [
        ratio(
            f"step / bare step over a DataLoader, {workers}", times["trainer"], times["bare"], at_most=1.03
        ),
        median_row("bare loop over a DataLoader", bare_rates, "images/s"),
        ratio(
            f"reading a folder of JPEGs / bare DataLoader, {workers}",
            rates["lockstep"],
            rates["bare"],
            at_least=0.97,
        ),
        *(median_row(f"reading a folder of JPEGs: {name}", rates[name], "images/s") for name in rates),
    ]


def folder_rates(bench: Bench, root: Path) -> dict[str, list[float]]:
    """Images per second of both from a folder of JPEGs, resized and normalised, without training."""
    generator = np.random.default_rng(0)
    for index in range(NUM_JPEGS):
        folder = root / "train" / f"class{index % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((160, 120), Image.Resampling.BICUBIC).save(folder / f"{index:04}.jpg")
    config = bench.config(global_size=GLOBAL_SIZE, micro_size=MICRO_SIZE)
    data = DataConfig(
        name="folder", root=str(root), image_size=SIDE, storage="streamed", num_workers=NUM_WORKERS
    )
    model = ModelConfig(name="mlp")
    run = bench.run(replace(config, data=data, model=model))
    resized = v2.Compose([v2.Resize(SIDE), v2.CenterCrop(SIDE), v2.PILToTensor()])
    loader = DataLoader(
        ImageFolder(root / "train", resized),
        batch_size=MICRO_SIZE,
        shuffle=True,
        num_workers=NUM_WORKERS,
        prefetch_factor=2 * GLOBAL_SIZE // MICRO_SIZE // NUM_WORKERS,
        persistent_workers=True,
        drop_last=True,
    )
    device, repeats = run.ranks.device, bench.count(16)

    def bare_batches() -> Iterator[Tensor]:
        while True:
            for images, _ in loader:
                yield images.to(device).float().sub_(128).div_(64)

    batches, num_images = bare_batches(), repeats * GLOBAL_SIZE

    def read_bare() -> None:
        for _ in range(GLOBAL_SIZE // MICRO_SIZE):
            next(batches)

    with run.closing:
        blocks = {
            "lockstep": lambda: num_images / seconds_of(lambda: next(run.windows), repeats),
            "bare": lambda: num_images / seconds_of(read_bare, repeats),
        }
        return side_by_side(blocks, bench.count(8))


def bare_loop(config: Config, device: torch.device) -> Callable[[], None]:
    """Builds the step of a bare loop over a DataLoader."""
    network = model().to(device)
    optimizer = build_optimizer(network, config.optimizer, fused=True)
    loader = DataLoader(
        Photographs(),
        batch_size=MICRO_SIZE,
        shuffle=True,
        num_workers=NUM_WORKERS,
        prefetch_factor=2 * GLOBAL_SIZE // MICRO_SIZE // NUM_WORKERS,  # two steps, as the trainer reads ahead
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for images, labels in loader:
                yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)

    batch = batches()

    def step() -> None:
        optimizer.zero_grad()
        for _ in range(GLOBAL_SIZE // MICRO_SIZE):
            images, labels = next(batch)
            loss = F.cross_entropy(network(images), labels) / (GLOBAL_SIZE // MICRO_SIZE)
            loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main(measure)
