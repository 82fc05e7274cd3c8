from pathlib import Path
from types import SimpleNamespace

import pytest

import lockstep
from lockstep.config import Config, ModelConfig, ScheduleConfig
from lockstep.errors import ConfigError
from lockstep.runs.history.environment import environment
from lockstep.trainer.startup.start_facts import differing_ranks, main_source
from runs import fresh_ranks


def test_the_commit_of_a_run_is_that_of_the_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net_of_mine", "rate_of_mine"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('was imported')")
    schedule = ScheduleConfig(name="rate_of_mine:rate")
    assert main_source(Config()) == Path(lockstep.__file__)
    assert main_source(Config(schedule=schedule)) == tmp_path / "rate_of_mine.py"
    config = Config(schedule=schedule, model=ModelConfig(name="net_of_mine:Net"))
    assert main_source(config) == tmp_path / "net_of_mine.py"


def two_ranks(**other):
    """Two ranks that differ stand in: no machine here has two kinds of CPU."""
    return SimpleNamespace(gather_objects=lambda facts: [facts, {**facts, **other}])


@pytest.mark.parametrize(
    ("name", "value"),
    [("CPU model", "EPYC"), ("CPU capability", "DEFAULT"), ("torch", "1.0"), ("device", "x")],
)
def test_unequal_ranks_are_refused_by_what_differs_or_with_fast_reduction_warned_of(name, value):
    here = environment(fresh_ranks())
    ranks = two_ranks(**{name: value})
    with pytest.raises(
        ConfigError, match=rf"the ranks differ in {name} \(.* on rank 0, '{value}' on rank 1\): ex"
    ):
        differing_ranks(ranks, here, is_exact=True)
    (warning,) = differing_ranks(ranks, here, is_exact=False)
    assert warning.startswith(f"warning: the ranks differ in {name} (")
    assert differing_ranks(two_ranks(), here, is_exact=True) == []
