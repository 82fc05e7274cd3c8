"""Output whose reader goes away ends nothing."""

import io
import os
import subprocess
import sys

import pytest

from lockstep.launch import LastingOutput, lasting_output


def without_reader():
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w", buffering=1)


def test_what_nobody_reads_is_lost():
    stream = without_reader()
    output = LastingOutput(stream)
    for _ in range(3):
        assert output.write("a line\n") == 7
        output.flush()
    output.give_up_if_broken()
    stream.close()  # as Python does when it exits: nothing is left that cannot be written


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_full_disk_and_a_stream_closed_before_or_after_the_start_are_no_errors():
    with open("/dev/full", "w") as full:
        output = LastingOutput(full)
        output.write("a line\n")
        output.flush()
        output.give_up_if_broken()
    output.write("closed by now")
    output.give_up_if_broken()
    LastingOutput(None).write("a line")


def test_a_character_that_the_encoding_lacks_is_written_as_its_code():
    written = io.BytesIO()
    output = LastingOutput(io.TextIOWrapper(written, encoding="ascii"))
    output.write("1 → 2 …\n")
    output.flush()
    assert written.getvalue() == b"1 \\u2192 2 \\u2026\n"


def test_the_program_gets_its_streams_back(capsys):
    before = sys.stdout, sys.stderr
    with lasting_output():
        print("printed")
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "printed\n"


@pytest.mark.parametrize("words", [["--help"], ["compare", "--help"]])
def test_a_command_whose_output_nobody_reads_ends_well(words):
    with without_reader() as stdout:
        command = [sys.executable, "-m", "lockstep", *words]
        result = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
