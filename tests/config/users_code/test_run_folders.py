import os
import sys

import pytest

from lockstep.config import close_to_imports, enclosing_run_folder, import_reference, leave_run_folders
from lockstep.config.users_code.run_folders import importable_folders
from lockstep.errors import ConfigError


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder in the folder trained/ of the current one, with a module that says when it is executed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    folder = tmp_path / "trained" / "foreign"
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    (folder / "starts.jsonl").touch()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nNet = dict\n")
    return folder


def test_a_run_folder_is_known_by_its_files_and_by_where_links_lead(run, tmp_path):
    assert enclosing_run_folder(run / "checkpoints" / "step-1") == run
    assert enclosing_run_folder(tmp_path) is None
    (tmp_path / "link.py").symlink_to(run / "evil.py")
    assert enclosing_run_folder(tmp_path / "link.py") == run


def test_the_current_folder_is_not_put_on_the_path_if_it_is_in_a_run_folder(run, monkeypatch, tmp_path):
    assert importable_folders() == [str(tmp_path)]
    monkeypatch.chdir(run)
    assert importable_folders() == []
    with pytest.raises(ConfigError, match=r"model.name = 'evil:Net': cannot be imported"):
        import_reference("model.name", "evil:Net")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["trained.foreign.evil:Net", "evil:Net"])
def test_a_module_in_a_run_folder_is_never_executed(run, monkeypatch, tmp_path, name):
    monkeypatch.syspath_prepend(str(run))
    with pytest.raises(ConfigError, match=r"lies in the run folder '.*foreign', and nothing in one is imp"):
        import_reference("model.name", name)
    assert not (tmp_path / "ran").exists()


def test_an_opened_folder_is_closed_to_imports_whatever_its_files_are(run, monkeypatch, tmp_path):
    (run / "starts.jsonl").unlink()
    assert enclosing_run_folder(run) is None
    close_to_imports(run)
    with pytest.raises(ConfigError, match=r"lies in the run folder"):
        import_reference("model.name", "trained.foreign.evil:Net")
    assert not (tmp_path / "ran").exists()


def test_processes_that_start_in_a_run_folder_have_it_not_on_their_path(run, monkeypatch):
    leave_run_folders()
    assert "PYTHONSAFEPATH" not in os.environ
    monkeypatch.chdir(run)
    monkeypatch.setattr(sys, "path", ["", str(run), "/elsewhere"])
    leave_run_folders()
    assert sys.path == ["/elsewhere"]
    assert os.environ["PYTHONSAFEPATH"] == "1"
