"""References to a user's code, 'package.module:name', and the arguments that it takes. No torch."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lockstep.config.choices import nearest
from lockstep.config.users_code.run_folders import enclosing_run_folder, importable_folders
from lockstep.config.users_code.source_files import source_file
from lockstep.errors import refuse, require


def import_reference(field: str, name: str) -> Any:
    """What 'package.module:name' refers to, importable from the current folder.

    An error that the module raises while it is imported is its author's to fix and keeps its traceback,
    unless it is an ImportError.

    Args:
        field: the setting that holds the reference, such as "model.name".
        name: the reference; what stands after the colon may be dotted, such as 'package.module:Class.method'.

    Raises:
        ConfigError: it is not a reference, there is no such module or name, or it lies in a run folder.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise refuse(field, name, "cannot be imported; write it as 'package.module:name'")
    file = source_file(module_name)
    folder = enclosing_run_folder(file) if file else None
    rule = f"lies in the run folder {str(folder)!r}, and nothing in one is imported; move the module out"
    require(folder is None, field, name, rule)
    sys.path[:0] = importable_folders()  # a console script has its own folder there
    try:
        target: Any = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:  # the latter two for names such as '.a'
        rule = f"cannot be imported ({error}); name 'package.module:name', importable from this folder"
        raise refuse(field, name, rule) from error
    for part in path.split("."):
        if not hasattr(target, part):
            near = nearest(part, vars(target)) if hasattr(target, "__dict__") else ""
            hint = f"; perhaps you meant {near!r}" if near else ""
            owner = getattr(target, "__name__", module_name)
            raise refuse(field, name, f"cannot be imported ({owner!r} has no {part!r}){hint}")
        target = getattr(target, part)
    return target


def argument_names(target: Callable[..., Any]) -> list[str] | None:
    """The names of the keyword arguments that a callable takes; None if it takes any, or has no signature."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some classes written in C have none
        return None
    if any(each.kind == each.VAR_KEYWORD for each in parameters):
        return None
    return [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]


def check_arguments(
    field: str,
    target: Callable[..., Any],
    arguments: Mapping[str, Any],
    reserved: Iterable[str] = (),
) -> None:
    """Checks keyword arguments against a callable's signature, without calling it.

    A callable with `**kwargs` takes any name, and so does one that has no signature.

    Args:
        field: the setting that holds the arguments, such as "model.args".
        target: a class or a function.
        arguments: name → value.
        reserved: parameters that the caller passes itself, so they are neither missing nor a user's to state.

    Raises:
        ConfigError: the callable does not take an argument (names those that it takes, and the nearest), or
            lacks one that it needs.
    """
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some classes written in C have none
        return
    called = getattr(target, "__name__", str(target))
    taken = set(reserved)
    names = argument_names(target)
    for name, value in arguments.items():
        if name in taken:
            raise refuse(f"{field}.{name}", value, "is passed by Lockstep itself; leave it out")
        if names is not None and name not in names:
            stated_here = [each for each in names if each not in taken]
            near = nearest(name, stated_here)
            hint = f"; perhaps you meant {near!r}" if near else ""
            others = ", ".join(stated_here) or "none that can be stated here"
            rule = f"is not an argument of {called}; it takes {others}{hint}"
            raise refuse(f"{field}.{name}", value, rule)
    for each in parameters:
        if each.name in taken:
            continue
        is_needed = each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        if is_needed and each.name not in arguments:
            rule = f"{called} needs an argument {each.name!r}; state {field}.{each.name}"
            raise refuse(field, dict(arguments), rule)
