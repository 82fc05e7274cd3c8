"""A run that goes on from another with all its state, under another length, schedule or rates."""

import shutil
from dataclasses import replace

import pytest

import lockstep
from lockstep.commands.main import main
from lockstep.config import DataConfig, OptimizerConfig, ScheduleConfig, TrackingConfig, TrainConfig
from lockstep.errors import ConfigError
from lockstep.runs import checkpoints_in, read_metrics, read_starts, record_start
from lockstep.runs.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from lockstep.runs.checkpoints.checkpoint_folder import SCORE, load_newest_checkpoint
from lockstep.runs.resume.resume_from import install_from_run, resumed_config
from processes import without_times
from runs import built_run, reset_accelerator, small_config

FLAGS = ["--tracking.mode", "disabled"]


@pytest.fixture(autouse=True)
def _own_accelerator():
    reset_accelerator()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished run of six steps at a constant rate, with a validation set and moving averages."""
    reset_accelerator()
    config = small_config(
        tmp_path_factory.mktemp("runs"),
        data=DataConfig(name="synthetic", num_train=600, validation=100),
        train=TrainConfig(steps=6, log_every=1, eval_every=2, checkpoint_every=2, ema=0.9, report=False),
        schedule=ScheduleConfig(name="constant"),
        tracking=TrackingConfig(mode="disabled"),
    )
    return config, lockstep.train(config).folder


def resumed(folder, *flags):
    reset_accelerator()
    config = resumed_config(str(folder), [*FLAGS, "--run.dir", str(folder.parent), *flags])
    return config, lockstep.train(config)


def test_a_longer_run_has_the_bits_of_one_that_was_longer_from_the_start(source, capsys):
    config, folder = source
    _, longer = resumed(folder, "--train.steps", "9")
    assert f"resuming {longer.folder} after step 6 of {folder}\n" in capsys.readouterr().out
    assert longer.folder.parent == folder.parent
    assert longer.folder != folder
    reset_accelerator()
    whole = lockstep.train(
        replace(config, run=replace(config.run, name="whole"), train=replace(config.train, steps=9))
    )
    assert longer.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert longer.summary["ema_sha256"] == whole.summary["ema_sha256"]
    assert longer.summary["best_step"] == whole.summary["best_step"]
    one, other = (
        [without_times(record) for record in read_metrics(folder)] for folder in (longer.folder, whole.folder)
    )
    assert [each["loss"] for each in one] == [each["loss"] for each in other]
    assert [start["step"] for start in read_starts(longer.folder)] == [6]
    reset_accelerator()
    assert lockstep.replay(None, longer.folder, step=8).divergence == ""
    with pytest.raises(ConfigError, match=r"--step = 6: belongs to the run that this one continues from"):
        lockstep.replay(None, longer.folder, step=6)


def test_rates_and_schedule_are_those_of_the_new_run(source):
    config, folder = source
    _, slower = resumed(folder, "--optimizer.lr", "0.001", "--train.epochs", "2", "--train.steps", "0")
    records = {record["step"]: record for record in read_metrics(slower.folder)}
    assert (records[6]["lr/model"], records[7]["lr/model"]) == (config.optimizer.lr, 0.001)
    assert slower.summary["steps"] == 16
    again = resumed(folder, "--optimizer.lr", "0.001", "--train.epochs", "2", "--train.steps", "0")[1]
    assert again.was_finished  # the same command resumes the same run


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "1"], r"seed = 1: --resume-from .* keeps 0: only length, .* --init-from "),
        (["--batch.global-size", "128"], r"batch.global_size = 128: --resume-from .* keeps 64: "),
        (["--data.num-train", "500"], r"data.num_train = 500: --resume-from .* keeps 600: "),
        (["--train.steps", "4"], r"train.steps = 4: ends the run at step 4, but its checkpoint is of"),
        (["--run.name", "run"], r"run.name = 'run': is the run that --resume-from names"),
        (["--config", "x.yaml"], r"--config = 'x.yaml': the run of --resume-from has its own settings"),
    ],
)
def test_what_may_not_change_is_refused_and_the_other_option_named(source, flags, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        resumed(source[1], *flags)


def test_a_refusal_to_resume_says_which_of_the_two_is_meant(source):
    config, folder = source
    longer = replace(config, train=replace(config.train, steps=9))
    with pytest.raises(ConfigError, match=rf"train.steps = 9: .* with this setting: --resume-from {folder}$"):
        lockstep.train(longer)
    with pytest.raises(ConfigError, match=rf"seed = 1: .* to begin with its weights: --init-from {folder}$"):
        lockstep.train(replace(longer, seed=1))


def test_what_is_no_run_is_one_line(tmp_path, capsys):
    assert main(["train", "--resume-from", str(tmp_path / "nowhere")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "must be a run folder, RUN:best, a checkpoint, or wandb:[ENTITY/]PROJECT/NAME:ALIAS; " in line


def test_only_what_the_settings_say_of_a_group_changes(source):
    config, folder = source
    checkpoint, _ = load_newest_checkpoint(folder / "checkpoints")
    changed = OptimizerConfig(lr=0.002, weight_decay=0.5, betas=(0.8, 0.9))
    reset_accelerator()
    run = built_run(replace(config, optimizer=changed), checkpoint=checkpoint)
    assert run.optimizer.param_groups[0]["base_lr"] == config.optimizer.lr  # a resume of the same run
    train = replace(config.train, resume_from=str(folder), steps=9)
    reset_accelerator()
    run = built_run(replace(config, optimizer=changed, train=train), checkpoint=checkpoint)
    (group,) = run.optimizer.param_groups
    assert (group["base_lr"], group["weight_decay"], group["betas"]) == (0.002, 0.5, (0.8, 0.9))
    assert all(state["step"] == 6 for state in run.optimizer.state.values())


def test_a_checkpoint_that_a_kill_kept_from_the_folder_is_brought_again(source, tmp_path):
    folder = shutil.copytree(source[1], tmp_path / "source")
    *_, earlier, _ = checkpoints_in(folder / "checkpoints")
    best = load_checkpoint(earlier)
    save_checkpoint(folder / "checkpoints", replace(best, info={**best.info, SCORE: 99.0}))
    flags = [*FLAGS, "--run.dir", str(tmp_path), "--run.name", "killed", "--train.steps", "9"]
    config, target = resumed_config(str(folder), flags), tmp_path / "killed"
    (target / "checkpoints").mkdir(parents=True)
    install_from_run(config, target)
    whole = checkpoints_in(target / "checkpoints")
    assert len(whole) == 2, "the best and the newest one"
    shutil.rmtree(whole[-1])
    install_from_run(config, target)
    assert checkpoints_in(target / "checkpoints") == whole
    record_start(config, target, 6, {})
    shutil.rmtree(whole[-1])
    install_from_run(config, target)
    assert checkpoints_in(target / "checkpoints") == whole[:1], "a run that has begun keeps its own"
