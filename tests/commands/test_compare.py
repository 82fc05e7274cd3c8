"""`lockstep compare`: one table and one picture of several runs."""

import pytest

from lockstep.commands.compare import by_name
from lockstep.commands.main import main
from lockstep.config import RunConfig
from run_folders import SUMMARY, make_record, make_run


def test_compare_shows_the_summaries_and_what_differs(tmp_path, capsys):
    slow = make_run(tmp_path / "slow", [make_record(20, 0.75), make_record(40, 0.7)], seed=1)
    good = make_run(tmp_path / "good", [make_record(40, 0.98)], SUMMARY, run=RunConfig(name="good"))
    blank = make_run(tmp_path / "_$%$", [make_record(1)])
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
    broken = make_run(tmp_path / "broken", [make_record(1)])
    (tmp_path / "broken" / "metrics.jsonl").write_text("{\n{}\n")
    for folder, problem in (
        (str(tmp_path), "is not a run folder"),
        (str(tmp_path / "new"), "has no records yet"),
        (broken, "metrics.jsonl: is damaged"),
    ):
        assert main([command, folder]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("lockstep: error: ")
        assert folder in line
        assert problem in line


def test_compare_names_a_picture_that_it_cannot_write(tmp_path, capsys):
    run = make_run(tmp_path / "run", [make_record(1)])
    for path, rule in (
        (tmp_path / "nowhere" / "all.png", "cannot be written (No such file or directory); choose another"),
        (tmp_path / "all", "must end in one of .png, .pdf, .svg"),
    ):
        assert main(["compare", run, "--output", str(path)]) == 2
        assert f"--output = '{path}': {rule}" in capsys.readouterr().err


def test_runs_of_one_name_go_by_their_paths(tmp_path):
    one, other, third = tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "c"
    assert by_name([one, third]) == {"run": one, "c": third}
    assert by_name([one, other]) == {str(one): one, str(other): other}


def test_help_names_the_options(capsys):
    assert main(["compare", "--help"]) == 0
    assert "--output" in capsys.readouterr().out
    assert main(["compare"]) == 2
