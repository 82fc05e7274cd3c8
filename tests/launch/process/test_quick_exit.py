"""A command's process ends with its exit handlers and its code, and frees nothing after that."""

import subprocess
import sys

import pytest

from lockstep import __version__

PROGRAM = """
import atexit, sys
from lockstep.commands.main import main

class Late:
    def __del__(self):
        print("freed")

late = Late()
atexit.register(print, "exit handler")
sys.argv = {words}
sys.exit(main({argv}))
"""


@pytest.mark.parametrize(
    ("words", "argv", "code", "printed"),
    [
        (["lockstep", "nope"], "", 2, ["exit handler"]),
        (["lockstep", "--version"], "", 0, [f"lockstep {__version__}", "exit handler"]),
        # A program of the user's own ends as it always does.
        (["program"], "['nope']", 2, ["exit handler", "freed"]),
    ],
)
def test_the_end_of_a_command(words, argv, code, printed):
    program = PROGRAM.format(words=words, argv=argv)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.splitlines()) == (code, printed), result.stderr


def test_no_exit_handler_of_a_module_that_needs_one_is_older():
    """What was registered before would not be called."""
    program = """
import sys
import lockstep.commands.main
print({"concurrent.futures", "logging", "multiprocessing.util", "torch"} & set(sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
