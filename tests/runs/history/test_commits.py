import subprocess

import pytest

from lockstep.runs.history.commits import commit_of

AUTHOR = ["-c", "user.name=a", "-c", "user.email=a@b"]


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file in the folder of a repository without commits."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    commit_of.cache_clear()
    yield tmp_path / "model.py"
    commit_of.cache_clear()


def git(folder, *words):
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def committed(file, *options):
    git(file.parent, "init", "-q", *options)
    file.write_text("one")
    git(file.parent, "add", file.name)
    git(file.parent, *AUTHOR, "commit", "-q", "-m", "one")
    return git(file.parent, "rev-parse", "HEAD").strip()


def a_program(folder):
    """A program, and the file that it makes when it runs."""
    program, ran = folder / "program", folder / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    return program, ran


@pytest.mark.parametrize("options", [[], ["--object-format=sha256"]])
def test_the_commit_is_of_the_files_repository(file, options, monkeypatch):
    commit = committed(file, *options)
    monkeypatch.chdir("/")
    assert commit_of(file) == {"commit": commit, "is_clean": True}
    file.write_text("two")
    commit_of.cache_clear()
    assert commit_of(file) == {"commit": commit, "is_clean": False}


def test_a_file_that_is_in_no_commit_has_none(file):
    file.write_text("one")
    assert commit_of(file) is None
    commit_of.cache_clear()
    committed(file)
    other = file.with_name("other.py")
    other.write_text("new")
    assert commit_of(other) is None
    assert commit_of(file.with_name("missing.py")) is None


def test_no_program_that_the_repository_names_is_run(file, tmp_path):
    commit = committed(file)
    program, ran = a_program(tmp_path)
    file.with_name(".gitattributes").write_text("* filter=own\n")
    for name in ("core.fsmonitor", "filter.own.clean", "filter.own.process", "core.sshCommand"):
        git(tmp_path, "config", name, str(program))
    file.write_text("two")
    assert commit_of(file) == {"commit": commit, "is_clean": False}
    assert not ran.exists()
    subprocess.run(["git", "status"], cwd=tmp_path, capture_output=True, check=False)
    assert ran.exists()  # so this repository would have run it


def test_nothing_is_fetched_into_a_partial_clone(file, tmp_path):
    committed(file)
    tree = git(tmp_path, "rev-parse", "HEAD^{tree}").strip()
    (tmp_path / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    program, ran = a_program(tmp_path)
    git(tmp_path, "config", "core.repositoryFormatVersion", "1")
    git(tmp_path, "config", "extensions.partialClone", "origin")
    git(tmp_path, "config", "remote.origin.url", f"ext::{program}")
    git(tmp_path, "config", "protocol.ext.allow", "always")
    git(tmp_path, "config", "remote.origin.promisor", "true")
    assert commit_of(file) is None
    assert not ran.exists()
    subprocess.run(["git", "rev-parse", "HEAD:model.py"], cwd=tmp_path, capture_output=True, check=False)
    assert ran.exists()
