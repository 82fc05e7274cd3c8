import json
import sys

import pytest
import yaml

import lockstep
from lockstep.commands.main import main
from lockstep.config import module_digests, parse_config, source_digests
from lockstep.errors import ConfigError
from lockstep.runs import TO_TRAIN, read_config, record_start, run_settings
from lockstep.runs.history.signature import is_own
from run_folders import make_record, make_run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run folder in trained/, and a module beside it that says when it is executed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.setenv("PYTHONSAFEPATH", "")  # so that it is put back
    (tmp_path / "trained").mkdir()
    make_run(tmp_path / "trained" / "x", [make_record(1)])
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Net: pass\n")
    return tmp_path / "trained" / "x"


def state(folder, **settings):
    """Writes settings, 'section__name', into the run folder's config.yaml."""
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    for name, value in settings.items():
        section, _, leaf = name.partition("__")
        tree.setdefault(section, {})[leaf] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))


def test_where_is_written_and_uploaded_stays_the_users_own(folder, capsys):
    state(folder, data__root="/theirs", run__dir="/theirs", run__name="theirs")
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    tree["seed"] = 5
    tree["tracking"] = {"project": "theirs", "entity": "them", "mode": "online", "group": "theirs"}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    config = run_settings(folder)
    assert (config.run.dir, config.run.name) == (str(folder.parent), "x")
    assert config.seed == 5
    assert config.data.root == "data"
    assert (config.tracking.project, config.tracking.entity, config.tracking.group) == ("lockstep", "", "")
    assert config.tracking.mode == "auto"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"to use what {folder} states: --data.root /theirs")
    assert run_settings(folder, ["--data.root", "/theirs"]).data.root == "/theirs"
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "run.dir: /theirs",
        "run: {dir: /theirs}",
        "data.root: /theirs",
        "loss: {class_weights: ['--run.dir=/theirs']}",
        "run.dir=/theirs: []",
        "data.root=/theirs: []",
        "seed: --data.root=/theirs",
        "optimizer: {groups: {--data.root=/theirs: 1}}",
        "model: {args: {x: --data.root=/theirs}}",
        "model.args: [--data.root=/theirs]",
    ],
)
def test_no_spelling_states_where_is_written(folder, text):
    (folder / "config.yaml").write_text(f"{text}\n")
    try:
        config = run_settings(folder)
    except ConfigError:
        return
    assert (config.run.dir, config.data.root) == (str(folder.parent), "data")


def test_the_current_folder_may_be_the_run_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    config = run_settings(type(folder)("."))
    assert (config.run.dir, config.run.name) == (str(folder.parent), "x")


@pytest.mark.parametrize("setting", ["model", "loss", "data", "task", "optimizer", "schedule"])
def test_code_that_is_not_as_recorded_is_not_imported(folder, setting):
    tree = {setting: {"name": "own:Net"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=rf"{setting}.name = 'own:Net': is what .*/x names, and its source"):
        run_settings(folder, imports=TO_TRAIN)
    assert run_settings(folder, [f"--{setting}.name", "own:Net"], imports=TO_TRAIN)
    assert run_settings(folder, [f"--{setting}.name=own:Net"], imports=TO_TRAIN)
    assert not (folder.parent.parent / "ran").exists()


def test_an_evaluation_does_not_need_the_optimizer(folder):
    (folder / "config.yaml").write_text("optimizer: {name: 'own:Net'}\n")
    assert run_settings(folder)


def test_a_users_own_run_is_one_command_and_one_line(folder, capsys):
    state(folder, model__name="own:Net")
    start = {"step": 0, "format": 3, "sources": module_digests("own")}
    (folder / "starts.jsonl").write_text(json.dumps(start) + "\n")
    assert run_settings(folder).model.name == "own:Net"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lockstep: imports own from ")


@pytest.mark.parametrize("command", [["evaluate", "."], ["replay", ".", "--step", "1"]])
@pytest.mark.parametrize("flags", [[], ["--model.name", "evil:Net"]])
def test_code_in_the_run_folder_is_not_executed_from_inside(folder, monkeypatch, capsys, command, flags):
    (folder / "evil.py").write_text((folder.parent.parent / "own.py").read_text())
    monkeypatch.chdir(folder)
    state(folder, model__name="evil:Net")
    (folder / "starts.jsonl").write_text('{"step": 0, "format": 3, "sources": {"evil": "0"}}\n')
    assert main([*command, *flags]) == 2
    assert flags or "model.name = 'evil:Net': " in capsys.readouterr().err
    assert not (folder.parent.parent / "ran").exists()


@pytest.mark.parametrize("flags", [[], ["--model.name", "trained.x.evil:Net"]])
def test_code_in_the_run_folder_is_not_executed_from_outside(folder, capsys, flags):
    (folder / "evil.py").write_text((folder.parent.parent / "own.py").read_text())
    state(folder, model__name="trained.x.evil:Net")
    digests = module_digests("trained.x.evil")
    assert digests
    (folder / "starts.jsonl").write_text(json.dumps({"step": 0, "format": 3, "sources": digests}) + "\n")
    for command in (
        ["evaluate", str(folder)],
        ["export", str(folder)],
        ["replay", str(folder), "--step", "1"],
        ["explain", "--config", str(folder / "config.yaml"), "--step", "1"],
        ["train", "--config", str(folder / "config.yaml")],
    ):
        assert main([*command, *flags]) == 2
        assert "and nothing in one is imported" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="and nothing in one is imported"):
        lockstep.load(None, folder)
    assert not (folder.parent.parent / "ran").exists()


