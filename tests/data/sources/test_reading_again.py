"""A disk that does not answer for a moment ends no run, and one that does not answer at all is no damage."""

import errno
import os
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from image_files import synthetic_files
from image_folders import colour_folder
from lockstep.config import BatchConfig, DataConfig
from lockstep.data import Prefetcher, SpanReader, find_pictures, load_dataset, load_image_set
from lockstep.data.images.idx import IdxFile, encode_idx
from lockstep.data.images.image_pixels import UnreadableImage, read_image
from lockstep.data.sources.huggingface_sets import read_again
from lockstep.data.sources.image_folder import open_folder
from lockstep.errors import ConfigError, DataError
from lockstep.plan import Plan
from run_folders import UNREADABLE, back_in_a_moment

EIO = r"cannot be read \(Input/output error, EIO\); make it readable"
pytestmark = pytest.mark.skipif(not UNREADABLE.exists(), reason="reads a file of Linux")


def folder_config(root, **changes):
    return DataConfig(name="folder", root=str(root), **{"image_size": 16, **changes})


def goes_away(path):
    path.unlink()
    path.symlink_to(UNREADABLE)


def test_files_of_digits_that_come_back_are_read(tmp_path, capsys):
    config = replace(synthetic_files(tmp_path), storage="resident")
    whole = load_dataset(config, seed=0).train
    with ExitStack() as moments:
        for path in sorted(tmp_path.rglob("*ubyte")):
            moments.enter_context(back_in_a_moment(path))
        read = load_dataset(config, seed=0).train
    assert torch.equal(read.images, whole.images)
    assert capsys.readouterr().err.count("Input/output error, EIO; trying again") == 1


def test_files_of_digits_that_stay_away_are_refused_and_not_fetched_again(tmp_path, impatient):
    config = synthetic_files(tmp_path)
    (path,) = tmp_path.rglob("train-images*")
    goes_away(path)
    with pytest.raises(ConfigError, match=f"train-images-idx3-ubyte: {EIO}"):
        load_dataset(config, seed=0)


def test_each_read_of_an_open_file_is_tried_again(tmp_path, capsys):
    array, path = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), tmp_path / "file"
    path.write_bytes(encode_idx(array))
    file = IdxFile.open(path)
    for read in (lambda: file.first(2), lambda: file.rows(np.array([0, 1]))):
        with back_in_a_moment(path):
            assert np.array_equal(read(), array)
        assert "EIO; trying again" in capsys.readouterr().err


@pytest.mark.parametrize("num_workers", [0, 1])
def test_streamed_digits_that_stay_away_end_the_run_with_one_line(tmp_path, impatient, num_workers):
    files = load_dataset(synthetic_files(tmp_path), seed=0).train
    goes_away(files.images.path)
    plan = Plan(
        seed=0, world_size=1, num_samples=len(files), batch=BatchConfig(global_size=64, micro_size=16)
    )
    reader = SpanReader(files, plan, rank=0, first_step=0)
    with (
        Prefetcher(reader, torch.device("cpu"), DataConfig(num_workers=num_workers)) as spans,
        pytest.raises(DataError, match=f"^.*train-images-idx3-ubyte: {EIO}$"),
    ):
        next(spans)


@pytest.mark.parametrize("storage", ["resident", "streamed"])
def test_an_image_that_comes_back_is_read_and_one_that_stays_away_is_not_called_damaged(
    tmp_path, monkeypatch, capsys, storage
):
    config = folder_config(colour_folder(tmp_path, 12, 3), storage=storage)
    path = sorted((tmp_path / "train" / "red").iterdir())[0]
    whole = load_image_set(config)
    with back_in_a_moment(path):
        assert load_image_set(config).facts == whole.facts
    assert f"{path}: Input/output error, EIO; trying again" in capsys.readouterr().err
    goes_away(path)
    monkeypatch.setattr("lockstep.config.file_retries.PAUSES_SECONDS", (0.0,))
    with pytest.raises(ConfigError, match=rf"data\.root = '{path}': {EIO}"):
        load_image_set(config)


