"""Whether W&B is online, offline or disabled here."""

import pytest

from lockstep.errors import ConfigError
from lockstep.tracking import wandb_mode


def test_mode_follows_the_key(monkeypatch):
    assert wandb_mode("auto") == "offline"
    assert wandb_mode("disabled") == "disabled"
    with pytest.raises(ConfigError, match=r"tracking\.mode = 'online': no W&B key"):
        wandb_mode("online")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert wandb_mode("auto") == wandb_mode("online") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode("auto") == "disabled"
    assert wandb_mode("offline") == "offline"
    monkeypatch.setenv("WANDB_MODE", "shared")
    with pytest.raises(ConfigError, match="WANDB_MODE = 'shared': must be online, offline, disabled, or not"):
        wandb_mode("auto")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(ConfigError, match="WANDB_MODE = 'online': no W&B key"):
        wandb_mode("auto")


@pytest.mark.parametrize(("value", "mode"), [("true", "disabled"), ("1", "disabled"), ("false", "online")])
def test_wandb_disabled_works_as_users_know_it(monkeypatch, value, mode):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_DISABLED", value)
    assert wandb_mode("auto") == mode
    assert wandb_mode("online") == "online"  # what the command line says wins


@pytest.mark.parametrize(("value", "mode"), [("dryrun", "offline"), ("run", "online")])
def test_older_names_of_modes_are_understood(monkeypatch, value, mode):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_MODE", value)
    assert wandb_mode("auto") == mode


def test_wandb_offline_is_obeyed(home, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    (home / "wandb" / "settings").write_text("[default]\nbase_url = https://wandb.example\nmode = offline\n")
    assert wandb_mode("auto") == "offline"
    assert wandb_mode("online") == "online"
