"""The source of what a user brings, by its SHA-256: found and read, but not run. No torch."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
import sysconfig
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from pathlib import Path

from lockstep.config.file_retries import with_retries
from lockstep.config.settings.settings import Config
from lockstep.config.users_code.run_folders import enclosing_run_folder, importable_folders

REFERENCES = ("task.name", "model.name", "data.name", "loss.name", "schedule.name", "optimizer.name")
"""The settings that may refer to a user's code, as 'package.module:name'."""
LIBRARIES = ("torchvision", "huggingface", "torch.nn")
"""What stands before the colon of a reference to a library, whose version counts and not its source."""
PROGRAM = "__main__"
"""The module that a program is."""
INSTALLED = ("site-packages", "dist-packages")
"""The names of folders of installed packages."""


def users_modules(config: Config) -> dict[str, str]:
    """Setting → the module of a user's that it refers to. A task that a program made is of its own module."""
    modules = {}
    for setting in REFERENCES:
        section, _, leaf = setting.partition(".")
        name: str = getattr(getattr(config, section), leaf)
        module, colon, _ = name.partition(":")
        if colon and module not in LIBRARIES:
            modules[setting] = module
        elif setting == "task.name" and name and not colon:
            modules[setting] = PROGRAM
    return modules


def source_digests(config: Config, also: Collection[str] = ()) -> dict[str, str]:
    """Module → SHA-256 of its file, for all that the settings refer to and the user's modules they import.

    Args:
        config: the settings.
        also: as for `module_digests`.
    """
    digests: dict[str, str] = {}
    for module in users_modules(config).values():
        digests |= module_digests(module, also)
    return digests


def imported_digests(config: Config, before: Collection[str]) -> dict[str, str]:
    """Module → SHA-256 of its file, for what was imported from the folders of the user's modules.

    By computed names too. For a task that a program made, it is all that the program has imported from there.

    Args:
        config: the settings.
        before: the modules that were imported for another reason.
    """
    modules = users_modules(config).values()
    passed_over = () if PROGRAM in modules else before
    packages = [_find(module)[1] for module in modules]
    folders = {each.resolve() for each in packages if each is not None and each.name not in INSTALLED}
    roots = tuple(os.path.join(each, "") for each in folders)
    if not roots:  # nothing but what is built in or installed
        return {}
    real_folder = cache(os.path.realpath)  # torch alone has two thousand modules: half a second without it
    digests = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if not path or name == PROGRAM or name in passed_over:
            continue
        folder, base = os.path.split(path)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(real_folder(folder), base)
        if not real.startswith(roots) or is_installed(name, file := Path(real)):
            continue
        if file.is_file() and enclosing_run_folder(file) is None:
            digests[name] = _digest(file)
    return digests


def is_installed(module: str, file: Path) -> bool:
    """Whether a module belongs to Lockstep, to Python's library or to an installed package."""
    library = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    return (
        module.partition(".")[0] == "lockstep"
        or not {*file.parts, *file.resolve().parts}.isdisjoint(INSTALLED)
        or any(file.resolve().is_relative_to(folder) for folder in library)
    )


def module_digests(name: str, also: Collection[str] = ()) -> dict[str, str]:
    """Module → SHA-256 of its file: a module, and those that it imports from the folder that it lies in.

    Nothing is imported: files are found as an import would find them, and read. What is imported by a name
    that only running the code tells is found if `also` has it. Of an installed package only the module's own
    file counts.

    Args:
        name: such as 'package.module'; or `PROGRAM`, this process's program.
        also: modules that an earlier start has imported: those of them in the folder count too.

    Returns:
        Empty if there is no such file, as for a cell of a notebook.
    """
    file, folder = _find(name)
    files = {name: file} if file else {}
    names: list[str] = []
    if file and folder and folder.name not in INSTALLED:
        names = [*_imported(name, file), *(each for each in also if each != PROGRAM)]
    while names:
        each = names.pop()
        source = _find(each, [str(folder)])[0] if each not in files else None
        if source is not None:
            files[each] = source
            names += _imported(each, source)
    return {each: _digest(files[each]) for each in sorted(files)}


def _digest(file: Path) -> str:
    return hashlib.sha256(with_retries(file, file.read_bytes)).hexdigest()


def _imported(module: str, file: Path) -> set[str]:
    """What a module may import, by whole names: 'from pkg import name' may mean a module 'pkg.name'."""
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes()))) if file.suffix == ".py" else []
    except (SyntaxError, ValueError):
        nodes = []  # whoever imports it will say so
    names = {package}
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # for a relative import that leads out of the package
                base = resolve_name("." * node.level + (node.module or ""), package)
                names |= {base, *(f"{base}.{each.name}" for each in node.names)}
    parts = [name.split(".") for name in names if name.partition(".")[0] != "lockstep"]
    return {".".join(each[:end]) for each in parts for end in range(1, len(each) + 1)}


def source_file(name: str) -> Path | None:
    """The file of a module, found but not run; None if there is none."""
    return _find(name)[0]


def _find(name: str, places: list[str] | None = None) -> tuple[Path | None, Path | None]:
    """(the file of a module, the folder that its import starts from), in some folders or on the path."""
    if name == PROGRAM:
        path = getattr(sys.modules.get(PROGRAM), "__file__", None)
        file = Path(path).resolve() if path and os.path.isfile(path) else None
        return file, file.parent if file else None
    PathFinder.invalidate_caches()
    top, *inner = name.split(".")
    spec = PathFinder.find_spec(top, places) if places else _find_on_path(top) if top else None
    if spec is None:
        return None, None
    folders = list(spec.submodule_search_locations or [])
    first = Path(folders[0] if folders else spec.origin or "")
    for each in inner:
        # By its last name alone: of a folder without __init__.py, a finder would look up the parent package.
        spec = PathFinder.find_spec(each, folders)
        if spec is None:
            return None, None
        folders = list(spec.submodule_search_locations or [])
    file = Path(spec.origin) if spec.origin and os.path.isfile(spec.origin) else None
    return file, first.parent


def _find_on_path(name: str) -> ModuleSpec | None:
    """Where `import_reference` would find a module; other finders than the path's know editable installs."""
    spec = PathFinder.find_spec(name, [*importable_folders(), *sys.path])
    finders = [each for each in sys.meta_path if each is not PathFinder and hasattr(each, "find_spec")]
    return spec or next(filter(None, (each.find_spec(name, None) for each in finders)), None)
