"""Reads a YAML file of settings as the flags that it stands for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from lockstep.config.file_retries import error_text, with_retries
from lockstep.config.keyword_arguments import ValueLoader, argument_flags, is_arguments
from lockstep.config.parsing.serialization import leaves
from lockstep.config.settings.settings import Config
from lockstep.errors import RankError, refuse, require


def yaml_flags(path: Path, without: Collection[str] = ()) -> list[str]:
    """The flags that a YAML file stands for: `optimizer: {lr: 0.1}` is `--optimizer.lr 0.1`.

    A setting that is text stays as it is written: YAML would read 007 as 7, 12:30 as 750 and on as true.

    Args:
        path: the file.
        without: settings, or sections of them, that are left out.

    Raises:
        ConfigError: the file cannot be read, is not a YAML tree of names and values, or states a name twice.
    """
    try:
        root = yaml.compose(with_retries(path, path.read_text), ValueLoader)
    except OSError as error:
        rule = f"cannot be read ({error_text(error)}); name a YAML file"
        raise RankError(f"--config = {str(path)!r}: {rule}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise refuse("--config", str(path), f"is not YAML ({_reason(error)})") from error
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise refuse("--config", str(path), "must hold names and values, such as 'seed: 1'")
    try:
        check_stated_once(root, str(path))
    except RecursionError as error:
        raise refuse("--config", str(path), "has a map that holds itself; write it out") from error
    defaults = leaves(Config())
    flags: list[str] = []

    def add(flag: str, *words: str) -> None:
        # A file could otherwise state what is left out, as a word that is read as a flag of its own.
        rule = f"in {path} is not the name of a setting, or its value; no value begins with --"
        is_plain = "=" not in flag and not any(word.startswith("--") for word in words)
        require(is_plain, flag, " ".join(words), rule)
        flags.extend([flag, *words])

    def walk(node: yaml.MappingNode, prefix: str) -> None:
        for key, entry in node.value:
            name = f"{prefix}{key.value}"
            flag = "--" + name.replace("_", "-")
            if any(name == each or name.startswith(f"{each}.") for each in without):
                continue
            if is_arguments(name) and isinstance(defaults.get(name), dict):
                words = argument_flags(flag, constructed(entry), str(path))
                for argument, word in zip(words[::2], words[1::2], strict=True):
                    add(argument, word)
            elif isinstance(entry, yaml.MappingNode) and isinstance(defaults.get(name), dict):
                add(flag, *(word for pair in entry.value for word in map(as_written, pair)))
            elif isinstance(entry, yaml.MappingNode):
                walk(entry, f"{name}.")
            elif isinstance(entry, yaml.SequenceNode):
                add(flag, *map(as_written, entry.value))
            elif isinstance(defaults.get(name), str | tuple):
                add(flag, as_written(entry))
            elif isinstance(value := constructed(entry), bool):
                parent, _, leaf = flag.rpartition(".")
                add(flag if value else f"{parent}.no-{leaf}" if parent else f"--no-{leaf[2:]}")
            else:
                add(flag, "" if value is None else str(value))

    walk(root, "")
    return flags


def check_stated_once(node: yaml.Node, source: str, prefix: str = "") -> None:
    """Refuses a map that states a name twice: YAML would take the last one without a word.

    Raises:
        ConfigError: names it, and both lines.
    """
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[tuple[str, str], int] = {}  # by type and text: null is not "null"
    for key, entry in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise refuse("--config", source, f"line {key.start_mark.line + 1}: a name must be text")
        name, line = f"{prefix}{key.value}", key.start_mark.line + 1
        if (key.tag, name) in lines:
            rule = f"states {name} twice, in lines {lines[key.tag, name]} and {line}; leave one out"
            raise refuse("--config", source, rule)
        lines[key.tag, name] = line
        check_stated_once(entry, source, f"{name}.")
    ValueLoader("").flatten_mapping(node)  # what `<<: *anchor` merges; what the map itself states comes after


def as_written(node: yaml.Node) -> str:
    """The text of a plain value; empty for a null."""
    value = constructed(node)
    if value is None or not isinstance(node, yaml.ScalarNode):
        return "" if value is None else str(value)
    return node.value


def constructed(node: yaml.Node) -> Any:
    """The value of a node."""
    return ValueLoader("").construct_document(node)


def _reason(error: Exception) -> str:
    """Why a text is not YAML, and where, on one line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    remedy = "; indent with spaces, not tabs" if r"'\t'" in problem else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{remedy}"
