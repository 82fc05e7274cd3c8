"""`lockstep report`; its refusals are tested with those of `lockstep compare`."""

from lockstep.commands.main import main
from run_folders import make_record, make_run


def test_report_draws_every_run_that_is_named(tmp_path, capsys):
    runs = [make_run(tmp_path / name, [make_record(1)]) for name in ("a", "b")]
    assert main(["report", *runs]) == 0
    written = [f"lockstep: wrote {run}/report/curves.png" for run in runs]
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines[:2]] == written


def test_pictures_of_a_run_that_cannot_be_written_go_elsewhere(tmp_path, capsys):
    run = make_run(tmp_path / "run", [make_record(1)])
    (tmp_path / "run" / "report").touch()  # root may write anywhere, but not into a file
    assert main(["report", run]) == 2
    error = capsys.readouterr().err
    assert f"RUN = '{run}': '{run}/report' cannot be written; give another folder with --output" in error
    assert main(["report", run, "--output", f"{run}/report/mine"]) == 2
    assert "--output = '" in capsys.readouterr().err
    assert main(["report", run, "--output", str(tmp_path / "to" / "mine")]) == 0
    assert capsys.readouterr().out.startswith(f"lockstep: wrote {tmp_path}/to/mine/curves.png")
    assert main(["report", run, run, "--output", str(tmp_path / "to")]) == 2
    assert "takes the report of one RUN" in capsys.readouterr().err


def test_help(capsys):
    assert main(["report", "--help"]) == 0
    assert "curves.png" in capsys.readouterr().out
    assert main(["report"]) == 2
