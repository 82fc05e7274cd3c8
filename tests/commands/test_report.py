"""`lockstep report`; its refusals are tested with those of `lockstep compare`."""

from lockstep.commands.main import main
from run_folders import make_record, make_run


def test_report_draws_every_run_that_is_named(tmp_path, capsys):
    runs = [make_run(tmp_path / name, [make_record(1)]) for name in ("a", "b")]
    assert main(["report", *runs]) == 0
    written = [f"lockstep: wrote {run}/report/curves.png" for run in runs]
    assert capsys.readouterr().out.splitlines() == written


def test_help(capsys):
    assert main(["report", "--help"]) == 0
    assert "curves.png" in capsys.readouterr().out
    assert main(["report"]) == 2
