"""TensorBoard's files: what metrics.jsonl holds, once each, over any number of starts."""

import json
import sys
from collections import Counter

import numpy as np
import pytest

import lockstep
from lockstep.config import TrackingConfig
from lockstep.errors import ConfigError
from lockstep.runs import MetricsFile, read_metrics
from lockstep.tracking.tensorboard_sink import TensorBoardSink
from run_folders import make_record, make_run
from runs import small_config

pytest.importorskip("tensorboard", exc_type=ImportError)
SETTINGS = {"seed": 3, "optimizer.lr": 0.1, "optimizer.betas": [0.9, 0.99], "data.drop_last": False}


def events(folder):
    """All values in the event files: (tag, step) → the values, without what a reader would hide."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found = {}
    for path in sorted((folder / "tensorboard").iterdir()):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault((value.tag, event.step), []).append(value)
    return found


def scalars(folder):
    return {
        key: [value.tensor.float_val[0] for value in values]
        for key, values in events(folder).items()
        if values[0].metadata.plugin_data.plugin_name == "scalars"
    }


def sink_in(folder, pictures=dict, notify=print):
    return TensorBoardSink(folder, SETTINGS, ["test_accuracy"], pictures, notify)


def test_a_resumed_run_has_each_record_once(tmp_path):
    folder = tmp_path / "run"
    make_run(folder, [])
    for resume_step, last in ((0, 4), (2, 6)):  # the first start is killed: its sink stays open
        records, sink = MetricsFile(folder, resume_step), sink_in(folder)
        for step in range(resume_step + 1, last + 1):
            for each in (records, sink):
                each.log(make_record(step, accuracy=step / 10 if step % 2 == 0 else None))
        records.close("failed")
    sink.close("finished")
    expected = {
        (name, record["step"]): [pytest.approx(value, rel=1e-6)]
        for record in read_metrics(folder)
        for name, value in record.items()
        if name != "step"
    }
    assert len(read_metrics(folder)) == 6
    assert scalars(folder) == expected


def test_pictures_and_hyper_parameters(tmp_path):
    folder = tmp_path / "run"
    make_run(folder, [make_record(1)])
    sink = sink_in(folder, pictures=lambda: {"mistakes": np.zeros((4, 6, 3), dtype=np.uint8)})
    sink.log(make_record(2))
    sink.close("finished")
    found = Counter(tag for tag, _ in events(folder))
    assert found["mistakes"] == 1
    assert found["_hparams_/experiment"] == 1
    assert found["_hparams_/session_start_info"] == 1
    assert found["_hparams_/session_end_info"] == 1
    ((start,),) = [
        values for (tag, _), values in events(folder).items() if tag.endswith("session_start_info")
    ]
    assert b"optimizer.betas" in start.metadata.plugin_data.content


def test_a_failure_is_a_warning_and_the_run_goes_on(tmp_path):
    folder, lines = tmp_path / "run", []
    make_run(folder, [])
    sink = sink_in(folder, notify=lines.append)
    sink._writer.close()
    for step in (1, 2):
        sink.log(make_record(step))
    sink.close("finished")
    (line,) = lines
    assert "TensorBoard's files cannot be written" in line


def test_a_run_writes_its_records_and_pictures(tmp_path):
    config = small_config(tmp_path, tracking=TrackingConfig(mode="disabled", tensorboard=True))
    folder = lockstep.train(config).folder
    found = scalars(folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    for record in map(json.loads, lines):
        assert found["loss", record["step"]] == [pytest.approx(record["loss"], rel=1e-6)]
    tags = {tag for tag, _ in events(folder)}
    assert {"confusion", "mistakes", "test_accuracy"} <= tags


def test_without_the_package_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    config = small_config(tmp_path, tracking=TrackingConfig(mode="disabled", tensorboard=True))
    with pytest.raises(ConfigError, match=r"pip install lockstep-trainer\[tensorboard\]"):
        lockstep.train(config)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_records_are_written_although_a_picture_cannot_be_drawn(tmp_path):
    folder = tmp_path / "run"
    make_run(folder, [])

    def pictures():
        raise ValueError("no picture")

    sink = sink_in(folder, pictures=pictures)
    sink.log(make_record(1))
    with pytest.raises(ValueError, match="no picture"):
        sink.close("finished")
    assert ("loss", 1) in scalars(folder)
    assert any(tag == "_hparams_/session_end_info" for tag, _ in events(folder))