def failing_listing(monkeypatch, number, times, folder):
    """Lets the listing of a folder fail so often."""
    whole, calls = os.scandir, []

    def scandir(path):
        if os.fspath(path) == str(folder):
            calls.append(1)
            if len(calls) <= times:
                raise OSError(number, os.strerror(number), str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path, monkeypatch, impatient):
    inner = colour_folder(tmp_path) / "train" / "red" / "more"
    inner.mkdir()
    os.replace(inner.parent / "002.jpg", inner / "002.jpg")
    config = folder_config(tmp_path)
    count = len(open_folder(config).train)
    failing_listing(monkeypatch, errno.ESTALE, 2, inner)
    assert len(open_folder(config).train) == count
    failing_listing(monkeypatch, errno.EACCES, 99, inner)
    with pytest.raises(ConfigError, match=r"train/red/more: cannot be read \(Permission denied, EACCES\)"):
        open_folder(config)
    with pytest.raises(ConfigError, match=r"train/red/more: cannot be read \(Permission denied, EACCES\)"):
        find_pictures([str(tmp_path)])


def test_a_link_that_leads_back_is_refused_and_any_other_is_followed(tmp_path):
    root = colour_folder(tmp_path / "data")
    config, count = folder_config(root), len(open_folder(folder_config(root)).train)
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "elsewhere" / "a.png")
    (root / "train" / "red" / "linked").symlink_to(tmp_path / "elsewhere")
    assert len(open_folder(config).train) == count + 1
    (root / "train" / "red" / "again").symlink_to("..")
    with pytest.raises(ConfigError, match=r"data\.root = '.*red/again': leads back to a folder above it"):
        open_folder(config)


def test_two_links_that_lead_into_each_other_are_refused(tmp_path):
    root = colour_folder(tmp_path / "data")
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "to").symlink_to(tmp_path / other)
    (root / "train" / "red" / "linked").symlink_to(tmp_path / "one")
    with pytest.raises(
        ConfigError, match=r"data\.root = '.*red/linked/to/to': leads back to a folder above it"
    ):
        open_folder(folder_config(root))


@pytest.mark.timeout(20)
def test_a_pipe_is_not_an_image_and_nobody_waits_for_its_other_end(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableImage, match="it is a pipe or a device"):
        read_image(tmp_path / "pipe.jpg")


def test_the_order_of_the_files_is_that_of_torchvision(tmp_path):
    names = ["b.png", "a/1.png", "a/b/2.png", "a-b/3.png", "a.png", "Z.PNG", "~/4.jpg", "é.png"]
    for name in ("cat", "dog", "Cat2"):
        for each in names:
            (tmp_path / "train" / name / each).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "train" / name / each).touch()
    found = open_folder(folder_config(tmp_path)).train
    samples = ImageFolder(str(tmp_path / "train")).samples
    assert list(zip(found.paths, found.dataset.labels, strict=True)) == samples


def test_what_predict_reads_is_tried_again(tmp_path, capsys, impatient):
    array = np.arange(5 * 6 * 4, dtype=np.uint8).reshape(5, 6, 4)
    np.savez(tmp_path / "a.npz", images=array)
    (tmp_path / "b-idx3-ubyte").write_bytes(encode_idx(array))
    Image.fromarray(array[0]).save(tmp_path / "c.png")
    for name in ("a.npz", "b-idx3-ubyte", "c.png"):
        path = tmp_path / name
        goes_away(path)
        find_pictures([str(path)])  # counts as one image that cannot be read
        assert f"lockstep: {path}: Input/output error, EIO; trying again\n" in capsys.readouterr().err


def test_what_a_disk_says_is_tried_again_also_where_the_package_datasets_wraps_it(tmp_path, impatient):
    calls = []

    def load():
        calls.append(1)
        if len(calls) < 3:
            try:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            except OSError as error:
                raise RuntimeError("An error occurred while generating the dataset") from error
        return "rows"

    assert read_again(tmp_path, load) == "rows"
    with pytest.raises(KeyError):
        read_again(tmp_path, lambda: {}["splits"])
