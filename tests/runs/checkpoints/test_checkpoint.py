"""What is saved is what is loaded, damage is noticed, and nothing that is loaded runs code."""

import errno
import hashlib
import json
import math
import os
import pickle
from dataclasses import replace

import pytest
import torch

from lockstep.errors import RunStopped
from lockstep.runs.checkpoints import checkpoint
from lockstep.runs.checkpoints.checkpoint import (
    Checkpoint,
    DamagedCheckpoint,
    UnreadableCheckpoint,
    load_checkpoint,
    read_info,
    remove_checkpoint,
    save_checkpoint,
    weights_sha256,
)
from lockstep.runs.checkpoints.checkpoint_folder import load_newest_checkpoint
from run_folders import UNREADABLE, back_in_a_moment, make_checkpoint


def test_what_is_saved_is_what_is_loaded(tmp_path):
    saved = make_checkpoint(7, 0.5)
    path = save_checkpoint(tmp_path, saved)
    assert path.name == "step-00000007"
    loaded = load_checkpoint(path)
    assert (loaded.step, loaded.info) == (7, saved.info)
    assert all(torch.equal(loaded.weights[name], saved.weights[name]) for name in saved.weights)
    assert torch.equal(loaded.state["optimizer"]["state"][0]["exp_avg"], torch.ones(3))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-00000007"]


def test_each_flipped_bit_of_a_manifest_is_noticed(tmp_path):
    path = save_checkpoint(tmp_path, make_checkpoint(3, 0.25)) / "manifest.json"
    whole = path.read_bytes()
    before = json.loads(whole)
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        try:
            load_checkpoint(path.parent)
        except DamagedCheckpoint:
            continue
        assert json.loads(changed) == before  # only white space may differ


def test_a_later_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 3)
    path = save_checkpoint(tmp_path, make_checkpoint(1))
    monkeypatch.undo()
    for read in (load_checkpoint, read_info):
        with pytest.raises(UnreadableCheckpoint, match=r"step-00000001: has format 3; .* formats 1 and 2"):
            read(path)


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    save_checkpoint(tmp_path, make_checkpoint(1, 0.1))
    path = save_checkpoint(tmp_path, make_checkpoint(1, 0.2))
    assert read_info(path)["validation_accuracy"] == 0.2
    remove_checkpoint(path)
    assert not list(tmp_path.iterdir())


def test_moving_averages_have_a_file_and_a_format_of_their_own(tmp_path):
    plain = make_checkpoint(1)
    assert not (save_checkpoint(tmp_path, plain) / "ema.safetensors").exists()
    assert json.loads((tmp_path / "step-00000001" / "manifest.json").read_text())["format"] == 1
    averages = {name: value + 1 for name, value in plain.weights.items()}
    path = save_checkpoint(tmp_path, replace(plain, ema=averages))
    loaded = load_checkpoint(path)
    assert all(torch.equal(loaded.ema[name], value) for name, value in averages.items())
    assert json.loads((path / "manifest.json").read_text())["format"] == 2
    (path / "ema.safetensors").write_bytes(b"half")
    with pytest.raises(DamagedCheckpoint, match=r"ema\.safetensors does not match its SHA-256"):
        load_checkpoint(path)


