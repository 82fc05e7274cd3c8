"""Image sets that a function of the user makes: 'package.module:function'."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import IterableDataset

from lockstep.config import DataConfig, check_arguments, import_reference, nearest
from lockstep.data.images.labelled_images import LabelledImages
from lockstep.data.sources.image_folder import ImageSource, check_same_classes
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
    classes = _names(config, made)
    for key in ("test", "validation"):
        check_same_classes(config.name, key, _own_names(made["train"]), _own_names(made.get(key)))
    splits = {
        key: LabelledImages(name=f"{config.short_name} {key}", dataset=_checked(config, made[key]))
        for key in ("train", "test", *(("validation",) if config.has_split else ()))
        if key == "train" or made.get(key) is not None
    }
    return ImageSource(**splits, classes=classes)


def _names(config: DataConfig, made: dict[str, Any]) -> tuple[str, ...]:
    """The names of the classes, as stated or as the training set has them; none if there are none.

    Raises:
        ConfigError: they are not a list.
    """
    stated = made.get("classes")
    if stated is None:
        return _own_names(made["train"])
    rule = f"returns classes = {stated!r}, and not a list of names, such as ['cat', 'dog']"
    require(isinstance(stated, list | tuple | np.ndarray), "data.name", config.name, rule)
    return tuple(map(str, stated))


def _own_names(dataset: Any) -> tuple[str, ...]:
    """The names of the classes that a Dataset has itself, as torchvision's have; none if it has no list."""
    names = getattr(dataset, "classes", ())
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def _checked(config: DataConfig, dataset: Any) -> Any:
    """Raises ConfigError, if it is not a map-style Dataset."""
    if isinstance(dataset, IterableDataset):
        rule = "returns an IterableDataset, which cannot be read by number; use a Dataset with __getitem__"
        raise refuse("data.name", config.name, rule)
    rule = f"returns a {type(dataset).__name__}; it must return a Dataset with __len__ and "
    rule += "__getitem__, a pair (train, test), or a dict with train, test and classes"
    is_fine = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    require(is_fine, "data.name", config.name, rule)
    return dataset
