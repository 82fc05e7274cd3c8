"""What only several GPUs show: over NCCL, any number of them gives the bits of one."""

import pytest
import torch

from processes import any_model_fingerprints, exact_fingerprints

pytestmark = pytest.mark.gpu


def on(num_gpus):
    """A number of GPUs as a parameter; skipped where there are fewer."""
    reason = f"needs {num_gpus} CUDA devices"
    return pytest.param(
        num_gpus, marks=pytest.mark.skipif(torch.cuda.device_count() < num_gpus, reason=reason)
    )


RUNS = ("cnn fp32 clipped", "cnn bf16", "cnn-gru fp32 groups")


@pytest.fixture(scope="module")
def on_one_gpu():
    return exact_fingerprints(1, *RUNS)


@pytest.mark.parametrize("num_gpus", [on(2), on(4), on(8)])
def test_several_gpus_give_the_bits_of_one(num_gpus, on_one_gpu):
    assert exact_fingerprints(num_gpus, *RUNS) == on_one_gpu


@pytest.mark.parametrize("num_gpus", [on(2), on(8)])
def test_a_sharded_optimizer_on_several_gpus_gives_the_bits_of_one(num_gpus, on_one_gpu):
    assert exact_fingerprints(num_gpus, "sharded", *RUNS) == on_one_gpu


@pytest.mark.parametrize("num_gpus", [on(2)])
def test_any_model_has_the_bits_of_one_gpu_on_several(num_gpus):
    assert any_model_fingerprints(num_gpus, "exact") == any_model_fingerprints(1, "exact")