def test_a_failed_save_loses_nothing(tmp_path, monkeypatch):
    """T10: older checkpoints are deleted only after the new one is complete."""
    save_checkpoint(tmp_path, make_checkpoint(1))

    def full_disk(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_synced", full_disk)
    needs = r"step-00000002 cannot be written \(No space left .*, ENOSPC\): it needs .* bytes, .* are free"
    with pytest.raises(RunStopped, match=needs):
        save_checkpoint(tmp_path, make_checkpoint(2))
    assert load_newest_checkpoint(tmp_path)[0].step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_nothing_that_is_loaded_can_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("ran",))

    path = save_checkpoint(tmp_path, make_checkpoint(1))
    forge(path, "state.pt", pickle.dumps(Evil(), protocol=2))
    with pytest.raises(DamagedCheckpoint, match=r"state\.pt cannot be decoded \(Weights only load failed"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["state.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"rubbish" * 99, b"PK\x03\x04"])
def test_whatever_a_decoder_raises_is_damage(tmp_path, name, content):
    path = save_checkpoint(tmp_path, make_checkpoint(1))
    forge(path, name, content)
    with pytest.raises(DamagedCheckpoint, match=rf"{name} cannot be decoded"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": {}},
        {"sha256": {"weights.safetensors": "0"}},
        {"sha256": {"weights.safetensors": "0", "state.pt": "0", "../../secret": "0"}},
        {"sha256": None},
        {"info": []},
        {"step": "1"},
        {"step": 2},
    ],
)
def test_a_manifest_must_say_all_that_is_needed(tmp_path, change):
    path = save_checkpoint(tmp_path, make_checkpoint(1))
    rewrite_manifest(path, change)
    with pytest.raises(DamagedCheckpoint, match=r"manifest\.json (does not name|is that of step 2)"):
        load_checkpoint(path)


@pytest.mark.skipif(not UNREADABLE.exists(), reason="reads a file of Linux")
@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors", "state.pt"])
def test_a_file_that_cannot_be_read_is_not_damaged(tmp_path, name, impatient):
    path = save_checkpoint(tmp_path, make_checkpoint(1))
    (path / name).unlink()
    (path / name).symlink_to(UNREADABLE)
    with pytest.raises(
        UnreadableCheckpoint, match=rf"{name} cannot be read \(Input/output error, EIO\); make"
    ):
        load_checkpoint(path)


@pytest.mark.skipif(not UNREADABLE.exists(), reason="reads a file of Linux")
@pytest.mark.parametrize("name", ["manifest.json", "state.pt"])
def test_a_file_that_comes_back_is_read(tmp_path, capsys, name):
    path = save_checkpoint(tmp_path, make_checkpoint(1))
    with back_in_a_moment(path / name):
        assert load_checkpoint(path).step == 1
    assert capsys.readouterr().err == f"lockstep: {path / name}: Input/output error, EIO; trying again\n"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_save_is_tried_again_as_a_whole_and_then_stops_the_run(tmp_path, monkeypatch, impatient, call):
    save_checkpoint(tmp_path, make_checkpoint(1))
    whole, left = getattr(os, call), [2]

    def stale_at_first(*words):
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, "Stale file handle")
        return whole(*words)

    monkeypatch.setattr(os, call, stale_at_first)
    assert load_checkpoint(save_checkpoint(tmp_path, make_checkpoint(2))).step == 2
    left[0] = 99
    with pytest.raises(
        RunStopped, match=r"00003 cannot be written \(Stale file handle, ESTALE\); check the disk"
    ):
        save_checkpoint(tmp_path, make_checkpoint(3))
    assert load_newest_checkpoint(tmp_path)[0].step == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_a_number_that_is_not_finite_is_null_in_the_manifest(tmp_path):
    saved = make_checkpoint(1)
    path = save_checkpoint(tmp_path, replace(saved, info={"score": math.nan, "test_x": math.inf}))
    assert "NaN" not in (path / "manifest.json").read_text()
    assert load_checkpoint(path).info == {"score": None, "test_x": None}


def forge(path, name, content):
    """Replaces a file of a checkpoint, and its digest."""
    (path / name).write_bytes(content)
    digests = json.loads((path / "manifest.json").read_text())["sha256"]
    rewrite_manifest(path, {"sha256": digests | {name: hashlib.sha256(content).hexdigest()}})


def rewrite_manifest(path, change):
    manifest = json.loads((path / "manifest.json").read_text()) | change
    manifest.pop("manifest_sha256")
    manifest["manifest_sha256"] = checkpoint._manifest_sha256(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_digest_of_weights():
    weights = make_checkpoint(1).weights
    reordered = dict(reversed(weights.items()))
    assert weights_sha256(weights) == weights_sha256(reordered)
    changed = {name: tensor.clone() for name, tensor in weights.items()}
    changed["a"].view(torch.int32)[1, 2] ^= 1
    assert weights_sha256(changed) != weights_sha256(weights)
    assert weights_sha256({"a": weights["a"].reshape(4, 2), "b": weights["b"]}) != weights_sha256(weights)
    four_d = torch.randn(4, 3, 2, 2)
    assert weights_sha256({"w": four_d}) == weights_sha256(
        {"w": four_d.to(memory_format=torch.channels_last)}
    )
    column = torch.randn(1, 2)[:, 0]  # contiguous, with a stride of 2
    assert weights_sha256({"w": column}) == weights_sha256({"w": column + 0})


def test_tied_weights_can_be_saved(tmp_path):
    shared = torch.ones(3)
    saved = Checkpoint(step=1, weights={"a": shared, "b": shared}, state={}, info={})
    assert torch.equal(load_checkpoint(save_checkpoint(tmp_path, saved)).weights["b"], shared)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_a_device_is_damage_and_is_not_read(tmp_path, make):
    path = save_checkpoint(tmp_path, make_checkpoint(3, 0.25))
    (path / "state.pt").unlink()
    make(path / "state.pt")
    with pytest.raises(DamagedCheckpoint, match=r"state\.pt is a pipe or a device"):
        load_checkpoint(path)


@pytest.mark.parametrize("info", [{"train_seconds": "x"}, {"selection_score": [1]}, "x"])
def test_facts_of_another_kind_are_damage(tmp_path, info):
    path = save_checkpoint(tmp_path, make_checkpoint(3, 0.25))
    manifest = json.loads((path / "manifest.json").read_text()) | {"info": info}
    del manifest["manifest_sha256"]
    manifest["manifest_sha256"] = checkpoint._manifest_sha256(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedCheckpoint, match="does not name its step, its facts and its files"):
        load_checkpoint(path)
