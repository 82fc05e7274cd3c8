"""How a process exits whose W&B run has not ended; tests/multiprocess/test_wandb_server.py has the server."""

import subprocess
import sys

from processes import run

PROGRAM = """
import time
from lockstep.tracking import time_limits
from lockstep.tracking.upload.end_at_exit import end_at_exit

time_limits.EXIT_SECONDS = 0.2
end_at_exit(1, lambda: time.sleep(1000))
print("exits")
"""


def test_a_server_that_does_not_answer_holds_up_no_exit():
    result = run([sys.executable, "-c", PROGRAM], popen=subprocess.Popen, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "exits\n", "")
