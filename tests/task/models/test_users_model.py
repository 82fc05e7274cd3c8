import random

import numpy as np
import pytest
import torch

from lockstep.config import ModelConfig
from lockstep.data import generator_states
from lockstep.errors import ConfigError
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.task import ImageShape, build_model


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (":Net", "cannot be imported"),
        ("no_such_module:Net", "cannot be imported"),
        ("lockstep.task.models.build:Nothing", "cannot be imported"),
        ("lockstep.task.models.build:MODELS", "is neither a subclass of torch.nn.Module nor a function"),
        ("lockstep.config:Config", "is neither a subclass of torch.nn.Module nor a function"),
        ("user_models:make_nothing", "returns a NoneType; it must return a torch.nn.Module"),
        ("user_models:EXISTING", "is neither a subclass of torch.nn.Module nor a function"),
        (
            "user_models:Sized",
            r"cannot take images of shape \(2, 1, 28, 28\) \(RuntimeError: ",
        ),
        ("user_models:UnusedLazy", "'unused.weight' is lazy, and the forward does not use it"),
        ("user_models:Features", r"returns \(2, 784\) for 2 images; it must return logits \(2, 10\)"),
        ("user_models:Pair", "returns tuple for 2 images"),
    ],
)
def test_a_wrong_model_is_refused(name, rule):
    with pytest.raises(ConfigError, match=rf"^model\.name = '{name}': .*{rule}"):
        build_model(ModelConfig(name=name), seed=0)


def test_arguments_go_to_the_constructor():
    model = build_model(ModelConfig(name="user_models:Sized", args={"size": 28}), seed=0)
    assert model.linear1.in_features == 784


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        (
            "user_models:NeedsASize",
            {},
            "{}: NeedsASize needs an argument 'size'; state model.args.size",
        ),
        (
            "user_models:Sized",
            {"sizes": 28},
            "model.args.sizes = 28: is not an argument of Sized; it takes size;",
        ),
        ("user_models:make_mlp", {"size": 1}, "is not an argument of make_mlp; it takes scale"),
        (
            "mlp",
            {"width": 64},
            "is not an argument of Mlp; it takes none that can be stated here",
        ),
        ("mlp", {"dropout": 0.1}, "model.args.dropout = 0.1: is passed by Lockstep itself; leave it out"),
    ],
)
def test_arguments_that_it_does_not_take_are_refused(name, args, message):
    with pytest.raises(ConfigError) as refusal:
        build_model(ModelConfig(name=name, args=args), seed=0)
    assert message in str(refusal.value)


def test_every_generator_is_seeded_and_put_back():
    random.seed(1)
    np.random.seed(1)
    before = generator_states(torch.device("cpu"))
    config = ModelConfig(name="user_models:make_mlp", args={"scale": 0.5})
    one, same, other = (weights_sha256(build_model(config, seed).state_dict()) for seed in (1, 1, 2))
    assert generator_states(torch.device("cpu")) == before
    assert one == same != other


def test_lazy_modules_get_their_parameters_under_the_seed():
    config = ModelConfig(name="user_models:Lazy", args={"width": 5})
    shape = ImageShape(channels=3, size=4)
    one, same, other = (build_model(config, seed, shape) for seed in (1, 1, 2))
    assert one.layers[1].weight.shape == (5, 48)
    assert weights_sha256(one.state_dict()) == weights_sha256(same.state_dict())
    assert weights_sha256(one.state_dict()) != weights_sha256(other.state_dict())
    assert (int(one.layers[2].num_batches_tracked), one.layers[2].running_var.tolist()) == (0, [1.0] * 5)
    assert one.layers[2].training


def test_a_module_that_its_model_put_into_evaluation_stays_there():
    model = build_model(ModelConfig(name="user_models:FrozenNorm"), seed=0)
    assert (model.training, model.norm.training) == (True, False)
