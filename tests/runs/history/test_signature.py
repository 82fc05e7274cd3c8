"""Which run folders count as made by this user."""

import pytest

from lockstep.runs import read_starts, record_start, to_json
from lockstep.runs.history.signature import is_own
from runs import small_config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run folder with a start of this user's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "run").mkdir()
    record_start(small_config(), tmp_path / "run", 0, {"sources": {"task": "12"}})
    return tmp_path / "run"


def test_a_start_of_this_users_is_known_by_its_settings_and_sources(folder):
    assert is_own(folder)
    settings = folder / "config.yaml"
    settings.write_text(settings.read_text().replace("seed: 0", "seed: 1"))
    assert not is_own(folder)


@pytest.mark.parametrize("signature", ["", "0" * 64, "é", "\ud800", 5, None])
def test_a_signature_that_anyone_may_write_is_not_this_users(folder, signature):
    (start,) = read_starts(folder)
    (folder / "starts.jsonl").write_text(to_json({**start, "signature": signature}) + "\n")
    assert not is_own(folder)
