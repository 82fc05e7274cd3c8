"""`lockstep.train` leaves its process as it found it; what needs several is in tests/multiprocess."""

import os
import signal
import sys
import threading

import pytest
import torch
from accelerate import Accelerator

import lockstep
from lockstep.launch import STOP_SIGNALS
from lockstep.launch.process import stop_signals
from lockstep.launch.process.process_state import SHARED_STATES, restored_process_state
from runs import reset_accelerator, small_config


@pytest.fixture(autouse=True)
def _own_accelerator():
    reset_accelerator()
    yield
    reset_accelerator()


def config_in(folder, **changes):
    quiet = lockstep.TrackingConfig(mode="disabled")
    steps = lockstep.TrainConfig(steps=4, report=False)
    return small_config(folder, train=steps, tracking=quiet, **changes)


class Stopped(lockstep.Observer):
    """Ends the run in its third step, by what a test wants."""

    def __init__(self, action):
        self.action = action

    def on_update(self, run):
        if run.step == 2:
            self.action(run)


def request_stop(run):
    signal.raise_signal(signal.SIGTERM)


def spoil(run):
    run.trained[0].data.fill_(torch.nan)


def fail(run):
    raise OSError("disk full")


def own_handler(number, frame):
    raise AssertionError("not called")


@pytest.fixture
def _unusual_process(monkeypatch):
    """A process whose state is not what training would choose."""
    handlers = {number: signal.signal(number, own_handler) for number in STOP_SIGNALS}
    num_threads = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "RANK"):
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(num_threads + 1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(num_threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def process_state():
    return {
        "handlers": [signal.getsignal(number) for number in STOP_SIGNALS],
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "filled": torch.utils.deterministic.fill_uninitialized_memory,
        "environment": dict(os.environ),
        "generator": torch.default_generator.get_state().tolist(),
        "lomo": "lomo_optim" in sys.modules,
        "group": torch.distributed.is_initialized(),
        "accelerate": [dict(state._shared_state) for state in SHARED_STATES],
    }


@pytest.mark.usefixtures("_unusual_process")
@pytest.mark.parametrize(
    ("action", "error"),
    [
        (lambda run: None, None),
        (request_stop, lockstep.Interrupted),
        (spoil, lockstep.RunStopped),
        (fail, OSError),
    ],
)
def test_however_a_run_ends_the_process_is_as_before(tmp_path, action, error):
    before = process_state()
    if error is None:
        lockstep.train(config_in(tmp_path), observers=[Stopped(action)])
    else:
        with pytest.raises(error):
            lockstep.train(config_in(tmp_path), observers=[Stopped(action)])
    assert process_state() == before


@pytest.mark.usefixtures("_unusual_process")
def test_a_refused_run_leaves_the_process_as_it_was(tmp_path):
    before = process_state()
    with pytest.raises(lockstep.ConfigError, match=r"micro_size = 48"):
        lockstep.train(config_in(tmp_path, batch=lockstep.BatchConfig(global_size=64, micro_size=48)))
    (tmp_path / "file").touch()
    with pytest.raises(lockstep.ConfigError, match=r"run.dir = .*: cannot be written"):
        lockstep.train(config_in(tmp_path / "file"))
    assert process_state() == before


def test_all_that_a_run_changes_is_put_back(monkeypatch):
    """What a run on a GPU or under srun sets, which no test of this file gets to."""
    for name in ("RANK", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_PORT", "1")
    before = process_state()
    with restored_process_state():
        os.environ.update({"RANK": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "MASTER_PORT": "2"})
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    assert process_state() == before


def test_runs_of_several_precisions_in_one_process(tmp_path):
    digests = [
        lockstep.train(config_in(tmp_path / name, precision=precision)).summary["weights_sha256"]
        for name, precision in (("a", "no"), ("b", "bf16"), ("c", "no"))
    ]
    assert digests[0] == digests[2] != digests[1]


def test_the_programs_own_accelerators_work_before_and_after(tmp_path):
    def loss_of(accelerator):
        model = accelerator.prepare(torch.nn.Linear(3, 1))
        with accelerator.accumulate(model):
            output = model(torch.ones(2, 3))
            accelerator.backward(output.sum())
        assert accelerator.state.mixed_precision == "bf16"

    before = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=2)
    loss_of(before)
    lockstep.train(config_in(tmp_path / "a", precision="no"))
    loss_of(before)
    assert before.gradient_accumulation_steps == 2
    assert Accelerator().mixed_precision == "bf16"  # Accelerate's own rule: one precision in a program
    with pytest.raises(ValueError, match="mixed_precision"):
        Accelerator(mixed_precision="no")
    lockstep.train(config_in(tmp_path / "b", precision="no"))


def test_an_accelerator_may_be_the_first_after_a_run_of_another_precision(tmp_path):
    lockstep.train(config_in(tmp_path, precision="no"))
    assert Accelerator(cpu=True, mixed_precision="bf16").mixed_precision == "bf16"


def test_a_thread_installs_no_handlers_and_finds_the_stop_file(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCKSTEP_STOP_FILE", str(tmp_path / "stop"))
    monkeypatch.setattr(stop_signals, "LOOK_EVERY_SECONDS", 0.0)
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    during, outcomes = [], []

    def look(run):
        during.extend(signal.getsignal(number) for number in STOP_SIGNALS)
        (tmp_path / "stop").touch()

    def target():
        for _ in range(2):
            try:
                outcomes.append(
                    lockstep.train(config_in(tmp_path), observers=[Stopped(look)]).summary["steps"]
                )
            except lockstep.Interrupted as stop:
                outcomes.append(stop.step)
                (tmp_path / "stop").unlink()

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert outcomes == [3, 4]
    assert during == before
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
