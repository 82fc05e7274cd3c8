"""What the site cannot check by itself: docstrings of public names, and the pages outside of docs/."""

from __future__ import annotations

import importlib
import re
from typing import Any

import griffe
import pytest

from lockstep.commands.main import COMMANDS
from processes import ROOT

API_PAGE = (ROOT / "docs" / "api.md").read_text()
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text()


@pytest.fixture(scope="module")
def package() -> Any:
    """The package as mkdocstrings sees it: from its source, with the docstrings of constants."""
    return griffe.load("lockstep", search_paths=[str(ROOT / "src")], resolve_aliases=True)


def test_every_public_name_is_documented(package: Any) -> None:
    modules = [package, *package.modules.values()]
    undocumented = [
        f"{module.path}.{name}"
        for module in modules
        for name in module.exports or []
        if not module[str(name)].has_docstring
    ]
    assert not undocumented, "no docstring, so not on the site"


def test_every_package_is_on_the_api_page(package: Any) -> None:
    public = {module.path for module in [package, *package.modules.values()] if module.exports}
    shown = set(re.findall(r"^::: (\S+)$", API_PAGE, re.MULTILINE))
    assert public <= shown
    assert all(importlib.import_module(name) for name in shown)


def test_every_command_and_its_usage_are_on_the_commands_page() -> None:
    for name in COMMANDS:
        assert f"\n## {name}\n" in COMMANDS_PAGE
        usage = getattr(importlib.import_module(f"lockstep.commands.{name}"), "HELP", "").partition("\n")[0]
        assert usage in COMMANDS_PAGE


@pytest.mark.parametrize(
    "name", ["CONTRIBUTING.md", "docs/design.md", "docs/extending.md", "docs/debugging.md"]
)
def test_files_and_tests_that_a_page_names_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    for path in re.findall(r"`(?!commands/NAME)([\w./-]+/[\w.-]+\.(?:py|yaml|sbatch))`", text):
        assert any((root / path).exists() for root in (ROOT, ROOT / "src" / "lockstep")), path
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for test in re.findall(r"`(test_\w+)`", text):
        assert f"def {test}(" in tests, test


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md"])
def test_links_outside_of_docs_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text()):
        assert ((ROOT / name).parent / target).exists(), target
