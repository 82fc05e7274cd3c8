"""Images of a user's own: one digest on any number of processes, resident or streamed."""

import pytest

from image_folders import colour_folder
from processes import launched, lockstep, read_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = [
    *("--batch.global-size", "32", "--batch.micro-size", "8", "--train.epochs", "2"),
    *("--tracking.mode", "disabled", "--train.log-every", "1"),
]


def weights(folder, name, num_processes, *words, num_train=120):
    flags = [*SETTINGS, "--run.dir", str(folder), "--run.name", name, *words]
    result = lockstep("train", *flags) if num_processes == 1 else launched(num_processes, *flags)
    assert result.returncode == 0, result.stderr + result.stdout
    run = read_run(folder / name)
    assert run["samples_seen"] == 2 * num_train
    return run["weights_sha256"], run["test_loss"], run.get("test_top5_accuracy")


def test_a_folder_of_colours_has_one_digest(tmp_path):
    root = colour_folder(tmp_path / "data")
    words = ["--data.name", "folder", "--data.root", str(root), "--data.image-size", "32"]
    words += ["--augment.crop-pixels", "4", "--augment.flip"]
    streamed = [*words, "--data.storage", "streamed"]
    alone = weights(tmp_path, "alone", 1, *words)
    assert weights(tmp_path, "two", 2, *words) == alone
    assert weights(tmp_path, "streamed", 2, *streamed) == alone
    for picture in ("mistakes.png", "confusion.png"):
        assert (tmp_path / "alone" / "report" / picture).exists()


def test_transforms_of_torchvision_draw_the_same_on_two_processes(tmp_path):
    root = colour_folder(tmp_path / "data")
    words = ["--data.name", "folder", "--data.root", str(root), "--data.image-size", "32"]
    transforms = "{RandomResizedCrop: {size: 32, antialias: true}, RandomHorizontalFlip: {p: 0.5}}"
    words += ["--data.transforms", transforms]
    assert weights(tmp_path, "two", 2, *words) == weights(tmp_path, "alone", 1, *words)


def test_resnet18_on_images_of_twelve_classes_like_those_of_cifar(tmp_path):
    root = colour_folder(tmp_path / "data", num_train=40, num_test=12, sizes=(32, 32), num_classes=12)
    words = ["--data.name", "folder", "--data.root", str(root), "--model.name", "torchvision:resnet18"]
    words += ["--augment.crop-pixels", "4", "--augment.flip"]
    alone = weights(tmp_path, "alone", 1, *words, num_train=40)
    assert weights(tmp_path, "two", 2, *words, num_train=40) == alone
    assert alone[2] > 0


def test_a_run_evaluates_and_replays_with_what_it_measured(tmp_path):
    words = ["--data.name", "folder", "--data.image-size", "32"]
    roots = [colour_folder(tmp_path / name) for name in ("data", "other")]
    (roots[1] / "train" / "red" / "002.jpg").unlink()
    weights(tmp_path, "run", 1, *words, "--data.root", str(roots[0]))
    run = str(tmp_path / "run")
    results = [lockstep("evaluate", run, "--data.root", str(root)) for root in roots]
    assert results[0].returncode == 0, results[0].stderr
    assert results[0].stdout == results[1].stdout
    replayed = lockstep("replay", run, "--step", "5", "--data.root", str(roots[0]))
    assert "identical" in replayed.stdout, replayed.stdout + replayed.stderr
    (tmp_path / "run" / "summary.json").unlink()
    resumed = lockstep(
        "train",
        *SETTINGS,
        "--run.dir",
        str(tmp_path),
        "--run.name",
        "run",
        *words,
        "--data.root",
        str(roots[1]),
    )
    assert resumed.returncode == 2
    assert "began with different data (num_train, sha256, train pixels differ)" in resumed.stderr
