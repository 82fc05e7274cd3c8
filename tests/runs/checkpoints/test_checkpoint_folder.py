"""Which checkpoint is the newest or the best, and which ones are kept."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.errors import ConfigError
from lockstep.runs.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from lockstep.runs.checkpoints.checkpoint_folder import (
    best_checkpoint,
    broadcast_newest_checkpoint,
    checkpoint_to_resume,
    checkpoints_in,
    load_newest_checkpoint,
    prune_checkpoints,
    set_aside_checkpoints_after,
)
from run_folders import UNREADABLE, make_checkpoint
from runs import fresh_ranks


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, name, damage):
    save_checkpoint(tmp_path, make_checkpoint(1))
    path = save_checkpoint(tmp_path, make_checkpoint(2)) / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content[: len(content) - 1] if damage == "truncated" else b"")
    newest, damages = load_newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1
    assert len(damages) == 1
    assert "step-00000002" in damages[0]
    assert name in damages[0]


def test_damage_is_named_once_for_all_ranks(tmp_path, capsys):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path / "checkpoints", make_checkpoint(step))
    (tmp_path / "checkpoints" / "step-00000002" / "state.pt").write_bytes(b"half")
    ranks = fresh_ranks()
    assert broadcast_newest_checkpoint(tmp_path, ranks).step == 3
    assert capsys.readouterr().err == ""
    assert broadcast_newest_checkpoint(tmp_path, ranks, before=3).step == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lockstep: skipping a damaged checkpoint: ")
    assert line.endswith("step-00000002: state.pt does not match its SHA-256 in manifest.json")


def test_a_folder_without_checkpoints_has_none(tmp_path):
    assert load_newest_checkpoint(tmp_path / "checkpoints") == (None, [])
    assert best_checkpoint(tmp_path) is None


def test_a_partial_save_is_not_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path, make_checkpoint(1))
    (tmp_path / ".step-00000002.partial").mkdir()
    (tmp_path / ".step-00000002.partial" / "weights.safetensors").write_bytes(b"half")
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step-00000001"]
    save_checkpoint(tmp_path, make_checkpoint(2))
    assert load_newest_checkpoint(tmp_path)[0].step == 2


def test_the_newest_and_the_best_are_kept(tmp_path):
    for name in (".step-00000009.partial", ".step-00000009.old"):
        (tmp_path / name).mkdir()
    for step, accuracy in [(1, 0.3), (2, 0.9), (3, None), (4, 0.5), (5, 0.6)]:
        save_checkpoint(tmp_path, make_checkpoint(step, accuracy))
        prune_checkpoints(tmp_path, keep=2)
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["2", "4", "5"]
    assert best_checkpoint(tmp_path).name == "step-00000002"


def test_of_equally_good_checkpoints_the_oldest_is_the_best(tmp_path):
    for step in (9, 10):
        save_checkpoint(tmp_path, make_checkpoint(step, 0.9))
    assert best_checkpoint(tmp_path).name == "step-00000009"


def test_a_score_on_the_test_set_makes_no_checkpoint_the_best(tmp_path):
    """As older versions left them, when the test set chose the best checkpoint."""
    by_test = replace(make_checkpoint(1), info={"test_accuracy": 0.9, "score": 0.9})
    save_checkpoint(tmp_path, by_test)
    assert best_checkpoint(tmp_path) is None


def test_checkpoints_after_a_resume_are_set_aside(tmp_path):
    """A damaged newer checkpoint must not count as the newest, or the best, of those that are kept."""
    folder = tmp_path / "checkpoints"
    for step, accuracy in [(10, 0.1), (20, 0.9)]:
        save_checkpoint(folder, make_checkpoint(step, accuracy))
    (folder / "step-00000020" / "weights.safetensors").unlink()
    start, _ = load_newest_checkpoint(folder)
    set_aside_checkpoints_after(tmp_path, start.step)
    save_checkpoint(folder, make_checkpoint(15, 0.2))
    prune_checkpoints(folder, keep=1)
    assert load_newest_checkpoint(folder)[0].step == 15
    assert best_checkpoint(folder).name == "step-00000015"
    assert [path.name for path in (tmp_path / "set-aside").iterdir()] == ["step-00000020.1"]


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_again(tmp_path, capsys):
    ranks, folder = fresh_ranks(), tmp_path / "checkpoints"
    assert checkpoint_to_resume(tmp_path, ranks) is None
    for step in (1, 2):
        save_checkpoint(folder, make_checkpoint(step))
        (folder / f"step-{step:08d}" / "state.pt").unlink()
    with pytest.raises(
        ConfigError, match=r"run\.name = .*none of its checkpoints .*00002: No such .* step 0, move"
    ):
        checkpoint_to_resume(tmp_path, ranks)
    save_checkpoint(folder, make_checkpoint(1))
    assert checkpoint_to_resume(tmp_path, ranks).step == 1
    assert "skipping a damaged checkpoint" in capsys.readouterr().err


@pytest.mark.skipif(not UNREADABLE.exists(), reason="reads a file of Linux")
def test_a_checkpoint_that_cannot_be_read_is_not_passed_over_and_not_deleted(tmp_path, impatient):
    folder = tmp_path / "checkpoints"
    for step, accuracy in [(1, 0.1), (2, 0.9), (3, 0.3)]:
        save_checkpoint(folder, make_checkpoint(step, accuracy))
    manifest = folder / "step-00000002" / "manifest.json"
    content = manifest.read_bytes()
    manifest.unlink()
    manifest.symlink_to(UNREADABLE)
    prune_checkpoints(folder, keep=1)
    assert [path.name[-1] for path in checkpoints_in(folder)] == ["2", "3"]
    with pytest.raises(ConfigError, match=r"step-00000002: manifest\.json cannot be read"):
        best_checkpoint(folder)
    with pytest.raises(ConfigError, match=r"step-00000002: manifest\.json cannot be read"):
        broadcast_newest_checkpoint(tmp_path, fresh_ranks(), before=3)
    manifest.unlink()
    manifest.write_bytes(content)
    assert best_checkpoint(folder).name == "step-00000002"


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("on-a-disk-that-is-not-mounted")])
def test_a_folder_of_checkpoints_that_cannot_be_read_is_not_an_empty_one(tmp_path, make):
    make(tmp_path / "checkpoints")
    with pytest.raises(ConfigError, match=r"checkpoints: cannot be read \(N.*\); make it readable, then run"):
        checkpoint_to_resume(tmp_path, fresh_ranks())


def test_a_users_own_copies_are_no_checkpoints_and_stay(tmp_path):
    save_checkpoint(tmp_path, make_checkpoint(48, 0.1))
    copies = ["step-00000048-keep", "step-best", "step-48", "step-000000048", "step-٤٨", ".step-mine.old"]
    for name in copies:
        shutil.copytree(tmp_path / "step-00000048", tmp_path / name)
    for step in (49, 50):
        save_checkpoint(tmp_path, make_checkpoint(step, step / 100))
        prune_checkpoints(tmp_path, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*copies, "step-00000050"])
    assert load_newest_checkpoint(tmp_path)[0].step == 50
    assert load_checkpoint(tmp_path / "step-best").step == 48


def test_steps_of_nine_digits_come_after_those_of_eight(tmp_path):
    for step in (100_000_000, 99_999_999):
        save_checkpoint(tmp_path, make_checkpoint(step, 0.5))
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step-99999999", "step-100000000"]
    assert best_checkpoint(tmp_path).name == "step-99999999"
    assert load_newest_checkpoint(tmp_path)[0].step == 100_000_000
