"""What the site cannot check by itself: docstrings of public names, and the pages outside of docs/."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import griffe
import pytest

from lockstep.commands.main import COMMANDS, main
from processes import ROOT, run

API_PAGE = (ROOT / "docs" / "api.md").read_text()
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text()
PAGES = [*ROOT.glob("*.md"), ROOT / "tests" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


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


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_page_shows_the_help_of_each_command(name: str, capsys: pytest.CaptureFixture) -> None:
    assert f"| [`{name}`](#{name}) | {COMMANDS[name]} |" in COMMANDS_PAGE
    (shown,) = re.findall(rf"^## {name}\n\n```text\n(.*?)^```", COMMANDS_PAGE, re.MULTILINE | re.DOTALL)
    with contextlib.suppress(SystemExit):  # tyro's way to end its help
        main([name, "--help"])
    printed = capsys.readouterr().out
    if name == "train":  # the page leaves out the list of settings, and tyro spaces the rest
        shown, printed = (" ".join(text.split()) for text in (shown, printed))
        assert printed.startswith(shown)
    else:
        assert shown == printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_has_a_placeholder(page: Path) -> None:
    assert "@@" not in page.read_text()


@pytest.mark.parametrize(
    "name", ["CONTRIBUTING.md", "docs/design.md", "docs/extending.md", "docs/debugging.md", "tests/README.md"]
)
def test_files_and_tests_that_a_page_names_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    for path in re.findall(r"`(?!commands/NAME)([\w./-]+/[\w.-]+\.(?:py|yaml|sbatch))`", text):
        assert any((root / path).exists() for root in (ROOT, ROOT / "src" / "lockstep", ROOT / "tests")), path
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for test in re.findall(r"`(test_\w+)`", text):
        assert f"def {test}(" in tests, test


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md"])
def test_links_outside_of_docs_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text()):
        assert ((ROOT / name).parent / target).exists(), target


def test_make_docs_fails_at_a_dead_link(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="it is in the extra `docs`, which `make docs` installs")
    flags = re.findall(r"mkdocs build (.*)", (ROOT / "Makefile").read_text())[0].split()
    (tmp_path / "mkdocs.yml").write_text("site_name: one page\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[nowhere](nowhere.md)\n")
    assert run([sys.executable, "-m", "mkdocs", "build", *flags], cwd=tmp_path).returncode == 1
