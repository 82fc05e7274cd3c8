"""Which checkpoint is the newest or the best, and which ones are kept."""

import math

import pytest

from lockstep.runs.checkpoint import save_checkpoint
from lockstep.runs.checkpoint_folder import (
    best_checkpoint,
    best_saved_score,
    broadcast_newest_checkpoint,
    checkpoints_in,
    hide_checkpoints_after,
    load_newest_checkpoint,
    prune_checkpoints,
)
from run_folders import make_checkpoint
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
    assert best_saved_score(tmp_path) == -math.inf


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
    assert best_saved_score(tmp_path) == 0.9


def test_of_equally_good_checkpoints_the_newest_is_the_best(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, make_checkpoint(step, 0.9))
    assert best_checkpoint(tmp_path).name == "step-00000002"


def test_checkpoints_after_a_resume_are_hidden(tmp_path):
    """A damaged newer checkpoint must not count as the newest, or the best, of those that are kept."""
    for step, accuracy in [(10, 0.1), (20, 0.9)]:
        save_checkpoint(tmp_path, make_checkpoint(step, accuracy))
    (tmp_path / "step-00000020" / "weights.safetensors").unlink()
    start, _ = load_newest_checkpoint(tmp_path)
    hide_checkpoints_after(tmp_path, start.step)
    save_checkpoint(tmp_path, make_checkpoint(15, 0.2))
    prune_checkpoints(tmp_path, keep=1)
    assert load_newest_checkpoint(tmp_path)[0].step == 15
    assert best_saved_score(tmp_path) == 0.2
    assert (tmp_path / ".damaged-step-00000020").exists()
