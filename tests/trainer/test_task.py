"""A user's task: the forms of a loss, instances, and what is refused by name."""

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import IterableDataset, TensorDataset

import lockstep
import tasks
from lockstep.config import (
    BatchConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TaskConfig,
    TrackingConfig,
    TrainConfig,
)
from lockstep.engine import take_step
from lockstep.errors import ConfigError, RunStopped
from lockstep.runs import read_metrics, read_starts, run_settings
from runs import built_run, record_gradients, small_config

CONFIG = lockstep.Config(
    precision="no",
    batch=BatchConfig(global_size=32, micro_size=8),
    train=TrainConfig(epochs=2, log_every=1, report=False),
    tracking=TrackingConfig(mode="disabled"),
)


def config_in(folder, **changes):
    return replace(CONFIG, run=RunConfig(dir=str(folder)), **changes)


def gradient_and_loss(loss):
    run = built_run(CONFIG, task=tasks.line(loss=loss, model=lambda: nn.Linear(1, 1)))
    gradients = record_gradients(run)
    result = take_step(run, is_logged=True)
    count = 1 if result.total_count is None else result.total_count
    return gradients[0], result.losses.sum() / count


def test_the_three_forms_of_a_loss_give_the_same_step():
    def per_sample(outputs, targets):
        return (outputs - targets).square().mean(1)

    def mean(outputs, targets):
        return per_sample(outputs, targets).mean()

    def counted(outputs, targets):
        return per_sample(outputs, targets).sum(), len(targets)

    expected, loss = gradient_and_loss(per_sample)
    for form in (mean, counted):
        gradient, other = gradient_and_loss(form)
        torch.testing.assert_close(other, loss, rtol=1e-6, atol=0)
        for name, value in expected.items():
            torch.testing.assert_close(gradient[name], value, rtol=1e-6, atol=0)


def test_a_counted_loss_is_torchs_weighted_mean_over_the_global_batch():
    weights = torch.tensor([0.1, 5.0, 1.0])
    inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(inputs, torch.arange(64) % 3)

    def loss(logits, targets):
        return F.cross_entropy(logits, targets, weights, reduction="sum"), weights[targets].sum()

    task = lockstep.Task(name="weighted", model=lambda: nn.Linear(4, 3), train=data, loss=loss)
    config = replace(CONFIG, batch=BatchConfig(global_size=64, micro_size=8))
    run = built_run(config, task=task)
    model = nn.Linear(4, 3)
    model.load_state_dict(run.model.state_dict())
    gradients = record_gradients(run)
    result = take_step(run)
    expected = F.cross_entropy(model(inputs), data.tensors[1], weights)
    expected.backward()
    assert (result.losses.sum() / result.total_count).item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradients[0]["weight"], model.weight.grad, rtol=1e-5, atol=1e-7)


def test_a_step_that_counts_nothing_is_skipped():
    def loss(outputs, targets):
        is_target = targets > 100
        return ((outputs - targets).square() * is_target).sum(), is_target.sum()

    config = replace(CONFIG, optimizer=OptimizerConfig(name="adamw", weight_decay=0.5))
    run = built_run(config, task=tasks.line(loss=loss, test=None, model=lambda: nn.Linear(1, 1)))
    before = run.model.weight.clone()
    result = take_step(run, is_logged=True)
    assert torch.equal(run.model.weight, before)
    assert (run.step, run.skipped_steps, run.num_updates) == (1, 1, 0)
    assert result.total_count == 0


def test_a_model_given_itself_is_kept_as_checkpoint_0_and_compared_on_a_resume(tmp_path):
    task = tasks.line_of_instances()
    initial = task.model.weight.detach().clone()
    config = config_in(tmp_path, train=replace(CONFIG.train, checkpoint_every=1, keep_checkpoints=1))
    result = lockstep.train(task, config)
    assert not torch.equal(task.model.weight, initial)
    names = sorted(path.name for path in (result.folder / "checkpoints").iterdir())
    assert names[0] == "step-00000000"
    assert lockstep.replay(task, result.folder, step=1).divergence == ""
    (result.folder / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"task\.model = .Linear.: run .* began with different weights"):
        lockstep.train(task, config)


