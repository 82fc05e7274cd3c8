"""`lockstep export`: what is published is what another program loads, and computes the same."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from torch import nn
from torch.utils.data import TensorDataset

import lockstep
import tasks
from lockstep.commands.main import main
from lockstep.config import ModelConfig
from lockstep.data.sources.synthetic import NUM_TRAIN, synthetic_images
from lockstep.inference import export_check
from lockstep.inference.export_check import compare, outputs_of
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.runs.saved_evaluations import read_evaluation
from processes import lockstep as lockstep_command
from runs import small_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run on the generated digits."""
    return lockstep.train(small_config(tmp_path_factory.mktemp("runs"))).folder


@pytest.mark.slow
def test_all_formats_give_the_predictions_of_the_evaluation(folder):
    onnxruntime = pytest.importorskip("onnxruntime", exc_type=ImportError)
    pytest.importorskip("onnxscript", exc_type=ImportError)
    # In a process of its own: pytest has everything logged, and exporters log a lot.
    result = lockstep_command("export", str(folder))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("for 512 samples the same predictions, outputs that differ by at most") == 3
    target = folder / "export" / "last"
    assert sorted(path.name for path in target.iterdir()) == ["huggingface", "model.onnx", "model.pt2"]
    expected = read_evaluation(folder).scores.columns["prediction"].numpy()
    pixels, _ = synthetic_images(0, 512, NUM_TRAIN)
    preprocess = lockstep.load(folder).preprocess
    inputs = torch.stack([preprocess(each) for each in pixels])
    session = onnxruntime.InferenceSession(target / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {session.get_inputs()[0].name: inputs.numpy()})
    assert (logits.argmax(1) == expected).all()
    loaded = torch.export.load(target / "model.pt2").module()
    assert (loaded(inputs).argmax(1).numpy() == expected).all()


