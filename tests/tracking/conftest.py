"""What tests of W&B's own settings share."""

import pytest
import wandb


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A home folder, and nothing that wandb has read before."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb"))
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield tmp_path
    wandb.teardown()