def test_other_data_on_a_resume_is_refused(tmp_path):
    result = lockstep.train(tasks.line(), config_in(tmp_path))
    (result.folder / "summary.json").unlink()
    with pytest.raises(
        ConfigError, match=r"task\.train = 'line': run .* began with different data \(num_train"
    ):
        lockstep.train(tasks.line(train=lambda: tasks.line_data(71)), config_in(tmp_path))


def test_without_test_data_there_are_no_evaluations(tmp_path):
    result = lockstep.train(tasks.line(test=None), config_in(tmp_path))
    assert "test_loss" not in result.summary
    assert not (result.folder / "evaluations").exists()
    with pytest.raises(ConfigError, match=r"task\.test = None: is missing"):
        lockstep.evaluate(tasks.line(test=None), result.folder)


def test_a_model_can_be_loaded(tmp_path):
    task = tasks.line()
    result = lockstep.train(task, config_in(tmp_path))
    model = lockstep.load(task, result.folder)
    assert not model.training
    inputs, targets = tasks.line_data(23, 0.01).tensors
    assert F.mse_loss(model(inputs), targets).item() == pytest.approx(result.summary["test_loss"], rel=1e-5)


def test_a_task_by_reference_takes_arguments_and_its_source_is_recorded(tmp_path):
    config = config_in(tmp_path, task=TaskConfig(name="tasks:sentences", args={"count": 64}))
    result = lockstep.train("tasks:sentences", config)
    assert result.summary["samples_seen"] == 128
    text = (result.folder / "config.yaml").read_text()
    assert "name: tasks:sentences" in text
    assert "source: " in text
    assert list(read_starts(result.folder)[0]["sources"]) == ["tasks"]
    assert "mnist" not in text
    assert lockstep.evaluate(None, result.folder)["test_loss"] == result.summary["test_loss"]
    with pytest.raises(
        ConfigError, match=r"task\.args\.cuont = 3: is not an argument of sentences; .* 'count'"
    ):
        lockstep.train(config_in(tmp_path, task=TaskConfig(name="tasks:sentences", args={"cuont": 3})))
    with pytest.raises(ConfigError, match=r"task\.name = 'tasks:no_task': is not a function that returns"):
        lockstep.train("tasks:no_task", config_in(tmp_path))


class Endless(IterableDataset):
    def __iter__(self):
        yield 1, 1


def shorter(outputs, targets):
    return (outputs - targets)[:3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": shorter}, "task.loss = 'a tensor (3, 1) for 8 samples': must be a number per sample (8,)"),
        ({"loss": lambda *_: {"mse": 1}}, "task.loss = 'a dict of mse': must have an entry 'loss'"),
        ({"metrics": {"word": lambda *_: "x"}}, "task.metrics[word] = 'a str for 8 samples': must be a"),
        ({"train": Endless}, "task.train = 'Endless': is an IterableDataset"),
        ({"train": list}, "task.train = 'list': has no samples"),
        ({"train": lambda: [1, 2, 3]}, "task.train[0] = 1: must be a pair"),
        ({"train": lambda: 3}, "task.train = 'int': must be a Dataset"),
        ({"model": lambda: 3}, "task.model = 'int': must be, or make, a torch.nn.Module"),
        (
            {"model": lambda: nn.Linear(3, 1)},
            "task.model = 'line': cannot compute the loss of a micro-batch (inputs (8, 1), targets (8, 1))",
        ),
        (
            {"model": lambda: nn.Linear(1, 1).half()},
            "task.model = 'line': cannot compute the loss of a micro-batch (inputs (8, 1), targets (8, 1)): "
            "RuntimeError: mat1 and mat2 must have the same dtype, but got Float and Half; its weights are "
            "float16; keep them in float32 with .float(), and choose --precision bf16 or fp16",
        ),
        ({"model": nn.Flatten}, "task.model = 'Flatten': has no parameters to train"),
    ],
)
def test_what_does_not_fit_is_one_line(changes, message):
    with pytest.raises(ConfigError) as refusal:
        built_run(CONFIG, task=tasks.line(**changes))
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Synced", "'norm' is a SyncBatchNorm, whose statistics depend on the ranks"),
        ("ExtraState", "'_extra_state' in its state_dict is a dict; a checkpoint"),
        ("Frozen", "has no parameters to train"),
    ],
)
def test_a_model_that_cannot_keep_the_promise_is_refused_before_data_is_read(tmp_path, name, message):
    data = DataConfig(root=str(tmp_path / "nothing"), fetch_timeout_seconds=0.001)
    config = replace(CONFIG, model=ModelConfig(name=f"user_models:{name}"), data=data)
    with pytest.raises(ConfigError, match=message):
        built_run(config)


