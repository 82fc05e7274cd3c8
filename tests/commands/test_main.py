"""The command as a user runs it, including mistakes."""

import json
import subprocess
import sys
import time

import pytest

from forked import Popen
from lockstep.commands.job import prepare
from lockstep.commands.main import COMMANDS, main
from lockstep.report.figures.curves import draw_curves
from lockstep.runs import read_metrics, read_starts, resume_steps
from lockstep.runs.saved_evaluations import read_evaluation
from lockstep.task import confusion
from processes import QUICK, lockstep, run

pytestmark = pytest.mark.slow


def refused(result, *parts):
    """Checks for one line on stderr, exit code 2, no traceback."""
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("lockstep: error: ")
    for part in parts:
        assert part in result.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--batch.globl-size", "3"], "perhaps you meant --batch.global-size"),
        (["--seed", "x"], "seed = 'x': must be a whole number"),
        (["--train.epochs", "1.5"], "train.epochs = '1.5': must be a whole number"),
        (["--optimizer.name", "lion"], "lion"),
        (["--batch.global-size", "100"], "96 or 128 would work"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--data.name", "synthetic", "--precision", "fp16"], "precision = 'fp16': needs a CUDA device"),
        (["--data.name", "synthetic", "--model.name", "resnet"], "model.name = 'resnet'"),
        (["--data.name", "synthetic", "--optimizer.groups", "gru", "0.1"], "optimizer.groups = 'gru'"),
        (["--data.name", "synthetic", "--data.num-train", "9999"], "data.num_train = 9999"),
        (["--data.name", "synthetic", "--tracking.mode", "online"], "no W&B key"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(tmp_path, words, part):
    refused(lockstep("train", "--run.dir", str(tmp_path), *words), part)


def test_missing_data_names_the_files_and_their_folder(tmp_path):
    unreachable = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_RETRIES": "0",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
    }
    arguments = [
        "--data.root",
        str(tmp_path / "data"),
        "--data.fetch-timeout-seconds",
        "10",
        "--tracking.mode",
        "disabled",
    ]
    unreachable |= {
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "PIP_CONFIG_FILE": "/dev/null",
    }
    result = lockstep("train", "--run.dir", str(tmp_path / "runs"), *arguments, env=unreachable)
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("lockstep: error: data.root = ")
    assert "train-images-idx3-ubyte" in last
    assert str(tmp_path / "data" / "MNIST" / "raw") in last
    assert "Traceback" not in result.stderr


def test_same_command_resumes_and_a_finished_run_says_so(tmp_path):
    words = ["train", *QUICK, "--train.report", "--run.dir", str(tmp_path)]
    first = lockstep(*words)
    assert first.returncode == 0, first.stderr
    (folder,) = tmp_path.iterdir()
    prepared = prepare(words[1:], {"SLURM_JOB_ID": "1"})
    assert prepared["folder"] == str(folder)  # the job scripts find the same folder
    summary = json.loads((folder / "summary.json").read_text())
    pictures = sorted((folder / "report").iterdir())
    assert [path.name for path in pictures] == ["confusion.png", "curves.png", "index.html", "mistakes.png"]
    again = lockstep(*words)
    assert again.returncode == 0
    assert "was already finished" in again.stdout

    # Leave what a kill after the first epoch would: the same command resumes from there.
    (folder / "summary.json").unlink()
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    third = lockstep(*words)
    assert "resuming" in third.stdout
    assert "after step 3" in third.stdout
    resumed = json.loads((folder / "summary.json").read_text())
    assert resumed["weights_sha256"] == summary["weights_sha256"]
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]

    assert main(["report", str(folder)]) == 0
    figure = draw_curves(read_metrics(folder), resume_steps(read_starts(folder)), "", "accuracy")
    assert [line.get_xdata() for line in figure.axes[0].lines if line.get_label() == "resumed"] == [[3, 3]]
    evaluation = read_evaluation(folder)
    assert evaluation.scores.values["loss"] == resumed["test_loss"]
    assert confusion(evaluation.scores, 10).tolist() == resumed["confusion"]

    refused(
        lockstep(*words, "--run.name", folder.name, "--optimizer.lr", "0.1"), "optimizer.lr = 0.1: ", "0.005"
    )


