import math
import string

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.config import Config, ModelConfig, TaskConfig, as_dict, parse_config, to_yaml
from lockstep.errors import ConfigError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


def lists_and_maps(inner):
    return st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3)


VALUES = st.recursive(SCALARS, lists_and_maps, max_leaves=6)
NAMES = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)


def read_back(config, tmp_path):
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    return parse_config(["--config", str(tmp_path / "config.yaml")])


@settings(max_examples=40)
@given(arguments=st.dictionaries(NAMES, VALUES, max_size=3))
def test_any_plain_values_read_back_from_yaml(arguments, tmp_path_factory):
    config = Config(model=ModelConfig(args=arguments))
    assert read_back(config, tmp_path_factory.getbasetemp()) == config
    assert yaml.safe_load(to_yaml(config)) == as_dict(config)  # as the run folder's own reader reads it


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["--model.args.width", "64"], {"width": 64}),
        (["--model.args.width=64", "--model.args.hidden-size=8"], {"width": 64, "hidden_size": 8}),
        (["--model.args.rate", "1e-3", "--model.args.big=1E5"], {"rate": 1e-3, "big": 1e5}),
        (["--model.args.low", "-1", "--model.args.high", ".inf"], {"low": -1, "high": math.inf}),
        (["--model.args.sizes", "[1, 2.5, {a: null}]"], {"sizes": [1, 2.5, {"a": None}]}),
        (["--model.args.on", "true", "--model.args.off", "no"], {"on": True, "off": False}),
        (
            ["--model.args.text", "relu", "--model.args.day", "2020-01-01"],
            {"text": "relu", "day": "2020-01-01"},
        ),
        (["--model.args.text", "'1e-3'", "--model.args.empty="], {"text": "1e-3", "empty": None}),
        (["--model.args.text=--dashes", "--seed", "3"], {"text": "--dashes"}),
        (["--model.args", "width", "64", "depth", "3", "--seed", "3"], {"width": 64, "depth": 3}),
        (["--model.args", "{width: 64}", "--model.args.width", "65"], {"width": 65}),
        (["--model.args"], {}),
    ],
)
def test_words_become_arguments(words, arguments):
    assert parse_config(words).model.args == arguments


def test_the_command_line_wins_name_by_name(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "model: {args: {width: 64, rate: 1e-3, text: '1e-3', all: yes, none: }}\n"
    )
    config = parse_config(["--config", str(tmp_path / "a.yaml"), "--model.args.width", "65"])
    assert config.model.args == {"width": 65, "rate": 1e-3, "text": "1e-3", "all": True, "none": None}


def test_an_empty_map_in_a_file_is_no_arguments(tmp_path):
    (tmp_path / "a.yaml").write_text("model:\n  args:\n")
    assert parse_config(["--config", str(tmp_path / "a.yaml")]) == Config()


def test_arguments_made_in_python_are_what_yaml_holds():
    sizes = (1, (2, 3))
    assert ModelConfig(args={"sizes": sizes}).args == {"sizes": [1, [2, 3]]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.args.width"], "--model.args.width: needs one value after it"),
        (["--model.args.width", "--seed", "1"], "--model.args.width: needs one value after it"),
        (["--model.args.width", "1", "2"], "--model.args.width: needs one value after it"),
        (["--model.args.width", "[1"], "--model.args.width = '[1': is not YAML (expected ',' or ']'"),
        (["--model.args.width", "\0"], "is not YAML (it holds characters that YAML does not allow)"),
        (["--model.args", "width"], "--model.args = 'width': must be pairs of a name and a value; or state"),
        (["--model.args.a.b", "1"], "model.args = 'a.b': is not the name of an argument, such as 'width'"),
        (
            ["--model.arg.width", "1"],
            "there is no such option; perhaps you meant --model.args",
        ),
        (["--task.args.depth", "1"], "task.args = {'depth': 1}: are for the function that task.name names"),
    ],
)
def test_a_mistake_is_one_line(words, message):
    with pytest.raises(ConfigError) as refusal:
        parse_config(words)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("[1]", r"\[1\]: in .*a\.yaml must hold names and values"),
        ("{on: 1}", r"True: in .*a\.yaml is not text"),
    ],
)
def test_arguments_in_a_file_without_names_are_refused(arguments, message, tmp_path):
    (tmp_path / "a.yaml").write_text(f"model: {{args: {arguments}}}\n")
    with pytest.raises(ConfigError, match=rf"^--model\.args = {message}"):
        parse_config(["--config", str(tmp_path / "a.yaml")])


@pytest.mark.parametrize("value", [{1}, b"1", object, 1j])
def test_a_value_that_yaml_does_not_have_is_refused(value):
    with pytest.raises(ConfigError, match=r"^model\.args\.width = .*: is a \w+; it must be a number, text"):
        ModelConfig(args={"width": [value]})


def test_the_task_is_a_section_with_a_short_flag(tmp_path):
    task = TaskConfig(name="package.tasks:characters", args={"depth": 4})
    words = ["--task.args.depth", "4"]
    for flags in (["--task", task.name], [f"--task={task.name}"], ["--task.name", task.name]):
        assert parse_config([*flags, *words]).task == task
    assert read_back(Config(task=task), tmp_path).task == task
    (tmp_path / "short.yaml").write_text("task: package.tasks:characters\n")
    assert parse_config(["--config", str(tmp_path / "short.yaml"), *words]).task == task


def test_the_help_shows_one_flag(capsys):
    with pytest.raises(SystemExit):
        parse_config(["--help"])
    assert "--model.args [NAME VALUE ...]" in capsys.readouterr().out
