import pytest
import wandb

from lockstep.errors import ConfigError
from lockstep.tracking.wandb_id import is_wandb_id, read_or_make_id


@pytest.mark.parametrize("value", ["abc", "9f_3-b.1", "lr=0.1 a", "ü"])
def test_an_id_that_wandb_takes_is_one(value):
    assert is_wandb_id(value)
    assert wandb.Settings(run_id=value).run_id == value


@pytest.mark.parametrize("value", ["", ".", "..", "../x", "a/b", "a\\b", "a\n", "a\0", "a" * 129, None, 1])
def test_what_cannot_be_part_of_a_files_name_is_none(value):
    assert not is_wandb_id(value)


def test_an_id_is_made_once(tmp_path, monkeypatch):
    made = read_or_make_id(tmp_path)
    assert is_wandb_id(made)
    monkeypatch.setenv("WANDB_RUN_ID", "other")
    assert read_or_make_id(tmp_path) == made


def test_an_id_that_is_a_path_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "../x")
    with pytest.raises(ConfigError, match=r"WANDB_RUN_ID = '../x': cannot be the id of a W&B run; unset it"):
        read_or_make_id(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "wandb-id").write_text("../x")
    with pytest.raises(ConfigError, match=r"wandb-id = '../x': cannot be the id of a W&B run; delete the"):
        read_or_make_id(tmp_path)
