import json

import pytest
import torch

from lockstep.runs import checkpoint
from lockstep.runs.checkpoint import (
    Checkpoint,
    DamagedCheckpoint,
    load_checkpoint,
    save_checkpoint,
    weights_sha256,
)
from lockstep.runs.checkpoint_folder import (
    best_saved_accuracy,
    checkpoints_in,
    hide_checkpoints_after,
    load_newest_checkpoint,
    prune_checkpoints,
)


def make(step, accuracy=None):
    generator = torch.Generator().manual_seed(step)
    weights = {"b": torch.randn(3, generator=generator), "a": torch.randn(2, 4, generator=generator)}
    state = {
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(5.0)}}},
        "skipped_steps": 0,
    }
    info = {"train_seconds": 1.5} | ({} if accuracy is None else {"test_accuracy": accuracy})
    return Checkpoint(step=step, weights=weights, state=state, info=info)


def test_what_is_saved_is_what_is_loaded(tmp_path):
    saved = make(7, 0.5)
    path = save_checkpoint(tmp_path, saved)
    assert path.name == "step-00000007"
    loaded = load_checkpoint(path)
    assert (loaded.step, loaded.info) == (7, saved.info)
    assert all(torch.equal(loaded.weights[name], saved.weights[name]) for name in saved.weights)
    assert torch.equal(loaded.state["optimizer"]["state"][0]["exp_avg"], torch.ones(3))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-00000007"]


FILES = ["weights.safetensors", "state.pt", "manifest.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, name, damage):
    save_checkpoint(tmp_path, make(1))
    path = save_checkpoint(tmp_path, make(2)) / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content[: len(content) - 1] if damage == "truncated" else b"")
    found, damages = load_newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    assert len(damages) == 1
    assert "step-00000002" in damages[0]
    assert name in damages[0]


def test_each_flipped_bit_of_a_manifest_is_noticed(tmp_path):
    path = save_checkpoint(tmp_path, make(3, 0.25)) / "manifest.json"
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


def test_a_partial_save_is_not_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path, make(1))
    (tmp_path / ".step-00000002.partial").mkdir()
    (tmp_path / ".step-00000002.partial" / "weights.safetensors").write_bytes(b"half")
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step-00000001"]
    save_checkpoint(tmp_path, make(2))
    assert load_newest_checkpoint(tmp_path)[0].step == 2


def test_the_newest_and_the_best_stay(tmp_path):
    for step, accuracy in [(1, 0.3), (2, 0.9), (3, None), (4, 0.5), (5, 0.6)]:
        save_checkpoint(tmp_path, make(step, accuracy))
        prune_checkpoints(tmp_path, keep=2)
    assert [path.name[-1] for path in checkpoints_in(tmp_path)] == ["2", "4", "5"]
    assert best_saved_accuracy(tmp_path) == 0.9


def test_a_failed_save_loses_nothing(tmp_path, monkeypatch):
    """T10: older checkpoints go only after the new one is published."""
    save_checkpoint(tmp_path, make(1))

    def full_disk(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_synced", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, make(2))
    assert load_newest_checkpoint(tmp_path)[0].step == 1


def test_nothing_that_is_loaded_can_run_code(tmp_path):
    import hashlib
    import pickle

    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("ran",))

    path = save_checkpoint(tmp_path, make(1))
    (path / "state.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest.pop("manifest_sha256")
    manifest["sha256"]["state.pt"] = hashlib.sha256((path / "state.pt").read_bytes()).hexdigest()
    manifest["manifest_sha256"] = checkpoint._manifest_sha256(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        load_checkpoint(path)


def test_digest_of_weights():
    weights = make(1).weights
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


def test_what_is_newer_than_a_resume_is_set_aside(tmp_path):
    """A damaged newer checkpoint must not count as the newest, or the best, of those that are kept."""
    for step, accuracy in [(10, 0.1), (20, 0.9)]:
        save_checkpoint(tmp_path, make(step, accuracy))
    (tmp_path / "step-00000020" / "weights.safetensors").unlink()
    start, _ = load_newest_checkpoint(tmp_path)
    hide_checkpoints_after(tmp_path, start.step)
    save_checkpoint(tmp_path, make(15, 0.2))
    prune_checkpoints(tmp_path, keep=1)
    assert load_newest_checkpoint(tmp_path)[0].step == 15
    assert best_saved_accuracy(tmp_path) == 0.2
    assert (tmp_path / ".damaged-step-00000020").exists()


def test_tied_weights_can_be_saved(tmp_path):
    shared = torch.ones(3)
    saved = Checkpoint(step=1, weights={"a": shared, "b": shared}, state={}, info={})
    assert torch.equal(load_checkpoint(save_checkpoint(tmp_path, saved)).weights["b"], shared)
