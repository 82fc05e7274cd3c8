"""Keyword arguments for what a config names: leaves called `args`, and `data.transforms`.

Their values are any that YAML has. In a file they are a map. On the command line each is a flag of its own,
`--model.args.width 64`, whose value is read as YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from lockstep.errors import ConfigError, refuse, require

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

# YAML 1.1, which PyYAML reads, wants a dot and a sign in a float: it takes 1e-3 and 1.5e3 for strings.
_EXPONENT_FLOAT = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")
_FLOAT, _TIMESTAMP = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"


class ValueLoader(yaml.SafeLoader):
    """Reads values as people mean them: 1e-3 is a number, and a date stays the text that it is."""


class ValueDumper(yaml.SafeDumper):
    """Writes what ValueLoader, and PyYAML's own loader, read back as the same values."""


ValueLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != _TIMESTAMP]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
ValueLoader.add_implicit_resolver(_FLOAT, _EXPONENT_FLOAT, list("-+.0123456789"))
ValueDumper.add_implicit_resolver(_FLOAT, _EXPONENT_FLOAT, list("-+.0123456789"))


def is_arguments(name: str) -> bool:
    """Whether a dotted name is that of a leaf with keyword arguments."""
    return name.rpartition(".")[2] in ("args", "transforms")


def plain_arguments(field: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A copy that is what YAML reads back: the names are identifiers, the values plain, tuples are lists.

    Raises:
        ConfigError: a name or a value is neither.
    """
    for name in arguments:
        is_name = isinstance(name, str) and name.isidentifier()
        require(is_name, field, name, "is not the name of an argument, such as 'width'")
    return {name: _plain(f"{field}.{name}", value) for name, value in arguments.items()}


def _plain(field: str, value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(field, entry) for entry in value]
    if isinstance(value, dict):
        return {_plain(field, key): _plain(field, entry) for key, entry in value.items()}
    rule = f"is a {type(value).__name__}; it must be a number, text, a bool, null, or a list or map of these"
    raise refuse(field, value, rule)


def argument_flags(flag: str, arguments: Any, source: str) -> list[str]:
    """The flags that a map in a file stands for: `args: {width: 64}` is `--model.args.width 64`.

    Args:
        flag: of the leaf, such as "--model.args".
        arguments: the map as read by `ValueLoader`; None if it is left empty.
        source: the file's name.

    Raises:
        ConfigError: it is not a map of names.
    """
    if not isinstance(arguments, dict | None):
        rule = f"in {source} must hold names and values, such as 'width: 64'"
        raise refuse(flag, arguments, rule)
    words: list[str] = []
    for name, value in (arguments or {}).items():
        # YAML 1.1 reads on, off, yes and no as bools.
        require(isinstance(name, str), flag, name, f"in {source} is not text; put the name into quotes")
        words += [f"{flag}.{name}", _one_word(value)]
    return words


def gather_arguments(argv: list[str], flags: Iterable[str]) -> list[str]:
    """Replaces all words about a leaf's arguments by one flag with a YAML map; the last word on a name wins.

    `--model.args.width 64`, `--model.args.width=64`, `--model.args width 64 depth 3` and
    `--model.args '{width: 64}'` are understood.

    Raises:
        ConfigError: a value is missing or is not YAML.
    """
    groups: list[list[str]] = []  # a flag with the words up to the next one
    for word in argv:
        if word.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(word)
    known = tuple(flags)
    rest: list[str] = []
    by_flag: dict[str, dict[str, Any]] = {}
    for first, *words in groups:
        head, equals, value = first.partition("=")
        flag = next((each for each in known if head == each or head.startswith(f"{each}.")), None)
        if flag is None:
            rest += [first, *words]
            continue
        values = [value, *words] if equals else words
        arguments = by_flag.setdefault(flag, {})
        if head == flag:
            arguments |= _read_pairs(flag, values)
        elif len(values) != 1:
            raise ConfigError(f"{head}: needs one value after it")
        else:
            arguments[head.removeprefix(f"{flag}.").replace("-", "_")] = _read(head, values[0])
    return rest + [word for flag, each in by_flag.items() for word in (flag, _one_word(each))]


def _read_pairs(flag: str, words: Sequence[str]) -> dict[str, Any]:
    if len(words) == 1 and isinstance(whole := _read(flag, words[0]), dict):
        return whole
    if len(words) % 2:
        raise refuse(
            flag, " ".join(words), f"must be pairs of a name and a value; or state {flag}.NAME VALUE"
        )
    return {name: _read(f"{flag} {name}", value) for name, value in zip(words[::2], words[1::2], strict=True)}


def _read(flag: str, word: str) -> Any:
    try:
        return yaml.load(word, ValueLoader)
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or "it holds characters that YAML does not allow"
        raise refuse(flag, word, f"is not YAML ({reason}); put text into quotes") from error


def _one_word(value: Any) -> str:
    """The value as YAML on one line."""
    text = yaml.dump(value, Dumper=ValueDumper, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")  # PyYAML ends a bare scalar like a document


def registry() -> ConstructorRegistry:
    """tyro's rule for such a leaf: one flag, shown as pairs, that takes the map of `gather_arguments`."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    rules = ConstructorRegistry()

    @rules.primitive_rule
    def keyword_arguments(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[dict[str, Any]] | None:
        if info.type != dict[str, Any]:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="[NAME VALUE ...]",
            instance_from_str=lambda words: yaml.load(words[0], ValueLoader),
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [_one_word(value)],
        )

    return rules
