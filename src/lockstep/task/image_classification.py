"""The built-in task: images in classes, as data, model, loss and augment describe it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch

from lockstep.config import GENERATED_DATA, Config
from lockstep.data import (
    DIGIT_FACTS,
    Dataset,
    ImageFacts,
    ImagePreprocessing,
    ImageSamples,
    ImageSet,
    Samples,
    build_augment,
    image_samples,
    load_dataset,
    load_image_set,
    seed_generators,
    transformed_digits,
)
from lockstep.errors import require
from lockstep.task.classification import accuracy, top5_accuracy
from lockstep.task.losses import build_criterion
from lockstep.task.models.build import build_model, check_model_name
from lockstep.task.models.image_shape import ImageShape
from lockstep.task.task import Task

MOST_WITHOUT_TOP5 = 10
"""With more classes than this, how often the right one is among the first five says something, too."""


def image_classification_task(config: Config, facts: ImageFacts | None = None) -> Task:
    """The task that a config describes if it names no other.

    The shape of digits is known, so they are read when they are needed. Other images are read now, unless
    the facts of a run's training images are given: the model depends on their shape and classes.

    Args:
        config: the settings.
        facts: what was measured when the run began.

    Raises:
        ConfigError: images are missing or wrong, or the settings do not fit them.
    """
    if config.data.is_digits:
        return _digits_task(config)

    check_model_name(config.model)  # before images are fetched and read, which may take long

    @cache
    def images() -> ImageSet:
        seed_generators(torch.device("cpu"), config.seed, "images")  # for what a user's function draws
        return load_image_set(config.data, facts)

    known = facts or images().facts
    config.augment.check_size(known.size)

    def samples(which: str) -> Samples:
        augment = build_augment(config.augment, config.seed) if which == "train" else None
        return image_samples(config.data, config.seed, images(), which, augment)

    scored = {"test": known.has_test, "validation": config.data.has_split}
    splits = {which: partial(samples, which) for which, is_there in scored.items() if is_there}
    return _task(config, known, train=partial(samples, "train"), **splits)


def _digits_task(config: Config) -> Task:
    rule = f"{config.data.name} has no validation split of its own; state a fraction, such as 0.1"
    require(not config.data.has_split, "data.validation", config.data.validation, rule)

    @cache
    def dataset() -> Dataset:
        return load_dataset(config.data, config.seed)

    def train() -> Samples:
        augment = build_augment(config.augment, config.seed)
        if config.data.transforms:
            return transformed_digits(config.data, config.seed, dataset().train, augment)
        return ImageSamples(images=dataset().train, augment=augment, config=config.data)

    def test() -> Samples:
        return ImageSamples(images=dataset().test)

    has_ink = config.data.name not in GENERATED_DATA  # the borders of generated digits are noise
    facts = DIGIT_FACTS if has_ink else replace(DIGIT_FACTS, bright_borders=None)
    return _task(config, facts, train=train, test=test)


def _task(
    config: Config,
    facts: ImageFacts,
    **splits: Callable[[], Samples],
) -> Task:
    metrics = {"accuracy": accuracy}
    if len(facts.classes) > MOST_WITHOUT_TOP5:
        metrics["top5_accuracy"] = top5_accuracy
    shape = ImageShape(channels=facts.channels, size=facts.size, num_classes=len(facts.classes))
    return Task(
        name=config.data.short_name,
        model=partial(build_model, config.model, config.seed, shape),
        train=splits["train"],
        test=splits.get("test"),
        validation=splits.get("validation"),
        loss=build_criterion(config.loss, shape.num_classes),
        metrics=metrics,
        headline="accuracy",
        higher_is_better=True,
        classes=facts.classes,
        preprocess=ImagePreprocessing(facts=facts),
    )
