"""What each start records, and what it says of the one before."""

from lockstep.runs import (
    changed_sources,
    environment_at,
    environment_changes,
    read_settings,
    read_starts,
    record_start,
    recorded_threads,
)
from runs import small_config

ENVIRONMENT = {"world_size": 2, "num_threads": 1, "device": "cpu", "git": {"commit": "a"}}


def test_a_start_on_other_threads_is_reported(tmp_path):
    config = small_config()
    assert record_start(config, tmp_path, 0, ENVIRONMENT) == []
    harmless = ENVIRONMENT | {"world_size": 4, "git": {"commit": "b"}}
    assert record_start(config, tmp_path, 5, harmless) == []
    assert record_start(config, tmp_path, 9, harmless | {"num_threads": 3}) == ["num_threads 1 → 3"]
    assert [start["step"] for start in read_starts(tmp_path)] == [0, 5, 9]
    assert read_settings(tmp_path)["seed"] == config.seed


def test_the_environment_of_a_step_is_that_of_the_newest_start_before_it(tmp_path):
    assert environment_at(tmp_path, 1) == {}
    for step, device in ((0, "first"), (5, "second")):
        record_start(small_config(), tmp_path, step, ENVIRONMENT | {"device": device})
    assert [environment_at(tmp_path, step).get("device") for step in (1, 5, 6)] == [
        "first",
        "first",
        "second",
    ]


def test_another_version_is_told_by_its_name(tmp_path):
    before = ENVIRONMENT | {"versions": {"torch": "2.11.0", "python": "3.11"}}
    record_start(small_config(), tmp_path, 0, before)
    now = ENVIRONMENT | {"versions": {"torch": "2.12.0", "python": "3.11", "lockstep": "1.0"}}
    assert record_start(small_config(), tmp_path, 5, now) == ["torch 2.11.0 → 2.12.0"]


def test_another_kind_of_cpu_is_told_on_a_cpu_alone(tmp_path):
    epyc = {"model": "EPYC", "capability": "AVX2", "limits": {}}
    before = ENVIRONMENT | {"cpu": epyc}
    record_start(small_config(), tmp_path, 0, before)
    now = before | {"cpu": epyc | {"capability": "AVX512", "limits": {"ONEDNN_MAX_CPU_ISA": "SSE41"}}}
    assert record_start(small_config(), tmp_path, 5, now) == [
        "CPU capability AVX2 → AVX512",
        "CPU limits {} → {'ONEDNN_MAX_CPU_ISA': 'SSE41'}",
    ]
    gpu = {"device": "H100"}
    assert environment_changes(before | gpu, now | gpu) == []
    with_gpu = gpu | {"gpu": {"multiprocessors": 132}, "num_threads": 64}
    other = with_gpu | {"gpu": {"multiprocessors": 114}, "num_threads": 1}  # threads decide no bits there
    assert environment_changes(with_gpu, other) == ["GPU multiprocessors 132 → 114"]
    assert environment_changes({"device": "cpu"}, now) == []  # an older version recorded less
    assert recorded_threads(tmp_path) == 1
    assert recorded_threads(tmp_path / "new") == 0


def test_source_has_changed_if_it_is_neither_that_of_the_step_nor_of_the_newest_start(tmp_path):
    assert changed_sources(tmp_path, 9, {"mine": "new"}) == []
    record_start(small_config(), tmp_path, 0, ENVIRONMENT | {"sources": {"mine": "old", "other": "a"}})
    assert changed_sources(tmp_path, 0, {"mine": "new"}) == []  # there is no step to keep
    assert changed_sources(tmp_path, 9, {"mine": "new", "other": "a", "more": "b"}) == ["mine"]
    record_start(small_config(), tmp_path, 9, ENVIRONMENT | {"sources": {"mine": "new"}}, ["mine"])
    assert read_starts(tmp_path)[1]["accepted_sources"] == ["mine"]
    for source, changed in (("new", []), ("old", []), ("third", ["mine"])):
        assert changed_sources(tmp_path, 9, {"mine": source}) == changed
    assert changed_sources(tmp_path, 10, {"mine": "old"}) == ["mine"]
