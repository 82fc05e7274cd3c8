"""The garbage collector leaves alone what is imported once and lives as long as the process."""

import gc
import subprocess
import sys

import torch  # noqa: F401  # as a program has that trains more than once

from lockstep.launch import imported_at_once


def test_nothing_is_collected_during_imports_nor_frozen_among_what_a_program_has():
    assert gc.isenabled()
    before = gc.get_freeze_count()
    with imported_at_once():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == before


def test_what_the_first_import_made_is_never_looked_at_again():
    program = """
import gc, sys
from lockstep.launch import imported_at_once
with imported_at_once():
    import json.tool
sys.exit(0 if gc.get_freeze_count() and gc.isenabled() else "not frozen")
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
