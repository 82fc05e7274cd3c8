"""What a run records of its environment."""

import json
import subprocess

from lockstep.runs.environment import environment, git_state
from runs import fresh_ranks


def test_the_environment_is_json():
    facts = environment(fresh_ranks())
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["world_size"], facts["device"]) == (1, "cpu")
    assert set(facts["versions"]) == {"lockstep", "python", "torch", "accelerate"}


def test_git_state_is_of_the_working_directory(tmp_path, monkeypatch):
    def state():
        git_state.cache_clear()
        return git_state()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert state() is None
    (tmp_path / "file").write_text("one")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "file"], [*author, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *words], check=True)
    assert state()["is_clean"]
    assert len(state()["commit"]) == 40
    (tmp_path / "file").write_text("two")
    assert not state()["is_clean"]
    git_state.cache_clear()
