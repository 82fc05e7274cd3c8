"""What the console prints of a run."""

import os
import subprocess
import sys
import termios

from lockstep.report import Console

RECORD = {"step": 3, "epoch": 0.25, "loss": 0.5, "accuracy": 0.875, "samples_per_second": 12345.6}


def test_each_record_is_a_line_where_there_is_no_terminal(capsys):
    console = Console(first_step=0, num_steps=12, headline="accuracy")
    console.log(RECORD)
    console.log({"step": 6, "epoch": 0.5, "test_loss": 0.25, "test_accuracy": 0.9})
    console.close("finished")
    assert capsys.readouterr().out.splitlines() == [
        "lockstep: step 3/12  epoch 0.25  loss 0.5000  accuracy 87.5%  12,346 samples/s",
        "lockstep: step 6/12  epoch 0.50  test accuracy 90.00%  test loss 0.2500",
    ]


def test_a_task_without_another_headline_shows_its_loss_once(capsys):
    console = Console(first_step=0, num_steps=12)
    console.log({**RECORD, "loss": None})
    console.log({"step": 6, "epoch": 0.5, "test_loss": 0.25})
    assert capsys.readouterr().out.splitlines() == [
        "lockstep: step 3/12  epoch 0.25  loss -  12,346 samples/s",
        "lockstep: step 6/12  epoch 0.50  test loss 0.2500",
    ]


def test_a_terminal_gets_a_progress_bar():
    program = f"""
from lockstep.report import Console, say
console = Console(first_step=0, num_steps=12, headline="accuracy")
console.log({RECORD})
say("above the bar")
console.close("finished")
"""
    screen, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 120))
    subprocess.run([sys.executable, "-c", program], check=True, stdout=terminal, timeout=60)
    os.close(terminal)
    output = b""
    try:
        while chunk := os.read(screen, 4096):
            output += chunk
    except OSError:  # the end of a terminal that nobody holds open
        pass
    os.close(screen)
    assert b"3/12" in output
    assert b"lockstep: above the bar" in output
