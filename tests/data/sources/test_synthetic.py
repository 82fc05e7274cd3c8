import numpy as np
import torch

from lockstep.config import DataConfig
from lockstep.data import load_dataset
from lockstep.data.sources.synthetic import synthetic_images


def test_synthetic_needs_no_files_and_depends_on_the_seed(tmp_path):
    config = DataConfig(name="synthetic", root=str(tmp_path / "none"), num_train=100)
    one, other = load_dataset(config, seed=1), load_dataset(config, seed=2)
    assert len(one.train) == 100
    assert torch.equal(one.train.images, load_dataset(config, seed=1).train.images)
    assert not torch.equal(one.train.images, other.train.images)
    assert not (tmp_path / "none").exists()


def test_an_image_depends_on_its_id_alone():
    images, labels = synthetic_images(seed=3, count=30, first_id=0)
    some_images, some_labels = synthetic_images(seed=3, count=5, first_id=20)
    assert np.array_equal(some_images, images[20:25])
    assert np.array_equal(some_labels, labels[20:25])


def test_training_and_test_images_differ():
    dataset = load_dataset(DataConfig(name="synthetic"), seed=0)
    everything = torch.cat([dataset.train.images, dataset.test.images]).flatten(1)
    assert len(everything.unique(dim=0)) == len(everything) == 2560
