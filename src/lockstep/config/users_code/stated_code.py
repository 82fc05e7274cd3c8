"""Which code a run folder may name. What it says is read and compared; none of it runs here. No torch."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib.util import resolve_name
from pathlib import Path

from lockstep.config.parsing.serialization import leaves
from lockstep.config.settings.settings import Config
from lockstep.config.users_code.run_folders import enclosing_run_folder
from lockstep.config.users_code.source_files import (
    PROGRAM,
    is_installed,
    module_digests,
    source_file,
    users_modules,
)
from lockstep.errors import refuse


def check_stated_code(
    config: Config,
    imports: Collection[str],
    named: Collection[str],
    recorded: Mapping[str, str],
    whose: str,
    *,
    is_own: bool = False,
) -> list[str]:
    """Checks what a run folder or an artifact makes this process import, before any of it is imported.

    It may name a module of the user's own, outside of every run folder, if its source is the one that the run
    recorded, and if the module itself defines what is named: otherwise it could name any function of Python's
    library or of a package, with arguments that do harm. What this user has trained with may also be of a
    package; its source must be the recorded one too.

    Args:
        config: the settings.
        imports: the settings whose code the caller imports.
        named: those that the user states too: what they name may be anywhere outside of run folders.
        recorded: module → the digest of its source when the run was trained.
        whose: the run folder or artifact, for messages.
        is_own: whether this user is known to have made it.

    Returns:
        A line for each module, so that the user sees what is imported.

    Raises:
        ConfigError: anything else is named; it ends with the flags that name all of it.
    """
    lines = []
    troubles: dict[str, str] = {}
    for setting, module in users_modules(config).items():
        value = leaves(config)[setting]
        if setting not in imports or ":" not in value:
            continue  # the latter: a task that only the program that made it can hand over
        file = None if module == PROGRAM else source_file(module)
        folder = enclosing_run_folder(file) if file else None
        if folder is not None:
            rule = f"lies in the run folder {str(folder)!r}, and nothing in one is imported"
            raise refuse(setting, value, rule)
        if setting in named:
            continue
        digests = module_digests(module, recorded)
        trouble = "" if is_own else _strangers_trouble(module, value.partition(":")[2], file, digests)
        trouble = trouble or _changes(module, digests, recorded)
        if trouble:
            troubles[setting] = trouble
            continue
        origin = f" from {file}" if file else ""
        lines.append(f"imports {module}{origin} for {setting}, as {whose} says; its source is unchanged")
    for setting, trouble in troubles.items():
        flags = shlex.join(word for each in troubles for word in (f"--{each}", leaves(config)[each]))
        rule = f"is what {whose} names, and {trouble}; if you trust it, name it too: {flags}"
        raise refuse(setting, leaves(config)[setting], rule)
    return lines


def _strangers_trouble(module: str, name: str, file: Path | None, digests: Collection[str]) -> str:
    """Why what anyone's run folder names is not imported, whatever it recorded; empty if it may be."""
    if file is None:
        return f"no file of a module {module!r} is found from here"
    if is_installed(module, file):
        return f"{module!r} is a library, not code of your own"
    if not _defines(module, name.split("."), digests):
        return f"{module!r} does not define it itself"
    return ""


def _changes(module: str, digests: Mapping[str, str], recorded: Mapping[str, str]) -> str:
    """How a module's source, and what it imports, differs from what was recorded; empty if it does not."""
    if digests and module not in recorded:
        return "its source was not recorded"
    changed = [each for each in digests if recorded.get(each) != digests[each]]
    return f"the source of {' and '.join(changed)} is not what was recorded" if changed else ""


def _defines(module: str, path: list[str], own: Collection[str]) -> bool:
    """Whether a module's statements define a name, or take it from another module of the user's.

    Args:
        module: whose file is read.
        path: such as ['Class', 'method'].
        own: the modules whose sources are known.
    """
    file = source_file(module)
    if file is None or file.suffix != ".py":
        return False
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    statements = ast.parse(file.read_bytes()).body
    for index, name in enumerate(path):
        inner: list[ast.stmt] | None = None
        for each in statements:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name == name:
                inner = []
            elif isinstance(each, ast.ClassDef) and each.name == name:
                inner = each.body
            elif isinstance(each, ast.Assign) and name in map(ast.unparse, each.targets):
                inner = []
            elif isinstance(each, ast.ImportFrom) and index == 0:
                inner = None
                with suppress(ImportError):
                    base = resolve_name("." * each.level + (each.module or ""), package)
                    for alias in each.names:
                        if name == (alias.asname or alias.name) and base in own:
                            return _defines(base, [alias.name, *path[1:]], own)
        if inner is None:
            return False
        statements = inner
    return True
