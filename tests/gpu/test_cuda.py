"""What only a GPU can show. Skipped, with the reason, without one."""

import json
import warnings
from dataclasses import replace

import pytest
import torch

import reading_tasks
from image_files import synthetic_files
from lockstep.config import BatchConfig, Config, DataConfig, ModelConfig, TrainConfig
from lockstep.engine import take_step
from lockstep.engine.checkpoint_content import snapshot
from lockstep.engine.records import evaluate_run
from lockstep.launch.ranks.gpus import gpu_facts
from lockstep.runs.checkpoints.checkpoint import load_checkpoint, save_checkpoint, weights_sha256
from lockstep.task import build_model
from processes import any_model_fingerprints, exact_fingerprints
from runs import built_run, fresh_ranks, record_gradients, small_config, small_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    # Since Python 3.12, about the prefetch workers: they are forked after CUDA has started threads.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _restore_determinism():
    """Exact reduction sets this for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


def run_after(precision, model, steps=5, reduction="exact"):
    config = small_config(
        precision=precision,
        model=ModelConfig(name=model),
        reduction=reduction,
        train=TrainConfig(steps=steps),
    )
    run, _ = small_run(config, fresh_ranks(precision))
    assert run.ranks.device.type == "cuda"
    for _ in range(steps):
        take_step(run)
    return run


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
@pytest.mark.parametrize("model", ["cnn", "rnn", "cnn-gru"])
def test_training_twice_gives_the_same_bits(precision, model):
    one, other = (run_after(precision, model) for _ in range(2))
    assert weights_sha256(one.model.state_dict()) == weights_sha256(other.model.state_dict())


@pytest.mark.parametrize("engine", ["eager", "captured"])
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_no_step_waits_for_its_device(precision, engine):
    """torch raises at what would wait. The first steps may: they make graphs and find a loss scale."""
    data = DataConfig(name="synthetic", num_train=16 * 64)
    config = small_config(precision=precision, engine=engine, model=ModelConfig(name="cnn"), data=data)
    run, _ = small_run(config, fresh_ranks(precision))
    with run.closing, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        for _ in range(6):
            take_step(run)
        torch.cuda.set_sync_debug_mode("error")
        try:
            while run.step < run.plan.steps_per_epoch:
                take_step(run, is_logged=run.step % 4 == 0)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_fp16_skips_an_overflowed_step_and_continues():
    config = small_config(precision="fp16", engine="eager")  # a graph does not call the hook
    run, _ = small_run(config, fresh_ranks("fp16"))
    overflow = run.model.linear3.bias.register_hook(lambda gradient: gradient * torch.inf)
    before = weights_sha256(run.model.state_dict())
    take_step(run)
    overflow.remove()
    assert run.skipped_steps == 1
    assert weights_sha256(run.model.state_dict()) == before
    take_step(run)
    assert run.skipped_steps == 1
    assert weights_sha256(run.model.state_dict()) != before


def test_an_fp16_run_resumes_with_its_loss_scale(tmp_path):
    """Saved after an overflow, which halved the scale and put the schedule one step behind."""
    config = small_config(precision="fp16", engine="eager")  # a graph does not call the hook
    run, _ = small_run(config, fresh_ranks("fp16"))
    overflow = run.model.linear3.bias.register_hook(lambda gradient: gradient * torch.inf)
    take_step(run)
    overflow.remove()
    path = save_checkpoint(tmp_path, snapshot(run))
    for _ in range(4):
        take_step(run)
    resumed = built_run(config, fresh_ranks("fp16"), load_checkpoint(path))
    for _ in range(4):
        take_step(resumed)
    scales = [each.ranks.accelerator.scaler.get_scale() for each in (run, resumed)]
    assert scales[0] == scales[1] <= 2.0**15  # it starts at 2**16
    assert run.skipped_steps == resumed.skipped_steps >= 1
    assert weights_sha256(run.model.state_dict()) == weights_sha256(resumed.model.state_dict())


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.1), ("fp16", 0.02)])
def test_the_gradient_in_half_precision_is_close_to_that_in_float32(precision, tolerance):
    gradients = []
    for each in ("no", precision):
        run, _ = small_run(small_config(precision=each), fresh_ranks(each))
        steps = record_gradients(run)
        take_step(run)
        gradients.append(torch.cat([gradient.flatten() for gradient in steps[0].values()]))
    error = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    assert 0 < error < tolerance


@pytest.fixture(scope="module")
def of_one_process():
    return exact_fingerprints(1)


def test_two_processes_on_one_gpu_give_the_same_bits_as_one(of_one_process):
    assert exact_fingerprints(2, "gloo") == of_one_process


def test_a_sharded_optimizer_gives_the_same_bits(of_one_process):
    assert exact_fingerprints(2, "gloo", "sharded") == of_one_process


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.nccl.version() < (2, 30),
    reason="NCCL lets ranks share a GPU since 2.30",
)
def test_nccl_on_one_gpu_gives_the_same_bits_as_one_process(monkeypatch, of_one_process):
    monkeypatch.setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1")
    assert exact_fingerprints(2) == of_one_process


def test_any_model_has_the_same_bits_on_two_processes():
    assert any_model_fingerprints(2, "exact", "gloo") == any_model_fingerprints(1, "exact")


def test_exact_and_fast_agree_up_to_rounding():
    gradients = []
    for reduction in ("exact", "fast"):
        run, _ = small_run(small_config(reduction=reduction), fresh_ranks())
        gradients.append(record_gradients(run))
        take_step(run)
    for name, exact in gradients[0][0].items():
        assert torch.allclose(exact, gradients[1][0][name], rtol=1e-4, atol=1e-6)


def test_a_streamed_run_gives_the_same_bits_as_a_resident_one(tmp_path):
    """Copies from pinned memory run on their own CUDA stream while earlier steps are still computing."""
    streamed = synthetic_files(tmp_path)
    digests = []
    for data in (streamed, replace(streamed, storage="resident")):
        run, _ = small_run(small_config(data=data, model=ModelConfig(name="cnn")), fresh_ranks())
        with run.closing:
            for _ in range(200):  # twenty epochs, one span each, without waiting for the device
                take_step(run)
        digests.append(weights_sha256(run.model.state_dict()))
    assert digests[0] == digests[1]


def test_a_dataset_gives_the_same_bits_with_and_without_workers():
    digests = []
    for num_workers in (0, 2):
        config = Config(
            precision="no",
            data=DataConfig(num_workers=num_workers),
            batch=BatchConfig(global_size=16, micro_size=4),
        )
        run = built_run(config, fresh_ranks(), task=reading_tasks.mixup())
        with run.closing:
            for _ in range(30):  # without waiting for the device
                take_step(run)
            evaluate_run(run)
        assert run.evaluation is not None
        digests.append((weights_sha256(run.model.state_dict()), run.evaluation.values["loss"]))
    assert digests[0] == digests[1]


def test_building_a_model_leaves_the_device_generator_unchanged():
    before = torch.cuda.get_rng_state()
    build_model(ModelConfig(), seed=5)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_images_can_be_read_by_ids_on_the_cpu():
    run, dataset = small_run(small_config(), fresh_ranks())
    images, labels = run.train_samples.images.read(torch.tensor([3, 5]))
    assert torch.equal(images.cpu(), dataset.train.images[[3, 5]])
    assert torch.equal(labels.cpu(), dataset.train.labels[[3, 5]])


def test_what_decides_the_kernels_of_a_gpu_can_be_recorded():
    facts = gpu_facts(torch.device("cuda", 0))
    assert json.loads(json.dumps(facts)) == facts
    assert all(facts[name] for name in ("name", "capability", "multiprocessors", "driver", "cudnn"))
