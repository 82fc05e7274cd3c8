"""The garbage collector leaves alone what lives as long as the process."""

import gc
import subprocess
import sys

from lockstep.launch import imported_at_once


def test_nothing_is_collected_during_imports():
    assert gc.isenabled()
    with imported_at_once():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_no_last_look_at_all_objects_delays_the_end_of_a_command():
    program = """
import atexit, gc
atexit.register(lambda: print("frozen" if gc.get_freeze_count() else "not frozen"))
from lockstep.commands.main import main
main(["--version"])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "frozen", result.stderr
