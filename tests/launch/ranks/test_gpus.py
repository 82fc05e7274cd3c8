"""What ranks compare of their GPUs. Two ranks that differ stand in: no machine here has two kinds of GPU."""

from types import SimpleNamespace

import pytest
import torch

from lockstep.errors import ConfigError, RankError
from lockstep.launch.ranks import gpus

FACTS = {"name": "H200", "capability": "9.0", "multiprocessors": 132, "precision": {"matmul": "ieee"}}


def two_ranks(monkeypatch, **other):
    monkeypatch.setattr(gpus, "gpu_facts", lambda device: FACTS)
    return SimpleNamespace(
        device=torch.device("cuda"), gather_objects=lambda facts: [facts, {**facts, **other}]
    )


def test_equal_gpus_may_train(monkeypatch):
    assert gpus.differing_gpus(two_ranks(monkeypatch), is_exact=True) == []


@pytest.mark.parametrize(
    ("name", "value", "how"),
    [
        ("name", "H100", r"\('H200' on rank 0, 'H100' on rank 1\)"),
        ("multiprocessors", 114, r"\(132 on rank 0, 114 on rank 1\)"),
        ("precision", {"matmul": "tf32"}, "'tf32'}"),
    ],
)
def test_unequal_gpus_are_refused_by_what_differs_or_with_fast_reduction_warned_of(
    monkeypatch, name, value, how
):
    ranks = two_ranks(monkeypatch, **{name: value})
    with pytest.raises(ConfigError, match=f"the ranks' GPUs differ in {name} .*{how}.*: exact reduction"):
        gpus.differing_gpus(ranks, is_exact=True)
    (warning,) = gpus.differing_gpus(ranks, is_exact=False)
    assert f"differ in {name}" in warning


def test_two_ranks_on_one_gpu_are_refused_unless_nccl_is_told_to_let_them():
    gpus.check_no_shared_gpu(["a", "b"], "H200", {})
    with pytest.raises(ConfigError, match=r"ranks 0 and 2 share one H200, .* start 2 processes for 2 GPUs"):
        gpus.check_no_shared_gpu(["a", "b", "a"], "H200", {})
    gpus.check_no_shared_gpu(["a", "a"], "H200", {"NCCL_MULTI_RANK_GPU_ENABLE": "1"})


def test_ranks_that_do_not_see_each_others_gpus_are_told():
    """As under srun --gpus-per-task. One GPU that ranks share, or one on each node, hides nothing."""
    (warning,) = gpus.hidden_gpus_of([("n1", "a", 2), ("n1", "b", 2), ("n2", "c", 1), ("n2", "d", 1)])
    assert warning.startswith("rank 2 sees 1 of the 2 GPUs that ranks on n2 use")
    assert "srun --gpus-per-node, without --gpu-bind" in warning
    for alone in ([("n1", "a", 1), ("n2", "a", 1)], [("n1", "a", 1), ("n1", "a", 1)], [("n1", "a", 8)]):
        assert gpus.hidden_gpus_of(alone) == []


def test_a_gpu_that_another_process_has_to_itself_is_one_line_with_its_compute_mode(tmp_path, monkeypatch):
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho Exclusive_Process\necho Default\n")
    script.chmod(0o755)
    for folder, modes in ((tmp_path, "Default, Exclusive_Process"), (tmp_path / "none", "unknown")):
        monkeypatch.setenv("PATH", f"{folder}:/bin")
        with (
            pytest.raises(RankError, match=rf"\(compute mode {modes}\): .* nvidia-smi shows"),
            gpus.refused_busy_gpu(),
        ):
            raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable")
    with pytest.raises(RuntimeError, match="out of memory"), gpus.refused_busy_gpu():
        raise RuntimeError("CUDA out of memory")


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_a_device_of_another_kind_is_named_and_the_cpu_computes(kind):
    warning = f"{kind} is not used, and the CPU computes: Lockstep supports CUDA devices and the CPU"
    assert gpus.unused_device(torch.device(kind)) == [warning]


def test_a_cuda_device_or_none_at_all_needs_no_word():
    assert gpus.unused_device(torch.device("cuda")) == gpus.unused_device(None) == []
