import io
import re
import sys
from dataclasses import replace

import pytest

from lockstep.config import Config, OptimizerConfig, leaves, parse_config, to_yaml, yaml_flags
from lockstep.config.parsing.foreign_names import FOREIGN_NAMES
from lockstep.errors import ConfigError
from processes import ROOT

CONFIGS = (ROOT / "configs").glob("*.yaml")
RECIPES = sorted(path for path in CONFIGS if path.stem != "sweep")  # that one is for `wandb sweep`


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses(recipe):
    assert isinstance(parse_config(["--config", str(recipe)]), Config)


def test_defaults_are_the_default_recipe():
    assert parse_config(["--config", str(ROOT / "configs" / "cnn.yaml")]) == Config()


def test_saved_config_reads_back_as_itself(tmp_path):
    config = Config(
        optimizer=OptimizerConfig(groups={"cnn": 1e-3, "gru": 0.01}, betas=(0.7, 0.9)), precision="bf16"
    )
    for tree in (config, Config()):
        (tmp_path / "config.yaml").write_text(to_yaml(tree))
        assert parse_config(["--config", str(tmp_path / "config.yaml")]) == tree


def test_flags_win_over_the_file(tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 1\ntrain: {epochs: 5}\n")
    config = parse_config(["--seed", "2", f"--config={tmp_path / 'a.yaml'}"])
    assert (config.seed, config.train.epochs) == (2, 5)
    assert replace(config, seed=0, train=Config().train) == Config()


def test_mappings_become_pairs(tmp_path):
    (tmp_path / "a.yaml").write_text("optimizer: {groups: {cnn: 0.1, gru: 0.2}, betas: [0.7, 0.9]}\n")
    assert yaml_flags(tmp_path / "a.yaml") == [
        *("--optimizer.groups", "cnn", "0.1", "gru", "0.2"),
        *("--optimizer.betas", "0.7", "0.9"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--batch.globl-size", "3"],
            "--batch.globl-size: there is no such option; perhaps you meant --batch.global-size",
        ),
        (["--batch.micro_sise=3"], "perhaps you meant --batch.micro-size"),
        (["--seed", "x"], "seed = 'x': must be a whole number"),
        (["--train.steps=1e3"], "train.steps = '1e3': must be a whole number; write 1000"),
        (["--optimizer.lr", "fast"], "optimizer.lr = 'fast': must be a number"),
        (["--optimizer.lr"], "--optimizer.lr: needs a number after it"),
        (["--run.dir", "--seed", "1"], "--run.dir: needs a value after it"),
        (["--optimizer.betas", "0.9", "--seed", "1"], "optimizer.betas = '0.9': must be 2 numbers"),
        (["--loss.class-weights", "1", "x"], "loss.class_weights = '1 x': must be numbers"),
        (["--optimizer.groups", "a", "x"], "optimizer.groups = 'a x': must be pairs of a name and a number"),
        (["--data.validation", "10%"], "data.validation = '10%': must be a number or 'split'"),
        (
            ["--tracking.mode", "onlin"],
            "tracking.mode = 'onlin': must be one of auto, online, offline, disabled; "
            "perhaps you meant 'online'",
        ),
        (["--globl-size", "3"], "perhaps you meant --batch.global-size"),
        (["--gossip", "3"], "--gossip: there is no such option; --help lists them all"),
        (["--optimizer.name", "adamW"], "perhaps you meant 'adamw'"),
        (["--optimizer.name", "lion"], "must be one of sgd, adam, adamw"),
        (
            ["--batch.global-size", "100"],
            "batch.global_size = 100: must be a multiple of batch.micro_size = 32; 96 or 128",
        ),
        (["stray"], "stray: there is no such option; --help lists them all"),
        (["a.yaml"], "a.yaml: there is no such option; a file of settings is given as --config a.yaml"),
        (
            ["--train.check-order", "yes"],
            "--train.check-order is a switch and takes no value; its negative is --train.no-check-order",
        ),
        (["--augment.flip=1"], "--augment.flip is a switch and takes no value"),
        (["--", "--seed", "3"], "--: all words are options, before it and after it; leave it out"),
        (["--config"], "--config: needs a value"),
        (["--config", "a.yaml", "--config=b.yaml"], "--config = 'b.yaml': --config a.yaml is given too"),
        (["--config", "missing.yaml"], "--config = 'missing.yaml': cannot be read"),
    ],
)
def test_a_mistake_is_one_line(words, message, capsys):
    with pytest.raises(ConfigError) as refusal:
        parse_config(words)
    assert message in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert capsys.readouterr() == ("", "")


