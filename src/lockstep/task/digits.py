"""The built-in task, digits: small grey images in classes, as data, model, loss and augment describe it."""

from __future__ import annotations

from functools import cache, partial

from lockstep.config import NUM_CLASSES, Config
from lockstep.data import Dataset, ImageSamples, build_augment, load_dataset
from lockstep.task.classification import accuracy
from lockstep.task.losses import build_criterion
from lockstep.task.models.build import build_model
from lockstep.task.task import Task


def digits_task(config: Config) -> Task:
    """The task that a config describes if it names no other."""

    @cache
    def dataset() -> Dataset:
        return load_dataset(config.data, config.seed)

    def train() -> ImageSamples:
        augment = build_augment(config.augment, config.seed)
        return ImageSamples(images=dataset().train, augment=augment, config=config.data)

    def test() -> ImageSamples:
        return ImageSamples(images=dataset().test)

    return Task(
        name=config.data.name,
        model=partial(build_model, config.model, config.seed),
        train=train,
        test=test,
        loss=build_criterion(config.loss),
        metrics={"accuracy": accuracy},
        headline="accuracy",
        higher_is_better=True,
        classes=tuple(str(digit) for digit in range(NUM_CLASSES)),
    )
