from dataclasses import replace

import numpy as np
import pytest
import torch

from image_files import synthetic_files
from lockstep.data import ImageSamples, describe_data, load_dataset


@pytest.fixture
def pair(tmp_path):
    """The same data set on disk and in memory."""
    config = synthetic_files(tmp_path, num_train=60)
    return load_dataset(config, seed=0), load_dataset(replace(config, storage="resident"), seed=0)


def test_images_on_disk_are_those_in_memory(pair):
    on_disk, in_memory = (dataset.train for dataset in pair)
    ids = torch.tensor([[59, 0], [7, 7]])
    for one, other in zip(on_disk.read(ids), in_memory.read(ids), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    for one, other in zip(on_disk.slice(50, 70), in_memory.slice(50, 70), strict=True):
        assert len(one) == 10
        assert np.array_equal(one, other)
    assert torch.equal(on_disk.first(3).load().labels, in_memory.labels[:3])


def description(dataset):
    train, test = (ImageSamples(images=images) for images in (dataset.train, dataset.test))
    return describe_data(dataset.name, train, test)


def test_facts_depend_on_the_content_alone(pair):
    on_disk, in_memory = pair
    assert description(on_disk) == description(in_memory)
    changed = in_memory.train.images.clone()
    changed[13, 5, 5] += 1
    other = replace(in_memory, train=replace(in_memory.train, images=changed))
    assert description(other)["sha256"] != description(in_memory)["sha256"]
