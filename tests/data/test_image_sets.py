import bz2
import hashlib
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from image_folders import colour_folder, colour_images, write_images
from lockstep.config import DataConfig
from lockstep.data import describe_data, image_samples, load_image_set
from lockstep.data.image_measures import ImageFacts
from lockstep.data.survey import MEMORY_SHARE, check_memory
from lockstep.errors import ConfigError


def folder_config(root, **changes):
    return DataConfig(name="folder", root=str(root), **{"image_size": 16, **changes})


def description(config):
    images = load_image_set(config)
    train, test = (image_samples(config, 0, images, which) for which in ("train", "test"))
    return describe_data("folder", train, test)


def test_a_folder_of_mixed_sizes_becomes_squares(tmp_path):
    config = folder_config(colour_folder(tmp_path))
    images = load_image_set(config)
    assert images.facts.classes == ("blue", "green", "red")
    assert (images.facts.channels, images.facts.size, images.facts.has_test) == (3, 16, True)
    pixels = images.stored["train"].images
    assert pixels.shape == (120, 3, 16, 16)
    assert pixels.dtype == torch.uint8
    assert images.stored["train"].labels.bincount().tolist() == [40, 40, 40]
    inputs, labels = image_samples(config, 0, images, "train").read(torch.arange(120))
    assert torch.equal(labels, images.stored["train"].labels)
    flat = inputs.movedim(1, 0).flatten(1)
    assert flat.mean(1).abs().max() < 1e-4
    assert (flat.std(1, correction=0) - 1).abs().max() < 1e-4


def test_mean_and_deviation_are_those_of_all_pixels(tmp_path):
    images = load_image_set(folder_config(colour_folder(tmp_path)))
    pixels = images.stored["train"].images.numpy().transpose(1, 0, 2, 3).reshape(3, -1) / 255
    assert np.allclose(images.facts.mean, pixels.mean(1), rtol=1e-12)
    assert np.allclose(images.facts.std, pixels.std(1), rtol=1e-10)


def test_streamed_images_are_the_resident_ones(tmp_path):
    root = colour_folder(tmp_path)
    resident, streamed = (folder_config(root, storage=storage) for storage in ("resident", "streamed"))
    one, other = description(resident), description(streamed)
    assert {*one.pop("content"), *other.pop("content")} == {
        f"{split} {kind}" for split in ("train", "test") for kind in ("pixels", "files")
    }
    assert one == other
    read = [
        image_samples(config, 0, load_image_set(config), "train").read(torch.tensor([5, 100]))
        for config in (resident, streamed)
    ]
    for one, other in zip(*read, strict=True):
        assert torch.equal(one, other)


def test_grey_files_stay_grey_and_become_colours_among_colours(tmp_path):
    grey = [image.convert("L") for image in colour_images(12)]
    write_images(tmp_path / "train", grey)
    images = load_image_set(folder_config(tmp_path))
    assert images.facts.channels == 1
    assert not images.facts.has_test
    write_images(tmp_path / "train", [*grey[:11], colour_images(12)[11]])
    mixed = load_image_set(folder_config(tmp_path))
    assert mixed.facts.channels == 3
    pixels = mixed.stored["train"].images[0]
    assert torch.equal(pixels[0], pixels[2])


def test_known_facts_are_used_and_not_measured_again(tmp_path):
    config = folder_config(colour_folder(tmp_path), storage="streamed")
    facts = ImageFacts(classes=("blue", "green", "red"), channels=3, size=16, mean=(0.5,) * 3, std=(0.1,) * 3)
    images = load_image_set(config, facts)
    assert images.facts == facts
    other = ImageFacts(classes=("a", "b"), channels=3, size=16, mean=(0.5,) * 3, std=(0.1,) * 3)
    with pytest.raises(ConfigError, match="the run began with a, b"):
        load_image_set(config, other)


