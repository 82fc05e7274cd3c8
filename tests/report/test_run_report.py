"""The pictures of a run folder, drawn from its files alone."""

from dataclasses import replace

import pytest

from lockstep.errors import ConfigError
from lockstep.report.run_report import draw_report
from lockstep.runs.saved_evaluations import SavedEvaluation, to_npz
from lockstep.task import Evaluation
from lockstep.trainer.start import draw_report_or_warn
from run_folders import make_evaluation, make_record, make_run


def pictures(folder):
    """The pictures that are drawn; index.html has tests of its own."""
    return [path for path in draw_report(folder) if path.name != "index.html"]


def test_a_run_without_an_evaluation_has_curves_only(tmp_path):
    make_run(tmp_path / "run", [make_record(1)])
    (curves,) = pictures(tmp_path / "run")
    assert curves == tmp_path / "run" / "report" / "curves.png"
    assert curves.read_bytes().startswith(b"\x89PNG")


def test_pictures_are_not_written_through_a_link(tmp_path):
    make_run(tmp_path / "run", [make_record(1)])
    (tmp_path / "outside").write_text("precious")
    (tmp_path / "run" / "report").mkdir()
    (tmp_path / "run" / "report" / "curves.png").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigError, match=r"report/curves.png': leads to .*; remove the link"):
        draw_report(tmp_path / "run")
    assert (tmp_path / "outside").read_text() == "precious"


def test_a_run_with_an_evaluation_has_three_pictures(tmp_path):
    make_run(tmp_path / "run", [make_record(1, 0.75)])
    (tmp_path / "run" / "evaluations").mkdir()
    (tmp_path / "run" / "evaluations" / "last.npz").write_bytes(to_npz(make_evaluation(1)))
    written = pictures(tmp_path / "run")
    assert [path.name for path in written] == ["curves.png", "confusion.png", "mistakes.png"]
    assert sorted((tmp_path / "run" / "report").glob("*.png")) == sorted(written)


def test_an_evaluation_that_is_no_classification_has_curves_only(tmp_path):
    make_run(tmp_path / "run", [make_record(1)])
    scores = Evaluation(step=1, num_samples=2, values={"loss": 0.5})
    (tmp_path / "run" / "evaluations").mkdir()
    (tmp_path / "run" / "evaluations" / "last.npz").write_bytes(
        to_npz(SavedEvaluation(scores=scores, mistakes=[], images=None))
    )
    assert [path.name for path in pictures(tmp_path / "run")] == ["curves.png"]


def test_classes_that_are_no_images_have_no_picture_of_mistakes(tmp_path):
    make_run(tmp_path / "run", [make_record(1, 0.75)])
    (tmp_path / "run" / "evaluations").mkdir()
    saved = replace(make_evaluation(1), images=None)
    (tmp_path / "run" / "evaluations" / "last.npz").write_bytes(to_npz(saved))
    assert [path.name for path in pictures(tmp_path / "run")] == ["curves.png", "confusion.png"]


def test_a_failed_picture_does_not_fail_a_run(tmp_path, capsys):
    run = tmp_path / "run"
    make_run(run, [make_record(1)])
    (run / "report").touch()  # where the folder of pictures should be
    draw_report_or_warn(run)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("lockstep: warning: no pictures (")
    assert line.endswith(f"lockstep report {run}")
