"""metrics.jsonl over several starts."""

import json
import math
from pathlib import Path

import pytest

from lockstep.errors import RunStopped
from lockstep.runs import MetricsFile, read_metrics


def test_records_after_the_step_of_a_resume_are_set_aside(tmp_path):
    file = MetricsFile(tmp_path, resume_step=0)
    for step in (1, 2, 3):
        file.log({"step": step, "samples_seen": step, "loss": step / 10})
    file.close("failed")
    with (tmp_path / "metrics.jsonl").open("a") as raw:
        raw.write('{"step": 4, "lo')  # a kill in the middle of a line
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3]

    file = MetricsFile(tmp_path, resume_step=2)
    file.log({"step": 3, "samples_seen": 3, "loss": 9})
    file.close("finished")
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [0.1, 0.2, 9]
    assert (tmp_path / "set-aside" / "metrics.jsonl.1").read_text() == (
        '{"step": 3, "samples_seen": 3, "loss": 0.3}\n'
    )


def test_a_record_is_in_the_file_as_soon_as_it_is_logged(tmp_path):
    file = MetricsFile(tmp_path, resume_step=0)
    file.log({"step": 1, "samples_seen": 8})
    assert read_metrics(tmp_path) == [{"step": 1, "samples_seen": 8}]
    file.close("finished")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_stops_the_run_and_names_itself(tmp_path):
    file = MetricsFile(tmp_path, resume_step=0)
    file._file.close()
    file._file = open("/dev/full", "a")  # noqa: SIM115  as if the disk had become full
    with pytest.raises(RunStopped, match=r"metrics\.jsonl cannot be written .* 31 bytes, and .* free on /"):
        file.log({"step": 1, "samples_seen": 8})
    file.close("failed")


def test_a_number_that_is_not_finite_is_null(tmp_path):
    file = MetricsFile(tmp_path, resume_step=0)
    file.log({"step": 1, "samples_seen": 8, "loss": math.nan, "part": math.inf})
    file.close("finished")
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step": 1, "samples_seen": 8, "loss": null, "part": null}\n'
    )