def test_the_folder_for_hugging_face_says_what_the_model_is(folder, tmp_path, capsys):
    assert main(["export", str(folder), "--format", "huggingface", "--output", str(tmp_path)]) == 0
    assert "outputs that differ by at most 0" in capsys.readouterr().out
    (target,) = tmp_path.iterdir()
    assert sorted(path.name for path in target.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    summary = json.loads((folder / "summary.json").read_text())
    config = json.loads((target / "config.json").read_text())
    weights = safetensors.torch.load_file(target / "model.safetensors")
    assert weights_sha256(weights) == config["weights_sha256"] == summary["weights_sha256"]
    assert config["id2label"]["7"] == "7"
    assert config["num_labels"] == 10
    assert config["preprocessing"]["image_mean"] == pytest.approx([0.1307])
    assert config["settings"]["model.name"] == "mlp"
    assert "run.dir" not in config["settings"]  # no path of this machine
    card = (target / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    (result,) = yaml.safe_load(front)["model-index"][0]["results"]
    metrics = {each["type"]: each["value"] for each in result["metrics"]}
    assert metrics["accuracy"] == summary["test_accuracy"]
    for part in (
        "| model.name | mlp |",
        summary["weights_sha256"],
        "| num_train | 600 |",
        "| device | cpu |",
    ):
        assert part in text
    assert str(folder.parent) not in card


def test_a_folder_that_safetensors_cannot_load_elsewhere_is_not_published(
    folder, tmp_path, monkeypatch, capsys
):
    script = tmp_path / "without_safetensors.py"
    script.write_text("raise ImportError('no safetensors here')")
    monkeypatch.setattr(export_check, "SCRIPT", script)
    assert main(["export", str(folder), "--format", "huggingface", "--output", str(tmp_path / "to")]) == 1
    assert "failed: ImportError: no safetensors here" in capsys.readouterr().out
    assert list((tmp_path / "to").iterdir()) == []


class Counting(nn.Module):
    """A model whose outputs depend on how often it was called: no export can hold that."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(1, 2), 0

    def forward(self, x):
        self.calls += 1
        return self.layer(x) * (1 if self.calls % 2 else -1)


class Branching(Counting):
    """A model that asks for a value of its input."""

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else -self.layer(x)


def sides(model, **changes) -> lockstep.Task:
    """On which side of a line a point lies."""
    points = torch.linspace(-1, 1, 64)[:, None]
    data = TensorDataset(points, (points[:, 0] > 0).long())
    settings = {
        "name": "sides",
        "model": model,
        "train": data,
        "test": data,
        "loss": nn.CrossEntropyLoss(),
        "classes": ["left", "right"],
    }
    return lockstep.Task(**{**settings, **changes})


class Difference(nn.Module):
    """A model of two inputs by name, in another order than the samples have them."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 2)

    def forward(self, second, first):
        return self.layer(first - second)


class Pairs(torch.utils.data.Dataset):
    """Samples whose input is a dict."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return {"first": torch.tensor([float(index)]), "second": torch.tensor([9.0])}, int(index > 9)


# The module of the task does not define it itself, so a run folder alone does not decide that it is used.
NAMED = ["--task.name", "tasks:exported"]


def run_of_a_task(task, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "exported", lambda: task, raising=False)
    config = small_config(tmp_path, data=lockstep.DataConfig(), model=ModelConfig(), reduction="fast")
    return lockstep.train("tasks:exported", config).folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name", "part"),
    [
        (Counting, "onnx", "it does not compute what the model computes|outputs differ by"),
        (Branching, "pt2", "torch cannot export it: "),
    ],
)
def test_nothing_is_published_if_the_check_fails(model, name, part, tmp_path, monkeypatch, capfd):
    if name == "onnx":  # checked in a process without torch, which starts at once
        pytest.importorskip("onnxruntime", exc_type=ImportError)
        pytest.importorskip("onnxscript", exc_type=ImportError)
    folder = run_of_a_task(sides(model), tmp_path, monkeypatch)
    capfd.readouterr()
    assert main(["export", str(folder), "--format", name, *NAMED]) == 1
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith(f"lockstep: not exported as {name}: ")
    assert line.endswith("; nothing was published")
    assert re.search(part, line), line
    assert list((folder / "export" / "last").iterdir()) == []


@pytest.mark.slow
def test_a_model_with_named_inputs(tmp_path, monkeypatch, capfd):
    task = sides(Difference, train=Pairs, test=None)
    folder = run_of_a_task(task, tmp_path, monkeypatch)
    assert main(["export", str(folder), "--format", "pt2,huggingface", *NAMED]) == 0
    assert "for 20 samples the same predictions" in capfd.readouterr().out


def test_a_comparison_counts_other_predictions_and_numbers_that_are_not_finite():
    model = nn.Linear(1, 2)
    inputs = torch.linspace(-1, 1, 9)[:, None]
    same = compare(model, lambda x: outputs_of(model, x), [inputs], is_classification=True)
    assert (same.num_samples, same.num_different, same.difference) == (9, 0, 0.0)
    assert same.is_equal
    flipped = compare(model, lambda x: [-outputs_of(model, x)[0]], [inputs], is_classification=True)
    assert flipped.num_different > 0
    assert not flipped.is_equal
    lost = compare(model, lambda x: [outputs_of(model, x)[0] * np.nan], [inputs], is_classification=False)
    assert not lost.is_equal
    torch.nn.init.constant_(model.bias, np.inf)
    endless = compare(model, lambda x: [np.ones((len(x), 2))], [inputs], is_classification=False)
    assert not endless.is_equal


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--format", "onx"], "--format = 'onx': must be one or more of onnx,pt2,huggingface; perhaps"),
        (["--data.nmae", "mnist"], "perhaps you meant --data.name"),
    ],
)
def test_mistakes_are_one_line(folder, words, part, capsys):
    assert main(["export", str(folder), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line


def test_without_the_packages_one_line_says_what_to_install(folder, monkeypatch, capsys):
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["export", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs onnx, onnxruntime; install with: pip install lockstep-trainer[export]" in line


def test_code_that_a_run_folder_names_is_not_imported(folder, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    settings = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(settings.replace("name: mlp", "name: antigravity:Net"))
    assert main(["export", str(copy), "--format", "huggingface"]) == 2
    assert "antigravity" in capsys.readouterr().err
    assert "antigravity" not in sys.modules


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["export", str(folder), "--output", str(tmp_path / "file" / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "file' cannot be written; give another folder with --output" in line


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path)]) == 2
    assert "is neither a run folder nor a checkpoint in one" in capsys.readouterr().err
    assert main(["export"]) == 2
    assert main(["export", "--help"]) == 0