def test_a_mistake_is_one_line_in_a_notebook_too(monkeypatch):
    """Its stdout is encoded in "UTF-8", and in some jobs stdout is ASCII: tyro then draws another frame."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(ConfigError, match=r"^batch.global_size = 100: .*; 96 or 128 would work$"):
        parse_config(["--batch.global-size", "100"])


def test_a_typo_in_a_file_is_answered_as_on_the_command_line(tmp_path):
    (tmp_path / "a.yaml").write_text("optimizer: {weight_decoy: 0.1}\n")
    with pytest.raises(
        ConfigError, match=r"--optimizer\.weight-decoy in .*a\.yaml: there is no such option; perhaps"
    ):
        parse_config(["--config", str(tmp_path / "a.yaml")])


def test_a_wrong_value_in_a_file_is_answered_as_on_the_command_line(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("train: {epochs: three}\n")
    with pytest.raises(ConfigError, match=r"train\.epochs = 'three': in .*a\.yaml must be a whole number"):
        parse_config(["--config", str(file)])
    with pytest.raises(ConfigError, match=r"train\.epochs = 'four': must be a whole number"):
        parse_config(["--config", str(file), "--train.epochs", "four"])
    file.write_text("train:\n\tepochs: 3\n")
    with pytest.raises(
        ConfigError, match=r"is not YAML \(line 2, column 1: .*; indent with spaces, not tabs\)"
    ):
        parse_config(["--config", str(file)])


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("--optimizer.learning-rate=0.1", "here it is --optimizer.lr, the peak rate"),
        ("--lr", "here it is --optimizer.lr"),
        ("--batch_size", "here it is --batch.global-size, the samples of a step over all ranks"),
        ("-b", "here it is --batch.global-size"),
        ("--evaluation_strategy", "here it is --train.eval-every"),
        ("--compile", "torch.compile is not used"),
        ("--sched", "here it is --schedule.name"),
        ("--train.max_epochs", "here it is --train.epochs"),
        ("--resume_from_checkpoint", "the same command resumes its run by itself"),
        ("--gradient_accumulation_steps", "gradient accumulation is derived"),
        ("--gpus", "the launcher says it"),
        ("--no-cuda", "without a GPU it needs none; on a machine with GPUs: ACCELERATE_USE_CPU=1"),
        ("--drop-last", "perhaps you meant --data.drop-last"),
    ],
)
def test_the_names_of_other_trainers_are_answered_with_ours(word, answer):
    with pytest.raises(ConfigError) as refusal:
        parse_config([word, "1"])
    assert f"{word.partition('=')[0]}: there is no such option; {answer}" in str(refusal.value)


def test_the_answers_name_options_that_there_are():
    flags = {"--" + name.replace("_", "-") for name in leaves(Config())} | {
        "--resume-from",
        "--optimizer.args.eps",
        "--processes",
    }
    for name, answer in FOREIGN_NAMES.items():
        assert name == name.lower().replace("-", "_")
        assert set(re.findall(r"(?<!launch )--[a-z][\w.-]+", answer)) - {"--nproc_per_node"} <= flags, name
        assert name not in {flag.removeprefix("--") for flag in flags}, name


def test_text_in_a_file_stays_as_it_is_written(tmp_path):
    for name in ("007", "12:30", "2024_01_01", "2024-01-01", "on", "1e3", "no", "0x10", "'quoted'"):
        (tmp_path / "a.yaml").write_text(f"run: {{name: {name}}}\ntracking: {{group: }}\n")
        config = parse_config(["--config", str(tmp_path / "a.yaml")])
        assert (config.run.name, config.tracking.group) == (name.strip("'"), "")
        (tmp_path / "b.yaml").write_text(to_yaml(config))
        assert parse_config(["--config", str(tmp_path / "b.yaml")]) == config


def test_a_file_that_states_a_name_twice_is_refused(tmp_path):
    file = tmp_path / "a.yaml"
    for text, name in (
        ("seed: 1\ntrain: {epochs: 1}\nseed: 2\n", "seed twice, in lines 1 and 3"),
        ("model:\n  args:\n    width: 1\n    width: 2\n", "model.args.width twice, in lines 3 and 4"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=rf"a\.yaml': states {name}; leave one out"):
            parse_config(["--config", str(file)])
    file.write_text("model: {args: {inner: {null: 1, 'null': 2}}}\n")  # two names
    yaml_flags(file)
    file.write_text("data: &some {name: synthetic}\nmodel: {<<: *some}\n")
    assert yaml_flags(file)[-2:] == ["--model.name", "synthetic"]  # a merge is no second statement


def test_a_file_that_is_not_a_tree_is_refused(tmp_path):
    for text in ("- 1\n", "{{", "a: [1\n"):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"a\.yaml"):
            parse_config(["--config", str(tmp_path / "a.yaml")])


def test_a_bare_no_in_a_file_is_the_word(tmp_path):
    (tmp_path / "a.yaml").write_text("precision: no\ntrain: {check_order: yes}\n")
    config = parse_config(["--config", str(tmp_path / "a.yaml")])
    assert (config.precision, config.train.check_order) == ("no", True)