def test_a_refused_start_does_not_claim_the_run_name(tmp_path):
    words = ["train", *QUICK, "--run.dir", str(tmp_path), "--run.name", "run"]
    refused(lockstep(*words, "--model.name", "resnet"), "model.name = 'resnet'")
    assert lockstep(*words).returncode == 0


def test_a_users_own_model_is_imported_from_the_current_folder(tmp_path):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "my_module.py").write_text(
        "from lockstep.task.models.mlp import Mlp as MyNet\n"
    )
    words = ["--model.name", "my_package.my_module:MyNet", "--train.steps", "1"]
    result = lockstep("train", *QUICK, *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [path.name.rpartition("-")[0] for path in (tmp_path / "runs").iterdir()] == ["synthetic-MyNet"]


def test_a_resume_that_cannot_keep_the_number_of_threads_says_so(tmp_path):
    words = ["train", *QUICK, "--run.dir", str(tmp_path), "--run.name", "run", "--train.epochs", "1"]
    assert lockstep(*words).returncode == 0
    (tmp_path / "run" / "summary.json").unlink()
    starts = tmp_path / "run" / "starts.jsonl"
    starts.write_text(starts.read_text().replace('"num_threads": 1', '"num_threads": 999'))
    result = lockstep(*words)
    told = (
        "the next steps may differ in their last bits: num_threads 999 → 1 (1 rank x 999 threads exceed the"
    )
    assert told in result.stdout


def test_fetch_takes_the_options_of_train(tmp_path):
    result = lockstep("fetch", "--data.root", str(tmp_path), "--data.name", "synthetic")
    assert result.returncode == 0, result.stderr
    assert "2048 training and 512 test images" in result.stdout


def test_two_starts_of_one_run_exclude_each_other(tmp_path, monkeypatch):
    words = ["train", *QUICK, "--run.dir", str(tmp_path), "--run.name", "run", "--train.epochs", "400"]
    program = (
        "import sys; from lockstep.commands.main import main; from lockstep.runs.folder import folder_lock; "
    )
    program += "folder_lock.LOCK_WAIT_SECONDS = 1; sys.exit(main())"
    first = Popen([sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "run" / "metrics.jsonl").exists():
            assert first.poll() is None
            time.sleep(0.05)
        second = run([sys.executable, "-c", program, *words])
        refused(second, "another process is training in")
        # The first start's config, unchanged.
        assert "log_every: 1\n" in (tmp_path / "run" / "config.yaml").read_text()
    finally:
        first.kill()
        first.wait()


def test_help_is_complete_and_imports_no_torch(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command} " in text
    assert main([]) == 2
    assert main(["trane"]) == 2
    names = f"use one of {', '.join(COMMANDS)}"
    assert f"{names}; perhaps you meant 'train'" in capsys.readouterr().err
    probe = "import sys; from lockstep.commands.main import main; main(['--help']); "
    probe += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0


def test_help_of_a_command_loads_neither_torch_nor_matplotlib():
    program = """
import contextlib, sys
from lockstep.commands.main import COMMANDS, main
for name in COMMANDS:
    with contextlib.suppress(SystemExit):  # tyro's
        main([name, "--help"])
    print(name, sorted({"torch", "matplotlib"} & set(sys.modules)), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stderr.splitlines() == [f"{name} []" for name in COMMANDS]


def test_help_lists_every_option():
    result = lockstep("train", "--help")
    assert result.returncode == 0
    for option in ("--batch.global-size", "--optimizer.max-grad-norm", "--tracking.mode", "--config"):
        assert option in result.stdout
