"""Tasks whose data draws at random, each in another way; all learn the class of a noisy 8 x 8 image."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, Dataset, Subset, default_collate, get_worker_info
from torchvision.transforms import v2

import lockstep

NUM_CLASSES, NUM_TRAIN, NUM_TEST = 3, 44, 13


class Photographs(Dataset):
    """Images (8, 8, 3) of float32 as NumPy arrays, and their classes, without any draw."""

    def __init__(self, count=NUM_TRAIN, transform=None):
        self.count, self.transform = count, transform

    def __len__(self):
        return self.count

    def image(self, index):
        fixed = np.random.default_rng(index)
        image = fixed.random((8, 8, 3)).astype(np.float32) / 2
        image[:, :, index % NUM_CLASSES] += 0.5
        return image

    def __getitem__(self, index):
        image = self.image(index)
        if self.transform is not None:
            image = self.transform(image)
        return torch.as_tensor(image).float(), index % NUM_CLASSES


class WithNoise(Photographs):
    """Each read draws from NumPy's global generator."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image + torch.from_numpy(np.random.normal(0, 0.1, image.shape).astype(np.float32)), target


class Albumented(Photographs):
    """Changes images with albumentations, whose transforms have generators of their own."""

    def __getitem__(self, index):
        image = self.transform(image=self.image(index))["image"]
        return torch.from_numpy(image), index % NUM_CLASSES


class ReadTogether(WithNoise):
    """Reads a whole micro-batch at once, and draws once for it."""

    def __getitems__(self, ids):
        noise = np.random.normal(0, 0.1, (len(ids), 8, 8, 3)).astype(np.float32)
        return [
            (torch.from_numpy(self.image(index) + row), index % NUM_CLASSES)
            for index, row in zip(ids, noise, strict=True)
        ]


def mixed_up(samples):
    """mixup of Zhang et al. (2018), on the CPU: images and the probabilities of classes."""
    images, targets = default_collate(samples)
    share = float(np.random.beta(0.4, 0.4))
    order = torch.randperm(len(images))
    classes = F.one_hot(targets, NUM_CLASSES).float()
    return share * images + (1 - share) * images[order], share * classes + (1 - share) * classes[order]


def task_of(name, train, **changes) -> lockstep.Task:
    settings = {
        "name": name,
        "model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(8 * 8 * 3, NUM_CLASSES)),
        "train": train,
        "test": lambda: WithNoise(NUM_TEST),
        "loss": nn.CrossEntropyLoss(),
    }
    return lockstep.Task(**{**settings, **changes})


def noise() -> lockstep.Task:
    return task_of("noise", WithNoise)


def crops() -> lockstep.Task:
    """torchvision's transforms, in a Subset."""
    crop = [v2.ToImage(), v2.RandomResizedCrop(8, antialias=True), v2.RandomHorizontalFlip()]
    transform = v2.Compose([*crop, channels_last])
    return task_of("crops", lambda: Subset(Photographs(60, transform), range(NUM_TRAIN)))


def channels_last(image):
    return image.movedim(0, 2)


def albumented() -> lockstep.Task:
    return task_of("albumented", lambda: Albumented(transform=albumentations_transform()))


def albumentations_transform():
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version
    import albumentations

    parts = [albumentations.RandomBrightnessContrast(p=0.8), albumentations.RandomCrop(6, 6)]
    return albumentations.Compose([*parts, albumentations.Resize(8, 8)])


def mixup() -> lockstep.Task:
    return task_of("mixup", WithNoise, collate=mixed_up)


def together() -> lockstep.Task:
    return task_of("together", ReadTogether, test=lambda: ReadTogether(NUM_TEST))


def everything() -> lockstep.Task:
    """Noise, crops and albumentations, each in a third of the samples, and mixup in the collate."""

    def train():
        parts = ConcatDataset([each().train() for each in (noise, crops, albumented)])
        return Subset(parts, range(0, len(parts), 3))

    return task_of("everything", train, collate=mixed_up)


class OfItsOwn(Photographs):
    """Draws from a generator of its own, which no seed reaches."""

    def __init__(self, count=NUM_TRAIN):
        super().__init__(count)
        self.generator = np.random.default_rng(0)

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return {"image": image + float(self.generator.random())}, target


def of_its_own() -> lockstep.Task:
    class OfDict(nn.Linear):
        def forward(self, image):
            return super().forward(image.flatten(1))

    return task_of(
        "of-its-own", OfItsOwn, model=lambda: OfDict(8 * 8 * 3, NUM_CLASSES), test=lambda: OfItsOwn(NUM_TEST)
    )


class Failing(Photographs):
    """Raises for one sample; or ends its process, as the kernel does that is short of memory."""

    def __init__(self, index, is_killed=False):
        super().__init__()
        self.index, self.is_killed = index, is_killed

    def __getitem__(self, index):
        if index == self.index:
            if self.is_killed:
                os.kill(os.getpid(), 9)
            raise ValueError(f"no picture {index}")
        return super().__getitem__(index)


class FailingInWorkers(Failing):
    """Fails only in a worker: to describe the data, the run has read these samples before it trains."""

    def __getitem__(self, index):
        is_worker = get_worker_info() is not None
        return super().__getitem__(index) if is_worker else Photographs.__getitem__(self, index)


def failing(index: int = 7, is_killed: bool = False) -> lockstep.Task:
    return task_of("failing", lambda: FailingInWorkers(index, is_killed))


def of_other_length() -> lockstep.Task:
    """Its length depends on the rank."""
    return task_of("of-other-length", lambda: Photographs(40 + int(os.environ["RANK"])))
