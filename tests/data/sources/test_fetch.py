"""Fetching, on small files that the tests make in torchvision's layout."""

import gzip
import hashlib
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from forked import Popen
from image_files import put, small_files
from lockstep.config import DataConfig
from lockstep.data import DATA_SOURCES, fetch_dataset, load_dataset, missing_files
from lockstep.data.sources.torchvision_mirrors import fetch_with_torchvision
from lockstep.errors import ConfigError
from processes import ROOT


@pytest.fixture
def mnist_from(monkeypatch):
    """Makes the small files MNIST's, and lets a test say what fetches them."""

    def install(**fetchers):
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in small_files().items()}
        source = replace(DATA_SOURCES["mnist"], sha256=digests, fetchers=fetchers)
        monkeypatch.setitem(DATA_SOURCES, "mnist", source)

    return install


def test_files_already_there_are_not_fetched(tmp_path, mnist_from):
    mnist_from()
    put(tmp_path / "MNIST" / "raw", small_files())
    assert fetch_dataset(DataConfig(root=str(tmp_path))) == "files"
    assert len(load_dataset(DataConfig(root=str(tmp_path)), seed=0).train) == 20
    assert not (tmp_path / ".fetch.lock").exists()


def test_packed_files_are_unpacked_and_not_fetched(tmp_path, mnist_from, capsys):
    mnist_from()
    raw = tmp_path / "MNIST" / "raw"
    put(raw, {f"{name}.gz": gzip.compress(content) for name, content in small_files().items()})
    assert missing_files(DataConfig(root=str(tmp_path))) == []
    assert fetch_dataset(DataConfig(root=str(tmp_path))) == "files"
    assert {name: (raw / name).read_bytes() for name in small_files()} == small_files()
    assert capsys.readouterr().err == ""


def test_packed_files_that_are_damaged_or_others_are_named_and_not_used(tmp_path, mnist_from, capsys):
    mnist_from(mirrors=lambda folder, seconds: put(folder, small_files()))
    raw = tmp_path / "MNIST" / "raw"
    packed = {f"{name}.gz": gzip.compress(content) for name, content in small_files().items()}
    first, second, *_ = packed
    put(raw, packed | {first: packed[first][:-9], second: gzip.compress(b"another")})
    assert fetch_dataset(DataConfig(root=str(tmp_path))) == "mirrors"
    assert (raw / first.removesuffix(".gz")).read_bytes() == small_files()[first.removesuffix(".gz")]
    lines = capsys.readouterr().err.splitlines()
    assert f"{first} cannot be used" in lines[0]
    assert f"{second} cannot be used" in lines[1]
    assert "has the wrong content" in lines[1]


def test_if_no_source_answers_the_error_says_which_files_go_where(tmp_path, mnist_from, capsys):
    def fail(folder, seconds):
        raise OSError("unreachable")

    mnist_from(mirrors=fail, index=fail)
    with pytest.raises(ConfigError, match="could not be fetched") as refusal:
        fetch_dataset(DataConfig(root=str(tmp_path / "new")))
    for words in [*small_files(), str(tmp_path / "new" / "MNIST" / "raw")]:
        assert words in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert "lockstep: mirrors: unreachable\n" in capsys.readouterr().err


def test_sources_are_tried_in_order_and_only_the_right_files_are_published(tmp_path, mnist_from):
    calls = []

    def wrong(folder, seconds):
        calls.append("mirrors")
        put(folder, {file: content[:-1] + b"\xff" for file, content in small_files().items()})

    def right(folder, seconds):
        calls.append("index")
        put(folder, small_files())

    mnist_from(mirrors=wrong, index=right)
    assert fetch_dataset(DataConfig(root=str(tmp_path))) == "index"
    assert calls == ["mirrors", "index"]
    raw = tmp_path / "MNIST" / "raw"
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == small_files()
    assert [path.name for path in (tmp_path / "MNIST").iterdir()] == ["raw"]  # no scratch folder stays


def test_a_source_that_hangs_is_ended(tmp_path, monkeypatch, capsys):
    real_run = subprocess.run

    def hang(command, **options):
        return real_run(["sleep", "60"], **options)

    monkeypatch.setattr(subprocess, "run", hang)
    start = time.monotonic()
    with pytest.raises(ConfigError, match="could not be fetched"):
        fetch_dataset(DataConfig(root=str(tmp_path), name="kmnist", fetch_timeout_seconds=0.5))
    assert time.monotonic() - start < 10
    assert "no answer within 0.5 s (data.fetch_timeout_seconds)" in capsys.readouterr().err


def test_torchvision_is_asked_for_both_splits(tmp_path, monkeypatch):
    programs = []

    def run(command, **options):
        programs.append(command[-1])
        put(tmp_path / "EMNIST" / "raw", {"a": b"1"})

    monkeypatch.setattr(subprocess, "run", run)
    fetch_with_torchvision("EMNIST", tmp_path, 5.0, splits=({"split": "digits", "train": True}, {}))
    assert "{'split': 'digits', 'train': True}" in programs[0]
    assert f"datasets.EMNIST({str(tmp_path)!r}, download=True, **split)" in programs[0]
    assert (tmp_path / "a").read_bytes() == b"1"


FETCH = """
import sys, time, pathlib
from dataclasses import replace
from lockstep.config import DataConfig
from lockstep.data import DATA_SOURCES, fetch_dataset
sys.path.insert(0, {support!r})
from image_files import small_files, put
root = pathlib.Path(sys.argv[1])
def slow(folder, seconds):
    with open(root / "fetches", "a") as file:
        file.write("x")
    for name, content in small_files().items():
        put(folder, {{name: content[: len(content) // 2]}})
        time.sleep(float(sys.argv[2]) / 8)
        put(folder, {{name: content}})
DATA_SOURCES["mnist"] = replace(DATA_SOURCES["mnist"], sha256={{}}, fetchers={{"a slow mirror": slow}})
print(fetch_dataset(DataConfig(root=str(root))))
"""


def start_fetch(root, seconds):
    program = FETCH.format(support=str(ROOT / "tests" / "support"))
    return Popen([sys.executable, "-c", program, str(root), str(seconds)], stdout=subprocess.PIPE, text=True)


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
    origins = sorted(process.communicate()[0].strip() for process in crowd)
    assert origins == ["a slow mirror", "files", "files"]
    assert (tmp_path / "fetches").read_text() == "xx"
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == small_files()
    assert [path.name for path in (tmp_path / "MNIST").iterdir()] == ["raw"]
