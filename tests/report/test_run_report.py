"""What is kept of a run for those who look later, and the pictures and the table made of it."""

import json

import numpy as np
import pytest
import torch

from lockstep.commands.main import main
from lockstep.config import OptimizerConfig, RunConfig, to_yaml
from lockstep.engine import train
from lockstep.report.curves import MAX_POINTS, draw_curves, thinned
from lockstep.runs import resume_steps
from lockstep.runs.evaluations import NUM_MISTAKES, EvaluationSink, read_evaluation
from lockstep.trainer.start import draw_report_or_warn
from runs import small_config, small_run


def test_the_last_evaluation_comes_back_from_its_file(tmp_path):
    run, dataset = small_run(small_config(tmp_path, optimizer=OptimizerConfig(lr=1e-5)))
    run.folder.mkdir()
    run.sinks.append(EvaluationSink(run.folder, run.step, lambda: run.evaluation, run.test_store.images))
    assert read_evaluation(run.folder) is None
    train(run)
    scores = run.evaluation
    kept = read_evaluation(run.folder)
    assert kept.scores.step == scores.step == 10
    for name in ("losses", "predictions", "confidences", "labels"):
        assert torch.equal(getattr(kept.scores, name), getattr(scores, name))
        assert getattr(kept.scores, name).dtype == getattr(scores, name).dtype
    assert len(kept.mistakes) == NUM_MISTAKES  # so low a rate learns nothing in ten steps
    assert kept.mistakes == scores.worst_mistakes(NUM_MISTAKES)
    assert torch.equal(kept.images, dataset.test.images[kept.mistakes])


def make_run(folder, records, summary=None, **settings):
    """A run folder as a run leaves it."""
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(small_config(folder.parent, **settings)))
    (folder / "starts.jsonl").write_text('{"step": 0, "world_size": 2, "device": "cpu"}\n')
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if summary:
        (folder / "summary.json").write_text(json.dumps(summary))
    return str(folder)


def record(step, accuracy=None):
    scores = {} if accuracy is None else {"test_loss": 1 - accuracy, "test_accuracy": accuracy}
    return {
        "step": step,
        "samples_seen": 64 * step,
        "loss": 1 / step,
        "accuracy": 0.5,
        "lr/model": 0.1,
        **scores,
    }


SUMMARY = {
    "test_accuracy": 0.98,
    "best_test_accuracy": 0.985,
    "test_loss": 0.0625,
    "steps": 40,
    "samples_seen": 2560,
    "train_seconds": 12.25,
    "world_size": 4,
    "device": "H100",
}


def test_compare_shows_the_summaries_and_what_differs(tmp_path, capsys):
    slow = make_run(tmp_path / "slow", [record(20, 0.75), record(40, 0.7)], seed=1)
    good = make_run(tmp_path / "good", [record(40, 0.98)], SUMMARY, run=RunConfig(name="good"))
    blank = make_run(tmp_path / "_$%$", [record(1)])
    picture = tmp_path / "all.png"
    assert main(["compare", slow, good, blank, "--output", str(picture)]) == 0
    header, *rows, wrote = capsys.readouterr().out.splitlines()
    assert " ".join(header.split()) == (
        "run seed state processes test accuracy best accuracy test loss steps samples seconds device"
    )
    assert [" ".join(row.split()) for row in rows] == [
        "good 0 finished 4 98.00% 98.50% 0.0625 40 2,560 12.2 H100",
        "slow 1 unfinished 2 70.00% 75.00% 0.3000 40 2,560 - cpu",
        "_$%$ 0 unfinished 2 - - - 1 64 - cpu",
    ]
    assert len({len(line) for line in (header, *rows)}) == 1
    assert wrote == f"lockstep: wrote {picture}"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", ["report", "compare"])
def test_what_cannot_be_drawn_is_one_line(tmp_path, capsys, command):
    make_run(tmp_path / "new", [])
    broken = make_run(tmp_path / "broken", [record(1)])
    (tmp_path / "broken" / "metrics.jsonl").write_text("{\n{}\n")
    for folder, part in (
        (str(tmp_path), "is no run folder"),
        (str(tmp_path / "new"), "has no records yet"),
        (broken, "metrics.jsonl: is damaged"),
    ):
        assert main([command, folder]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("lockstep: error: ")
        assert folder in line
        assert part in line


def test_compare_names_a_picture_that_it_cannot_write(tmp_path, capsys):
    run = make_run(tmp_path / "run", [record(1)])
    for path, reason in (
        (tmp_path / "nowhere" / "all.png", "cannot be written (No such file or directory)"),
        (tmp_path / "all", "must end in one of .png, .pdf, .svg"),
    ):
        assert main(["compare", run, "--output", str(path)]) == 2
        assert f"--output = '{path}': {reason}" in capsys.readouterr().err


def test_trouble_with_a_picture_does_not_fail_a_run(tmp_path, capsys):
    run = tmp_path / "run"
    make_run(run, [record(1)])
    (run / "evaluations").mkdir()
    (run / "evaluations" / "last.npz").write_bytes(b"half")
    draw_report_or_warn(run)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("lockstep: warning: no pictures (")
    assert line.endswith(f"lockstep report {run}")
    assert main(["report", str(run)]) == 2
    assert "last.npz: is damaged" in capsys.readouterr().err


def test_curves_of_any_run_are_drawn():
    def axes(records, resumes=()):
        figure = draw_curves(records, resumes, "")
        figure.canvas.draw()
        return figure.axes

    loss, error, _ = axes([record(step) for step in range(1, 9)], [2, 4])
    assert loss.get_yscale() == "log"
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "test", "resumed"]
    assert error.get_yscale() == "linear"  # it stays at 50 %
    _, error, _ = axes([{**record(1), "accuracy": 0.5}, {**record(2), "accuracy": 1.0}])
    assert error.get_ylim()[0] == 0
    for records in ([record(1)], [{"step": 5, "samples_seen": 320, "test_loss": 0.0, "test_accuracy": 1.0}]):
        axes(records)
    groups = [{**record(1), "lr/cnn": 0.1, "lr/gru": 0.2}]
    assert [text.get_text() for text in axes(groups)[2].get_legend().get_texts()] == ["cnn", "gru", "model"]


def test_a_long_run_is_thinned_to_means_and_extremes():
    steps = np.arange(100_007.0)
    values = np.random.default_rng(0).random(len(steps))
    x, mean, low, high = thinned(steps, values)
    assert len(x) == MAX_POINTS
    assert mean.mean() == pytest.approx(values.mean(), rel=1e-4)
    assert (low.min(), high.max()) == (values.min(), values.max())
    assert (np.diff(x) > 0).all()
    assert ((low < mean) & (mean < high)).all()


@pytest.mark.parametrize(
    ("starts", "resumes"), [([0], []), ([0, 5, 5, 9], [5, 9]), ([0, 5, 9, 5], [5]), ([0, 5, 0], [])]
)
def test_a_resume_whose_steps_were_taken_anew_does_not_count(starts, resumes):
    assert resume_steps([{"step": step} for step in starts]) == resumes