def test_a_transform_sees_the_whole_image_and_draws_by_sample(tmp_path):
    root = colour_folder(tmp_path, sizes=(30, 40))
    config = folder_config(root, transforms={"RandomResizedCrop": {"size": 16}})
    images = load_image_set(config)
    samples = image_samples(config, 7, images, "train")
    first, second = (samples.read(torch.tensor([3, 9]))[0] for _ in range(2))
    assert torch.equal(first, second)
    plain = image_samples(config, 7, images, "test").read(torch.tensor([0]))[0]
    assert plain.shape == (1, 3, 16, 16)
    assert first.shape == (2, 3, 16, 16)


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ({"RandomResizedCorp": {}}, "perhaps you meant 'RandomResizedCrop'"),
        ({"RandomResizedCrop": {"sise": 16}}, "perhaps you meant 'size'"),
        ({"RandomResizedCrop": {}}, "size"),
        ({"RandomResizedCrop": {"size": 12}}, "make 12 x 12 pixels of .*data.image_size"),
        ({"ToDtype": {"dtype": "float32"}}, "data.transforms"),
        ({"Normalize": {"mean": [0.5], "std": [0.5]}}, "data.transforms: fail on .*change them"),
        ({"RandomHorizontalFlip": 0.5}, "must be a map of its arguments"),
    ],
)
def test_a_wrong_transform_is_refused(tmp_path, transforms, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        load_image_set(folder_config(colour_folder(tmp_path, 6, 3), transforms=transforms))
    assert "\n" not in str(refusal.value)


def break_train(root):
    shutil.rmtree(root / "train")


def empty_class(root):
    (root / "train" / "yellow").mkdir()


def other_class(root):
    shutil.copytree(root / "test" / "red", root / "test" / "violet")


def no_image(root):
    (root / "train" / "red" / "zzz.png").write_text("not an image")


def cut_short(root):
    path = root / "train" / "red" / "002.jpg"
    path.write_bytes(path.read_bytes()[:300])


def deep(root):
    Image.new("I;16", (30, 30)).save(root / "train" / "red" / "deep.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_train, r"has no folder 'train'; expected .*train/CLASS/FILE"),
        (empty_class, r"train/yellow.*holds no images"),
        (other_class, r"test/violet.*the classes there are blue, green, red"),
        (no_image, r"zzz\.png.*is not a readable image"),
        (cut_short, r"002\.jpg.*is not a readable image"),
        (deep, r"deep\.png.*more than 8 bits"),
    ],
)
@pytest.mark.parametrize("storage", ["resident", "streamed"])
def test_a_wrong_folder_is_one_line(tmp_path, damage, message, storage):
    root = colour_folder(tmp_path, 12, 6)
    damage(root)
    with pytest.raises(ConfigError, match=message) as refusal:
        load_image_set(folder_config(root, storage=storage))
    assert "\n" not in str(refusal.value)


def test_mixed_sizes_and_oblongs_need_an_image_size(tmp_path):
    root = colour_folder(tmp_path / "squares", sizes=(30, 30))
    assert load_image_set(folder_config(root, image_size=0)).facts.size == 30
    Image.new("RGB", (40, 20)).save(root / "train" / "red" / "zzz.png")
    with pytest.raises(ConfigError, match=r"zzz\.png has 20 x 40 pixels, and .*30 x 30; .*such as 20"):
        load_image_set(folder_config(root, image_size=0))
    shutil.rmtree(root / "train")
    write_images(root / "train", [Image.new("RGB", (40, 20))] * 3)
    with pytest.raises(ConfigError, match=r"which is not square; state --data.image-size, such as 20"):
        load_image_set(folder_config(root, image_size=0))


def test_too_large_a_set_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("lockstep.data.survey.MEMORY_SHARE", 1e-9)
    with pytest.raises(ConfigError, match=r"needs 0.0 GB of .* in each process; use --data.storage streamed"):
        load_image_set(folder_config(colour_folder(tmp_path)))


def test_the_processes_of_a_node_share_its_memory(monkeypatch):
    limit = MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    check_memory(int(limit * 0.9))
    launch = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"data\.storage = 'resident': needs"):
        check_memory(int(limit * 0.9))


