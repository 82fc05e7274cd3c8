"""Reads a config from argv and YAML. A mistake becomes one line."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from lockstep.config.choices import nearest
from lockstep.config.keyword_arguments import gather_arguments, is_arguments, registry
from lockstep.config.parsing.foreign_names import FOREIGN_NAMES
from lockstep.config.parsing.serialization import leaves
from lockstep.config.parsing.wrong_words import stray_word, types_of, wrong_value
from lockstep.config.parsing.yaml_file import yaml_flags
from lockstep.config.settings.settings import Config
from lockstep.errors import ConfigError, require

T = TypeVar("T")
SHORT_FLAGS = {"--task": "--task.name", "--init-from": "--model.init-from"}
"""Flag → the one that it is short for."""


def parse_config(argv: list[str], *, without: Collection[str] = ()) -> Config:
    """A config from flags and `--config FILE`: the file's leaves become flags in front of the user's own.

    `--task NAME` and `--init-from WEIGHTS` are short; see `SHORT_FLAGS`.

    Args:
        argv: the words.
        without: settings, or sections of them, that are not taken from the file.

    Raises:
        ConfigError: a flag, a value or a file is wrong.
    """
    file, flags = take_option(argv, "--config")
    from_file = yaml_flags(Path(file), without) if file else []
    words = from_file + flags
    for short, name in SHORT_FLAGS.items():
        words = [re.sub(rf"^{short}(?==|$)", name, word) for word in words]
    return parse(
        Config,
        words,
        prog="lockstep train",
        description="Start or resume the run that these settings describe.\n\n"
        "--config FILE first reads these settings from a YAML file; flags override it.\n"
        "--init-from WEIGHTS begins a new run with the weights of another: RUN, RUN:best, a file, …\n"
        "--resume-from RUN continues from a run, state and all, with another length, schedule or rates;\n"
        "--resume-from wandb:[ENTITY/]PROJECT/NAME:ALIAS continues a run from its model artifact.\n"
        "--processes N trains on N processes of this machine, each with one thread, or with a GPU.\n"
        "--accept-source continues a run although your source has changed since it began.",
        origin=(file, {flag for flag in from_file if flag.startswith("--")} - set(flags)),
    )


def take_option(argv: list[str], name: str) -> tuple[str, list[str]]:
    """Takes `name VALUE` or `name=VALUE` out of argv: the value (empty if absent) and the other words.

    Raises:
        ConfigError: it has no value, or is given twice.
    """
    values, rest, words = [], [], iter(argv)
    for word in words:
        if word == name:
            values.append(next(words, ""))
        elif word.startswith(f"{name}="):
            values.append(word.partition("=")[2])
        else:
            rest.append(word)
    if not values:
        return "", rest
    if not all(values):
        raise ConfigError(f"{name}: needs a value after it")
    require(len(values) == 1, name, values[-1], f"{name} {values[0]} is given too; leave one out")
    return values[0], rest


def take_count(argv: list[str], name: str) -> tuple[int, list[str]]:
    """Takes an option with a number out of argv: (the number, 0 if absent; the other words).

    Raises:
        ConfigError: it is not a whole number from 1 on.
    """
    value, rest = take_option(argv, name)
    is_count = not value or (value.isdecimal() and int(value) >= 1)
    require(is_count, name, value, "must be a whole number >= 1")
    return int(value or 0), rest


def parse(
    target: Callable[..., T],
    argv: list[str],
    *,
    prog: str,
    description: str | None = None,
    origin: tuple[str, set[str]] = ("", set()),
) -> T:
    """Parses flags with tyro. A mistake becomes one line.

    Args:
        target: a dataclass or a function, whose fields or arguments are the options.
        argv: the words.
        prog: the command's name in its help text.
        description: the start of the help text; by default the target's docstring.
        origin: a file, and the flags in argv that come from it.

    Raises:
        ConfigError: a flag is unknown (names the nearest valid one), or a value is wrong.
    """
    import tyro

    if "--" in argv:
        raise ConfigError("--: all words are options, before it and after it; leave it out")
    words = gather_arguments(argv, [flag for flag in _flags(target) if is_arguments(flag)])
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), _wide_output(bool({"-h", "--help"} & set(argv))):
            value, unknown = tyro.cli(
                target,
                args=words,
                prog=prog,
                description=description,
                return_unknown_args=True,
                registry=registry(),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        message = _one_line(printed.getvalue())
        raise wrong_value(message, words, types_of(target), origin) or ConfigError(message) from None
    if unknown:
        file, from_file = origin
        wrong = unknown[0].partition("=")[0]
        source = f" in {file}" if wrong in from_file else ""
        is_flag = wrong.startswith("-")
        remedy = _suggestion(wrong, target) if is_flag else stray_word(wrong, words, types_of(target))
        raise ConfigError(f"{wrong}{source}: there is no such option; {remedy}")
    return value


@contextlib.contextmanager
def _wide_output(is_help: bool) -> Iterator[None]:
    """tyro wraps an error at the terminal's width; a wide terminal keeps each word in one piece.

    It frames an error as `_one_line` expects where stdout is named "utf-8"; in a notebook it is "UTF-8".
    """
    if is_help:
        yield
        return
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "2000"
    try:
        with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")):
            yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _one_line(box: str) -> str:
    """The message in tyro's error box, without its frame and its hints at --help."""
    lines = [line.strip("│╭╮╰╯─ ") for line in box.splitlines()[1:]]
    message: list[str] = []
    for line in lines:
        if not line:  # the line between the message and the help below it
            break
        message.append(line)
    text = " ".join(message)
    expected = re.search(r"Argument helptext:\s*(--\S+.*?)\s*│", box.replace("\n", " "))
    text = re.sub(r"^Error parsing [\w.]+: (?=[\w.]+(\[\w+\])? = )", "", text)
    return f"{text}; expected {expected[1]}" if expected else text


def _suggestion(wrong: str, target: Callable[..., Any]) -> str:
    """What to use instead of an option that is another trainer's, lacks its section or is misspelt."""
    flags = _flags(target)
    name = wrong.lstrip("-").rpartition(".")[2].replace("_", "-").lower()
    if target is Config and (answer := FOREIGN_NAMES.get(name.replace("-", "_"))):
        return f"here it is {answer}" if answer.startswith("--") else answer
    same = [flag for flag in flags if re.split(r"[.]|^--", flag)[-1] == name]
    near = same[0] if len(same) == 1 else nearest(wrong.replace("_", "-"), flags, likeness=0.75)
    return f"perhaps you meant {near}" if near else "--help lists them all"


def _flags(target: Callable[..., Any]) -> list[str]:
    if is_dataclass(target) and isinstance(target, type):
        return ["--" + name.replace("_", "-") for name in leaves(target())]
    return ["--" + name.replace("_", "-") for name in target.__annotations__ if name != "return"]
