"""`lockstep replay`, on runs trained by the real command."""

import json

import pytest
from PIL import Image

from image_files import streamed_words
from lockstep.inspect import step_replay
from lockstep.launch import read_launch
from lockstep.launch.ranks.ranks import Ranks
from lockstep.runs import run_settings
from processes import BIN, lockstep, read_run, run, train_quick
from runs import reset_accelerator

pytestmark = pytest.mark.slow

SETTINGS = ["--model.dropout", "0.1", "--augment.shift-pixels", "1", "--train.digest-every", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on two processes: six steps, a checkpoint after the third and the sixth."""
    parent = tmp_path_factory.mktemp("replay")
    train_quick(parent, "run", 2, *SETTINGS)
    return parent / "run"


@pytest.mark.parametrize(("step", "origin"), [(3, "the initial weights"), (6, "the checkpoint of step 3")])
def test_any_step_of_a_run_on_two_processes_is_replayed_on_one(folder, step, origin):
    result = lockstep("replay", str(folder), "--step", str(step))
    assert result.returncode == 0, result.stderr
    assert f"recomputed to step {step} from {origin}; 12 recorded numbers compared" in result.stdout
    assert "identical" in result.stdout
    assert "differs from the recorded" not in result.stdout  # a number of ranks changes no bit
    opened = json.loads((folder / "replay" / f"step-{step:08d}" / "step.json").read_text())
    num_real = 88 if step % 3 == 0 else 256  # the last step of an epoch is short
    for name in ("ids", "labels", "losses", "predictions"):
        assert len(opened[name]) == num_real
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert sum(opened["losses"]) / num_real == pytest.approx(records[step - 1]["loss"], rel=1e-5)
    right = sum(one == other for one, other in zip(opened["labels"], opened["predictions"], strict=True))
    assert right / num_real == records[step - 1]["accuracy"]
    norms = sum(norm**2 for norm in opened["gradient_norms"].values()) ** 0.5
    assert norms == pytest.approx(records[step - 1]["grad_norm"], rel=1e-4)
    with Image.open(folder / "replay" / f"step-{step:08d}" / "contact-sheet.png") as sheet:
        assert sheet.width >= 10 * 64


def test_a_streamed_run_on_two_processes_is_the_same_and_is_replayed_on_one(folder, tmp_path):
    streamed = train_quick(tmp_path, "run", 2, *SETTINGS, *streamed_words(tmp_path / "data"))
    resident = read_run(folder)
    assert streamed["weights_sha256"] == resident["weights_sha256"]
    for name in ("loss", "accuracy", "grad_norm"):
        assert [record[name] for record in streamed["records"]] == [
            record[name] for record in resident["records"]
        ]
    words = ["--step", "6", "--data.root", str(tmp_path / "data")]
    result = lockstep("replay", str(tmp_path / "run"), *words)
    assert result.returncode == 0, result.stderr
    assert "12 recorded numbers compared" in result.stdout
    assert "identical" in result.stdout
    opened = json.loads((tmp_path / "run" / "replay" / "step-00000006" / "step.json").read_text())
    assert opened["labels"] == [sample % 10 for sample in opened["ids"]]  # the synthetic set's own


def test_on_more_processes(folder):
    result = lockstep("replay", str(folder), "--step", "2", "--processes", "4")
    assert result.returncode == 0, result.stderr
    assert "differs from the recorded" not in result.stdout
    assert "identical" in result.stdout


@pytest.mark.parametrize("name", ["loss", "weights_digest"])
def test_one_changed_digit_in_the_record_is_reported(folder, tmp_path, name):
    run(["cp", "-r", str(folder), str(tmp_path / "run")])
    metrics = tmp_path / "run" / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    record = json.loads(lines[4])
    record[name] = record[name] * (1 + 2**-50) if name == "loss" else "0" * 16
    lines[4] = json.dumps(record)
    metrics.write_text("\n".join(lines) + "\n")
    result = lockstep("replay", str(tmp_path / "run"), "--step", "6")
    assert result.returncode == 1
    assert f"first diverges at step 5: {name} " in result.stdout


def test_a_run_that_blows_up_prints_the_command_that_shows_where(tmp_path):
    words = ["--data.name", "synthetic", "--tracking.mode", "disabled", "--run.dir", str(tmp_path)]
    words += [
        "--run.name",
        "run",
        "--optimizer.name",
        "sgd",
        "--optimizer.lr",
        "1e30",
        "--train.log-every",
        "5",
    ]
    stopped = lockstep("train", *words)
    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr
    assert "lockstep: stopped: step 2: the loss over samples " in stopped.stderr
    command = stopped.stderr.strip().rpartition("lockstep replay ")[2].split()
    replayed = lockstep("replay", *command)
    assert replayed.returncode == 0, replayed.stderr
    assert "first value that is not finite: the output of " in replayed.stdout


def debugged(folder, prompt):
    """Replays step 3 with --break, and types these lines at the prompt."""
    words = [str(BIN / "lockstep"), "replay", str(folder), "--step", "3", "--break"]
    return run(words, typed=prompt, timeout=60)


def test_the_debugger_is_entered_before_the_step(folder):
    result = debugged(folder, "p ('at', run.step)\nc\n")
    assert "('at', 2)" in result.stdout
    assert "identical" in result.stdout


def test_the_step_can_be_taken_at_the_debuggers_prompt(folder):
    result = debugged(folder, "result = take_step(run)\np ('at', run.step)\nc\n")
    assert "('at', 3)" in result.stdout
    assert result.returncode == 2
    assert "--break = 3: was computed at the prompt" in result.stderr


def test_the_other_ranks_wait_on_the_cpu_while_a_debugger_is_open(folder, tmp_path, monkeypatch):
    """If they went on into the step, they would wait in a collective of NCCL, which has a limit."""
    on_main, within, opened = Ranks.on_main, [], []

    def tell(self, action):
        within.append(action)
        try:
            return on_main(self, action)
        finally:
            within.pop()

    monkeypatch.setattr(Ranks, "on_main", tell)
    monkeypatch.setattr(step_replay, "open_prompt", lambda run, step: opened.append((step, len(within))))
    reset_accelerator()
    config = run_settings(folder)
    launch = read_launch()
    step_replay.replay_step(folder, config, 1, output=tmp_path, enter_debugger=True, launch=launch)
    assert opened == [(1, 1)]


@pytest.mark.parametrize("prompt", ["q\n", ""], ids=["q", "end of input"])
def test_leaving_the_debugger_is_one_line(folder, prompt):
    result = debugged(folder, prompt)
    assert result.returncode == 2
    assert result.stderr.startswith("lockstep: error: --break = 3: the debugger was quit")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--step", "1"], "RUN = 'nowhere': is not a run folder"),
        (["RUN", "--step", "0"], "--step = '0': must be a whole number >= 1"),
        (["RUN"], "--step: is missing"),
        (["RUN", "--step", "7"], "--step = 7: must be from 1 to 6, the last step of this run"),
        (["RUN", "--step", "1", "--seed", "1"], "seed = 1: run "),
        (["RUN", "--step", "1", "--config", "a.yaml"], "--config = 'a.yaml': --config "),
    ],
)
def test_mistakes_are_one_line(folder, words, message):
    result = lockstep("replay", *[str(folder) if word == "RUN" else word for word in words])
    assert result.returncode == 2
    assert result.stderr.startswith(f"lockstep: error: {message}")
    assert len(result.stderr.splitlines()) == 1
