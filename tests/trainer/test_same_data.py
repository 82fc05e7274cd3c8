"""Whether a run goes on with the data that it began with."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import lockstep
from image_files import synthetic_files
from image_folders import colour_folder
from lockstep.config import Config, DataConfig, TrackingConfig, TrainConfig
from lockstep.data import describe_data, samples_of
from lockstep.errors import ConfigError
from lockstep.task import Task
from lockstep.trainer import check_same_data, find_task, make_parts, with_task
from lockstep.trainer.parts.parts import write_parts
from runs import fresh_ranks, reset_accelerator, small_config


def parts_of(task=None, folder=None, **data):
    """The parts of a run; with its folder, of a resume."""
    config = with_task(Config(data=DataConfig(**data)), task)
    config, task = find_task(config, task, folder)
    return make_parts(config, task, fresh_ranks())


def task_of(train):
    return Task(name="lines", model=lambda: nn.Linear(1, 1), train=train, loss=nn.MSELoss())


class Lines(Dataset):
    """Points of a line, one of which may lie elsewhere."""

    def __init__(self, count, other=-1):
        self.count, self.other, self.reads = count, other, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads.append(index)
        return torch.tensor([float(index)]), torch.tensor([2.0 * index + (index == self.other)])


def test_other_files_of_a_set_of_digits_are_not_the_data_of_the_run(tmp_path):
    reset_accelerator()
    files = replace(synthetic_files(tmp_path / "data"), storage="resident", num_workers=0)
    config = small_config(
        tmp_path / "runs",
        data=files,
        train=TrainConfig(steps=2, report=False),
        tracking=TrackingConfig(mode="disabled"),
    )
    folder = lockstep.train(config).folder
    (folder / "summary.json").unlink()
    (labels,) = (tmp_path / "data").rglob("train-labels*")
    content = bytearray(labels.read_bytes())
    content[-1] = (content[-1] + 1) % 10
    labels.write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"data\.name = .*: run .* began with different data \(sha256 differ\)"
    ):
        lockstep.train(config)


@pytest.mark.parametrize(("storage", "kind"), [("resident", "pixels"), ("streamed", "files")])
@pytest.mark.parametrize("split", ["train", "test"])
def test_one_other_image_of_a_folder_is_noticed_wherever_the_images_are_kept(tmp_path, storage, kind, split):
    root = colour_folder(tmp_path / "data", num_train=60, num_test=30)
    setting = {"name": "folder", "root": str(root), "image_size": 16, "storage": storage}
    write_parts(parts_of(**setting), tmp_path)
    check_same_data(parts_of(folder=tmp_path, **setting), tmp_path)
    changed = sorted((root / split / "green").iterdir())[1]  # none of the 16 that every set is known by
    Image.effect_noise((40, 40), 90).convert("RGB").save(changed)
    with pytest.raises(
        ConfigError, match=rf"data\.name = .*different data \({split} {kind} differ\); put the"
    ):
        check_same_data(parts_of(folder=tmp_path, **setting), tmp_path)


def test_one_other_row_of_a_tensor_is_noticed_in_any_column(tmp_path):
    inputs = torch.arange(1000.0)[:, None]
    write_parts(parts_of(task_of(TensorDataset(inputs, 2 * inputs))), tmp_path)
    for column in (0, 1):
        columns = [inputs.clone(), 2 * inputs]
        columns[column][501] += 1
        rule = r"task\.train = 'lines': .* began with different data \(train tensors differ\)"
        with pytest.raises(ConfigError, match=rule):
            check_same_data(parts_of(task_of(TensorDataset(*columns))), tmp_path)


def test_of_a_dataset_64_samples_are_compared(tmp_path):
    for count in (1, 17, 64, 300):
        lines = Lines(count)
        describe_data("lines", samples_of("task.train", lines, seed=0), None)
        assert len(set(lines.reads)) == min(count, 64)
    write_parts(parts_of(task_of(lines)), tmp_path)
    other = lines.reads[-1]  # of all reads for the digest, one by the key
    with pytest.raises(
        ConfigError, match=r"task\.train = 'lines': .* different data \(train samples differ\)"
    ):
        check_same_data(parts_of(task_of(Lines(300, other))), tmp_path)


def test_digests_are_compared_where_both_sides_have_them_and_none_is_lost(tmp_path):
    root = colour_folder(tmp_path / "data")
    resident = {"name": "folder", "root": str(root), "image_size": 16}
    begun, streamed = parts_of(**resident), parts_of(**resident, storage="streamed")
    older = {name: value for name, value in begun.data.items() if name != "content"}
    (tmp_path / "dataset.json").write_text(json.dumps(older))
    check_same_data(begun, tmp_path)
    write_parts(begun, tmp_path)
    check_same_data(streamed, tmp_path)
    write_parts(streamed, tmp_path)
    kept = json.loads((tmp_path / "dataset.json").read_text())
    assert set(kept["content"]) == {"train pixels", "test pixels", "train files", "test files"}
    assert older == {name: value for name, value in kept.items() if name != "content"}
    (tmp_path / "dataset.json").write_text(json.dumps({**kept, "content": 3}))
    check_same_data(begun, tmp_path)
