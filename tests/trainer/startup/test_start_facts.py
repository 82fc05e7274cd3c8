from pathlib import Path

import lockstep
from lockstep.config import Config, ModelConfig, ScheduleConfig
from lockstep.trainer.startup.start_facts import main_source


def test_the_commit_of_a_run_is_that_of_the_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net_of_mine", "rate_of_mine"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('was imported')")
    schedule = ScheduleConfig(name="rate_of_mine:rate")
    assert main_source(Config()) == Path(lockstep.__file__)
    assert main_source(Config(schedule=schedule)) == tmp_path / "rate_of_mine.py"
    config = Config(schedule=schedule, model=ModelConfig(name="net_of_mine:Net"))
    assert main_source(config) == tmp_path / "net_of_mine.py"
