import pytest

from lockstep.config import (
    AugmentConfig,
    BatchConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from lockstep.errors import ConfigError


@pytest.mark.parametrize(
    ("section", "values", "field"),
    [
        (BatchConfig, {"global_size": 0}, "batch.global_size = 0"),
        (BatchConfig, {"global_size": 100}, "batch.global_size = 100"),
        (ModelConfig, {"dropout": 1.0}, "model.dropout = 1.0"),
        (ModelConfig, {"name": "lockstep.task.models.mlp:Mlp", "dropout": 0.5}, "model.dropout = 0.5"),
        (AugmentConfig, {"shift_pixels": -1}, "augment.shift_pixels = -1"),
        (OptimizerConfig, {"lr": -1.0}, "optimizer.lr = -1.0"),
        (OptimizerConfig, {"lr": float("nan")}, "optimizer.lr = nan"),
        (OptimizerConfig, {"max_grad_norm": 0.0}, "optimizer.max_grad_norm = 0.0"),
        (OptimizerConfig, {"groups": {"cnn": 0.0}}, "optimizer.groups[cnn] = 0.0"),
        (OptimizerConfig, {"groups": {"cnn": 0.1}, "lr": 0.1}, "optimizer.lr = 0.1"),
        (OptimizerConfig, {"name": "sgd", "betas": (0.8, 0.9)}, "optimizer.betas = (0.8, 0.9)"),
        (OptimizerConfig, {"momentum": 0.0}, "optimizer.momentum = 0.0"),
        (OptimizerConfig, {"name": "rmsprop", "momentum": 0.5}, "optimizer.momentum = 0.5"),
        (
            OptimizerConfig,
            {"name": "package:Own", "betas": (0.8, 0.9)},
            "optimizer.betas = (0.8, 0.9)",
        ),
        (OptimizerConfig, {"name": "lbfgs"}, "optimizer.name = 'lbfgs': its step needs a closure"),
        (OptimizerConfig, {"name": "sparseadam"}, "optimizer.name = 'sparseadam': is for sparse gradients"),
        (OptimizerConfig, {"args": {"lr": 0.1}}, "optimizer.args.lr = 0.1"),
        (OptimizerConfig, {"args": {"betas": [0.8, 0.9]}}, "optimizer.args.betas = [0.8, 0.9]"),
        (
            OptimizerConfig,
            {"name": "muon", "args": {"weight_decay": 0.1}},
            "optimizer.args.weight_decay = 0.1",
        ),
        (ScheduleConfig, {"name": "constant", "warmup": 0.1}, "schedule.warmup = 0.1"),
        (ScheduleConfig, {"name": "package:function", "warmup": 0.1}, "schedule.warmup = 0.1"),
        (LossConfig, {"class_weights": (1.0, -1.0)}, "loss.class_weights = (1.0, -1.0)"),
        (LossConfig, {"class_weights": (0.0, 0.0)}, "loss.class_weights = (0.0, 0.0)"),
        (LossConfig, {"class_weights": (1.0,), "name": "mse"}, "loss.class_weights = (1.0,)"),
        (LossConfig, {"label_smoothing": 0.1, "name": "torch.nn:L1Loss"}, "loss.label_smoothing = 0.1"),
        (LossConfig, {"args": {"delta": 0.5}}, "loss.args = {'delta': 0.5}"),
    ],
)
def test_a_bad_value_names_field_value_and_rule(section, values, field):
    with pytest.raises(ConfigError) as refusal:
        section(**values)
    assert str(refusal.value).startswith(field)
    assert "\n" not in str(refusal.value)


def test_settings_of_the_choice_made_are_accepted():
    assert OptimizerConfig(name="sgd", momentum=0.0).momentum == 0.0
    assert OptimizerConfig(name="adamw", betas=(0.8, 0.9)).betas == (0.8, 0.9)
    assert OptimizerConfig(name="rmsprop", args={"momentum": 0.9}).args == {"momentum": 0.9}
    assert ScheduleConfig(name="cosine", warmup=0.1).warmup == 0.1
    assert ModelConfig(name="mlp", dropout=0.5).dropout == 0.5
    assert ModelConfig(name="my_package.my_module:Net").name == "my_package.my_module:Net"
