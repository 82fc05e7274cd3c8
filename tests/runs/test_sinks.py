"""metrics.jsonl over several starts."""

import json

from lockstep.runs import MetricsFile, read_metrics


def test_records_after_the_step_of_a_resume_are_dropped(tmp_path):
    file = MetricsFile(tmp_path, resume_step=0)
    for step in (1, 2, 3):
        file.log({"step": step, "loss": step / 10})
    file.close("failed")
    with (tmp_path / "metrics.jsonl").open("a") as raw:
        raw.write('{"step": 4, "lo')  # a kill in the middle of a line
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3]

    file = MetricsFile(tmp_path, resume_step=2)
    file.log({"step": 3, "loss": 9})
    file.close("finished")
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [0.1, 0.2, 9]


def test_a_record_is_in_the_file_as_soon_as_it_is_logged(tmp_path):
    file = MetricsFile(tmp_path, resume_step=0)
    file.log({"step": 1})
    assert read_metrics(tmp_path) == [{"step": 1}]
    file.close("finished")
