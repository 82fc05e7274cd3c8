"""`lockstep compare`: one table and one picture of several runs."""

import json

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
        "run seed state processes test accuracy test loss steps samples seconds device"
    )
    assert [" ".join(row.split()) for row in rows] == [
        "good 0 finished 4 98.00% 0.0625 40 2,560 12.2 H100",
        "slow 1 unfinished 2 70.00% 0.3000 40 2,560 - cpu",
        "_$%$ 0 unfinished 2 - - 1 64 - cpu",
    ]
    assert len({len(line) for line in (header, *rows)}) == 1
    assert wrote == f"lockstep: wrote {picture}"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", ["report", "compare"])
def test_what_cannot_be_drawn_is_one_line(tmp_path, capsys, command):
    make_run(tmp_path / "new", [])
    for folder, problem in (
        (str(tmp_path), "is not a run folder"),
        (str(tmp_path / "new"), "has no records yet"),
    ):
        assert main([command, folder]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("lockstep: error: ")
        assert folder in line
        assert problem in line


DAMAGES = [
    "\x00\xff rubbish",
    "[]",
    '{"step": "x"}',
    '{"step": 3}',
    '{"step": 3, "samples_seen": 9, "loss": "?"}',
]


@pytest.mark.parametrize("command", ["report", "compare"])
def test_damaged_records_are_one_warning_and_no_end(tmp_path, capsys, monkeypatch, command):
    run = make_run(tmp_path / "run", [make_record(1), make_record(2, 0.5)])
    monkeypatch.chdir(tmp_path)
    for name, whole in (("metrics.jsonl", make_record(3)), ("starts.jsonl", {"step": 2})):
        with (tmp_path / "run" / name).open("a", encoding="latin-1") as file:
            file.writelines(f"{line}\n" for line in [*DAMAGES, json.dumps(whole)])
    (tmp_path / "run" / "evaluations").mkdir()
    (tmp_path / "run" / "evaluations" / "last.npz").write_bytes(b"half")
    assert main([command, run]) == 0
    out, err = capsys.readouterr()
    assert "lockstep: wrote " in out
    lines = err.splitlines()
    assert f"{run}/metrics.jsonl is damaged (line 3 and 4 others); continuing without it" in lines[0]
    assert all(line.startswith("lockstep: warning: ") for line in lines)
    # starts.jsonl: two of the lines are starts, as far as anyone can tell
    assert [line.split(" is damaged")[0].rpartition("/")[2] for line in lines] == (
        ["metrics.jsonl", "starts.jsonl", "last.npz"][: 3 if command == "report" else 2]
    )


def test_a_run_with_damaged_settings_is_compared_by_its_results(tmp_path, capsys, monkeypatch):
    runs = [make_run(tmp_path / name, [make_record(4, 0.5)], seed=seed) for seed, name in enumerate("abc")]
    (tmp_path / "c" / "config.yaml").write_bytes(b"\xff\xfe rubbish")
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *runs]) == 0
    out, err = capsys.readouterr()
    assert [row.split()[:2] for row in out.splitlines()[1:4]] == [["a", "0"], ["b", "1"], ["c", "-"]]
    assert "c/config.yaml is damaged (" in err


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