def test_lazy_parameters_get_their_shapes_from_the_data_under_the_seed():
    def model():
        return nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.Linear(4, 1))

    torch.manual_seed(1)
    one = built_run(CONFIG, task=tasks.line(model=model)).model
    torch.manual_seed(2)
    other = built_run(CONFIG, task=tasks.line(model=model)).model
    assert torch.equal(one[0].weight, other[0].weight)
    assert one[0].weight.shape == (4, 1)
    assert one[1].num_batches_tracked == 0
    with pytest.raises(
        ConfigError, match=r"task\.model = 'Sequential': has lazy parameters; give a function"
    ):
        built_run(CONFIG, task=tasks.line(model=model()))


def test_a_task_has_parameter_groups_and_an_augmentation_of_its_own():
    def groups(model):
        return [{"params": model[0].parameters(), "lr": 0.5, "name": "first"}]

    def augment(inputs, targets):
        return inputs + torch.rand(()), targets

    def step():
        task = tasks.line(model=lambda: nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1)), augment=augment)
        run = built_run(CONFIG, task=replace(task, parameter_groups=groups))
        gradients = record_gradients(run)
        take_step(run)
        return run, gradients[0]["0.weight"]

    run, gradient = step()
    assert [(group["name"], group["base_lr"]) for group in run.optimizer.param_groups] == [("first", 0.5)]
    assert not run.model[1].weight.requires_grad
    torch.rand(9)
    assert torch.equal(step()[1], gradient)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, r"task\.name = 'a/b': must be a name"),
        ({"headline": "accuracy"}, r"task\.headline = 'accuracy': must be one of loss"),
        ({"metrics": {"loss": F.mse_loss}}, r"task\.metrics = 'loss': must be a Python name that no other"),
        ({"loss": 3}, r"task\.loss = 'int': must be a function"),
    ],
)
def test_a_wrong_task_is_refused_when_it_is_made(changes, message):
    with pytest.raises(ConfigError, match=message):
        tasks.line(**changes)


def test_an_evaluation_that_is_not_a_number_stops_the_run(tmp_path):
    ratio = {"ratio": lambda outputs, targets: targets[:, 0] / 0 * 0}
    result = lockstep.train(tasks.line(metrics=ratio), config_in(tmp_path))
    assert result.summary["test_ratio"] is None
    assert read_metrics(result.folder)[0]["ratio"] is None
    task = tasks.line(name="headline", metrics=ratio, headline="ratio")
    with pytest.raises(RunStopped, match=r"the evaluation after step 3: the test ratio is not a finite"):
        lockstep.train(task, config_in(tmp_path))


def test_classes_that_do_not_fit_the_outputs_or_labels_are_refused_before_training():
    def task(num_outputs, labels):
        data = TensorDataset(torch.rand(len(labels), 2), labels)
        return lockstep.Task(
            name="classes",
            model=lambda: nn.Linear(2, num_outputs),
            train=data,
            loss=lambda outputs, targets: outputs.square().mean(1),
            classes=["a", "b", "c"],
        )

    with pytest.raises(ConfigError, match=r"task\.classes = 3: with 3 classes the model must return logits"):
        built_run(CONFIG, task=task(4, torch.zeros(40, dtype=torch.int64)))
    with pytest.raises(ConfigError, match=r"task\.train\[0\] target = 0\.0: must be an integer"):
        built_run(CONFIG, task=task(3, torch.zeros(40)))
    with pytest.raises(ConfigError, match=r"task\.train\[0\] target = 7: must be an integer from 0"):
        built_run(CONFIG, task=task(3, torch.full((40,), 7)))


def test_test_data_that_does_not_fit_is_known_before_training():
    wide = TensorDataset(torch.rand(5, 2), torch.rand(5, 1))
    with pytest.raises(ConfigError, match=r"task\.test = 'line': cannot be scored \(inputs \(2, 2\)"):
        built_run(CONFIG, task=tasks.line(test=wide))


