"""The pictures of a run folder, drawn from its files alone."""

from lockstep.report.run_report import draw_report
from lockstep.runs.evaluations import to_npz
from lockstep.trainer.start import draw_report_or_warn
from run_folders import make_evaluation, make_record, make_run


def test_a_run_without_an_evaluation_has_curves_only(tmp_path):
    make_run(tmp_path / "run", [make_record(1)])
    (curves,) = draw_report(tmp_path / "run")
    assert curves == tmp_path / "run" / "report" / "curves.png"
    assert curves.read_bytes().startswith(b"\x89PNG")


def test_a_run_with_an_evaluation_has_three_pictures(tmp_path):
    make_run(tmp_path / "run", [make_record(1, 0.75)])
    (tmp_path / "run" / "evaluations").mkdir()
    (tmp_path / "run" / "evaluations" / "last.npz").write_bytes(to_npz(make_evaluation(1)))
    written = draw_report(tmp_path / "run")
    assert [path.name for path in written] == ["curves.png", "confusion.png", "mistakes.png"]
    assert sorted((tmp_path / "run" / "report").iterdir()) == sorted(written)


def test_a_failed_picture_does_not_fail_a_run(tmp_path, capsys):
    run = tmp_path / "run"
    make_run(run, [make_record(1)])
    (run / "evaluations").mkdir()
    (run / "evaluations" / "last.npz").write_bytes(b"half")
    draw_report_or_warn(run)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("lockstep: warning: no pictures (")
    assert line.endswith(f"lockstep report {run}")
