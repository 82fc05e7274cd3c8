"""`lockstep predict` and `lockstep.load`: what people have, labelled by a run."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import lockstep
import tasks
from lockstep.commands.main import main
from lockstep.config import ModelConfig
from lockstep.data.images.idx import encode_idx
from lockstep.data.sources.synthetic import NUM_TRAIN, synthetic_images
from lockstep.errors import ConfigError
from lockstep.runs.saved_evaluations import read_evaluation
from runs import small_config

PIXELS, LABELS = synthetic_images(0, 512, NUM_TRAIN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run on the generated digits."""
    root = tmp_path_factory.mktemp("runs")
    return lockstep.train(small_config(root)).folder


@pytest.fixture
def digits(tmp_path):
    """The whole test set as an IDX file."""
    path = tmp_path / "digits"
    path.write_bytes(encode_idx(PIXELS))
    return str(path)


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_each_sample_gets_the_prediction_of_the_evaluation(folder, digits, capsys):
    assert main(["predict", str(folder), digits]) == 0
    printed = capsys.readouterr()
    rows = table(printed.out)
    columns = read_evaluation(folder).scores.columns
    assert [int(row["label"]) for row in rows] == columns["prediction"].tolist()
    assert [row["sample"] for row in rows] == [f"{digits}[{index}]" for index in range(512)]
    confidences = torch.tensor([float(row["probability"]) for row in rows])
    assert torch.allclose(confidences, columns["confidence"], atol=1e-6)
    assert all(float(row["probability"]) >= float(row["probability_2"]) for row in rows)
    assert printed.err == ""


def test_files_of_all_kinds_are_labelled_and_damaged_ones_listed(folder, tmp_path, capsys):
    for index in range(3):
        Image.fromarray(PIXELS[index]).save(tmp_path / f"{index}.png")
    np.savez(tmp_path / "some.npz", PIXELS[3:5])
    Image.fromarray(PIXELS[5]).resize((90, 60)).save(tmp_path / "wide.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "0.png").read_bytes()[:300])
    names = ["0.png", "cut.png", "1.png", "some.npz", "wide.png", "2.png"]
    output = tmp_path / "labels.jsonl"
    words = [str(tmp_path / name) for name in names]
    assert main(["predict", str(folder), *words, "--output", str(output)]) == 1
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    columns = read_evaluation(folder).scores.columns["prediction"].tolist()
    found = {line["sample"].removeprefix(f"{tmp_path}/"): line for line in lines}
    assert list(found) == ["0.png", "1.png", "some.npz[0]", "some.npz[1]", "wide.png", "2.png"]
    for index, name in enumerate(["0.png", "1.png", "2.png", "some.npz[0]", "some.npz[1]"]):
        line = found[name]
        assert line["label"] == str(columns[index])
        assert next(iter(line["top"])) == line["label"]
        assert list(line["top"].values()) == sorted(line["top"].values(), reverse=True)
        assert len(line["top"]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    first, second = printed.err.splitlines()
    assert first.startswith("lockstep: 1 image resized and cropped")
    assert second.startswith(f"lockstep: cannot be read: {tmp_path}/cut.png: ")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nowhere.png"], "WHAT = 'nowhere.png': there is no such file or folder"),
        (["--invert", "maybe", "x"], "--invert = 'maybe': must be one of auto, yes, no"),
        (["--output", "a.txt", "x"], "--output = 'a.txt': must end in .csv or .jsonl"),
        (["--outptu=a.csv", "x"], "there is no such option; perhaps you meant --output"),
        (["--output", "nowhere/a.csv", "DIGITS"], "--output = 'nowhere/a.csv': cannot be written"),
    ],
)
def test_mistakes_are_one_line(folder, digits, words, part, capsys):
    words = [digits if word == "DIGITS" else word for word in words]
    assert main(["predict", str(folder), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line


def test_what_is_no_run_is_refused(tmp_path, digits, capsys):
    assert main(["predict", str(tmp_path), digits]) == 2
    assert "is neither a run folder nor a checkpoint in one" in capsys.readouterr().err
    assert main(["predict"]) == 2
    assert main(["predict", "--help"]) == 0


def test_a_run_of_another_network_or_other_classes_is_refused(folder, tmp_path, digits, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    settings = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(settings.replace("name: mlp", "name: cnn"))
    assert main(["predict", str(copy), digits]) == 2
    assert "model.name = 'cnn': does not fit the weights of the checkpoint" in capsys.readouterr().err
    (copy / "config.yaml").write_text(settings)
    facts = json.loads((copy / "task.json").read_text())
    (copy / "task.json").write_text(json.dumps({**facts, "classes": ["cat", "dog"]}))
    assert main(["predict", str(copy), digits]) == 2
    assert "was trained on the classes cat, dog" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="was trained on the classes cat, dog"):
        lockstep.load(copy)


def test_a_loaded_run_has_its_preprocessing_and_classes(folder, tmp_path):
    model = lockstep.load(folder)
    assert not model.training
    assert model.classes == tuple("0123456789")
    Image.fromarray(PIXELS[0]).save(tmp_path / "0.png")
    columns = read_evaluation(folder).scores.columns["prediction"].tolist()
    samples = [tmp_path / "0.png", str(tmp_path / "0.png"), PIXELS[0], Image.fromarray(PIXELS[1])]
    found = model.predict(samples)
    assert [each.label for each in found] == [str(columns[index]) for index in (0, 0, 0, 1)]
    logits = model(torch.stack([model.preprocess(PIXELS[0])]))
    assert logits.argmax().item() == columns[0]
    assert found[2].probabilities[0] == pytest.approx(logits.softmax(1).max().item(), rel=1e-5)
    (again,) = lockstep.load(str(folder)).predict(samples[:1])
    assert again.classes == found[0].classes


def test_a_task_reads_its_own_files(tmp_path, capsys):
    config = small_config(
        tmp_path,
        data=lockstep.DataConfig(),
        model=ModelConfig(),
        train=lockstep.TrainConfig(epochs=9),
    )
    run = lockstep.train("tasks:sides", config).folder
    points = tmp_path / "points"
    points.mkdir()
    for name, text in (("a", "-0.9"), ("b", "0.8"), ("c", "no number"), ("d", "0.95")):
        (points / name).write_text(text)
    capsys.readouterr()
    assert main(["predict", str(run), str(points)]) == 1
    printed = capsys.readouterr()
    assert [(row["sample"][-1], row["label"]) for row in table(printed.out)] == [
        ("a", "left"),
        ("b", "right"),
        ("d", "right"),
    ]
    assert f"cannot be read: {points}/c: " in printed.err
    assert "ValueError: could not convert string to float: 'no'" in printed.err
    assert main(["predict", str(run), str(points), "--invert", "yes"]) == 2
    assert lockstep.load(run).predict([points / "b"])[0].label == "right"


def test_a_task_that_reads_no_files_is_refused_and_outputs_without_classes_are_shown(tmp_path):
    config = small_config(tmp_path, data=lockstep.DataConfig(), model=ModelConfig())
    task = tasks.line()
    model = lockstep.load(task, lockstep.train(task, config).folder)
    with pytest.raises(ConfigError, match=r"task\.preprocess = None: is missing"):
        model.predict([1])
    model.preprocess = lambda x: torch.tensor([float(x)])
    (found,) = model.predict([0.5])
    assert found.classes == ()
    assert found.output == pytest.approx(model(torch.tensor([[0.5]]))[0].tolist())
    with pytest.raises(ConfigError, match="folder = None: is missing"):
        lockstep.load(task)