def test_a_function_makes_one_set_or_two_or_names_classes():
    for name, classes, has_test in [
        ("train_only", "012", False),
        ("pair", "012", True),
        ("named", "rgb", True),
    ]:
        images = load_image_set(DataConfig(name=f"own_images:{name}"))
        assert images.facts.classes == tuple(classes)
        assert images.facts.has_test == has_test
        assert images.stored["train"].images.shape == (12, 3, 8, 8)
    assert (
        len(load_image_set(DataConfig(name="own_images:train_only", args={"count": 9})).images["train"]) == 9
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "has no samples"),
        ("fractions", r"\[0\] label = 'float 0.0': must be an integer"),
        ("too_many", r"\[2\] label = 2: is not a class; the classes are 0 to 1"),
        ("misspelt", "perhaps 'train'"),
        ("nothing", "returns a NoneType; it must return a Dataset"),
        ("pear", "perhaps you meant 'pair'"),
    ],
)
def test_a_wrong_function_is_one_line(name, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        load_image_set(DataConfig(name=f"own_images:{name}"))
    assert "\n" not in str(refusal.value)


def write_usps(root, count=20):
    """torchvision checks no digest of USPS's files, lines of 'label index:value …' with values in [-1, 1]."""
    root.mkdir(parents=True, exist_ok=True)
    for name, size in (("usps.bz2", count), ("usps.t.bz2", count // 2)):
        values = np.random.default_rng(0).uniform(-1, 1, (size, 256))
        lines = [
            f"{index % 10 + 1} " + " ".join(f"{place + 1}:{value:.4f}" for place, value in enumerate(row))
            for index, row in enumerate(values)
        ]
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode()))


def test_a_set_of_torchvision_is_read(tmp_path):
    write_usps(tmp_path)
    images = load_image_set(DataConfig(name="torchvision:USPS", root=str(tmp_path)))
    assert images.stored["train"].images.shape == (20, 1, 16, 16)
    assert images.facts.classes == tuple("0123456789")
    assert len(images.images["test"]) == 10


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CIFAR1", "perhaps you meant 'torchvision:CIFAR10'"),
        ("FakeData", r"takes \(size, image_size.*; make both sets in a function of your own"),
    ],
)
def test_another_set_of_torchvision_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        load_image_set(DataConfig(name=f"torchvision:{name}"))


def test_a_set_of_torchvision_that_cannot_be_fetched_is_one_line(tmp_path):
    config = DataConfig(name="torchvision:CIFAR10", root=str(tmp_path), fetch_timeout_seconds=0.01)
    with pytest.raises(ConfigError, match=r"does not hold all files of torchvision:CIFAR10.*lockstep fetch"):
        load_image_set(config)


@pytest.mark.parametrize("form", ["parquet file", "parquet folder", "saved"])
def test_a_set_of_hugging_face_is_read(tmp_path, form, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["blue", "green", "red"])}
    )

    def split(count):
        rows = {"picture": colour_images(count), "kind": [index % 3 for index in range(count)]}
        return datasets.Dataset.from_dict(rows, features=features)

    path = tmp_path / "set"
    if form == "saved":
        datasets.DatasetDict(train=split(12), test=split(6)).save_to_disk(path)
    elif form == "parquet file":
        split(12).to_parquet(path := tmp_path / "colours.parquet")
    else:
        path.mkdir()
        split(12).to_parquet(path / "train-00000-of-00001.parquet")
        split(6).to_parquet(path / "test-00000-of-00001.parquet")
        split(3).to_parquet(path / "validation-00000-of-00001.parquet")  # not to be trained on
    images = load_image_set(DataConfig(name=f"huggingface:{path}", image_size=16))
    assert images.facts.classes == ("blue", "green", "red")
    assert images.stored["train"].images.shape == (12, 3, 16, 16)
    assert images.facts.has_test == (form != "parquet file")
    wrong = DataConfig(name=f"huggingface:{path}", image_size=16, args={"label": "knd"})
    with pytest.raises(ConfigError, match="is not one of the columns picture, kind"):
        load_image_set(wrong)


def test_encoded_images_in_a_parquet_file_are_a_set(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = colour_folder(tmp_path / "files", 12, 6)
    files = [file.read_bytes() for file in sorted((folder / "train").rglob("*.*"))]
    parquet.write_table(pyarrow.table({"image": files, "label": [0, 1, 2] * 4}), tmp_path / "a.parquet")
    images = load_image_set(DataConfig(name=f"huggingface:{tmp_path}/a.parquet", image_size=16))
    assert images.facts.classes == ("0", "1", "2")
    assert images.stored["train"].images.shape == (12, 3, 16, 16)


def test_a_missing_extra_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install lockstep-trainer\[datasets\]"):
        load_image_set(DataConfig(name=f"huggingface:{tmp_path}"))


def test_the_digest_is_of_pixels_and_labels(tmp_path):
    root = colour_folder(tmp_path, 12, 6)
    before = description(folder_config(root))["sha256"]
    assert len(before) == len(hashlib.sha256().hexdigest())
    (root / "train" / "red" / "002.jpg").rename(root / "train" / "blue" / "002.jpg")
    assert description(folder_config(root))["sha256"] != before


def test_a_file_that_is_damaged_later_is_still_one_line(tmp_path):
    config = folder_config(colour_folder(tmp_path, 12, 6), storage="streamed")
    samples = image_samples(config, 0, load_image_set(config), "train")
    (tmp_path / "train" / "blue" / "003.png").write_text("damaged")
    with pytest.raises(ConfigError, match=r"003\.png.*is not a readable image") as refusal:
        samples.read(torch.arange(12))
    assert "\n" not in str(refusal.value)