def test_a_config_file_that_is_a_run_folders_is_treated_like_it(folder, capsys):
    state(folder, run__name="x", data__root="/theirs", tracking__project="theirs")
    config = read_config(["--config", str(folder / "config.yaml"), "--seed", "7"])
    assert (config.seed, config.run.name, config.data.root) == (7, "", "data")
    line = capsys.readouterr().err
    assert "--run.name x" in line
    assert "--data.root /theirs" in line
    assert "--tracking.project theirs" in line
    own = folder.parent.parent / "config.yaml"
    own.write_text("data: {root: /mine}\nmodel: {name: 'own:Net'}\n")
    assert read_config(["--config", str(own)]).data.root == "/mine"


def begin(folder, *flags):
    """Records a start of the user's own, as `lockstep train FLAGS` does."""
    config = parse_config([f"--run.dir={folder.parent}", f"--run.name={folder.name}", *flags])
    record_start(config, folder, 0, {"device": "cpu", "sources": source_digests(config)})


def test_a_users_own_start_needs_no_flag_again(folder, capsys):
    begin(folder, "--data.root", "/mine", "--tracking.project", "mine", "--model.name", "collections:Counter")
    config = run_settings(folder)
    assert (config.data.root, config.tracking.project) == ("/mine", "mine")
    (line,) = capsys.readouterr().err.splitlines()  # what is imported, but no flag to repeat
    assert line.startswith("lockstep: imports collections from ")
    as_file = read_config(["--config", str(folder / "config.yaml")])
    assert (as_file.data.root, as_file.run.name) == ("/mine", "")


def test_what_others_have_made_or_changed_is_not_the_users_own(folder, monkeypatch, tmp_path):
    begin(folder, "--data.root", "/mine", "--model.name", "own:Net")
    whole = {name: (folder / name).read_text() for name in ("config.yaml", "starts.jsonl")}
    assert is_own(folder)
    *_, newest = [json.loads(line) for line in whole["starts.jsonl"].splitlines()]
    forged = [{**newest, "sources": {"own": "0"}}, {**newest, "signature": ""}, {**newest, "signature": 3}]
    for start in forged:
        (folder / "starts.jsonl").write_text(json.dumps(start) + "\n")
        assert not is_own(folder)
    (folder / "starts.jsonl").write_text(whole["starts.jsonl"])
    state(folder, data__root="/theirs")
    assert not is_own(folder)
    assert run_settings(folder).data.root == "data"
    (folder / "config.yaml").write_text(whole["config.yaml"])
    assert is_own(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of-another-user"))
    assert not is_own(folder)
    begin(folder)
    assert is_own(folder)
    key = tmp_path / "of-another-user" / "lockstep" / "key"
    assert (key.stat().st_mode & 0o777, [each.name for each in key.parent.iterdir()]) == (0o600, ["key"])
    key.chmod(0o640)
    assert not is_own(folder)


@pytest.mark.parametrize("variables", [{"XDG_STATE_HOME": "file"}, {"XDG_STATE_HOME": "", "HOME": "gone"}])
def test_a_user_without_a_place_for_a_key_trains_all_the_same(folder, monkeypatch, variables):
    (folder.parent / "file").touch()
    for name, place in variables.items():
        monkeypatch.setenv(name, str(folder.parent / place) if place else "")
    begin(folder, "--data.root", "/mine")
    assert not is_own(folder)
    assert run_settings(folder).data.root == "data"
    assert not (folder.parent / "gone").exists()


def test_one_line_says_all_flags_that_name_what_is_not_imported(folder):
    state(folder, model__name="collections:OrderedDict", loss__name="json:loads", optimizer__name="os:times")
    flags = "--model.name collections:OrderedDict --loss.name json:loads --optimizer.name os:times"
    with pytest.raises(ConfigError, match=f"'collections' is a library, .*name it too: {flags}$"):
        run_settings(folder, imports=TO_TRAIN)
    config = run_settings(folder, flags.split(), imports=TO_TRAIN)
    assert config.optimizer.name == "os:times"
