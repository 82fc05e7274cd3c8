import json

import pytest

from lockstep.config import TrainConfig
from lockstep.engine import train
from lockstep.errors import ConfigError
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from runs import small_config, small_run


@pytest.fixture(autouse=True)
def _no_checkpoints(monkeypatch):
    monkeypatch.setattr("lockstep.engine.loop.save_checkpoint_of", lambda run: None)


def trained(folder, profile):
    run, _ = small_run(small_config(folder, train=TrainConfig(epochs=1, log_every=5, profile=profile)))
    train(run)
    run.closing.close()
    return run


def tables(folder):
    text = (folder / "run" / "profile" / "rank-0.txt").read_text()
    title, times, operations = text.split("\n\n")
    return title, times.splitlines()[1:], operations.splitlines()[1:]


def test_a_profile_shows_where_the_time_goes_and_changes_no_bit(tmp_path, capfd):
    profiled, plain = trained(tmp_path, "3-4"), trained(tmp_path / "plain", "")
    assert weights_sha256(profiled.model.state_dict()) == weights_sha256(plain.model.state_dict())
    assert not (tmp_path / "plain" / "run").exists()
    out, err = capfd.readouterr()
    assert "profile of steps 3 to 4" in out
    assert "Count failed" not in err  # of the profiler's own library, which looks for a GPU
    title, times, operations = tables(tmp_path)
    assert title == "steps 3 to 4 on rank 0, profiled"
    milliseconds = {line.rsplit(maxsplit=1)[0]: float(line.split()[-1]) for line in times}
    assert list(milliseconds) == ["step", "data", "communication", "host, operations"]
    assert 0 < milliseconds["data"] + milliseconds["communication"] < milliseconds["step"]
    assert len(operations) == 20
    costs = [float(line.split()[-1]) for line in operations]
    assert costs == sorted(costs, reverse=True)
    calls = {line.split()[0]: float(line.split()[-2]) for line in operations}
    assert calls["aten::addmm"] % 4 == 0  # micro-batches
    events = json.loads((tmp_path / "run" / "profile" / "rank-0.json").read_text())["traceEvents"]
    assert sum(event.get("name") == "lockstep: data" for event in events) == 2


def test_a_run_that_ends_meanwhile_has_the_profile_of_the_steps_it_took(tmp_path):
    trained(tmp_path, "9-50")
    assert tables(tmp_path)[0] == "steps 9 to 10 on rank 0, profiled"


@pytest.mark.parametrize("value", ["3", "4-3", "0-2", "1-101", "a-b", "-3"])
def test_steps_to_profile_that_make_no_sense_are_refused(value):
    with pytest.raises(ConfigError, match=f"train.profile = '{value}': must be FIRST-LAST"):
        TrainConfig(profile=value)