def test_half_precision_sums_are_float32():
    run = built_run(CONFIG, task=tasks.line(loss=lambda outputs, targets: (outputs[:, 0] * 0 + 300).half()))
    result = take_step(run)
    assert result.losses.sum().item() == pytest.approx(300, rel=1e-6)


def test_another_headline_on_a_resume_is_refused(tmp_path):
    folder = lockstep.train(tasks.line(), config_in(tmp_path)).folder
    (folder / "summary.json").unlink()
    other = {"metrics": {"size": lambda outputs, targets: outputs[:, 0]}, "headline": "size"}
    with pytest.raises(ConfigError, match=r"task\.headline = 'size': run .* began with 'loss'"):
        lockstep.train(tasks.line(**other), config_in(tmp_path))


@pytest.fixture
def own_model(tmp_path, monkeypatch):
    """The path of a module with a user's model, which takes its width from another one beside it."""
    (tmp_path / "own_width.py").write_text("WIDTH = 4\n")
    path = tmp_path / "own_model.py"
    path.write_text(
        "from torch import nn\nfrom own_width import WIDTH\n"
        "def make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    for name in ("own_model", "own_width"):
        sys.modules.pop(name, None)


def test_a_run_goes_on_with_changed_source_only_if_told_to(tmp_path, own_model):
    config = small_config(
        tmp_path / "runs",
        model=ModelConfig(name="own_model:make"),
        train=TrainConfig(steps=2, report=False),
        tracking=TrackingConfig(mode="disabled"),
    )
    folder = lockstep.train(config).folder
    assert list(read_starts(folder)[0]["sources"]) == ["own_model", "own_width"]
    assert lockstep.train(config).was_finished
    own_model.write_text(own_model.read_text().replace("ReLU", "Tanh"))
    sys.modules.pop("own_model")
    refusal = r"model\.name = 'own_model:make': run .* up to step 2 with a different source of own_model; "
    with pytest.raises(ConfigError, match=refusal):
        lockstep.train(config)
    assert "own_model" not in sys.modules  # it is known before the changed source runs
    assert lockstep.train(config, accept_source=True).was_finished
    (folder / "summary.json").unlink()
    with pytest.raises(ConfigError, match=refusal):
        lockstep.train(config)
    (own_model.parent / "own_width.py").write_text("WIDTH = 4  # beside it\n")
    with pytest.raises(ConfigError, match="a different source of own_model and own_width"):
        lockstep.train(config)
    lockstep.train(config, accept_source=True)
    assert read_starts(folder)[1]["accepted_sources"] == ["own_model", "own_width"]
    assert lockstep.train(config).was_finished


def test_what_is_imported_by_a_computed_name_is_compared_too(tmp_path, own_model):
    beside = own_model.parent / "own_name.py"
    beside.write_text("WIDTH = 4\n")
    own_model.write_text("__import__('own_' + 'name')\n" + own_model.read_text())
    config = small_config(
        tmp_path / "runs",
        model=ModelConfig(name="own_model:make"),
        train=TrainConfig(steps=1, report=False),
        tracking=TrackingConfig(mode="disabled"),
    )
    folder = lockstep.train(config).folder
    assert list(read_starts(folder)[0]["sources"]) == ["own_model", "own_name", "own_width"]
    beside.write_text("WIDTH = 4  # changed\n")
    for name in ("own_model", "own_name"):
        sys.modules.pop(name)
    with pytest.raises(ConfigError, match="a different source of own_name; "):
        lockstep.train(config)
    with pytest.raises(ConfigError, match="the source of own_name is not what was recorded"):
        run_settings(folder)
    assert "own_name" not in sys.modules  # it is known before the changed source runs
    assert lockstep.train(config, accept_source=True).was_finished


def test_a_model_trained_in_bf16_is_left_without_autocast(tmp_path):
    task = tasks.line_of_instances()
    lockstep.train(task, config_in(tmp_path, precision="bf16"))
    assert "forward" not in vars(task.model)
    x = torch.rand(4, 1)
    assert torch.equal(task.model(x), F.linear(x, task.model.weight, task.model.bias))
