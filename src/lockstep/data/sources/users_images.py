"""Image sets that a function of the user makes: 'package.module:function'."""

from __future__ import annotations

from typing import Any

from torch.utils.data import IterableDataset

from lockstep.config import DataConfig, check_arguments, import_reference, nearest
from lockstep.data.images.labelled_images import LabelledImages
from lockstep.data.sources.image_folder import ImageSource
from lockstep.errors import refuse, require

KEYS = ("train", "test", "validation", "classes")


def open_own(config: DataConfig) -> ImageSource:
    """Calls the function that data.name names with data.args.

    It returns a Dataset of training images, or a pair (train, test), or a dict with 'train' and, if there are
    any, 'test', 'validation' (for data.validation split) and 'classes', the names of the classes. A sample is
    a pair (image, label).

    Raises:
        ConfigError: there is no such function, or it returns something else.
    """
    function = import_reference("data.name", config.name)
    require(callable(function), "data.name", config.name, "is not a function that returns images")
    check_arguments("data.args", function, config.args)
    made = function(**config.args)
    if isinstance(made, tuple) and len(made) == 2:
        made = dict(zip(KEYS, made, strict=False))
    elif not isinstance(made, dict):
        made = {"train": made}
    for key in made:
        near = nearest(str(key), KEYS) or "train"
        rule = f"returns a dict with {key!r}; it may have {', '.join(KEYS)}, perhaps {near!r}"
        require(key in KEYS, "data.name", config.name, rule)
    require("train" in made, "data.name", config.name, "returns a dict without 'train'; add it")
    classes = made.get("classes") or getattr(made["train"], "classes", None) or ()
    splits = {
        key: LabelledImages(name=f"{config.short_name} {key}", dataset=_checked(config, made[key]))
        for key in ("train", "test", *(("validation",) if config.has_split else ()))
        if key == "train" or made.get(key) is not None
    }
    return ImageSource(**splits, classes=tuple(map(str, classes)))


def _checked(config: DataConfig, dataset: Any) -> Any:
    """Raises ConfigError, if it is not a map-style Dataset."""
    is_fine = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if not is_fine or isinstance(dataset, IterableDataset):
        kind = type(dataset).__name__
        rule = (
            f"returns a {kind}; it must return a Dataset with __len__ and __getitem__, a pair (train, test), "
        )
        raise refuse("data.name", config.name, f"{rule}or a dict with train, test and classes")
    return dataset
