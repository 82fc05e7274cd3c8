"""What a validation set reads: the same samples, resident or streamed, and never what training changes."""

import shutil

import pytest
import torch

from image_folders import colour_folder
from lockstep.config import DataConfig
from lockstep.errors import ConfigError
from runs import built_run, small_config


def validation(**data):
    run = built_run(small_config(data=DataConfig(name="folder", image_size=16, **data)))
    ids = torch.arange(len(run.validation.samples))
    with run.closing:
        (batch, _), *_ = run.validation.chunks.batches
        return run.validation.samples.read(ids), batch, run.validation.samples.pictures(ids[:2])


def test_held_out_images_are_read_without_transforms_wherever_they_are_kept(tmp_path):
    root = str(colour_folder(tmp_path))
    (pixels, labels), batch, pictures = validation(root=root, validation=0.25)
    assert len(labels) == 30
    assert torch.equal(batch, pixels[: len(batch)])
    turned = {"RandomHorizontalFlip": {"p": 1.0}}
    for data in ({"transforms": turned}, {"storage": "streamed"}, {"storage": "streamed", "num_workers": 1}):
        (others, other_labels), batch, other_pictures = validation(root=root, validation=0.25, **data)
        assert torch.equal(others, pixels)
        assert torch.equal(other_labels, labels)
        assert torch.equal(batch, pixels[: len(batch)])
        assert torch.equal(other_pictures, pictures)


def test_a_folder_has_a_validation_split_of_its_own(tmp_path):
    root = colour_folder(tmp_path)
    with pytest.raises(ConfigError, match=r"data\.validation = 'split': 'folder' has no validation split"):
        validation(root=str(root), validation="split")
    shutil.copytree(root / "test", root / "validation")
    (pixels, labels), _, _ = validation(root=str(root), validation="split")
    assert pixels.shape == (30, 3, 16, 16)
    assert labels.bincount().tolist() == [10, 10, 10]
