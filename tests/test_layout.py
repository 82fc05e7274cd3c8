"""The house: what a package hands on, what the public face names, and how large a module may be."""

import ast
import subprocess
import sys
from importlib import import_module

import pytest

import lockstep
from processes import ROOT

SOURCE = ROOT / "src" / "lockstep"
TESTS = ROOT / "tests"
PACKAGES = sorted(path.parent.name for path in SOURCE.glob("*/__init__.py"))
MODULES = sorted(path for path in SOURCE.rglob("*.py"))
BENCHMARKS = sorted((ROOT / "scripts" / "bench").glob("*.py"))


def imports(path):
    """(package, module, names) of each import from another package of Lockstep."""
    own = path.relative_to(SOURCE).parts[0] if path.is_relative_to(SOURCE) else ""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lockstep."):
            _, package, *module = node.module.split(".")
            if package != own and package in PACKAGES:
                yield package, ".".join(module), [alias.name for alias in node.names]


IMPORTERS = [*(path for path in MODULES if path.parent != SOURCE), *BENCHMARKS]


@pytest.mark.parametrize("path", IMPORTERS, ids=str)
def test_a_package_is_entered_by_its_face_or_by_a_module_that_the_face_names(path):
    for package, module, names in imports(path):
        face = import_module(f"lockstep.{package}")
        if module:
            assert module in face.__doc__, f"{package}.{module} is private: its __init__ does not name it"
            assert not set(names) & set(face.__all__), f"{names} are handed on by {package}"
        else:
            assert set(names) <= set(face.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_face_says_in_a_line_what_lives_there(package):
    first_line = import_module(f"lockstep.{package}").__doc__.partition("\n")[0]
    assert first_line.endswith(".")


def test_modules_stay_small_and_the_top_level_too():
    for path in MODULES:
        assert len(path.read_text().splitlines()) <= 250, path
    assert {path.name for path in SOURCE.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}
    assert len(PACKAGES) <= 13


def folders(root):
    return {path.parent for path in root.rglob("*.py")}


def test_a_folder_shows_some_ten_entries_and_says_what_lives_there():
    for folder in [each for package in PACKAGES for each in folders(SOURCE / package)]:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder
        entries = {path.relative_to(folder).parts[0] for path in folder.rglob("*.py")} - {"__init__.py"}
        most = 15 if folder.name == "commands" else 12  # one per command
        assert len(entries) <= most, f"{folder}: make a folder of those that belong together"


def test_the_folders_of_a_package_and_of_its_tests_have_the_same_names():
    for package in PACKAGES:
        tested = {str(path.relative_to(TESTS)) for path in folders(TESTS / package)}
        assert tested <= {str(path.relative_to(SOURCE)) for path in folders(SOURCE / package)}


def test_the_public_face_loads_what_it_names():
    assert sorted(lockstep.__all__) == lockstep.__all__
    assert set(lockstep.__all__) == set(lockstep._PACKAGE_OF)
    for name in lockstep.__all__:
        assert getattr(lockstep, name) is not None
        assert name in dir(lockstep)
    checked = next(
        node for node in ast.parse((SOURCE / "__init__.py").read_text()).body if isinstance(node, ast.If)
    )
    assert {alias.name for node in checked.body for alias in node.names} == set(lockstep.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lockstep.nothing  # noqa: B018


def test_importing_lockstep_imports_no_torch():
    program = "import sys, lockstep; lockstep.Config(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_python_m_lockstep_is_the_command():
    words = [sys.executable, "-m", "lockstep", "--version"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.stdout == f"lockstep {lockstep.__version__}\n"
