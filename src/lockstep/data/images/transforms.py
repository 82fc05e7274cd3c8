"""Transforms of torchvision.transforms.v2 by name and arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lockstep.config import check_arguments, nearest
from lockstep.errors import first_line, refuse


def build_transforms(settings: dict[str, Any]) -> Callable[[Any], Any] | None:
    """The transforms one after the other; None if there are none.

    Args:
        settings: name → arguments, in the order in which they are applied.

    Raises:
        ConfigError: there is no such transform, or it does not take these arguments.
    """
    if not settings:
        return None
    from torchvision.transforms import v2

    kinds = {
        name: kind
        for name, kind in vars(v2).items()
        if isinstance(kind, type) and issubclass(kind, v2.Transform) and kind is not v2.Transform
    }
    made = []
    for name, arguments in settings.items():
        field = f"data.transforms.{name}"
        if name not in kinds:
            near = nearest(name, kinds)
            hint = f"perhaps you meant {near!r}" if near else "see the documentation of torchvision"
            raise refuse("data.transforms", name, f"is not in torchvision.transforms.v2; {hint}")
        check_arguments(field, kinds[name], arguments)
        try:
            made.append(kinds[name](**arguments))
        except (TypeError, ValueError) as error:
            raise refuse(field, arguments, f"is refused by torchvision ({first_line(error)})") from error
    return v2.Compose(made)
