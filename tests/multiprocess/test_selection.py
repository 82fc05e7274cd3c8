"""What chooses and averages weights has the same bits on any number of processes, and after a kill."""

import pytest

from interruption import kill, start, wait_for_step
from processes import QUICK, read_run, train_quick

pytestmark = pytest.mark.slow

FLAGS = ["--train.epochs", "12", "--data.validation", "100", "--train.ema", "0.9", "--train.patience", "4"]
FLAGS += ["--train.eval-every", "1", "--train.checkpoint-every", "2", "--model.dropout", "0.1"]
COMPARED = ("steps", "stopped_early", "best_step", "weights_sha256", "ema_sha256", "ema_validation_loss")
COMPARED += ("best_ema_validation_accuracy", "test_loss", "ema_test_loss", "best_test_loss")
COMPARED += ("best_ema_test_loss",)


def test_averages_and_an_early_stop_have_the_same_bits_on_any_topology_and_after_a_kill(tmp_path):
    alone = train_quick(tmp_path, "alone", 1, *FLAGS)
    assert alone["stopped_early"]
    assert alone["steps"] == alone["best_step"] + 4 < 24
    process = start(tmp_path, 2, recipe=[*QUICK, *FLAGS])
    wait_for_step(tmp_path, alone["best_step"] + 1, process)  # the killed start has begun to lose patience
    kill(tmp_path, process)
    assert start(tmp_path, 4, recipe=[*QUICK, *FLAGS]).wait(timeout=120) == 0
    killed = read_run(tmp_path / "run")
    assert {name: killed[name] for name in COMPARED} == {name: alone[name] for name in COMPARED}
    for name in ("validation_loss", "ema_validation_loss"):
        assert [each[name] for each in killed["records"]] == [each[name] for each in alone["records"]]
