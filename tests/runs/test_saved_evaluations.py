"""The last and the best evaluation of a run, as its folder has them."""

from dataclasses import replace

import pytest
import torch

from lockstep.config import OptimizerConfig
from lockstep.data import ImageSamples, ImageStore
from lockstep.engine import evaluate_run, train
from lockstep.errors import ConfigError
from lockstep.runs.saved_evaluations import NUM_MISTAKES, EvaluationSink, read_evaluation, to_npz
from lockstep.task import worst_mistakes
from run_folders import UNREADABLE, make_evaluation
from runs import small_config, small_run


def test_the_last_evaluation_comes_back_from_its_file(tmp_path):
    run, dataset = small_run(small_config(tmp_path, optimizer=OptimizerConfig(lr=1e-5)))
    run.folder.mkdir()
    run.sinks.append(
        EvaluationSink(
            run.folder,
            run.step,
            run.test.samples,
            lambda: [run.evaluation] * bool(run.evaluation),
            lambda: False,
        )
    )
    assert read_evaluation(run.folder) is None
    train(run)
    scores = run.evaluation
    saved = read_evaluation(run.folder)
    assert saved.scores.step == scores.step == 10
    assert {**saved.scores.values} == {**scores.values}
    assert list(saved.scores.columns) == ["loss", "accuracy", "label", "prediction", "confidence"]
    for name, column in scores.columns.items():
        assert torch.equal(saved.scores.columns[name], column), name
    assert len(saved.mistakes) == NUM_MISTAKES  # so low a rate learns nothing in ten steps
    assert saved.mistakes == worst_mistakes(scores, NUM_MISTAKES)
    assert torch.equal(saved.images, dataset.test.images[saved.mistakes])


def test_the_last_and_the_best_evaluation_are_saved_with_their_mistakes(tmp_path):
    run, dataset = small_run(small_config(tmp_path, data=replace(small_config().data, validation=0.25)))
    run.folder.mkdir()
    samples = run.validation.samples
    assert len(samples) == 150
    sink = EvaluationSink(
        run.folder, run.step, samples, lambda: [run.evaluation], lambda: run.selection.num_since_best == 0
    )
    accuracies = []
    for step in (1, 2):
        run.step = step
        sink.log(evaluate_run(run) | {"step": step})
        accuracies.append(run.evaluation.values["accuracy"])
        with torch.no_grad():
            run.trained[-1].fill_(-1e4).select(0, 0).zero_()  # from now on every answer is 0
    assert read_evaluation(run.folder) is None  # the test set is scored at the end
    last, best = (read_evaluation(run.folder, which, "validation") for which in ("last", "best"))
    assert (last.scores.step, last.scores.values["accuracy"]) == (2, accuracies[1])
    assert best.scores.values["accuracy"] == max(accuracies)
    assert len(last.mistakes) == 25
    worst, columns = last.mistakes[0], last.scores.columns
    assert (columns["prediction"][worst], columns["confidence"][worst]) == (0, 1.0)
    sample = samples.ids[worst]
    assert columns["label"][worst] == dataset.train.labels[sample] != 0
    assert torch.equal(last.images[0], dataset.train.images[sample])


def test_evaluations_after_the_step_of_a_resume_are_set_aside(tmp_path):
    (tmp_path / "evaluations").mkdir()
    for which, step in (("best", 3), ("last", 8)):
        (tmp_path / "evaluations" / f"{which}.npz").write_bytes(to_npz(make_evaluation(step)))
    open_sink(tmp_path, 5)
    assert read_evaluation(tmp_path, "last") is None
    assert read_evaluation(tmp_path, "best").scores.step == 3
    assert (tmp_path / "set-aside" / "last.npz.1").read_bytes() == to_npz(make_evaluation(8))


def test_each_damage_of_an_evaluation_is_told_and_a_start_sets_it_aside(tmp_path, capsys):
    """Among the damages are headers, compressed data (zlib.error) and JSON."""
    whole = to_npz(make_evaluation(3))
    contents = [b"half", b"", whole[:-1], *(whole[:at] + b"~" + whole[at + 1 :] for at in range(0, 900, 9))]
    num_damaged = 0
    for number, content in enumerate(contents):
        path = tmp_path / str(number) / "evaluations" / "last.npz"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        is_whole = read_evaluation(path.parent.parent) is not None
        assert (capsys.readouterr().err == "") == is_whole  # some bytes, such as times, do not matter
        open_sink(path.parent.parent, 5)
        assert ("was set aside as" in capsys.readouterr().err) != is_whole
        assert path.exists() == is_whole
        num_damaged += not is_whole
    assert num_damaged > 50


@pytest.mark.skipif(not UNREADABLE.exists(), reason="reads a file of Linux")
def test_an_evaluation_that_cannot_be_read_is_not_damaged(tmp_path, impatient):
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / "last.npz").symlink_to(UNREADABLE)
    with pytest.raises(ConfigError, match=r"last\.npz: cannot be read \(Input/output error, EIO\)"):
        open_sink(tmp_path, 0)


def open_sink(folder, first_step):
    samples = ImageSamples(images=ImageStore(images=torch.empty(0), labels=torch.empty(0)))
    return EvaluationSink(folder, first_step, samples, list, lambda: False)
