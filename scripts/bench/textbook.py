"""The usual published loop compared with the trainer, with the same network and learning rate.

It uses a DataLoader over datasets.MNIST, with ToTensor and Normalize on each sample, in batches of 64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from harness import Bench, main, seconds_of, side_by_side
from lockstep.engine import take_step
from lockstep.task import build_model
from results import Row, median_row, ratio

BATCH_SIZE = 64


def measure(bench: Bench) -> list[Row]:
    """Images per second of the trainer, and of the textbook loop without workers and with two."""
    run = bench.run(bench.config(global_size=BATCH_SIZE, micro_size=BATCH_SIZE))
    repeats = bench.count(50)
    published = {f"textbook, {count} workers": textbook_step(bench, count) for count in (0, 2)}
    steps: dict[str, Callable[[], object]] = {"lockstep": lambda: take_step(run), **published}

    def block(step: Callable[[], object]) -> Callable[[], float]:
        return lambda: repeats * BATCH_SIZE / seconds_of(step, repeats)

    rates = side_by_side({name: block(step) for name, step in steps.items()}, bench.count(10))
    return [
        *(ratio(f"lockstep / {name}", rates["lockstep"], rates[name]) for name in published),
        *(median_row(name, rates[name], "images/s") for name in rates),
    ]


def textbook_step(bench: Bench, num_workers: int) -> Callable[[], None]:
    """Builds one step of the published loop, at the default recipe's learning rate."""
    from torchvision import datasets, transforms  # takes seconds to import, which --help need not wait for

    to_input = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train_set = datasets.MNIST(bench.data_root, train=True, transform=to_input)
    loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True, num_workers=num_workers)
    batches = endless(loader)
    config, device = bench.config(), bench.ranks.device
    model = build_model(config.model, config.seed).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optimizer.lr)

    def step() -> None:
        images, labels = next(batches)
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()

    return step


def endless(loader: DataLoader[list[Tensor]]) -> Iterator[list[Tensor]]:
    """Repeats the loader epoch after epoch."""
    while True:
        yield from loader


if __name__ == "__main__":
    main(measure)
