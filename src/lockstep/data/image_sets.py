"""From the data settings to images for training and testing, resident or read again each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lockstep.config import FOLDER, SPLIT, DataConfig
from lockstep.data.image_measures import DIGIT_FACTS, ImageFacts
from lockstep.data.images.augment import Augment
from lockstep.data.images.image_store import ImageFiles, ImageStore, StoredImages
from lockstep.data.images.labelled_images import DecodedImages, LabelledImages
from lockstep.data.images.transforms import build_transforms
from lockstep.data.samples.dataset_samples import samples_of
from lockstep.data.samples.image_samples import ImageSamples
from lockstep.data.samples.samples import Samples
from lockstep.data.samples.streamed_images import StreamedImages
from lockstep.data.sources.huggingface_sets import open_huggingface
from lockstep.data.sources.image_folder import ImageSource, open_folder
from lockstep.data.sources.torchvision_sets import open_torchvision
from lockstep.data.sources.users_images import open_own
from lockstep.data.survey import Survey, survey, with_facts
from lockstep.errors import ConfigError, first_line, refuse, require

SOURCES: dict[str, Callable[[DataConfig], ImageSource]] = {
    FOLDER: open_folder,
    "torchvision": open_torchvision,
    "huggingface": open_huggingface,
}
"""What stands before the colon in data.name → what finds the images. Anything else is a user's module."""


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The images of a set, found and measured."""

    facts: ImageFacts
    images: Mapping[str, DecodedImages]
    """Of each split that there is: 'train', 'test' and 'validation'."""
    stored: Mapping[str, ImageStore]
    """The same in memory, of the splits that are not streamed."""


def load_image_set(config: DataConfig, facts: ImageFacts | None = None) -> ImageSet:
    """Finds the images, and reads them all once: to keep them in memory, or to measure and check them.

    Args:
        config: which images, and how they are read.
        facts: of the run's training images, if they were measured before. Then what is streamed is not read.

    Raises:
        ConfigError: an image or label is missing or wrong; names it.
    """
    transform = build_transforms(config.transforms)
    source = SOURCES.get(config.name.partition(":")[0], open_own)(config)
    if facts is not None and source.classes and source.classes != facts.classes:
        rule = f"has the classes {_shown(source.classes)}, and the run began with {_shown(facts.classes)}"
        raise refuse("data.name", config.name, f"{rule}; use the same data")
    if facts is not None and facts.has_test and source.test is None:
        raise refuse(
            "data.name", config.name, "has no test images, and the run began with some; put them back"
        )
    rule = f"{config.name!r} has no validation split of its own; state a fraction, such as 0.1"
    require(not config.has_split or source.validation is not None, "data.validation", SPLIT, rule)
    train = _decoded(config, source.train, config.num_train, len(facts.classes if facts else source.classes))
    is_streamed = config.in_use == "streamed"
    measured: Survey | None = None
    if facts is None:
        measured = survey(train, keep=not is_streamed)
        facts = measured.facts(source.classes, has_test=source.test is not None)
    train = with_facts(train, facts)
    if measured is None and not is_streamed:
        measured = survey(train, keep=True)
    stored = {"train": measured.store()} if measured and not is_streamed else {}
    if transform is not None:
        train = replace(train, transform=transform)
        try_transforms(train)
    images = {"train": train}
    for which, scored in (("test", source.test), ("validation", source.validation)):
        if scored is None:
            continue
        images[which] = with_facts(_decoded(config, scored, 0, len(facts.classes)), facts)
        is_resident = config.storage == "resident"
        if (
            is_resident or measured is not None
        ):  # not if a run continues with images that it has checked before
            read = survey(images[which], keep=is_resident)
            if is_resident:
                stored[which] = read.store()
    return ImageSet(facts=facts, images=images, stored=stored)


def try_transforms(images: DecodedImages) -> None:
    """Applies the transforms to the first image.

    Raises:
        ConfigError: they do not fit it.
    """
    try:
        images[0]
    except ConfigError:
        raise
    except Exception as error:  # torchvision's transforms have no error class in common
        where = images.source.where(0)
        raise ConfigError(f"data.transforms: fail on {where} ({first_line(error)}); change them") from error


def image_samples(
    config: DataConfig, seed: int, images: ImageSet, which: str, augment: Augment | None = None
) -> Samples:
    """The samples of a split: 'train', 'test' or 'validation'."""
    decoded = images.images[which]
    if which in images.stored:
        return ImageSamples(images=images.stored[which], facts=images.facts, augment=augment)
    return StreamedImages(
        samples=samples_of(f"data.{which}", decoded, seed, config=config),
        images=replace(decoded, transform=None),
        facts=images.facts,
        augment=augment,
    )


def transformed_digits(
    config: DataConfig, seed: int, images: ImageFiles | ImageStore, augment: Augment | None
) -> Samples:
    """The training samples of a set of digits with data.transforms."""
    source = LabelledImages(name=f"{config.name} train", dataset=StoredImages(images=images))
    plain = with_facts(DecodedImages(source=source, count=len(images)), DIGIT_FACTS)
    changed = replace(plain, transform=build_transforms(config.transforms))
    samples = samples_of("data.train", changed, seed, config=config)
    return StreamedImages(samples=samples, images=plain, facts=DIGIT_FACTS, augment=augment)


def _decoded(config: DataConfig, images: LabelledImages, num: int, num_classes: int) -> DecodedImages:
    count = len(images)
    require(count > 0, "data.name", config.name, f"has no samples in {images.name}; fill it")
    require(num <= count, "data.num_train", num, f"{images.name} has {count} samples; 0 uses all of them")
    size = config.image_size
    return DecodedImages(source=images, count=num or count, image_size=size, num_classes=num_classes)


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
