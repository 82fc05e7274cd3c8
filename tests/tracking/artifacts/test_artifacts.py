"""What is put into artifacts; their upload and download is in tests/multiprocess/test_wandb_server.py."""

import json

import wandb

from lockstep.runs.checkpoints.checkpoint import save_checkpoint, weights_sha256
from lockstep.tracking.artifacts.artifacts import dataset_artifact, model_artifacts
from run_folders import make_checkpoint, make_record, make_run


def test_the_best_and_the_newest_checkpoint_become_artifacts(tmp_path):
    folder = tmp_path / "a run"
    make_run(folder, [make_record(step) for step in (1, 2, 3)])
    for step, accuracy in ((1, 0.9), (2, 0.5)):
        save_checkpoint(folder / "checkpoints", make_checkpoint(step, accuracy))
    (best, best_aliases), (newest, newest_aliases) = model_artifacts(wandb, folder, "id")
    assert (best_aliases, newest_aliases) == (["best"], ["latest"])
    assert (best.name, best.type, newest.name) == ("a-run", "model", "a-run")
    assert best.metadata == {
        "step": 1,
        "validation_accuracy": 0.9,
        "weights_sha256": weights_sha256(make_checkpoint(1).weights),
        "run_id": "id",
    }
    entries = newest.manifest.entries
    files = {f"checkpoint/{name}" for name in ("manifest.json", "state.pt", "weights.safetensors")}
    assert set(entries) == files | {"config.yaml", "metrics.jsonl", "starts.jsonl"}
    with open(entries["metrics.jsonl"].local_path) as records:
        assert [json.loads(line)["step"] for line in records] == [1, 2]


def test_one_checkpoint_gets_both_aliases(tmp_path):
    make_run(tmp_path / "run", [make_record(1)])
    assert list(model_artifacts(wandb, tmp_path / "run", "id")) == []
    save_checkpoint(tmp_path / "run" / "checkpoints", make_checkpoint(1, 0.9))
    ((_, aliases),) = model_artifacts(wandb, tmp_path / "run", "id")
    assert aliases == ["best", "latest"]


def test_without_a_validation_set_no_artifact_is_the_best(tmp_path):
    make_run(tmp_path / "run", [make_record(1)])
    save_checkpoint(tmp_path / "run" / "checkpoints", make_checkpoint(1))
    ((_, aliases),) = model_artifacts(wandb, tmp_path / "run", "id")
    assert aliases == ["latest"]


def test_the_data_set_is_a_reference_without_content(tmp_path):
    facts = {"name": "mnist", "sha256": "0" * 64}
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    artifact = dataset_artifact(wandb, tmp_path / "dataset.json")
    assert (artifact.name, artifact.type, artifact.metadata) == ("mnist", "dataset", facts)
    assert artifact.manifest.entries["mnist"].ref == "sha256:" + "0" * 64
