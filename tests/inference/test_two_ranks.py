"""`lockstep predict` on two processes, and a run on MNIST from training to its use."""

import csv

import numpy as np
import pytest

from lockstep.data.images.idx import IdxFile, encode_idx
from lockstep.data.sources.synthetic import NUM_TRAIN, synthetic_images
from photographs import photograph
from processes import ROOT, lockstep, on_two_ranks, train_quick

pytestmark = pytest.mark.slow

MNIST = ROOT / "data" / "MNIST" / "raw"


def test_two_processes_write_the_lines_of_one(tmp_path):
    train_quick(tmp_path, "run", 1, "--train.steps", "2")
    (tmp_path / "digits").write_bytes(encode_idx(synthetic_images(0, 600, NUM_TRAIN)[0]))
    (tmp_path / "damaged.png").write_bytes(b"no image")
    words = ["predict", str(tmp_path / "run"), *(str(tmp_path / name) for name in ("damaged.png", "digits"))]
    results = {
        "one.csv": lockstep(*words, "--output", str(tmp_path / "one.csv")),
        "two.csv": on_two_ranks(*words, "--output", str(tmp_path / "two.csv")),
    }
    for name, result in results.items():
        assert result.returncode == 1, result.stderr
        assert result.stderr.count("cannot be read: ") == 1
        assert len((tmp_path / name).read_text().splitlines()) == 1 + 600
    # The batches of other processes have other sizes, so probabilities may differ in their last bits.
    one, two = (list(csv.reader((tmp_path / name).read_text().splitlines())) for name in results)
    assert [row[:2] for row in one] == [row[:2] for row in two]


@pytest.mark.skipif(not MNIST.exists(), reason="needs MNIST in data/, which `make train` fetches")
def test_photographs_of_digits_and_an_export_of_mnist(tmp_path):
    images, labels = (
        IdxFile.open(MNIST / f"t10k-{name}-ubyte").first(1000) for name in ("images-idx3", "labels-idx1")
    )
    result = lockstep(
        *("train", "--train.steps", "120", "--batch.micro-size", "256", "--run.dir", str(tmp_path)),
        *("--run.name", "run", "--tracking.mode", "disabled", "--train.no-report"),
    )
    assert result.returncode == 0, result.stderr
    (tmp_path / "photos").mkdir()
    for digit in range(10):
        chosen = images[np.flatnonzero(labels == digit)[0]]
        photograph(chosen, seed=digit).save(tmp_path / "photos" / f"{digit}.png")
    result = lockstep("predict", str(tmp_path / "run"), str(tmp_path / "photos"))
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert sum(row["label"] == row["sample"][-5] for row in rows) >= 9, result.stdout
    assert "10 images inverted" in result.stderr
    pytest.importorskip("onnxruntime", exc_type=ImportError)
    pytest.importorskip("onnxscript", exc_type=ImportError)
    result = lockstep("export", str(tmp_path / "run"), "--format", "onnx")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "for 10,000 samples the same predictions" in result.stdout
